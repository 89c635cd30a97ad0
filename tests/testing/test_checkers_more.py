"""The rarer sides of the checkers: ACLs, TTLs, inexact servers, traces beside histories, the slices that are shown."""

from __future__ import annotations

import base64
import hashlib

import pytest

from coati import errors
from coati.testing import history as h
from coati.testing.check_sessions import SessionRules
from coati.testing.checkers import MAX_VIOLATIONS, Rules, check
from coati.testing.history import Event, ServerLog, Trace
from coati.testing.reports import Reports
from coati.testing.requests import may, read_write
from coati.wire import codes
from coati.wire.records import (
    ACL,
    CheckVersionRequest,
    CreateRequest,
    CreateTTLRequest,
    DeleteRequest,
    Id,
    RemoveWatchesRequest,
    SetACLRequest,
    SetDataRequest,
    SetWatches,
)
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
)
from tests.testing.kit import ids_of
from tests.testing.script import OPEN, SECRET, packed
from tests.testing.test_checkers import checked, good

BOB = "bob:" + base64.b64encode(hashlib.sha1(b"bob:pw").digest()).decode()


def test_who_may_read_is_told() -> None:
    """E6 the other way round: who has said who it is gets the event, and must get it."""
    script, one, two = good()
    two.add_auth(b"bob:pw")
    two.add_watch(b"/", codes.WATCH_MODE_PERSISTENT_RECURSIVE)
    acl = [ACL(codes.PERM_ALL, Id("digest", BOB))]
    one.create(b"/bobs", acl=acl)
    two.told(codes.EVENT_CREATED, b"/bobs")
    two.get(b"/bobs")
    one.exists(b"/bobs")
    script.last.err, script.last.body = errors.NO_AUTH, b""
    assert checked(script) == []
    script.history.lines.remove(script.event())
    assert ids_of(checked(script)) == ["E2"]


def test_what_only_the_server_knows_may_be_told_or_not() -> None:
    for is_told in (True, False):
        script, one, two = good()
        two.add_watch(b"/", codes.WATCH_MODE_PERSISTENT_RECURSIVE)
        one.create(b"/there", acl=[ACL(codes.PERM_ALL, Id("ip", "10.0.0.1"))])
        if is_told:
            two.told(codes.EVENT_CREATED, b"/there")
        two.sync()
        assert checked(script) == []


def test_permissions() -> None:
    reader = [ACL(codes.PERM_READ, Id("world", "anyone"))]
    assert may(reader, codes.PERM_READ, ()) is True
    assert may(reader, codes.PERM_WRITE, ()) is False
    assert may(SECRET, codes.PERM_READ, ()) is False
    assert may(SECRET, codes.PERM_READ, [Id("digest", "bob:x")]) is True
    assert may(SECRET, codes.PERM_READ, [Id("super", "")]) is None
    assert may([ACL(codes.PERM_ALL, Id("sasl", "x"))], codes.PERM_READ, ()) is None


def test_all_kinds_of_writes_are_understood() -> None:
    script, one, _ = good()
    container = packed(CreateRequest(b"/c", b"", OPEN, codes.FLAG_CONTAINER))
    txn = CreateContainerTxn(b"/c", b"", OPEN, 4)
    one.write(codes.OP_CREATE_CONTAINER, container, codes.OP_CREATE_CONTAINER, txn)
    ttl = packed(CreateTTLRequest(b"/t", b"", OPEN, codes.FLAG_PERSISTENT_WITH_TTL, 9))
    one.write(codes.OP_CREATE_TTL, ttl, codes.OP_CREATE_TTL, CreateTTLTxn(b"/t", b"", OPEN, 5, 9))
    acl = packed(SetACLRequest(b"/t", SECRET, 0))
    one.write(codes.OP_SET_ACL, acl, codes.OP_SET_ACL, SetACLTxn(b"/t", SECRET, 1))
    one.write(codes.OP_SET_ACL, acl, codes.OP_ERROR, ErrorTxn(errors.NO_AUTH))
    check_it = (codes.OP_CHECK, packed(CheckVersionRequest(b"/a", 2)), CheckVersionTxn(b"/a", 3))
    made = (
        codes.OP_CREATE_CONTAINER,
        packed(CreateRequest(b"/c/d", b"", SECRET, codes.FLAG_CONTAINER)),
        CreateContainerTxn(b"/c/d", b"", SECRET, 1),
    )
    one.multi(check_it, made)
    one.refused(b"/t", -1, errors.NO_AUTH)
    one.write(codes.OP_SET_DATA, packed(SetDataRequest(b"a", b"", 0)), codes.OP_ERROR, ErrorTxn(errors.BAD_ARGUMENTS))
    one.write(
        codes.OP_DELETE, packed(DeleteRequest(b"/b", -1)), codes.OP_ERROR, ErrorTxn(errors.NOT_EMPTY)
    )  # fmt: skip
    one.write(codes.OP_DELETE, packed(DeleteRequest(b"/n/o", -1)), codes.OP_ERROR, ErrorTxn(errors.NO_NODE))
    one.write(codes.OP_DELETE, packed(DeleteRequest(b"/a", 7)), codes.OP_ERROR, ErrorTxn(errors.BAD_VERSION))
    below = packed(CreateRequest(b"/b/q-0000000001/x", b"", OPEN, 0))
    one.write(codes.OP_CREATE, below, codes.OP_ERROR, ErrorTxn(errors.NO_CHILDREN_FOR_EPHEMERALS))
    script.commit(0, 0, codes.OP_DELETE_CONTAINER, DeleteTxn(b"/c/d"))
    one.answer(one.call(codes.OP_SET_DATA, b"?"), script.zxid, errors.MARSHALLING_ERROR)
    one.answer(one.call(codes.OP_RECONFIG, b""), script.zxid, errors.UNIMPLEMENTED)
    assert checked(script) == []
    assert str(read_write(codes.OP_SET_DATA, packed(SetDataRequest(b"/a", b"d", 3)))) == "setData(/a, b'd', version 3)"


