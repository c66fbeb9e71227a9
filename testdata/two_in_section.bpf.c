// SPDX-License-Identifier: BSD-2-Clause
/* Two programs in one section: only a name can tell which is meant. */
#include "bpfctl_test.h"

SEC("xdp") int xdp_first(struct xdp_md *ctx)
{
	return XDP_PASS;
}

SEC("xdp") int xdp_second(struct xdp_md *ctx)
{
	return XDP_DROP;
}

SEC("classifier") int tc_first(struct __sk_buff *skb)
{
	return TC_ACT_OK;
}

SEC("classifier") int tc_second(struct __sk_buff *skb)
{
	return TC_ACT_SHOT;
}

LICENSE("Dual BSD/GPL");
