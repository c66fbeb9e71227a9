// SPDX-License-Identifier: BSD-2-Clause
/* Every way to pin a map, in one object: none, by object, globally, by custom number, by name. */
#include "bpfctl_test.h"

#define LEGACY_MAP(name, how) \
	struct elf_map SEC("maps") name = { \
		.type = BPF_MAP_TYPE_ARRAY, \
		.size_key = sizeof(__u32), \
		.size_value = sizeof(__u64), \
		.max_elem = 1, \
		.pinning = how, \
	}

LEGACY_MAP(not_pinned, PIN_NONE);
LEGACY_MAP(by_object, PIN_OBJECT_NS);
LEGACY_MAP(by_global, PIN_GLOBAL_NS);
LEGACY_MAP(by_number, 7);

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_ARRAY);
	MAP_NUMBER(max_entries, 1);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u64);
	MAP_NUMBER(pinning, PIN_BY_NAME);
} by_name SEC(".maps");

SEC("classifier") int count_all(struct __sk_buff *skb)
{
	count(&not_pinned, 0);
	count(&by_object, 0);
	count(&by_global, 0);
	count(&by_number, 0);
	count(&by_name, 0);
	return TC_ACT_OK;
}

LICENSE("Dual BSD/GPL");
