// SPDX-License-Identifier: BSD-2-Clause
/* Needs a kernel function (kfunc), which is called by its BTF id. */
#include "bpfctl_test.h"

extern void bpf_rcu_read_lock(void) EXTERN(".ksyms");
extern void bpf_rcu_read_unlock(void) EXTERN(".ksyms");

SEC("classifier") int calls_the_kernel(struct __sk_buff *skb)
{
	bpf_rcu_read_lock();
	bpf_rcu_read_unlock();
	return TC_ACT_OK;
}

LICENSE("GPL");
