/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Each program of the hooks_*.bpf.c counts its runs in a slot of one array, which all objects share by
 * its pin: whoever makes the event happen can read there that the program ran.
 */
#ifndef HOOKS_H
#define HOOKS_H

#include "bpfctl_test.h"

enum slot {
	SLOT_TRACEPOINT,
	SLOT_RAW_TRACEPOINT,
	SLOT_UPROBE,
	SLOT_URETPROBE,
	SLOT_UPROBE_MULTI,
	SLOT_KPROBE,
	SLOT_KRETPROBE,
	SLOT_KPROBE_MULTI,
	SLOT_KSYSCALL,
	SLOT_TP_BTF,
	SLOT_FENTRY,
	SLOT_FEXIT,
	SLOT_LSM,
	SLOT_ITERATOR,
	SLOTS,
};

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_ARRAY);
	MAP_NUMBER(max_entries, SLOTS);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u64);
	MAP_NUMBER(pinning, PIN_BY_NAME);
} hook_runs SEC(".maps");

#define COUNTS(section_name, function, slot) \
	SEC(section_name) int function(void *ctx) \
	{ \
		count(&hook_runs, slot); \
		return 0; \
	}

#endif
