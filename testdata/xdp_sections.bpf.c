// SPDX-License-Identifier: BSD-2-Clause
/*
 * The section names that say more than "XDP": multi-buffer packets, and programs that run behind a
 * redirect through a device or CPU map (expected attach types of their own).
 */
#include "bpfctl_test.h"

#define PASS_PROGRAM(section_name, function) \
	SEC(section_name) int function(struct xdp_md *ctx) \
	{ \
		return XDP_PASS; \
	}

PASS_PROGRAM("xdp.frags", pass_frags)
PASS_PROGRAM("xdp/devmap", pass_devmap)
PASS_PROGRAM("xdp/cpumap", pass_cpumap)
PASS_PROGRAM("xdp.frags/devmap", pass_frags_devmap)
PASS_PROGRAM("xdp.frags/cpumap", pass_frags_cpumap)

LICENSE("Dual BSD/GPL");
