// SPDX-License-Identifier: BSD-2-Clause
/*
 * An endpoint table as Cilium keeps it: one hash map for the whole machine (PIN_GLOBAL_NS), one
 * program for each direction of a container's device, in sections whose names say nothing of the
 * program type.  Two commands load the two sections; both must end on the same map.
 */
#include "bpfctl_test.h"

struct endpoint {
	__u64 packets_out;
	__u64 packets_in;
	__u64 bytes_out;
	__u64 bytes_in;
};

struct elf_map SEC("maps") endpoints = {
	.type = BPF_MAP_TYPE_HASH,
	.size_key = sizeof(__be32),
	.size_value = sizeof(struct endpoint),
	.max_elem = 1024,
	.flags = BPF_F_NO_PREALLOC,
	.pinning = PIN_GLOBAL_NS,
};

inline_always struct endpoint *endpoint_of(__be32 address)
{
	struct endpoint fresh = {};
	struct endpoint *found = bpf_map_lookup_elem(&endpoints, &address);

	if (found)
		return found;
	bpf_map_update_elem(&endpoints, &address, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&endpoints, &address);
}

SEC("from-container") int handle_from_container(struct __sk_buff *skb)
{
	struct iphdr *ip = ipv4_header(packet_start(skb), packet_end(skb));
	struct endpoint *source = ip ? endpoint_of(ip->saddr) : 0;

	if (source) {
		__sync_fetch_and_add(&source->packets_out, 1);
		__sync_fetch_and_add(&source->bytes_out, skb->len);
	}
	return TC_ACT_OK;
}

SEC("to-container") int handle_to_container(struct __sk_buff *skb)
{
	struct iphdr *ip = ipv4_header(packet_start(skb), packet_end(skb));
	struct endpoint *destination = ip ? endpoint_of(ip->daddr) : 0;

	if (destination) {
		__sync_fetch_and_add(&destination->packets_in, 1);
		__sync_fetch_and_add(&destination->bytes_in, skb->len);
	}
	return TC_ACT_OK;
}

LICENSE("Dual BSD/GPL");
