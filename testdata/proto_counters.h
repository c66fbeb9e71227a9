// SPDX-License-Identifier: BSD-2-Clause
/*
 * What proto_counters, its replacement and proto_report agree on: the value kept for each IP protocol
 * number.  XDP fills the received half, tc the sent half.
 */
#ifndef PROTO_COUNTERS_H
#define PROTO_COUNTERS_H

#include "bpfctl_test.h"

#define PROTOCOLS 256

struct traffic {
	__u64 packets_received;
	__u64 bytes_received;
	__u64 packets_sent;
	__u64 bytes_sent;
};

#define LEGACY_COUNTERS_MAP(name) \
	struct elf_map SEC("maps") name = { \
		.type = BPF_MAP_TYPE_PERCPU_ARRAY, \
		.size_key = sizeof(__u32), \
		.size_value = sizeof(struct traffic), \
		.max_elem = PROTOCOLS, \
		.pinning = PIN_GLOBAL_NS, \
	}

#endif
