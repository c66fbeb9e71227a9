// SPDX-License-Identifier: BSD-2-Clause
/*
 * Legacy maps beside global data, a format string and subprograms: an object that no build of iproute2
 * takes, and that half-converted code bases have.
 */
#include "bpfctl_test.h"

struct elf_map SEC("maps") lengths = {
	.type = BPF_MAP_TYPE_ARRAY,
	.size_key = sizeof(__u32),
	.size_value = sizeof(__u64),
	.max_elem = 2,
	.pinning = PIN_GLOBAL_NS,
};

const volatile __u32 threshold = 500; /* .rodata */
volatile __u64 longest = 60; /* .data */
volatile __u64 seen; /* .bss */
volatile __u64 SEC(".bss.spare") spare[2];

static noinline int is_long(__u32 length)
{
	return length > threshold;
}

SEC("classifier") int sort_by_length(struct __sk_buff *skb)
{
	__u32 length = skb->len;

	seen++;
	spare[1] = seen;
	if (length > longest)
		longest = length;
	if (seen == ~0ULL)
		bpf_trace_printk("wrapped at %u", sizeof("wrapped at %u"), length);
	count(&lengths, is_long(length));
	return TC_ACT_OK;
}

LICENSE("GPL");
