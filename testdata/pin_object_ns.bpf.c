// SPDX-License-Identifier: BSD-2-Clause
/*
 * PIN_OBJECT_NS: the map is shared by whatever is loaded from this very file, in a directory named
 * after the SHA-1 of its bytes.
 */
#include "bpfctl_test.h"

struct elf_map SEC("maps") shared = {
	.type = BPF_MAP_TYPE_ARRAY,
	.size_key = sizeof(__u32),
	.size_value = sizeof(__u64),
	.max_elem = 2,
	.pinning = PIN_OBJECT_NS,
};

SEC("ingress") int count_ingress(struct __sk_buff *skb)
{
	count(&shared, 0);
	return TC_ACT_OK;
}

SEC("egress") int count_egress(struct __sk_buff *skb)
{
	count(&shared, 1);
	return TC_ACT_OK;
}

LICENSE("Dual BSD/GPL");
