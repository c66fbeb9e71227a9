// SPDX-License-Identifier: BSD-2-Clause
/*
 * One program for each kind of place in the kernel, for what a kernel has to know to load it.
 */
#include "bpfctl_test.h"

HELPER(__u64, get_current_pid_tgid, void);
HELPER(__u64, get_attach_cookie, void *context); /* since Linux 5.15 */

SEC("kprobe/do_nanosleep") int on_call(void *ctx)
{
	return bpf_get_current_pid_tgid() == 0;
}

SEC("kprobe/do_nanosleep") int with_cookie(void *ctx)
{
	return bpf_get_attach_cookie(ctx) == 0;
}

SEC("tracepoint/sched/sched_switch") int on_tracepoint(void *ctx)
{
	return 0;
}

SEC("raw_tracepoint/sched_switch") int on_raw_tracepoint(void *ctx)
{
	return 0;
}

SEC("tp_btf/sched_switch") int on_typed_tracepoint(void *ctx)
{
	return 0;
}

SEC("fentry/vfs_read") int on_entry(void *ctx)
{
	return 0;
}

SEC("fexit/vfs_read") int on_exit(void *ctx)
{
	return 0;
}

SEC("fentry/no_such_function_in_any_kernel") int on_nothing(void *ctx)
{
	return 0;
}

SEC("lsm/file_open") int on_open(void *ctx)
{
	return 0;
}

SEC("iter/task") int each_task(void *ctx)
{
	return 0;
}

SEC("freplace/sum_once") int in_its_place(struct __sk_buff *skb)
{
	return 7;
}

LICENSE("GPL");
