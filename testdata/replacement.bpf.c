// SPDX-License-Identifier: BSD-2-Clause
/* Takes the place of a function of another program: of subprogs.bpf.o's main one, all of it. */
#include "bpfctl_test.h"

SEC("freplace/sum_up") int sum_nothing(struct __sk_buff *skb)
{
	return TC_ACT_OK;
}

LICENSE("Dual BSD/GPL");
