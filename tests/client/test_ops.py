"""What operations of a multi look like as bytes, and what is made of their answers. Layouts: MultiTransactionRecord."""

from __future__ import annotations

import struct

import pytest

from coati.client.ops import (
    Check,
    Children,
    Create,
    Delete,
    Get,
    MultiError,
    Op,
    Set,
    multi_body,
    multi_read_body,
    multi_read_results,
    multi_results,
)
from coati.client.types import OPEN, READ_ONLY, Mode, Node
from coati.errors import MarshallingError, NoNode
from coati.wire import codes
from coati.wire.jute import Reader
from tests.client.kit import text
from tests.client.scripted import STAT

END = struct.pack(">i?i", -1, True, -1)
OPEN_BYTES = struct.pack(">ii", 1, 31) + text(b"world") + text(b"anyone")
READ_BYTES = struct.pack(">ii", 1, 1) + text(b"world") + text(b"anyone")


def head(op: int) -> bytes:
    return struct.pack(">i?i", op, False, -1)


def fault(code: int) -> bytes:
    return head(codes.OP_ERROR) + struct.pack(">i", code)


def shown(path: bytes) -> str:
    return path.decode()


def test_each_operation_has_its_record() -> None:
    ops: list[Op] = [
        Create("/a", b"x", Mode.EPHEMERAL_SEQUENTIAL),
        Create("/b", mode=Mode.CONTAINER, acl=READ_ONLY),
        Create("/c", ttl=1.5),
        Create("/d", mode=Mode.SEQUENTIAL, ttl=0.001),
        Set("/e", b"y", 3),
        Delete("/f", 4),
        Check("/g"),
    ]
    parts = [
        head(codes.OP_CREATE2) + text(b"/a") + text(b"x") + OPEN_BYTES + struct.pack(">i", 3),
        head(codes.OP_CREATE_CONTAINER) + text(b"/b") + text(b"") + READ_BYTES + struct.pack(">i", 4),
        head(codes.OP_CREATE_TTL) + text(b"/c") + text(b"") + OPEN_BYTES + struct.pack(">iq", 5, 1500),
        head(codes.OP_CREATE_TTL) + text(b"/d") + text(b"") + OPEN_BYTES + struct.pack(">iq", 6, 1),
        head(codes.OP_SET_DATA) + text(b"/e") + text(b"y") + struct.pack(">i", 3),
        head(codes.OP_DELETE) + text(b"/f") + struct.pack(">i", 4),
        head(codes.OP_CHECK) + text(b"/g") + struct.pack(">i", -1),
    ]
    assert multi_body(ops, str.encode, OPEN) == b"".join(parts) + END


def test_reads_have_theirs() -> None:
    body = multi_read_body([Get("/a"), Children("/b")], str.encode)
    parts = [head(codes.OP_GET_DATA) + text(b"/a") + b"\0", head(codes.OP_GET_CHILDREN) + text(b"/b") + b"\0"]
    assert body == b"".join(parts) + END


def test_results_come_in_the_order_of_the_operations() -> None:
    # An old server answers create2 in a multi with the path alone.
    data = (
        head(codes.OP_CREATE) + text(b"/a") + head(codes.OP_CREATE2) + text(b"/b1") + STAT
        + head(codes.OP_DELETE) + head(codes.OP_SET_DATA) + STAT + head(codes.OP_CHECK) + END
    )  # fmt: skip
    old, new, deleted, stat, checked = multi_results(
        [Create("/a", b"x"), Create("/b"), Delete("/c"), Set("/d", b""), Check("/e")], Reader(data), shown
    )
    assert isinstance(old, Node)
    assert (old.path, old.data, old.stat.czxid) == ("/a", b"x", 0)
    assert getattr(new, "path", "") == "/b1"
    assert (deleted, checked) == (None, None)
    assert stat is not None
    assert stat[0] == 1


@pytest.mark.parametrize(
    ("codes_of", "index"),
    [([0, -103, -2], 1), ([-110, -2, -2], 0), ([0, -2, -101], 2), ([-2, -2], 0), ([0, -2], 1)],
)
def test_the_operation_at_fault_is_found(codes_of: list[int], index: int) -> None:
    ops = [Check(f"/{number}") for number in range(len(codes_of))]
    with pytest.raises(MultiError) as caught:
        multi_results(ops, Reader(b"".join(map(fault, codes_of)) + END), shown)
    error = caught.value
    assert (error.index, error.code, error.path) == (index, codes_of[index], f"/{index}")
    assert [getattr(result, "code", 0) for result in error.results] == codes_of


def test_a_refusal_without_a_fault_is_no_answer() -> None:
    with pytest.raises(MarshallingError):
        multi_results([Check("/a")], Reader(fault(0) + END), shown)


def test_errors_take_the_place_of_what_was_read() -> None:
    data = (
        head(codes.OP_GET_DATA) + struct.pack(">i", -1) + STAT + fault(-101)
        + head(codes.OP_GET_CHILDREN) + struct.pack(">i", 2) + text(b"b") + text(b"a") + END
    )  # fmt: skip
    node, error, names = multi_read_results([Get("/a"), Get("/b"), Children("/c")], Reader(data))
    assert getattr(node, "data", None) == b""
    assert isinstance(error, NoNode)
    assert error.path == "/b"
    assert names == ["a", "b"]
