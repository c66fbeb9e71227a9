// SPDX-License-Identifier: BSD-2-Clause
/* tail_nested_legacy.bpf.c with BTF-defined maps. */
#include "bpfctl_test.h"

int outer_even(struct __sk_buff *skb);
int outer_odd(struct __sk_buff *skb);
int inner_only(struct __sk_buff *skb);

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_PROG_ARRAY);
	MAP_NUMBER(key_size, sizeof(__u32));
	MAP_NUMBER(max_entries, 2);
	MAP_NUMBER(pinning, PIN_BY_NAME);
	MAP_VALUES(values, int(void *));
} outer_jumps SEC(".maps") = { .values = { [0] = (void *)&outer_even, [1] = (void *)&outer_odd } };

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_PROG_ARRAY);
	MAP_NUMBER(key_size, sizeof(__u32));
	MAP_NUMBER(max_entries, 1);
	MAP_NUMBER(pinning, PIN_BY_NAME);
	MAP_VALUES(values, int(void *));
} inner_jumps SEC(".maps") = { .values = { [0] = (void *)&inner_only } };

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_ARRAY);
	MAP_NUMBER(max_entries, 4);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u64);
	MAP_NUMBER(pinning, PIN_BY_NAME);
} steps SEC(".maps");

SEC("tc") int outer_even(struct __sk_buff *skb)
{
	count(&steps, 1);
	bpf_tail_call(skb, &inner_jumps, 0);
	return TC_ACT_SHOT;
}

SEC("tc") int outer_odd(struct __sk_buff *skb)
{
	count(&steps, 2);
	bpf_tail_call(skb, &inner_jumps, 0);
	return TC_ACT_SHOT;
}

SEC("tc") int inner_only(struct __sk_buff *skb)
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
