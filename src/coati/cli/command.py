"""Commands: their flags, what they are given, and how they end.

Knows streams, questions and exit codes; must not know servers (`online` does) and imports no event loop, so that what
needs none starts at once. A command runs in a process of its own or inside the shell, which gives it other streams, a
current path and its own session.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, BinaryIO, Final, TextIO

from coati.cli.exits import BROKEN_PIPE, BUG, DONE, INTERRUPTED, REFUSED, USAGE, CommandError, code_of
from coati.cli.output import FORMS, Output
from coati.cli.standard import forget_stdout, keep_standard_files
from coati.cli.table import summary_of
from coati.errors import ZKError

# How many lines of a preview are shown before the question.
PREVIEW_LINES: Final = 20


class Streams:
    """Where a command reads and writes. `is_terminal`: a person sees stdout; `is_asked`: a person can answer."""

    __slots__ = ("is_asked", "is_terminal", "stderr", "stdin", "stdout")

    def __init__(
        self, stdin: BinaryIO, stdout: BinaryIO, stderr: TextIO, *, is_terminal: bool = False, is_asked: bool = False
    ) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.is_terminal = is_terminal
        self.is_asked = is_asked

    @classmethod
    def standard(cls) -> Streams:
        """Those of the process."""
        return cls(
            sys.stdin.buffer, sys.stdout.buffer, sys.stderr,
            is_terminal=sys.stdout.isatty(), is_asked=sys.stdin.isatty() and sys.stderr.isatty(),
        )  # fmt: skip


class Call:
    """One run of a command: its options, and what it says with."""

    __slots__ = ("cwd", "environ", "name", "options", "out", "streams")

    def __init__(
        self, name: str, options: Any, streams: Streams, environ: dict[str, str] | None = None, cwd: str = "/"
    ) -> None:
        self.name = name
        self.options = options
        self.streams = streams
        self.environ = dict(os.environ) if environ is None else environ
        self.cwd = cwd
        self.out = Output(streams.stdout, getattr(options, "output", "auto"), is_terminal=streams.is_terminal)

    def path(self, given: str) -> str:
        """A znode's absolute path: what the user typed, from where the shell stands; `..` goes up."""
        parts: list[str] = []
        for part in (given if given.startswith("/") else f"{self.cwd}/{given}").split("/"):
            if part == "..":
                del parts[-1:]
            elif part not in ("", "."):
                parts.append(part)
        return "/" + "/".join(parts)

    def note(self, text: str) -> None:
        """What a person wants to know and a program does not: on stderr, unless -q."""
        if not self.options.quiet:
            print(f"coati {self.name}: {text}", file=self.streams.stderr, flush=True)

    def progress(self, text: str) -> None:
        """How far long work is: one line that the next one replaces, only where a person looks."""
        if self.streams.is_asked and not self.options.quiet:
            print(f"\r\x1b[K{text}", end="", file=self.streams.stderr, flush=True)

    def progress_ends(self) -> None:
        """The line goes."""
        self.progress("")

    def confirm(self, preview: Iterable[str], question: str) -> None:
        """Shows what would happen and goes on only if it is wanted, by `--yes` or by a person; else CommandError."""
        if self.options.yes:
            return
        lines = list(preview)
        for line in lines[:PREVIEW_LINES]:
            print(line, file=self.streams.stderr)
        if len(lines) > PREVIEW_LINES:
            print(f"... and {len(lines) - PREVIEW_LINES} more", file=self.streams.stderr)
        if not self.streams.is_asked:
            raise CommandError(f"{question} Nobody can answer here; say --yes if that is wanted.", REFUSED)
        print(f"{question} [y/N] ", end="", file=self.streams.stderr, flush=True)
        if self.streams.stdin.readline().strip().lower() not in (b"y", b"yes"):
            raise CommandError("nothing was done", REFUSED)

    def given(self, text: str) -> bytes:
        """Data as it is named on a command line: itself, `-` for stdin, `@file` for a file. Raises CommandError."""
        if text == "-":
            return self.streams.stdin.read()
        if not text.startswith("@"):
            return os.fsencode(text)
        try:
            with open(text[1:], "rb") as file:
                return file.read()
        except OSError as error:
            raise CommandError(f"{text[1:]} cannot be read: {error.strerror}", USAGE) from None


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """As wide as the terminal; argparse would import shutil, and compressors with it, for each command to know that."""

    def __init__(self, prog: str) -> None:
        try:
            columns = int(os.environ.get("COLUMNS", "")) or os.get_terminal_size(1).columns
        except (ValueError, OSError):
            columns = 0
        super().__init__(prog, width=(columns or 80) - 2)


