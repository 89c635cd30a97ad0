"""`coati COMMAND ...`: finds the command's module and hands the arguments over.

Knows the names of the commands; imports none before it is needed, so that each starts as fast as it can.
"""

from __future__ import annotations

import importlib
import sys
from typing import Final

from coati import __version__

USAGE_ERROR: Final = 2

# Name, module with `main(argv) -> int`, and one line of help.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "serve": ("coati.cli.serve", "run a standalone server"),
    "bench": ("coati.cli.bench", "measure a server"),
}


def main(argv: list[str] | None = None) -> int:
    """Runs one command; the process's exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    name = arguments[0] if arguments else ""
    if name in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if name in ("-V", "--version", "version"):
        print(f"coati {__version__}")
        return 0
    command = COMMANDS.get(name)
    if command is None:
        wrong = f"coati: there is no command {name!r}\n" if name else ""
        print(f"{wrong}{_usage()}", file=sys.stderr)
        return USAGE_ERROR
    code: int = importlib.import_module(command[0]).main(arguments[1:])
    return code


def _usage() -> str:
    lines = [f"  {name:8} {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(["usage: coati COMMAND [--help] ...", "", "commands:", *lines])
