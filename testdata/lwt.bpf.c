// SPDX-License-Identifier: BSD-2-Clause
/* Lightweight tunnels: one program for each of the three hooks of a route. */
#include "bpfctl_test.h"

SEC("lwt_in") int on_input(struct __sk_buff *skb)
{
	return BPF_OK;
}

SEC("lwt_out") int on_output(struct __sk_buff *skb)
{
	return BPF_OK;
}

SEC("lwt_xmit") int on_transmit(struct __sk_buff *skb)
{
	return BPF_OK;
}

LICENSE("Dual BSD/GPL");
