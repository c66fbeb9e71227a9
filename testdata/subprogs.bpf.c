// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a linker has to bring together: static, global, weak and hidden subprograms of `.text`, one
 * that calls another, a function passed by address to bpf_loop, and globals in every kind of data
 * section, custom ones included.
 */
#include "bpfctl_test.h"

const volatile __u32 step = 3; /* .rodata */
volatile __u64 total = 40; /* .data */
volatile __u64 calls; /* .bss */
const volatile __u32 SEC(".rodata.limits") limit = 1000;
volatile __u64 SEC(".data.custom") custom[4] = { 1, 2, 3, 4 };
static volatile __u32 private_counter = 7; /* a static variable: reached through its section */

static noinline __u64 add_step(__u64 value)
{
	return value + step + private_counter;
}

noinline __u64 sum_custom(__u32 rounds)
{
	__u64 sum = 0;

	for (__u32 i = 0; i < 4; i++)
		sum += custom[i] * rounds;
	return add_step(sum);
}

hidden noinline int bounded(int value)
{
	return value > limit ? limit : value;
}

weak noinline int tunable(int value)
{
	return value + 1;
}

static long add_round(__u32 round, __u64 *sum)
{
	*sum += add_step(round);
	return 0;
}

SEC("tc") int sum_up(struct __sk_buff *skb)
{
	__u64 sum = 0;

	calls++;
	bpf_loop(4, add_round, &sum, 0);
	total += bounded(sum) + sum_custom(2);
	return TC_ACT_OK;
}

SEC("tc") int sum_once(struct __sk_buff *skb)
{
	calls++;
	total = add_step(total) + tunable(skb->len);
	return TC_ACT_OK;
}

SEC("xdp") int sum_xdp(struct xdp_md *ctx)
{
	total += sum_custom(tunable(1));
	return XDP_PASS;
}

LICENSE("Dual BSD/GPL");
