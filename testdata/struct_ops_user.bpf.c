// SPDX-License-Identifier: BSD-2-Clause
/* Needs struct_ops: a table of functions, here a congestion control of which only a part is given. */
#include "bpfctl_test.h"

struct sock;

struct tcp_congestion_ops {
	__u32 (*ssthresh)(struct sock *sk);
	__u32 (*undo_cwnd)(struct sock *sk);
	char name[16];
} __attribute__((preserve_access_index));

SEC("struct_ops/ssthresh") __u32 two_segments(__u64 *ctx)
{
	return 2;
}

SEC("struct_ops/undo_cwnd") __u32 ten_segments(__u64 *ctx)
{
	return 10;
}

SEC(".struct_ops") struct tcp_congestion_ops steady = {
	.ssthresh = (void *)two_segments,
	.undo_cwnd = (void *)ten_segments,
	.name = "bpfctl_steady",
};

LICENSE("GPL");
