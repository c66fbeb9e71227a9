// SPDX-License-Identifier: BSD-2-Clause
/* No licence, and a helper that the kernel keeps for GPL-compatible programs. */
#include "bpfctl_test.h"

SEC("classifier") int needs_gpl(struct __sk_buff *skb)
{
	char text[] = "seen";

	bpf_trace_printk(text, sizeof(text));
	return TC_ACT_OK;
}
