// SPDX-License-Identifier: BSD-2-Clause
/* The smallest XDP program.  xdp_pass_nobtf.bpf.o is the same source built without debug information. */
#include "bpfctl_test.h"

SEC("xdp") int xdp_pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}

LICENSE("Dual BSD/GPL");
