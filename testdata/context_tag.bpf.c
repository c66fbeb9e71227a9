// SPDX-License-Identifier: BSD-2-Clause
/* Global functions whose arguments are the program's context without being called so. */
#include "bpfctl_test.h"

#define CONTEXT __attribute__((btf_decl_tag("arg:ctx")))

noinline int length_of(void *ctx CONTEXT)
{
	struct __sk_buff *skb = ctx;

	return skb->len;
}

noinline int either(int first, struct __sk_buff *ctx CONTEXT)
{
	return first ? first : ctx->len;
}

SEC("tc") int asks_both(struct __sk_buff *skb)
{
	return either(length_of(skb), skb) ? TC_ACT_OK : TC_ACT_SHOT;
}

SEC("tc") int asks_one(struct __sk_buff *skb)
{
	return length_of(skb) ? TC_ACT_OK : TC_ACT_SHOT;
}

LICENSE("GPL");
