"""The store: logs, snapshots and epochs of one server, durable before anybody is told.

Knows when to write, sync, roll and purge. Must not know znodes, packets or roles. One thread calls it, the loop's;
whatever blocks runs on the disk's worker, in order, except at start-up and in `truncate` and `close`.
States: NEW -> RECOVERING (`recover`) -> OPEN (its `txns()` exhausted) -> FAILED (a write or sync failed; for good) or
CLOSED. Moved only in this file.
Invariants: `done(None)` of a sync comes only when all that was appended before it is durable; at most one sync is under
way; zxids are appended without a gap; nothing is appended that could not be read back (ZOOKEEPER-3496).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias, TypeVar

from coati.errors import StorageCorrupt, StorageFailed
from coati.seams import Disk, Lock
from coati.storage import epochs, format
from coati.storage.format import ZnodeTuple, ZxidDigest
from coati.storage.install import InstallFile, finish_install
from coati.storage.prune import Purge, truncate
from coati.storage.recovery import (
    INITIALIZE,
    Places,
    Recovered,
    check_places,
    list_logs,
    list_snapshots,
    unusable,
)
from coati.storage.snapshot import SnapshotFile, SnapshotReader, SnapshotWriter, check_compression
from coati.storage.txnlog import Entry, LogAppender, LogEnd, LogReader, Segment
from coati.wire.records import ACL
from coati.wire.zxid import follows

__all__ = [
    "Done",
    "Recovered",
    "SnapshotReader",
    "SnapshotWriter",
    "Store",
    "StoreConfig",
    "ZnodeTuple",
    "ZxidDigest",
]

logger = logging.getLogger("coati.storage")

T = TypeVar("T")
Done: TypeAlias = Callable[[BaseException | None], None]
PurgeDone: TypeAlias = Callable[[list[str], BaseException | None], None]

# PurgeTxnLog and DatadirCleanupManager refuse to keep fewer.
MIN_RETAIN_COUNT: Final = 3
LOCK_NAME: Final = "coati.lock"
_NEVER: Final = 1 << 62


@dataclass(slots=True)
class StoreConfig:
    """What zoo.cfg and the system properties say about storage, in bytes."""

    data_dir: str
    log_dir: str | None = None  # dataLogDir
    prealloc_bytes: int = 65536 * 1024  # preAllocSize
    log_size_limit_bytes: int = -1  # txnLogSizeLimitInKb; counts entries, not padding
    force_sync: bool = True  # forceSync
    compression: str = ""  # snapshot.compression.method: "", "gz" or "snappy"
    digest_enabled: bool = True  # digest.enabled
    last_zxid_trailer: bool = True  # serializeLastProcessedZxid.enabled
    trust_empty_snapshot: bool = False  # snapshot.trust.empty
    autocreate_db: bool = True  # db.autocreate
    autocreate_dirs: bool = True  # datadir.autocreate
    retain_count: int = MIN_RETAIN_COUNT  # autopurge.snapRetainCount
    max_payload_bytes: int = 2 * 0xFFFFF  # jute.maxbuffer + zookeeper.jute.maxbuffer.extrasize


class Store:
    """Logs, snapshots and epochs of one server.

    `last_zxid` was appended last, everything up to `synced_zxid` is durable. `failed` is set for good by the first
    write or sync that fails: the server must end. `log_bytes_since_snapshot` is for snapSizeLimitInKb.
    """

    def __init__(self, disk: Disk, config: StoreConfig) -> None:
        """Raises ConfigError if the compression is not known or not installed."""
        check_compression(config.compression)
        self.config = config
        self.last_zxid = -1
        self.synced_zxid = -1
        self.accepted_epoch = 0
        self.current_epoch = 0
        self.syncing = False
        self.failed: StorageFailed | None = None
        self.log_bytes_since_snapshot = 0
        self._disk = disk
        self._places = Places(config.data_dir, config.log_dir)
        self._locks: list[Lock] = []
        self._is_open = False
        self._is_broken = False  # set by the worker; `failed` follows when the loop hears of it
        self._log = self._new_appender()
        self._reset_segments()
        self._must_roll = True
        self._log_bytes = 0
        self._log_limit = config.log_size_limit_bytes if config.log_size_limit_bytes > 0 else _NEVER
        self._waiting: list[Done] = []
        self._epoch_writes: list[tuple[str, int]] = []
        self._covered: tuple[int, list[Done]] = (-1, [])
        self._writer: SnapshotWriter | None = None
        self._is_purging = False
        self._is_installing = False
        self._idle_waiters: list[Callable[[], None]] = []
        # From here on the logs are known to have no hole.
        self._proven_zxid = -1
        # Snapshots that were read or written to the end by this process: purging need not read them again.
        self._valid: dict[str, None] = {}

    @property
    def sync_ms(self) -> float:
        """How long the last one took, for fsync.warningthresholdms."""
        return self._log.sync_ms

    # Recovery

    def recover(self, build: Callable[[SnapshotReader], T]) -> Recovered[T]:
        """Locks the directories, loads the newest snapshot which `build` accepts and prepares the replay.

        `build` makes a fresh tree from one snapshot; it may raise StorageCorrupt to reject it (an orphan, a
        duplicate), and then an older one is tried. Blocking. Raises StorageCorrupt, StorageFailed (also when another
        process holds the lock).
        """
        self._is_open = False
        try:
            self._make_places()
            self._lock()
            check_places(self._disk, self._places)
            marker = f"{self._places.log_parent}/{INITIALIZE}"
            may_create = self.config.autocreate_db or self._disk.exists(marker)
            recovered: Recovered[T] = Recovered(
                self._places, self._disk, self.config.max_payload_bytes, self._on_recovered
            )
            recovered.choose(build, trust_empty=self.config.trust_empty_snapshot, may_create=may_create)
        except OSError as error:
            raise unusable(error) from error
        return recovered

    def _make_places(self) -> None:
        for directory in self._places.all():
            if not self._disk.exists(directory):
                if not self.config.autocreate_dirs:
                    raise StorageFailed(f"{directory} is missing and datadir.autocreate is false")
                self._disk.make_dirs(directory)

    def _lock(self) -> None:
        if self._locks:
            return
        for directory in self._places.all():
            path = f"{directory}/{LOCK_NAME}"
            try:
                self._locks.append(self._disk.lock(path))
            except BlockingIOError:
                self._unlock()
                raise StorageFailed(f"{path} is locked: another server uses the directory") from None

    def _unlock(self) -> None:
        for lock in self._locks:
            lock.release()
        self._locks = []

    def _on_recovered(self, recovered: Recovered[T], end: LogEnd | None) -> None:
        self._log.close()
        self._log = self._new_appender()
        self._must_roll = True
        # A process that was killed may have left names that are not durable yet.
        for directory in self._places.all():
            self._disk.sync_dir(directory)
        is_finished = finish_install(self._disk, self._places, recovered.snapshot_name, recovered.old_logs())
        if end is not None and not (is_finished and end.last_zxid <= recovered.snapshot_zxid):
            self._log.resume(end)
            if end.last_zxid == recovered.last_zxid != recovered.snapshot_zxid:
                self._must_roll = False
                self._log_bytes = end.position
            else:
                # The snapshot is as new as the log, or newer: what follows belongs to a new one.
                self._log.close()
        if not recovered.fresh:
            self._remove_marker()
        if recovered.snapshot_zxid >= 0:
            self._valid[recovered.snapshot_name] = None
        self._reset_segments()
        self.last_zxid = self.synced_zxid = recovered.last_zxid
        self.accepted_epoch = recovered.accepted_epoch
        self.current_epoch = recovered.current_epoch
        self.log_bytes_since_snapshot = 0
        self._proven_zxid = max(recovered.snapshot_zxid, 0)
        self._is_open = True

    def _new_appender(self) -> LogAppender:
        return LogAppender(
            self._disk,
            self._places.logs,
            prealloc_bytes=self.config.prealloc_bytes,
            force_sync=self.config.force_sync,
        )

    def _remove_marker(self) -> None:
        """`initialize` permits an empty database once; Java removes it before the first snapshot is there."""
        marker = f"{self._places.log_parent}/{INITIALIZE}"
        if self._disk.exists(marker):
            self._disk.remove(marker)

    # The log

    def append(self, zxid: int, payload: bytes) -> None:
        """Queues one txn for the next sync; its zxid must follow the last one. Raises StorageFailed once failed."""
        if self.failed is not None:
            raise self.failed
        size = len(payload)
        assert self._is_open
        assert follows(self.last_zxid, zxid), f"{zxid:#x} after {self.last_zxid:#x}"
        assert format.TXN_HEADER_BYTES <= size <= self.config.max_payload_bytes
        if self._must_roll:
            self._begin_log(zxid)
        self._parts += (format.encode_entry_head(payload), payload, format.END_OF_ENTRY)
        self.last_zxid = zxid
        size += format.ENTRY_FRAME_BYTES
        self._log_bytes += size
        self.log_bytes_since_snapshot += size
        if self._log_bytes > self._log_limit:
            self._must_roll = True

    def append_all(self, first_zxid: int, payloads: list[bytes]) -> None:
        """Queues txns numbered without gaps from `first_zxid` on; for many the same as `append`, and cheaper."""
        data = format.encode_entries(payloads)
        if self._must_roll or self._log_bytes + len(data) > self._log_limit:
            # Somewhere among them a new log begins.
            for offset, payload in enumerate(payloads):
                self.append(first_zxid + offset, payload)
            return
        if self.failed is not None:
            raise self.failed
        assert self._is_open
        assert follows(self.last_zxid, first_zxid), f"{first_zxid:#x} after {self.last_zxid:#x}"
        assert min(map(len, payloads)) >= format.TXN_HEADER_BYTES
        assert max(map(len, payloads)) <= self.config.max_payload_bytes
        self._parts.append(data)
        self.last_zxid = first_zxid + len(payloads) - 1
        self._log_bytes += len(data)
        self.log_bytes_since_snapshot += len(data)

    def _begin_log(self, zxid: int) -> None:
        self._must_roll = False
        self._log_bytes = format.HEADER_BYTES
        segment = Segment(zxid)
        self._segments.append(segment)
        self._parts = segment.parts

    def sync(self, done: Done) -> None:
        """Writes and syncs all that was appended so far, then calls `done(None)` on the loop's thread.

        `done(StorageFailed)` instead means that the store is failed for good. While one sync is under way the next
        one waits, and then covers all that was appended until it starts. Raises StorageFailed once failed.
        """
        if self.failed is not None:
            raise self.failed
        assert self._is_open
        self._waiting.append(done)
        if not self.syncing:
            self._start()

    def write_epochs(self, *, accepted: int | None = None, current: int | None = None, done: Done) -> None:
        """Makes all that was appended durable, then the epoch files, accepted first. They never go back.

        `accepted_epoch` and `current_epoch` follow before `done` is called. A failure fails the store, as in `sync`.
        """
        if accepted is not None:
            assert accepted >= self.accepted_epoch
            self._epoch_writes.append((epochs.ACCEPTED, accepted))
        if current is not None:
            assert self.current_epoch <= current <= (self.accepted_epoch if accepted is None else accepted)
            self._epoch_writes.append((epochs.CURRENT, current))
        self.sync(done)

    def _start(self) -> None:
        segments = self._take_segments()
        writes, self._epoch_writes = self._epoch_writes, []
        self._covered = (self.last_zxid, self._waiting)
        self._waiting = []
        self.syncing = True
        done = partial(self._wrote_epochs, writes) if writes else self._synced
        self._disk.submit(partial(self._commit, segments, writes), done)

    def _take_segments(self) -> list[Segment]:
        """What was appended since the last time; `append` goes on in the same file unless it rolls."""
        segments = [segment for segment in self._segments if segment.parts]
        self._reset_segments()
        return segments

    def _reset_segments(self) -> None:
        segment = Segment(0)
        self._segments = [segment]
        self._parts = segment.parts

    def _commit(self, segments: list[Segment], writes: list[tuple[str, int]]) -> None:
        try:
            self._log.commit(segments)
            for name, epoch in writes:
                epochs.write_epoch(self._disk, self._places.snapshots, name, epoch)
        except BaseException:
            self._is_broken = True
            raise

    def _wrote_epochs(self, writes: list[tuple[str, int]], error: BaseException | None) -> None:
        if error is None:
            for name, epoch in writes:
                if name == epochs.ACCEPTED:
                    self.accepted_epoch = epoch
                else:
                    self.current_epoch = epoch
        self._synced(error)

    def _synced(self, error: BaseException | None) -> None:
        zxid, dones = self._covered
        self._covered = (-1, [])
        self.syncing = False
        if error is not None:
            self._fail(error, dones)
            return
        self.synced_zxid = max(self.synced_zxid, zxid)
        for done in dones:
            done(None)
        if self._waiting and not self.syncing and self.failed is None and self._is_open:
            self._start()
        self._tell_idle()

    def _fail(self, error: BaseException, dones: list[Done]) -> None:
        """After a failed write or sync nobody knows what is on the disk; nothing is tried again."""
        failed = StorageFailed(f"{self._places.logs}: {error}")
        failed.__cause__ = error
        self.failed = failed
        self._reset_segments()
        waiting = dones + self._waiting
        self._waiting = []
        for done in waiting:
            done(failed)

    # Snapshots

    def begin_snapshot(
        self, zxid: int, sessions: Mapping[int, int], acls: Mapping[int, Sequence[ACL]]
    ) -> SnapshotWriter:
        """Starts a snapshot of the tree at `zxid`, which must be durable; the log rolls at the next append.

        `sessions`: id -> timeout in ms. `acls`: id -> entries, without the open one. One snapshot at a time.
        """
        assert self._is_open
        assert self._writer is None
        assert zxid <= self.synced_zxid
        self._must_roll = True
        self.log_bytes_since_snapshot = 0
        file = SnapshotFile(self._disk, self._places.snapshots, zxid, self.config.compression)

        def on_end(error: BaseException | None) -> None:
            self._writer = None
            if error is None and file.is_finished:
                self._valid[file.name] = None
            elif error is not None and self.failed is None:
                logger.warning("the snapshot %s could not be written: %s", file.name, error)
            self._tell_idle()

        head = format.encode_snapshot_head(sessions, acls)
        self._writer = SnapshotWriter(self._disk, file, head, partial(self._trailers, zxid), on_end)
        return self._writer

    def _trailers(self, zxid: int, digest: int | None) -> tuple[ZxidDigest | None, int | None]:
        trailer: ZxidDigest | None = None
        if self.config.digest_enabled:
            # DataTree.serializeZxidDigest writes an empty one when it has none.
            at = 0 if digest is None else zxid
            trailer = ZxidDigest(at, format.DIGEST_VERSION, digest or 0)
        return trailer, zxid if self.config.last_zxid_trailer else None

    def write_snapshot(
        self,
        zxid: int,
        sessions: Mapping[int, int],
        acls: Mapping[int, Sequence[ACL]],
        slices: Iterable[bytes],
        digest: int | None,
    ) -> None:
        """The same in one blocking call, for start-up. Raises StorageFailed."""
        assert self._is_open
        assert self._writer is None
        assert not self.syncing
        self._must_roll = True
        self.log_bytes_since_snapshot = 0
        file = SnapshotFile(self._disk, self._places.snapshots, zxid, self.config.compression)
        try:
            file.write([format.encode_snapshot_head(sessions, acls)])
            for data in slices:
                file.write([data])
            file.finish(*self._trailers(zxid, digest))
            self._remove_marker()
        except OSError as error:
            file.remove()
            raise StorageFailed(f"{self._places.snapshots}/{file.name}: {error}") from error
        self._valid[file.name] = None

    def begin_install(self, zxid: int) -> SnapshotWriter:
        """SNAP: starts to replace the whole history by a leader's snapshot at `zxid`, at which the caller's tree is.

        `add` takes the body of its file (StreamReader.body) in pieces, `finish` comes when the signature has been seen;
        when its `done` is told None, the history is the snapshot alone, durable, and `last_zxid` is `zxid`. Until
        `finish`, and after `abort`, the old history is as it was. Nothing may be appended meanwhile, and the store
        must be idle. A failure fails the store, as in `sync`.
        """
        assert self.is_idle
        self._is_installing = True
        # The newest log may be cut: a new one begins behind it, or behind the snapshot.
        self._log.close()
        self._log = self._new_appender()
        self._must_roll = True
        limit = self.config.max_payload_bytes
        file = InstallFile(self._disk, self._places, zxid, self.config.compression, limit)

        def on_end(error: BaseException | None) -> None:
            self._writer = None
            self._is_installing = False
            if error is not None:
                self._fail(error, [])
            elif file.is_finished:
                self._on_installed(zxid, file.name)
            self._tell_idle()

        trailers = partial(self._trailers, zxid)
        self._writer = SnapshotWriter(self._disk, file, format.encode_snapshot_header(), trailers, on_end)
        return self._writer

    def _on_installed(self, zxid: int, name: str) -> None:
        assert self.last_zxid == self.synced_zxid, "nothing is appended while a snapshot is installed"
        self._valid = {name: None}
        self.log_bytes_since_snapshot = 0
        self.last_zxid = self.synced_zxid = self._proven_zxid = zxid

    @property
    def is_idle(self) -> bool:
        """Open, and nothing is under way or waits: what `truncate` and `begin_install` ask for."""
        return (
            self._is_open
            and not self.syncing
            and not self._is_purging
            and self._writer is None
            and self.last_zxid == self.synced_zxid
        )

    def when_idle(self, callback: Callable[[], None]) -> None:
        """Calls it once, as soon as the store `is_idle`; now, if it is. Never, if the store fails or is closed first.

        What is appended must be synced, and a snapshot finished or aborted, by who began it.
        """
        self._idle_waiters.append(callback)
        self._tell_idle()

    def _tell_idle(self) -> None:
        while self._idle_waiters and self.is_idle and self.failed is None:
            self._idle_waiters.pop(0)()

    # Purging

    def purge(self, done: PurgeDone) -> None:
        """Keeps the newest `retain_count` (at least 3) valid snapshots and every log they need; removes what is older.

        Off the loop, in small steps. `done` gets the names removed and the error that stopped it, if one did; that is
        a warning. Nothing is done while another purge is under way.
        """
        if self._is_purging or self._is_installing or not self._is_open:
            done([], None)
            return
        self._is_purging = True
        count = max(self.config.retain_count, MIN_RETAIN_COUNT)
        purge = Purge(self._disk, self._places, count, self._valid, self.config.max_payload_bytes)
        self._disk.submit(purge.step, lambda error: self._purged(purge, done, error))

    def _purged(self, purge: Purge, done: PurgeDone, error: BaseException | None) -> None:
        """One step of a purge is done."""
        if error is None and not purge.is_over and self._is_open:
            self._disk.submit(purge.step, lambda error: self._purged(purge, done, error))
            return
        self._is_purging = False
        if error is not None and self.failed is None:
            logger.warning("purging stopped: %s", error)
        done(purge.removed, error)
        self._tell_idle()

    # History

    def read_log(self, after_zxid: int) -> Iterator[Entry]:
        """(zxid, payload) of all durable txns above `after_zxid`, in order. Blocking, in pieces.

        Raises StorageCorrupt, also when the logs do not reach back that far or have a hole, which the snapshot of a
        leader leaves: then only a snapshot helps. A hole is found before the first one is given.
        """
        until = self.synced_zxid
        if after_zxid >= until:
            return
        if after_zxid < self._proven_zxid:
            self._prove(after_zxid)
        for batch in self._read(after_zxid, until):
            yield from batch

    def _prove(self, after_zxid: int) -> None:
        """Reads the logs up to where they are known to be whole. Raises StorageCorrupt."""
        snapshots = list_snapshots(self._disk, self._places.snapshots)
        if not snapshots or snapshots[-1].zxid > after_zxid:
            # The snapshot that shows a hole may have been purged.
            raise StorageCorrupt(self._places.logs, 0, f"no snapshot is as old as {after_zxid:#x}")
        marks = [name.zxid for name in snapshots]
        for _ in self._read(after_zxid, self._proven_zxid, marks):
            pass
        self._proven_zxid = after_zxid

    def _read(self, after_zxid: int, until: int, marks: Sequence[int] = ()) -> Iterator[list[Entry]]:
        zxids = [zxid for zxid in list_logs(self._disk, self._places.logs) if zxid <= until]
        reader = LogReader(self._disk, self._places.logs, zxids, after_zxid, self.config.max_payload_bytes, marks)
        return reader.batches_until(until)

    def truncate(self, zxid: int) -> bool:
        """TRUNC: removes every txn above `zxid`, and the snapshots that may hold one. Blocking; then `recover` again.

        False if no snapshot is left at or below it: nothing was changed, and the caller needs a snapshot from the
        leader. Raises StorageCorrupt, StorageFailed.
        """
        assert self.is_idle
        self._is_open = False
        self._log.close()
        try:
            return truncate(self._disk, self._places, zxid, self.config.max_payload_bytes)
        except OSError as error:
            # ZOOKEEPER-3701: going on with a log that was not cut splits the brain.
            self.failed = StorageFailed(f"truncate: {error}")
            raise self.failed from error

    def cut(self, zxid: int) -> bool:
        """The same of what no tree has yet, and the store goes on."""
        if self.truncate(zxid):
            self._log = self._new_appender()
            self._must_roll = self._is_open = True
            self.last_zxid = self.synced_zxid = zxid
        return self._is_open

    # The end

    def close(self) -> None:
        """Writes and syncs what was appended, then releases files and locks. Blocking. Raises StorageFailed.

        Who waits for a sync that has not begun is told here; the `done` of one under way comes as usual.
        """
        was_open, self._is_open = self._is_open, False
        self._disk.drain()
        if self._writer is not None:
            self._writer.abandon()
        waiting, self._waiting = self._waiting, []
        try:
            if self._is_broken and self.failed is None:
                # The worker has failed; the loop has not heard of it yet.
                self.failed = StorageFailed(f"{self._places.logs}: a write failed")
            if was_open and self.failed is None:
                self._commit(self._take_segments(), self._epoch_writes)
            self._log.close()
        except OSError as error:
            self.failed = StorageFailed(f"{self._places.logs}: {error}")
            raise self.failed from error
        finally:
            self._unlock()
            for done in waiting:
                done(self.failed)
