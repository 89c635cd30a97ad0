"""Watches in the session machine by hand: set, told, taken back, and told again to the next server."""

from __future__ import annotations

import struct

from coati.client import watchtable
from coati.client.session import FOREVER_MS, Call
from coati.client.types import EventType, State
from coati.errors import (
    NO_NODE,
    ConnectionLoss,
)
from coati.wire import codes
from tests.client.kit import (
    ID,
    A,
    Listener,
    connected,
    event,
    reply,
    text,
)


def test_a_watch_is_there_once_the_server_has_said_yes() -> None:
    driver = connected(A)
    listener = Listener()
    driver.watch(b"/a", listener, watchtable.DATA)
    # Of an earlier watch: not ours yet.
    driver.feed(event(codes.EVENT_DATA_CHANGED, b"/a"))
    assert listener.told == []
    driver.feed(reply(1), event(codes.EVENT_DATA_CHANGED, b"/a", 8), event(codes.EVENT_DATA_CHANGED, b"/a", 9))
    assert listener.told == [(EventType.CHANGED, b"/a", 8)]
    assert len(driver.machine.watches) == 0


def test_a_watch_of_what_is_not_there_waits_for_its_creation() -> None:
    driver = connected(A)
    listener, refused = Listener(), Listener()
    driver.watch(b"/a", listener, watchtable.DATA, watchtable.EXIST)
    driver.watch(b"/a", refused, watchtable.DATA)
    driver.feed(reply(1, err=NO_NODE), reply(2, err=NO_NODE), event(codes.EVENT_CREATED, b"/a"))
    assert len(listener.told) == 1
    assert refused.told == []


def test_events_and_answers_are_told_in_the_order_of_the_stream() -> None:
    driver = connected(A)
    listener = Listener()
    driver.watch(b"/a", listener, watchtable.DATA)
    driver.feed(reply(1))
    driver.told.clear()
    call = driver.call()
    driver.feed(event(codes.EVENT_DATA_CHANGED, b"/a"), reply(2))
    assert driver.told[1] is call
    assert getattr(driver.told[0], "watcher", None) is listener


def test_events_of_the_connection_and_of_removals_concern_nobody() -> None:
    driver = connected(A)
    listener = Listener()
    driver.watch(b"/a", listener, watchtable.PERSISTENT)
    driver.feed(reply(1), *(event(type, b"/a") for type in (-1, 5, 6, 7)))
    assert listener.told == []


def test_a_new_connection_hears_of_credentials_then_watches_then_calls() -> None:
    driver = connected(A)
    driver.machine.authenticate("ip", b"", driver.now_ms)
    kinds = [(b"/d", 0), (b"/e", 1), (b"/c", 2), (b"/p", 3), (b"/r", 4)]
    for xid, (path, kind) in enumerate(kinds, 1):
        driver.watch(path, Listener(), kind)
        driver.feed(reply(xid, zxid=40))
    driver.requests()
    driver.lose()
    driver.call()
    driver.redial()
    driver.connect()
    auth, watches, call = driver.requests()
    assert auth[0] == codes.XID_AUTH
    assert watches[:2] == (codes.XID_SET_WATCHES, codes.OP_SET_WATCHES2)
    lists = b"".join(struct.pack(">i", 1) + text(path) for path, _ in kinds)
    assert watches[2] == struct.pack(">q", 40) + lists
    assert call[1] == codes.OP_GET_DATA
    assert driver.states[-1] is State.CONNECTED


def test_persistent_watches_are_told_of_the_gap() -> None:
    driver = connected(A)
    listener, once = Listener(), Listener()
    driver.watch(b"/p", listener, watchtable.PERSISTENT)
    driver.watch(b"/o", once, watchtable.DATA)
    driver.feed(reply(1, zxid=3), reply(2, zxid=4))
    driver.lose()
    assert listener.told == []
    driver.redial()
    driver.connect()
    assert listener.told == [(EventType.RESYNC, b"/p", 4)]
    assert once.told == []


