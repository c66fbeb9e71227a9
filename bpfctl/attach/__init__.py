"""Putting programs on hooks and taking them off: XDP, cls_bpf filters and the qdiscs that carry them.

Every verb is one request to the kernel, so a hook is never half changed.  Given a ``Transaction``, a
verb registers how to take its change back; what is there is left alone once somebody else changed it.
"""
