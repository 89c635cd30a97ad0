"""Logs: torn tails at every byte, flipped bits, and everything in row 66 of the bad inputs."""

from __future__ import annotations

import errno
import struct
from random import Random

import pytest

from coati.errors import StorageCorrupt, StorageFailed
from coati.storage import format
from coati.storage.store import Store
from coati.testing.disk import SimDisk
from coati.wire import codes
from coati.wire.records import (
    ACL,
    CloseSessionTxn,
    CreateSessionTxn,
    CreateTxn,
    DeleteTxn,
    ErrorTxn,
    Id,
    MultiTxn,
    SetDataTxn,
    Txn,
    TxnHeader,
)
from coati.wire.txns import AnyTxn, encode_record, encode_txn
from tests.storage.kit import (
    DIRECTORY,
    ROOT,
    config,
    fill,
    load,
    log_bytes,
    log_of,
    open_store,
    payload_of,
    refusal,
    snapshot_bytes,
    write,
)
from tools.storm_storage import flip_bits, small_store

SESSION = 0x1000020FEE00000
LAST = 11
TYPES: dict[str, tuple[int, AnyTxn]] = {
    "create": (codes.OP_CREATE, CreateTxn(b"/a", b"data", [ACL(31, Id("world", "anyone"))], False, 1)),
    "delete": (codes.OP_DELETE, DeleteTxn(b"/a")),
    "setData with end markers in it": (codes.OP_SET_DATA, SetDataTxn(b"/a", b"BBBB\x00B" * 5, 3)),
    "createSession": (codes.OP_CREATE_SESSION, CreateSessionTxn(40000)),
    "closeSession": (codes.OP_CLOSE_SESSION, CloseSessionTxn([b"/a", b"/b"])),
    "error": (codes.OP_ERROR, ErrorTxn(-101)),
    "multi": (
        codes.OP_MULTI,
        MultiTxn([Txn(codes.OP_DELETE, encode_record(DeleteTxn(b"/x"))), Txn(-1, encode_record(ErrorTxn(0)))]),
    ),
    "setData of zeros": (codes.OP_SET_DATA, SetDataTxn(b"/a", bytes(40), 3)),
}


def last_entry(name: str) -> bytes:
    type_, txn = TYPES[name]
    payload = encode_txn(TxnHeader(SESSION, 5, LAST, 1795226845525, type_), txn, None if type_ == -1 else 1 << 63)
    return log_bytes([payload])[format.HEADER_BYTES :]


def recover_and_go_on(disk: SimDisk, expected: int) -> None:
    """All up to `expected` are there, and ten more can be appended and are there then."""
    store = Store(disk, config())
    recovered, records = load(store)
    assert [record.header.zxid for record in records] == list(range(1, expected + 1))
    assert recovered.last_zxid == store.last_zxid == expected
    write(store, disk, range(expected + 1, expected + 11))
    disk.kill()
    store = Store(disk, config())
    recovered, records = load(store)
    assert [record.header.zxid for record in records] == list(range(1, expected + 11))
    assert recovered.warnings == []


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("start", [16 + 8192 - 40, 3000], ids=["across the end of the padding", "in the middle"])
@pytest.mark.parametrize("is_cut", [True, False], ids=["cut", "zeroed"])
def test_a_last_entry_torn_at_any_byte_is_dropped(name: str, start: int, is_cut: bool) -> None:
    """Finding 4: Java drops it, and just it, at every offset. Here the log can be appended to afterwards, too."""
    entry = last_entry(name)
    # Ten txns before it, so that it starts where it should.
    before = [payload_of(zxid, b"x") for zxid in range(1, 10)]
    room = start - len(log_bytes(before)) - len(log_bytes([payload_of(10, b"")])) + format.HEADER_BYTES
    before.append(payload_of(10, b"y" * room))
    data = log_bytes(before)
    assert len(data) == start
    disk = SimDisk()
    disk.put(f"{DIRECTORY}/snapshot.0", snapshot_bytes([ROOT]))
    for size in range(len(entry) + 1):
        torn = data + entry[:size]
        state = disk.clone()
        state.put(f"{DIRECTORY}/log.1", torn if is_cut else torn + bytes(max(0, 16 + 3 * 8192 - len(torn))))
        recover_and_go_on(state, LAST if size == len(entry) else LAST - 1)


