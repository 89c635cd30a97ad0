"""Zxids, sessions and times as people write and read them. Times are UTC, with milliseconds."""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime
from typing import Final, NamedTuple

from coati.errors import ConfigError

_HEX: Final = re.compile(r"0[xX][0-9a-fA-F]{1,16}")
# A decimal number from here on is a time in ms: this one was in 2001.
_FIRST_MS: Final = 10**12
_MAX_ZXID: Final = (1 << 63) - 1
_MASK64: Final = (1 << 64) - 1


class Moment(NamedTuple):
    """A place in the history: by zxid, or by time; the other is None."""

    zxid: int | None
    time_ms: int | None

    def __str__(self) -> str:
        return f"zxid {self.zxid:#x}" if self.zxid is not None else time_text(self.time_ms or 0)


def parse_moment(text: str) -> Moment:
    """`0x1200000005`, a time in ms, or ISO 8601, which is UTC unless it says otherwise. Raises ConfigError."""
    if _HEX.fullmatch(text) or (text.isdecimal() and int(text) < _FIRST_MS):
        return Moment(parse_zxid(text), None)
    if text.isdecimal() and len(text) < 19:
        return Moment(None, int(text))
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{text!r} is neither a zxid (0x1200000005) nor a time (2026-11-21T22:15:00Z, or ms since 1970)"
        ) from None
    return Moment(None, round((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000))


def parse_zxid(text: str) -> int:
    """A zxid, hexadecimal with 0x, else decimal. Raises ConfigError."""
    if _HEX.fullmatch(text) or (text.isdecimal() and len(text) < 20):
        zxid = int(text, 0 if "x" in text.lower() else 10)
        if zxid <= _MAX_ZXID:
            return zxid
    raise ConfigError(f"{text!r} is no zxid; they are written 0x1200000005")


def parse_session(text: str) -> int:
    """A session, as signed as it stands in the files. Raises ConfigError."""
    if not re.fullmatch(r"(?:0[xX])?[0-9a-fA-F]{1,16}", text):
        raise ConfigError(f"{text!r} is no session; they are written 0x100002e4a0d0001")
    value = int(text, 16)
    return value - (1 << 64) if value >> 63 else value


def zxid_text(zxid: int) -> str:
    """A zxid, or a session, as everybody writes them."""
    return f"{zxid & _MASK64:#x}"


def time_text(time_ms: int) -> str:
    """ISO 8601; the number itself for what no calendar has."""
    seconds, ms = divmod(time_ms, 1000)
    text = _second_text(seconds)
    return f"{text}.{ms:03}Z" if text else str(time_ms)


@functools.lru_cache(maxsize=4096)
def _second_text(seconds: int) -> str:
    """Empty for what no calendar has. Kept: znodes and txns of one second come in thousands."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"
    except (OverflowError, ValueError, OSError):
        return ""