def test_many_watches_go_in_packets_below_the_limit() -> None:
    driver = connected(A)
    paths = [f"/{number:04}{'x' * 995}".encode() for number in range(300)]
    for path in paths:
        driver.watch(path, Listener(), watchtable.CHILD)
    driver.feed(*(reply(xid) for xid in range(1, 301)))
    driver.requests()
    driver.lose()
    driver.redial()
    driver.connect()
    packets = driver.requests()
    assert {op for _, op, _ in packets} == {codes.OP_SET_WATCHES}
    assert len(packets) == 3
    assert all(len(body) <= (128 << 10) + 100 for _, _, body in packets)
    assert b"".join(body for _, _, body in packets).count(b"/") == 300


def test_a_watch_that_nobody_waits_for_is_taken_back() -> None:
    driver = connected(A)
    listener = Listener()
    driver.watch(b"/a", listener, watchtable.CHILD)
    driver.feed(reply(1))
    driver.requests()
    driver.machine.unwatch(watchtable.CHILD, b"/a", listener, driver.now_ms)
    driver.machine.unwatch(watchtable.CHILD, b"/a", listener, driver.now_ms)
    driver.take()
    removal = text(b"/a") + struct.pack(">i", codes.WATCHER_CHILDREN)
    assert driver.requests() == [(2, codes.OP_REMOVE_WATCHES, removal)]
    # That there was none any more is as good.
    driver.feed(reply(2, err=-121))
    assert driver.states == [State.CONNECTED]
    assert driver.machine.inflight == 0


def test_a_withdrawn_watch_is_taken_back_when_the_server_has_set_it() -> None:
    driver = connected(A)
    call = driver.watch(b"/a", Listener(), watchtable.RECURSIVE)
    driver.machine.cancel(call, driver.now_ms)
    driver.requests()
    driver.feed(reply(1))
    assert [op for _, op, _ in driver.requests()] == [codes.OP_REMOVE_WATCHES]
    assert len(driver.machine.watches) == 0


def test_a_watch_withdrawn_after_its_answer_is_taken_back_too() -> None:
    # Its task was cancelled before it could run.
    for kind, missing, err in ((3, -1, 0), (0, 1, 0), (0, 1, NO_NODE)):
        driver = connected(A)
        call = driver.watch(b"/a", Listener(), kind, missing)
        driver.feed(reply(1, err=err))
        assert len(driver.machine.watches) == 1
        driver.requests()
        driver.machine.cancel(call, driver.now_ms)
        driver.take()
        assert len(driver.machine.watches) == 0
        assert [op for _, op, _ in driver.requests()] == [codes.OP_REMOVE_WATCHES]


def test_a_withdrawn_watch_that_was_never_set_needs_no_removal() -> None:
    driver = connected(A)
    call = driver.watch(b"/a", Listener(), watchtable.PERSISTENT)
    driver.machine.cancel(call, driver.now_ms)
    driver.requests()
    driver.feed(reply(1, err=-102))
    assert driver.requests() == []


def test_another_watch_under_way_keeps_the_servers() -> None:
    driver = connected(A)
    first, second = Listener(), Listener()
    driver.watch(b"/a", first, watchtable.DATA)
    driver.feed(reply(1))
    driver.watch(b"/a", second, watchtable.DATA)
    driver.requests()
    driver.machine.unwatch(watchtable.DATA, b"/a", first, driver.now_ms)
    driver.take()
    assert driver.requests() == []
    driver.feed(reply(2), event(codes.EVENT_DATA_CHANGED, b"/a"))
    assert first.told == []
    assert len(second.told) == 1


def test_a_lost_connection_forgets_watches_that_were_under_way() -> None:
    driver = connected(A)
    listener = Listener()
    call = driver.watch(b"/a", listener, watchtable.DATA)
    driver.sends.clear()
    driver.lose()
    assert isinstance(call.failure, ConnectionLoss)
    again = call.again()
    assert (again.path, again.kind, again.watcher, again.status) == (b"/a", watchtable.DATA, listener, 0)
    driver.redial()
    driver.connect()
    assert driver.requests() == []
    # And nothing of the old one keeps a later removal back.
    driver.watch(b"/a", listener, watchtable.DATA)
    driver.feed(reply(2))
    driver.requests()
    driver.machine.unwatch(watchtable.DATA, b"/a", listener, driver.now_ms)
    driver.take()
    assert [op for _, op, _ in driver.requests()] == [codes.OP_REMOVE_WATCHES]


