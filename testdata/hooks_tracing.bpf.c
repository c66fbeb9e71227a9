// SPDX-License-Identifier: BSD-2-Clause
/* Programs that the kernel verifies for a target of its own types. */
#include "hooks.h"

COUNTS("tp_btf/sched_process_exec", on_exec_btf, SLOT_TP_BTF)
COUNTS("fentry/__x64_sys_getpriority", on_getpriority_entry, SLOT_FENTRY)
COUNTS("fexit/__x64_sys_getpriority", on_getpriority_exit, SLOT_FEXIT)
COUNTS("lsm/bprm_committed_creds", on_creds, SLOT_LSM)
COUNTS("iter/task", on_task, SLOT_ITERATOR)

LICENSE("Dual BSD/GPL");
