// SPDX-License-Identifier: BSD-2-Clause
/*
 * Seven words that two headers claim: iproute2 4.6 reads id 1 and PIN_GLOBAL_NS in the last two, the
 * kernel's samples read inner_map_idx 1 and numa_node 2.
 */
#include "bpfctl_test.h"

struct samples_map_def SEC("maps") either = {
	.type = BPF_MAP_TYPE_ARRAY,
	.key_size = sizeof(__u32),
	.value_size = sizeof(__u64),
	.max_entries = 1,
	.inner_map_idx = 1,
	.numa_node = 2,
};

SEC("classifier") int count_either(struct __sk_buff *skb)
{
	count(&either, 0);
	return TC_ACT_OK;
}

LICENSE("Dual BSD/GPL");
