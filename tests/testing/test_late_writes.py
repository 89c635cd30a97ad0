"""What a client had sent over a connection that it has left, and what of it may take effect behind its later writes."""

from __future__ import annotations

from coati import errors
from coati.testing.checkers import check
from coati.wire import codes
from coati.wire.jute import Writer
from coati.wire.records import MultiHeader, SetDataRequest
from coati.wire.txns import ErrorTxn, MultiTxn, SetDataTxn, Txn, encode_record
from tests.testing.kit import ids_of
from tests.testing.script import Script


def late_multi(*logged: Txn) -> list[str]:
    """A multi of two setData is overtaken by a setData of the next connection, and becomes this."""
    script = Script()
    client = script.client()
    client.create(b"/a")
    w = Writer()
    for _ in logged:
        MultiHeader(codes.OP_SET_DATA, False, -1).write(w)
        SetDataRequest(b"/a", b"old", -1).write(w)
    MultiHeader(-1, True, -1).write(w)
    xid = client.call(codes.OP_MULTI, w.getvalue())
    script.history.disconnected(client.conn, client.session_id)
    client.connect(server=2)
    client.set(b"/a", b"new")
    script.commit(client.session_id, xid, codes.OP_MULTI, MultiTxn(list(logged)))
    return ids_of(check(script.history, script.log))


def test_a_multi_of_an_older_connection_that_is_refused_may_come_late() -> None:
    """Its session has moved: a multi says so in its parts, and is no error txn."""
    moved = Txn(codes.OP_ERROR, encode_record(ErrorTxn(errors.SESSION_MOVED)))
    rest = Txn(codes.OP_ERROR, encode_record(ErrorTxn(errors.RUNTIME_INCONSISTENCY)))
    assert late_multi(moved, rest) == []


def test_a_multi_of_an_older_connection_that_does_something_comes_too_late() -> None:
    parts = [Txn(codes.OP_SET_DATA, encode_record(SetDataTxn(b"/a", b"old", version))) for version in (2, 3)]
    assert late_multi(*parts) == ["W4"]
