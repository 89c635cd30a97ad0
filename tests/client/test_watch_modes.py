"""One-shot watches beside persistent ones: neither ends the other, on any version of servers (ZOOKEEPER-4466)."""

from __future__ import annotations

import struct

import pytest

from coati.client import watchtable
from coati.client.session import FOREVER_MS, Call
from coati.client.types import EventType
from coati.client.watchtable import CHILD, DATA, EXIST, PERSISTENT, RECURSIVE
from coati.wire import codes
from tests.client.kit import Driver, Listener, Nobody, connected, event, reply, text

READ = codes.OP_GET_DATA
NO_NODE = -101
UNIMPLEMENTED = -6


def read(driver: Driver, path: bytes, listener: Listener, kind: int, missing_kind: int = -1) -> Call:
    """A read that sets a one-shot watch."""
    call = Call(READ, text(path) + b"\1", is_write=False, deadline_ms=FOREVER_MS, waiter=Nobody())
    call.watch(path, listener, kind=kind, missing_kind=missing_kind)
    driver.machine.submit(call, driver.now_ms)
    driver.take()
    return call


def answer(driver: Driver, call: Call, zxid: int = 1, err: int = 0) -> None:
    driver.feed(reply(call.xid, zxid, err))


def release(driver: Driver, kind: int, path: bytes, listener: Listener) -> list[tuple[int, int, bytes]]:
    driver.requests()
    driver.machine.unwatch(kind, path, listener, driver.now_ms)
    driver.take()
    return driver.requests()


def watches(zxid: int, *lists: list[bytes]) -> bytes:
    """The body of SetWatches."""
    body = struct.pack(">q", zxid)
    for paths in lists:
        body += struct.pack(">i", len(paths)) + b"".join(map(text, paths))
    return body


def removal(path: bytes, type: int) -> bytes:
    return text(path) + struct.pack(">i", type)


@pytest.mark.parametrize(
    ("persistent", "one_shot", "asks"),
    [
        (PERSISTENT, DATA, False),
        (PERSISTENT, CHILD, False),
        (RECURSIVE, DATA, False),
        # A recursive watch does not tell of children, so the server is asked; that one lives in another table there.
        (RECURSIVE, CHILD, True),
    ],
)
def test_a_read_asks_for_no_watch_that_a_persistent_one_stands_for(persistent: int, one_shot: int, asks: bool) -> None:
    driver = connected()
    answer(driver, driver.watch(b"/a", Listener(), persistent))
    driver.requests()
    listener = Listener()
    call = read(driver, b"/a", listener, one_shot)
    assert driver.requests() == [(call.xid, READ, text(b"/a") + bytes([asks]))]
    answer(driver, call)
    driver.feed(event(codes.EVENT_DELETED, b"/a"))
    driver.feed(event(codes.EVENT_DELETED, b"/a"))
    assert listener.told == [(EventType.DELETED, b"/a", 7)]
    other = read(driver, b"/b", Listener(), one_shot)
    assert driver.requests() == [(other.xid, READ, text(b"/b") + b"\1")]


def test_a_persistent_watch_under_way_stands_for_others_too() -> None:
    """Requests are done in order: when the read is, that watch is set."""
    driver = connected()
    arming = driver.watch(b"/a", Listener(), PERSISTENT)
    driver.requests()
    listener = Listener()
    call = read(driver, b"/a", listener, DATA, EXIST)
    assert driver.requests()[0][2][-1:] == b"\0"
    # It is refused, as by servers before 3.6: then this one is told, from where the read saw the tree.
    answer(driver, arming, 4, UNIMPLEMENTED)
    assert driver.requests() == []
    answer(driver, call, 5, NO_NODE)
    assert driver.requests() == [(codes.XID_SET_WATCHES, codes.OP_SET_WATCHES, watches(5, [], [b"/a"], []))]


def test_a_refused_persistent_watch_leaves_those_that_relied_on_it() -> None:
    driver = connected()
    first, once = Listener(), Listener()
    answer(driver, driver.watch(b"/a", first, PERSISTENT))
    answer(driver, read(driver, b"/a", once, CHILD), 8)
    second = driver.watch(b"/a", Listener(), PERSISTENT)
    # The server keeps it for the second one, which then is not to be.
    assert release(driver, PERSISTENT, b"/a", first) == []
    answer(driver, second, 9, UNIMPLEMENTED)
    assert driver.requests() == [(codes.XID_SET_WATCHES, codes.OP_SET_WATCHES, watches(9, [], [], [b"/a"]))]


