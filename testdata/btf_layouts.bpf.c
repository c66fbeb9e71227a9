// SPDX-License-Identifier: BSD-2-Clause
/* Types whose layout a header has to spell out: a program that only exists to put them into BTF. */
#include <linux/bpf.h>
#include "bpfctl_test.h"

#define __tag(x) __attribute__((btf_type_tag(#x)))
#define __decl(x) __attribute__((btf_decl_tag(#x)))

typedef unsigned int number;
typedef number number_again;
typedef const volatile number_again *number_pointer;
struct layouts;

typedef int (*operation)(struct layouts *all, const char *name, ...);
typedef operation operations[3];
typedef struct {
	int fd;
	operation call;
} nameless_t;

enum small { SMALL_ONE = 1, SMALL_TWO } __attribute__((packed));
enum negative { MINUS_ONE = -1, PLUS_ONE = 1 };
enum wide { WIDE_BIT = 1ULL << 40, WIDE_LEAST = 3 };
enum wide_signed { WIDE_MINUS = -(1LL << 40) };
enum word_sized { WORD_SIZED = 7 } __attribute__((mode(DI)));

struct packed_bytes {
	char tag;
	int value;
	long total;
} __attribute__((packed));

struct packed_bits {
	unsigned char a : 3;
	unsigned int b : 13;
	unsigned long c : 40;
	char d;
} __attribute__((packed));

struct half_packed {
	short a;
	long b __attribute__((packed));
	char c;
};

struct bits {
	unsigned int a : 3;
	unsigned int : 5;
	unsigned int b : 9;
	int : 0;
	int c : 7;
	char d;
	_Bool e : 1;
	_Bool f : 1;
	unsigned long g : 33;
	unsigned long h : 33;
	enum small i : 2;
	short j : 9;
	short k : 9;
};

struct bits_at_odd_places {
	char first;
	int : 4;
	int a : 4;
	long : 17;
	char b : 3;
	int : 29;
	short c;
};

struct cache_lines {
	int a __attribute__((aligned(64)));
	char b;
	long c __attribute__((aligned(256)));
	char d[3];
};

struct huge_gap {
	char a;
	char b __attribute__((aligned(65536)));
};

union aligned_union {
	char a;
	short b[3];
} __attribute__((aligned(32)));

struct tail {
	union aligned_union u;
	int count;
	struct packed_bytes list[];
};

struct nested {
	union {
		struct {
			int x;
			char y;
		};
		struct {
			long z;
		} inner;
		enum { NESTED_A, NESTED_B } kind;
	};
	int grid[2][3][4];
	char (*row)[8];
	void (*handlers[4])(struct nested *self, int (*compare)(const void *, const void *));
	int (*(*factory)(int))(char);
	const char *const *names;
	float single;
	double twice;
	unsigned __int128 large;
	struct {
	} empty;
	long none[0];
};

struct one {
	struct two *two;
	struct nested by_value;
};
struct two {
	struct one one;
	union aligned_union *unions[2];
	struct never_defined *opaque;
};

struct tagged {
	int __tag(user) *buffer;
	struct two __tag(rcu) __tag(percpu) *shared;
	int marked __decl(counter);
	int unmarked;
} __decl(whole);

struct layouts {
	number_pointer pointer;
	operations table;
	nameless_t nameless;
	enum small small;
	enum negative negative;
	enum wide wide;
	enum wide_signed wide_signed;
	enum word_sized word_sized;
	struct packed_bytes packed_bytes;
	struct packed_bits packed_bits;
	struct half_packed half_packed;
	struct bits bits;
	struct bits_at_odd_places odd;
	struct cache_lines cache_lines;
	struct huge_gap huge_gap;
	struct two two;
	struct tagged tagged;
	struct tail tail;
};

struct layouts layouts;

SEC("socket")
int first_byte(struct __sk_buff *skb)
{
	return layouts.small;
}

LICENSE("GPL");
