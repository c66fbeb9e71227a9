// SPDX-License-Identifier: BSD-2-Clause
/*
 * Two legacy maps whose structs differ in length: nine words and five.  Only the symbols' sizes tell
 * where the second one begins.
 */
#include "bpfctl_test.h"

struct elf_map SEC("maps") nine_words = {
	.type = BPF_MAP_TYPE_ARRAY,
	.size_key = sizeof(__u32),
	.size_value = sizeof(__u64),
	.max_elem = 3,
	.id = 9,
};

struct map_def SEC("maps") five_words = {
	.type = BPF_MAP_TYPE_ARRAY,
	.key_size = sizeof(__u32),
	.value_size = sizeof(__u64),
	.max_entries = 5,
};

SEC("classifier") int count_in_both(struct __sk_buff *skb)
{
	count(&nine_words, 0);
	count(&five_words, 0);
	return TC_ACT_OK;
}

LICENSE("Dual BSD/GPL");
