/* SPDX-License-Identifier: BSD-2-Clause */
/* Maps of each type that is migrated but those of flow_table.h, for the `struct count` that is defined before. */

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_LRU_HASH);
	MAP_NUMBER(max_entries, 64);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct count);
} recent SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_PERCPU_HASH);
	MAP_NUMBER(max_entries, 16);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct count);
} sources SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	MAP_NUMBER(max_entries, 64);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct count);
} visitors SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_ARRAY);
	MAP_NUMBER(max_entries, 4);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct count);
} slots SEC(".maps");

inline_always void count_in(void *map, __u32 key)
{
	struct count *count = bpf_map_lookup_elem(map, &key);

	if (count)
		count->packets++;
}

inline_always void count_everywhere(__u32 key)
{
	count_in(&recent, key);
	count_in(&sources, key);
	count_in(&visitors, key);
	count_in(&slots, key);
}
