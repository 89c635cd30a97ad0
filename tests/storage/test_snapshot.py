"""Snapshots: reading, compressions, damage (row 67 of the bad inputs), and writing one while the server goes on."""

from __future__ import annotations

import builtins
import errno
import gzip
import importlib
import struct
import sys
import zlib
from random import Random

import pytest

from coati.errors import ConfigError, StorageCorrupt
from coati.storage import format
from coati.storage.snapshot import READ_BYTES, SnapshotFile, SnapshotReader, check_compression
from coati.storage.store import Store, ZxidDigest
from coati.testing.disk import SimDisk
from coati.wire.records import ACL, Id
from tests.now import now
from tests.storage.kit import (
    DIRECTORY,
    ROOT,
    Row,
    config,
    encode_znodes,
    fill,
    load,
    log_of,
    open_store,
    rows_of,
    snapshot_bytes,
    write,
    znode_of,
)

LIMIT = 1 << 20
ACLS = {5: [ACL(31, Id("digest", "a:b"))], 9: [ACL(1, Id("world", "anyone")), ACL(2, Id("ip", "::1"))]}
SESSIONS = {0x1000020FEE00000 + index: 4000 + index for index in range(5)}
ZNODES: list[Row] = [ROOT, (b"/a", None, 5, *range(9, 18)), (b"/a/b", b"data", 9, *range(19, 28))]


def encode(znodes: list[Row], compression: str = "", *, slices: int = 2) -> bytes:
    """As the server writes it."""
    disk = SimDisk()
    disk.make_dirs("/d")
    file = SnapshotFile(disk, "/d", 7, compression)
    file.write([format.encode_snapshot_head(SESSIONS, ACLS)])
    for start in range(0, len(znodes), slices):
        file.write([encode_znodes(znodes[start : start + slices])])
    file.finish(ZxidDigest(7, 2, 77), 8)
    return disk.get(f"/d/{format.snapshot_name(7, compression)}")


def read(content: bytes, compression: str = "") -> tuple[SnapshotReader, list[Row]]:
    disk = SimDisk()
    disk.put("/d/snapshot", content)
    reader = SnapshotReader(disk, "/d/snapshot", 7, compression, LIMIT)
    try:
        return reader, [row for batch in reader.batches() for row in rows_of(batch)]
    finally:
        reader.close()


@pytest.mark.parametrize("compression", format.COMPRESSIONS)
def test_what_is_written_is_read(compression: str) -> None:
    reader, znodes = read(encode(ZNODES, compression), compression)
    assert znodes == ZNODES
    assert reader.sessions == SESSIONS
    assert reader.acls == ACLS
    assert reader.digest == ZxidDigest(7, 2, 77)
    assert reader.last_zxid == 8
    assert reader.is_complete


@pytest.mark.slow
@pytest.mark.parametrize("compression", format.COMPRESSIONS)
def test_snapshots_larger_than_what_is_read_at_once(compression: str) -> None:
    dice = Random(3)
    znodes = [ROOT] + [(b"/n%d" % n, dice.randbytes(dice.randrange(3000)), -1, *range(9)) for n in range(6000)]
    content = encode(znodes, compression, slices=100)
    assert len(content) > 2 * READ_BYTES
    assert read(content, compression)[1] == znodes


@pytest.mark.slow
@pytest.mark.parametrize("left", [1, 12, 13, 20, 21, 40, 53, 54, 66, 67, 70, 71, 72, 73])
def test_the_end_may_come_in_pieces(left: int) -> None:
    """The last bytes, trailers and end mark among them, are not in the first piece."""
    size = READ_BYTES + left - len(encode([ROOT, (b"/a", b"", -1, *range(9))]))
    znodes: list[Row] = [ROOT, (b"/a", bytes(size), -1, *range(9))]
    content = encode(znodes)
    assert len(content) == READ_BYTES + left
    assert read(content)[1] == znodes


def test_a_snapshot_may_end_with_a_whole_block_of_snappy() -> None:
    size = format.SNAPPY_BLOCK_BYTES - len(encode([ROOT, (b"/a", b"", -1, *range(9))]))
    znodes: list[Row] = [ROOT, (b"/a", bytes(size), -1, *range(9))]
    assert len(encode(znodes)) == format.SNAPPY_BLOCK_BYTES
    assert read(encode(znodes, "snappy"), "snappy")[1] == znodes


