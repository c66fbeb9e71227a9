// SPDX-License-Identifier: BSD-2-Clause
/* A tc action, in the section that iproute2 takes by default. */
#include "bpfctl_test.h"

SEC("action") int act_pass(struct __sk_buff *skb)
{
	return TC_ACT_PIPE;
}

LICENSE("Dual BSD/GPL");
