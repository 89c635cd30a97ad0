"""W4 from both sides: what may come late over a connection that its session has left, and what may not."""

from __future__ import annotations

import pytest

from coati import errors
from coati.wire import codes
from coati.wire.jute import Writer
from coati.wire.records import (
    CreateRequest,
    CreateTTLRequest,
    DeleteRequest,
    MultiHeader,
    SetDataRequest,
)
from coati.wire.txns import AnyTxn, CloseSessionTxn, ErrorTxn, MultiTxn, SetDataTxn, Txn, encode_record
from tests.testing.kit import ids_of
from tests.testing.script import OPEN, Client, Script, packed
from tests.testing.test_checkers import checked, good

SET = packed(SetDataRequest(b"/a", b"late", -1))
DELETE_NOTHING = packed(DeleteRequest(b"/none", -1))


def multi(*parts: tuple[int, bytes]) -> bytes:
    w = Writer()
    for op, body in parts:
        MultiHeader(op, False, -1).write(w)
        w.raw(body)
    MultiHeader(-1, True, -1).write(w)
    return w.getvalue()


def failed(*errs: int) -> MultiTxn:
    """What went through before the first error, a set here, is logged as if it were done."""
    done = Txn(codes.OP_SET_DATA, encode_record(SetDataTxn(b"/a", b"late", 4)))
    return MultiTxn([Txn(codes.OP_ERROR, encode_record(ErrorTxn(err))) if err else done for err in errs])


def create(flags: int, path: bytes = b"/x") -> bytes:
    return packed(CreateRequest(path, b"", OPEN, flags))


def create_ttl(flags: int, ttl: int) -> bytes:
    return packed(CreateTTLRequest(b"/x", b"", OPEN, flags, ttl))


BOTH = multi((codes.OP_DELETE, DELETE_NOTHING), (codes.OP_SET_DATA, SET))
REST = errors.RUNTIME_INCONSISTENCY
MOVED, EXPIRED, ARGUMENTS = errors.SESSION_MOVED, errors.SESSION_EXPIRED, errors.BAD_ARGUMENTS

# Op and body of the request, and what it became; by PrepRequestProcessor.
ALLOWED: list[tuple[str, int, bytes, int, AnyTxn]] = [
    ("refused", codes.OP_SET_DATA, SET, -1, ErrorTxn(MOVED)),
    ("a multi is refused", codes.OP_MULTI, BOTH, codes.OP_MULTI, failed(MOVED, REST)),
    ("a multi is refused in the middle", codes.OP_MULTI, multi((codes.OP_SET_DATA, SET), (codes.OP_SET_DATA, SET)),
     codes.OP_MULTI, failed(0, MOVED)),
    ("a multi of nothing", codes.OP_MULTI, multi(), codes.OP_MULTI, MultiTxn([])),
    ("a multi that cannot be read", codes.OP_MULTI, b"?", -1, ErrorTxn(errors.MARSHALLING_ERROR)),
    ("unknown flags", codes.OP_CREATE, create(9), -1, ErrorTxn(ARGUMENTS)),
    ("unknown flags in a multi", codes.OP_MULTI, multi((codes.OP_CREATE, create(9))), codes.OP_MULTI,
     failed(ARGUMENTS)),
    ("a TTL of nothing", codes.OP_CREATE_TTL, create_ttl(codes.FLAG_PERSISTENT_WITH_TTL, 0), -1, ErrorTxn(ARGUMENTS)),
    ("a TTL for ever", codes.OP_CREATE_TTL, create_ttl(0, 5), -1, ErrorTxn(ARGUMENTS)),
    ("TTLs are off", codes.OP_CREATE_TTL, create_ttl(codes.FLAG_PERSISTENT_WITH_TTL, 5), -1,
     ErrorTxn(errors.UNIMPLEMENTED)),
    ("reconfig is off", codes.OP_RECONFIG, b"", -1, ErrorTxn(errors.RECONFIG_DISABLED)),
]  # fmt: skip
# The tree was looked at, and so the session was taken to be there.
FORBIDDEN: list[tuple[str, int, bytes, int, AnyTxn]] = [
    ("done", codes.OP_SET_DATA, SET, codes.OP_SET_DATA, SetDataTxn(b"/a", b"late", 4)),
    ("refused by the tree", codes.OP_DELETE, DELETE_NOTHING, -1, ErrorTxn(errors.NO_NODE)),
    ("a multi is refused by the tree", codes.OP_MULTI, BOTH, codes.OP_MULTI, failed(errors.NO_NODE, REST)),
    ("a multi is done", codes.OP_MULTI, multi((codes.OP_SET_DATA, SET)), codes.OP_MULTI,
     failed(0)),
    ("the flags of a later part", codes.OP_MULTI, multi((codes.OP_SET_DATA, SET), (codes.OP_CREATE, create(9))),
     codes.OP_MULTI, failed(0, ARGUMENTS)),
    ("no path", codes.OP_CREATE, create(0, b"x"), -1, ErrorTxn(ARGUMENTS)),
    ("TTLs are off, and none is asked for", codes.OP_CREATE, create(0), -1, ErrorTxn(errors.UNIMPLEMENTED)),
    ("arguments of what has none", codes.OP_SET_DATA, SET, -1, ErrorTxn(ARGUMENTS)),
    ("too long", codes.OP_SET_DATA, SET, -1, ErrorTxn(errors.MARSHALLING_ERROR)),
]  # fmt: skip


