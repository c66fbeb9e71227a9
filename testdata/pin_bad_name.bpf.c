// SPDX-License-Identifier: BSD-2-Clause
/* A map to pin whose symbol name would leave the directory of its pin. */
#include "bpfctl_test.h"

struct elf_map SEC("maps") escape __asm__("../escape") = {
	.type = BPF_MAP_TYPE_ARRAY,
	.size_key = sizeof(__u32),
	.size_value = sizeof(__u64),
	.max_elem = 1,
	.pinning = PIN_GLOBAL_NS,
};

SEC("classifier") int count_escape(struct __sk_buff *skb)
{
	count(&escape, 0);
	return TC_ACT_OK;
}

LICENSE("Dual BSD/GPL");
