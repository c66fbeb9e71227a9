"""BTF, the kernel's type format: read, walk, make loadable.  No ELF and no kernel in here."""
