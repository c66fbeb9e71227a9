// SPDX-License-Identifier: BSD-2-Clause
/* pin_object_ns.bpf.c with a BTF-defined map: both hooks of a device count in one map. */
#include "bpfctl_test.h"

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_ARRAY);
	MAP_NUMBER(max_entries, 2);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u64);
	MAP_NUMBER(pinning, PIN_BY_NAME);
} shared_hooks SEC(".maps");

SEC("ingress") int count_ingress(struct __sk_buff *skb)
{
	count(&shared_hooks, 0);
	return TC_ACT_OK;
}

SEC("egress") int count_egress(struct __sk_buff *skb)
{
	count(&shared_hooks, 1);
	return TC_ACT_OK;
}

LICENSE("Dual BSD/GPL");
