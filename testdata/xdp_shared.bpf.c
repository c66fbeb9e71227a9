// SPDX-License-Identifier: BSD-2-Clause
/* XDP with a BTF-defined map pinned by name. */
#include "bpfctl_test.h"

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_ARRAY);
	MAP_NUMBER(max_entries, 1);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u64);
	MAP_NUMBER(pinning, PIN_BY_NAME);
} xdp_shared SEC(".maps");

SEC("xdp") int count_arrivals(struct xdp_md *ctx)
{
	count(&xdp_shared, 0);
	return XDP_PASS;
}

LICENSE("Dual BSD/GPL");
