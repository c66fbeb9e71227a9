// SPDX-License-Identifier: BSD-2-Clause
/* One CO-RE relocation of each kind, on types that every kernel has, and on some that none has. */
#include "bpfctl_test.h"

#define __reloc __attribute__((preserve_access_index))
#define field(access, what) __builtin_preserve_field_info(access, what)

enum { BYTE_OFFSET, BYTE_SIZE, EXISTS, SIGNED, LSHIFT, RSHIFT };

struct net_device {
	char name[16];
	int ifindex;
	struct {
		int never;
	} nameless___absent;
} __reloc;

struct task_struct___old {
	int pid;
	struct task_struct___old *parent;
	unsigned int sched_reset_on_fork : 1;
} __reloc;

union bpf_attr___cut {
	struct {
		unsigned int map_type;
	};
} __reloc;

struct absent_everywhere {
	int gone;
} __reloc;

enum xdp_action___cut { XDP_ABORTED___cut, XDP_TX___cut = 3 };
typedef int (*initcall_t)(void);

struct list_head {
	struct list_head *next, *prev;
};

SEC("socket") int ask_everything(struct __sk_buff *skb)
{
	struct net_device *device = (void *)(long)skb->mark;
	struct task_struct___old *task = (void *)(long)skb->mark;
	union bpf_attr___cut *attr = (void *)(long)skb->mark;
	struct absent_everywhere *absent = (void *)(long)skb->mark;
	unsigned long sum = 0;

	sum += field(device->name[3], BYTE_OFFSET);
	sum += field(device->ifindex, BYTE_OFFSET) + field(device->ifindex, BYTE_SIZE);
	sum += field(task->pid, SIGNED) + field(task->parent, EXISTS);
	sum += field(task->sched_reset_on_fork, LSHIFT) + field(task->sched_reset_on_fork, RSHIFT);
	sum += field(task->sched_reset_on_fork, BYTE_OFFSET) + field(task->sched_reset_on_fork, BYTE_SIZE);
	sum += field(attr->map_type, BYTE_OFFSET) + field(absent->gone, EXISTS);
	sum += __builtin_preserve_type_info(*(struct list_head *)0, 0); /* exists */
	sum += __builtin_preserve_type_info(*(struct list_head *)0, 1); /* size */
	sum += __builtin_preserve_type_info(*(struct list_head *)0, 2); /* matches */
	sum += __builtin_preserve_type_info(*(initcall_t *)0, 0);
	sum += __builtin_preserve_type_info(*(initcall_t *)0, 2);
	sum += __builtin_preserve_type_info(*(struct absent_everywhere *)0, 1);
	sum += __builtin_btf_type_id(*(struct list_head *)0, 0); /* local */
	sum += __builtin_preserve_enum_value(*(enum xdp_action___cut *)XDP_TX___cut, 0);
	sum += __builtin_preserve_enum_value(*(enum xdp_action___cut *)XDP_TX___cut, 1);
	return sum;
}

LICENSE("GPL");
