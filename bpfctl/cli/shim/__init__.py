"""bpfctl under the names ``ip`` and ``tc``: it does what concerns BPF, the real tool does the rest.

handover   which command lines are passed on, and how: imports next to nothing
lines      the command lines that are ours, with iproute2's grammar and exit status
mixed      batches of lines of both kinds
peer       the real tool, fed with its lines of a batch
"""
