// SPDX-License-Identifier: BSD-2-Clause
/*
 * Map-in-map by number: an outer map names the `id` of its inner maps in `inner_id`, each inner map
 * names its slot in `inner_idx`, and inner_idx -1 keeps a map out (a template only).
 */
#include "bpfctl_test.h"

#define INNER_MAP(map_id, slot) \
	{ \
		.type = BPF_MAP_TYPE_ARRAY, .size_key = sizeof(__u32), .size_value = sizeof(__u64), \
		.max_elem = 4, .id = map_id, .inner_idx = slot, \
	}

struct elf_map SEC("maps") tenant_a = INNER_MAP(42, 0);
struct elf_map SEC("maps") tenant_b = INNER_MAP(42, 2);

struct elf_map SEC("maps") tenants = {
	.type = BPF_MAP_TYPE_ARRAY_OF_MAPS,
	.size_key = sizeof(__u32),
	.size_value = sizeof(__u32),
	.max_elem = 4,
	.inner_id = 42,
	.pinning = PIN_GLOBAL_NS,
};

struct elf_map SEC("maps") template_only = INNER_MAP(43, -1);

struct elf_map SEC("maps") late_tenants = {
	.type = BPF_MAP_TYPE_HASH_OF_MAPS,
	.size_key = sizeof(__u32),
	.size_value = sizeof(__u32),
	.max_elem = 8,
	.inner_id = 43,
};

SEC("classifier") int count_tenant(struct __sk_buff *skb)
{
	__u32 slot = skb->mark & 3;
	void *tenant = bpf_map_lookup_elem(&tenants, &slot);

	if (!tenant)
		tenant = bpf_map_lookup_elem(&late_tenants, &slot);
	if (tenant)
		count(tenant, 0);
	return TC_ACT_OK;
}

LICENSE("Dual BSD/GPL");
