"""The checkers of clients' histories: a good one passes, and each with one violation is told by its id.

The violations are those that the list of invariants gives as examples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from coati import errors
from coati.testing.check_sessions import SessionRules
from coati.testing.checkers import Rules, check
from coati.testing.history import Event, Trace, Violation
from coati.wire import codes
from coati.wire.records import CreateRequest, DeleteRequest, SetDataRequest
from coati.wire.txns import (
    CloseSessionTxn,
    CreateSessionTxn,
    CreateTxn,
    DeleteTxn,
    ErrorTxn,
    MultiTxn,
    SetDataTxn,
    Txn,
    encode_record,
)
from tests.testing.kit import ids_of
from tests.testing.script import OPEN, SECRET, Client, Script, packed

SESSIONS = SessionRules(skew_ms=0, tick_ms=200, sids=[1], calm=[(0, 1 << 40)])


def checked(script: Script, *, is_exact: bool = True, traces: list[Trace] | None = None) -> list[Violation]:
    rules = Rules(is_exact=is_exact, sessions=SESSIONS)
    return check(script.history, script.log, traces=traces or [], rules=rules)


def good() -> tuple[Script, Client, Client]:
    """Some of everything, and nothing wrong with it."""
    script = Script()
    one, two = script.client(), script.client()
    one.create(b"/a", b"1")
    two.get(b"/a", watch=True)
    two.exists(b"/b", watch=True)
    two.children(b"/", watch=True)
    one.set(b"/a", b"2", 0)
    two.told(codes.EVENT_DATA_CHANGED, b"/a")
    two.get(b"/a")
    one.create(b"/b")
    two.told(codes.EVENT_CREATED, b"/b")
    two.told(codes.EVENT_CHILDREN_CHANGED, b"/")
    two.create(b"/b/q-", flags=2)
    two.create(b"/b/q-", flags=3)
    two.children(b"/b", watch=True)
    one.refused(b"/a", 7, errors.BAD_VERSION)
    one.refused(b"/none", -1, errors.NO_NODE)
    one.multi(
        (codes.OP_CREATE, packed(CreateRequest(b"/m", b"", OPEN, 0)), CreateTxn(b"/m", b"", OPEN, False, 3)),
        (codes.OP_SET_DATA, packed(SetDataRequest(b"/a", b"3", 1)), SetDataTxn(b"/a", b"3", 2)),
        (codes.OP_DELETE, packed(DeleteRequest(b"/m", -1)), DeleteTxn(b"/m")),
    )
    one.multi(
        (codes.OP_CREATE, packed(CreateRequest(b"/m", b"", OPEN, 0)), CreateTxn(b"/m", b"", OPEN, False, 4)),
        (codes.OP_DELETE, packed(DeleteRequest(b"/none", -1)), ErrorTxn(errors.NO_NODE)),
        (codes.OP_SET_DATA, packed(SetDataRequest(b"/a", b"3", 1)), ErrorTxn(errors.RUNTIME_INCONSISTENCY)),
    )
    two.sync()
    two.get(b"/a")
    two.exists(b"/m")
    return script, one, two


def test_a_good_history_passes() -> None:
    script, one, two = good()
    script.epoch = 2
    two.add_watch(b"/b", codes.WATCH_MODE_PERSISTENT_RECURSIVE)
    one.set(b"/b", b"x")
    two.told(codes.EVENT_DATA_CHANGED, b"/b")
    one.delete(b"/b/q-0000000000")
    two.told(codes.EVENT_DELETED, b"/b/q-0000000000")
    two.told(codes.EVENT_CHILDREN_CHANGED, b"/b")
    two.exists(b"/b/q-0000000001", watch=True)
    last = script.zxid
    script.history.disconnected(two.conn, two.session_id)
    one.set(b"/b", b"y")
    two.connect()
    xid = two.set_watches(last, data=b"/b", exists=b"/b/z", children=b"/b")
    two.told(codes.EVENT_DATA_CHANGED, b"/b", -1)
    two.answer(xid, script.zxid, 0)
    two.close()
    # Its own ephemeral goes, and it hears of that first.
    script.history.lines.insert(-1, Event(script.now_ms, two.conn, two.session_id, script.zxid, 4, b"/b"))
    one.children(b"/b")
    assert checked(script) == []
    assert checked(script, is_exact=False) == []


# One violation each. They get the good history and its clients.


def lose_a_write(script: Script, one: Client, two: Client) -> None:
    """The acknowledged write is gone after a failover."""
    one.create(b"/lost")
    script.log.pop()


def tell_of_other_content(script: Script, one: Client, two: Client) -> None:
    xid = one.call(codes.OP_SET_DATA, body := packed(SetDataRequest(b"/a", b"mine", -1)))
    zxid = script.commit(one.session_id, xid, codes.OP_SET_DATA, SetDataTxn(b"/a", b"other", 3))
    one.settle(xid, codes.OP_SET_DATA, body, zxid)


def answer_before_its_zxid(script: Script, one: Client, two: Client) -> None:
    one.set(b"/a", b"x")
    script.last.zxid -= 1


def do_it_twice(script: Script, one: Client, two: Client) -> None:
    """One unanswered sequential create makes two znodes."""
    xid = one.call(codes.OP_CREATE, packed(CreateRequest(b"/s-", b"", OPEN, 2)))
    for number in (4, 5):
        txn = CreateTxn(b"/s-%010d" % (number - 1), b"", OPEN, False, number)
        script.commit(one.session_id, xid, codes.OP_CREATE, txn)


def invent_a_write(script: Script, one: Client, two: Client) -> None:
    script.commit(one.session_id, 99, codes.OP_SET_DATA, SetDataTxn(b"/a", b"", 3))


def swap_in_time(script: Script, one: Client, two: Client) -> None:
    """a: [0,1] zxid 9; b: [2,3] zxid 8."""
    body = packed(SetDataRequest(b"/a", b"x", -1))
    other = script.commit(two.session_id, two.xid + 1, codes.OP_SET_DATA, SetDataTxn(b"/a", b"x", 3))
    xid = one.call(codes.OP_SET_DATA, body)
    one.settle(xid, codes.OP_SET_DATA, body,
               script.commit(one.session_id, xid, codes.OP_SET_DATA, SetDataTxn(b"/a", b"x", 4)))  # fmt: skip
    two.settle(two.call(codes.OP_SET_DATA, body), codes.OP_SET_DATA, body, other)


def _pipelined(script: Script, client: Client) -> list[tuple[int, bytes]]:
    bodies = [packed(SetDataRequest(b"/a", data, -1)) for data in (b"1", b"2")]
    return [(client.call(codes.OP_SET_DATA, body), body) for body in bodies]


def swap_writes_of_a_session(script: Script, one: Client, two: Client) -> None:
    """Pipelined set(1), set(2) end with 1."""
    calls = _pipelined(script, one)
    zxids = [
        script.commit(one.session_id, xid, codes.OP_SET_DATA, SetDataTxn(b"/a", body[10:11], version))
        for version, (xid, body) in zip((3, 4), reversed(calls), strict=True)
    ]
    for (xid, body), zxid in zip(calls, reversed(zxids), strict=True):
        one.settle(xid, codes.OP_SET_DATA, body, zxid)


def swap_replies(script: Script, one: Client, two: Client) -> None:
    calls = _pipelined(script, one)
    zxids = [
        script.commit(one.session_id, xid, codes.OP_SET_DATA, SetDataTxn(b"/a", body[10:11], version))
        for version, (xid, body) in zip((3, 4), calls, strict=True)
    ]
    for (xid, body), zxid in reversed(list(zip(calls, zxids, strict=True))):
        one.settle(xid, codes.OP_SET_DATA, body, zxid)


def answer_nobody(script: Script, one: Client, two: Client) -> None:
    one.answer(77, script.zxid, 0)


def do_both_of_one_version(script: Script, one: Client, two: Client) -> None:
    """Two set(v=2) are both fine."""
    one.set(b"/a", b"x", 2)
    two.set(b"/a", b"y", 2)


def skip_a_version(script: Script, one: Client, two: Client) -> None:
    xid = one.call(codes.OP_SET_DATA, packed(SetDataRequest(b"/a", b"", -1)))
    script.commit(one.session_id, xid, codes.OP_SET_DATA, SetDataTxn(b"/a", b"", 9))


def refuse_for_nothing(script: Script, one: Client, two: Client) -> None:
    """NodeExists where there is none."""
    body = packed(CreateRequest(b"/fresh", b"", OPEN, 0))
    one.write(codes.OP_CREATE, body, codes.OP_ERROR, ErrorTxn(errors.NODE_EXISTS))


def create_without_a_parent(script: Script, one: Client, two: Client) -> None:
    body = packed(CreateRequest(b"/none/x", b"", OPEN, 0))
    one.write(codes.OP_CREATE, body, codes.OP_CREATE, CreateTxn(b"/none/x", b"", OPEN, False, 1))


def refuse_without_a_txn(script: Script, one: Client, two: Client) -> None:
    xid = one.call(codes.OP_DELETE, packed(DeleteRequest(b"/a", 9)))
    one.answer(xid, script.zxid, errors.BAD_VERSION)


def tear_a_multi(script: Script, one: Client, two: Client) -> None:
    """A part of it is missing."""
    txn = MultiTxn([Txn(codes.OP_DELETE, encode_record(DeleteTxn(b"/b/q-0000000000")))])
    one.multi(*[(codes.OP_DELETE, packed(DeleteRequest(b"/b/q-0000000000", -1)), DeleteTxn(b"/b/q-0000000000"))] * 2)
    script.log.pop()
    script.timeline.zxids.pop()
    script.commit(one.session_id, one.xid, codes.OP_MULTI, txn)


def misname_the_errors(script: Script, one: Client, two: Client) -> None:
    one.multi(
        (codes.OP_DELETE, packed(DeleteRequest(b"/none", -1)), ErrorTxn(errors.NO_NODE)),
        (codes.OP_DELETE, packed(DeleteRequest(b"/none", -1)), ErrorTxn(errors.NO_NODE)),
    )


def tell_half_a_multi(script: Script, one: Client, two: Client) -> None:
    one.multi((codes.OP_DELETE, packed(DeleteRequest(b"/b/q-0000000000", -1)), DeleteTxn(b"/b/q-0000000000")))
    script.last.body = script.last.body[9:]


def tell_another_stat(script: Script, one: Client, two: Client) -> None:
    """pzxid smaller than it was (3125, 3145, 3249)."""
    one.set(b"/a", b"x")
    script.last.body = script.last.body[:-8] + (1).to_bytes(8, "big")


def reuse_a_number(script: Script, one: Client, two: Client) -> None:
    """Delete the last one, restart, and the next has its number again."""
    one.delete(b"/b/q-0000000001")
    one.create(b"/b/q-", flags=2, shift=-1)


def write_when_dead(script: Script, one: Client, two: Client) -> None:
    """1208: an ephemeral behind the closeSession."""
    two.close()
    txn = CreateTxn(b"/ghost", b"", OPEN, True, 4)
    script.commit(two.session_id, two.xid + 1, codes.OP_CREATE, txn)


def let_the_dead_write(script: Script, one: Client, two: Client) -> None:
    """The same for a request that was pipelined behind the end, and answered."""
    two.close()
    two.create(b"/late")


def take_the_ephemerals_of_others(script: Script, one: Client, two: Client) -> None:
    xid = one.call(codes.OP_CLOSE_SESSION, b"")
    script.commit(one.session_id, xid, codes.OP_CLOSE_SESSION, CloseSessionTxn([b"/b/q-0000000001"]))


def show_half_the_children(script: Script, one: Client, two: Client) -> None:
    one.children(b"/b")
    script.last.body = (1).to_bytes(4, "big") + script.last.body[20:]


def show_other_data(script: Script, one: Client, two: Client) -> None:
    one.get(b"/a")
    script.last.body = b"\0\0\0\x01!" + script.last.body[5:]


def show_the_future(script: Script, one: Client, two: Client) -> None:
    one.get(b"/a")
    script.last.zxid += 9


def go_back_on_another_server(script: Script, one: Client, two: Client) -> None:
    two.get(b"/a")
    script.history.disconnected(two.conn, two.session_id)
    two.connect(server=2)
    two.get(b"/a", zxid=script.zxid - 3)


def forget_its_own_write(script: Script, one: Client, two: Client) -> None:
    before = script.zxid
    two.set(b"/b", b"mine")
    two.connect(server=2)
    two.get(b"/b", zxid=before)


def sync_to_the_past(script: Script, one: Client, two: Client) -> None:
    before = script.zxid
    one.set(b"/b", b"told")
    two.sync(before)
    two.get(b"/b", zxid=before)


def tell_data_before_the_event(script: Script, one: Client, two: Client) -> None:
    two.get(b"/a", watch=True)
    one.set(b"/a", b"new")
    two.get(b"/a")
    two.told(codes.EVENT_DATA_CHANGED, b"/a")


def tell_twice(script: Script, one: Client, two: Client) -> None:
    one.delete(b"/b/q-0000000000")
    two.told(codes.EVENT_CHILDREN_CHANGED, b"/b")
    two.told(codes.EVENT_CHILDREN_CHANGED, b"/b")


def tell_without_a_cause(script: Script, one: Client, two: Client) -> None:
    two.told(codes.EVENT_DATA_CHANGED, b"/a")


def tell_nothing(script: Script, one: Client, two: Client) -> None:
    one.delete(b"/b/q-0000000000")
    two.sync()


def tell_the_parent_first(script: Script, one: Client, two: Client) -> None:
    two.exists(b"/b/q-0000000000", watch=True)
    one.delete(b"/b/q-0000000000")
    two.told(codes.EVENT_CHILDREN_CHANGED, b"/b")
    two.told(codes.EVENT_DELETED, b"/b/q-0000000000")


def tell_out_of_order(script: Script, one: Client, two: Client) -> None:
    two.get(b"/a", watch=True)
    one.set(b"/a", b"new")
    first = script.zxid
    one.delete(b"/b/q-0000000000")
    two.told(codes.EVENT_CHILDREN_CHANGED, b"/b")
    two.told(codes.EVENT_DATA_CHANGED, b"/a", first)


def miss_a_child_while_away(script: Script, one: Client, two: Client) -> None:
    """3145: child changed while disconnected, no event."""
    last = script.zxid
    script.history.disconnected(two.conn, two.session_id)
    one.delete(b"/b/q-0000000000")
    two.connect(server=2)
    two.answer(two.set_watches(last, children=b"/b"), script.zxid, 0)


def tell_a_recursive_watch_of_children(script: Script, one: Client, two: Client) -> None:
    """4475."""
    one.add_watch(b"/b", codes.WATCH_MODE_PERSISTENT_RECURSIVE)
    one.create(b"/b/new")
    two.told(codes.EVENT_CHILDREN_CHANGED, b"/b")
    at = len(script.history.lines) - 2
    script.history.lines.insert(at, replace(script.event(), conn=one.conn, type=codes.EVENT_CREATED, path=b"/b/new"))
    script.history.lines.insert(at + 1, replace(script.event(), conn=one.conn))


def fire_a_persistent_watch_once(script: Script, one: Client, two: Client) -> None:
    two.add_watch(b"/a", codes.WATCH_MODE_PERSISTENT)
    one.set(b"/a", b"first")
    two.told(codes.EVENT_DATA_CHANGED, b"/a")
    one.set(b"/a", b"second")
    two.sync()


def _come_back(script: Script, two: Client, last: int, *, data: bytes = b"", exists: bytes = b"") -> None:
    two.connect(server=2)
    two.answer(two.set_watches(last, data=data, exists=exists), script.zxid, 0)


def miss_a_change_while_away(script: Script, one: Client, two: Client) -> None:
    last = script.zxid
    script.history.disconnected(two.conn, two.session_id)
    one.set(b"/a", b"new")
    _come_back(script, two, last, data=b"/a")


def miss_an_end_while_away(script: Script, one: Client, two: Client) -> None:
    last = script.zxid
    script.history.disconnected(two.conn, two.session_id)
    one.delete(b"/a")
    _come_back(script, two, last, data=b"/a")


def miss_a_beginning_while_away(script: Script, one: Client, two: Client) -> None:
    last = script.zxid
    script.history.disconnected(two.conn, two.session_id)
    one.create(b"/new")
    _come_back(script, two, last, exists=b"/new")


def make_up_a_change_while_away(script: Script, one: Client, two: Client) -> None:
    script.history.disconnected(two.conn, two.session_id)
    two.connect(server=2)
    xid = two.set_watches(script.zxid, data=b"/a")
    two.told(codes.EVENT_DATA_CHANGED, b"/a", -1)
    two.answer(xid, script.zxid, 0)


def tell_a_secret(script: Script, one: Client, two: Client) -> None:
    """CVE-2024-23944."""
    two.add_watch(b"/", codes.WATCH_MODE_PERSISTENT_RECURSIVE)
    one.create(b"/secret", acl=SECRET)
    two.told(codes.EVENT_CREATED, b"/secret")


def show_a_ghost(script: Script, one: Client, two: Client) -> None:
    """2355, 4837, 5010: an ephemeral is there when its session is not."""
    one.exists(b"/b/q-0000000001")
    body = script.last.body
    two.close()
    one.exists(b"/b/q-0000000001")
    script.last.err, script.last.body = 0, body


def serve_the_dead(script: Script, one: Client, two: Client) -> None:
    """The connection of an expired session stays open."""
    script.commit(two.session_id, 0, codes.OP_CLOSE_SESSION, CloseSessionTxn([b"/b/q-0000000001"]))
    script.now_ms += 10
    two.get(b"/a")


def expire_without_a_txn(script: Script, one: Client, two: Client) -> None:
    conn = script.history.connecting(1, session_id=two.session_id)
    script.history.connected(conn, 0, 0)


def expire_early(script: Script, one: Client, two: Client) -> None:
    script.now_ms += 1000
    script.commit(two.session_id, 0, codes.OP_CLOSE_SESSION, CloseSessionTxn([]))


def expire_late(script: Script, one: Client, two: Client) -> None:
    script.now_ms += 9000
    script.commit(two.session_id, 0, codes.OP_CLOSE_SESSION, CloseSessionTxn([]))


def live_for_ever(script: Script, one: Client, two: Client) -> None:
    for _ in range(9):
        script.now_ms += 2000
        one.sync()


def keep_two_homes(script: Script, one: Client, two: Client) -> None:
    old = two.conn
    two.connect(server=2)
    two.conn = old
    two.set(b"/b", b"late")


def refuse_for_ever(script: Script, one: Client, two: Client) -> None:
    """2886: wherever it comes, the session is said to be elsewhere, and the connection is closed."""
    for server in (2, 3, 1, 2):
        two.connect(server=server)
        two.call(codes.OP_SET_DATA, packed(SetDataRequest(b"/a", b"", -1)))
        script.history.disconnected(two.conn, two.session_id)


def resume_with_a_wrong_password(script: Script, one: Client, two: Client) -> None:
    two.connect(server=2, has_password=False)


def give_another_session(script: Script, one: Client, two: Client) -> None:
    two.connect(one.session_id)


def resume_the_dead(script: Script, one: Client, two: Client) -> None:
    two.close()
    two.connect()


def give_an_id_twice(script: Script, one: Client, two: Client) -> None:
    two.connect(0)


def create_a_session_twice(script: Script, one: Client, two: Client) -> None:
    script.commit(one.session_id, 0, codes.OP_CREATE_SESSION, CreateSessionTxn(6000))


def give_a_ttls_id(script: Script, one: Client, two: Client) -> None:
    """3113: a session id that looks like a TTL."""
    script.sessions = codes.OWNER_TTL_MASK
    script.client()


def give_another_servers_id(script: Script, one: Client, two: Client) -> None:
    script.sessions = 9 << 56
    script.client()


def skip_a_zxid(script: Script, one: Client, two: Client) -> None:
    del script.log[5]


def write_what_nobody_can_read(script: Script, one: Client, two: Client) -> None:
    script.log.append((script.zxid + 1, b"?"))


PLANTED: list[tuple[str, Callable[[Script, Client, Client], None]]] = [
    ("W1", lose_a_write), ("W1", tell_of_other_content), ("W1", answer_before_its_zxid), ("W2", do_it_twice),
    ("Z3", invent_a_write), ("W3", swap_in_time), ("W4", swap_writes_of_a_session), ("W4", swap_replies),
    ("W4", answer_nobody), ("W5", do_both_of_one_version), ("W5", skip_a_version), ("W6", refuse_for_nothing),
    ("W6", create_without_a_parent), ("W6", refuse_without_a_txn), ("W7", tear_a_multi), ("W7", misname_the_errors),
    ("W7", tell_half_a_multi), ("W8", tell_another_stat), ("W9", reuse_a_number), ("W10", write_when_dead),
    ("W10", let_the_dead_write), ("S1", take_the_ephemerals_of_others),
    ("R1", show_half_the_children), ("R1", show_other_data), ("R1", show_the_future),
    ("R2", go_back_on_another_server), ("R3", forget_its_own_write), ("R4", sync_to_the_past),
    ("E1", tell_data_before_the_event), ("E2", tell_twice), ("E2", tell_without_a_cause), ("E2", tell_nothing),
    ("E3", tell_the_parent_first), ("E3", tell_out_of_order), ("E4", miss_a_child_while_away),
    ("E2", fire_a_persistent_watch_once), ("E4", miss_a_change_while_away), ("E4", miss_an_end_while_away),
    ("E4", miss_a_beginning_while_away), ("E4", make_up_a_change_while_away),
    ("E5", tell_a_recursive_watch_of_children), ("E6", tell_a_secret), ("S1", show_a_ghost), ("S1", serve_the_dead),
    ("S1", expire_without_a_txn), ("S2", expire_early), ("S3", expire_late), ("S3", live_for_ever),
    ("S4", keep_two_homes), ("S4", refuse_for_ever), ("S5", resume_with_a_wrong_password), ("S6", give_another_session),
    ("S6", resume_the_dead), ("S7", give_an_id_twice), ("S7", create_a_session_twice), ("S7", give_a_ttls_id),
    ("S7", give_another_servers_id), ("Z9", skip_a_zxid), ("Z3", write_what_nobody_can_read),
]  # fmt: skip


@pytest.mark.parametrize(("id_", "plant"), PLANTED, ids=[f"{id_} {plant.__name__}" for id_, plant in PLANTED])
def test_a_planted_violation_is_found(id_: str, plant: Callable[[Script, Client, Client], None]) -> None:
    script, one, two = good()
    assert checked(script) == []
    plant(script, one, two)
    found = checked(script)
    assert id_ in ids_of(found), "\n".join(map(str, found))
