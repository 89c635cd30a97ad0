"""The command line: one console script, each command imported only when it is asked for."""
