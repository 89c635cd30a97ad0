"""Nothing is cut unless the copy is whole and durable; and what the damage hides is found again."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from coati.errors import StorageFailed
from coati.offline import repair
from coati.offline.places import real_disk
from coati.offline.repair import users_of
from coati.offline.scan import LogScan, look_behind
from coati.storage.disk import RealFile
from tests.storage.kit import entry, log_bytes, log_of, payload_of


def broken(path: Path) -> bytes:
    """A log of nine txns, the third of which is damaged."""
    whole = log_of(range(1, 10))
    at = len(log_of([1, 2])) + 30
    path.write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
    return path.read_bytes()


def test_a_log_that_changes_meanwhile_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "log.1"
    content = broken(target)
    plan = repair.plan(str(target))
    assert plan is not None
    target.write_bytes(content + b"more")
    with pytest.raises(StorageFailed, match="has changed since it was read"):
        repair.carry_out(plan)
    assert [path.name for path in tmp_path.iterdir()] == ["log.1"]
    assert target.read_bytes() == content + b"more"


def test_a_full_disk_leaves_the_log_alone_and_no_half_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "log.1"
    content = broken(target)
    plan = repair.plan(str(target))
    assert plan is not None

    def full(file: RealFile, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RealFile, "append", full)
    with pytest.raises(StorageFailed, match=r"damaged\.log\.1: No space left on device"):
        repair.carry_out(plan)
    assert [path.name for path in tmp_path.iterdir()] == ["log.1"]
    assert target.read_bytes() == content


def test_where_nothing_tells_of_processes_nobody_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repair, "_PROC", str(tmp_path / "none"))
    assert users_of(str(tmp_path)) == []


@pytest.mark.parametrize("seed", range(3))
def test_what_is_sound_behind_rubbish_is_counted(seed: int, tmp_path: Path) -> None:
    """Rubbish of any length, zeros among it, some of it longer than what is read at once, and an entry like that."""
    dice = Random(seed)
    big = payload_of(20, bytes(2 << 20))
    parts = [log_of([1]), dice.randbytes(50), bytes(dice.randrange(3 << 20)), dice.randbytes(dice.randrange(1 << 16))]
    parts += [entry(payload_of(zxid, b"x")) for zxid in range(10, 20)]
    parts += [entry(big), dice.randbytes(100), bytes(5000), entry(payload_of(0x100000001, b"y")), bytes(100)]
    target = tmp_path / "log.1"
    target.write_bytes(b"".join(parts))
    scan = LogScan(real_disk(), str(target)).run()
    assert scan.damage is not None
    assert scan.position == len(log_of([1])), f"seed {seed}"
    behind = look_behind(real_disk(), str(target), scan.position + 1, scan.last_zxid)
    assert (behind.count, behind.first_zxid, behind.last_zxid) == (12, 10, 0x100000001), f"seed {seed}"
    # From behind the end nothing is found.
    assert look_behind(real_disk(), str(target), 1 << 30, 1).count == 0


def test_an_entry_larger_than_what_is_read_at_once(tmp_path: Path) -> None:
    target = tmp_path / "log.1"
    target.write_bytes(log_bytes([payload_of(1, b"x"), payload_of(2, bytes(3 << 20)), payload_of(3, b"y")]))
    scan = LogScan(real_disk(), str(target)).run()
    assert (scan.count, scan.last_zxid, scan.damage, scan.is_torn) == (3, 3, None, False)
    # Cut inside: longer than any entry may be is damage, else it is torn.
    target.write_bytes(target.read_bytes()[: 2 << 20])
    scan = LogScan(real_disk(), str(target)).run()
    assert (scan.count, scan.damage, scan.is_torn) == (1, None, True)
