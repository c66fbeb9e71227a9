// SPDX-License-Identifier: BSD-2-Clause
/*
 * Counts what passes the hooks of a route, as iproute2's users wrote it: the section says nothing of the
 * hook, and the map is pinned in the global namespace.
 */
#include "bpfctl_test.h"

struct elf_map SEC("maps") route_counters_old = {
	.type = BPF_MAP_TYPE_ARRAY,
	.size_key = sizeof(__u32),
	.size_value = sizeof(__u64),
	.max_elem = 2,
	.pinning = PIN_GLOBAL_NS,
};

SEC("prog") int count_any(struct __sk_buff *skb)
{
	count(&route_counters_old, 0);
	return BPF_OK;
}

SEC("refuse") int drop_all(struct __sk_buff *skb)
{
	count(&route_counters_old, 1);
	return BPF_DROP;
}

LICENSE("Dual BSD/GPL");
