// SPDX-License-Identifier: BSD-2-Clause
/* Reads the packet without a look at its end: the verifier refuses, and line_info says where. */
#include "bpfctl_test.h"

SEC("xdp") int reads_too_far(struct xdp_md *ctx)
{
	struct ethhdr *ethernet = packet_start(ctx);

	if (ethernet->h_proto == to_be16(ETH_P_ARP)) /* refused here */
		return XDP_DROP;
	return XDP_PASS;
}

SEC("classifier") int reads_too_far_tc(struct __sk_buff *skb)
{
	struct ethhdr *ethernet = packet_start(skb);

	return ethernet->h_proto == to_be16(ETH_P_ARP) ? TC_ACT_SHOT : TC_ACT_OK;
}

LICENSE("Dual BSD/GPL");
