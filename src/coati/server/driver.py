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
from coati.server.hub import Hub
from coati.server.pipeline import Conn
from coati.server.readonly import ReadOnly
from coati.server.replica import Replica
from coati.server.standing import Standing
from coati.server.stats import ServerStats
from coati.storage.store import SnapshotWriter, Store

logger = logging.getLogger("coati.server.driver")

# Znodes encoded into a snapshot between two looks at the clock, and the time in ms that one turn gives to it. What
# the p99 of reads meanwhile is made of.
SLICE_NODES: Final = 200
SLICE_MS: Final = 2
# A tick that comes so many ticks after the one before comes late: the process was stopped, or starved.
LATE_TICKS: Final = 2
# With more writes in flight than these it is the throughput that counts, and the disk's thread needs the processor.
MAX_POLLED: Final = 16


class Driver:
    """Runs one replica on one store. All methods belong to one thread, the event loop's.

    `post` runs a callable soon on that thread; `on_fatal` is told the one reason why the server must end; `busy_poll`
    keeps the loop awake while the disk syncs.
    """

    def __init__(
        self,
        replica: Replica | None,
        store: Store,
        clock: Clock,
        *,
        stats: ServerStats,
        post: Callable[[Callable[[], None]], object],
        on_fatal: Callable[[BaseException], None],
        purge_after_snapshot: bool = False,
        slow_sync_ms: int = 1000,
        busy_poll: BusyPoll | None = None,
        hub: Hub | None = None,
    ) -> None:
        self.replica: Replica | ReadOnly | None = replica
        self.serves_clients = replica is not None
        self.stats = stats
        self._hub = hub
        # Clients that came while nobody was served; they may still ask in four letters.
        self._early: dict[Conn, None] = {}
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
        self._ticked_ms = 0
        self._was_late = False
        self.last_snapshot_zxid = 0

    # What the shells report.

    def connected(self, conn: Conn) -> None:
        """A client has connected."""
        if self.replica is None or not self.serves_clients:
            self._early[conn] = None
        else:
            self.replica.on_connected(conn)

    def received(self, conn: Conn, data: bytes) -> None:
        """Bytes of a client have come; they are looked at in the next turn."""
        self._inbox.append((conn, data))
        if not self._is_posted:
            self._is_posted = True
            self._post(self.turn)

    def post_turn(self) -> None:
        """The hub has something to settle."""
        if not self._is_posted:
            self._is_posted = True
            self._post(self.turn)

    def closed(self, conn: Conn) -> None:
        """The client's connection is gone; its session lives on until it expires."""
        if conn in self._early:
            del self._early[conn]
        elif self.replica is not None:
            self.replica.on_closed(conn)

    def tick(self) -> None:
        """Time has passed: sessions expire, containers are reaped, a snapshot may be due."""
        self._begin_turn()
        # First what has come already: a client whose ping waits here is alive (S2).
        self._step_inbox()
        replica = self.replica
        if replica is not None and not self._is_late(replica):
            replica.on_tick()
        self._finish_turn()

    def _is_late(self, replica: Replica | ReadOnly) -> bool:
        """Whether this process did not run for a while: other servers could not tell whom they have heard of (S2).

        They do so before the next tick, which does its work however late it is. Java lets all sessions expire that were
        due meanwhile, whoever hears of them.
        """
        last_ms, self._ticked_ms = self._ticked_ms, self._clock.monotonic_ms()
        is_late = self._hub is not None and self._ticked_ms - last_ms > LATE_TICKS * replica.config.tick_ms
        self._was_late = is_late and not self._was_late
        return self._was_late

    @property
    def is_idle(self) -> bool:
        """Nothing is waiting for the disk."""
        return not self._is_syncing and not self._inbox

    def mode(self) -> str:
        """As the four-letter words name it."""
        if self.is_read_only:
            return "read-only"
        return "standalone" if self._hub is None else self._hub.mode()

    @property
    def is_read_only(self) -> bool:
        """Whether only reads are answered, for want of a quorum."""
        return isinstance(self.replica, ReadOnly)

    def standing(self) -> Standing | None:
        """The role in an ensemble, as the four-letter words show it. Who only reads has none."""
        return None if self._hub is None or self.is_read_only else self._hub.standing()

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
        replica = self.replica
        if replica is None or not self.serves_clients:
            # NIOServerCnxn.readPayload: "ZooKeeperServer not running".
            for conn, _ in inbox:
                conn.link.close()
            return
        on_received = replica.on_received
        stats = self.stats
        for conn, data in inbox:
            stats.received_bytes += len(data)
            on_received(conn, data)
            if conn.is_paused:
                if not conn.is_full:
                    self._resume_paused()
            elif conn.outstanding or conn.is_full:
                self._pause_if_full(replica, conn)

    def _pause_if_full(self, replica: Replica | ReadOnly, conn: Conn) -> None:
        """Back-pressure on who has writes in flight: too many of all, too many reads behind its own, or no session yet;
        and on who has asked for more than was answered in its turn.

        Who only reads is not held up by others.
        """
        limit = replica.outstanding_limit
        if conn.is_full or replica.in_flight() > limit or len(conn.waiting) > limit or not conn.is_greeted:
            conn.is_paused = True
            conn.link.pause()
            self._paused.append(conn)

    def _begin_turn(self) -> None:
        if self.replica is not None:
            self.replica.begin_turn(self._clock.monotonic_ms(), self._clock.wall_ms())

    def _finish_turn(self) -> None:
        if self._is_dead:
            return
        if self._hub is not None:
            self._hub.settle()
            # Others than the disk let clients go on here: the leader, and who has acknowledged.
            self._resume_paused()
        self.append_log()
        replica = self.replica
        if replica is None or self._is_dead:
            return
        if replica.outlet.dirty:
            self._flush(replica)
        if replica.outlet.closes:
            for conn in replica.outlet.take_closes():
                conn.link.close()
        if self._hub is not None:
            # Writes are answered in turns of others' packets as well as behind the own disk.
            replica.count_updates()
        if (
            self._export is None
            and isinstance(replica, Replica)
            and (replica.snapshot_is_due or self._store.log_bytes_since_snapshot > replica.snapshot_after_bytes)
        ):
            self._begin_snapshot(replica)

    def append_log(self) -> None:
        """Appends what there is, and starts a sync unless one runs. When the disk fails nothing may be sent."""
        hub = self._hub
        if hub is not None:
            if hub.has_log:
                for first_zxid, payloads in hub.take_log():
                    self._append(first_zxid, payloads)
        elif isinstance(self.replica, Replica):
            solo = self.replica.solo
            log = solo.take_log()
            if log:
                self._append(solo.proposed_zxid - len(log) + 1, log)

    def _append(self, first_zxid: int, payloads: list[bytes]) -> None:
        if self._is_dead:
            return
        try:
            self._store.append_all(first_zxid, payloads)
        except Exception as error:
            self.die(error)
        else:
            self._sync()

    def _sync(self) -> None:
        if self._is_syncing:
            return
        self._is_syncing = True
        zxid = self._store.last_zxid
        try:
            self._store.sync(lambda error: self._on_synced(zxid, error))
        except StorageFailed as error:
            self.die(error)
        if self._busy_poll is not None and (self.replica is None or self.replica.in_flight() <= MAX_POLLED):
            self._busy_poll.begin()

    def _on_synced(self, zxid: int, error: BaseException | None) -> None:
        self._is_syncing = False
        sync_ms = self._store.sync_ms
        if self._busy_poll is not None:
            self._busy_poll.end(sync_ms)
        if error is not None:
            self.die(error)
        if self._is_dead:
            return
        self._begin_turn()
        if self._hub is not None:
            self._hub.on_synced(zxid)
        elif isinstance(self.replica, Replica):
            self.replica.on_synced(zxid)
        self._resume_paused()
        # First what was proposed in this turn goes to the log: a sync stands for all that was proposed before it.
        self._finish_turn()
        if self._store.last_zxid > zxid and not self._is_dead:
            self._sync()
        # Behind the replies: a lone writer waits for all that comes before them. In an ensemble the turn has done it.
        if self._hub is None and self.replica is not None:
            self.replica.count_updates()
        self._count_sync(int(sync_ms))

    def _count_sync(self, took_ms: int) -> None:
        """For `fsynctime` of mntr, and fsync.warningthresholdms (FileTxnLog.commit)."""
        stats = self.stats
        stats.observe("fsynctime", took_ms)
        # The reason to end is the last word in the log.
        if took_ms > self._slow_sync_ms and not self._is_dead:
            stats.fsync_slow += 1
            logger.warning("slow fsync of the transaction log ms=%d", took_ms)

    def _flush(self, replica: Replica | ReadOnly) -> None:
        stats = self.stats
        for conn in replica.outlet.take_dirty():
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
        replica = self.replica
        if not self._paused or replica is None:
            return
        is_low = replica.in_flight() <= replica.outstanding_limit // 2
        paused, self._paused = self._paused, []
        for conn in paused:
            if conn.is_closed:
                continue
            if (is_low or not conn.outstanding) and not conn.is_full:
                conn.is_paused = False
                conn.link.resume()
            else:
                self._paused.append(conn)

    def die(self, error: BaseException) -> None:
        """Nothing is sent any more: a reply could promise what the disk has not kept."""
        if not self._is_dead:
            self._is_dead = True
            self._on_fatal(error)

    # Roles.

    def set_replica(self, replica: Replica | ReadOnly | None, *, serves_clients: bool = True) -> None:
        """The server serves by it from now on, clients too if they are to be (leaderServes); None: by nobody.

        Who was served before loses the connection.
        """
        old, self.replica = self.replica, replica
        self.serves_clients = serves_clients and replica is not None
        if old is not None:
            self._paused.clear()
            self._inbox.clear()
            for conn in old.outlet.take_closes():
                conn.link.close()
        if replica is not None:
            self._begin_turn()
        if replica is not None and serves_clients:
            for conn in self._early:
                replica.on_connected(conn)
            self._early.clear()

    def give_up_snapshot(self) -> None:
        """The store is needed for something else. One that is all but written ends by itself."""
        writer = self._writer
        if writer is not None:
            self._writer = None
            self._export = None
            writer.abort()

    # Snapshots, in slices between turns.

    def _begin_snapshot(self, replica: Replica) -> None:
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
        self.stats.observe("snapshottime", self._clock.monotonic_ms() - self._snapshot_began_ms)
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
