// SPDX-License-Identifier: BSD-2-Clause
/*
 * All that the test objects share: section and map macros, the map structs of both generations, the
 * few helpers in use.  It stands in for libbpf's and iproute2's headers, so that building testdata
 * needs clang and the kernel's uapi headers (linux-libc-dev), nothing else.
 */
#ifndef BPFCTL_TEST_H
#define BPFCTL_TEST_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>

#define SEC(name) __attribute__((section(name), used))
#define EXTERN(section_name) __attribute__((section(section_name)))
#define LICENSE(text) char object_license[] SEC("license") = text
#define inline_always static inline __attribute__((always_inline))
#define noinline __attribute__((noinline))
#define hidden __attribute__((visibility("hidden")))
#define weak __attribute__((weak))

/* Members of a BTF-defined map: a number is an array length, a type is a pointer's target. */
#define MAP_NUMBER(name, number) int(*name)[number]
#define MAP_TYPE(name, type) __typeof__(type) *name
#define MAP_VALUES(name, type) __typeof__(type) *name[]

#define PIN_BY_NAME 1 /* `pinning` of a BTF-defined map */

/* `pinning` of a legacy map; other numbers are looked up in /etc/iproute2/bpf_pinning. */
#define PIN_NONE 0
#define PIN_OBJECT_NS 1
#define PIN_GLOBAL_NS 2

/* Nine words: section `maps` as iproute2 4.13 and later define it. */
struct elf_map {
	__u32 type;
	__u32 size_key;
	__u32 size_value;
	__u32 max_elem;
	__u32 flags;
	__u32 id;
	__u32 pinning;
	__u32 inner_id;
	__u32 inner_idx;
};

/* Five words: section `maps` as libbpf before 1.0 defined it. */
struct map_def {
	__u32 type;
	__u32 key_size;
	__u32 value_size;
	__u32 max_entries;
	__u32 map_flags;
};

/* Seven words: section `maps` as the kernel's samples defined it. */
struct samples_map_def {
	__u32 type;
	__u32 key_size;
	__u32 value_size;
	__u32 max_entries;
	__u32 map_flags;
	__u32 inner_map_idx;
	__u32 numa_node;
};

/* A helper is called through a constant pointer that is its number: clang emits `call NUMBER`. */
#define HELPER(result, name, ...) \
	static result (*const bpf_##name)(__VA_ARGS__) = (void *)BPF_FUNC_##name

HELPER(void *, map_lookup_elem, const void *map, const void *key);
HELPER(long, map_update_elem, const void *map, const void *key, const void *value, __u64 flags);
HELPER(long, tail_call, void *ctx, const void *prog_array, __u32 index);
HELPER(__u64, ktime_get_ns, void);
HELPER(long, loop, __u32 rounds, void *callback, void *context, __u64 flags);
HELPER(long, trace_printk, const char *format, __u32 format_size, ...);

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define to_be16(value) ((__be16)__builtin_bswap16(value))
#else
#define to_be16(value) ((__be16)(value))
#endif

/* The packet's bounds: the verifier knows the type of these two words of the context by offset. */
#define packet_start(ctx) ((void *)(long)(ctx)->data)
#define packet_end(ctx) ((void *)(long)(ctx)->data_end)

/* Ethernet and IPv4 headers of a packet, or NULL when it is cut short or carries another protocol. */
inline_always struct iphdr *ipv4_header(void *start, void *end)
{
	struct ethhdr *ethernet = start;
	struct iphdr *ip = (void *)(ethernet + 1);

	if ((void *)(ip + 1) > end || ethernet->h_proto != to_be16(ETH_P_IP))
		return 0;
	return ip;
}

/* Adds one to slot `key` of an array of __u64. */
inline_always void count(const void *map, __u32 key)
{
	__u64 *value = bpf_map_lookup_elem(map, &key);

	if (value)
		__sync_fetch_and_add(value, 1);
}

#endif
