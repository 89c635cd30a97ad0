"""The bytes of storage/format.py: layouts, limits and every verdict on a damaged tail."""

from __future__ import annotations

import struct
from random import Random
from typing import cast
from zlib import adler32

import pytest

from coati.storage import format
from coati.storage.format import BoxedZnode, Damage, ZnodeTuple, ZxidDigest
from coati.wire.records import ACL, Id
from tests.storage.kit import Row, encode_znodes, rows_of

LIMIT = 1 << 20
# TxnHeader of a createSession, zxid 7, and its timeout.
PAYLOAD = struct.pack(">qiqqi", 0x1000020FEE00000, 0, 7, 1795226845525, -10) + struct.pack(">i", 40000)


def entry(payload: bytes) -> bytes:
    """As the comment of FileTxnLog draws it, but with the checksum over the payload alone."""
    return struct.pack(">qi", adler32(payload), len(payload)) + payload + b"\x42"


def payload_of(zxid: int, body: bytes = b"") -> bytes:
    return struct.pack(">qiqqi", 1, 2, zxid, 3, -1) + body


def test_the_header_of_a_log_is_that_of_java() -> None:
    assert format.encode_log_header() == b"ZKLG" + struct.pack(">iq", 2, 0)
    format.check_log_header(format.encode_log_header())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "0 bytes are too short"),
        (b"ZKLG\x00\x00\x00", "7 bytes are too short"),
        (b"ZKSN" + struct.pack(">iq", 2, 0), "magic number 0x5a4b534e"),
        (b"\xff" * 16, "magic number 0xffffffff"),
        (b"ZKLG" + struct.pack(">iq", 1, 0), "version 1"),
    ],
)
def test_another_header_of_a_log_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(Damage, match=reason):
        format.check_log_header(data)


def test_the_dbid_of_a_log_is_ignored_as_in_java() -> None:
    format.check_log_header(b"ZKLG" + struct.pack(">iq", 2, 99))


@pytest.mark.parametrize("size", range(16))
def test_a_beginning_of_a_header_was_never_written(size: int) -> None:
    assert format.is_unwritten_header(format.encode_log_header()[:size].rstrip(b"\x00"))


@pytest.mark.parametrize("data", [b"ZKLH", b"A", format.encode_log_header() + b"\x01"])
def test_other_bytes_are_no_unwritten_header(data: bytes) -> None:
    assert not format.is_unwritten_header(data)


@pytest.mark.parametrize(
    ("zxid", "name"), [(0, "log.0"), (1, "log.1"), (0x1F, "log.1f"), (0x100000001, "log.100000001")]
)
def test_names_of_logs(zxid: int, name: str) -> None:
    assert format.log_name(zxid) == name
    assert format.parse_log_name(name) == zxid


@pytest.mark.parametrize(
    "name", ["log", "log.", "log.1F", "log.01", "log.-1", "log.g", "log.1.bak", "log.+1", "log.1_0", "logs.1",
             "log.8000000000000000", "snapshot.1", "log. 1"]
)  # fmt: skip
def test_other_names_are_no_logs(name: str) -> None:
    assert format.parse_log_name(name) == -1


@pytest.mark.parametrize(
    ("name", "zxid", "compression"),
    [("snapshot.0", 0, ""), ("snapshot.1ce.gz", 0x1CE, "gz"), ("snapshot.a.snappy", 10, "snappy")],
)
def test_names_of_snapshots(name: str, zxid: int, compression: str) -> None:
    assert format.parse_snapshot_name(name) == (zxid, compression)
    assert format.snapshot_name(zxid, compression) == name


@pytest.mark.parametrize(
    "name", ["snapshot", "snapshot.x", "snapshot.1.tmp", "snapshot.1.", "log.1", "snapshot.1.gz.tmp"]
)
def test_other_names_are_no_snapshots(name: str) -> None:
    assert format.parse_snapshot_name(name) == (-1, "")


@pytest.mark.parametrize(
    ("position", "size", "prealloc", "expected"),
    [
        # The cases of upstream's FilePaddingTest, and the first size of a file.
        (16, 16, 65536 * 1024, 67108880),
        (1016, 5112, 10240, 15352),
        (10240 * 10, 10240 * 5, 10240, 10240 * 10 + 10240),
        (10240 * 10 + 1, 10240 * 5, 10240, 10240 * 11),
        (100, 10000, 8192, 10000),
        (5903, 10000, 8192, 10000),
        (5904, 10000, 8192, 18192),
        (9999, 10000, 0, 10000),
    ],
)
def test_padding_grows_as_in_java(position: int, size: int, prealloc: int, expected: int) -> None:
    assert format.padded_size(position, size, prealloc) == expected


