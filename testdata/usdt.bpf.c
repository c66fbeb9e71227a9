// SPDX-License-Identifier: BSD-2-Clause
/*
 * USDT probes of a program that the tests make, and what their arguments were: read by the records that
 * the loader writes, in the layout of libbpf's usdt.bpf.h.
 */
#include "bpfctl_test.h"

HELPER(long, probe_read_kernel, void *to, __u32 size, const void *from);
HELPER(long, probe_read_user, void *to, __u32 size, const void *from);
HELPER(__u64, get_attach_cookie, void *ctx);

#define ARGUMENTS 12
#define SEEN 16 /* arguments from slot 0 on, then their number, then how often the probe was hit */

enum kind { CONST, REGISTER, MEMORY, INDEXED };

struct argument {
	__u64 number;
	__u32 kind : 8;
	__u32 index_offset : 12;
	__u32 index_shift : 4;
	__u32 zero : 8;
	__s16 register_offset;
	_Bool is_signed;
	__u8 spare_bits;
};

struct record {
	struct argument arguments[ARGUMENTS];
	__u64 cookie;
	__s16 count;
};

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_ARRAY);
	MAP_NUMBER(max_entries, 4);
	MAP_TYPE(key, int);
	MAP_TYPE(value, struct record);
} __bpf_usdt_specs SEC(".maps") weak;

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_HASH);
	MAP_NUMBER(max_entries, 4);
	MAP_TYPE(key, long);
	MAP_TYPE(value, __u32);
} __bpf_usdt_ip_to_spec_id SEC(".maps") weak;

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_ARRAY);
	MAP_NUMBER(max_entries, SEEN);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u64);
	MAP_NUMBER(pinning, PIN_BY_NAME);
} usdt_seen SEC(".maps");

inline_always void see(__u32 slot, __u64 value)
{
	bpf_map_update_elem(&usdt_seen, &slot, &value, BPF_ANY);
}

inline_always __u64 value_of(void *ctx, struct argument *argument)
{
	__u64 value = 0, index = 0;

	if (argument->kind == CONST)
		return argument->number;
	bpf_probe_read_kernel(&value, sizeof(value), (char *)ctx + argument->register_offset);
	if (argument->kind != REGISTER) {
		if (argument->kind == INDEXED)
			bpf_probe_read_kernel(&index, sizeof(index), (char *)ctx + argument->index_offset);
		value += argument->number + (index << argument->index_shift);
		bpf_probe_read_user(&value, sizeof(value), (void *)value);
	}
	value <<= argument->spare_bits;
	return argument->is_signed ? (__s64)value >> argument->spare_bits : value >> argument->spare_bits;
}

inline_always int note(void *ctx)
{
	int id = bpf_get_attach_cookie(ctx);
	struct record *record = bpf_map_lookup_elem(&__bpf_usdt_specs, &id);

	if (!record)
		return 0;
	for (int at = 0; at < ARGUMENTS && at < record->count; at++)
		see(at, value_of(ctx, &record->arguments[at]));
	see(ARGUMENTS, record->count);
	count(&usdt_seen, ARGUMENTS + 1);
	return 0;
}

SEC("usdt/bpfctl-probed:bpfctl:work") int on_work(void *ctx)
{
	return note(ctx);
}

SEC("usdt.s/bpfctl-probed:bpfctl:idle") int on_idle(void *ctx)
{
	return note(ctx);
}

SEC("usdt/bpfctl-probed:bpfctl:nowhere") int on_nothing(void *ctx)
{
	return note(ctx);
}

LICENSE("Dual BSD/GPL");
