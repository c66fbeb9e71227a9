"""The running system: bpf(2), rtnetlink, bpffs and namespaces.  Knows nothing of ELF.

Every call into the kernel passes :data:`bpfctl.kernel.syscall.system`, so that tests can stand in
its place.  Failures are plain ``OSError`` with the kernel's errno and, for netlink, the kernel's own
extended-ACK text; the verbs above turn them into ``BpfctlError``.
"""
