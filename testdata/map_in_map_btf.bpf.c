// SPDX-License-Identifier: BSD-2-Clause
/*
 * Map-in-map by name: the `values` of a BTF-defined outer map are relocations against its inner maps,
 * gaps stay empty.  One outer map has no initial entry, only a definition of what may go in.
 */
#include "bpfctl_test.h"

struct tenant {
	MAP_NUMBER(type, BPF_MAP_TYPE_ARRAY);
	MAP_NUMBER(max_entries, 4);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u64);
};

struct tenant tenant_a SEC(".maps");
struct tenant tenant_b SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	MAP_NUMBER(max_entries, 4);
	MAP_TYPE(key, __u32);
	MAP_VALUES(values, struct tenant);
} tenants SEC(".maps") = {
	.values = { [0] = &tenant_a, [2] = &tenant_b },
};

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	MAP_NUMBER(max_entries, 8);
	MAP_TYPE(key, __u32);
	MAP_VALUES(values, struct tenant);
} by_hash SEC(".maps") = {
	.values = { [1] = &tenant_b },
};

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	MAP_NUMBER(max_entries, 8);
	MAP_TYPE(key, __u32);
	MAP_VALUES(
		values, struct {
			MAP_NUMBER(type, BPF_MAP_TYPE_HASH);
			MAP_NUMBER(max_entries, 16);
			MAP_TYPE(key, __u32);
			MAP_TYPE(value, __u64);
		});
} late_tenants SEC(".maps");

SEC("tc") int count_tenant(struct __sk_buff *skb)
{
	__u32 slot = skb->mark & 3;
	void *tenant = bpf_map_lookup_elem(&tenants, &slot);

	if (!tenant)
		tenant = bpf_map_lookup_elem(&by_hash, &slot);
	if (!tenant)
		tenant = bpf_map_lookup_elem(&late_tenants, &slot);
	if (tenant)
		count(tenant, 0);
	return TC_ACT_OK;
}

LICENSE("Dual BSD/GPL");