@pytest.mark.parametrize(
    ("id_", "op", "body", "txn"),
    [
        ("W1", codes.OP_DELETE, packed(DeleteRequest(b"/b/q-0000000000", -1)), SetDataTxn(b"/b", b"", 1)),
        ("W1", codes.OP_SET_DATA, packed(SetDataRequest(b"/b", b"", -1)), SetDataTxn(b"/b", b"x", 1)),
        ("W5", codes.OP_SET_DATA, packed(SetDataRequest(b"/b", b"", -1)), ErrorTxn(errors.BAD_VERSION)),
        ("W6", codes.OP_DELETE, packed(DeleteRequest(b"/b", -1)), DeleteTxn(b"/b")),
        ("W9", codes.OP_CREATE, packed(CreateRequest(b"/x", b"", OPEN, 0)), CreateTxn(b"/x", b"", OPEN, False, 9)),
        ("W6", codes.OP_CREATE, packed(CreateRequest(b"/a", b"", OPEN, 0)), CreateTxn(b"/a", b"", OPEN, False, 4)),
        ("W6", codes.OP_SET_DATA, packed(SetDataRequest(b"/none", b"", -1)), SetDataTxn(b"/none", b"", 1)),
        ("W7", codes.OP_MULTI, b"?", MultiTxn([Txn(codes.OP_CREATE, b"?")])),
    ],
)
def test_a_txn_that_is_not_its_request_is_found(id_: str, op: int, body: bytes, txn: DeleteTxn) -> None:
    """Also without the request: what a txn does to a tree that does not allow it."""
    for is_known in (True, False):
        script, one, _ = good()
        xid = one.call(op, body)
        kind = {SetDataTxn: 5, DeleteTxn: 2, CreateTxn: 1, ErrorTxn: -1, MultiTxn: 14}[type(txn)]
        script.commit(one.session_id if is_known else 5, xid if is_known else 0, kind, txn)
        found = ids_of(checked(script))
        assert id_ in found or not is_known or id_ == "W7"
        assert found or id_ in ("W1", "W5")


def test_a_server_may_be_inexact() -> None:
    """Java may show a newer state than the header of the reply says, up to that of the next one."""
    script, one, two = good()
    before = script.zxid
    one.set(b"/a", b"newer")
    two.get(b"/a")
    script.last.zxid = before
    two.get(b"/b")
    assert checked(script, is_exact=False) == []
    assert ids_of(checked(script)) == ["R1"]
    script.history.lines[-1:] = []
    assert checked(script, is_exact=False) == []


