// SPDX-License-Identifier: BSD-2-Clause
/* Functions of the kernel by kprobe. */
#include "hooks.h"

COUNTS("kprobe/__x64_sys_getppid", on_getppid_kernel, SLOT_KPROBE)
COUNTS("kretprobe/__x64_sys_getppid", after_getppid_kernel, SLOT_KRETPROBE)
COUNTS("ksyscall/getppid", on_getppid_syscall, SLOT_KSYSCALL)

LICENSE("Dual BSD/GPL");
