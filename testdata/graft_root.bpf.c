// SPDX-License-Identifier: BSD-2-Clause
/*
 * A program array that is empty when the root is loaded, and filled by hand while packets pass: the root
 * counts in slot 0 what falls through, the two others count what they get.
 */
#include "bpfctl_test.h"

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_PROG_ARRAY);
	MAP_NUMBER(key_size, sizeof(__u32));
	MAP_NUMBER(value_size, sizeof(__u32));
	MAP_NUMBER(max_entries, 2);
	MAP_NUMBER(pinning, PIN_BY_NAME);
} graft_jumps SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_ARRAY);
	MAP_NUMBER(max_entries, 3);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u64);
	MAP_NUMBER(pinning, PIN_BY_NAME);
} graft_counters SEC(".maps");

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

SEC("bbb") int graft_second(struct __sk_buff *skb)
{
	count(&graft_counters, 2);
	return TC_ACT_OK;
}

LICENSE("Dual BSD/GPL");
