// SPDX-License-Identifier: BSD-2-Clause
/* Drops everything: whether it is attached shows in what arrives.  In iproute2's default section too. */
#include "bpfctl_test.h"

SEC("xdp") int xdp_drop(struct xdp_md *ctx)
{
	return XDP_DROP;
}

SEC("prog") int xdp_drop_default(struct xdp_md *ctx)
{
	return XDP_DROP;
}

LICENSE("Dual BSD/GPL");
