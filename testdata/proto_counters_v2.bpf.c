// SPDX-License-Identifier: BSD-2-Clause
/*
 * The replacement of proto_counters.bpf.c: counts IPv6 as well, into the same pinned map, so that the
 * exchange of one program for the other loses neither packets nor counts.
 */
#include "proto_counters.h"

LEGACY_COUNTERS_MAP(proto_counters);

inline_always int protocol_of(void *start, void *end)
{
	struct iphdr *ip = ipv4_header(start, end);
	struct ethhdr *ethernet = start;
	struct ipv6hdr *ip6 = (void *)(ethernet + 1);

	if (ip)
		return ip->protocol;
	if ((void *)(ip6 + 1) > end || ethernet->h_proto != to_be16(ETH_P_IPV6))
		return -1;
	return ip6->nexthdr;
}

SEC("xdp") int count_protocols_v2(struct xdp_md *ctx)
{
	int protocol = protocol_of(packet_start(ctx), packet_end(ctx));
	struct traffic *seen;

	if (protocol < 0)
		return XDP_PASS;
	seen = bpf_map_lookup_elem(&proto_counters, &protocol);
	if (seen) {
		seen->packets_received++;
		seen->bytes_received += ctx->data_end - ctx->data;
	}
	return XDP_PASS;
}

LICENSE("Dual BSD/GPL");
