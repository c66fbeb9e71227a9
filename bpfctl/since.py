"""Which Linux came with a program type, map type, attach type or helper: for messages, never for decisions.

Each of these enums of include/uapi/linux/bpf.h only grows at its end, so the last number that a release knew
says all of it.  From the header as it stood in each release; tests on Linux 5.10, 6.1, 6.12, 6.18 and 7.3
compare with what those kernels say.
"""

from __future__ import annotations

from bisect import bisect_left

_PROGRAM_TYPES = (
    "3.19:1 4.1:4 4.7:5 4.8:6 4.9:7 4.10:12 4.13:13 4.14:14 4.15:15 4.17:18 4.18:20 4.19:21 4.20:22 5.2:24 "
    "5.3:25 5.5:26 5.6:28 5.7:29 5.9:30 5.14:31 6.4:32"
)
_MAP_TYPES = (
    "3.19:2 4.2:3 4.3:4 4.6:7 4.8:8 4.10:10 4.11:11 4.12:13 4.14:15 4.15:16 4.18:18 4.19:20 4.20:23 5.2:24 "
    "5.4:25 5.6:26 5.8:27 5.10:28 5.11:29 5.16:30 6.1:31 6.2:32 6.9:33 6.19:34"
)
_ATTACH_TYPES = (
    "4.10:2 4.13:3 4.14:5 4.15:6 4.17:13 4.18:16 4.20:17 5.2:20 5.3:22 5.5:25 5.7:27 5.8:33 5.9:37 5.13:38 "
    "5.14:40 5.15:41 5.18:42 6.0:43 6.4:45 6.6:48 6.7:55 6.10:56 6.13:57 7.0:58 7.2:61"
)
_HELPERS = (
    "3.19:3 4.1:11 4.2:16 4.3:22 4.4:25 4.5:26 4.6:30 4.8:36 4.9:41 4.10:44 4.11:45 4.12:47 4.13:50 4.14:53 "
    "4.15:57 4.16:59 4.17:64 4.18:80 4.19:83 4.20:90 5.0:92 5.1:98 5.2:108 5.3:110 5.5:115 5.6:118 5.7:124 "
    "5.8:135 5.9:141 5.10:155 5.11:162 5.12:163 5.13:165 5.14:168 5.15:175 5.16:179 5.17:185 5.18:193 "
    "5.19:203 6.0:207 6.1:209 6.2:211"
)


def program_type_since(number: int) -> str | None:
    """The release that came with this ``enum bpf_prog_type``; None for one that is not known here.

    >>> program_type_since(6), program_type_since(99)
    ('4.8', None)
    """
    return _since(_PROGRAM_TYPES, number)


def map_type_since(number: int) -> str | None:
    """As :func:`program_type_since`, of ``enum bpf_map_type``."""
    return _since(_MAP_TYPES, number)


def attach_type_since(number: int) -> str | None:
    """As :func:`program_type_since`, of ``enum bpf_attach_type``."""
    return _since(_ATTACH_TYPES, number)


def helper_since(number: int) -> str | None:
    """As :func:`program_type_since`, of ``enum bpf_func_id``."""
    return _since(_HELPERS, number)


def _since(table: str, number: int) -> str | None:
    releases = [entry.partition(":") for entry in table.split()]
    position = bisect_left([int(last) for _, _, last in releases], number)
    return releases[position][0] if position < len(releases) else None
