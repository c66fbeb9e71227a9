// SPDX-License-Identifier: BSD-2-Clause
/*
 * Seven words that two headers claim: the last is PIN_GLOBAL_NS to iproute2 4.6, and numa_node 2 to
 * the kernel's samples.  The flag fits both.
 */
#include "bpfctl_test.h"

struct samples_map_def SEC("maps") either = {
	.type = BPF_MAP_TYPE_HASH,
	.key_size = sizeof(__u32),
	.value_size = sizeof(__u64),
	.max_entries = 16,
	.map_flags = BPF_F_NUMA_NODE,
	.numa_node = 2,
};

SEC("classifier") int count_either(struct __sk_buff *skb)
{
	count(&either, 0);
	return TC_ACT_OK;
}

LICENSE("Dual BSD/GPL");