@pytest.mark.parametrize("kind", [PERSISTENT, RECURSIVE])
def test_the_end_of_a_persistent_watch_leaves_the_one_shot_ones(kind: int) -> None:
    """Any, which all versions know, takes them with it; then the server is told them, from what was seen last."""
    driver = connected()
    listener, once = Listener(), Listener()
    answer(driver, driver.watch(b"/a", listener, kind))
    answer(driver, read(driver, b"/a", once, DATA), 9)
    sent = release(driver, kind, b"/a", listener)
    assert [(op, body) for _, op, body in sent] == [
        (codes.OP_REMOVE_WATCHES, removal(b"/a", codes.WATCHER_ANY)),
        (codes.OP_SET_WATCHES, watches(9, [b"/a"], [], [])),
    ]
    driver.feed(event(codes.EVENT_DATA_CHANGED, b"/a"))
    assert once.told == [(EventType.CHANGED, b"/a", 7)]
    assert listener.told == []


def test_a_read_under_way_when_the_persistent_watch_ends_is_told_after_its_answer() -> None:
    driver = connected()
    listener = Listener()
    answer(driver, driver.watch(b"/a", listener, PERSISTENT))
    covered = read(driver, b"/a", Listener(), DATA)
    sent = release(driver, PERSISTENT, b"/a", listener)
    assert [op for _, op, _ in sent] == [codes.OP_REMOVE_WATCHES]
    answer(driver, covered, 5)
    assert driver.requests() == [(codes.XID_SET_WATCHES, codes.OP_SET_WATCHES, watches(5, [b"/a"], [], []))]


def test_one_persistent_watch_of_two_is_taken_back_by_its_name() -> None:
    driver = connected()
    one, two = Listener(), Listener()
    answer(driver, driver.watch(b"/a", one, PERSISTENT))
    answer(driver, driver.watch(b"/a", two, RECURSIVE))
    (_, _, body), *rest = release(driver, PERSISTENT, b"/a", one)
    assert body == removal(b"/a", codes.WATCHER_PERSISTENT)
    assert rest == []
    (_, _, body), *rest = release(driver, RECURSIVE, b"/a", two)
    assert body == removal(b"/a", codes.WATCHER_ANY)
    assert rest == []


def test_the_other_persistent_watch_is_taken_back_by_its_name() -> None:
    driver = connected()
    one, two = Listener(), Listener()
    answer(driver, driver.watch(b"/a", one, PERSISTENT))
    answer(driver, driver.watch(b"/a", two, RECURSIVE))
    (_, _, body), *_ = release(driver, RECURSIVE, b"/a", two)
    assert body == removal(b"/a", codes.WATCHER_PERSISTENT_RECURSIVE)


@pytest.mark.parametrize("kind", [DATA, CHILD])
def test_a_one_shot_watch_is_not_taken_back_beside_a_persistent_one(kind: int) -> None:
    """Servers before 3.9 would take the persistent one."""
    driver = connected()
    once = Listener()
    answer(driver, read(driver, b"/a", once, kind))
    answer(driver, driver.watch(b"/a", Listener(), PERSISTENT))
    assert release(driver, kind, b"/a", once) == []
    driver.feed(event(codes.EVENT_DELETED, b"/a"))
    assert once.told == []


def test_watches_are_told_from_where_the_last_server_began_unless_it_has_answered_for_all() -> None:
    """A reply tells of a newer zxid than what the watches in the next packet have been told of."""
    driver = connected()
    # Two packets.
    for name in range(3):
        path = b"/" + bytes([97 + name]) * (watchtable.BATCH_BYTES // 3)
        answer(driver, driver.watch(path, Listener(), CHILD), 40)
    driver.requests()
    driver.lose()
    driver.redial()
    driver.connect()
    assert [body[:8] for _, _, body in driver.requests()] == [struct.pack(">q", 40)] * 2
    driver.feed(reply(codes.XID_SET_WATCHES, 60))
    assert driver.machine.last_zxid == 60
    driver.lose()
    driver.redial()
    driver.connect()
    assert [body[:8] for _, _, body in driver.requests()] == [struct.pack(">q", 40)] * 2
    driver.feed(reply(codes.XID_SET_WATCHES, 70), reply(codes.XID_SET_WATCHES, 70))
    driver.lose()
    driver.redial()
    driver.connect()
    assert [body[:8] for _, _, body in driver.requests()] == [struct.pack(">q", 70)] * 2


def test_no_server_is_told_when_there_is_none() -> None:
    driver = connected()
    listener, once = Listener(), Listener()
    answer(driver, driver.watch(b"/a", listener, PERSISTENT))
    answer(driver, read(driver, b"/a", once, DATA), 9)
    driver.lose()
    assert release(driver, PERSISTENT, b"/a", listener) == []
    driver.redial()
    driver.connect()
    assert driver.requests() == [(codes.XID_SET_WATCHES, codes.OP_SET_WATCHES, watches(9, [b"/a"], [], []))]
