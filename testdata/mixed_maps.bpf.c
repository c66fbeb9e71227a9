// SPDX-License-Identifier: BSD-2-Clause
/* Both generations of map definitions in one object, used by one program. */
#include "bpfctl_test.h"

struct elf_map SEC("maps") old_style = {
	.type = BPF_MAP_TYPE_ARRAY,
	.size_key = sizeof(__u32),
	.size_value = sizeof(__u64),
	.max_elem = 1,
};

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_ARRAY);
	MAP_NUMBER(max_entries, 1);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u64);
} new_style SEC(".maps");

SEC("tc") int count_in_both(struct __sk_buff *skb)
{
	count(&old_style, 0);
	count(&new_style, 0);
	return TC_ACT_OK;
}

LICENSE("Dual BSD/GPL");
