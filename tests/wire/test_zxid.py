"""Zxids: an epoch and a counter, as ZxidUtils has them."""

from __future__ import annotations

import pytest

from coati.wire.zxid import COUNTER_MAX, counter_of, epoch_of, follows, make_zxid


@pytest.mark.parametrize(
    ("epoch", "counter", "zxid"),
    [
        (0, 0, 0),
        (0, 1, 1),
        (1, 0, 0x1_0000_0000),
        (1, 0xFFFFFFFF, 0x1_FFFF_FFFF),
        (5, 1 << 32, 0x5_0000_0000),
        (0x7FFFFFFF, 0xFFFFFFFF, (1 << 63) - 1),
        (-1, 0xFFFFFFFF, -1),
        (-(1 << 31), 0, -(1 << 63)),
    ],
)
def test_zxid_halves(epoch: int, counter: int, zxid: int) -> None:
    assert make_zxid(epoch, counter) == zxid
    assert epoch_of(zxid) == epoch
    assert counter_of(zxid) == counter & COUNTER_MAX


@pytest.mark.parametrize(
    ("previous", "zxid", "may"),
    [
        (0, 1, True),
        (0, 2, False),
        (5, 5, False),
        (5, 4, False),
        (5, 6, True),
        (0x1_0000_0005, 0x2_0000_0001, True),
        (0x1_0000_0005, 0x9_0000_0001, True),
        (0x1_0000_0005, 0x2_0000_0000, False),
        (0x1_0000_0005, 0x2_0000_0002, False),
        (0x2_0000_0005, 0x1_0000_0001, False),
        (0x1_0000_0005, 0x1_0000_0001, False),
        (0x1_0000_0000, 0x1_0000_0001, True),
    ],
)
def test_what_may_follow_in_a_log(previous: int, zxid: int, may: bool) -> None:
    assert follows(previous, zxid) is may
