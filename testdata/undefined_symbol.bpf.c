// SPDX-License-Identifier: BSD-2-Clause
/* A call to a function that is defined nowhere, as when one of two objects was not linked in. */
#include "bpfctl_test.h"

extern int defined_elsewhere(struct __sk_buff *skb);

SEC("classifier") int calls_nothing(struct __sk_buff *skb)
{
	return defined_elsewhere(skb);
}

LICENSE("Dual BSD/GPL");