def test_an_entry_is_checksum_length_payload_and_end() -> None:
    assert format.encode_entry_head(PAYLOAD) + PAYLOAD + format.END_OF_ENTRY == entry(PAYLOAD)


def test_many_entries_are_encoded_at_once() -> None:
    payloads = [payload_of(zxid, b"x" * zxid) for zxid in range(1, 6)]
    assert format.encode_entries(payloads) == b"".join(map(entry, payloads))
    assert format.encode_entries([]) == b""


def test_entries_are_read_up_to_the_padding() -> None:
    payloads = [payload_of(zxid, b"x" * zxid) for zxid in range(1, 6)]
    data = b"".join(map(entry, payloads))
    found: list[tuple[int, bytes]] = []
    assert format.decode_entries(data + bytes(100), 0, found) == len(data)
    assert found == list(zip(range(1, 6), payloads, strict=True))


@pytest.mark.parametrize("cut", range(1, len(entry(PAYLOAD))))
def test_a_cut_entry_is_not_read(cut: int) -> None:
    found: list[tuple[int, bytes]] = []
    data = entry(PAYLOAD)
    assert format.decode_entries(data + data[:-cut], 0, found) == len(data)
    assert len(found) == 1


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(entry(b"x" * 31), id="shorter than a txn header"),
        pytest.param(entry(PAYLOAD)[:-1] + b"\x43", id="end marker"),
        pytest.param(b"\x00" * 7 + b"\x01" + entry(PAYLOAD)[8:], id="checksum"),
        pytest.param(entry(PAYLOAD)[:8] + struct.pack(">i", -5) + PAYLOAD, id="negative length"),
    ],
)
def test_an_unsound_entry_is_not_read(data: bytes) -> None:
    found: list[tuple[int, bytes]] = []
    assert format.decode_entries(data + bytes(100), 0, found) == 0
    assert found == []


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"", 13), (bytes(11), 13), (bytes(12), 13), (struct.pack(">qi", 1, 100), 113), (struct.pack(">qi", 1, -7), 13)],
)
def test_how_long_an_entry_says_it_is(data: bytes, expected: int) -> None:
    assert format.entry_bytes(data, 0) == expected


def test_nothing_and_the_beginning_of_an_entry_are_no_damage() -> None:
    data = entry(PAYLOAD)
    for cut in range(len(data)):
        assert format.judge_tail(data[:cut].rstrip(b"\x00"), LIMIT) == "", cut


SOUND = entry(payload_of(9, b"sound"))
TORN = entry(PAYLOAD)[:-1]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(struct.pack(">qi", 0, 0) + SOUND, "length 0 has data behind it", id="zeroed entry"),
        pytest.param(struct.pack(">qi", 5, 0) + b"x", "length 0 has data behind it", id="length zeroed"),
        pytest.param(struct.pack(">qi", 5, -1) + b"x", "a length of -1", id="negative"),
        pytest.param(struct.pack(">qi", 5, 31) + b"x", "a length of 31", id="too short"),
        pytest.param(struct.pack(">qi", 5, LIMIT + 1) + b"x", f"a length of {LIMIT + 1}", id="too long"),
        pytest.param(b"\x00" * 8 + entry(PAYLOAD)[8:], "checksum of an entry is wrong", id="checksum"),
        pytest.param(TORN + b"\x43", "end marker of an entry is 0x43", id="end marker"),
        pytest.param(TORN + b"\x00\x01", "an unfinished entry has data behind it", id="data behind"),
        pytest.param(
            entry(PAYLOAD)[:8] + struct.pack(">i", len(PAYLOAD) + 256) + PAYLOAD + b"B",
            "a wrong length, 292",
            id="length too large",
        ),
        pytest.param(
            entry(PAYLOAD)[:8] + struct.pack(">i", 5000) + PAYLOAD[:20] + b"\x00" * 16 + b"B" + SOUND,
            "an unfinished entry has sound ones behind it",
            id="sound ones behind",
        ),
    ],
)
def test_damage_is_told_from_a_torn_tail(data: bytes, reason: str) -> None:
    assert reason in format.judge_tail(data, LIMIT)


