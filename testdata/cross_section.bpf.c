// SPDX-License-Identifier: BSD-2-Clause
/* Two entry programs that call one static function which stands in a section of its own, not in `.text`. */
#include "bpfctl_test.h"

volatile __u64 shared_calls;

SEC("shared") static noinline int shared_verdict(__u32 length)
{
	shared_calls++;
	return length > 9000 ? XDP_DROP : XDP_PASS;
}

SEC("xdp") int first_entry(struct xdp_md *ctx)
{
	return shared_verdict(ctx->data_end - ctx->data);
}

SEC("prog") int second_entry(struct xdp_md *ctx)
{
	return shared_verdict(ctx->data_end - ctx->data + 4);
}

LICENSE("Dual BSD/GPL");
