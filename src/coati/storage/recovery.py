"""Recovery: which snapshot, which logs, and whether together they are the whole history.

Knows the names in the two directories and the rules of FileTxnSnapLog, FileSnap and QuorumPeer for them. Must not know
a tree: `build` makes it, and the caller replays. Order: choose a snapshot, replay, check the epochs, and only then
change anything on the disk (cut the torn tail, remove what a crash left behind).
Invariant: either the whole durable history is handed over, or StorageCorrupt is raised and the files are as they were.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Final, Generic, NamedTuple, TypeVar

from coati.errors import MarshallingError, StorageCorrupt, StorageFailed
from coati.seams import Disk
from coati.storage import epochs, format
from coati.storage.format import ZxidDigest
from coati.storage.snapshot import SnapshotReader
from coati.storage.txnlog import Entry, LogEnd, LogReader

logger = logging.getLogger("coati.storage")

T = TypeVar("T")

# FileSnap.deserialize gives up after as many.
MAX_SNAPSHOTS_TRIED: Final = 100
INITIALIZE: Final = "initialize"


class SnapshotName(NamedTuple):
    """One snapshot of a directory."""

    zxid: int
    compression: str
    name: str


class Places:
    """The directories of one server: `snapshots` and `logs` (dataDir/version-2, dataLogDir/version-2), often one."""

    __slots__ = ("log_parent", "logs", "snapshots")

    def __init__(self, data_dir: str, log_dir: str | None) -> None:
        self.log_parent = log_dir or data_dir
        self.snapshots = f"{data_dir}/version-2"
        self.logs = f"{self.log_parent}/version-2"

    def all(self) -> list[str]:
        """Each directory once."""
        return [self.snapshots] if self.logs == self.snapshots else [self.snapshots, self.logs]

    def advice(self) -> str:
        """What to do when the history here cannot be had."""
        where = " and ".join(self.all())
        return (
            f"A server of an ensemble can copy its state from the leader: move {where} away, with the epochs, and "
            "start it again. Otherwise restore a backup"
        )


def unusable(error: OSError) -> StorageFailed:
    """What the operator reads when a directory cannot be recovered from: the path, then the reason."""
    if error.filename is None:
        return StorageFailed(str(error))
    # What makes a directory says so where a file is in its place.
    reason = "not a directory" if isinstance(error, FileExistsError) else error.strerror
    return StorageFailed(f"{error.filename}: {reason}")


def list_snapshots(disk: Disk, directory: str) -> list[SnapshotName]:
    """The snapshots, newest first."""
    found: list[SnapshotName] = []
    for name in disk.list(directory):
        zxid, compression = format.parse_snapshot_name(name)
        if zxid >= 0:
            found.append(SnapshotName(zxid, compression, name))
    return sorted(found, reverse=True)


def list_logs(disk: Disk, directory: str) -> list[int]:
    """The zxids of the logs' names, ascending."""
    return sorted(zxid for zxid in map(format.parse_log_name, disk.list(directory)) if zxid >= 0)


def check_places(disk: Disk, places: Places) -> None:
    """Refuses what Java refuses, and names that only look like files of ours. Raises StorageCorrupt."""
    if places.logs != places.snapshots:
        # FileTxnSnapLog.checkLogDir and checkSnapDir (ZOOKEEPER-2967): the two were probably mixed up.
        _refuse_names(disk, places.logs, "snapshot.", "a snapshot in the directory of the logs")
        _refuse_names(disk, places.snapshots, "log.", "a log in the directory of the snapshots")
    for directory in places.all():
        for name in disk.list(directory):
            path = f"{directory}/{name}"
            if _is_ours(name) and not disk.is_file(path):
                raise StorageCorrupt(path, 0, "this is no plain file", "Move it away")
            if _is_misnamed(name):
                raise StorageCorrupt(path, 0, "this is no name that a server gives", "Rename it or move it away")


def _refuse_names(disk: Disk, directory: str, prefix: str, what: str) -> None:
    for name in disk.list(directory):
        if name.startswith(prefix):
            raise StorageCorrupt(f"{directory}/{name}", 0, what, "Check dataDir and dataLogDir")


