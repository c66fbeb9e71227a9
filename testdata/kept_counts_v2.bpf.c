// SPDX-License-Identifier: BSD-2-Clause
/* The next version of kept_counts.bpf.c: counts and variables have moved and grown, others have come. */
#include "bpfctl_test.h"

struct count {
	__u64 bytes;
	__u64 packets;
	__u32 flags;
};

#include "kept_counts.h"

volatile __u64 burst = 7; /* .data */
volatile __u64 limit = 5;
volatile __u64 dropped; /* .bss */
volatile __u64 seen;

SEC("xdp") int count_packet(struct xdp_md *ctx)
{
	count_everywhere(ctx->rx_queue_index);
	if (seen++ < limit + burst)
		return XDP_PASS;
	dropped++;
	return XDP_DROP;
}

LICENSE("Dual BSD/GPL");
