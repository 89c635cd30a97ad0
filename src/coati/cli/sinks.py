"""Where a command's output goes when it is not the terminal: to another program, or line by line to whoever shows it.

Must not know commands. Nothing waits here: the session's loop must not, for a person who reads in a pager.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from typing import Any


class Pipe(io.BytesIO):
    """To a program's stdin. What it has not read yet is kept in memory; it may be written from any thread."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        super().__init__()
        self._writer = writer
        self._loop = asyncio.get_running_loop()

    def write(self, data: Any, /) -> int:
        """Raises BrokenPipeError when the program reads no more."""
        if self._writer.is_closing():
            raise BrokenPipeError
        self._loop.call_soon_threadsafe(self._writer.write, bytes(data))
        return len(data)

    def finish(self) -> None:
        """The program comes to the end of its input."""
        self._loop.call_soon_threadsafe(self._writer.close)


class Lines(io.BytesIO):
    """Each whole line to `say`."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say
        self._begun = b""

    def write(self, data: Any, /) -> int:
        """What has no line feed yet waits for it."""
        *lines, self._begun = (self._begun + bytes(data)).split(b"\n")
        for line in lines:
            self._say(line.decode("utf-8", "backslashreplace"))
        return len(data)


class Texts(io.StringIO):
    """As Lines, for text; lines come in one piece or are put together."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._lines = Lines(say)

    def write(self, text: str, /) -> int:
        """What has no line feed yet waits for it."""
        self._lines.write(text.encode("utf-8", "backslashreplace"))
        return len(text)
