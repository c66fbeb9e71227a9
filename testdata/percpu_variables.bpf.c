// SPDX-License-Identifier: BSD-2-Clause
/* Variables of which each CPU has its own; 9 bytes, so that the kernel's value is padded. */
#include "bpfctl_test.h"

#define percpu SEC(".percpu")

percpu __u64 packets = 100;
percpu __u8 last_protocol = 7;

SEC("xdp") int count_here(struct xdp_md *ctx)
{
	packets += last_protocol;
	return XDP_PASS;
}

/* Uses none of them, and loads where there are no such variables. */
SEC("xdp") int count_nothing(struct xdp_md *ctx)
{
	return XDP_DROP;
}

LICENSE("GPL");
