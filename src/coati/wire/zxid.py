"""Zxids: 64 bits, the epoch in the high half, a counter in the low one. Source: ZxidUtils."""

from __future__ import annotations

from typing import Final

COUNTER_MAX: Final = 0xFFFFFFFF


def make_zxid(epoch: int, counter: int) -> int:
    """The zxid of an epoch and a counter."""
    return (epoch << 32) | (counter & COUNTER_MAX)


def epoch_of(zxid: int) -> int:
    """The high 32 bits."""
    return zxid >> 32


def counter_of(zxid: int) -> int:
    """The low 32 bits."""
    return zxid & COUNTER_MAX


def follows(previous: int, zxid: int) -> bool:
    """Whether a log may hold `zxid` right after `previous`: the next counter, or the first one of a later epoch."""
    return zxid == previous + 1 or (zxid >> 32 > previous >> 32 and zxid & COUNTER_MAX == 1)
