// SPDX-License-Identifier: BSD-2-Clause
/*
 * Two program arrays: the root goes to one of the two slots of the first, whose programs both go on to
 * the only slot of the second.  Each step counts the packet.
 */
#include "bpfctl_test.h"

#define PROGRAM_ARRAY(number, slots) \
	{ \
		.type = BPF_MAP_TYPE_PROG_ARRAY, .size_key = sizeof(__u32), .size_value = sizeof(__u32), \
		.max_elem = slots, .id = number, .pinning = PIN_OBJECT_NS, \
	}

struct elf_map SEC("maps") outer_jumps = PROGRAM_ARRAY(42, 2);
struct elf_map SEC("maps") inner_jumps = PROGRAM_ARRAY(43, 1);

struct elf_map SEC("maps") steps = {
	.type = BPF_MAP_TYPE_ARRAY,
	.size_key = sizeof(__u32),
	.size_value = sizeof(__u64),
	.max_elem = 4,
	.pinning = PIN_GLOBAL_NS,
};

SEC("42/0") int outer_even(struct __sk_buff *skb)
{
	count(&steps, 1);
	bpf_tail_call(skb, &inner_jumps, 0);
	return TC_ACT_SHOT;
}

SEC("42/1") int outer_odd(struct __sk_buff *skb)
{
	count(&steps, 2);
	bpf_tail_call(skb, &inner_jumps, 0);
	return TC_ACT_SHOT;
}

SEC("43/0") int inner_only(struct __sk_buff *skb)
{
	count(&steps, 3);
	return TC_ACT_OK;
}

SEC("classifier") int nested_root(struct __sk_buff *skb)
{
	count(&steps, 0);
	bpf_tail_call(skb, &outer_jumps, skb->len & 1);
	return TC_ACT_SHOT;
}

LICENSE("Dual BSD/GPL");
