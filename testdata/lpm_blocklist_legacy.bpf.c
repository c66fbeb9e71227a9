// SPDX-License-Identifier: BSD-2-Clause
/*
 * lpm_blocklist.bpf.c with the five-word map struct of libbpf before 1.0, in the default section of
 * iproute2.
 */
#include "bpfctl_test.h"

struct prefix {
	__u32 length; /* bits */
	__be32 address;
};

struct map_def SEC("maps") blocked = {
	.type = BPF_MAP_TYPE_LPM_TRIE,
	.key_size = sizeof(struct prefix),
	.value_size = sizeof(__u64),
	.max_entries = 10000,
	.map_flags = BPF_F_NO_PREALLOC,
};

SEC("prog") int drop_blocked_sources(struct xdp_md *ctx)
{
	struct iphdr *ip = ipv4_header(packet_start(ctx), packet_end(ctx));
	struct prefix source = { .length = 32 };
	__u64 *dropped;

	if (!ip)
		return XDP_PASS;
	source.address = ip->saddr;
	dropped = bpf_map_lookup_elem(&blocked, &source);
	if (!dropped)
		return XDP_PASS;
	__sync_fetch_and_add(dropped, 1);
	return XDP_DROP;
}

LICENSE("Dual BSD/GPL");