@pytest.mark.parametrize("is_cut", [True, False], ids=["cut", "zeroed"])
def test_a_torn_first_entry_leaves_nothing_in_the_way(is_cut: bool) -> None:
    entry = last_entry("create").replace(struct.pack(">q", LAST), struct.pack(">q", 1))
    disk = SimDisk()
    disk.put(f"{DIRECTORY}/snapshot.0", snapshot_bytes([ROOT]))
    for size in range(len(entry)):
        state = disk.clone()
        torn = format.encode_log_header() + entry[:size]
        state.put(f"{DIRECTORY}/log.1", torn if is_cut else torn + bytes(8192))
        recover_and_go_on(state, 0)


@pytest.mark.parametrize("size", range(17))
@pytest.mark.parametrize("padding", [0, 8192])
def test_a_log_without_a_whole_header_is_dropped_if_it_is_the_last(size: int, padding: int) -> None:
    """ZOOKEEPER-2332 and its rest: Java still fails for 1 to 15 bytes."""
    disk = fill()
    header = format.encode_log_header()[:size]
    disk.put(f"{DIRECTORY}/log.b", header + bytes(padding))
    recover_and_go_on(disk, 10)


@pytest.mark.parametrize("header", [b"", b"ZKLG", bytes(16) + b"x", b"ZKLG" + bytes(4) + bytes(8) + b"x"])
def test_a_log_without_a_whole_header_is_refused_in_the_middle_or_with_data(header: bytes) -> None:
    disk = fill(range(1, 6))
    disk.put(f"{DIRECTORY}/log.6", header)
    if len(header) < 16:
        disk.put(f"{DIRECTORY}/log.7", log_of([7]))
    refused(disk, "log.6")


def refused(disk: SimDisk, file_name: str, offset: int | None = None, reason: str = "") -> StorageCorrupt:
    """The store refuses and names the file, the place and the reason."""
    error = refusal(disk)
    assert error.path == f"{DIRECTORY}/{file_name}"
    assert reason in error.reason
    if offset is not None:
        assert error.offset == offset
    return error


@pytest.mark.slow
def test_every_bit_of_a_small_log_is_right_or_refused() -> None:
    """Java loses txns without a word in many of these (finding 3). Here: all of them, or a refusal."""
    disk, history = small_store(Random(5), txns=4, snapshot_after=99, sizes=(0, 30))
    path = f"{DIRECTORY}/log.1"
    size = len(disk.get(path).rstrip(b"\x00"))
    tally = flip_bits(disk, history, path, iter(range(8 * size)))
    # Only the dbid, which Java does not look at either, may change and be loaded.
    assert tally.refused == 8 * (size - 8)


def test_a_bit_in_the_padding_loses_nothing() -> None:
    disk, history = small_store(Random(5), txns=4, snapshot_after=99, sizes=(0, 30))
    path = f"{DIRECTORY}/log.1"
    content = disk.get(path)
    start = len(content.rstrip(b"\x00"))
    near = flip_bits(disk, history, path, iter(range(8 * start, 8 * (start + 12))))
    assert near.refused == 0
    far = flip_bits(disk, history, path, iter(range(8 * (start + 12), 8 * len(content), 997)))
    assert far.refused == far.points


def test_every_bit_of_the_last_entry_of_an_older_log_is_right_or_refused() -> None:
    """Behind it a new epoch begins, so no gap gives it away."""
    disk = fill(range(1, 6))
    write(open_store(disk), disk, [])
    disk.kill()
    disk.put(f"{DIRECTORY}/log.100000001", log_of([0x100000001, 0x100000002]))
    content = disk.get(f"{DIRECTORY}/log.1")
    size = len(content.rstrip(b"\x00"))
    entry = len(log_bytes([payload_of(5, b"data")])) - 16
    for bit in range(8 * (size - entry), 8 * size):
        state = disk.clone()
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        state.put(f"{DIRECTORY}/log.1", bytes(damaged))
        refused(state, "log.1", size - entry)


def test_a_torn_tail_of_an_older_log_is_one_that_java_left() -> None:
    """Java starts a new file and leaves the tail where it is."""
    disk = fill(range(1, 6))
    content = disk.get(f"{DIRECTORY}/log.1").rstrip(b"\x00")
    torn = last_entry("create")[:50]
    disk.put(f"{DIRECTORY}/log.1", content + torn + bytes(1000))
    disk.put(f"{DIRECTORY}/log.6", log_of(range(6, 11), size=4096))
    recover_and_go_on(disk, 10)


