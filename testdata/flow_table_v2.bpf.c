// SPDX-License-Identifier: BSD-2-Clause
/*
 * The next version of flow_table.bpf.c: members have moved, grown and shrunk, come and gone; an enumerator
 * has another number; the maps have more room.
 */
#include "bpfctl_test.h"

#define FLOWS 128

enum verdict {
	VERDICT_PASS,
	VERDICT_LIMIT,
	VERDICT_DROP,
};

struct flow {
	__u64 bytes;
	__u64 packets;
	__u16 zone;
	__u16 queue;
	enum verdict verdict;
	char label[16];
};

struct total {
	__u64 packets;
	__u64 errors;
};

#include "flow_table.h"

SEC("xdp") int meter(struct xdp_md *ctx)
{
	return count_flow(ctx);
}

LICENSE("Dual BSD/GPL");
