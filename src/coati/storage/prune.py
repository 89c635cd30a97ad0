"""What is removed on purpose: old snapshots and logs (purging), and txns that must not have been (TRUNC).

Knows the order in which files may go, so that after a crash anywhere what is left still loads. Must not know why.
Sources: PurgeTxnLog, FileTxnLog.truncate; ZOOKEEPER-3231 (valid snapshots count, not any), 2832 and 4837 (a snapshot
may hold what TRUNC removes).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final

from coati.errors import StorageCorrupt
from coati.seams import Disk
from coati.storage import format
from coati.storage.recovery import Places, SnapshotName, list_logs, list_snapshots
from coati.storage.snapshot import SnapshotReader
from coati.storage.txnlog import LogReader, needed_logs

logger = logging.getLogger("coati.storage")

_END: Final = object()


class Purge:
    """Keeps the newest `retain_count` valid snapshots and every log they need; removes what is older.

    `step` does a little of it, on the disk's worker, until `is_over`: syncs of the log wait behind one step only.
    `valid` names snapshots that need not be read again, and learns of others. Nothing is removed unless there are
    enough valid ones.
    """

    def __init__(
        self, disk: Disk, places: Places, retain_count: int, valid: dict[str, None], max_field_bytes: int
    ) -> None:
        self.removed: list[str] = []
        self.is_over = False
        self._disk = disk
        self._places = places
        self._retain_count = retain_count
        self._valid = valid
        self._max_field_bytes = max_field_bytes
        self._steps = self._run()

    def step(self) -> None:
        """Raises OSError."""
        self.is_over = next(self._steps, _END) is _END

    def _run(self) -> Iterator[None]:
        kept: list[SnapshotName] = []
        for name in list_snapshots(self._disk, self._places.snapshots):
            if name.name not in self._valid:
                yield from self._check(name)
            if name.name in self._valid:
                kept.append(name)
            if len(kept) == self._retain_count:
                break
        else:
            return
        oldest = kept[-1].zxid
        # A snapshot goes before the logs it needs: one that is left must load.
        snapshots = [name.name for name in list_snapshots(self._disk, self._places.snapshots) if name.zxid < oldest]
        yield from self._remove(self._places.snapshots, snapshots[::-1])
        zxids = list_logs(self._disk, self._places.logs)
        needed = needed_logs(zxids, oldest)
        yield from self._remove(
            self._places.logs, [format.log_name(zxid) for zxid in zxids if zxid < oldest and zxid not in needed]
        )

    def _check(self, name: SnapshotName) -> Iterator[None]:
        try:
            reader = open_snapshot(self._disk, self._places, name, self._max_field_bytes)
            try:
                for _ in reader.batches():
                    yield
            finally:
                reader.close()
        except StorageCorrupt as error:
            logger.warning("purging does not count the damaged snapshot %s", error)
            return
        self._valid[name.name] = None

    def _remove(self, directory: str, names: list[str]) -> Iterator[None]:
        for name in names:
            self._disk.remove(f"{directory}/{name}")
            self._valid.pop(name, None)
            self.removed.append(name)
            yield
        if names:
            self._disk.sync_dir(directory)


def open_snapshot(disk: Disk, places: Places, name: SnapshotName, max_field_bytes: int) -> SnapshotReader:
    """Starts to read one snapshot. Raises StorageCorrupt, OSError."""
    return SnapshotReader(disk, f"{places.snapshots}/{name.name}", name.zxid, name.compression, max_field_bytes)


def content_zxid(reader: SnapshotReader) -> int | None:
    """The last txn that may be in a snapshot which was read to its end; None if it does not say.

    A digest that is empty says that no txn was applied between loading and writing (DataTree.logZxidDigest).
    """
    digest = reader.digest
    if reader.last_zxid is None and digest is None:
        return None
    return max(reader.zxid, reader.last_zxid or 0, digest.zxid if digest is not None else 0)


def truncate(disk: Disk, places: Places, zxid: int, max_payload_bytes: int) -> bool:
    """Removes every txn above `zxid`, and every snapshot that may hold one. Blocking.

    False if no snapshot would be left, or none from which the logs lead on without a hole: then nothing was changed.
    Raises StorageCorrupt, OSError.
    """
    newer: list[SnapshotName] = []
    base: SnapshotName | None = None
    for name in list_snapshots(disk, places.snapshots):
        if name.zxid <= zxid and _is_within(disk, places, name, zxid, max_payload_bytes):
            base = name
            break
        newer.append(name)
    if base is None:
        return False
    zxids = list_logs(disk, places.logs)
    marks = [name.zxid for name in newer]
    if newer and LogReader(disk, places.logs, zxids, base.zxid, max_payload_bytes, marks).has_hole():
        # One of them came from a leader; without it nobody would see, after a crash, that txns are missing.
        return False
    # What could bring the txns back goes first, newest first, and each for good before the next.
    remove_snapshots(disk, places, newer)
    cut_logs(disk, places, LogReader(disk, places.logs, zxids, base.zxid, max_payload_bytes).find_cut(zxid))
    return True


def remove_snapshots(disk: Disk, places: Places, names: list[SnapshotName]) -> None:
    """Removes snapshots in this order, each for good before the next. Raises OSError."""
    for name in names:
        disk.remove(f"{places.snapshots}/{name.name}")
        disk.sync_dir(places.snapshots)


def cut_logs(disk: Disk, places: Places, cut: tuple[int, int] | None) -> None:
    """Removes all that stands in the logs from a place on that `LogReader.find_cut` found, the newest file first.

    Durable when it returns. Raises OSError.
    """
    if cut is None:
        return
    cut_zxid, position = cut
    for log_zxid in reversed(list_logs(disk, places.logs)):
        if log_zxid > cut_zxid or (log_zxid == cut_zxid and position == format.HEADER_BYTES):
            disk.remove(f"{places.logs}/{format.log_name(log_zxid)}")
            disk.sync_dir(places.logs)
    if position > format.HEADER_BYTES:
        file = disk.open_append(f"{places.logs}/{format.log_name(cut_zxid)}")
        try:
            file.truncate(position)
            file.sync()
        finally:
            file.close()


def _is_within(disk: Disk, places: Places, name: SnapshotName, zxid: int, max_field_bytes: int) -> bool:
    """Whether a snapshot is valid and holds nothing above `zxid`."""
    try:
        reader = open_snapshot(disk, places, name, max_field_bytes)
        try:
            for _ in reader.batches():
                pass
        finally:
            reader.close()
    except StorageCorrupt:
        return False
    content = content_zxid(reader)
    return content is not None and content <= zxid
