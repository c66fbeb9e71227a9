// SPDX-License-Identifier: BSD-2-Clause
/*
 * A switch as newer compilers make it: a table of places in the code, and an indirect jump.  The compiler at
 * hand cannot, so both are written out; `0x0d` is the jump, to where r1 points.
 */
#include "bpfctl_test.h"

__attribute__((naked)) SEC("socket") int pick(struct __sk_buff *skb)
{
	asm volatile(
		"r2 = *(u32 *)(r1 + 0);" /* the length of what follows the Ethernet header: 14, 15 or another */
		"r2 -= 14;"
		"if r2 > 1 goto .Lother%=;"
		"r2 <<= 3;"
		"r1 = table_of_two ll;"
		"r1 += r2;"
		"r1 = *(u64 *)(r1 + 0);"
		".8byte 0x10d;" /* gotox r1 */
		".Lfirst%=: r0 = 10; exit;"
		".Lsecond%=: r0 = 20; exit;"
		".Lother%=: r0 = 30; exit;"
		".pushsection .jumptables, \"\", @progbits;"
		".globl table_of_two;" /* or the relocation would name the section */
		".type table_of_two, @object;"
		"table_of_two: .8byte .Lfirst%= - pick, .Lsecond%= - pick;"
		".size table_of_two, 16;"
		".popsection;" ::: "memory");
}

LICENSE("GPL");
