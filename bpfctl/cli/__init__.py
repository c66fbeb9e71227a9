"""The command line: words in, verbs called, records out.  Never imports ``kernel``."""
