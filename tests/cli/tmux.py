"""A terminal for tests: tmux on a socket of its own, in which a program runs as in front of a person."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from tests.interop import peers

COLUMNS, LINES = 100, 30
DEADLINE_S = 20.0
_numbers = itertools.count()


class Terminal:
    """One pane; what is on it is asked for until it is what it should be, or time is up."""

    def __init__(self, socket: str) -> None:
        self._socket = socket

    def tmux(self, *argv: str, stdin: str | None = None) -> str:
        """Its output. Raises CalledProcessError."""
        done = subprocess.run(
            ["tmux", "-L", self._socket, "-f", os.devnull, *argv],
            input=stdin, capture_output=True, text=True, check=True, timeout=DEADLINE_S,
        )  # fmt: skip
        return done.stdout

    def keys(self, *keys: str) -> None:
        """By tmux's names: Enter, Tab, Up, C-r."""
        self.tmux("send-keys", "-t", "test", *keys)

    def type(self, text: str) -> None:
        """As it is."""
        self.tmux("send-keys", "-t", "test", "-l", text)

    def paste(self, text: str) -> None:
        """Several lines at once, as terminals do it for programs that ask for bracketed paste."""
        self.tmux("load-buffer", "-", stdin=text)
        self.tmux("paste-buffer", "-p", "-t", "test")

    def screen(self) -> list[str]:
        """The lines that are not empty, from the top of what has scrolled by."""
        text = self.tmux("capture-pane", "-p", "-J", "-S", "-1000", "-t", "test")
        return [line.rstrip() for line in text.splitlines() if line.strip()]

    def until(self, holds: Callable[[list[str]], object], what: str) -> list[str]:
        """The screen when it is so."""
        seen: list[list[str]] = [[]]

        def looks() -> object:
            seen[0] = self.screen()
            return holds(seen[0])

        try:
            peers.eventually(looks, what, DEADLINE_S)
        except AssertionError:
            raise AssertionError(f"{what} never came; the screen:\n" + "\n".join(seen[0])) from None
        return seen[0]


@contextmanager
def terminal(command: str, environ: Mapping[str, str]) -> Iterator[Terminal]:
    """`command` runs in it, by sh."""
    if shutil.which("tmux") is None:
        peers.missing("tmux is not installed")
    pane = Terminal(f"coati-test-{os.getpid()}-{next(_numbers)}")
    variables = [part for name, value in environ.items() for part in ("-e", f"{name}={value}")]
    pane.tmux("new-session", "-d", "-s", "test", "-x", str(COLUMNS), "-y", str(LINES), *variables, command)
    try:
        yield pane
    finally:
        pane.tmux("kill-server")
