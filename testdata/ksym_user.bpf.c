// SPDX-License-Identifier: BSD-2-Clause
/* Needs the address of a kernel symbol. */
#include "bpfctl_test.h"

extern const void schedule EXTERN(".ksyms");

volatile __u64 address;

SEC("classifier") int takes_an_address(struct __sk_buff *skb)
{
	address = (__u64)&schedule;
	return TC_ACT_OK;
}

LICENSE("GPL");
