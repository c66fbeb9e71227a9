// SPDX-License-Identifier: BSD-2-Clause
/*
 * The seven-word struct of the kernel's samples: words six and seven are the position of the inner map
 * among the maps of the section, and the NUMA node.  The map types and flags leave no other reading.
 */
#include "bpfctl_test.h"

struct samples_map_def SEC("maps") on_node = {
	.type = BPF_MAP_TYPE_HASH,
	.key_size = sizeof(__u32),
	.value_size = sizeof(__u64),
	.max_entries = 16,
	.map_flags = BPF_F_NUMA_NODE,
	.numa_node = 0,
};

struct samples_map_def SEC("maps") inner = {
	.type = BPF_MAP_TYPE_ARRAY,
	.key_size = sizeof(__u32),
	.value_size = sizeof(__u64),
	.max_entries = 4,
};

struct samples_map_def SEC("maps") outer = {
	.type = BPF_MAP_TYPE_ARRAY_OF_MAPS,
	.key_size = sizeof(__u32),
	.value_size = sizeof(__u32),
	.max_entries = 2,
	.inner_map_idx = 1, /* `inner` is the second map of the section */
};

SEC("xdp") int count_somewhere(struct xdp_md *ctx)
{
	__u32 slot = 0;
	void *map = bpf_map_lookup_elem(&outer, &slot);

	count(&on_node, 0);
	count(&inner, 0);
	if (map)
		count(map, 0);
	return XDP_PASS;
}

LICENSE("Dual BSD/GPL");
