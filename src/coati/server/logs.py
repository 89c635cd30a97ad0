"""Logging: one line an event, `key=value`; repeats are counted instead of shown.

Knows the standard library's logging and nothing of ours. Every module logs with
`logging.getLogger("coati.<room>").info("opened file=%s bytes=%d", name, size)`: words first, then pairs.
Invariants: a record is one line whatever a client or a disk put into it; a broken pipe never stops the server.
"""

from __future__ import annotations

import logging
import time
from typing import Final, TextIO

# A message (its template, not its values) may come this often in one window; the rest is counted.
REPEATS_PER_WINDOW: Final = 5
WINDOW_S: Final = 10.0
MAX_TEMPLATES: Final = 1000
MAX_LINE_CHARS: Final = 2000

_NAMES: Final = {logging.WARNING: "warn", logging.CRITICAL: "fatal"}
LEVELS: Final = ("debug", "info", "warning", "error")


def escape(text: str) -> str:
    """One line, of bounded length: control characters and all beyond ASCII become backslash escapes."""
    if not (text.isascii() and text.isprintable()):
        text = "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode("ascii") for c in text)
    return text if len(text) <= MAX_LINE_CHARS else text[:MAX_LINE_CHARS] + "..."


class LineFormatter(logging.Formatter):
    """`2026-11-21T03:02:14.123Z info coati.server serving port=2181`, an exception's traceback behind a bar."""

    def format(self, record: logging.LogRecord) -> str:
        at = time.gmtime(record.created)
        stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', at)}.{int(record.msecs):03}Z"
        level = _NAMES.get(record.levelno, record.levelname.lower())
        text = record.getMessage()
        repeated = getattr(record, "repeated", 0)
        if repeated:
            text += f" repeated={repeated}"
        if record.exc_info:
            text += " traceback: " + self.formatException(record.exc_info).replace("\n", " | ")
        return f"{stamp} {level} {record.name} {escape(text)}"


class RepeatFilter(logging.Filter):
    """Lets a template through a few times a window; the next one after the window says how many were left out."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, list[float]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.CRITICAL:
            return True
        now = record.created
        key = f"{record.name} {record.msg}"
        seen = self._seen.get(key)
        if seen is None or abs(now - seen[0]) >= WINDOW_S:
            left_out = int(seen[1]) - REPEATS_PER_WINDOW if seen is not None else 0
            if len(self._seen) >= MAX_TEMPLATES:
                self._seen.clear()
            self._seen[key] = [now, 1]
            if left_out > 0:
                record.repeated = left_out
            return True
        seen[1] += 1
        return seen[1] <= REPEATS_PER_WINDOW


class SafeHandler(logging.StreamHandler[TextIO]):
    """Writes to a stream; one that is closed or full loses lines, never the server."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing can be said about a failed log line."""


def set_up(stream: TextIO, level: str = "info") -> None:
    """Sends the tree `coati.*` and asyncio's warnings to the stream."""
    handler = SafeHandler(stream)
    handler.setFormatter(LineFormatter())
    handler.addFilter(RepeatFilter())
    root = logging.getLogger("coati")
    root.setLevel(level.upper())
    root.handlers[:] = [handler]
    root.propagate = False
    other = logging.getLogger("asyncio")
    other.setLevel(logging.WARNING)
    other.handlers[:] = [handler]
    other.propagate = False