def test_a_torn_tail_may_hold_anything_but_a_sound_entry() -> None:
    for seed in range(20):
        noise = Random(seed).randbytes(300).rstrip(b"\x00")
        assert format.judge_tail(struct.pack(">qi", 77, 4000) + noise, LIMIT) == ""
        # Something that has the length and the end of an entry, but not its checksum.
        false = struct.pack(">qi", 1, 40) + bytes(40) + b"B" + noise
        assert format.judge_tail(struct.pack(">qi", 77, 4000) + b"x" * 40 + false, LIMIT) == ""


def test_the_head_of_a_snapshot() -> None:
    acls = {1: [ACL(31, Id("digest", "a:b")), ACL(1, Id("world", "anyone"))], 5: []}
    head = format.encode_snapshot_head({0x1000020FEE00000: 40000}, acls)
    assert head == (
        b"ZKSN" + struct.pack(">iq", 2, -1)
        + struct.pack(">iqi", 1, 0x1000020FEE00000, 40000)
        + struct.pack(">iqi", 2, 1, 2)
        + struct.pack(">ii6si3s", 31, 6, b"digest", 3, b"a:b")
        + struct.pack(">ii5si6s", 1, 5, b"world", 6, b"anyone")
        + struct.pack(">qi", 5, 0)
    )  # fmt: skip
    format.check_snapshot_header(head)
    sessions: dict[int, int] = {}
    assert format.decode_count(head, 16) == 1
    format.decode_sessions(head, 20, 1, sessions)
    assert sessions == {0x1000020FEE00000: 40000}
    found: dict[int, list[ACL]] = {}
    assert format.decode_count(head, 32) == 2
    assert format.decode_acl(head, format.decode_acl(head, 36, found), found) == len(head)
    assert found == acls


def test_the_open_acl_is_never_listed() -> None:
    with pytest.raises(AssertionError):
        format.encode_snapshot_head({}, {-1: [ACL(31, Id("world", "anyone"))]})


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(Damage, match="a count of -1"):
        format.decode_count(struct.pack(">i", -1), 0)


@pytest.mark.parametrize("data", [struct.pack(">qiqi", 5, 10, 5, 10), struct.pack(">qi", 5, -1)])
def test_sessions_that_cannot_be_are_refused(data: bytes) -> None:
    with pytest.raises(Damage, match="session 0x5"):
        format.decode_sessions(data, 0, len(data) // 12, {})


def test_an_acl_that_is_not_whole_waits_for_more() -> None:
    data = struct.pack(">qi", 1, 2) + struct.pack(">ii5si6s", 1, 5, b"world", 6, b"anyone") * 2
    for cut in range(1, len(data) + 1):
        found: dict[int, list[ACL]] = {}
        assert format.decode_acl(data[:-cut], 0, found) == -1
        assert found == {}
    # A count that no file can hold waits, too: the reader stops at its own limit.
    assert format.decode_acl(struct.pack(">qi", 1, 0x7FFFFFFF) + data[12:], 0, {}) == -1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (struct.pack(">qi", 7, -1), "ACL 7 has -1 entries"),
        (struct.pack(">qi", 3, 0), "ACL 3 is listed twice"),
        (struct.pack(">qi", -1, 0), "ACL -1 is listed twice"),
    ],
)
def test_an_acl_that_cannot_be_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(Damage, match=reason):
        format.decode_acl(data, 0, {3: []})


ZNODES: list[Row] = [
    (b"/", b"", -1, 0, 0, 0, 0, 0, 296, 0, 0, 513),
    (b"/null", None, 3, 1, 2, 3, 4, -1, 6, 7, -(1 << 63), 9),
    (b"/data", b"x" * 100, -1, 1 << 40, 2, 3, 4, 5, 6, 7, 8, 9),
    (b"/" + b"p" * 600, b"y" * 70000, -1, 1, 2, 3, 4, 5, 6, 7, 8, 9),
]


def test_znodes_are_read_up_to_the_end_mark() -> None:
    data = encode_znodes(ZNODES)
    found: list[BoxedZnode] = []
    assert format.decode_znodes(b"abc" + data + format.END_OF_ZNODES, 3, found, LIMIT) == len(data) + 3
    assert rows_of(cast(list[ZnodeTuple], found)) == ZNODES


