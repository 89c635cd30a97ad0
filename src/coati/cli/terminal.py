"""The shell in front of a person: a line that can be edited, a history, completion, and lines above the prompt.

The only module that needs prompt_toolkit.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from coati.cli.exits import USAGE, CommandError
from coati.cli.offers import Offers
from coati.cli.online import OnlineCall
from coati.cli.places import history_path
from coati.cli.shell import Shell, is_secret

try:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document
    from prompt_toolkit.history import History
    from prompt_toolkit.patch_stdout import patch_stdout
except ImportError:
    raise CommandError("the shell for a terminal needs prompt_toolkit: pip install 'coati[cli]'", USAGE) from None

LINES_KEPT: Final = 10_000
"""Of the history; when there are twice as many in the file, the oldest go."""


class FileHistory(History):
    """A line of the file each; without what may be secret."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def load_history_strings(self) -> Iterable[str]:
        """The newest first."""
        return reversed(self._read()[-LINES_KEPT:])

    def append_string(self, string: str) -> None:
        """What is secret is not even kept in memory; a page that was pasted is many lines."""
        for line in string.splitlines():
            if line.strip() and not is_secret(line):
                super().append_string(line)

    def store_string(self, string: str) -> None:
        """A file that cannot be written is no reason to stop."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a") as file:
                file.write(f"{string}\n")
        except OSError:
            return

    def trim(self) -> None:
        """Once in a while the oldest go."""
        lines = self._read()
        if len(lines) > 2 * LINES_KEPT:
            scratch = self._path.with_suffix(".new")
            with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.writelines(f"{line}\n" for line in lines[-LINES_KEPT:])
            scratch.replace(self._path)

    def _read(self) -> list[str]:
        try:
            return self._path.read_text(errors="replace").splitlines()
        except OSError:
            return []


class Menu(Completer):
    """Offers, as prompt_toolkit wants them."""

    def __init__(self, offers: Offers) -> None:
        self._offers = offers

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Listings are asked for, so there is nothing at once."""
        return ()

    async def get_completions_async(
        self, document: Document, complete_event: CompleteEvent
    ) -> AsyncGenerator[Completion, None]:
        """For the word before the cursor."""
        text = document.text_before_cursor
        for one in await self._offers.at(text):
            yield Completion(one.text, start_position=one.at - len(text), display=one.shown)


class Screen:
    """The Front: lines go above the prompt, which patch_stdout draws again below them."""

    def __init__(self) -> None:
        self.on_refresh: Callable[[], None] = lambda: None

    def say(self, line: str) -> None:
        """See Front."""
        print(line, flush=True)

    def note(self, line: str) -> None:
        """See Front."""
        print(f"* {line}", flush=True)

    def refresh(self) -> None:
        """See Front."""
        self.on_refresh()

    @contextmanager
    def interrupts(self, cancel: Callable[[], object]) -> Iterator[None]:
        """See Front."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, cancel)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGINT)


async def interact(call: OnlineCall, *, is_java: bool) -> int:
    """Until the person leaves; the exit code of the last line."""
    screen = Screen()
    shell = Shell(call, screen, is_java=is_java)
    history = FileHistory(Path(history_path(call.environ)))
    history.trim()
    session: PromptSession[str] = PromptSession(
        history=history, completer=Menu(shell.offers), complete_while_typing=False, search_ignore_case=True
    )
    screen.on_refresh = session.app.invalidate
    await shell.connect()
    try:
        with patch_stdout(raw=True):
            while not shell.is_over:
                try:
                    text = await session.prompt_async(lambda: shell.prompt)
                except KeyboardInterrupt:
                    continue
                except EOFError:
                    break
                await _run(shell, text, call.streams.stdout)
    finally:
        await shell.close()
    return shell.code


async def _run(shell: Shell, text: str, stdout: BinaryIO) -> None:
    """A page that was pasted runs line by line, each below its prompt."""
    lines = [line for line in text.splitlines() if line.strip()]
    for line in lines:
        if len(lines) > 1:
            # Not through patch_stdout, which is behind what commands write.
            stdout.write(f"{shell.prompt}{line}\n".encode())
            stdout.flush()
        await shell.run(line)
        if shell.is_over:
            return
