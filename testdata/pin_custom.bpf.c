// SPDX-License-Identifier: BSD-2-Clause
/* A pinning number of one's own: /etc/iproute2/bpf_pinning says which directory 7 is. */
#include "bpfctl_test.h"

struct elf_map SEC("maps") custom = {
	.type = BPF_MAP_TYPE_ARRAY,
	.size_key = sizeof(__u32),
	.size_value = sizeof(__u64),
	.max_elem = 1,
	.pinning = 7,
};

SEC("classifier") int count_custom(struct __sk_buff *skb)
{
	count(&custom, 0);
	return TC_ACT_OK;
}

LICENSE("Dual BSD/GPL");