def test_watches_of_a_connection_may_be_removed_and_set_by_the_old_request() -> None:
    script, one, two = good()
    two.add_watch(b"/a", codes.WATCH_MODE_PERSISTENT)
    removed = packed(RemoveWatchesRequest(b"/a", codes.WATCHER_PERSISTENT))
    two.answer(two.call(codes.OP_REMOVE_WATCHES, removed), script.zxid, 0)
    two.answer(two.call(codes.OP_REMOVE_WATCHES, removed), script.zxid, errors.NO_WATCHER)
    one.set(b"/a", b"")
    asked = packed(SetWatches(script.zxid, [b"/a", b"/gone"], [b"/b"], [b"/b", b"/gone"]))
    xid = two.call(codes.OP_SET_WATCHES, asked, codes.XID_SET_WATCHES)
    for event_type, path in ((2, b"/gone"), (1, b"/b"), (2, b"/gone")):
        two.told(event_type, path, -1)
    two.answer(xid, script.zxid, 0)
    one.set(b"/a", b"")
    two.told(codes.EVENT_DATA_CHANGED, b"/a")
    two.answer(two.call(codes.OP_ADD_WATCH, b"?"), script.zxid, 0)
    two.answer(two.call(77, b""), -1, errors.UNIMPLEMENTED)
    assert checked(script) == []
    two.told(codes.EVENT_DATA_CHANGED, b"/a", -1)
    assert ids_of(checked(script)) == ["E2"]


def test_events_out_of_order_are_found() -> None:
    script, one, two = good()
    two.get(b"/a", watch=True)
    two.get(b"/b", watch=True)
    one.set(b"/a", b"")
    one.set(b"/b", b"")
    two.told(codes.EVENT_DATA_CHANGED, b"/b")
    two.told(codes.EVENT_DATA_CHANGED, b"/a", script.zxid - 1)
    assert "E3" in ids_of(checked(script))
    script, one, two = good()
    two.get(b"/a", watch=True)
    one.set(b"/a", b"")
    two.told(codes.EVENT_DATA_CHANGED, b"/a")
    two.get(b"/b", zxid=script.zxid - 1)
    assert "E3" in ids_of(checked(script))


def test_a_stale_sync_with_two_leaders_is_named() -> None:
    """ZOOKEEPER-1675: reported all the same."""
    script, one, two = good()
    before = script.zxid
    one.set(b"/b", b"told")
    two.sync(before)
    traces = [Trace(0, sid, h.EPOCHS, epoch=sid, accepted=sid) for sid in (1, 2)]
    traces += [Trace(1, sid, h.SERVING, epoch=sid, is_leader=True) for sid in (1, 2)]
    traces.append(Trace(script.now_ms + 1, 3, h.DOWN))
    assert "known 1675" in str(next(v for v in checked(script, traces=traces) if v.id == "R4"))


def test_the_log_is_made_of_traces_and_digests_are_compared() -> None:
    script, _, _ = good()
    rules = Rules(sessions=SessionRules())
    logs = {1: ServerLog(script.log)}
    assert check(script.history, logs=logs, rules=rules) == []
    traces = [Trace(1, 1, h.LOGGED, zxid, payload=payload) for zxid, payload in script.log]
    digests = script.timeline.digests
    traces += [Trace(2, 1, h.APPLIED, zxid, digest=digests[zxid]) for zxid, _ in script.log]
    assert check(script.history, traces=traces, rules=rules) == []
    traces[-1].digest = 7
    assert ids_of(check(None, traces=traces)) == ["Z11"]


def test_what_is_shown_is_small() -> None:
    script, one, _ = good()
    for _ in range(MAX_VIOLATIONS + 9):
        one.get(b"/a")
        script.last.body = b"!"
    one.children(b"/")
    script.last.body = b"\xff"
    one.answer(one.call(codes.OP_GET_DATA, b""), script.zxid, 0)
    one.get(b"/a")
    script.last.err = errors.SESSION_MOVED
    found = checked(script)
    assert len(found) == MAX_VIOLATIONS
    assert all(len(violation.slice) < 12 for violation in found)
    assert "getData" in str(found[0])


def test_a_refusal_is_told_as_it_is_logged() -> None:
    script, one, _ = good()
    one.refused(b"/a", 9, errors.BAD_VERSION)
    script.last.err = 0
    assert ids_of(checked(script)) == ["W1"]
    script.last.err = errors.NO_NODE
    assert ids_of(checked(script)) == ["W6"]


def test_a_session_that_expires_in_time_is_fine() -> None:
    script, _, two = good()
    # One starts anew with a leader that began late.
    script.now_ms += 5000
    traces = [Trace(0, 1, h.EPOCHS, epoch=1, accepted=1), Trace(script.now_ms, 1, h.SERVING, epoch=1, is_leader=True)]
    script.now_ms += 6000
    script.commit(two.session_id, 0, codes.OP_CLOSE_SESSION, CloseSessionTxn([b"/b/q-0000000001"]))
    assert checked(script, traces=traces) == []
    assert ids_of(checked(script)) == ["S3"]


