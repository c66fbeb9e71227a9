// SPDX-License-Identifier: BSD-2-Clause
/*
 * The walk of xdp_root.bpf.c in today's terms: the program array is defined in BTF and its `values`
 * name the programs, slot 2 left empty.  All programs share the section `xdp`.
 */
#include "bpfctl_test.h"

#define SLOTS 4

int first_slot(struct xdp_md *ctx);
int second_slot(struct xdp_md *ctx);
int fourth_slot(struct xdp_md *ctx);

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_PROG_ARRAY);
	MAP_NUMBER(max_entries, SLOTS);
	MAP_NUMBER(key_size, sizeof(__u32));
	MAP_VALUES(values, int(struct xdp_md *));
} root_array SEC(".maps") = {
	.values = { [0] = (void *)&first_slot, [1] = (void *)&second_slot, [3] = (void *)&fourth_slot },
};

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_ARRAY);
	MAP_NUMBER(max_entries, SLOTS + 1);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u64);
} visits SEC(".maps");

#define WALK_FROM(ctx, first) \
	_Pragma("clang loop unroll(full)") for (__u32 slot = first; slot < SLOTS; slot++) \
		bpf_tail_call(ctx, &root_array, slot)

SEC("xdp") int xdp_root(struct xdp_md *ctx)
{
	count(&visits, SLOTS);
	WALK_FROM(ctx, 0);
	return XDP_PASS;
}

SEC("xdp") int first_slot(struct xdp_md *ctx)
{
	count(&visits, 0);
	WALK_FROM(ctx, 1);
	return XDP_PASS;
}

SEC("xdp") int second_slot(struct xdp_md *ctx)
{
	count(&visits, 1);
	WALK_FROM(ctx, 2);
	return XDP_PASS;
}

SEC("xdp") int fourth_slot(struct xdp_md *ctx)
{
	count(&visits, 3);
	return XDP_PASS;
}

LICENSE("Dual BSD/GPL");
