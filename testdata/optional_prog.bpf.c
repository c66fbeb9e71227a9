// SPDX-License-Identifier: BSD-2-Clause
/* A question mark before the section name: a program that is loaded only when asked for. */
#include "bpfctl_test.h"

SEC("xdp") int always(struct xdp_md *ctx)
{
	return XDP_PASS;
}

SEC("?xdp") int on_demand(struct xdp_md *ctx)
{
	return XDP_DROP;
}

LICENSE("Dual BSD/GPL");
