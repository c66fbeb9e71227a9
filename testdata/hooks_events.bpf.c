// SPDX-License-Identifier: BSD-2-Clause
/* Programs that the kernel takes without knowing their target: events by name, and probes. */
#include "hooks.h"

COUNTS("tp/sched/sched_process_exec", on_exec, SLOT_TRACEPOINT)
COUNTS("raw_tp/sched_process_exec", on_exec_raw, SLOT_RAW_TRACEPOINT)
COUNTS("uprobe/libc.so.6:getppid", on_getppid, SLOT_UPROBE)
COUNTS("uretprobe/libc.so.6:getppid", after_getppid, SLOT_URETPROBE)

LICENSE("Dual BSD/GPL");
