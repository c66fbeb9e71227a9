// SPDX-License-Identifier: BSD-2-Clause
/*
 * The sending half of proto_counters.bpf.c, of today's generation: a tc classifier whose BTF-defined
 * map, pinned by name, has the legacy map's very definition.  Whoever is loaded second shares the
 * first one's map.
 */
#include "proto_counters.h"

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_NUMBER(max_entries, PROTOCOLS);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct traffic);
	MAP_NUMBER(pinning, PIN_BY_NAME);
} proto_counters SEC(".maps");

SEC("tc") int report_protocols(struct __sk_buff *skb)
{
	struct iphdr *ip = ipv4_header(packet_start(skb), packet_end(skb));
	struct traffic *seen;
	__u32 protocol;

	if (!ip)
		return TC_ACT_OK;
	protocol = ip->protocol;
	seen = bpf_map_lookup_elem(&proto_counters, &protocol);
	if (seen) {
		seen->packets_sent++;
		seen->bytes_sent += skb->len;
	}
	return TC_ACT_OK;
}

LICENSE("Dual BSD/GPL");
