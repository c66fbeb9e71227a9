// SPDX-License-Identifier: BSD-2-Clause
/* Counts in maps of several types and in variables, to be kept when kept_counts_v2.bpf.c takes over. */
#include "bpfctl_test.h"

struct count {
	__u32 packets;
	__u32 flags;
};

#include "kept_counts.h"

volatile __u32 limit = 5; /* .data */
volatile __u32 seen; /* .bss */

SEC("xdp") int count_packet(struct xdp_md *ctx)
{
	count_everywhere(ctx->rx_queue_index);
	return seen++ < limit ? XDP_PASS : XDP_DROP;
}

LICENSE("Dual BSD/GPL");