Flags = Callable[[argparse.ArgumentParser], None]
Body = Callable[[Call], int | None]


class Parser(argparse.ArgumentParser):
    """Flags may stand between arguments and behind them: `find /a --older 1h '*.tmp'`.

    A command with `set_defaults(child=[])` gets there what stands behind `--`, as it is.
    """

    def parse_args(  # type: ignore[override]  # one signature for all of its overloads
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        given = list(sys.argv[1:] if args is None else args)
        child: list[str] | None = None
        if self.get_default("child") is not None and "--" in given:
            at = given.index("--")
            given, child = given[:at], given[at + 1 :]
        options = None
        if "--" not in given:
            # With it, the usual way: what is behind it are arguments, whatever they look like.
            with suppress(TypeError):
                # Not for commands of commands: their flags belong where they are.
                options = self.parse_intermixed_args(given, namespace)
        if options is None:
            options = super().parse_args(given, namespace)
        if child is not None:
            options.child = child
        return options


class Command:
    """One command: its name in the table, its flags, and what it does. The body's value is the exit code; None is 0.

    `examples` are lines for the help. Called with arguments it runs as a process would: see `run`.
    """

    __slots__ = ("body", "examples", "flags", "name")

    def __init__(self, name: str, flags: Flags, body: Body, examples: str = "") -> None:
        self.name = name
        self.flags = flags
        self.body = body
        self.examples = examples

    def __call__(self, argv: Sequence[str]) -> int:
        keep_standard_files()
        return self.run(argv, Streams.standard())

    def parser(self) -> argparse.ArgumentParser:
        """All its flags, with those that every command has; a letter of its own goes before one of theirs."""
        summary = summary_of(self.name)
        parser = Parser(
            prog=f"coati {self.name}",
            description=f"{summary[:1].upper()}{summary[1:]}.",
            epilog=f"examples:\n{self.examples.strip(chr(10))}" if self.examples else None,
            formatter_class=HelpFormatter,
            allow_abbrev=False,
            conflict_handler="resolve",
        )
        common = parser.add_argument_group("in every command")
        common.add_argument("-o", "--output", choices=FORMS, default="auto", help="form of the output")
        common.add_argument("-q", "--quiet", action="store_true", help="data and errors only")
        common.add_argument("-v", "--verbose", action="store_true", help="errors with their traceback")
        self.more_flags(parser)
        self.flags(parser)
        return parser

    def more_flags(self, parser: argparse.ArgumentParser) -> None:
        """Flags of a kind of commands."""

    def call(self, options: argparse.Namespace, streams: Streams) -> Call:
        """What the body is given."""
        return Call(self.name, options, streams)

    def run(self, argv: Sequence[str], streams: Streams) -> int:
        """Runs it to the end; the exit code. Raises nothing. argparse says by SystemExit what the flags have wrong."""
        call = self.call(self.parser().parse_args(argv), streams)
        return guarded(call, lambda: self.perform(call))

    def perform(self, call: Call) -> int | None:
        return self.body(call)


def guarded(call: Call, work: Callable[[], int | None]) -> int:
    """The exit code of `work`; what it raises is told on stderr."""
    try:
        code = work()
        call.out.flush()
    except BrokenPipeError:
        forget_stdout()
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        return failed(call, error)
    return DONE if code is None else code


def failed(call: Call, error: Exception) -> int:
    """Says what a command ended with; what none should end with has its traceback. The exit code."""
    if isinstance(error, CommandError | ZKError | OSError):
        return told(call, error)
    _print_traceback(call, error)
    print(f"coati {call.name}: this is a bug, please report it: {error!r}", file=call.streams.stderr)
    return BUG


def told(call: Call, error: BaseException) -> int:
    """Says on stderr what went wrong; the exit code."""
    if call.options.verbose:
        _print_traceback(call, error)
    lines = "; ".join(str(error).splitlines()) or type(error).__name__
    print(f"coati {call.name}: {lines}", file=call.streams.stderr)
    return code_of(error)


def _print_traceback(call: Call, error: BaseException) -> None:
    # Seldom, and it takes as long to load as all else here.
    import traceback

    traceback.print_exception(error, file=call.streams.stderr)
