"""The bad machines of `tools/storm_cluster.py`: disks that are small, a clock that jumps."""

from __future__ import annotations

import errno
import time
from pathlib import Path

import pytest

from tools import hardware
from tools.hardware import SmallDisks, WallClock
from tools.shifted_clock import ShiftedClock
from tools.storm_process import fill

HOUR_MS = 3_600_000
SLACK_MS = 600_000


def test_a_small_disk_gets_full_and_nobody_else_has_it(tmp_path: Path) -> None:
    reason = hardware.why_no_small_disks()
    if reason is not None:
        pytest.skip(reason)
    disk = tmp_path / "disk"
    with SmallDisks(1) as disks:
        disks.add(disk)
        fill(disk / "ballast", left_bytes=1)
        with pytest.raises(OSError, match="No space left") as raised:
            (disk / "more").write_bytes(bytes(8192))
        assert raised.value.errno == errno.ENOSPC
        (disk / "ballast").unlink()
        (disk / "more").write_bytes(bytes(8192))
    assert list(disk.iterdir()) == []


def test_a_wall_clock_jumps_and_the_other_one_does_not(tmp_path: Path) -> None:
    steered = WallClock(tmp_path / "clock")
    clock = ShiftedClock(steered.path)
    before_ms = clock.monotonic_ms()
    for shift_ms in (0, HOUR_MS, -HOUR_MS, 0):
        steered.shift(shift_ms)
        assert abs(clock.wall_ms() - shift_ms - time.time_ns() // 1_000_000) < SLACK_MS
    assert 0 <= clock.monotonic_ms() - before_ms < SLACK_MS
