// SPDX-License-Identifier: BSD-2-Clause
/* graft_root.bpf.c with legacy maps; the section of the second program says its slot. */
#include "bpfctl_test.h"

struct elf_map SEC("maps") graft_jumps = {
	.type = BPF_MAP_TYPE_PROG_ARRAY,
	.size_key = sizeof(__u32),
	.size_value = sizeof(__u32),
	.max_elem = 2,
	.pinning = PIN_GLOBAL_NS,
};

struct elf_map SEC("maps") graft_counters = {
	.type = BPF_MAP_TYPE_ARRAY,
	.size_key = sizeof(__u32),
	.size_value = sizeof(__u64),
	.max_elem = 3,
	.id = 7,
	.pinning = PIN_GLOBAL_NS,
};

SEC("classifier") int graft_root(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &graft_jumps, 0);
	count(&graft_counters, 0);
	return TC_ACT_OK;
}

SEC("aaa") int graft_first(struct __sk_buff *skb)
{
	count(&graft_counters, 1);
	return TC_ACT_OK;
}

SEC("42/0") int graft_second(struct __sk_buff *skb)
{
	count(&graft_counters, 2);
	return TC_ACT_OK;
}

LICENSE("Dual BSD/GPL");
