"""The verbs of bpfctl as functions: what each command of the command line does, for Python.

``hooks``, ``routes`` and ``actions`` load and attach together, all or nothing; ``loading`` and ``pinning``
stop at the bpffs; ``sources`` is what they share.  A program is named by an ``ObjectSource`` (load it from
an object file) or a ``Reference`` (one that is loaded).  ``import bpfctl`` offers the names.
"""
