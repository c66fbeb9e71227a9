// SPDX-License-Identifier: BSD-2-Clause
/* A program that jumps to itself until the kernel ends it; its array is filled by a section in hex. */
#include "bpfctl_test.h"

struct elf_map SEC("maps") cycle = {
	.type = BPF_MAP_TYPE_PROG_ARRAY,
	.size_key = sizeof(__u32),
	.size_value = sizeof(__u32),
	.max_elem = 1,
	.id = 0xcafe,
	.pinning = PIN_OBJECT_NS,
};

struct elf_map SEC("maps") rounds = {
	.type = BPF_MAP_TYPE_ARRAY,
	.size_key = sizeof(__u32),
	.size_value = sizeof(__u64),
	.max_elem = 1,
	.pinning = PIN_GLOBAL_NS,
};

SEC("0xcafe/0x0") int go_round(struct __sk_buff *skb)
{
	count(&rounds, 0);
	bpf_tail_call(skb, &cycle, 0);
	return TC_ACT_OK;
}

SEC("classifier") int enter_cycle(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &cycle, 0);
	return TC_ACT_SHOT;
}

LICENSE("Dual BSD/GPL");
