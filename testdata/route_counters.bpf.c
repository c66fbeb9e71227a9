// SPDX-License-Identifier: BSD-2-Clause
/* Counts what passes the hooks of a route: one slot a hook, in a map pinned by name. */
#include "bpfctl_test.h"

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_ARRAY);
	MAP_NUMBER(max_entries, 4);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u64);
	MAP_NUMBER(pinning, PIN_BY_NAME);
} route_counters SEC(".maps");

SEC("lwt_in") int count_in(struct __sk_buff *skb)
{
	count(&route_counters, 0);
	return BPF_OK;
}

SEC("lwt_out") int count_out(struct __sk_buff *skb)
{
	count(&route_counters, 1);
	return BPF_OK;
}

SEC("lwt_xmit") int count_xmit(struct __sk_buff *skb)
{
	count(&route_counters, 2);
	return BPF_OK;
}

SEC("lwt_seg6local") int count_endpoint(struct __sk_buff *skb)
{
	count(&route_counters, 3);
	return BPF_OK;
}

LICENSE("Dual BSD/GPL");