def test_a_znode_that_is_not_whole_waits_for_more() -> None:
    start = len(encode_znodes(ZNODES[:2]))
    data = encode_znodes(ZNODES[:3])
    for stop in range(start, len(data)):
        found: list[BoxedZnode] = []
        assert format.decode_znodes(data[:stop], 0, found, LIMIT) == start
        assert rows_of(cast(list[ZnodeTuple], found)) == ZNODES[:2]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(struct.pack(">i", -1), "length -1", id="null path"),
        pytest.param(struct.pack(">i2si", 2, b"/a", -2), "length -2", id="data"),
        pytest.param(struct.pack(">i", LIMIT + 1), "Unreasonable length = 1048577", id="endless path"),
        pytest.param(struct.pack(">i2si", 2, b"/a", LIMIT + 1), "Unreasonable length = 1048577", id="endless data"),
    ],
)
def test_a_znode_with_a_length_that_cannot_be_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(Damage, match=reason):
        format.decode_znodes(data, 0, [], LIMIT)


def test_a_seal_is_the_checksum_and_a_slash() -> None:
    assert format.encode_seal(0x12345678) == struct.pack(">qi", 0x12345678, 1) + b"/"
    format.check_seal(b"xx" + format.encode_seal(5), 2, 5)
    for data in (format.encode_seal(6), format.encode_seal(5)[:-1], b""):
        with pytest.raises(Damage, match="checksum is wrong"):
            format.check_seal(data, 0, 5)


def sealed(before: bytes, part: bytes) -> bytes:
    return part + struct.pack(">qi", adler32(before + part), 1) + b"/"


DIGEST = struct.pack(">qiq", 0x1EB, 2, -5)
LAST = struct.pack(">q", 0x1EC)


def test_the_trailers_are_those_which_each_version_writes() -> None:
    before = b"all of the snapshot"
    checksum = adler32(before)
    digest = ZxidDigest(0x1EB, 2, (1 << 64) - 5)
    with_digest = sealed(before, DIGEST)
    both = with_digest + sealed(before + with_digest, LAST)
    assert format.decode_trailers(b"", checksum) == (None, None)
    assert format.decode_trailers(with_digest, checksum) == (digest, None)
    assert format.decode_trailers(both, checksum) == (digest, 0x1EC)
    assert format.decode_trailers(sealed(before, LAST), checksum) == (None, 0x1EC)
    assert format.encode_digest(digest) == DIGEST
    assert format.encode_digest(ZxidDigest(1, 2, 3)) == struct.pack(">qiq", 1, 2, 3)
    assert format.encode_last_zxid(0x1EC) == LAST


def test_trailers_that_are_cut_longer_or_flipped_are_refused() -> None:
    before = b"all of the snapshot"
    with_digest = sealed(before, DIGEST)
    both = with_digest + sealed(before + with_digest, LAST)
    for size in range(1, len(both)):
        if size != len(with_digest):
            with pytest.raises(Damage):
                format.decode_trailers(both[:size], adler32(before))
    with pytest.raises(Damage, match="1 bytes too many"):
        format.decode_trailers(both + b"x", adler32(before))
    for bit in range(8 * len(both)):
        damaged = bytearray(both)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Damage):
            format.decode_trailers(bytes(damaged), adler32(before))


def test_a_digest_compares_by_value() -> None:
    digest = ZxidDigest(1, 2, 3)
    assert digest == ZxidDigest(1, 2, 3)
    assert hash(digest) == hash(ZxidDigest(1, 2, 3))
    others: list[object] = [ZxidDigest(0, 2, 3), ZxidDigest(1, 1, 3), ZxidDigest(1, 2, 4), (1, 2, 3)]
    assert all(digest != other for other in others)
    assert repr(digest) == "ZxidDigest(zxid=0x1, version=2, digest=3)"


@pytest.mark.parametrize(
    ("data", "epoch"),
    [(b"0", 0), (b"7", 7), (b"12\n", 12), (b"3\r\nrest", 3), (b"2147483647", 0x7FFFFFFF), (b"007", 7)],
)
def test_epochs_are_read_as_java_does(data: bytes, epoch: int) -> None:
    assert format.decode_epoch(data) == epoch


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"abc", b"-1", b"+1", b" 1", b"1 ", b"2147483648", b"9" * 19, b"1" * 5000, b"1\x00", b"\xb2"]
)
def test_other_epochs_are_refused(data: bytes) -> None:
    with pytest.raises(Damage, match="is no epoch"):
        format.decode_epoch(data)


def test_an_epoch_is_written_without_a_line_end() -> None:
    assert format.encode_epoch(42) == b"42"
