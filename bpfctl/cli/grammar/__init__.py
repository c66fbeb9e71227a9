"""The words of a command, as iproute2 reads them: parsed by hand into plain values.

Nothing here prints, loads or asks the kernel; every mistake is a UsageError.
"""
