// SPDX-License-Identifier: BSD-2-Clause
/*
 * TCP congestion controls that keep the window where it is, one for each way to register a struct_ops map.
 * The structs are parts of the kernel's: what is left out stays zero, and what it lacks must be zero here.
 */
#include "bpfctl_test.h"

struct sock;

struct tcp_congestion_ops {
	void (*init)(struct sock *sk);
	__u32 (*ssthresh)(struct sock *sk);
	__u32 (*undo_cwnd)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, __u32 ack, __u32 acked);
	__u32 flags;
	char name[16];
};

struct tcp_congestion_ops___later {
	__u64 not_in_any_kernel;
	char name[16];
	void (*not_there_either)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, __u32 ack, __u32 acked);
	__u32 (*undo_cwnd)(struct sock *sk);
	__u32 (*ssthresh)(struct sock *sk);
};

__u64 started, acknowledged;

SEC("struct_ops/init") void start(__u64 *ctx)
{
	__sync_fetch_and_add(&started, 1);
}

SEC("struct_ops/ssthresh") __u32 ten_segments(__u64 *ctx)
{
	return 10;
}

SEC("struct_ops/undo_cwnd") __u32 ten_again(__u64 *ctx)
{
	return 10;
}

SEC("struct_ops/cong_avoid") void keep(__u64 *ctx)
{
	__sync_fetch_and_add(&acknowledged, 1);
}

/* Only of use to the map that is not made on its own, so not loaded on its own either. */
SEC("struct_ops/cong_avoid") void keep_quietly(__u64 *ctx)
{
}

SEC(".struct_ops") struct tcp_congestion_ops direct = {
	.init = (void *)start,
	.ssthresh = (void *)ten_segments,
	.undo_cwnd = (void *)ten_again,
	.cong_avoid = (void *)keep,
	.name = "bpfctl_direct",
};

SEC(".struct_ops.link") struct tcp_congestion_ops___later linked = {
	.ssthresh = (void *)ten_segments,
	.undo_cwnd = (void *)ten_again,
	.cong_avoid = (void *)keep,
	.name = "bpfctl_linked",
};

SEC("?.struct_ops.link") struct tcp_congestion_ops spare = {
	.ssthresh = (void *)ten_segments,
	.undo_cwnd = (void *)ten_again,
	.cong_avoid = (void *)keep_quietly,
	.name = "bpfctl_linked",
};

LICENSE("GPL");