def come_late(op: int, body: bytes, txn_op: int, txn: AnyTxn, *, leaves: bool = True) -> tuple[Script, Client]:
    """A write that goes into the log behind one which its session has sent later."""
    script, _, two = good()
    late = two.call(op, body)
    if leaves:
        two.connect(server=2)
    xid = two.call(codes.OP_SET_DATA, SET)
    zxid = script.commit(two.session_id, xid, codes.OP_SET_DATA, SetDataTxn(b"/a", b"late", 3))
    script.commit(two.session_id, late, txn_op, txn)
    two.settle(xid, codes.OP_SET_DATA, SET, zxid)
    return script, two


@pytest.mark.parametrize(("op", "body", "txn_op", "txn"), [case[1:] for case in ALLOWED], ids=[c[0] for c in ALLOWED])
def test_what_does_nothing_may_come_late(op: int, body: bytes, txn_op: int, txn: AnyTxn) -> None:
    script, _ = come_late(op, body, txn_op, txn)
    assert checked(script) == []
    script, _ = come_late(op, body, txn_op, txn, leaves=False)
    assert "W4" in ids_of(checked(script)), "but not on one connection"


@pytest.mark.parametrize(
    ("op", "body", "txn_op", "txn"), [case[1:] for case in FORBIDDEN], ids=[c[0] for c in FORBIDDEN]
)
def test_what_the_tree_has_answered_may_not_come_late(op: int, body: bytes, txn_op: int, txn: AnyTxn) -> None:
    script, _ = come_late(op, body, txn_op, txn)
    assert ids_of(checked(script)) == ["W4"]


def test_the_end_of_a_session_may_come_late() -> None:
    """Nobody asks whose the session is (PrepRequestProcessor: "this request is the last of the session")."""
    script, two = come_late(codes.OP_CLOSE_SESSION, b"", codes.OP_CLOSE_SESSION, CloseSessionTxn([b"/b/q-0000000001"]))
    assert checked(script) == []
    late = two.call(codes.OP_SET_DATA, SET)
    script.commit(two.session_id, late, codes.OP_ERROR, ErrorTxn(EXPIRED))
    assert checked(script) == []


def test_one_that_is_excused_hides_no_other() -> None:
    """set, refused late, and a set that takes effect before the first: each was compared with the one before only."""
    script, _, two = good()
    first, late = two.call(codes.OP_SET_DATA, SET), two.call(codes.OP_SET_DATA, SET)
    two.connect(server=2)
    last = two.call(codes.OP_SET_DATA, SET)
    script.commit(two.session_id, last, codes.OP_SET_DATA, SetDataTxn(b"/a", b"late", 3))
    script.commit(two.session_id, first, codes.OP_SET_DATA, SetDataTxn(b"/a", b"late", 4))
    script.commit(two.session_id, late, codes.OP_ERROR, ErrorTxn(MOVED))
    assert ids_of(checked(script)) == ["W4"]


def test_a_session_that_was_nowhere_else_has_not_moved() -> None:
    script, _, two = good()
    late = two.call(codes.OP_DELETE, DELETE_NOTHING)
    script.commit(two.session_id, late, codes.OP_ERROR, ErrorTxn(MOVED))
    assert ids_of(checked(script)) == ["W6"]
    # One that asked to come back has moved it, though nobody answered.
    script.history.connecting(2, session_id=two.session_id)
    assert checked(script) == []
