"""The driver: one sync for many, nothing before its sync, back-pressure, snapshots in slices, and the end of a disk."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from coati import errors
from coati.errors import StorageFailed
from coati.server.driver import SLICE_MS, SLICE_NODES, Driver
from coati.server.replica import ReplicaConfig
from coati.storage.store import Store
from coati.testing.disk import SimDisk
from coati.testing.server import DATA_DIR, Parts, SimClient, SimConfig, SimServer, data_of, request_frame
from coati.wire import codes
from tests.now import now

REAL = Parts()
LOGS = f"{DATA_DIR}/version-2"


def serve(parts: Parts = REAL, config: SimConfig | None = None, **replica: Any) -> SimServer:
    config = config or SimConfig()
    if replica:
        config.replica = ReplicaConfig(**replica)
    return SimServer(config=config, parts=parts).start()


def joined(server: SimServer) -> SimClient:
    client = server.client(timeout_ms=40_000)
    server.run()
    assert client.session_id != 0
    return client


class Calls:
    """What is done to the disk, in order; `on` is called before each."""

    def __init__(self, disk: SimDisk) -> None:
        self.seen: list[tuple[str, str]] = []
        disk.on_call = lambda kind, path: self.seen.append((kind, path))

    def count(self, kind: str, where: str) -> int:
        return sum(seen == kind and where in path for seen, path in self.seen)


# Syncs


def test_the_writes_of_a_turn_share_one_sync() -> None:
    server = serve()
    clients = [joined(server) for _ in range(3)]
    calls = Calls(server.disk)
    for client in clients:
        for number in range(100):
            client.create(b"/%x-%d" % (client.session_id, number))
    server.run()
    assert [len(client.replies) for client in clients] == [100, 100, 100]
    assert calls.count("sync", "/log.") == 1


def test_what_comes_during_a_sync_shares_the_next_one() -> None:
    server = serve(config=SimConfig(disk_ms=(20, 20)))
    client = server.client()
    server.run(100)
    calls = Calls(server.disk)
    client.create(b"/a")
    server.run(1)
    for number in range(15):
        client.create(b"/%d" % number)
        server.run(1)
    server.run(3)
    assert [reply.xid for reply in client.replies] == []
    server.run(1)
    assert [reply.xid for reply in client.replies] == [1]
    server.run(20)
    assert len(client.replies) == 16
    assert calls.count("sync", "/log.") == 2


@pytest.mark.parametrize("kind", ["create", "refused", "close"])
def test_nothing_is_answered_before_its_sync(kind: str, parts: Parts) -> None:
    """W1: not a write, not its refusal, not the end of a session; nor is it to be read by anybody."""
    server = serve(parts, SimConfig(disk_ms=(100, 100)))
    client = server.client()
    other = server.client()
    server.run(300)
    synced: list[int] = []
    server.disk.on_call = lambda kind, path: synced.append(server.clock.now_ms) if kind == "sync" else None
    received: list[int] = []
    on_data = client.link.on_data
    assert on_data is not None

    def note(data: bytes) -> None:
        received.append(server.clock.now_ms)
        on_data(data)

    client.link.on_data = note
    if kind == "create":
        client.create(b"/a")
    elif kind == "refused":
        client.create(b"/")
    else:
        client.close_session()
    server.run(50)
    other.exists(b"/a")
    server.run(50 + 100)
    assert other.reply(1).err == errors.NO_NODE
    assert len(client.replies) == 1
    assert len(synced) == 1
    assert received[0] >= synced[0]


def test_a_session_is_not_told_before_its_sync(parts: Parts) -> None:
    server = serve(parts, SimConfig(disk_ms=(100, 100)))
    client = server.client()
    server.run(99)
    assert client.connected is None
    server.run(1)
    assert client.connected is not None


def test_a_turn_without_anything_new_starts_no_sync() -> None:
    server = serve()
    client = joined(server)
    calls = Calls(server.disk)
    client.get(b"/")
    server.run()
    server.driver.turn()
    server.driver.turn()
    server.run()
    assert calls.seen == []
    assert server.driver.is_idle


def test_bytes_are_counted_as_they_come_and_go() -> None:
    server = serve()
    client = joined(server)
    stats = server.replica.stats
    before = (stats.received_bytes, stats.sent_bytes)
    client.ping()
    client.ping()
    server.run()
    assert (stats.received_bytes - before[0], stats.sent_bytes - before[1]) == (2 * 12, 2 * 20)
    assert stats.response_last_bytes == 16


def test_it_is_idle_when_nothing_waits_for_the_disk() -> None:
    server = serve(config=SimConfig(disk_ms=(10, 10)))
    client = server.client()
    assert not now(server.driver.is_idle)
    server.run(5)
    assert not now(server.driver.is_idle)
    server.run(6)
    assert server.driver.is_idle
    client.get(b"/")
    assert not server.driver.is_idle


# The end of a disk


class Witness(Store):
    """The store, in which an append or the start of a sync may fail."""

    fails_append = False
    fails_sync = False

    def append_all(self, first_zxid: int, payloads: list[bytes]) -> None:
        if self.fails_append:
            raise StorageFailed("no more")
        super().append_all(first_zxid, payloads)

    def sync(self, done: Callable[[BaseException | None], None]) -> None:
        if self.fails_sync:
            raise StorageFailed("no more")
        super().sync(done)


def crowd(server: SimServer) -> tuple[SimClient, SimClient]:
    """A writer, and a reader that watches what it writes."""
    writer, reader = joined(server), joined(server)
    writer.create(b"/a")
    reader.exists(b"/a", watch=True)
    server.run()
    return writer, reader


@pytest.mark.parametrize("kind", ["write", "sync", "append", "begin"])
def test_a_failed_disk_is_told_once_and_nothing_is_sent_any_more(kind: str, parts: Parts) -> None:
    """ZOOKEEPER-2247, 4882: no acknowledgement, no event, and no second try."""
    server = serve(Parts(driver=parts.driver, store=Witness))
    writer, reader = crowd(server)
    store = server.store
    assert isinstance(store, Witness)
    if kind in ("write", "sync"):
        server.disk.fail(kind, 1, errno.EIO, where="/log.")
    else:
        store.fails_append = kind == "append"
        store.fails_sync = kind == "begin"
    calls = Calls(server.disk)
    received = len(writer.link.received), len(reader.link.received)
    writer.set_data(b"/a", b"x")
    reader.create(b"/b")
    server.run(0)
    if kind in ("append", "begin"):
        assert len(server.fatal) == 1
    server.run(5)
    assert len(server.fatal) == 1
    assert isinstance(server.fatal[0], StorageFailed)
    seen = len(calls.seen)
    writer.set_data(b"/a", b"y")
    reader.get(b"/a")
    server.run()
    server.run(5000)
    assert len(server.fatal) == 1
    assert (len(writer.link.received), len(reader.link.received)) == received
    assert len(calls.seen) == seen
    server.crash(Random(1), "lose")
    server.start()
    assert server.tree.nodes[b"/a"].data() == b""
    assert b"/b" not in server.tree.nodes


def test_reads_of_the_turn_in_which_an_append_fails_are_not_sent(parts: Parts) -> None:
    server = serve(Parts(driver=parts.driver, store=Witness))
    writer, reader = crowd(server)
    store = server.store
    assert isinstance(store, Witness)
    store.fails_append = True
    received = len(reader.link.received)
    writer.set_data(b"/a", b"x")
    reader.get(b"/a")
    server.run()
    assert len(server.fatal) == 1
    assert len(reader.link.received) == received


def test_a_sync_that_cannot_be_started_behind_another_one_ends_it() -> None:
    server = serve(Parts(store=Witness), SimConfig(disk_ms=(10, 10)))
    client = server.client()
    server.run(100)
    client.create(b"/a")
    server.run(1)
    client.create(b"/b")
    store = server.store
    assert isinstance(store, Witness)
    server.run(1)
    store.fails_sync = True
    server.run(20)
    assert len(server.fatal) == 1
    # The first create was durable by then; of the second nothing is promised.
    assert [reply.xid for reply in client.replies] == [1]


def test_a_disk_that_fails_in_two_ways_is_told_once() -> None:
    server = serve(Parts(store=Witness), SimConfig(disk_ms=(10, 10)))
    client = server.client()
    server.run(100)
    server.disk.fail("sync", 1, errno.EIO, where="/log.")
    client.create(b"/a")
    server.run(1)
    store = server.store
    assert isinstance(store, Witness)
    store.fails_append = True
    client.create(b"/b")
    server.run(100)
    assert len(server.fatal) == 1
    assert client.replies == []


def test_slow_syncs_are_counted_and_named(caplog: pytest.LogCaptureFixture) -> None:
    """FileTxnLog.commit, fsync.warningthresholdms: 1000."""
    server = serve()
    client = joined(server)
    for took_ms in (1000.0, 1500.0, 2.0):
        server.disk.sync_ms = took_ms
        client.create(b"/a")
        server.run()
    assert "slow fsync of the transaction log ms=1500" in caplog.text
    stats = server.replica.stats
    assert stats.fsync_slow == caplog.text.count("slow fsync") == 1
    # The first one was that of the session.
    assert (stats.summaries["fsynctime"].count, stats.summaries["fsynctime"].total) == (4, 2502)


# Back-pressure


def test_who_writes_too_much_is_paused_and_resumed(parts: Parts) -> None:
    server = serve(parts, SimConfig(disk_ms=(100, 100)), outstanding_limit=20)
    writer, other, reader = (server.client(timeout_ms=40_000) for _ in range(3))
    server.run(300)
    body = b"\0\0\0\1/" + b"\0\0\0\0" + b"\xff\xff\xff\xff"
    frames = [request_frame(xid, codes.OP_SET_DATA, body) for xid in range(1, 101)]
    for start in range(0, 100, 10):
        writer.link.feed(b"".join(frames[start : start + 10]))
        server.run(1)
    other.create(b"/other")
    reader.get(b"/")
    server.run(1)
    # Two pieces were within the limit, the third went over it; the rest waits in the socket.
    assert now(writer.link.is_paused)
    assert len(server.replica.proposals) == 30 + 1
    assert now(other.link.is_paused)
    assert not reader.link.is_paused
    assert reader.reply(1).err == errors.OK
    server.run(2000)
    assert not writer.link.is_paused
    assert not other.link.is_paused
    assert [reply.xid for reply in writer.replies] == list(range(1, 101))
    assert other.reply(1).err == errors.OK
    assert writer.link.pauses > 1


def test_reads_that_wait_behind_a_write_are_limited_too() -> None:
    server = serve(config=SimConfig(disk_ms=(100, 100)), outstanding_limit=20)
    client = server.client()
    server.run(300)
    client.create(b"/a")
    for _ in range(10):
        for _ in range(15):
            client.exists(b"/a")
        server.run(1)
    assert client.link.is_paused
    assert len(client.link.conn.waiting) == 30
    server.run(300)
    assert [reply.xid for reply in client.replies] == list(range(1, 152))
    assert not client.link.is_paused


def test_who_is_paused_is_not_starved_by_many_that_are_not() -> None:
    """Thirty sessions with one write each keep the number above half of the limit for ever."""
    server = serve(config=SimConfig(disk_ms=(10, 10)), outstanding_limit=40)
    writer = server.client(timeout_ms=40_000)
    crowd = [server.client(timeout_ms=40_000) for _ in range(30)]
    server.run(100)
    for _ in range(60):
        writer.create(b"/a")
    for number in range(300):
        # Half of them write while a sync runs, so that there are always some under way when one ends.
        for client in crowd[number % 2 :: 2]:
            client.set_data(b"/", b"")
            client.set_data(b"/", b"")
        server.run(5)
    assert len(server.replica.proposals) > 20
    assert len(writer.replies) == 60
    writer.create(b"/b")
    server.run(30)
    assert len(writer.replies) == 61


def test_who_goes_while_paused_is_not_resumed() -> None:
    server = serve(config=SimConfig(disk_ms=(100, 100)), outstanding_limit=1)
    client = server.client()
    server.run(300)
    for _ in range(3):
        client.create(b"/a")
    server.run(1)
    assert client.link.is_paused
    client.link.drop()
    server.run(300)
    assert client.link.is_paused
    assert server.replica.solo.delivered_zxid == 4


# Snapshots


def grow(server: SimServer, client: SimClient, first: int, count: int) -> None:
    for number in range(first, first + count):
        client.create(b"/n%d" % number, b"%d" % number)


def snapshots(server: SimServer) -> list[str]:
    return [name for name in server.disk.list(LOGS) if name.startswith("snapshot.")]


def picture(server: SimServer) -> tuple[dict[bytes, bytes], int, dict[int, int], int]:
    """All znodes with data and Stat, the digest, the sessions and the zxid."""
    tree = server.tree
    return (
        {path: node.body for path, node in tree.nodes.items()},
        tree.digest,
        dict(server.replica.sessions.timeouts),
        tree.last_zxid,
    )


def test_a_snapshot_is_due_after_half_to_all_of_snap_count_txns() -> None:
    """SyncRequestProcessor.shouldSnapshot; and the log rolls."""
    taken: list[int] = []
    for seed in range(20):
        config = SimConfig(replica=ReplicaConfig(snap_count=100))
        server = SimServer(config=config, dice=Random(seed)).start()
        client = joined(server)
        for number in range(110):
            client.create(b"/%d" % number)
            server.run(10)
        taken.append(server.driver.last_snapshot_zxid)
        assert snapshots(server)[:2] == ["snapshot.0", f"snapshot.{taken[-1]:x}"]
        assert f"log.{taken[-1] + 1:x}" in server.disk.list(LOGS)
    assert min(taken) >= 50
    assert max(taken) <= 101
    assert len(dict.fromkeys(taken)) > 5


def test_a_snapshot_is_due_when_the_log_has_grown_too_long() -> None:
    server = serve(snap_size_limit_bytes=20_000)
    client = joined(server)
    for number in range(25):
        client.create(b"/%d" % number, bytes(1000))
        server.run(10)
    assert 9 <= server.driver.last_snapshot_zxid <= 21
    unlimited = serve(snap_size_limit_bytes=0)
    client = joined(unlimited)
    grow(unlimited, client, 0, 50)
    unlimited.run()
    assert snapshots(unlimited) == ["snapshot.0"]


def test_a_snapshot_is_written_in_slices_while_writes_go_on(parts: Parts) -> None:
    """It is exactly the tree, and the sessions, of the zxid in its name, whatever is changed meanwhile."""
    server = serve(parts, snap_count=10_000)
    client = joined(server)
    grow(server, client, 0, SLICE_NODES * 12)
    server.run()
    zxid = server.tree.last_zxid
    before = picture(server)
    server.replica.snapshot_is_due = True
    # After each slice the turn's share of time is over.
    server.clock.look_ms = SLICE_MS
    served_meanwhile = 0
    server.driver.turn()
    for number in range(12):
        client.set_data(b"/n%d" % (number * SLICE_NODES), b"changed")
        client.delete(b"/n%d" % (number * SLICE_NODES + 1))
        client.create(b"/late%d" % number)
        other = server.client()
        server.clock.step(server.clock.now_ms)
        server.clock.step(server.clock.now_ms + 1)
        served_meanwhile += server.driver.last_snapshot_zxid == 0
        other.close_session()
    server.clock.look_ms = 0
    server.run(1000)
    assert served_meanwhile > 5
    assert server.driver.last_snapshot_zxid >= zxid
    after = picture(server)
    assert after != before
    name = f"snapshot.{server.driver.last_snapshot_zxid:x}"
    assert name in snapshots(server)
    server.kill()
    # From the snapshot and the log behind it: the same again.
    server.start()
    assert server.loaded.replayed > 0
    assert picture(server) == after
    assert server.tree.digest_mismatches == 0


def test_a_snapshot_alone_gives_tree_digest_and_sessions_back(parts: Parts) -> None:
    server = serve(parts, snap_count=10_000)
    clients = [joined(server) for _ in range(3)]
    grow(server, clients[0], 0, SLICE_NODES * 2 + 1)
    clients[1].create(b"/mine", flags=codes.FLAG_EPHEMERAL)
    clients[2].close_session()
    clients[0].delete(b"/n5")
    server.run()
    before = picture(server)
    server.replica.snapshot_is_due = True
    server.driver.turn()
    server.run()
    assert server.driver.last_snapshot_zxid == server.tree.last_zxid
    assert server.replica.stats.summaries["snapshottime"].count == 1
    server.stop()
    for name in [name for name in server.disk.list(LOGS) if name.startswith("log.")]:
        server.disk.remove(f"{LOGS}/{name}")
    server.start()
    assert server.loaded.replayed == 0
    assert picture(server) == before
    assert list(before[2]) == [clients[0].session_id, clients[1].session_id]


def test_a_slow_disk_is_waited_for_without_turning_in_circles() -> None:
    server = serve(config=SimConfig(disk_ms=(500, 500)), snap_count=10_000)
    client = server.client(timeout_ms=40_000)
    server.run(1500)
    for number in range(100):
        client.create(b"/%d" % number, bytes(200_000))
    server.run(3000)
    assert len(client.replies) == 100
    server.replica.snapshot_is_due = True
    server.driver.turn()
    steps = 0
    while server.driver.last_snapshot_zxid == 0:
        assert server.clock.step(server.clock.now_ms + 1000)
        steps += 1
    assert steps < 100


@pytest.mark.parametrize("look_ms", [0, SLICE_MS])
@pytest.mark.parametrize("kind", ["create", "write", "sync", "rename", "sync_dir"])
def test_a_failed_snapshot_is_a_warning(kind: str, look_ms: int, caplog: pytest.LogCaptureFixture) -> None:
    """ZOOKEEPER-3082: what the log holds is as durable as before, and the next one may succeed."""
    server = serve(snap_count=10_000)
    client = joined(server)
    grow(server, client, 0, SLICE_NODES * 10)
    server.run()
    where = "version-2" if kind == "sync_dir" else "/snapshot."
    fault = server.disk.fail(kind, 1, errno.ENOSPC, where=where)
    with caplog.at_level(logging.WARNING):
        server.replica.snapshot_is_due = True
        server.clock.look_ms = look_ms
        server.driver.turn()
        server.run(1000)
    server.clock.look_ms = 0
    assert fault.seen >= 1
    assert "snapshot failed" in caplog.text
    assert server.fatal == []
    assert server.driver.last_snapshot_zxid == 0
    client.create(b"/still")
    client.get(b"/still")
    server.run()
    assert client.replies[-1].err == errors.OK
    server.replica.snapshot_is_due = True
    server.driver.turn()
    server.run()
    assert server.driver.last_snapshot_zxid == server.tree.last_zxid
    before = picture(server)
    server.kill()
    server.start()
    assert picture(server) == before


def test_a_snapshot_ends_with_the_driver() -> None:
    server = serve(snap_count=10_000)
    client = joined(server)
    grow(server, client, 0, SLICE_NODES * 3)
    server.run()
    server.replica.snapshot_is_due = True
    server.clock.look_ms = SLICE_MS
    server.disk.fail("write", 1, errno.EIO, where="/log.")
    client.create(b"/x")
    server.run()
    assert len(server.fatal) == 1
    assert server.driver.last_snapshot_zxid == 0


@pytest.mark.parametrize("second", ["snapshot", "purge"])
def test_the_reason_to_end_is_the_last_word(second: str, caplog: pytest.LogCaptureFixture) -> None:
    """A disk fails the log first, then the snapshot or the purge that was under way; that is no news any more."""
    server = serve(snap_count=20)
    client = joined(server)
    for number in range(120):
        client.create(b"/%d" % number)
        server.run(10)
    server.disk.fail("write", 1, errno.EIO, where="/log.")
    fault = server.disk.fail({"snapshot": "create", "purge": "remove"}[second], 1, errno.EIO, where="/snapshot.")
    client.create(b"/x")
    server.replica.snapshot_is_due = second == "snapshot"
    server.driver.turn()
    if second == "purge":
        server.driver.purge()
    server.run()
    assert len(server.fatal) == 1
    assert fault.seen == 1
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


class Purging(Driver):
    """The driver as a server runs it that purges after each snapshot."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, purge_after_snapshot=True)


def test_old_snapshots_and_logs_are_purged(caplog: pytest.LogCaptureFixture) -> None:
    server = serve(Parts(driver=Purging), snap_count=20)
    client = joined(server)
    with caplog.at_level(logging.INFO, "coati.server.driver"):
        for number in range(120):
            client.create(b"/%d" % number)
            server.run(10)
    assert len(snapshots(server)) == 3
    assert "purged files=" in caplog.text
    before = picture(server)
    server.kill()
    server.start()
    assert picture(server) == before


def test_a_purge_that_fails_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    server = serve(Parts(driver=Purging), snap_count=20)
    client = joined(server)
    server.disk.fail("remove", 1, errno.EACCES)
    for number in range(120):
        client.create(b"/%d" % number)
        server.run(10)
    assert "purge failed" in caplog.text
    assert server.fatal == []
    client.get(b"/0")
    server.run()
    assert data_of(client.replies[-1]) == b""
