// SPDX-License-Identifier: BSD-2-Clause
/* Programs for a type or function that their sections name; some of those are nowhere. */
#include "bpfctl_test.h"

#define PROGRAM(section_name, name) \
	SEC(section_name) int name(void *ctx) \
	{ \
		return 0; \
	}

PROGRAM("tp_btf/sched_switch", at_tracepoint)
PROGRAM("iter/task", over_tasks)
PROGRAM("fentry/schedule", on_entry)
PROGRAM("fexit.s/vmlinux:schedule", on_exit)
PROGRAM("lsm/file_open", at_hook)
PROGRAM("freplace/replaced", replaces)
PROGRAM("fentry/bpfctl_no_function", of_nothing)
PROGRAM("?lsm/no_hook", at_no_hook)
PROGRAM("?tp_btf/no_tracepoint", at_no_tracepoint)
PROGRAM("fexit/no_module:schedule", of_no_module)
PROGRAM("fentry", of_anything)

LICENSE("GPL");
