"""What the tests of storage share: a store on a simulated disk, and directories that somebody else filled."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar
from zlib import adler32

import pytest

from coati.errors import MarshallingError, StorageCorrupt
from coati.storage.store import Recovered, SnapshotReader, Store
from coati.testing.disk import SimDisk
from coati.wire.txns import TxnRecord, decode_txn
from tools.storm_storage import (
    ACLS,
    ROOT,
    Row,
    config,
    encode_znodes,
    payload_of,
    rows_of,
    write_first_snapshot,
    znode_of,
)

__all__ = [
    "ACLS",
    "DIRECTORY",
    "ROOT",
    "Row",
    "build",
    "config",
    "encode_znodes",
    "fill",
    "golden",
    "load",
    "log_bytes",
    "log_of",
    "open_store",
    "payload_of",
    "refusal",
    "rows_of",
    "snapshot_bytes",
    "write",
    "write_first_snapshot",
    "znode_of",
]

T = TypeVar("T")

DIRECTORY = "/data/version-2"
GOLDEN = Path(__file__).resolve().parents[1] / "golden"
GOLDEN_NAMES = ("java-3.8.0-none", "java-3.9.3-gz", "java-3.9.3-none")


def golden() -> list[Path]:
    """The directories that Java wrote. None of them there: a failure if COATI_REQUIRE_INTEROP=1, else a skip."""
    found = [GOLDEN / name for name in GOLDEN_NAMES if (GOLDEN / name).is_dir()]
    if len(found) < len(GOLDEN_NAMES):
        missing = f"the data directories written by Java are not in {GOLDEN}"
        if os.environ.get("COATI_REQUIRE_INTEROP") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    return found


def build(reader: SnapshotReader) -> list[Row]:
    """The znodes of a snapshot, for `Store.recover`."""
    return [row for batch in reader.batches() for row in rows_of(batch)]


def load(store: Store) -> tuple[Recovered[list[Row]], list[TxnRecord]]:
    """Recovers to the end."""
    recovered = store.recover(build)
    return recovered, list(txns_of(recovered))


def txns_of(recovered: Recovered[T]) -> Iterator[TxnRecord]:
    """The txns behind the snapshot, read as a server reads them."""
    for batch in recovered.batches():
        for zxid, payload in batch:
            try:
                record = decode_txn(payload)
            except MarshallingError as error:
                raise recovered.unreadable(zxid, error) from None
            yield record


def open_store(disk: SimDisk, **changes: object) -> Store:
    """A store that is ready; an empty directory gets its first snapshot."""
    store = Store(disk, config(**changes))
    recovered, _ = load(store)
    if recovered.fresh:
        write_first_snapshot(store)
    return store


def write(store: Store, disk: SimDisk, zxids: Iterable[int], data: bytes = b"data") -> None:
    """Appends a txn for each zxid and makes all durable."""
    for zxid in zxids:
        store.append(zxid, payload_of(zxid, data))
    errors: list[BaseException | None] = []
    store.sync(errors.append)
    disk.run()
    assert errors == [None]


def fill(zxids: Iterable[int] = range(1, 11)) -> SimDisk:
    """A disk with snapshot.0 and one log, as a server that was killed leaves it."""
    disk = SimDisk()
    write(open_store(disk), disk, zxids)
    disk.kill()
    return disk


def entry(payload: bytes) -> bytes:
    return struct.pack(">qi", adler32(payload), len(payload)) + payload + b"\x42"


def log_bytes(payloads: Iterable[bytes], size: int = 0) -> bytes:
    """A log, put together without format.py."""
    data = b"ZKLG" + struct.pack(">iq", 2, 0) + b"".join(map(entry, payloads))
    return data + bytes(max(0, size - len(data)))


def log_of(zxids: Iterable[int], size: int = 0) -> bytes:
    """A log with one small txn for each zxid."""
    return log_bytes([payload_of(zxid, b"d%d" % zxid) for zxid in zxids], size)


def snapshot_bytes(
    znodes: Sequence[Row], *, head: bytes | None = None, end: bytes = b"\x00\x00\x00\x01/", digest: bytes = b""
) -> bytes:
    """A snapshot, put together without format.py: no sessions and no ACLs unless `head` says otherwise."""
    data = b"ZKSN" + struct.pack(">iq", 2, -1) + struct.pack(">ii", 0, 0) if head is None else head
    for path, content, acl, czxid, mzxid, ctime, mtime, version, cversion, aversion, owner, pzxid in znodes:
        name = b"" if path == b"/" else path
        data += struct.pack(">i", len(name)) + name
        data += struct.pack(">i", -1) if content is None else struct.pack(">i", len(content)) + content
        data += struct.pack(">q", acl)
        data += struct.pack(">qqqqiiiqq", czxid, mzxid, ctime, mtime, version, cversion, aversion, owner, pzxid)
    data += end
    data += struct.pack(">qi", adler32(data), 1) + b"/"
    if digest:
        data += digest
        data += struct.pack(">qi", adler32(data), 1) + b"/"
    return data


def refusal(disk: SimDisk, **changes: object) -> StorageCorrupt:
    """The store refuses, and leaves every file as it was."""
    before = _files(disk)
    store = Store(disk, config(**changes))
    with pytest.raises(StorageCorrupt) as caught:
        load(store)
    store.close()
    assert _files(disk) == before
    return caught.value


def _files(disk: SimDisk) -> dict[str, bytes]:
    return {name: disk.get(f"{DIRECTORY}/{name}") for name in disk.list(DIRECTORY) if name != "coati.lock"}
