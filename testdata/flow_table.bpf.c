// SPDX-License-Identifier: BSD-2-Clause
/*
 * Flows counted in pinned maps, whose values another version of the program has in another form.
 */
#include "bpfctl_test.h"

#define FLOWS 64

enum verdict {
	VERDICT_PASS,
	VERDICT_DROP,
};

struct flow {
	__u32 packets;
	__u64 bytes;
	__u32 zone;
	enum verdict verdict;
	__u32 legacy_id;
	char label[8];
};

struct total {
	__u64 packets;
};

#include "flow_table.h"

SEC("xdp") int meter(struct xdp_md *ctx)
{
	return count_flow(ctx);
}

LICENSE("Dual BSD/GPL");
