// SPDX-License-Identifier: BSD-2-Clause
/*
 * Received packets and bytes for each IPv4 protocol, kept per CPU, in a legacy map that other programs
 * find through its pin (PIN_GLOBAL_NS).  The same function stands in iproute2's default section `prog`
 * and in `xdp`.
 */
#include "proto_counters.h"

LEGACY_COUNTERS_MAP(proto_counters);

inline_always int count_received(struct xdp_md *ctx)
{
	struct iphdr *ip = ipv4_header(packet_start(ctx), packet_end(ctx));
	struct traffic *seen;
	__u32 protocol;

	if (!ip)
		return XDP_PASS;
	protocol = ip->protocol;
	seen = bpf_map_lookup_elem(&proto_counters, &protocol);
	if (seen) {
		seen->packets_received++;
		seen->bytes_received += ctx->data_end - ctx->data;
	}
	return XDP_PASS;
}

SEC("prog") int count_default(struct xdp_md *ctx)
{
	return count_received(ctx);
}

SEC("xdp") int count_protocols(struct xdp_md *ctx)
{
	return count_received(ctx);
}

LICENSE("Dual BSD/GPL");