@pytest.mark.slow
def test_many_sessions_and_acls() -> None:
    sessions = {n: 1000 + n for n in range(400_000)}
    acls = {n: [ACL(31, Id("digest", f"user{n}:secret"))] for n in range(60_000)}
    head = format.encode_snapshot_head(sessions, acls)
    assert len(head) > READ_BYTES
    reader, _ = read(snapshot_bytes([ROOT], head=head))
    assert reader.sessions == sessions
    assert reader.acls == acls


def test_the_stream_of_gzip_is_that_of_java() -> None:
    """GZIPOutputStream: one member, deflate, no name, no time."""
    content = encode(ZNODES, "gz")
    assert content[:9] == b"\x1f\x8b\x08" + bytes(6)
    assert gzip.decompress(content) == encode(ZNODES)


def test_the_stream_of_snappy_is_that_of_snappy_java() -> None:
    cramjam = pytest.importorskip("cramjam")
    znodes = [ROOT, (b"/a", Random(1).randbytes(100_000), -1, *range(9))]
    content = encode(znodes, "snappy")
    assert content.startswith(b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01")
    pos = 16
    blocks = []
    while pos < len(content):
        (size,) = struct.unpack_from(">i", content, pos)
        blocks.append(bytes(cramjam.snappy.decompress_raw(content[pos + 4 : pos + 4 + size])))
        pos += 4 + size
    assert b"".join(blocks) == encode(znodes)
    assert [len(block) for block in blocks[:-1]] == [32768] * (len(blocks) - 1)


def test_without_the_package_snappy_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name == "cramjam":
            raise ImportError(name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]  # handed through

    monkeypatch.delitem(sys.modules, "coati.storage.snapshot")
    monkeypatch.setattr(builtins, "__import__", without)
    bare = importlib.import_module("coati.storage.snapshot")
    with pytest.raises(ConfigError, match=r"pip install 'coati\[snappy\]'"):
        bare.check_compression("snappy")
    bare.check_compression("gz")
    disk = SimDisk()
    disk.put("/d/snapshot.7.snappy", encode(ZNODES, "snappy"))
    with pytest.raises(ConfigError, match=r"pip install 'coati\[snappy\]'"):
        bare.SnapshotReader(disk, "/d/snapshot.7.snappy", 7, "snappy", LIMIT)


def test_an_unknown_compression_is_refused() -> None:
    with pytest.raises(ConfigError, match="neither empty nor gz nor snappy"):
        check_compression("lz4")
    with pytest.raises(ConfigError, match="neither empty nor gz nor snappy"):
        Store(SimDisk(), config(compression="zip"))


@pytest.mark.parametrize("compression", format.COMPRESSIONS)
def test_a_snapshot_cut_anywhere_or_longer_is_refused(compression: str) -> None:
    """But for the end of a plain one: where a trailer begins, an older version ended."""
    content = encode(ZNODES, compression)
    ends = (len(content), len(content) - 21, len(content) - 21 - 33) if not compression else (len(content),)
    for size in range(len(content)):
        if size in ends:
            read(content[:size])
            continue
        with pytest.raises(StorageCorrupt):
            read(content[:size], compression)
    for more in (b"\x00", b"x" * 21, content):
        with pytest.raises(StorageCorrupt):
            read(content + more, compression)


@pytest.mark.parametrize("compression", ["", "gz"])
def test_every_bit_of_a_snapshot_is_right_or_refused(compression: str) -> None:
    content = encode(ZNODES, compression)
    expected, znodes = read(content, compression)
    loaded = []
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            reader, found = read(bytes(damaged), compression)
        except StorageCorrupt:
            continue
        loaded.append(bit)
        assert found == znodes
        assert (reader.sessions, reader.acls) == (expected.sessions, expected.acls)
        assert (reader.digest, reader.last_zxid) == (expected.digest, expected.last_zxid)
    # Some bits of a compressed file mean nothing, such as the time in its header.
    assert compression or loaded == []


def test_flipped_bits_of_snappy_are_right_or_refused() -> None:
    content = encode(ZNODES, "snappy")
    for bit in range(0, 8 * len(content), 3):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            reader, found = read(bytes(damaged), "snappy")
        except StorageCorrupt:
            continue
        assert found == ZNODES
        assert (reader.sessions, reader.acls) == (SESSIONS, ACLS)


HEAD = b"ZKSN" + struct.pack(">iq", 2, -1)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "the file ends in the middle of the header", id="empty"),
        pytest.param(b"ZKLG" + HEAD[4:] + bytes(100), "magic number", id="magic"),
        pytest.param(b"ZKSN" + struct.pack(">iq", 3, -1) + bytes(100), "version 3", id="version"),
        pytest.param(HEAD + struct.pack(">i", -1), "a count of -1", id="sessions"),
        pytest.param(HEAD + struct.pack(">i", 0x7FFFFFFF), "in the middle of the sessions", id="endless sessions"),
        pytest.param(HEAD + struct.pack(">iqi", 1, 5, -1) + bytes(4), "a timeout of -1 ms", id="timeout"),
        pytest.param(HEAD + struct.pack(">ii", 0, 0x7FFFFFFF), "in the middle of the ACL table", id="endless ACLs"),
        pytest.param(HEAD + struct.pack(">iiqi", 0, 1, 5, -1), "ACL 5 has -1 entries", id="null ACL"),
        pytest.param(
            HEAD + struct.pack(">iiqi", 0, 1, 5, 1 << 30) + bytes(17 << 20), "larger than allowed", id="giant ACL"
        ),
        pytest.param(snapshot_bytes([]), "there is no root", id="no root"),
        pytest.param(snapshot_bytes([(b"/a", b"", -1, *range(9))]), "first znode is not the root", id="root not first"),
        pytest.param(snapshot_bytes([ROOT, (b"/a", b"", 4, *range(9))]), "has the ACL 4", id="unknown ACL"),
        pytest.param(
            snapshot_bytes([ROOT], end=b"\x00\x00\x00\x01x" + bytes(100)), "a path of one byte", id="path of one byte"
        ),
        pytest.param(
            snapshot_bytes([ROOT], end=struct.pack(">i", -1) + bytes(100)), "a field of length -1", id="null path"
        ),
        pytest.param(
            snapshot_bytes([ROOT], end=struct.pack(">i", 1 << 30) + bytes(100)), "Unreasonable length", id="giant path"
        ),
        pytest.param(snapshot_bytes([ROOT]) + bytes(5000), "the checksum is wrong", id="far too long"),
    ],
)  # fmt: skip
def test_a_snapshot_that_cannot_be_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(StorageCorrupt, match=reason) as caught:
        read(content)
    assert caught.value.path == "/d/snapshot"


