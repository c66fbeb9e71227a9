// SPDX-License-Identifier: BSD-2-Clause
/* tail_cyclic_legacy.bpf.c with BTF-defined maps: the array's initialiser names the program. */
#include "bpfctl_test.h"

int go_round(struct __sk_buff *skb);

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_PROG_ARRAY);
	MAP_NUMBER(key_size, sizeof(__u32));
	MAP_NUMBER(max_entries, 1);
	MAP_NUMBER(pinning, PIN_BY_NAME);
	MAP_VALUES(values, int(void *));
} cycle SEC(".maps") = { .values = { [0] = (void *)&go_round } };

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_ARRAY);
	MAP_NUMBER(max_entries, 1);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u64);
	MAP_NUMBER(pinning, PIN_BY_NAME);
} rounds SEC(".maps");

SEC("tc") int go_round(struct __sk_buff *skb)
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
