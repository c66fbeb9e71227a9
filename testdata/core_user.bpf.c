// SPDX-License-Identifier: BSD-2-Clause
/* Needs CO-RE: a field of a kernel struct, whose offset only the running kernel knows. */
#include "bpfctl_test.h"

struct net_device {
	int ifindex;
} __attribute__((preserve_access_index));

HELPER(long, probe_read_kernel, void *to, __u32 size, const void *from);

SEC("classifier") int reads_ifindex(struct __sk_buff *skb)
{
	struct net_device *device = (void *)(long)skb->mark;
	int ifindex = 0;

	bpf_probe_read_kernel(&ifindex, sizeof(ifindex), &device->ifindex);
	return ifindex == 1 ? TC_ACT_SHOT : TC_ACT_OK;
}

LICENSE("GPL");
