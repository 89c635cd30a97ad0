"""The driver: turns what the shells report into steps of the replica, and its outbox into disk and network work.

Callbacks only post; `turn` keeps its own pace. A turn steps every waiting event, appends what is to be logged, starts
one sync if none runs, and sends each connection its replies in one piece. Group commit falls out: a sync covers all
that was appended since the one before. Knows no asyncio: `post` is whatever runs a callable soon on this thread.

Invariant: at most one sync and one snapshot are under way; after a failed write nothing is acknowledged any more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from coati.core.export import Export
from coati.errors import StorageFailed
from coati.seams import Clock
from coati.server.busypoll import BusyPoll
from coati.server.pipeline import Conn
from coati.server.replica import Replica
from coati.storage.store import SnapshotWriter, Store

logger = logging.getLogger("coati.server.driver")

# Znodes encoded into a snapshot between two looks at the clock, and the time in ms that one turn gives to it. What
# the p99 of reads meanwhile is made of.
SLICE_NODES: Final = 200
SLICE_MS: Final = 2
# With more writes in flight than these it is the throughput that counts, and the disk's thread needs the processor.
MAX_POLLED: Final = 16


class Driver:
    """Runs one replica on one store. All methods belong to one thread, the event loop's.

    `post` runs a callable soon on that thread; `on_fatal` is told the one reason why the server must end; `busy_poll`
    keeps the loop awake while the disk syncs.
    """

    def __init__(
        self,
        replica: Replica,
        store: Store,
        clock: Clock,
        *,
        post: Callable[[Callable[[], None]], object],
        on_fatal: Callable[[BaseException], None],
        purge_after_snapshot: bool = False,
        slow_sync_ms: int = 1000,
        busy_poll: BusyPoll | None = None,
    ) -> None:
        self.replica = replica
        self._store = store
        self._clock = clock
        self._post = post
        self._on_fatal = on_fatal
        self._purge_after_snapshot = purge_after_snapshot
        self._slow_sync_ms = slow_sync_ms
        self._busy_poll = busy_poll
        self._inbox: list[tuple[Conn, bytes]] = []
        self._is_posted = False
        self._is_syncing = False
        self._is_dead = False
        self._export: Export | None = None
        self._writer: SnapshotWriter | None = None
        self._is_slice_posted = False
        self._snapshot_began_ms = 0
        self._paused: list[Conn] = []
        self.last_snapshot_zxid = 0

    # What the shells report.

    def connected(self, conn: Conn) -> None:
        """A client has connected."""
        self.replica.on_connected(conn)

    def received(self, conn: Conn, data: bytes) -> None:
        """Bytes of a client have come; they are looked at in the next turn."""
        self._inbox.append((conn, data))
        if not self._is_posted:
            self._is_posted = True
            self._post(self.turn)

    def closed(self, conn: Conn) -> None:
        """The client's connection is gone; its session lives on until it expires."""
        self.replica.on_closed(conn)

    def tick(self) -> None:
        """Time has passed: sessions expire, containers are reaped, a snapshot may be due."""
        self._begin_turn()
        # First what has come already: a client whose ping waits here is alive (S2).
        self._step_inbox()
        self.replica.on_tick()
        self._finish_turn()

    @property
    def is_idle(self) -> bool:
        """Nothing is waiting for the disk."""
        return not self._is_syncing and not self._inbox

    # The turn.

    def turn(self) -> None:
        """Steps what waits, then lets the outbox act."""
        self._is_posted = False
        self._begin_turn()
        self._step_inbox()
        self._finish_turn()

    def _step_inbox(self) -> None:
        inbox = self._inbox
        self._inbox = []
        on_received = self.replica.on_received
        stats = self.replica.stats
        for conn, data in inbox:
            stats.received_bytes += len(data)
            on_received(conn, data)
            if conn.is_paused:
                if not conn.is_full:
                    self._resume_paused()
            elif conn.outstanding or conn.is_full:
                self._pause_if_full(conn)

    def _pause_if_full(self, conn: Conn) -> None:
        """Back-pressure on who has writes in flight: too many of all, too many reads behind its own, or no session yet;
        and on who has asked for more than was answered in its turn.

        Who only reads is not held up by others.
        """
        limit = self.replica.outstanding_limit
        if conn.is_full or len(self.replica.proposals) > limit or len(conn.waiting) > limit or not conn.is_greeted:
            conn.is_paused = True
            conn.link.pause()
            self._paused.append(conn)

    def _begin_turn(self) -> None:
        self.replica.begin_turn(self._clock.monotonic_ms(), self._clock.wall_ms())

    def _finish_turn(self) -> None:
        if self._is_dead:
            return
        replica = self.replica
        log = replica.solo.take_log()
        if log and not self._append(log):
            return
        if replica.dirty:
            self._flush()
        if replica.closes:
            for conn in replica.take_closes():
                conn.link.close()
        if self._export is None and (
            replica.snapshot_is_due or self._store.log_bytes_since_snapshot > replica.snapshot_after_bytes
        ):
            self._begin_snapshot()

    def _append(self, log: list[bytes]) -> bool:
        """Appends, and starts a sync unless one runs. False: the disk has failed, so nothing may be sent any more."""
        try:
            self._store.append_all(self.replica.solo.proposed_zxid - len(log) + 1, log)
        except Exception as error:
            self._die(error)
        else:
            self._sync()
        return not self._is_dead

    def _sync(self) -> None:
        if self._is_syncing:
            return
        self._is_syncing = True
        zxid = self.replica.solo.proposed_zxid
        try:
            self._store.sync(lambda error: self._on_synced(zxid, error))
        except StorageFailed as error:
            self._die(error)
        if self._busy_poll is not None and len(self.replica.proposals) <= MAX_POLLED:
            self._busy_poll.begin()

    def _on_synced(self, zxid: int, error: BaseException | None) -> None:
        self._is_syncing = False
        sync_ms = self._store.sync_ms
        if self._busy_poll is not None:
            self._busy_poll.end(sync_ms)
        if error is not None:
            self._die(error)
        if self._is_dead:
            return
        self._begin_turn()
        self.replica.on_synced(zxid)
        self._resume_paused()
        # First what was proposed in this turn goes to the log: a sync stands for all that was proposed before it.
        self._finish_turn()
        if self.replica.solo.proposed_zxid > zxid and not self._is_dead:
            self._sync()
        # Behind the replies: a lone writer waits for all that comes before them.
        self.replica.count_updates()
        self._count_sync(int(sync_ms))

    def _count_sync(self, took_ms: int) -> None:
        """For `fsynctime` of mntr, and fsync.warningthresholdms (FileTxnLog.commit)."""
        stats = self.replica.stats
        stats.observe("fsynctime", took_ms)
        # The reason to end is the last word in the log.
        if took_ms > self._slow_sync_ms and not self._is_dead:
            stats.fsync_slow += 1
            logger.warning("slow fsync of the transaction log ms=%d", took_ms)

    def _flush(self) -> None:
        stats = self.replica.stats
        for conn in self.replica.take_dirty():
            data = b"".join(conn.out)
            conn.is_dirty = False
            conn.link.send(data)
            conn.out.clear()
            stats.on_sent(data)
            if conn.flush_then_close:
                if conn.refusal:
                    logger.warning(
                        "client refused host=%s session=%#x reason=%s", conn.address[0], conn.session_id, conn.refusal
                    )
                conn.link.close()
            elif conn.is_full and not conn.link.is_choked:
                self.received(conn, b"")

    def _resume_paused(self) -> None:
        """Whose own writes are all answered goes on too, or a crowd of others could hold it up for ever."""
        if not self._paused:
            return
        is_low = len(self.replica.proposals) <= self.replica.outstanding_limit // 2
        paused, self._paused = self._paused, []
        for conn in paused:
            if conn.is_closed:
                continue
            if (is_low or not conn.outstanding) and not conn.is_full:
                conn.is_paused = False
                conn.link.resume()
            else:
                self._paused.append(conn)

    def _die(self, error: BaseException) -> None:
        """Nothing is sent any more: a reply could promise what the disk has not kept."""
        if not self._is_dead:
            self._is_dead = True
            self._on_fatal(error)

    # Snapshots, in slices between turns.

    def _begin_snapshot(self) -> None:
        replica = self.replica
        replica.on_snapshot_begun()
        export = Export(replica.tree, replica.sessions.timeouts)
        self._export = export
        self._snapshot_began_ms = self._clock.monotonic_ms()
        self._writer = self._store.begin_snapshot(export.zxid, export.sessions, export.acls)
        self._writer.on_ready = self._post_slice
        self._post_slice()

    def _post_slice(self) -> None:
        if not self._is_slice_posted:
            self._is_slice_posted = True
            self._post(self._write_slice)

    def _write_slice(self) -> None:
        self._is_slice_posted = False
        export, writer = self._export, self._writer
        if export is None or writer is None or self._is_dead:
            return
        if writer.failed is not None:
            self._end_snapshot(writer.failed)
            return
        until_ms = self._clock.monotonic_ms() + SLICE_MS
        while writer.ready:
            data = export.next_slice(SLICE_NODES)
            if not data:
                self._writer = None
                writer.finish(export.digest, self._end_snapshot)
                return
            writer.add(data)
            if self._clock.monotonic_ms() >= until_ms:
                self._post_slice()
                return

    def _end_snapshot(self, error: BaseException | None) -> None:
        export = self._export
        assert export is not None, "only a snapshot that began can end"
        self._export = None
        self._writer = None
        if self._is_dead:
            # The reason to end has been said, and is to be the last word.
            return
        if error is not None:
            # What the log holds is as durable as before; the next snapshot may succeed (ZOOKEEPER-3082).
            logger.warning("snapshot failed zxid=%#x error=%s", export.zxid, error)
            return
        self.last_snapshot_zxid = export.zxid
        self.replica.stats.observe("snapshottime", self._clock.monotonic_ms() - self._snapshot_began_ms)
        logger.info("snapshot written zxid=%#x znodes=%d", export.zxid, export.node_count())
        if self._purge_after_snapshot:
            self.purge()

    def purge(self) -> None:
        """Removes old snapshots and logs, off the loop."""
        self._store.purge(self._on_purged)

    def _on_purged(self, names: list[str], error: BaseException | None) -> None:
        if self._is_dead:
            return
        if error is not None:
            logger.warning("purge failed error=%s", error)
        elif names:
            logger.info("purged files=%d", len(names))
