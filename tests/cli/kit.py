"""Commands run in this process as in one of their own: bytes in, bytes out, an exit code."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass

from coati.cli.command import Command, Streams
from coati.cli.main import find, split


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


Cli = Callable[..., Done]


def run(
    *argv: str,
    stdin: bytes = b"",
    stdout: io.BytesIO | None = None,
    is_terminal: bool = False,
    is_asked: bool = False,
    merged: bool = False,
) -> Done:
    """`coati ARGV...`, with a person in front of it or without.

    `stdout`: one that sees what is written. `merged`: stderr goes into stdout, in order.
    """
    leading, (name, *rest) = split(argv)
    command = find(name)
    assert isinstance(command, Command), f"{name} runs in a process of its own only"
    out = io.BytesIO() if stdout is None else stdout
    err = io.TextIOWrapper(out, write_through=True) if merged else io.StringIO()
    streams = Streams(io.BytesIO(stdin), out, err, is_terminal=is_terminal, is_asked=is_asked)
    shown = io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(shown):
        try:
            code = command.run([*leading, *rest], streams)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else -1
    return Done(
        code, out.getvalue() + shown.getvalue().encode(), err.getvalue() if isinstance(err, io.StringIO) else ""
    )
