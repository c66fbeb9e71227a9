// SPDX-License-Identifier: BSD-2-Clause
/*
 * A root program as Katran's: XDP walks a program array of four slots, each program hands on to the
 * slot after its own, an empty slot falls through to the next.  Sections named ID/KEY say where the
 * loader puts a program; ID 42 and the keys are written in decimal, hex and octal.
 */
#include "bpfctl_test.h"

#define SLOTS 4

struct elf_map SEC("maps") root_array = {
	.type = BPF_MAP_TYPE_PROG_ARRAY,
	.size_key = sizeof(__u32),
	.size_value = sizeof(__u32),
	.max_elem = SLOTS,
	.id = 42,
	.pinning = PIN_GLOBAL_NS, /* the kernel empties an array that nobody holds */
};

/* Visits of each slot's program, then those of the root. */
struct elf_map SEC("maps") visits = {
	.type = BPF_MAP_TYPE_ARRAY,
	.size_key = sizeof(__u32),
	.size_value = sizeof(__u64),
	.max_elem = SLOTS + 1,
	.pinning = PIN_GLOBAL_NS,
};

#define WALK_FROM(ctx, first) \
	_Pragma("clang loop unroll(full)") for (__u32 slot = first; slot < SLOTS; slot++) \
		bpf_tail_call(ctx, &root_array, slot)

#define SLOT_PROGRAM(section_name, function, slot_number) \
	SEC(section_name) int function(struct xdp_md *ctx) \
	{ \
		count(&visits, slot_number); \
		WALK_FROM(ctx, slot_number + 1); \
		return XDP_PASS; \
	}

SEC("xdp") int xdp_root(struct xdp_md *ctx)
{
	count(&visits, SLOTS);
	WALK_FROM(ctx, 0);
	return XDP_PASS;
}

SLOT_PROGRAM("42/0", slot_decimal, 0)
SLOT_PROGRAM("0x2a/0x1", slot_hex, 1)
SLOT_PROGRAM("052/02", slot_octal, 2)
SLOT_PROGRAM("0x2A/3", slot_mixed, 3)

LICENSE("Dual BSD/GPL");
