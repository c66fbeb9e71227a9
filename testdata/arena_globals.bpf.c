// SPDX-License-Identifier: BSD-2-Clause
/* Variables in an arena: memory that the program and user space see at once. */
#include "bpfctl_test.h"

#define arena_memory __attribute__((address_space(1)))

struct {
	MAP_NUMBER(type, 33); /* BPF_MAP_TYPE_ARENA, Linux 6.9 */
	MAP_NUMBER(map_flags, BPF_F_MMAPABLE);
	MAP_NUMBER(max_entries, 16); /* pages */
} shared SEC(".maps");

arena_memory __u64 total = 40;
arena_memory __u32 steps[] = { 1, 2, 3 };

SEC("xdp") int add_step(struct xdp_md *ctx)
{
	total += steps[1];
	return XDP_PASS;
}

LICENSE("GPL");
