"""SNAP: what a leader sends is one tree, what a learner takes in is that tree or nothing."""

from __future__ import annotations

import errno
import gc
import os
import random
import struct
import subprocess
import time
import tracemalloc
from pathlib import Path
from types import FrameType

import pytest

from coati.core.replay import apply
from coati.core.tree import Tree, TreeConfig, pristine
from coati.errors import ProtocolError, StorageCorrupt, StorageFailed
from coati.server.recovery import Loaded, load, ownerless, reload
from coati.server.transfer import PIECE_BYTES, SnapshotSender, SnapshotStream
from coati.storage.store import Store, StoreConfig
from coati.testing.disk import SimDisk
from coati.testing.server import DATA_DIR
from coati.wire import codes, quorum
from coati.wire.quorum import PacketReader
from coati.wire.records import ACL, CreateTxn, Id, TxnHeader
from coati.wire.txns import encode_txn
from tests.core.kit import Core
from tests.core.test_replay import fingerprint
from tests.core.workload import Workload
from tests.now import now
from tests.storage.kit import Row, encode_znodes
from tools import javapeer

CONFIG = TreeConfig(extended_types=True)
DIRECTORY = f"{DATA_DIR}/version-2"
ANYONE = [ACL(31, Id("world", "anyone"))]
SIGNATURE = b"\x00\x00\x00\x0aBenWasHere"
END = b"\x00\x00\x00\x01/"
SNAP_PEER = Path(__file__).parent / "java" / "SnapPeer.java"
Z = 0x100000050


def opened(disk: SimDisk) -> tuple[Store, Loaded]:
    store = Store(disk, StoreConfig(DATA_DIR, prealloc_bytes=4096))
    return store, load(store, CONFIG, is_alone=False)


def create(zxid: int, path: bytes, data: bytes = b"x") -> bytes:
    header = TxnHeader(7, zxid & 0xFFFF, zxid, 1000, codes.OP_CREATE)
    return encode_txn(header, CreateTxn(path, data, ANYONE, False, -1), None)


def write(store: Store, disk: SimDisk, first: int, last: int) -> None:
    for zxid in range(first, last + 1):
        store.append(zxid, create(zxid, b"/n%x" % zxid))
    errors: list[BaseException | None] = []
    store.sync(errors.append)
    disk.run()
    assert errors == [None]


def some_tree(seed: int = 1, writes: int = 300) -> tuple[Tree, dict[int, int]]:
    core = Core(extended_types=True)
    Workload(core, seed).run(writes)
    core.tree.last_zxid = Z
    return core.tree, dict(core.sessions.timeouts)


def stream_of(tree: Tree, timeouts: dict[int, int]) -> bytes:
    sender = SnapshotSender(tree, timeouts)
    parts = []
    while not sender.is_done:
        parts.append(sender.next_piece())
    return b"".join(parts)


def install(stream: SnapshotStream, disk: SimDisk) -> Loaded:
    errors: list[BaseException | None] = []
    stream.finish(errors.append)
    disk.run()
    assert errors == [None]
    return stream.take_loaded()


def names(disk: SimDisk) -> list[str]:
    return [name for name in disk.list(DIRECTORY) if name != "coati.lock"]


def contents(disk: SimDisk) -> dict[str, bytes]:
    return {name: disk.get(f"{DIRECTORY}/{name}") for name in names(disk)}


@pytest.mark.parametrize("seed", range(8))
def test_a_tree_arrives_as_it_was_when_the_sending_began(seed: int) -> None:
    """Pieces of any size, writes in between; what the learner has then, a restart finds as well (Z10)."""
    dice = random.Random(seed)
    core = Core(extended_types=True)
    workload = Workload(core, seed)
    workload.run(200)
    expected = fingerprint(core.tree)
    sender = SnapshotSender(core.tree, core.sessions.timeouts)
    timeouts = dict(core.sessions.timeouts)
    parts = []
    while not sender.is_done:
        parts.append(sender.next_piece())
        workload.run(20)
    data = b"".join(parts) + b"what follows"
    disk = SimDisk()
    store, _ = opened(disk)
    stream = SnapshotStream(store, CONFIG, sender.zxid)
    rest: bytes | None = None
    pos = 0
    while rest is None:
        size = dice.choice((1, 2, 5, 40, 300, 5000))
        rest = stream.feed(data[pos : pos + size])
        pos += size
        disk.run()
    assert rest + data[pos:] == b"what follows"
    loaded = install(stream, disk)
    assert fingerprint(loaded.tree) == expected
    assert loaded.timeouts == timeouts
    assert (store.last_zxid, store.synced_zxid) == (sender.zxid, sender.zxid)
    disk.kill()
    _, again = opened(disk)
    assert fingerprint(again.tree) == expected
    assert (again.timeouts, again.replayed) == (timeouts, 0)


