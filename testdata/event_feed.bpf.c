// SPDX-License-Identifier: BSD-2-Clause
/*
 * Each IPv4 packet is an event: one program sends it through a ring buffer, one through a perf event array.
 * Two send what nobody can tell the type of: two types have its size, or its size is not in the code.
 */
#include "bpfctl_test.h"

HELPER(long, ringbuf_output, void *ringbuf, const void *data, __u64 size, __u64 flags);
HELPER(long, perf_event_output, void *ctx, void *map, __u64 flags, const void *data, __u64 size);

#define CURRENT_CPU 0xffffffffULL

enum verdict {
	VERDICT_PASS,
	VERDICT_DROP,
};

struct packet_event {
	__be32 source;
	__u32 length;
	enum verdict verdict;
};

struct flow_mark {
	__u32 flow;
	__u32 mark;
};

struct flow_hash {
	__u64 hash;
};

/* types that nothing global refers to do not get into the BTF */
struct packet_event *keep_type;
struct flow_mark *keep_mark;
struct flow_hash *keep_hash;

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_RINGBUF);
	MAP_NUMBER(max_entries, 4096);
} feed SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	MAP_NUMBER(key_size, sizeof(__u32));
	MAP_NUMBER(value_size, sizeof(__u32));
} perf_feed SEC(".maps");

inline_always int describe(struct xdp_md *ctx, struct packet_event *event)
{
	struct iphdr *ip = ipv4_header(packet_start(ctx), packet_end(ctx));

	if (!ip)
		return 0;
	event->source = ip->saddr;
	event->length = packet_end(ctx) - packet_start(ctx);
	event->verdict = event->length > 100 ? VERDICT_DROP : VERDICT_PASS;
	return 1;
}

SEC("xdp") int to_ring(struct xdp_md *ctx)
{
	struct packet_event event;

	if (describe(ctx, &event))
		bpf_ringbuf_output(&feed, &event, sizeof(event), 0);
	return XDP_PASS;
}

SEC("xdp") int to_perf(struct xdp_md *ctx)
{
	struct packet_event event;

	if (describe(ctx, &event))
		bpf_perf_event_output(ctx, &perf_feed, CURRENT_CPU, &event, sizeof(event));
	return XDP_PASS;
}

SEC("xdp") int to_either(struct xdp_md *ctx)
{
	struct flow_mark mark = { .flow = ctx->rx_queue_index, .mark = 1 };

	bpf_ringbuf_output(&feed, &mark, sizeof(mark), 0);
	return XDP_PASS;
}

SEC("xdp") int of_any_size(struct xdp_md *ctx)
{
	struct packet_event event;
	__u64 length = packet_end(ctx) - packet_start(ctx);

	if (describe(ctx, &event))
		bpf_ringbuf_output(&feed, &event, length < sizeof(event) ? length : sizeof(event), 0);
	return XDP_PASS;
}

LICENSE("Dual BSD/GPL");
