"""What the helpers of the kernel do to memory and maps, as far as it matters for keys and values.

Numbers as in ``bpfctl.helpers``.  A helper that is not named here may change all that its arguments point to,
from there to the end of the frame; those that only read, or whose next argument says how much they write,
leave more known.  (Argument types: ``struct bpf_func_proto`` of each, kernel/bpf/helpers.c,
net/core/filter.c, kernel/trace/bpf_trace.c.)
"""

from __future__ import annotations

LOOKUP, UPDATE, DELETE, TAIL_CALL = 1, 2, 3, 12
PUSH, POP, PEEK = 87, 88, 89
SPIN_LOCK, SPIN_UNLOCK = 93, 94
FOR_EACH, LOOKUP_PER_CPU = 164, 195

KEYED = frozenset({LOOKUP, UPDATE, DELETE, LOOKUP_PER_CPU})  # r1 a map, r2 a key
LOOKUPS = frozenset({LOOKUP, LOOKUP_PER_CPU})
# Whose call the verifier turns into one of the map's own function, when it knows the map.
REWRITTEN = frozenset({LOOKUP, UPDATE, DELETE, PUSH, POP, PEEK, FOR_EACH, LOOKUP_PER_CPU})

# Numbers of the CPU or the running task: no two CPUs get the same at once.
OWN_NUMBERS = frozenset({8, 14, 35, 158})

# Nothing is written through their arguments, or by a callback only, which is interpreted on its own.
READ_ONLY = (
    KEYED
    | OWN_NUMBERS
    | {PUSH, FOR_EACH, TAIL_CALL}
    | {5, 7, 15, 24, 34, 42, 46, 80, 118, 125, 128}  # numbers: times, random, user, cookies, hash, NUMA node
    | {6, 177}  # trace_printk, trace_vprintk
    | {9, 10, 11, 13, 23, 28, 51}  # skb_store_bytes, *_csum_replace, clone_redirect, redirect, csum_diff
    | {18, 19, 31, 32, 38, 39, 43, 44, 50, 65}  # what changes a packet's size and headers
    | {21, 25, 27, 30, 49, 111, 121, 130}  # tunnel options, events, stack ids, setsockopt, ring buffers
    | {84, 85, 86, 99}  # socket lookups
    | {131, 132, 133}  # ringbuf_reserve, _submit, _discard
    | {181, 182}  # loop, strncmp
)

# helper -> (register that points to what is written, register with the number of bytes)
WRITES: dict[int, tuple[int, int]] = {
    4: (1, 2),  # probe_read
    16: (1, 2),  # get_current_comm
    20: (2, 3),  # skb_get_tunnel_key
    26: (3, 4),  # skb_load_bytes
    29: (2, 3),  # skb_get_tunnel_opt
    45: (1, 2),  # probe_read_str
    55: (3, 4),  # perf_event_read_value
    56: (2, 3),  # perf_prog_read_value
    67: (2, 3),  # get_stack
    68: (3, 4),  # skb_load_bytes_relative
    69: (2, 3),  # fib_lookup
    112: (1, 2),  # probe_read_user
    113: (1, 2),  # probe_read_kernel
    114: (1, 2),  # probe_read_user_str
    115: (1, 2),  # probe_read_kernel_str
    120: (3, 4),  # get_ns_current_pid_tgid
    147: (2, 3),  # d_path
    148: (1, 2),  # copy_from_user
    165: (1, 2),  # snprintf
    189: (3, 4),  # xdp_load_bytes
}


def pointers_written(helper: int) -> range:
    """Registers 1 to 5 through which an unknown number of bytes may be written."""
    return range(0) if helper in READ_ONLY or helper in WRITES else range(1, 6)
