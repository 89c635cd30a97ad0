"""Txns: what Java logged is read and written back to the byte; what cannot be a txn is refused."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coati.errors import MarshallingError
from coati.wire import codes
from coati.wire.jute import Reader
from coati.wire.txns import (
    CheckVersionTxn,
    CloseSessionTxn,
    CreateContainerTxn,
    CreateSessionTxn,
    CreateTTLTxn,
    CreateTxn,
    DeleteTxn,
    ErrorTxn,
    MultiTxn,
    SetACLTxn,
    SetDataTxn,
    Txn,
    TxnHeader,
    decode_txn,
    encode_record,
    encode_txn,
    is_readable,
    read_record,
)
from tests.wire import schema, wirepeer

SAMPLES = [bytes.fromhex(line) for line in (wirepeer.FIXTURES / "java_txns.txt").read_text().split()]
# SerializeUtils.deserializeTxn, and DataTree.processTxn for what a multi holds.
CLASSES: dict[int, Any] = {
    codes.OP_CREATE: CreateTxn,
    codes.OP_CREATE2: CreateTxn,
    codes.OP_CREATE_TTL: CreateTTLTxn,
    codes.OP_CREATE_CONTAINER: CreateContainerTxn,
    codes.OP_DELETE: DeleteTxn,
    codes.OP_DELETE_CONTAINER: DeleteTxn,
    codes.OP_SET_DATA: SetDataTxn,
    codes.OP_RECONFIG: SetDataTxn,
    codes.OP_SET_ACL: SetACLTxn,
    codes.OP_CHECK: CheckVersionTxn,
    codes.OP_CREATE_SESSION: CreateSessionTxn,
    codes.OP_CLOSE_SESSION: CloseSessionTxn,
    codes.OP_ERROR: ErrorTxn,
    codes.OP_MULTI: MultiTxn,
}
LOGGED = [type_ for type_ in CLASSES if type_ != codes.OP_CHECK]
HEADER = TxnHeader(0x1000_0000_0000_0001, 7, 0x5_0000_0009, 1_700_000_000_000, codes.OP_ERROR)


def header(type_: int) -> TxnHeader:
    return TxnHeader(HEADER.client_id, HEADER.cxid, HEADER.zxid, HEADER.time, type_)


def check_payload(payload: bytes) -> int:
    """Decodes, encodes, and returns the type."""
    record = decode_txn(payload)
    assert record.payload == payload
    assert isinstance(record.txn, CLASSES[record.header.type])
    assert encode_txn(record.header, record.txn, record.digest) == payload
    if isinstance(record.txn, MultiTxn):
        for part in record.txn.txns or []:
            assert encode_record(read_record(part.type, Reader(part.data or b""))) == part.data
    return record.header.type


@pytest.mark.parametrize("payload", SAMPLES, ids=range(len(SAMPLES)))
def test_txn_that_java_logged_is_written_back_identically(payload: bytes) -> None:
    check_payload(payload)


def test_samples_hold_most_types() -> None:
    types = Counter(decode_txn(payload).header.type for payload in SAMPLES)
    assert set(types) == {-11, -10, 1, 2, 5, 7, 14, 19, 21}


@pytest.mark.interop
def test_every_txn_of_the_golden_logs_is_written_back_identically() -> None:
    logs = wirepeer.golden_logs()
    if not logs:
        reason = f"no golden data directories in {wirepeer.GOLDEN}"
        if os.environ.get("COATI_REQUIRE_INTEROP") == "1":
            pytest.fail(f"required by COATI_REQUIRE_INTEROP=1: {reason}", pytrace=False)
        pytest.skip(reason)
    zxids: dict[Path, list[int]] = {}
    for path in logs:
        for payload in wirepeer.log_payloads(path):
            check_payload(payload)
            zxids.setdefault(path.parent, []).append(decode_txn(payload).header.zxid)
    for found in zxids.values():
        # The files of a directory in the order of their names are not in that of their zxids.
        assert sorted(found) == list(range(1, max(found) + 1))


def test_txn_known_to_the_byte() -> None:
    txn = CreateTxn(b"/a", b"x", [], True, 3)
    payload = encode_txn(header(codes.OP_CREATE), txn, 1)
    assert payload.hex() == (
        "1000000000000001" "00000007" "0000000500000009" "0000018bcfe56800" "00000001"
        "00000002" "2f61" "00000001" "78" "00000000" "01" "00000003"
        "00000002" "0000000000000001"
    )  # fmt: skip
    record = decode_txn(payload)
    assert (record.header, record.txn, record.digest) == (header(codes.OP_CREATE), txn, 1)


@pytest.mark.parametrize("type_", LOGGED)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(dice=st.data())
def test_txn_round_trip(type_: int, dice: st.DataObject) -> None:
    txn = dice.draw(schema.instances(CLASSES[type_].__name__))
    head = dice.draw(schema.instances("TxnHeader"))
    head.type = type_
    digest = dice.draw(st.none() | st.integers(0, (1 << 64) - 1))
    payload = encode_txn(head, txn, digest)
    record = decode_txn(payload)
    assert (record.header, record.txn, record.digest) == (head, txn, digest)


@pytest.mark.parametrize("payload", [pytest.param(p, id=str(n)) for n, p in enumerate(SAMPLES) if n % 5 == 0])
def test_txn_cut_at_every_byte_is_refused(payload: bytes) -> None:
    record = decode_txn(payload)
    assert record.digest is not None
    body = len(payload) - 12
    for end in range(len(payload)):
        if record.header.type == codes.OP_CLOSE_SESSION and end == 32:
            assert decode_txn(payload[:end]).txn == CloseSessionTxn([])
        elif record.header.type == codes.OP_CREATE and body - 4 <= end < body:
            assert decode_txn(payload[:end]).txn.parent_cversion == -1  # type: ignore[union-attr] # CreateTxnV0
        elif end < body:
            with pytest.raises(MarshallingError):
                decode_txn(payload[:end])
        else:
            # Whatever is left of a digest is no digest, as in Java.
            assert decode_txn(payload[:end]).digest is None


@pytest.mark.parametrize("digest", [None, 0, 1, 1 << 63, (1 << 63) - 1, (1 << 64) - 1])
def test_digest_is_unsigned(digest: int | None) -> None:
    payload = encode_txn(HEADER, ErrorTxn(-101), digest)
    assert decode_txn(payload).digest == digest
    assert len(payload) == 36 + (0 if digest is None else 12)


def test_digest_of_another_version_is_none() -> None:
    payload = encode_txn(HEADER, ErrorTxn(-101), 5)
    assert decode_txn(payload[:36] + b"\0\0\0\1" + payload[40:]).digest is None


def test_bytes_after_the_digest_are_ignored() -> None:
    assert decode_txn(encode_txn(HEADER, ErrorTxn(-101), 5) + b"garbage").digest == 5


def test_create_of_3_3_has_no_parent_version() -> None:
    # CreateTxnV0; the -1 makes DataTree.createNode take the parent's own count.
    data = encode_record(CreateTxn(b"/old", b"data", [], True, 0))[:-4]
    payload = encode_txn(header(codes.OP_CREATE), DeleteTxn(b""), None)[:32] + data
    assert decode_txn(payload).txn == CreateTxn(b"/old", b"data", [], True, -1)
    null_acl = encode_record(CreateTxn(b"/old", None, None, False, 0))[:-4]
    assert decode_txn(payload[:32] + null_acl).txn == CreateTxn(b"/old", None, None, False, -1)
    for type_ in (codes.OP_CREATE2, codes.OP_CREATE_CONTAINER, codes.OP_CREATE_TTL):
        with pytest.raises(MarshallingError):
            decode_txn(encode_txn(header(type_), DeleteTxn(b""), None)[:32] + data)


@pytest.mark.parametrize("digest", [None, 1, 0x1234_5678_9ABC_DEF0, (1 << 64) - 1])
def test_close_session_without_a_body(digest: int | None) -> None:
    # Before 3.6, or with zookeeper.closeSessionTxn.enabled=false.
    head = header(codes.OP_CLOSE_SESSION)
    whole = encode_txn(head, CloseSessionTxn([]), digest)
    record = decode_txn(whole[:32] + whole[36:])
    assert (record.txn, record.digest) == (CloseSessionTxn([]), digest)
    for paths in ([b"/a"], [b"/a", b"/b"], [b"", b""], [b"/a", b"/b", b"/c"]):
        assert decode_txn(encode_txn(head, CloseSessionTxn(paths), digest)).txn == CloseSessionTxn(paths)


@pytest.mark.parametrize("type_", [0, 3, 4, 9, 11, 13, 22, 23, 100, 107, -2, -12, 9999, -(1 << 31), (1 << 31) - 1])
def test_type_that_is_never_logged_is_refused(type_: int) -> None:
    payload = encode_txn(header(type_), CheckVersionTxn(b"/a", 1), None)
    with pytest.raises(MarshallingError, match=rf"type( of op: |=){type_}"):
        decode_txn(payload)


def test_check_is_a_part_of_a_multi_only() -> None:
    check = CheckVersionTxn(b"/a", 1)
    assert read_record(codes.OP_CHECK, Reader(encode_record(check))) == check


@pytest.mark.parametrize("type_", [5, 1, 15, 2, 20, 13, -1, 21, 19])
def test_part_of_a_multi_is_read_as_its_type(type_: int) -> None:
    name = CLASSES[type_].__name__
    data = bytes.fromhex(schema.java_samples()[name]["samples"][2][1])
    record = read_record(type_, Reader(data))
    assert isinstance(record, CLASSES[type_])
    assert encode_record(record) == data


@pytest.mark.parametrize("type_", [codes.OP_MULTI, codes.OP_SET_ACL, codes.OP_RECONFIG, -10, -11, 0, 4, 9999])
def test_what_no_multi_holds_is_refused_as_a_part(type_: int) -> None:
    # A multi in a multi in a multi ... would be read as deep as the payload is long.
    with pytest.raises(MarshallingError, match=f"Invalid type of op: {type_}$"):
        read_record(type_, Reader(bytes(100)))


def test_multi_holds_encoded_txns() -> None:
    multi = MultiTxn([Txn(codes.OP_DELETE, encode_record(DeleteTxn(b"/a"))), Txn(codes.OP_ERROR, bytes(4))])
    payload = encode_txn(header(codes.OP_MULTI), multi, None)
    assert payload[32:].hex() == "000000020000000200000006000000022f61ffffffff0000000400000000"
    assert decode_txn(payload).txn == multi


@pytest.mark.parametrize("size", [0, 1, 31])
def test_payload_without_a_header_is_refused(size: int) -> None:
    with pytest.raises(MarshallingError, match="has no header"):
        decode_txn(bytes(size))


def test_longest_request_can_be_read_back_from_the_log() -> None:
    # ZOOKEEPER-3496: preparing adds to a request that was as long as allowed; what was logged must be readable.
    data = bytes(3 * codes.MAX_BUFFER_BYTES)
    payload = encode_txn(header(codes.OP_SET_DATA), SetDataTxn(b"/a", data, 1), 9)
    assert decode_txn(payload).txn == SetDataTxn(b"/a", data, 1)


def can_be_read(payload: bytes) -> bool:
    """By reading it, parts of a multi too."""
    try:
        txn = decode_txn(payload).txn
        if isinstance(txn, MultiTxn):
            for part in txn.txns or []:
                read_record(part.type, Reader(part.data or b""))
    except MarshallingError:
        return False
    return True


@pytest.mark.parametrize("payload", SAMPLES, ids=range(len(SAMPLES)))
def test_txn_is_readable_if_it_can_be_read(payload: bytes) -> None:
    """At once for most: cut at every byte, with every byte of the first 60 another one, with lengths that are null."""
    assert is_readable(payload)
    others = [payload[:size] for size in range(len(payload))]
    for at in range(28, min(len(payload), 60)):
        others += [payload[:at] + bytes((byte,)) + payload[at + 1 :] for byte in (0, 1, 2, 5, 15, 0x7F, 0xFF)]
    others += [payload[:at] + b"\xff\xff\xff\xff" + payload[at + 4 :] for at in range(28, len(payload) - 3)]
    for other in others:
        assert is_readable(other) == can_be_read(other), other.hex()


def test_multi_with_a_part_of_nothing_is_not_readable() -> None:
    assert is_readable(encode_txn(header(codes.OP_MULTI), MultiTxn(None), None))
    assert not is_readable(encode_txn(header(codes.OP_MULTI), MultiTxn([Txn(codes.OP_CREATE, None)]), None))
    assert not is_readable(encode_txn(header(codes.OP_MULTI), MultiTxn([Txn(77, b"")]), 5))
