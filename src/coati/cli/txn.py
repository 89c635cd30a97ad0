"""txn: several changes in one transaction, each a line in the grammar of the commands.

A line is split as a shell does it; empty lines and those that begin with `#` count for nothing.
"""

from __future__ import annotations

import argparse
import base64
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

from coati.cli.change import create_flags, create_op, in_session, version_flag
from coati.cli.exits import USAGE, CommandError, code_of
from coati.cli.online import OnlineCall, OnlineCommand
from coati.client.client import BaseClient
from coati.client.ops import Check, Create, Delete, MultiError, Op, Set, create_body
from coati.client.types import OPEN, Node

GRAMMAR: Final = """
grammar, one operation a line, quoted as in a shell:
  check  PATH [--version N]               the znode is there, with this version
  create [-e] [-s] [-c] [--ttl S] [--acl ACL] [--b64] PATH [DATA]
  set    PATH DATA [--version N] [--b64]
  delete PATH [--version N]               rm is the same
  # a comment
DATA is itself, @FILE or, with --b64, base64; behind -- it may begin with a dash. All is done, or nothing.
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One operation and where it stands."""

    number: int
    text: str
    op: Op


class LineParser(argparse.ArgumentParser):
    """Says what is wrong as an error of the command."""

    def __init__(self, name: str, flags: Callable[[argparse.ArgumentParser], None]) -> None:
        super().__init__(prog=name, add_help=False, allow_abbrev=False)
        flags(self)

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{self.prog}: {message}", USAGE)


def _path_and_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH")
    version_flag(parser)


def _b64_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--b64", action="store_true")


def _create_flags(parser: argparse.ArgumentParser) -> None:
    create_flags(parser)
    _b64_flag(parser)


def _with_data(parser: argparse.ArgumentParser) -> None:
    _b64_flag(parser)
    parser.add_argument("path", metavar="PATH")
    parser.add_argument("data", metavar="DATA")
    version_flag(parser)


_FLAGS: Final[dict[str, Callable[[argparse.ArgumentParser], None]]] = {
    "check": _path_and_version,
    "create": _create_flags,
    "set": _with_data,
    "delete": _path_and_version,
    "rm": _path_and_version,
}


def read_lines(call: OnlineCall, text: str) -> list[Line]:
    """The operations of a file. Raises CommandError, which says in which line what is wrong."""
    lines: list[Line] = []
    for number, line in enumerate(text.split("\n"), 1):
        told = line.strip()
        if not told or told.startswith("#"):
            continue
        try:
            lines.append(Line(number, told, _op(call, shlex.split(told))))
        except (CommandError, ValueError) as error:
            raise CommandError(f"line {number}: {error}", USAGE) from None
    return lines


def _op(call: OnlineCall, words: list[str]) -> Op:
    name = words[0]
    if name not in _FLAGS:
        raise CommandError(f"there is no operation {name!r}; there are {', '.join(_FLAGS)}", USAGE)
    options = LineParser(name, _FLAGS[name]).parse_args(words[1:])
    path = call.path(options.path)
    if name == "check":
        return Check(path, options.version)
    if name in ("delete", "rm"):
        return Delete(path, options.version)
    if options.data == "-":
        raise CommandError("data comes from no stdin here; @FILE reads a file", USAGE)
    data = base64.b64decode(options.data, validate=True) if options.b64 else call.given(options.data)
    if name == "set":
        return Set(path, data, options.version)
    op = create_op(options, path, data)
    # Says now what is wrong with a TTL.
    create_body(b"", op, OPEN)
    return op


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="with operations; - for stdin")


async def _txn(call: OnlineCall) -> int:
    name = call.options.file
    try:
        lines = read_lines(call, call.given(name if name == "-" else f"@{name}").decode())
    except UnicodeDecodeError:
        raise CommandError(f"{name} is not UTF-8 text; @FILE takes any data", USAGE) from None
    if not lines:
        raise CommandError("there is no operation to do", USAGE)
    is_held = any(isinstance(line.op, Create) and line.op.mode.is_ephemeral for line in lines)
    return await in_session(call, lambda zk: _commit(call, zk, lines), is_held=is_held)


async def _commit(call: OnlineCall, zk: BaseClient, lines: list[Line]) -> None:
    try:
        results = await zk.multi(line.op for line in lines)
    except MultiError as error:
        fault, line = error.results[error.index], lines[error.index]
        text = f"line {line.number}: {line.text}: {fault.what() if fault else error}; nothing was done"
        raise CommandError(text, code_of(error)) from None
    with call.out.table("op", "path", "version") as table:
        for line, result in zip(lines, results, strict=True):
            path = result.path if isinstance(result, Node) else line.op.path
            stat = result.stat if isinstance(result, Node) else result
            table.row(type(line.op).__name__.lower(), path, None if stat is None else stat.version)
    call.out.flush()


TXN = OnlineCommand(
    "txn", _flags, _txn,
    """  coati txn move.txn
  printf 'check /lock --version 0\\nset /conf "new value"\\n' | coati txn -
"""
    + GRAMMAR,
)  # fmt: skip
