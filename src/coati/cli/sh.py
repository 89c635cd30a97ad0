"""`coati sh`: the command. In front of a person it is `terminal`'s; else lines run one after the other, here.

Knows where lines come from and when a script stops; what they mean is `shell`'s.
"""

from __future__ import annotations

import argparse
import asyncio
import io
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from coati.cli.command import Streams
from coati.cli.exits import DONE
from coati.cli.online import OnlineCall, OnlineCommand
from coati.cli.shell import Shell, shown_line


class Script:
    """The Front where nobody looks: events go to stdout as Java prints them, the rest to stderr."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    def say(self, line: str) -> None:
        """See Front."""
        told = f"\nWATCHER::\n\n{line}\n" if line.startswith("WatchedEvent ") else f"{line}\n"
        self._streams.stdout.write(told.encode())
        self._streams.stdout.flush()

    def note(self, line: str) -> None:
        """See Front."""
        print(f"coati sh: {line}", file=self._streams.stderr, flush=True)

    def refresh(self) -> None:
        """See Front."""

    def interrupts(self, cancel: Callable[[], object]) -> AbstractContextManager[object]:
        """Ctrl-C ends the script."""
        return nullcontext(cancel)


async def run_script(shell: Shell, lines: AsyncIterator[str], *, keeps_going: bool) -> int:
    """Line by line; the first exit code that is not 0, at which it stops unless it `keeps_going`."""
    first = DONE
    number = 0
    async for line in lines:
        number += 1
        code = await shell.run(line)
        first = first or code
        if code != DONE and not keeps_going:
            shell.front.note(f"stopped at line {number}: {shown_line(line.strip())}")
        if shell.is_over or (code != DONE and not keeps_going):
            break
    return first


async def _stdin_lines(streams: Streams) -> AsyncIterator[str]:
    """As they come; the session lives on while none does."""
    while line := await asyncio.to_thread(streams.stdin.readline):
        yield line.decode("utf-8", "surrogateescape")


async def _given_lines(lines: Sequence[str]) -> AsyncIterator[str]:
    for line in lines:
        yield line


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", metavar="FILE", help="run its lines; - and a pipe: those of stdin")
    parser.add_argument("-c", "--command", action="append", metavar="LINE", help="run this line; may be repeated")
    parser.add_argument("-k", "--keep-going", action="store_true", help="do not stop at the first line that fails")
    parser.add_argument(
        "--java", action="store_true", help="ls, get, create ... as in the Java shell, also where coati has its own"
    )


async def _sh(call: OnlineCall) -> int:
    options, streams = call.options, call.streams
    if options.command is None and options.file is None and streams.is_terminal and streams.is_asked:
        from coati.cli.terminal import interact  # needs prompt_toolkit, which a script does not

        return await interact(call, is_java=options.java)
    if options.command is not None:
        lines = _given_lines(options.command)
    elif options.file not in (None, "-"):
        lines = _given_lines(call.given(f"@{options.file}").decode("utf-8", "surrogateescape").splitlines())
    else:
        # Commands must not eat the lines behind them.
        lines = _stdin_lines(streams)
        call.streams = Streams(io.BytesIO(), streams.stdout, streams.stderr, is_terminal=streams.is_terminal)
    shell = Shell(call, Script(call.streams), is_java=options.java)
    await shell.connect()
    try:
        return await run_script(shell, lines, keeps_going=options.keep_going)
    finally:
        await shell.close()


SH = OnlineCommand(
    "sh", _flags, _sh,
    "  coati sh\n  coati sh -c 'cd /conf' -c 'ls'\n  coati sh runbook.txt --keep-going\n  coati sh --java < zkcli.txt",
)  # fmt: skip