def test_a_zeroed_entry_in_the_middle_is_refused() -> None:
    content = log_of(range(1, 8))
    size = (len(content) - 16) // 7
    for index in range(6):
        disk = SimDisk()
        disk.put(f"{DIRECTORY}/snapshot.0", snapshot_bytes([ROOT]))
        start = 16 + index * size
        disk.put(f"{DIRECTORY}/log.1", content[:start] + bytes(size) + content[start + size :] + bytes(500))
        error = refused(disk, "log.1", start, f"the txns after zxid {index:#x} cannot be read")
        assert "restore" in error.advice


def test_an_entry_with_a_giant_length_is_refused_without_reading_so_much() -> None:
    payloads = [payload_of(zxid, b"") for zxid in range(1, 4)]
    content = bytearray(log_bytes(payloads))
    content[16 + 8] = 0x7F
    disk = SimDisk()
    disk.put(f"{DIRECTORY}/snapshot.0", snapshot_bytes([ROOT]))
    disk.put(f"{DIRECTORY}/log.1", bytes(content))
    refused(disk, "log.1", 16, "cannot have a length of 21307064")


@pytest.mark.slow
@pytest.mark.parametrize("length", [100, 16 << 20])
def test_far_data_behind_an_unfinished_entry_is_refused(length: int) -> None:
    """Farther away than any entry reaches: it is not even kept in memory."""
    content = log_of(range(1, 4)) + struct.pack(">qi", 1, length) + bytes(20 << 20) + b"x"
    disk = SimDisk()
    disk.put(f"{DIRECTORY}/snapshot.0", snapshot_bytes([ROOT]))
    disk.put(f"{DIRECTORY}/log.1", content)
    refused(disk, "log.1", len(log_of(range(1, 4))), "an unfinished entry has data behind it")


def set_up(*logs: tuple[str, bytes], snapshot_zxid: int = 0) -> SimDisk:
    disk = SimDisk()
    disk.put(f"{DIRECTORY}/snapshot.{snapshot_zxid:x}", snapshot_bytes([ROOT]))
    for name, content in logs:
        disk.put(f"{DIRECTORY}/{name}", content)
    return disk


EPOCH = 1 << 32


@pytest.mark.parametrize(
    ("logs", "file_name", "reason"),
    [
        pytest.param([("log.1", log_of([1, 2, 4]))], "log.1", "zxid 0x4 comes after 0x2: a gap", id="gap in a file"),
        pytest.param([("log.1", log_of([1])), ("log.3", log_of([3]))], "log.3", "0x3 comes after 0x1: a gap", id="gap"),
        pytest.param([("log.2", log_of([2]))], "log.2", "zxid 0x2 comes after 0x0: a gap", id="no beginning"),
        pytest.param([("log.1", log_of([1, 1]))], "log.1", "zxid 0x1 comes after 0x1", id="duplicate"),
        pytest.param([("log.1", log_of([1, 2, 1]))], "log.1", "zxid 0x1 comes after 0x2", id="decreasing"),
        pytest.param([("log.1", log_of([1, 2])), ("log.2", log_of([2]))], "log.2", "comes after 0x2", id="overlap"),
        pytest.param([("log.2", log_of([1, 2]))], "log.2", "its first zxid is 0x1, unlike its name", id="name"),
        pytest.param(
            [("log.1", log_of([1, EPOCH + 2]))], "log.1", "zxid 0x100000002 comes after 0x1: a gap", id="epoch's second"
        ),
        pytest.param([("log.1", log_of([1, EPOCH]))], "log.1", "zxid 0x100000000 comes after 0x1", id="epoch's zeroth"),
    ],
)
def test_a_history_with_a_hole_is_refused(logs: list[tuple[str, bytes]], file_name: str, reason: str) -> None:
    refused(set_up(*logs), file_name, reason=reason)


