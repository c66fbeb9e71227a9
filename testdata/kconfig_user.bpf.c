// SPDX-License-Identifier: BSD-2-Clause
/* Needs values of the kernel's configuration, filled in when the object is loaded. */
#include "bpfctl_test.h"

extern int LINUX_KERNEL_VERSION EXTERN(".kconfig");
extern _Bool CONFIG_BPF_SYSCALL EXTERN(".kconfig") weak;

SEC("classifier") int asks_the_version(struct __sk_buff *skb)
{
	return LINUX_KERNEL_VERSION > 0x50000 && CONFIG_BPF_SYSCALL ? TC_ACT_OK : TC_ACT_SHOT;
}

LICENSE("GPL");
