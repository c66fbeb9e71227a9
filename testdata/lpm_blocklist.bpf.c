// SPDX-License-Identifier: BSD-2-Clause
/*
 * Source prefixes to drop at XDP: an LPM trie, which must not be preallocated, and what each prefix
 * has cost.  Both names are longer than the 15 bytes that the kernel keeps.
 */
#include "bpfctl_test.h"

struct prefix {
	__u32 length; /* bits */
	__be32 address;
};

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_LPM_TRIE);
	MAP_NUMBER(max_entries, 10000);
	MAP_TYPE(key, struct prefix);
	MAP_TYPE(value, __u64);
	MAP_NUMBER(map_flags, BPF_F_NO_PREALLOC);
} blocked_ipv4_prefixes SEC(".maps");

SEC("xdp") int drop_blocked_sources(struct xdp_md *ctx)
{
	struct iphdr *ip = ipv4_header(packet_start(ctx), packet_end(ctx));
	struct prefix source = { .length = 32 };
	__u64 *dropped;

	if (!ip)
		return XDP_PASS;
	source.address = ip->saddr;
	dropped = bpf_map_lookup_elem(&blocked_ipv4_prefixes, &source);
	if (!dropped)
		return XDP_PASS;
	__sync_fetch_and_add(dropped, 1);
	return XDP_DROP;
}

LICENSE("Dual BSD/GPL");
