// SPDX-License-Identifier: BSD-2-Clause
/*
 * A control plane's tables, typed: elastic addresses with a policy each, blocked prefixes, counters for
 * each CPU, and settings that the loader fills in.
 */
#include "bpfctl_test.h"

enum policy {
	POLICY_DENY,
	POLICY_ALLOW,
	POLICY_LIMIT = 10,
};

struct eip_key {
	__be32 address;
};

struct eip {
	__u32 rate;
	__u16 vlan;
	__u8 mac[6];
	enum policy policy;
	__be32 gateway;
	__u32 mirrored : 1;
	__u32 class : 7;
	char owner[16];
	__be16 port;
};

struct prefix {
	__u32 length;
	__be32 address;
};

struct traffic {
	__u64 packets;
	__u64 bytes;
};

struct settings {
	enum policy fallback;
	__be32 gateway;
	__u16 ports[4];
	char site[16];
	_Bool strict;
};

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_HASH);
	MAP_NUMBER(max_entries, 1024);
	MAP_TYPE(key, struct eip_key);
	MAP_TYPE(value, struct eip);
} eip SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_LPM_TRIE);
	MAP_NUMBER(max_entries, 128);
	MAP_NUMBER(map_flags, BPF_F_NO_PREALLOC);
	MAP_TYPE(key, struct prefix);
	MAP_TYPE(value, enum policy);
} blocked SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_NUMBER(max_entries, 4);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct traffic);
} eip_traffic SEC(".maps");

const volatile struct settings settings = { .fallback = POLICY_DENY, .site = "lab" }; /* .rodata */
volatile __u32 sample_rate = 1; /* .data */
volatile __u64 denied; /* .bss */

SEC("xdp") int admit(struct xdp_md *ctx)
{
	struct iphdr *ip = ipv4_header(packet_start(ctx), packet_end(ctx));
	enum policy policy = settings.fallback;
	struct traffic *traffic;
	struct prefix prefix;
	struct eip_key key;
	struct eip *found;
	__u32 slot = 0;

	if (!ip)
		goto decide;
	key.address = ip->daddr;
	prefix.length = 32;
	prefix.address = ip->saddr;
	found = bpf_map_lookup_elem(&eip, &key);
	if (found)
		policy = found->policy;
	if (bpf_map_lookup_elem(&blocked, &prefix))
		policy = POLICY_DENY;
decide:
	traffic = bpf_map_lookup_elem(&eip_traffic, &slot);
	if (traffic) {
		traffic->packets += sample_rate;
		traffic->bytes += packet_end(ctx) - packet_start(ctx);
	}
	if (policy == POLICY_DENY)
		denied++;
	return policy == POLICY_DENY ? XDP_DROP : XDP_PASS;
}

LICENSE("Dual BSD/GPL");
