"""Verifier logs as real kernels write them, and what is left of them for a reader."""

from __future__ import annotations

from bpfctl.loader.verifier import summarise

REAL_LOG = """\
func#0 @0
0: R1=ctx() R10=fp0
; void *data = (void *)(long)ctx->data; @ reject.bpf.c:11
0: (61) r1 = *(u32 *)(r1 +0)          ; R1_w=pkt(r=0)
; return *(char *)data; @ reject.bpf.c:12
1: (71) r0 = *(u8 *)(r1 +0)
invalid access to packet, off=0 size=1, R1(id=0,off=0,r=0)
R1 offset is outside of the packet
processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
"""

# Linux 7.3 explains at length, behind the same log.
REPORT = """\

Verification failed: Memory Safety: Access outside bounds

Reason:
  The verifier cannot prove offset + access_size <= object_size.

At:
  reads_too_far @ reject.bpf.c:12:19
  Instruction context:
  >>> 1 | (71) r0 = *(u8 *)(r1 +0)

Suggestion:
  Add or adjust a bounds check that proves offset + access_size stays within the object.

"""


def test_report_of_newer_kernels_adds_reason_and_suggestion() -> None:
    log, statistics = REAL_LOG.rsplit("processed", 1)
    summary = summarise(f"{log}{REPORT}processed{statistics}")
    assert summary._replace(report=()) == summarise(REAL_LOG)
    assert summary.report == (
        "Verification failed: Memory Safety: Access outside bounds",
        "Reason:",
        "  The verifier cannot prove offset + access_size <= object_size.",
        "Suggestion:",
        "  Add or adjust a bounds check that proves offset + access_size stays within the object.",
    )


def test_statistics_are_left_out() -> None:
    summary = summarise(REAL_LOG)
    assert summary.lines[-1] == "R1 offset is outside of the packet"
    assert summary.omitted == 0


def test_last_instruction_is_found() -> None:
    assert summarise(REAL_LOG).instruction == 1


def test_long_log_keeps_its_end_and_counts_the_rest() -> None:
    log = "".join(f"{n}: (b7) r0 = {n}\n" for n in range(1000)) + "back-edge from insn 3 to 2\n"
    summary = summarise(log, limit=3)
    assert summary.lines == ("998: (b7) r0 = 998", "999: (b7) r0 = 999", "back-edge from insn 3 to 2")
    assert summary.omitted == 998
    assert summary.instruction == 999


def test_register_states_are_no_instructions() -> None:
    assert summarise("from 3 to 5: R0=1\n7: R1=scalar()\n").instruction is None


def test_empty_log() -> None:
    assert summarise("") == ((), 0, None, ())
