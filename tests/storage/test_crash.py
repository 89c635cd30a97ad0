"""Crashes and failing calls over a whole scripted run, and proof that the checks find what they look for.

These are samples; `tools/storm_storage.py` runs everything.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from coati.errors import StorageCorrupt
from coati.storage import prune, snapshot, txnlog
from coati.storage.store import Done, Store
from coati.testing.disk import SimDisk, SimFile
from tools import storm_storage
from tools.storm_storage import (
    FAULTS,
    crash_everywhere,
    cut_everywhere,
    fail_once,
    flip_everything,
    small_store,
)


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_acknowledged_is_lost_when_power_goes_at_any_call(seed: int) -> None:
    tally = crash_everywhere(seed, variants=4, every=2)
    assert tally.points > 150
    assert tally.states > 600


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_when_logs_roll_by_size() -> None:
    settings = storm_storage.config(log_size_limit_bytes=9000)
    assert crash_everywhere(3, variants=3, every=2, settings=settings).states > 300


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_when_the_process_dies_at_any_call() -> None:
    assert cut_everywhere(4, every=3).points > 100


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "error"), FAULTS)
def test_nothing_is_acknowledged_after_a_call_that_failed(kind: str, error: int) -> None:
    at = 1
    while fail_once(5, kind, at, error):
        at += 3
    assert at > 6


def test_a_failing_disk_is_not_taken_for_a_damaged_one() -> None:
    assert not fail_once(1, "write", 100_000, errno.EIO, txns=20)


@pytest.mark.slow
def test_bits_of_every_file_are_right_or_refused() -> None:
    tally = flip_everything(2, every=7)
    assert 0 < tally.refused < tally.points


def test_a_silent_loss_would_be_seen() -> None:
    disk, history = small_store(Random(1), txns=4, snapshot_after=99, sizes=(10,))
    history.entries.append((5, b""))
    # A bit of the dbid changes nothing, so what is missing shows.
    with pytest.raises(AssertionError, match="txns lost without a word"):
        storm_storage.flip_bits(disk, history, "/data/version-2/log.1", iter([8 * 15]))


# Mutants: each is a mistake that storage could make. The crash test must find every one of them.


class LazyDirectories(SimDisk):
    """A store that does not sync its directories."""

    def sync_dir(self, path: str) -> None:
        self.enter_or_fail("sync_dir", path)


class _LazyFile(SimFile):
    def sync(self) -> float:
        self._enter_or_fail("sync")
        return 0.0


class LazyFiles(SimDisk):
    """One that acknowledges before its files are synced; `where` says which."""

    where = ""

    def create(self, path: str) -> SimFile:
        file = super().create(path)
        return _LazyFile(self, path, file._inode) if self.where in path else file

    def open_append(self, path: str) -> SimFile:
        file = super().open_append(path)
        return _LazyFile(self, path, file._inode) if self.where in path else file


class LazySnapshots(LazyFiles):
    """One that renames a snapshot before it is synced."""

    where = "snapshot."


class LazyEpochs(LazyFiles):
    """One that renames an epoch file before it is synced."""

    where = "Epoch"


class EagerStore(Store):
    """One that acknowledges what it has only written."""

    def sync(self, done: Done) -> None:
        super().sync(lambda error: None)
        done(None)


class OpenStore(Store):
    """One that forgets what a sync covers: it acknowledges what was appended while the sync was under way."""

    def _synced(self, error: BaseException | None) -> None:
        zxid, dones = self._covered
        self._covered = (zxid, dones + self._waiting)
        self._waiting = []
        super()._synced(error)


def found(make_disk: Callable[[], SimDisk] = SimDisk, store_class: type[Store] = Store) -> bool:
    """Whether the crash test finds something wrong."""
    for seed, limit in ((1, -1), (2, 9000)):
        settings = storm_storage.config(log_size_limit_bytes=limit)
        try:
            crash_everywhere(seed, variants=4, settings=settings, make_disk=make_disk, store_class=store_class)
        except (AssertionError, StorageCorrupt):
            return True
    return False


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.parametrize("make_disk", [LazyDirectories, LazyFiles, LazySnapshots, LazyEpochs])
def test_a_missing_sync_is_found(make_disk: type[SimDisk]) -> None:
    assert found(make_disk=make_disk)


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.parametrize("store_class", [EagerStore, OpenStore])
def test_an_early_acknowledgement_is_found(store_class: type[Store]) -> None:
    assert found(store_class=store_class)


def roll_without_sync(self: txnlog.LogAppender, zxid: int) -> None:
    if self._file is not None:
        self._file.close()
        self._file = None
    roll(self, zxid)


def resume_without_cut(self: txnlog.LogAppender, end: txnlog.LogEnd) -> None:
    end.is_torn = False
    resume(self, end)


def rename_first(self: snapshot.SnapshotFile, *trailers: object) -> None:
    self._disk.rename(self._path + snapshot.TMP_SUFFIX, self._path)
    self._disk.create(self._path + snapshot.TMP_SUFFIX)
    finish(self, *trailers)  # type: ignore[arg-type]  # handed through


roll = txnlog.LogAppender._roll
resume = txnlog.LogAppender.resume
finish = snapshot.SnapshotFile.finish


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("owner", "name", "mutant"),
    [
        pytest.param(txnlog.LogAppender, "_roll", roll_without_sync, id="the old log is not synced when it rolls"),
        pytest.param(txnlog.LogAppender, "resume", resume_without_cut, id="the torn tail is written over, not cut"),
        pytest.param(prune, "needed_logs", lambda zxids, after: zxids[-1:], id="a log is purged that is needed"),
        pytest.param(snapshot.SnapshotFile, "finish", rename_first, id="a snapshot is named before it is whole"),
    ],
)
def test_other_mistakes_are_found(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, mutant: Callable[..., object]
) -> None:
    monkeypatch.setattr(owner, name, mutant)
    try:
        assert found()
    finally:
        monkeypatch.undo()


@pytest.mark.slow
@pytest.mark.no_cover
def test_the_unmutated_store_passes_what_finds_the_mutants() -> None:
    assert not found()


def test_the_storm_notes_down_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = tmp_path / "ledger.md"
    ledger.write_text("| date | what | command | amount | found |\n")

    def quick(first_seed: int, seeds: int, variants: int) -> Iterator[str]:
        yield f"{seeds} from {first_seed} with {variants}"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storm_storage, "storm", quick)
        assert storm_storage.main(["--seeds", "2", "--date", "2026-01-02", "--ledger", str(ledger)]) == 0
    line = ledger.read_text().splitlines()[-1]
    assert line.startswith("| 2026-01-02 | storage storm | `python tools/storm_storage.py --first-seed 1 --seeds 2` |")
    assert "2 from 1 with 10" in line
    assert line.count("|") == 6
