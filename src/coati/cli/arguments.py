"""How times, sizes and sessions are written on a command line."""

from __future__ import annotations

import argparse
import re
from typing import Final

_UNITS: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZES: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def duration(text: str) -> float:
    """Seconds: `90`, `5m`, `2h`, `7d`. For argparse."""
    return _number(text, _UNITS, "a time is a number of seconds, or 90s, 5m, 2h, 7d")


def size(text: str) -> int:
    """Bytes: `900`, `10k`, `1M`. For argparse."""
    return int(_number(text.lower(), _SIZES, "a size is a number of bytes, or 10k, 1M"))


def session_id(text: str) -> int:
    """`0x10000a2b3c4d0000`, as a signed number. For argparse."""
    try:
        number = int(text, 16)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a session is a hexadecimal number, not {text!r}") from None
    return number - (1 << 64) if number >= 1 << 63 else number


def _number(text: str, units: dict[str, float] | dict[str, int], meant: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([a-z]*)", text)
    if match is None or match[2] not in units:
        raise argparse.ArgumentTypeError(f"{meant}; not {text!r}")
    return float(match[1]) * units[match[2]]
