"""The process's files 0, 1 and 2. Imports nothing that takes time: a server starts with it too."""

from __future__ import annotations

import os
import sys


def keep_standard_files() -> None:
    """Puts /dev/null where the parent closed 0, 1 or 2.

    They would be the next files that are opened, perhaps the log, and a library that complains would write into it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # The interpreter found it closed when it started.
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def forget_stdout() -> None:
    """Whoever read it has gone; the interpreter would complain about that at its end."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
