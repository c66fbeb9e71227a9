// SPDX-License-Identifier: BSD-2-Clause
/* Entries and returns of many functions, by trampolines under one link. */
#include "hooks.h"

COUNTS("fentry.multi/__x64_sys_getpriorit?", on_getpriority_entries, SLOT_FENTRY)
COUNTS("fexit.multi/__x64_sys_getpriority", on_getpriority_exits, SLOT_FEXIT)

LICENSE("Dual BSD/GPL");