def test_an_event_from_nowhere_is_found() -> None:
    script, _, two = good()
    script.history.lines.append(Event(script.now_ms, two.conn, two.session_id, 9 << 40, 1, b"/future"))
    script.commit(7, 0, codes.OP_CREATE_SESSION, CreateSessionTxn(5))
    assert ids_of(checked(script)) == ["E2", "S7"]


@pytest.mark.parametrize(
    ("sent_ms", "came_ms", "is_over", "ids"),
    [(0, 5, False, ["S2"]), (-1, 5, False, []), (0, 5990, False, []), (0, 5, True, [])],
    ids=["told", "not yet told", "told too late", "told by another life"],
)
def test_a_leader_lets_expire_whom_it_was_not_told_of(
    sent_ms: int, came_ms: int, is_over: bool, ids: list[str]
) -> None:
    """The follower loses its leader behind the client's last request, and is no part of the quorum any more."""
    script, _, two = good()
    two.get(b"/b")
    heard_ms = script.now_ms - 10
    traces = [Trace(0, 2, h.SERVING, epoch=1, is_leader=True), Trace(1, 1, h.SERVING, epoch=1)]
    if is_over:
        traces.append(Trace(heard_ms + 1, 1, h.LOOKING))
    traces.append(Trace(heard_ms + came_ms, 2, h.REPORTED, epoch=1, acks=(1,), count=heard_ms + sent_ms))
    script.now_ms = heard_ms + 5990
    script.commit(two.session_id, 0, codes.OP_CLOSE_SESSION, CloseSessionTxn([b"/b/q-0000000001"]))
    rules = Rules(sessions=SessionRules(skew_ms=0, tick_ms=200, grace_ms=6000, reports=Reports(traces)))
    assert ids_of(check(script.history, script.log, rules=rules)) == ids


@pytest.mark.parametrize(
    ("answer_ms", "cut_ms", "ids"), [(0, 0, ["S4"]), (400, 0, []), (0, 10, [])], ids=["refused", "slow", "cut off"]
)
def test_who_gives_up_before_the_network_is_not_refused(answer_ms: int, cut_ms: int, ids: list[str]) -> None:
    """Simulator, seed 101904: each server has a sixth of 800 ms, and is cut off before the last try ends."""
    script, _, two = good()
    for server in (2, 6, 4, 6):
        conn = script.history.connecting(server, session_id=two.session_id, timeout_ms=800)
        script.now_ms += 140
        script.history.disconnected(conn, two.session_id)
    sessions = SessionRules(sids=range(1, 7), calm=[(0, script.now_ms - cut_ms)], answer_ms=answer_ms)
    assert ids_of(check(script.history, script.log, rules=Rules(sessions=sessions))) == ids


@pytest.mark.parametrize(("missing", "ids"), [(0, ["S4"]), (1, [])], ids=["as far", "behind"])
def test_who_has_seen_more_than_the_servers_is_refused_in_vain(missing: int, ids: list[str]) -> None:
    """Simulator, seed 200081: the client had heard of a commit that was still on its way to the others (R2)."""
    script, _, two = good()
    reports = Reports([Trace(0, sid, h.RECOVERED, script.zxid - missing) for sid in range(1, 7)])
    for server in (4, 1, 6, 2):
        conn = script.history.connecting(server, session_id=two.session_id, last_zxid=script.zxid, timeout_ms=800)
        script.now_ms += 5
        script.history.disconnected(conn, two.session_id)
    sessions = SessionRules(sids=range(1, 7), calm=[(0, script.now_ms)], reports=reports)
    assert ids_of(check(script.history, script.log, rules=Rules(sessions=sessions))) == ids


def test_a_session_that_was_served_outside_of_calm_times_has_come_home() -> None:
    """Simulator, seed 200118."""
    script, _, two = good()
    began_ms = script.now_ms
    for server in (1, 1, 1, 0, 1):
        if server:
            conn = script.history.connecting(server, session_id=two.session_id, timeout_ms=800)
            script.now_ms += 1
            script.history.disconnected(conn, two.session_id)
        else:
            two.connect()
            two.get(b"/a")
            script.history.disconnected(two.conn, two.session_id)
            script.now_ms += 1000
    sessions = SessionRules(sids=[1], calm=[(0, began_ms + 3), (script.now_ms - 1, script.now_ms)])
    assert ids_of(check(script.history, script.log, rules=Rules(sessions=sessions))) == []
