// SPDX-License-Identifier: BSD-2-Clause
/*
 * One BTF-defined map of every type that an object can ask for by its own definition alone, with the
 * two ways to give sizes, odd flags, and the defaults that a loader fills in.
 */
#include "bpfctl_test.h"

#define KEYED_MAP(name, map_type, entries, flags) \
	struct { \
		MAP_NUMBER(type, map_type); \
		MAP_NUMBER(max_entries, entries); \
		MAP_TYPE(key, __u32); \
		MAP_TYPE(value, __u64); \
		MAP_NUMBER(map_flags, flags); \
	} name SEC(".maps")

#define SIZED_MAP(name, map_type, entries, key_bytes, value_bytes) \
	struct { \
		MAP_NUMBER(type, map_type); \
		MAP_NUMBER(max_entries, entries); \
		MAP_NUMBER(key_size, key_bytes); \
		MAP_NUMBER(value_size, value_bytes); \
	} name SEC(".maps")

KEYED_MAP(a_hash, BPF_MAP_TYPE_HASH, 16, BPF_F_NO_PREALLOC);
KEYED_MAP(an_array, BPF_MAP_TYPE_ARRAY, 4, BPF_F_MMAPABLE);
KEYED_MAP(a_percpu_hash, BPF_MAP_TYPE_PERCPU_HASH, 16, 0);
KEYED_MAP(a_percpu_array, BPF_MAP_TYPE_PERCPU_ARRAY, 4, 0);
KEYED_MAP(an_lru_hash, BPF_MAP_TYPE_LRU_HASH, 16, 0);
KEYED_MAP(an_lru_percpu, BPF_MAP_TYPE_LRU_PERCPU_HASH, 16, BPF_F_NO_COMMON_LRU);
SIZED_MAP(a_stack_trace, BPF_MAP_TYPE_STACK_TRACE, 8, sizeof(__u32), 127 * sizeof(__u64));
SIZED_MAP(a_cgroup_array, BPF_MAP_TYPE_CGROUP_ARRAY, 2, sizeof(__u32), sizeof(__u32));
SIZED_MAP(a_devmap, BPF_MAP_TYPE_DEVMAP, 4, sizeof(__u32), sizeof(struct bpf_devmap_val));
SIZED_MAP(a_devmap_hash, BPF_MAP_TYPE_DEVMAP_HASH, 4, sizeof(__u32), sizeof(__u32));
SIZED_MAP(a_cpumap, BPF_MAP_TYPE_CPUMAP, 2, sizeof(__u32), sizeof(struct bpf_cpumap_val));
SIZED_MAP(an_xskmap, BPF_MAP_TYPE_XSKMAP, 2, sizeof(__u32), sizeof(__u32));
SIZED_MAP(a_sockmap, BPF_MAP_TYPE_SOCKMAP, 2, sizeof(__u32), sizeof(__u64));
SIZED_MAP(a_sockhash, BPF_MAP_TYPE_SOCKHASH, 2, sizeof(__u64), sizeof(__u32));
SIZED_MAP(a_prog_array, BPF_MAP_TYPE_PROG_ARRAY, 2, sizeof(__u32), sizeof(__u32));
/* 0 entries: one for each possible CPU */
SIZED_MAP(a_perf_array, BPF_MAP_TYPE_PERF_EVENT_ARRAY, 0, sizeof(__u32), sizeof(__u32));

struct prefix {
	__u32 length;
	__u8 address[16];
};

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_LPM_TRIE);
	MAP_NUMBER(max_entries, 16);
	MAP_TYPE(key, struct prefix);
	MAP_TYPE(value, __u32);
	MAP_NUMBER(map_flags, BPF_F_NO_PREALLOC);
} an_lpm_trie SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_QUEUE);
	MAP_NUMBER(max_entries, 8);
	MAP_TYPE(value, __u32);
} a_queue SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_STACK);
	MAP_NUMBER(max_entries, 8);
	MAP_TYPE(value, __u32);
} a_stack SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_BLOOM_FILTER);
	MAP_NUMBER(max_entries, 100);
	MAP_TYPE(value, __u64);
	MAP_NUMBER(map_extra, 3); /* hash functions */
} a_bloom_filter SEC(".maps");

/* 100 is no multiple of a page: rounded up */
struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_RINGBUF);
	MAP_NUMBER(max_entries, 100);
} a_ringbuf SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_USER_RINGBUF);
	MAP_NUMBER(max_entries, 4096);
} a_user_ringbuf SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_SK_STORAGE);
	MAP_TYPE(key, int);
	MAP_TYPE(value, __u64);
	MAP_NUMBER(map_flags, BPF_F_NO_PREALLOC);
} an_sk_storage SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_HASH);
	MAP_NUMBER(max_entries, 4);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u64);
	MAP_NUMBER(map_flags, BPF_F_NUMA_NODE);
	MAP_NUMBER(numa_node, 0);
} a_numa_hash SEC(".maps");

SEC("tc") int count_one(struct __sk_buff *skb)
{
	count(&an_array, 0);
	return TC_ACT_OK;
}

LICENSE("Dual BSD/GPL");
