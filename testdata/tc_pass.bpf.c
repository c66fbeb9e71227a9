// SPDX-License-Identifier: BSD-2-Clause
/* The smallest classifier.  tc_pass_nobtf.bpf.o is the same source built without debug information. */
#include "bpfctl_test.h"

SEC("classifier") int tc_pass(struct __sk_buff *skb)
{
	return TC_ACT_OK;
}

LICENSE("Dual BSD/GPL");