def test_large_znodes_are_sent_in_pieces_and_taken_in_as_they_come() -> None:
    """Memory: neither side ever has all bytes a second time, and a slow disk is waited for."""
    tree = pristine(CONFIG)
    data = random.Random(1).randbytes(100_000)
    for number in range(1, 61):
        txn = CreateTxn(b"/big%d" % number, data, ANYONE, False, -1)
        apply(tree, TxnHeader(7, number, number, 1000, codes.OP_CREATE), txn, None)
    sender = SnapshotSender(tree, {})
    assert sender.node_count() == 64
    disk = SimDisk()
    store, _ = opened(disk)
    stream = SnapshotStream(store, CONFIG, 60)
    waits: list[bool] = []
    stream.on_ready(lambda: waits.append(stream.ready))
    was_full = 0
    while not sender.is_done:
        piece = sender.next_piece()
        assert len(piece) < PIECE_BYTES + 16 * 101_000
        stream.feed(piece)
        if not now(stream.ready):
            was_full += 1
            disk.run()
            assert stream.ready
            assert waits[-1]
    assert was_full > 0
    assert fingerprint(install(stream, disk).tree) == fingerprint(tree)


def test_the_stream_fits_the_reader_of_packets() -> None:
    """PacketReader stops at SNAP, the stream takes what is its own, and packets go on behind it, cut anywhere."""
    tree, timeouts = some_tree(writes=60)
    before = quorum.encode_packet(quorum.PING, 1)
    after = quorum.encode_packet(quorum.PROPOSAL, Z + 1, b"txn") + quorum.encode_packet(quorum.NEWLEADER, 1 << 32)
    wire = before + quorum.encode_packet(quorum.SNAP, Z) + stream_of(tree, timeouts) + after
    for size in (1, 7, 19, 100, len(wire)):
        disk = SimDisk()
        store, _ = opened(disk)
        reader = PacketReader(1 << 20)
        stream: SnapshotStream | None = None
        found: list[tuple[int, int]] = []
        for pos in range(0, len(wire), size):
            data = wire[pos : pos + size]
            if not now(reader.is_raw):
                packets = reader.feed(data)
                found += [(packet.type, packet.zxid) for packet in packets]
                if not reader.is_raw:
                    continue
                stream = SnapshotStream(store, CONFIG, packets[-1].zxid)
                data = reader.take_rest()
            assert stream is not None
            rest = stream.feed(data)
            if rest is not None:
                found += [(packet.type, packet.zxid) for packet in reader.end_raw(rest)]
        assert found == [(quorum.PING, 1), (quorum.SNAP, Z), (quorum.PROPOSAL, Z + 1), (quorum.NEWLEADER, 1 << 32)]
        assert stream is not None
        assert fingerprint(install(stream, disk).tree) == fingerprint(tree)


# Row 46 of the bad inputs: a hostile leader. What it sends is dropped, what the disk has stays.

