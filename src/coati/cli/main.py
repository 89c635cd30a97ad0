"""`coati COMMAND ...`: finds the command and hands the arguments over.

Knows the table of commands; imports none before it is needed, so that each starts as fast as it can.
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Final, cast

from coati import __version__
from coati.cli.table import GROUPS, HIDDEN, commands

USAGE_ERROR: Final = 2
# Flags of most commands, which may stand before the command too.
WITH_VALUE: Final = frozenset(
    ("-s", "--server", "--context", "-o", "--output", "--timeout", "--auth", "--tls-ca", "--tls-cert", "--tls-key")
)
ALONE: Final = frozenset(("-q", "--quiet", "-v", "--verbose", "--read-only"))
# Behind a command the letter may be one of its own, as in `create -s`; before it, it is this.
LONG: Final = {"-s": "--server", "-o": "--output", "-q": "--quiet", "-v": "--verbose"}


def main(argv: list[str] | None = None) -> int:
    """Runs one command; the process's exit code."""
    leading, arguments = split(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else ""
    if name in ("-h", "--help", "help"):
        if len(arguments) > 1:
            return main([*arguments[1:], "--help"])
        print(_usage())
        return 0
    if name in ("-V", "--version", "version"):
        print(f"coati {__version__}")
        return 0
    if name not in commands() and name not in HIDDEN:
        wrong = f"coati: there is no command {name!r}{_meant(name)}\n" if name else ""
        print(f"{wrong}{_usage()}", file=sys.stderr)
        return USAGE_ERROR
    return find(name)([*leading, *arguments[1:]])


def process() -> int:
    """The console script: `main`, and an end that takes no time."""
    code = main()
    # What is left is given back by the system. The interpreter would look for cycles in all of it, several times, for
    # a fifth of the time that a short command takes.
    gc.freeze()
    return code


def _meant(name: str) -> str:
    """The command that is nearly called so."""
    import difflib

    near = difflib.get_close_matches(name, commands(), 1)
    return f"; is it {near[0]!r} you mean?" if near else ""


def find(name: str) -> Callable[[Sequence[str]], int]:
    """What runs a command of the table."""
    module, _, attribute = (HIDDEN | commands())[name].home.partition(":")
    return cast("Callable[[Sequence[str]], int]", getattr(importlib.import_module(module), attribute))


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The flags before the command, by their long names, and the rest: `--server h:2181 --output json` `ls /`."""
    leading: list[str] = []
    at = 0
    while at < len(argv):
        flag, equals, value = argv[at].partition("=")
        if flag in ALONE or (flag in WITH_VALUE and value):
            leading.append(LONG.get(flag, flag) + equals + value)
            at += 1
        elif flag in WITH_VALUE and at + 1 < len(argv):
            leading += (LONG.get(flag, flag), argv[at + 1])
            at += 2
        else:
            break
    return leading, list(argv[at:])


def _usage() -> str:
    width = max(map(len, commands()))
    lines = ["usage: coati [-s HOSTS] [-o FORM] COMMAND [--help] ..."]
    for group, entries in GROUPS.items():
        if entries:
            lines += ["", f"{group}:", *(f"  {name:<{width}}  {entry.summary}" for name, entry in entries.items())]
    return "\n".join([*lines, "", "coati COMMAND --help shows flags and examples."])