def deflate(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


@pytest.mark.parametrize(
    ("content", "compression", "reason"),
    [
        pytest.param(b"ZKSN", "gz", "cannot be decompressed", id="not gzip"),
        pytest.param(deflate(snapshot_bytes([ROOT])) + b"x", "gz", "data stands behind", id="more than gzip"),
        pytest.param(deflate(snapshot_bytes([ROOT]))[:-4], "gz", "cut short", id="gzip cut"),
        pytest.param(b"\xff\x06\x00\x00sNaPpY", "snappy", "not a stream of snappy-java", id="framing format"),
        pytest.param(format.SNAPPY_HEADER + b"\x00\x00", "snappy", "cut short", id="half a length"),
        pytest.param(format.SNAPPY_HEADER + struct.pack(">i", 0), "snappy", "cut short", id="empty block"),
        pytest.param(format.SNAPPY_HEADER + struct.pack(">i", 17 << 20) + bytes(99), "snappy", "cut short", id="giant"),
        pytest.param(
            format.SNAPPY_HEADER + struct.pack(">i", 3) + b"\xff\xff\xff", "snappy", "decompressed", id="noise"
        ),
        pytest.param(
            format.SNAPPY_HEADER + struct.pack(">i", 6) + b"\xff\xff\xff\x7f\x00\x00",
            "snappy",
            "larger than allowed",
            id="bomb",
        ),
    ],
)
def test_compressed_data_that_cannot_be_is_refused(content: bytes, compression: str, reason: str) -> None:
    with pytest.raises(StorageCorrupt, match=reason):
        read(content, compression)


def test_a_bomb_does_not_fill_the_memory() -> None:
    """Zeros, packed a thousandfold: refused after the first piece."""
    bomb = zlib.compressobj(9, wbits=31)
    parts = [bomb.compress(HEAD + struct.pack(">iqi", 1, 5, 1))]
    parts += [bomb.compress(bytes(1 << 24)) for _ in range(4)]
    disk = SimDisk()
    disk.put("/d/snapshot", b"".join(parts) + bomb.flush())
    with pytest.raises(StorageCorrupt, match="has the ACL 0, which the table lacks"):
        read(disk.get("/d/snapshot"), "gz")


# Writing


def settled(disk: SimDisk, store: Store, znodes: list[Row], zxid: int) -> BaseException | None:
    writer = store.begin_snapshot(zxid, SESSIONS, ACLS)
    for znode in znodes:
        writer.add(encode_znodes([znode]))
        disk.run_job()
    errors: list[BaseException | None] = []
    writer.finish(4711, errors.append)
    assert errors == [], "`done` never comes from within the call"
    disk.run()
    assert len(errors) == 1
    assert writer.failed is errors[0]
    return errors[0]


@pytest.mark.parametrize("compression", format.COMPRESSIONS)
def test_a_snapshot_is_written_aside_and_then_named(compression: str) -> None:
    disk = SimDisk()
    store = open_store(disk, compression=compression)
    write(store, disk, [1, 2, 3])
    seen: list[list[str]] = []
    disk.on_call = lambda kind, path: seen.append([n for n in disk.list(DIRECTORY) if n.startswith("snapshot.3")])
    assert settled(disk, store, ZNODES, 3) is None
    disk.on_call = None
    name = format.snapshot_name(3, compression)
    assert {tuple(names) for names in seen} <= {(), (name + ".tmp",), (name,)}
    disk.kill()
    recovered, records = load(Store(disk, config()))
    assert recovered.snapshot_name == name
    assert recovered.tree == ZNODES
    assert recovered.digest == ZxidDigest(3, 2, 4711)
    assert records == []


def test_nothing_is_named_before_it_is_synced_nor_acknowledged_before_the_directory_is() -> None:
    disk = SimDisk()
    store = open_store(disk)
    calls: list[str] = []
    disk.on_call = lambda kind, path: calls.append(kind)
    assert settled(disk, store, ZNODES, 0) is None
    assert calls[-3:] == ["sync", "rename", "sync_dir"]


@pytest.mark.parametrize(
    ("changes", "trailers"),
    [
        ({}, struct.pack(">qiq", 3, 2, 4711)),
        ({"digest_enabled": False}, b""),
        ({"last_zxid_trailer": False}, struct.pack(">qiq", 3, 2, 4711)),
    ],
)
def test_the_trailers_can_be_switched_off(changes: dict[str, object], trailers: bytes) -> None:
    disk = SimDisk()
    store = open_store(disk, **changes)
    write(store, disk, [1, 2, 3])
    assert settled(disk, store, ZNODES, 3) is None
    content = disk.get(f"{DIRECTORY}/snapshot.3")
    reader, znodes = read(content)
    assert znodes == ZNODES
    assert (reader.digest is not None) == bool(trailers)
    assert reader.last_zxid == (None if changes.get("last_zxid_trailer") is False else 3)
    assert trailers in content


def test_without_a_digest_an_empty_one_is_written_as_in_java() -> None:
    disk = SimDisk()
    store = open_store(disk)
    store.write_snapshot(0, {}, {}, [encode_znodes([ROOT])], None)
    reader, _ = read(disk.get(f"{DIRECTORY}/snapshot.0"))
    assert reader.digest == ZxidDigest(0, 2, 0)


def test_the_writer_says_when_the_disk_cannot_keep_up() -> None:
    disk = SimDisk()
    store = open_store(disk)
    writer = store.begin_snapshot(0, {}, {})
    added = 0
    while now(writer.ready):
        writer.add(encode_znodes([(b"/n%d" % added, bytes(100_000), -1, *range(9))]))
        added += 1
    assert added < 60
    told: list[bool] = []
    writer.on_ready = lambda: told.append(writer.ready)
    disk.run()
    assert told
    assert told[-1]
    assert writer.ready
    (name,) = [name for name in disk.list(DIRECTORY) if name.endswith(".tmp")]
    assert disk.size(f"{DIRECTORY}/{name}") > added * 100_000
    writer.abort()
    writer.abort()
    disk.run()
    assert [name for name in disk.list(DIRECTORY) if name.endswith(".tmp")] == []
    # It is over: the next one may begin.
    assert settled(disk, store, ZNODES, 0) is None


def test_a_large_snapshot_is_synced_in_pieces() -> None:
    disk = SimDisk()
    store = open_store(disk)
    syncs: list[int] = []

    def on_call(kind: str, path: str) -> None:
        if kind == "sync" and path.endswith(".tmp"):
            syncs.append(disk.size(path))

    disk.on_call = on_call
    znodes = [ROOT] + [(b"/n%d" % n, bytes(900_000), -1, *range(9)) for n in range(20)]
    assert settled(disk, store, znodes, 0) is None
    assert len(syncs) >= 4
    assert max(b - a for a, b in zip([0, *syncs], syncs, strict=False)) < 6_000_000


@pytest.mark.parametrize("kind", ["create", "write", "sync", "rename", "sync_dir"])
@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_failure_is_a_warning_and_leaves_nothing(
    kind: str, at: int, error: int, caplog: pytest.LogCaptureFixture
) -> None:
    disk = SimDisk()
    store = open_store(disk)
    write(store, disk, [1, 2, 3])
    fault = disk.fail(kind, at, error, written_bytes=3)
    failure = settled(disk, store, ZNODES, 3)
    if fault.seen < at:
        assert failure is None
        return
    assert isinstance(failure, OSError)
    assert failure.errno == error
    assert "could not be written" in caplog.text
    assert [name for name in disk.list(DIRECTORY) if name.endswith(".tmp")] == []
    assert store.failed is None
    write(store, disk, [4])
    assert settled(disk, store, ZNODES, 4) is None
    disk.kill()
    assert load(Store(disk, config()))[0].last_zxid == 4


def test_a_failure_is_seen_before_the_end() -> None:
    disk = SimDisk()
    store = open_store(disk)
    disk.fail("write", 1, errno.ENOSPC)
    writer = store.begin_snapshot(0, {}, {})
    disk.run()
    assert writer.failed is not None
    assert disk.list(DIRECTORY) == ["coati.lock", "snapshot.0"]
    writer.add(encode_znodes([ROOT]))
    errors: list[BaseException | None] = []
    writer.finish(0, errors.append)
    assert errors == []
    disk.run()
    assert errors == [writer.failed]


def test_what_cannot_be_removed_stays_for_the_next_start() -> None:
    disk = SimDisk()
    store = open_store(disk)
    disk.fail("sync", 1, errno.EIO)
    disk.fail("remove", 1, errno.EIO)
    assert settled(disk, store, ZNODES, 0) is not None
    assert "snapshot.0.tmp" in disk.list(DIRECTORY)
    assert settled(disk, store, ZNODES, 0) is None, "and is in nobody's way"
    assert "snapshot.0.tmp" not in disk.list(DIRECTORY)


def test_a_snapshot_cannot_be_given_more_after_its_end() -> None:
    disk = SimDisk()
    store = open_store(disk)
    writer = store.begin_snapshot(0, {}, {})
    with pytest.raises(AssertionError):
        store.begin_snapshot(0, {}, {})
    writer.add(encode_znodes([ROOT]))
    writer.finish(0, lambda error: None)
    with pytest.raises(AssertionError):
        writer.add(encode_znodes([ROOT]))
    with pytest.raises(AssertionError):
        writer.finish(0, lambda error: None)


def test_the_server_may_end_while_a_snapshot_is_written() -> None:
    for jobs in range(4):
        disk = SimDisk()
        store = open_store(disk)
        write(store, disk, [1])
        writer = store.begin_snapshot(1, {}, {})
        writer.add(encode_znodes([ROOT]))
        for _ in range(jobs):
            disk.run_job()
        store.append(2, log_of([2])[28:-1])
        store.close()
        disk.run()
        assert disk.list(DIRECTORY) == ["coati.lock", "log.1", "log.2", "snapshot.0"]
        assert load(Store(disk, config()))[0].last_zxid == 2


def test_the_log_rolls_when_a_snapshot_has_begun() -> None:
    disk = SimDisk()
    store = open_store(disk)
    write(store, disk, [1, 2, 3])
    assert store.log_bytes_since_snapshot > 0
    writer = store.begin_snapshot(3, {}, {})
    assert store.log_bytes_since_snapshot == 0
    write(store, disk, [4])
    assert "log.4" in disk.list(DIRECTORY)
    writer.add(encode_znodes([ROOT, *map(znode_of, [(1, b""), (2, b""), (3, b"")])]))
    writer.abort()
    write(store, disk, [5])
    assert [name for name in disk.list(DIRECTORY) if name.startswith("log")] == ["log.1", "log.4"]


def test_a_snapshot_above_what_is_durable_is_a_mistake() -> None:
    disk = fill()
    store = open_store(disk)
    with pytest.raises(AssertionError):
        store.begin_snapshot(11, {}, {})