ROOT: Row = (b"/", b"", -1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
NO_TABLES = bytes(8)
FOREVER = b"".join(encode_znodes([(b"/n%d" % n, b"x" * 900, -1, 1, 1, 0, 0, 0, 0, 0, 0, 1)]) for n in range(1200))


def znode(path: bytes, *, acl: int = -1, owner: int = 0) -> bytes:
    return encode_znodes([(path, b"", acl, 1, 1, 0, 0, 0, 0, 0, owner, 1)])


def acl_table(count: int, *acls: tuple[int, int, bytes]) -> bytes:
    return struct.pack(">ii", 0, count) + b"".join(struct.pack(">qi", key, size) + rest for key, size, rest in acls)


ENTRY = struct.pack(">ii5si6s", 31, 5, b"world", 6, b"anyone")
HOSTILE = {
    "wrong signature": NO_TABLES + znode(b"/") + END + b"\x00\x00\x00\x0aBenWasHerf",
    "wrong length of the signature": NO_TABLES + znode(b"/") + END + b"\x00\x00\x00\x0b",
    "no end, another path of one byte": NO_TABLES + znode(b"/") + b"\x00\x00\x00\x01x",
    "no root": NO_TABLES + END + SIGNATURE,
    "an orphan first": NO_TABLES + znode(b"/a") + znode(b"/"),
    "an orphan": NO_TABLES + znode(b"/") + znode(b"/a/b"),
    "a path twice": NO_TABLES + znode(b"/") + znode(b"/a") + znode(b"/a"),
    "the root twice": NO_TABLES + znode(b"/") + znode(b"/a") + znode(b"/"),
    "an empty name": NO_TABLES + znode(b"/") + znode(b"/a") + znode(b"/a/"),
    "an empty name below the root": NO_TABLES + znode(b"/") + znode(b"//a"),
    "a path that is none": NO_TABLES + znode(b"/") + znode(b"abc"),
    "its own parent": NO_TABLES + znode(b"/") + znode(b"/a/.."),
    "an unknown ACL": NO_TABLES + znode(b"/", acl=5),
    "an absurd ACL": acl_table(1, (1, 1, ENTRY)) + znode(b"/", acl=-(1 << 63)),
    "an ACL twice": acl_table(2, (1, 1, ENTRY), (1, 1, ENTRY)),
    "the open ACL": acl_table(1, (-1, 1, ENTRY)),
    "a null ACL": acl_table(1, (1, -1, b"")),
    "a negative count of ACLs": acl_table(-2),
    "a long scheme": acl_table(1, (1, 1, struct.pack(">ii", 31, 1 << 30))),
    "a negative id": acl_table(1, (1, 1, struct.pack(">ii5si", 31, 5, b"world", -2))),
    "a negative count of sessions": struct.pack(">i", -1),
    "a session twice": struct.pack(">iqiqi", 2, 7, 4000, 7, 4000),
    "a negative timeout": struct.pack(">iqi", 1, 7, -4000),
    "a long path": NO_TABLES + struct.pack(">i", 1 << 30),
    "a negative path": NO_TABLES + struct.pack(">i", -1),
    "long data": NO_TABLES + struct.pack(">ii", 0, 0x7FFFFFFF),
    "negative data": NO_TABLES + struct.pack(">ii", 0, -2),
    "it never ends": NO_TABLES + znode(b"/") + FOREVER,
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("size", [1, 13, 1 << 20])
def test_a_hostile_stream_is_dropped_and_the_disk_is_as_it_was(name: str, size: int) -> None:
    data = HOSTILE[name] + bytes(20)
    if size == 1 and len(data) > 10_000:
        size = 1000
    disk = SimDisk()
    store, _ = opened(disk)
    write(store, disk, 1, 5)
    before = contents(disk)
    stream = SnapshotStream(store, CONFIG, Z, limit_bytes=1_000_000)
    with pytest.raises(ProtocolError, match="the snapshot of the leader: "):
        feed_all(stream, disk, data, size)
    disk.run()
    assert contents(disk) == before
    assert store.is_idle
    write(store, disk, 6, 7)
    disk.kill()
    assert opened(disk)[1].tree.last_zxid == 7


def feed_all(stream: SnapshotStream, disk: SimDisk, data: bytes, size: int) -> None:
    for pos in range(0, len(data), size):
        assert stream.feed(data[pos : pos + size]) is None
        disk.run()


def test_what_is_only_announced_takes_no_memory() -> None:
    """Counts and lengths are believed when the bytes are there."""
    for data in (
        struct.pack(">i", 0x7FFFFFFF),
        acl_table(0x7FFFFFFF),
        acl_table(1, (1, 0x7FFFFFFF, ENTRY)),
        NO_TABLES + struct.pack(">i", 16 << 20),
    ):
        store, _ = opened(SimDisk())
        stream = SnapshotStream(store, CONFIG, Z)
        tracemalloc.start()
        assert stream.feed(data) is None
        assert tracemalloc.get_traced_memory()[1] < 100_000
        tracemalloc.stop()


def test_a_long_field_in_small_pieces_is_looked_at_once() -> None:
    """Work is linear in what came: 16 MB of one field in pieces of 256 bytes would take minutes otherwise."""
    store, _ = opened(SimDisk())
    stream = SnapshotStream(store, CONFIG, Z)
    stream.feed(NO_TABLES + struct.pack(">ii", 0, 16 << 20))
    piece = bytes(256)
    began = time.process_time()
    for _ in range((16 << 20) // 256):
        assert stream.feed(piece) is None
    assert time.process_time() - began < 10


def test_a_stream_cut_off_leaves_memory_and_disk_as_they_were() -> None:
    """ZOOKEEPER-3642: the link dies within SNAP; the next leader's DIFF goes on top of what was there before."""
    tree, timeouts = some_tree()
    data = stream_of(tree, timeouts)
    for cut in (0, 10, len(data) // 2, len(data) - 1, len(data)):
        disk = SimDisk()
        store, loaded = opened(disk)
        write(store, disk, 1, 5)
        before = contents(disk)
        stream = SnapshotStream(store, CONFIG, Z)
        assert (stream.feed(data[:cut]) is None) == (cut < len(data))
        disk.run()
        stream.abort()
        disk.run()
        assert contents(disk) == before
        assert (store.last_zxid, store.synced_zxid, loaded.tree.last_zxid) == (5, 5, 0)
        write(store, disk, 6, 8)
        disk.kill()
        _, again = opened(disk)
        assert [path for path in again.tree.nodes if path.startswith(b"/n")] == [b"/n%d" % n for n in range(1, 9)]


def test_a_disk_that_fails_below_a_stream_ends_the_server() -> None:
    """The file aside cannot be written: nobody goes on with half of a history, and the old one is whole."""
    tree, timeouts = some_tree()
    data = stream_of(tree, timeouts)
    disk = SimDisk()
    store, _ = opened(disk)
    write(store, disk, 1, 5)
    disk.fail("write", 1, errno.ENOSPC, where="snapshot.")
    stream = SnapshotStream(store, CONFIG, Z)
    stream.feed(data[:50])
    disk.run()
    assert isinstance(store.failed, StorageFailed)
    with pytest.raises(StorageFailed):
        stream.feed(data[50:])
    disk.kill()
    assert opened(disk)[1].tree.last_zxid == 5


@pytest.mark.parametrize("is_given_up", [False, True])
def test_a_tree_is_kept_by_nobody_but_its_owner(is_given_up: bool) -> None:
    """The writer and its callbacks are a cycle, which once kept each tree that was ever received."""
    tree, timeouts = some_tree()
    disk = SimDisk()
    store, _ = opened(disk)
    stream = SnapshotStream(store, CONFIG, Z)
    stream.feed(stream_of(tree, timeouts))
    mine = stream._tree
    if is_given_up:
        stream.abort()
        disk.run()
        owners: list[object] = []
    else:
        loaded = install(stream, disk)
        owners = [loaded]
    assert [one for one in gc.get_referrers(mine) if not isinstance(one, FrameType)] == owners


# TRUNC


def test_memory_is_what_the_disk_has_after_trunc() -> None:
    """ZOOKEEPER-5094: a fresh tree, at the zxid that a restart would find; what comes next leaves no hole."""
    disk = SimDisk()
    store, loaded = opened(disk)
    write(store, disk, 1, 10)
    trunc = reload(store, CONFIG, 4)
    assert trunc.tree is not loaded.tree
    assert (trunc.tree.last_zxid, store.last_zxid, store.synced_zxid, trunc.replayed) == (4, 4, 4, 4)
    store.append(5, create(5, b"/another"))
    store.sync(lambda error: None)
    disk.run()
    disk.kill()
    _, again = opened(disk)
    assert again.tree.last_zxid == 5
    assert b"/another" in again.tree.nodes
    assert b"/n5" not in again.tree.nodes


def test_a_trunc_that_cannot_be_had_changes_nothing_and_says_what_to_do() -> None:
    """Before the oldest snapshot: nothing is lost, the server still is what its disk says (ZOOKEEPER-2832, 4837)."""
    disk = SimDisk()
    store, _ = opened(disk)
    write(store, disk, 1, 3)
    tree, timeouts = some_tree()
    stream = SnapshotStream(store, CONFIG, Z)
    stream.feed(stream_of(tree, timeouts))
    install(stream, disk)
    write(store, disk, Z + 1, Z + 2)
    before = contents(disk)
    for zxid in (3, 40, Z - 1):
        with pytest.raises(StorageCorrupt, match="no snapshot here is without what is to go") as caught:
            reload(store, CONFIG, zxid)
        assert f"move {DIRECTORY} away" in caught.value.advice
        assert contents(disk) == before
        disk.kill()
        store, again = opened(disk)
        assert again.tree.last_zxid == Z + 2
    assert reload(store, CONFIG, Z).tree.last_zxid == Z


def test_a_member_of_an_ensemble_buries_nobody_by_itself() -> None:
    """Z11: the tree of a restarted follower is what the others have; its leader closes such sessions by a txn."""
    disk = SimDisk()
    store, _ = opened(disk)
    stream = SnapshotStream(store, CONFIG, Z)
    stream.feed(NO_TABLES + znode(b"/") + znode(b"/mine", owner=77) + END + SIGNATURE)
    install(stream, disk)
    disk.kill()
    store, loaded = opened(disk)
    assert b"/mine" in loaded.tree.nodes
    assert ownerless(loaded.tree, loaded.timeouts) == [77]
    store.close()
    alone = load(Store(disk, StoreConfig(DATA_DIR)), CONFIG)
    assert b"/mine" not in alone.tree.nodes


# What Java says


def peer(version: str, directory: Path, data: bytes) -> tuple[dict[str, str], bytes]:
    """What the server's own classes read from a stream, and the stream they make of it."""
    reason = javapeer.why_missing(version)
    if reason is not None:
        if os.environ.get("COATI_REQUIRE_INTEROP") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    jars = os.pathsep.join(javapeer.classpath(version))
    source, report, back = directory / "stream", directory / "report", directory / "back"
    source.write_bytes(data)
    command = [javapeer.java_command(), "-Dzookeeper.extendedTypesEnabled=true", f"-Djava.io.tmpdir={directory}"]
    command += ["-cp", jars, str(SNAP_PEER), *map(str, (source, report, back))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(" ", 1) for line in report.read_text().splitlines())
    return lines, back.read_bytes()


@pytest.mark.interop
@pytest.mark.slow
@pytest.mark.parametrize("version", javapeer.VERSIONS)
def test_java_takes_in_what_we_send_and_we_what_java_sends(version: str, tmp_path: Path) -> None:
    """Nothing but the signature is behind the znodes, in either version."""
    tree, timeouts = some_tree(seed=5, writes=600)
    report, back = peer(version, tmp_path, stream_of(tree, timeouts))
    owned = {owner: sorted(paths) for owner, paths in sorted(tree.ephemerals.items())}
    assert owned
    assert report == {
        "signature": "BenWasHere",
        "left": "0",
        "znodes": str(tree.node_count()),
        "digest": str(tree.digest),
        "sessions": java_map({key: str(value) for key, value in sorted(timeouts.items())}),
        "ephemerals": java_map({key: f"[{b', '.join(paths).decode()}]" for key, paths in owned.items()}),
    }
    disk = SimDisk()
    store, _ = opened(disk)
    stream = SnapshotStream(store, CONFIG, Z)
    assert stream.feed(back) == b""
    loaded = install(stream, disk)
    assert fingerprint(loaded.tree) == fingerprint(tree)
    assert loaded.timeouts == timeouts
    disk.kill()
    assert fingerprint(opened(disk)[1].tree) == fingerprint(tree)


def java_map(values: dict[int, str]) -> str:
    return "{" + ", ".join(f"{key}={value}" for key, value in values.items()) + "}"
