"""What maps cost on this machine: generated programs, timed in the kernel, and the figures made of them."""
