"""Files that Apache ZooKeeper wrote: read to the last byte, and written again byte for byte."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from zlib import adler32

import pytest

from coati.storage import format
from coati.storage.snapshot import SnapshotFile, SnapshotReader
from coati.storage.store import Store
from coati.testing.disk import SimDisk
from coati.wire import codes
from coati.wire.txns import decode_txn, encode_txn
from tests.storage.kit import DIRECTORY, GOLDEN_NAMES, config, encode_znodes, golden, load, rows_of

# All three were written by the same run of the same clients.
LAST_ZXID = 0x204
PREALLOC_BYTES = 64 * 1024


@pytest.fixture(params=range(len(GOLDEN_NAMES)), ids=GOLDEN_NAMES)
def directory(request: pytest.FixtureRequest) -> Path:
    found: Path = golden()[request.param]
    return found


def files(directory: Path, prefix: str) -> Iterator[tuple[str, bytes]]:
    for path in sorted((directory / "version-2").glob(prefix + ".*")):
        yield path.name, path.read_bytes()


def disk_of(directory: Path) -> SimDisk:
    disk = SimDisk()
    for path in (directory / "version-2").iterdir():
        disk.put(f"{DIRECTORY}/{path.name}", path.read_bytes())
    return disk


def test_every_log_is_encoded_again_to_the_same_bytes(directory: Path) -> None:
    total = 0
    for name, content in files(directory, "log"):
        entries: list[tuple[int, bytes]] = []
        stop = format.decode_entries(content, format.HEADER_BYTES, entries)
        assert format.judge_tail(content[stop:].rstrip(b"\x00"), 1 << 20) == ""
        assert entries[0][0] == format.parse_log_name(name)
        parts = [format.encode_log_header()]
        for zxid, payload in entries:
            record = decode_txn(payload)
            assert record.header.zxid == zxid
            assert (record.digest is None) == (record.header.type == codes.OP_ERROR)
            again = encode_txn(record.header, record.txn, record.digest)
            assert again == payload, f"{name} {zxid:#x}"
            parts += [format.encode_entry_head(again), again, format.END_OF_ENTRY]
        data = b"".join(parts)
        size = format.HEADER_BYTES
        while size < len(data) + format.PADDING_MARGIN_BYTES:
            size = format.padded_size(size, size, PREALLOC_BYTES)
        assert data + bytes(len(content) - len(data)) == content
        assert len(content) % PREALLOC_BYTES == format.HEADER_BYTES
        total += len(entries)
    assert total == LAST_ZXID


def plain(name: str, content: bytes) -> bytes:
    return gzip.decompress(content) if name.endswith(".gz") else content


def test_every_snapshot_is_encoded_again_to_the_same_bytes(directory: Path) -> None:
    disk = disk_of(directory)
    count = 0
    for name, content in files(directory, "snapshot"):
        zxid, compression = format.parse_snapshot_name(name)
        reader = SnapshotReader(disk, f"{DIRECTORY}/{name}", zxid, compression, 1 << 20)
        znodes = [row for batch in reader.batches() for row in rows_of(batch)]
        target = SimDisk()
        target.make_dirs("/again")
        file = SnapshotFile(target, "/again", zxid, compression)
        file.write([format.encode_snapshot_head(reader.sessions, reader.acls)])
        for start in range(0, len(znodes), 7):
            file.write([encode_znodes(znodes[start : start + 7])])
        file.finish(reader.digest, reader.last_zxid)
        assert plain(name, target.get(f"/again/{name}")) == plain(name, content)
        assert (reader.last_zxid is None) == ("3.8.0" in directory.name)
        assert reader.digest is not None
        count += 1
    assert count >= 5


def test_the_seals_are_what_our_own_arithmetic_says(directory: Path) -> None:
    for name, content in files(directory, "snapshot"):
        data = plain(name, content)
        trailers = [20] if "3.8.0" in directory.name else [20, 8]
        end = len(data)
        for size in reversed(trailers):
            assert data[end - 13 : end] == struct.pack(">qi", adler32(data[: end - 13]), 1) + b"/"
            end -= 13 + size
        assert data[end - 13 : end] == struct.pack(">qi", adler32(data[: end - 13]), 1) + b"/"
        assert data[end - 18 : end - 13] == b"\x00\x00\x00\x01/"


def test_a_store_recovers_all_of_it(directory: Path) -> None:
    disk = disk_of(directory)
    store = Store(disk, config())
    recovered, records = load(store)
    assert recovered.tree is not None
    assert recovered.last_zxid == store.last_zxid == LAST_ZXID
    assert records[-1].header.zxid == LAST_ZXID
    assert records[0].header.zxid == recovered.snapshot_zxid + 1
    # The snapshot may be fuzzy: its digest is that of a later zxid than its name's.
    assert recovered.digest is not None
    assert recovered.snapshot_zxid <= recovered.digest.zxid <= recovered.snapshot_zxid + 1
    assert recovered.warnings == []
    assert [zxid for zxid, _ in store.read_log(0)] == list(range(1, LAST_ZXID + 1))


def test_what_a_server_must_show_is_there(directory: Path) -> None:
    """Only what storage can tell: each znode is in the snapshot or in a txn after it."""
    expected = json.loads((directory / "expected.json").read_text())
    recovered, records = load(Store(disk_of(directory), config()))
    assert recovered.tree is not None
    known = {znode[0].decode(): znode for znode in recovered.tree}
    created = b"".join(record.payload for record in records)
    for path, znode in expected["tree"].items():
        if path not in known:
            assert path.encode() in created
        elif znode["stat"]["mzxid"] <= recovered.snapshot_zxid:
            assert known[path][4] == znode["stat"]["mzxid"]
            assert known[path][3] == znode["stat"]["czxid"]
            assert known[path][7] == znode["stat"]["version"]
            assert known[path][10] == znode["stat"]["ephemeralOwner"]


def test_writing_goes_on_in_the_log_of_java(directory: Path) -> None:
    disk = disk_of(directory)
    last = max(zxid for zxid in map(format.parse_log_name, disk.list(DIRECTORY)))
    path = f"{DIRECTORY}/{format.log_name(last)}"
    before = disk.get(path)
    store = Store(disk, config())
    load(store)
    store.append(LAST_ZXID + 1, encode_like_the_last(before))
    store.sync(lambda error: None)
    disk.run()
    after = disk.get(path)
    assert after.startswith(before.rstrip(b"\x00"))
    assert len(after) == len(before)
    disk.kill()
    recovered, records = load(Store(disk, config()))
    assert recovered.last_zxid == records[-1].header.zxid == LAST_ZXID + 1


def encode_like_the_last(log: bytes) -> bytes:
    entries: list[tuple[int, bytes]] = []
    format.decode_entries(log, format.HEADER_BYTES, entries)
    record = decode_txn(entries[-1][1])
    record.header.zxid += 1
    return encode_txn(record.header, record.txn, record.digest)