def test_removals_are_not_sent_to_nobody() -> None:
    driver = connected(A)
    listener = Listener()
    driver.watch(b"/a", listener, watchtable.DATA)
    driver.feed(reply(1))
    driver.lose()
    driver.machine.unwatch(watchtable.DATA, b"/a", listener, driver.now_ms)
    driver.redial()
    driver.sends.clear()
    driver.connect()
    assert driver.requests() == []


def test_watches_outlive_a_session_that_is_renewed() -> None:
    driver = connected(A)
    listener = Listener()
    driver.watch(b"/a", listener, watchtable.DATA)
    driver.feed(reply(1, zxid=30))
    driver.lose()
    driver.redial()
    driver.connect(session_id=0, timeout_ms=0)
    driver.redial()
    driver.requests()
    driver.connect(session_id=ID + 1)
    (packet,) = driver.requests()
    assert packet[1] == codes.OP_SET_WATCHES
    assert packet[2].startswith(struct.pack(">q", 30))
    driver.feed(event(codes.EVENT_DELETED, b"/a"))
    assert len(listener.told) == 1


def test_the_end_tells_everybody_who_waits() -> None:
    driver = connected(A)
    listeners = [Listener() for _ in range(5)]
    for xid, listener in enumerate(listeners, 1):
        driver.watch(b"/a", listener, xid - 1)
        driver.feed(reply(xid, zxid=3))
    driver.machine.close(driver.now_ms)
    driver.feed(reply(6))
    assert all(listener.told == [(EventType.RESYNC, b"/a", 3)] for listener in listeners)
    assert len(driver.machine.watches) == 0


def test_a_call_without_anybody_who_waits_is_told_to_nobody() -> None:
    driver = connected(A)
    call = Call(codes.OP_GET_DATA, b"", is_write=False, deadline_ms=FOREVER_MS, waiter=None)
    driver.machine.submit(call, driver.now_ms)
    driver.lose()
    assert driver.told == []
    assert call.failure is not None


def test_what_a_server_forgets_along_with_a_watch_is_told_again() -> None:
    # Any, which all versions know, takes the one-shot watches of the path with the persistent one.
    driver = connected(A)
    listener, once, coming = Listener(), Listener(), Listener()
    driver.watch(b"/a", listener, watchtable.PERSISTENT)
    driver.watch(b"/a", once, watchtable.DATA)
    driver.feed(reply(1, zxid=5), reply(2, zxid=6))
    driver.watch(b"/a", coming, watchtable.CHILD)
    driver.requests()
    driver.machine.unwatch(watchtable.PERSISTENT, b"/a", listener, driver.now_ms)
    driver.take()
    removal, again = driver.requests()
    assert removal[1:] == (codes.OP_REMOVE_WATCHES, text(b"/a") + struct.pack(">i", codes.WATCHER_ANY))
    lists = struct.pack(">i", 1) + text(b"/a") + struct.pack(">ii", 0, 0)
    assert again == (codes.XID_SET_WATCHES, codes.OP_SET_WATCHES, struct.pack(">q", 6) + lists)
    # And one that was on its way, once the server has answered.
    driver.feed(reply(3, zxid=7))
    ((_, op, body),) = driver.requests()
    assert op == codes.OP_SET_WATCHES
    assert body.count(b"/a") == 2


def test_a_persistent_watch_that_is_refused_leaves_those_that_relied_on_it() -> None:
    driver = connected(A)
    once = Listener()
    driver.watch(b"/a", Listener(), watchtable.PERSISTENT)
    driver.watch(b"/a", once, watchtable.DATA)
    driver.requests()
    driver.feed(reply(1, err=-102), reply(2))
    ((_, op, _),) = driver.requests()
    assert op == codes.OP_SET_WATCHES
    driver.feed(event(codes.EVENT_DATA_CHANGED, b"/a"))
    assert len(once.told) == 1


def test_a_client_that_closes_tells_its_server_nothing_more() -> None:
    driver = connected(A)
    driver.watch(b"/a", Listener(), watchtable.PERSISTENT)
    driver.watch(b"/a", Listener(), watchtable.DATA)
    driver.machine.close(driver.now_ms)
    driver.take()
    driver.requests()
    driver.feed(reply(1, err=-102), reply(2))
    assert driver.requests() == []