@pytest.mark.parametrize(
    ("logs", "snapshot_zxid", "zxids"),
    [
        pytest.param([("log.1", log_of([1, 2, EPOCH + 1]))], 0, [1, 2, EPOCH + 1], id="epoch in a file"),
        pytest.param([("log.300000001", log_of([3 * EPOCH + 1]))], EPOCH, [3 * EPOCH + 1], id="epochs without txns"),
        pytest.param([("log.1", log_of([1, 2])), ("log.3", log_of([]))], 0, [1, 2], id="nothing in the last"),
        pytest.param(
            [("log.1", log_of([])), ("log.100000001", log_of([EPOCH + 1]))], 0, [EPOCH + 1], id="in the first"
        ),
        # A learner that got a snapshot goes on in the log it has: the hole is below the snapshot.
        pytest.param([("log.1", log_of([1, 2, 101, 102]))], 100, [101, 102], id="hole below the snapshot"),
        pytest.param([("log.1", log_of([1, 7]))], 5000, [], id="snapshot newer than all logs"),
        pytest.param([("log.2", b"not looked at"), ("log.5", log_of([5, 6, 7]))], 6, [7], id="older logs"),
    ],
)
def test_a_history_without_a_hole_is_loaded(
    logs: list[tuple[str, bytes]], snapshot_zxid: int, zxids: list[int]
) -> None:
    disk = set_up(*logs, snapshot_zxid=snapshot_zxid)
    store = Store(disk, config())
    recovered, records = load(store)
    assert [record.header.zxid for record in records] == zxids
    assert recovered.last_zxid == max([snapshot_zxid, *zxids])
    write(store, disk, [recovered.last_zxid + 1])
    disk.kill()
    assert load(Store(disk, config()))[0].last_zxid == recovered.last_zxid + 1


@pytest.mark.parametrize("body", [struct.pack(">qiqqi", 1, 2, 1, 4, 77), payload_of(1, b"data")[:40]])
def test_a_txn_that_cannot_be_decoded_is_refused(body: bytes) -> None:
    refused(set_up(("log.1", log_bytes([body]))), "log.1", 16, "the txn 0x1 at or after here")


def test_entries_larger_than_what_is_read_at_once() -> None:
    """Also larger than the limit of today: it may have been higher."""
    payloads = [payload_of(zxid, bytes([zxid]) * (700_000 * zxid)) for zxid in range(1, 5)]
    disk = set_up(("log.1", log_bytes(payloads) + bytes(3 << 20)))
    _, records = load(Store(disk, config(max_payload_bytes=1000)))
    assert [record.payload for record in records] == payloads


@pytest.mark.parametrize("at", range(1, 6))
def test_a_read_that_fails_is_a_refusal(at: int) -> None:
    disk = set_up(("log.1", log_of(range(1, 4))))
    disk.fail("read", at, errno.EIO)
    with pytest.raises(StorageFailed, match="Input/output error"):
        load(Store(disk, config()))


def test_a_file_that_cannot_be_opened_is_a_refusal() -> None:
    for at in (1, 2):
        disk = set_up(("log.1", log_of(range(1, 4))))
        disk.fail("open", at, errno.EACCES)
        with pytest.raises(StorageFailed, match="Permission denied"):
            load(Store(disk, config()))


@pytest.mark.slow
def test_a_new_log_has_the_layout_and_size_of_java() -> None:
    disk = SimDisk()
    store = open_store(disk, prealloc_bytes=65536 * 1024)
    write(store, disk, [1])
    content = disk.get(f"{DIRECTORY}/log.1")
    # 67108880 bytes, as measured for Java 3.8.0 and 3.9.3 with their defaults.
    assert content == log_bytes([payload_of(1, b"data")], size=67108880)


def test_the_padding_grows_before_it_is_used_up() -> None:
    disk = SimDisk()
    store = open_store(disk)
    sizes = []
    for zxid in range(1, 40):
        write(store, disk, [zxid], b"x" * 500)
        sizes.append(disk.size(f"{DIRECTORY}/log.1"))
    position = 16
    size = 16 + 8192
    for zxid, found in enumerate(sizes, 1):
        if zxid > 1 and position + 4096 >= size:
            size += 8192
        position += 13 + len(payload_of(zxid, b"x" * 500))
        assert found == size


def test_without_padding_the_log_is_as_long_as_its_entries() -> None:
    disk = SimDisk()
    store = open_store(disk, prealloc_bytes=0)
    write(store, disk, [1, 2])
    write(store, disk, [3])
    assert disk.get(f"{DIRECTORY}/log.1") == log_bytes([payload_of(zxid, b"data") for zxid in (1, 2, 3)])


def test_a_batch_larger_than_the_padding_is_written_whole() -> None:
    disk = SimDisk()
    store = open_store(disk)
    write(store, disk, range(1, 100), b"z" * 1000)
    write(store, disk, [100])
    disk.kill()
    _, records = load(Store(disk, config()))
    assert len(records) == 100
    assert disk.size(f"{DIRECTORY}/log.1") % 8192 == 0
