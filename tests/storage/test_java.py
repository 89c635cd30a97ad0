"""Java servers load what the store wrote, in every compression and after a crash, and the store loads it back."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from coati.storage.disk import RealDisk
from coati.storage.store import Store, StoreConfig
from coati.wire.codes import OP_CREATE, OP_CREATE_SESSION
from coati.wire.records import ACL, CreateSessionTxn, CreateTxn, Id, TxnHeader
from coati.wire.txns import encode_txn
from tests.interop import peers, raw
from tests.storage.kit import Row, encode_znodes, load
from tools.javapeer import JavaServer, four_letter, why_missing

pytestmark = [pytest.mark.interop, pytest.mark.slow]

SESSION = 0x1000020FEE00000
SYSTEM = (b"/", b"/zookeeper", b"/zookeeper/config", b"/zookeeper/quota")
ZNODES: list[Row] = [(path, b"", -1, 0, 0, 0, 0, 0, 0, 0, 0, 0) for path in SYSTEM]
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


# Versions at their end, which no client reaches by itself: they are written here, and counted on by either server.

INT_MAX, INT_MIN = 2**31 - 1, -(2**31)
EDGES = (INT_MAX, INT_MAX - 1, INT_MIN, INT_MIN + 1, -2, -1, INT_MAX // 2, INT_MAX // 2 + 1)


def fill_edges(directory: Path) -> None:
    """A snapshot of znodes at the ends of their versions: of data, of children, of the ACL."""
    disk = RealDisk(lambda callback: callback())
    store = Store(disk, StoreConfig(str(directory), prealloc_bytes=1 << 16))
    load(store)
    znodes: list[Row] = []
    for number, edge in enumerate(EDGES):
        znodes.append((b"/v%d" % number, b"x", -1, 0, 0, 0, 0, edge, 0, 0, 0, 0))
        znodes.append((b"/c%d" % number, b"x", -1, 0, 0, 0, 0, 0, edge, 0, 0, 0))
        znodes.append((b"/a%d" % number, b"x", -1, 0, 0, 0, 0, 0, 0, edge, 0, 0))
    store.write_snapshot(0, {}, {}, [encode_znodes(ZNODES), encode_znodes(znodes)], None)
    store.close()
    disk.close()


def comparable(value: object) -> object:
    """A reply's body without its times."""
    if isinstance(value, raw.Stat):
        counters = (value.version, value.cversion, value.aversion, value.num_children, value.data_length)
        return (*counters, value.czxid, value.mzxid, value.pzxid)
    return tuple(map(comparable, value)) if isinstance(value, (tuple, list)) else value


def count_on(session: raw.Session) -> Iterator[object]:
    """Everything that counts, twice over the edge, each with the answer."""
    for number in range(len(EDGES)):
        for _ in range(3):
            yield comparable(session.call(raw.SET_DATA, raw.set_data(f"/v{number}", b"y")))
            yield comparable(session.call(raw.SET_ACL, raw.set_acl(f"/a{number}", raw.OPEN)))
        for version in (INT_MAX, INT_MIN, INT_MIN + 1, -1):
            yield comparable(session.call(raw.SET_DATA, raw.set_data(f"/v{number}", b"z", version)))
            yield comparable(session.call(raw.SET_ACL, raw.set_acl(f"/a{number}", raw.OPEN, version)))
        for child in range(3):
            yield comparable(session.call(raw.CREATE2, raw.create(f"/c{number}/n{child}")))
            yield comparable(session.call(raw.CREATE, raw.create(f"/c{number}/s-", flags=2)))
            yield comparable(session.call(raw.EXISTS, raw.path_watch(f"/c{number}")))
        yield comparable(session.call(raw.DELETE, raw.path_version(f"/c{number}/n0")))
        yield comparable(session.call(raw.MULTI, raw.multi([(raw.CREATE2, raw.create(f"/c{number}/m-", flags=2))])))
        yield from show(session, number)


def show(session: raw.Session, number: int) -> Iterator[object]:
    for kind in "vca":
        yield comparable(session.call(raw.GET_CHILDREN2, raw.path_watch(f"/{kind}{number}")))


def test_versions_go_beyond_their_end_as_in_java_and_come_back(tmp_path: Path) -> None:
    answers: list[list[object]] = []
    for kind in ("3.9.3", "coati"):
        directory = tmp_path / kind
        fill_edges(directory)
        with peers.running(kind, data_dir=directory, props=peers.LOCKSTEP_PROPS) as server:
            with peers.session(server) as session:
                found = list(count_on(session))
                session.close()
            server.kill9()
            server.start()
            with peers.session(server) as session:
                for number in range(len(EDGES)):
                    found += show(session, number)
                session.close()
        answers.append(found)
    java, ours = answers
    assert len(java) > 20 * len(EDGES)
    assert ours == java
