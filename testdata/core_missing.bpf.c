// SPDX-License-Identifier: BSD-2-Clause
/* Needs a field that no kernel has: one program asks before it reads, the other does not. */
#include "bpfctl_test.h"

struct net_device {
	int bpfctl_no_such_field;
} __attribute__((preserve_access_index));

#define FIELD_EXISTS 2 /* enum bpf_core_relo_kind, as bpf_core_field_exists() has it */

HELPER(long, probe_read_kernel, void *to, __u32 size, const void *from);

static noinline int read_field(struct net_device *device)
{
	int value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), &device->bpfctl_no_such_field);
	return value == 1 ? TC_ACT_SHOT : TC_ACT_OK;
}

SEC("classifier") int reads_it(struct __sk_buff *skb)
{
	return read_field((void *)(long)skb->mark);
}

SEC("classifier") int asks_first(struct __sk_buff *skb)
{
	struct net_device *device = (void *)(long)skb->mark;

	if (!__builtin_preserve_field_info(device->bpfctl_no_such_field, FIELD_EXISTS))
		return TC_ACT_OK;
	return read_field(device);
}

LICENSE("GPL");
