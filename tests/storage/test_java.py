"""Java servers load what the store wrote, in every compression and after a crash, and the store loads it back."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from coati.storage.disk import RealDisk
from coati.storage.store import Store, StoreConfig, ZnodeTuple
from coati.wire.codes import OP_CREATE, OP_CREATE_SESSION
from coati.wire.records import ACL, CreateSessionTxn, CreateTxn, Id, TxnHeader
from coati.wire.txns import encode_txn
from tests.storage.kit import encode_znodes, load
from tools.javapeer import JavaServer, four_letter, why_missing

pytestmark = [pytest.mark.interop, pytest.mark.slow]

SESSION = 0x1000020FEE00000
SYSTEM = (b"/", b"/zookeeper", b"/zookeeper/config", b"/zookeeper/quota")
ZNODES: list[ZnodeTuple] = [(path, b"", -1, 0, 0, 0, 0, 0, 0, 0, 0, 0) for path in SYSTEM]
ACLS = {1: [ACL(31, Id("world", "anyone"))]}
COUNT = 3000


def require(version: str) -> None:
    missing = why_missing(version)
    if missing is None:
        return
    if os.environ.get("COATI_REQUIRE_INTEROP") == "1":
        pytest.fail(missing)
    pytest.skip(missing)


def create(zxid: int, path: bytes) -> bytes:
    header = TxnHeader(SESSION, zxid, zxid, 1795226845525, OP_CREATE)
    return encode_txn(header, CreateTxn(path, b"data", [ACL(31, Id("world", "anyone"))], False, zxid), None)


def fill(directory: Path, compression: str) -> None:
    """A snapshot of 3000 znodes at zxid 5, made of more than one block, and 20 txns behind it."""
    disk = RealDisk(lambda callback: callback())
    store = Store(disk, StoreConfig(str(directory), prealloc_bytes=1 << 16, compression=compression))
    load(store)
    store.write_snapshot(0, {}, {}, [encode_znodes(ZNODES)], 1371985504)
    header = TxnHeader(SESSION, 0, 1, 1795226845525, OP_CREATE_SESSION)
    store.append(1, encode_txn(header, CreateSessionTxn(40000), None))
    for zxid in range(2, 6):
        store.append(zxid, create(zxid, b"/t%d" % zxid))
    store.close()
    load(store)
    znodes = [(b"/n%d" % n, b"%d" % n * 20, 1, 2, 2, 3, 4, 5, 6, 7, 0, 2) for n in range(COUNT)]
    store.write_snapshot(5, {SESSION: 40000}, ACLS, [encode_znodes(ZNODES), encode_znodes(znodes)], None)
    for zxid in range(6, 26):
        store.append(zxid, create(zxid, b"/t%d" % zxid))
    store.close()
    disk.close()


def shown(java: JavaServer) -> tuple[int, int]:
    """Zxid and number of znodes in the answer to `srvr`."""
    text = four_letter(java.host, java.port, "srvr")
    zxid = re.search(r"Zxid: 0x([0-9a-f]+)", text)
    count = re.search(r"Node count: (\d+)", text)
    assert zxid is not None
    assert count is not None
    return int(zxid.group(1), 16), int(count.group(1))


@pytest.mark.parametrize("version", ["3.8.0", "3.9.3"])
@pytest.mark.parametrize("compression", ["", "gz", "snappy"])
def test_java_loads_what_the_store_wrote(version: str, compression: str, tmp_path: Path) -> None:
    require(version)
    fill(tmp_path, compression)
    log = tmp_path / "version-2" / "log.6"
    # And with a torn last entry.
    data = log.read_bytes().rstrip(b"\x00")
    log.write_bytes(data[:-20] + bytes(1000))
    props = {"zookeeper.snapshot.compression.method": compression}
    with JavaServer(version, data_dir=tmp_path, props=props) as java:
        # Java counts the root twice, as "" and as "/".
        assert shown(java) == (24, 1 + len(ZNODES) + COUNT + 19)
    store = Store(RealDisk(lambda callback: callback()), StoreConfig(str(tmp_path)))
    recovered, _ = load(store)
    assert recovered.last_zxid == 24
    assert recovered.snapshot_zxid == 24, "Java writes one when it starts"
    assert recovered.tree is not None
    assert len(recovered.tree) == len(ZNODES) + COUNT + 19
    assert recovered.snapshot_name == "snapshot.18" + (f".{compression}" if compression else "")
    store.close()
