// SPDX-License-Identifier: BSD-2-Clause
/*
 * What flow_table and its next version have in common: the maps but for sizes and types, and the program.
 * `struct flow`, `struct total` and FLOWS are of the version.
 */
#ifndef FLOW_TABLE_H
#define FLOW_TABLE_H

struct prefix {
	__u32 length;
	__be32 address;
};

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_HASH);
	MAP_NUMBER(max_entries, FLOWS);
	MAP_NUMBER(pinning, PIN_BY_NAME);
	MAP_TYPE(key, __be32);
	MAP_TYPE(value, struct flow);
} flows SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_NUMBER(max_entries, FLOWS / 16);
	MAP_NUMBER(pinning, PIN_BY_NAME);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct total);
} totals SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_LPM_TRIE);
	MAP_NUMBER(max_entries, FLOWS);
	MAP_NUMBER(map_flags, BPF_F_NO_PREALLOC);
	MAP_NUMBER(pinning, PIN_BY_NAME);
	MAP_TYPE(key, struct prefix);
	MAP_TYPE(value, struct flow);
} zones SEC(".maps");

inline_always int count_flow(struct xdp_md *ctx)
{
	struct iphdr *ip = ipv4_header(packet_start(ctx), packet_end(ctx));
	struct flow fresh = {};
	struct prefix prefix;
	struct total *total;
	struct flow *flow;
	__u32 slot = 0;
	__be32 source;

	if (!ip)
		return XDP_PASS;
	source = ip->saddr;
	prefix.length = 32;
	prefix.address = source;
	flow = bpf_map_lookup_elem(&flows, &source);
	if (!flow) {
		bpf_map_update_elem(&flows, &source, &fresh, BPF_NOEXIST);
		flow = bpf_map_lookup_elem(&flows, &source);
	}
	if (flow) {
		__sync_fetch_and_add(&flow->packets, 1);
		__sync_fetch_and_add(&flow->bytes, ctx->data_end - ctx->data);
	}
	flow = bpf_map_lookup_elem(&zones, &prefix);
	if (flow)
		__sync_fetch_and_add(&flow->packets, 1);
	total = bpf_map_lookup_elem(&totals, &slot);
	if (total)
		total->packets++;
	return XDP_PASS;
}

#endif