def _is_ours(name: str) -> bool:
    return (
        format.parse_log_name(name) >= 0
        or format.parse_snapshot_name(name)[0] >= 0
        or name.removesuffix(epochs.TMP_SUFFIX) in (epochs.CURRENT, epochs.ACCEPTED)
    )


def _is_misnamed(name: str) -> bool:
    """Whether Java would take the file for a log (it takes log.0A and log.a.bak), so that ignoring it could lose txns.

    A log that somebody set aside as log.a.bak is ignored: if it is missed, there is a gap.
    """
    prefix, _, digits = name.partition(".")
    if prefix != "log" or format.parse_log_name(name) >= 0:
        return False
    return bool(digits) and all(c in "0123456789abcdefABCDEF" for c in digits)


def newest_snapshot_bytes(disk: Disk, directory: str) -> int:
    """The size of the newest snapshot's file, 0 if there is none. Raises OSError."""
    names = list_snapshots(disk, directory)
    return disk.size(f"{directory}/{names[0].name}") if names else 0


class Recovered(Generic[T]):
    """What recovery found. Take `tree`, then exhaust `batches()`: after that `last_zxid` and the epochs are known, and
    the store can be appended to.

    `tree` is None without a snapshot; then either `fresh` is set, or snapshot.trust.empty lets a pristine tree replay
    everything. With `fresh` there is no data at all. `last_zxid` is then 0, or -1 if the database must not come into
    being by itself (db.autocreate=false and no file `initialize`: such a server does not vote). If it is 0, write a
    snapshot of the pristine tree by `Store.write_snapshot` before the first append, as Java does.
    """

    def __init__(
        self, places: Places, disk: Disk, max_payload_bytes: int, on_done: Callable[[Recovered[T], LogEnd | None], None]
    ) -> None:
        self.tree: T | None = None
        self.snapshot_name = ""
        self.snapshot_zxid = -1
        self.digest: ZxidDigest | None = None
        self.fresh = False
        self.last_zxid = -1
        self.accepted_epoch = 0
        self.current_epoch = 0
        self.warnings: list[str] = []
        self._places = places
        self._disk = disk
        self._max_payload_bytes = max_payload_bytes
        self._on_done = on_done
        self._ends: list[LogEnd] = []
        self._rejected: list[SnapshotName] = []
        self._content_zxid = -1  # the last txn that the snapshot may hold in part

    def choose(self, build: Callable[[SnapshotReader], T], *, trust_empty: bool, may_create: bool) -> None:
        """Loads the newest snapshot that is whole, and settles what it means if there is none."""
        directory = self._places.snapshots
        for name in list_snapshots(self._disk, directory)[:MAX_SNAPSHOTS_TRIED]:
            try:
                self._load(name, build)
                return
            except StorageCorrupt as error:
                self._warn(f"the snapshot {error} is skipped")
                self._rejected.append(name)
        if list_logs(self._disk, self._places.logs):
            if not trust_empty:
                raise StorageCorrupt(
                    self._places.snapshots,
                    0,
                    "there are logs, but no snapshot that can be loaded",
                    f"{self._places.advice()}; snapshot.trust.empty=true only after an upgrade from 3.4 or older",
                )
            self._warn("there is no snapshot; the tree is made from the logs alone")
            self.last_zxid = 0
            return
        # A first start that was cut short leaves half a snapshot.0, which can hold nothing yet.
        lost = [name for name in self._rejected if name.zxid > 0]
        if lost:
            reason = "no snapshot can be loaded and there are no logs"
            raise StorageCorrupt(f"{directory}/{lost[0].name}", 0, reason, self._places.advice())
        self._rejected = []
        self.fresh = True
        self.last_zxid = 0 if may_create else -1

    def _load(self, name: SnapshotName, build: Callable[[SnapshotReader], T]) -> None:
        path = f"{self._places.snapshots}/{name.name}"
        reader = SnapshotReader(self._disk, path, name.zxid, name.compression, self._max_payload_bytes)
        try:
            tree = build(reader)
            if not reader.is_complete:
                raise StorageCorrupt(path, 0, "its builder did not read it to the end")
        finally:
            reader.close()
        self.tree = tree
        self.snapshot_name = name.name
        self.snapshot_zxid = name.zxid
        self.last_zxid = name.zxid
        self._content_zxid = max(reader.last_zxid or -1, reader.digest.zxid if reader.digest is not None else -1)
        # DataTree.deserializeZxidDigest: an empty digest, or one from before the snapshot began, is not compared.
        if reader.digest is not None and reader.digest.zxid > 0 and reader.digest.zxid >= name.zxid:
            self.digest = reader.digest

    def batches(self) -> Iterator[list[Entry]]:
        """(zxid, payload) of the txns after the snapshot, in order and without a gap, some at a time.

        At its end the torn tail is cut off, the epochs are checked and the log is ready for appending. Raises
        StorageCorrupt, and StorageFailed when the disk fails.
        """
        try:
            yield from self._replay()
        except OSError as error:
            raise unusable(error) from error

    def old_logs(self) -> list[int]:
        """The logs in which nothing is newer than the snapshot, once all was replayed."""
        newer = {end.path for end in self._ends if end.last_zxid > self.snapshot_zxid}
        logs = self._places.logs
        found = [zxid for zxid in list_logs(self._disk, logs) if zxid <= self.snapshot_zxid]
        return [zxid for zxid in found if f"{logs}/{format.log_name(zxid)}" not in newer]

    def unreadable(self, zxid: int, error: MarshallingError) -> StorageCorrupt:
        """What to raise when the payload of a txn of the last batch is none, though its checksum is right."""
        end = self._ends[-1]
        return StorageCorrupt(end.path, end.position, f"the txn {zxid:#x} at or after here: {error}")

    def _replay(self) -> Iterator[list[Entry]]:
        zxids = list_logs(self._disk, self._places.logs)
        lost = [name.zxid for name in self._rejected]
        after = max(self.last_zxid, 0)
        reader = LogReader(self._disk, self._places.logs, zxids, after, self._max_payload_bytes, lost)
        self._ends = reader.ends
        for batch in reader.batches():
            self.last_zxid = batch[-1][0]
            yield batch
        self._check_reach()
        self._finish(reader.ends)

    def _check_reach(self) -> None:
        """The logs must go as far as any snapshot did: what one held was durable in the logs before."""
        reason = ""
        for name in self._rejected:
            if name.zxid > self.last_zxid:
                reason = f"{name.name} cannot be loaded, and the logs end before it"
        if self._content_zxid > self.last_zxid:
            # Java's snapshots are fuzzy, and it only warns here ("is not covering the snapshot digest zxid").
            reason = f"the snapshot holds txns up to {self._content_zxid:#x}, and the logs end before that"
        if reason:
            raise StorageCorrupt(
                self._places.snapshots,
                0,
                f"{reason}, at zxid {self.last_zxid:#x}",
                self._places.advice(),
            )

    def _finish(self, ends: list[LogEnd]) -> None:
        """All is well: now the disk may be changed."""
        found = epochs.load_epochs(self._disk, self._places.snapshots, self.last_zxid, is_empty=self.fresh)
        self.accepted_epoch, self.current_epoch = found.accepted, found.current
        if found.must_write_current:
            self._warn(f"the current epoch becomes {found.current}, that of the last zxid")
            epochs.write_epoch(self._disk, self._places.snapshots, epochs.CURRENT, found.current)
        self._remove_leftovers()
        self._on_done(self, self._settle_end(ends))

    def _remove_leftovers(self) -> None:
        directory = self._places.snapshots
        for name in self._disk.list(directory):
            base = name.removesuffix(epochs.TMP_SUFFIX)
            is_snapshot = format.parse_snapshot_name(base)[0] >= 0
            if base != name and (is_snapshot or base in (epochs.CURRENT, epochs.ACCEPTED)):
                self._warn(f"{directory}/{name} was not finished and is removed")
                self._disk.remove(f"{directory}/{name}")

    def _settle_end(self, ends: list[LogEnd]) -> LogEnd | None:
        """The log to go on with, if the newest one ends at the last zxid. An empty newest one is removed."""
        if not ends:
            return None
        end = ends[-1]
        if end.is_torn:
            self._warn(f"{end.path} ends with an unfinished entry at byte {end.position}, which is dropped")
        if end.is_empty:
            # A name of a zxid that was never written; the next log may need it.
            self._disk.remove(end.path)
            self._disk.sync_dir(self._places.logs)
            return None
        return end

    def _warn(self, text: str) -> None:
        logger.warning("%s", text)
        self.warnings.append(text)
