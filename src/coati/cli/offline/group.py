"""Commands that have commands: `coati log ls DIR`. Each has its own flags and its own help."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from coati.cli.command import Body, Call, Command, Flags, Streams
from coati.cli.output import FORMS


class Sub(NamedTuple):
    """One of them. `flags` also adds what it takes."""

    name: str
    summary: str
    flags: Flags
    body: Body
    examples: str = ""


def add_common(parser: argparse.ArgumentParser) -> None:
    """What every command has, behind the inner command's name too. The outer parser has the defaults."""
    common = parser.add_argument_group("in every command")
    common.add_argument(
        "-o", "--output", choices=FORMS, default=argparse.SUPPRESS, help="form of the output"
    )  # fmt: skip
    common.add_argument("-q", "--quiet", action="store_true", default=argparse.SUPPRESS, help="data and errors only")
    common.add_argument(
        "-v", "--verbose", action="store_true", default=argparse.SUPPRESS, help="errors with their traceback"
    )


@dataclass(frozen=True, slots=True)
class Group:
    """Makes the Command of a group out of its commands."""

    name: str
    subs: Sequence[Sub]

    def command(self, examples: str) -> Command:
        """What stands in the table of commands."""
        return GroupCommand(self.name, self._flags, _run, examples)

    def _flags(self, parser: argparse.ArgumentParser) -> None:
        inner = parser.add_subparsers(metavar="COMMAND", required=True, dest="sub")
        for sub in self.subs:
            add_sub(inner, sub, f"coati {self.name} {sub.name}")


def add_sub(inner: argparse._SubParsersAction[argparse.ArgumentParser], sub: Sub, prog: str) -> None:
    """One command as a parser of its own."""
    own = inner.add_parser(
        sub.name,
        prog=prog,
        help=sub.summary,
        description=f"{sub.summary[:1].upper()}{sub.summary[1:]}.",
        epilog=f"examples:\n{sub.examples}" if sub.examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    sub.flags(own)
    add_common(own)
    own.set_defaults(body=sub.body)


def _run(call: Call) -> int | None:
    body: Callable[[Call], int | None] = call.options.body
    return body(call)


class GroupCommand(Command):
    """`--` may stand before an inner command; argparse would take it for that command's name."""

    __slots__ = ()

    def run(self, argv: Sequence[str], streams: Streams) -> int:
        given = list(argv)
        if "--" in given:
            given.remove("--")
        return super().run(given, streams)
