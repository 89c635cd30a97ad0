"""From files to a tree and sessions: what FileTxnSnapLog.restore and ZooKeeperServer.loadData do, and never lose."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from coati import errors
from coati.core.tree import TreeConfig
from coati.errors import StorageCorrupt
from coati.server.recovery import Loaded, load
from coati.server.replica import ReplicaConfig
from coati.storage.disk import RealDisk
from coati.storage.store import Store, StoreConfig
from coati.testing.disk import SimDisk
from coati.testing.server import DATA_DIR, SimClient, SimConfig, SimServer, data_of, stat_of
from coati.wire import codes
from coati.wire.records import (
    ACL,
    CloseSessionTxn,
    CreateSessionTxn,
    CreateTxn,
    Id,
    MultiTxn,
    SetDataTxn,
    Txn,
    TxnHeader,
)
from coati.wire.txns import AnyTxn, encode_txn
from tests.storage.kit import Row, encode_znodes
from tools.rejoin import fill

LOGS = f"{DATA_DIR}/version-2"
# DigestCalculator over the tree of an empty server: measured with Java.
PRISTINE_DIGEST = 1371985504
OWNER, STRANGER = 0x1000020FEE00000, 0x1000020FEE00001
ANYONE = [ACL(31, Id("world", "anyone"))]
ROOT: Row = (b"", b"", -1, 0, 0, 0, 0, 0, -1, 0, 0, 0)


def settings(**changes: object) -> StoreConfig:
    config = StoreConfig(DATA_DIR, prealloc_bytes=4096)
    for name, value in changes.items():
        setattr(config, name, value)
    return config


def recover(disk: SimDisk, **changes: object) -> tuple[Store, Loaded]:
    store = Store(disk, settings(**changes))
    return store, load(store, TreeConfig())


def leaf(path: bytes, data: bytes, *, owner: int = 0, zxid: int = 5) -> Row:
    return (path, data, -1, zxid, zxid, 0, 0, 0, 0, 0, owner, zxid)


def put_snapshot(disk: SimDisk, zxid: int, sessions: dict[int, int], znodes: list[Row]) -> None:
    """A directory as another server left it."""
    store = Store(disk, settings(digest_enabled=False))
    for _ in store.recover(lambda reader: None).batches():
        raise AssertionError("the directory is empty")
    store.write_snapshot(zxid, sessions, {}, [encode_znodes(znodes)], None)
    store.close()


def put_log(disk: SimDisk, *txns: tuple[int, int, int, AnyTxn]) -> None:
    """(zxid, session, type, txn) behind what is there."""
    store = Store(disk, settings())
    recovered = store.recover(lambda reader: [*reader.batches()])
    for _ in recovered.batches():
        pass
    for zxid, session_id, op, txn in txns:
        store.append(zxid, encode_txn(TxnHeader(session_id, zxid, zxid, 1000 + zxid, op), txn, None))
    store.close()


def snapshots(disk: SimDisk) -> list[str]:
    return [name for name in disk.list(LOGS) if name.startswith("snapshot.")]


def test_an_empty_directory_gets_a_snapshot_before_its_first_txn() -> None:
    disk = SimDisk()
    store, loaded = recover(disk)
    assert snapshots(disk) == ["snapshot.0"]
    assert loaded.tree.digest == PRISTINE_DIGEST
    assert (loaded.tree.last_zxid, loaded.timeouts, loaded.replayed) == (0, {}, 0)
    store.close()
    again, loaded = recover(disk)
    assert (loaded.tree.digest, loaded.tree.digest_mismatches) == (PRISTINE_DIGEST, 0)
    assert list(loaded.tree.nodes) == [b"/", b"/zookeeper", b"/zookeeper/quota", b"/zookeeper/config"]
    again.close()


def test_a_database_that_must_not_come_into_being_gets_no_snapshot() -> None:
    """db.autocreate=false: such a server has nothing to say, and leaves the directory as it was."""
    disk = SimDisk()
    store, loaded = recover(disk, autocreate_db=False)
    assert snapshots(disk) == []
    assert store.last_zxid == -1
    assert loaded.tree.last_zxid == 0


def test_logs_without_a_snapshot_are_trusted_once() -> None:
    """snapshot.trust.empty is for one start: it leaves a snapshot, as Java does."""
    disk = SimDisk()
    put_snapshot(disk, 0, {}, [ROOT])
    put_log(
        disk,
        (1, OWNER, codes.OP_CREATE_SESSION, CreateSessionTxn(5000)),
        (2, OWNER, codes.OP_CREATE, CreateTxn(b"/a", b"x", ANYONE, False, 1)),
    )
    disk.remove(f"{LOGS}/snapshot.0")
    with pytest.raises(StorageCorrupt):
        recover(disk)
    disk.kill()
    store, loaded = recover(disk, trust_empty_snapshot=True)
    assert loaded.replayed == 2
    assert snapshots(disk) == ["snapshot.2"]
    store.close()
    store, loaded = recover(disk)
    assert loaded.tree.nodes[b"/a"].data() == b"x"
    assert loaded.timeouts == {OWNER: 5000}
    store.close()


def test_sessions_of_snapshot_and_log_are_put_together() -> None:
    disk = SimDisk()
    put_snapshot(disk, 5, {OWNER: 4000, STRANGER: 6000}, [ROOT, leaf(b"/e", b"", owner=OWNER)])
    put_log(
        disk,
        (6, OWNER + 7, codes.OP_CREATE_SESSION, CreateSessionTxn(9000)),
        (7, STRANGER, codes.OP_CLOSE_SESSION, CloseSessionTxn([])),
    )
    store, loaded = recover(disk)
    assert loaded.timeouts == {OWNER: 4000, OWNER + 7: 9000}
    assert loaded.tree.ephemerals == {OWNER: {b"/e": None}}
    assert snapshots(disk) == ["snapshot.5"]
    store.close()


def test_ownerless_ephemerals_are_buried_for_good(caplog: pytest.LogCaptureFixture) -> None:
    """ZooKeeperServer.loadData kills the sessions of which the snapshot knows ephemerals only, and takes a snapshot.

    Without that one, a znode created in the place of such an ephemeral would be lost by the next recovery.
    """
    server = SimServer()
    put_snapshot(server.disk, 5, {OWNER: 40_000}, [ROOT, leaf(b"/lost", b"old", owner=STRANGER), leaf(b"/keep", b"k")])
    put_log(server.disk, (6, OWNER, codes.OP_SET_DATA, SetDataTxn(b"/keep", b"new", 1)))
    with caplog.at_level(logging.WARNING, "coati.server.recovery"):
        server.start()
    assert f"session={STRANGER:#x}" in caplog.text
    assert b"/lost" not in server.tree.nodes
    assert not server.tree.ephemerals
    assert snapshots(server.disk) == ["snapshot.5", "snapshot.6"]
    client = server.client()
    client.create(b"/lost", b"mine")
    server.run()
    created = client.reply(1)
    assert created.err == errors.OK
    before = {path: node.body for path, node in server.tree.nodes.items()}
    digest = server.tree.digest
    server.kill()
    caplog.clear()
    server.start()
    assert {path: node.body for path, node in server.tree.nodes.items()} == before
    assert (server.tree.digest, server.tree.digest_mismatches) == (digest, 0)
    assert "session=" not in caplog.text
    again = SimClient(server.link())
    again.resume_from(client)
    again.get(b"/lost")
    server.run()
    assert data_of(again.replies[0]) == b"mine"
    assert stat_of(again.replies[0]) == stat_of(created)
    server.stop()


def test_a_snapshot_that_is_no_tree_is_refused() -> None:
    disk = SimDisk()
    put_snapshot(disk, 5, {}, [ROOT, leaf(b"/no/parent", b"")])
    put_log(disk, (6, OWNER, codes.OP_CREATE_SESSION, CreateSessionTxn(5000)))
    with pytest.raises(StorageCorrupt):
        recover(disk)


def test_an_older_snapshot_is_taken_if_the_logs_reach_back_to_it(caplog: pytest.LogCaptureFixture) -> None:
    server = SimServer(config=SimConfig(replica=ReplicaConfig(snap_count=40))).start()
    client = server.client()
    server.run()
    for number in range(100):
        client.create(b"/%d" % number)
        server.run(10)
    digest = server.tree.digest
    server.stop()
    newest = sorted(snapshots(server.disk), key=lambda name: int(name.partition(".")[2], 16))[-1]
    path = f"{LOGS}/{newest}"
    data = bytearray(server.disk.get(path))
    data[len(data) // 2] ^= 1
    server.disk.put(path, bytes(data))
    with caplog.at_level(logging.WARNING):
        server.start()
    assert newest in caplog.text
    assert (server.tree.digest, server.tree.digest_mismatches) == (digest, 0)
    assert server.loaded.timeouts == {client.session_id: 10_000}


def test_a_txn_that_cannot_be_applied_is_refused() -> None:
    disk = SimDisk()
    put_snapshot(disk, 5, {}, [ROOT])
    bad = MultiTxn([Txn(codes.OP_CREATE, b"\0\0")])
    put_log(disk, (6, OWNER, codes.OP_MULTI, bad))
    with pytest.raises(StorageCorrupt, match="the txn 0x6 at or after here"):
        recover(disk)


def test_a_digest_that_does_not_fit_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """Java only counts them (digest_mismatches_count), and so do we."""
    disk = SimDisk()
    put_snapshot(disk, 0, {}, [ROOT])
    store = Store(disk, settings())
    for _ in store.recover(lambda reader: [*reader.batches()]).batches():
        pass
    header = TxnHeader(OWNER, 1, 1, 1000, codes.OP_CREATE)
    store.append(1, encode_txn(header, CreateTxn(b"/a", b"", ANYONE, False, 1), 4711))
    store.close()
    with caplog.at_level(logging.ERROR, "coati.server.recovery"):
        store, loaded = recover(disk)
    assert loaded.tree.digest_mismatches == 1
    assert "digest mismatches=1" in caplog.text
    store.close()


def test_every_kind_of_txn_comes_back() -> None:
    """From the log alone, and from a snapshot of it: the same tree, the same Stats, the same sessions."""
    config = SimConfig(tree=TreeConfig(extended_types=True))
    server = SimServer(config=config).start()
    client, other = server.client(), server.client()
    server.run()
    client.create(b"/a", b"x")
    client.create(b"/a/s-", flags=codes.FLAG_PERSISTENT_SEQUENTIAL)
    client.create(b"/e", flags=codes.FLAG_EPHEMERAL)
    other.create(b"/gone", flags=codes.FLAG_EPHEMERAL)
    client.set_data(b"/a", b"y")
    client.delete(b"/none")
    client.close_session()
    server.run()
    other.delete(b"/a/s-0000000000")
    server.run()
    before = {path: node.body for path, node in server.tree.nodes.items()}
    digest = server.tree.digest
    for _ in range(2):
        server.kill()
        server.start()
        assert {path: node.body for path, node in server.tree.nodes.items()} == before
        assert (server.tree.digest, server.tree.digest_mismatches) == (digest, 0)
        assert server.loaded.timeouts == {other.session_id: 10_000}
        assert list(server.tree.ephemerals) == [other.session_id]
        server.replica.snapshot_is_due = True
        server.driver.turn()
        server.run()
        assert server.driver.last_snapshot_zxid == server.tree.last_zxid


def test_the_directory_that_the_rejoin_tool_fills_is_a_database(tmp_path: Path) -> None:
    """tools/rejoin.py measures a million of these: parents with a thousand children, the last one with fewer."""
    fill(tmp_path, 2500, 7 << 32)
    store = Store(RealDisk(lambda callback: callback()), StoreConfig(str(tmp_path)))
    tree = load(store, TreeConfig(), is_alone=False).tree
    store.close()
    assert [path.name for path in (tmp_path / "version-2").glob("snapshot.*")] == ["snapshot.700000000"]
    assert tree.last_zxid == 7 << 32
    assert tree.node_count() == 2500 + 5
    parent = tree.nodes[b"/p000002"]
    assert parent.children is not None
    assert len(parent.children.paths) == 499
    assert tree.nodes[b"/p000002/n000002499"].body.endswith((2500).to_bytes(8, "big"))
