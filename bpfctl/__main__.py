"""``python -m bpfctl``."""

from bpfctl.cli.main import main

main()
