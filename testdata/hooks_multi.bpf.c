// SPDX-License-Identifier: BSD-2-Clause
/* Many places under one link. */
#include "hooks.h"

COUNTS("uprobe.multi/libc.so.6:getpp?d", on_getppid_multi, SLOT_UPROBE_MULTI)
COUNTS("kprobe.multi/__x64_sys_getprio*", on_getpriority_multi, SLOT_KPROBE_MULTI)

LICENSE("Dual BSD/GPL");
