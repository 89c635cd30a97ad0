"""Whom a change concerns, and what a server is told. Rules: ZKWatchManager.materialize, ClientCnxn.primeConnection."""

from __future__ import annotations

import pytest

from coati.client.types import EventType
from coati.client.watchtable import CHILD, DATA, EXIST, PERSISTENT, RECURSIVE, WatchTable
from coati.wire import codes
from tests.client.kit import Listener

KINDS = {"data": DATA, "exist": EXIST, "child": CHILD, "persistent": PERSISTENT, "recursive": RECURSIVE}


def full() -> tuple[WatchTable, dict[str, Listener]]:
    """One listener of each kind for /a, and recursive ones above."""
    table = WatchTable()
    listeners = {name: Listener() for name in (*KINDS, "root", "elsewhere")}
    for name, kind in KINDS.items():
        table.add(kind, b"/a", listeners[name])
    table.add(RECURSIVE, b"/", listeners["root"])
    table.add(RECURSIVE, b"/ab", listeners["elsewhere"])
    return table, listeners


def told(table: WatchTable, listeners: dict[str, Listener], type: EventType, path: bytes) -> set[str]:
    fired = table.fire(type, path, 5)
    assert all((one.type, one.path, one.zxid) == (type, path, 5) for one in fired)
    assert len({id(one.watcher) for one in fired}) == len(fired)
    return {name for name, listener in listeners.items() for one in fired if one.watcher is listener}


@pytest.mark.parametrize(
    ("type", "first", "second"),
    [
        (EventType.CREATED, {"data", "exist", "persistent", "recursive", "root"}, {"persistent", "recursive", "root"}),
        (EventType.CHANGED, {"data", "exist", "persistent", "recursive", "root"}, {"persistent", "recursive", "root"}),
        (EventType.CHILDREN, {"child", "persistent"}, {"persistent"}),
        (
            EventType.DELETED,
            {"data", "exist", "child", "persistent", "recursive", "root"},
            {"persistent", "recursive", "root"},
        ),
    ],
)
def test_a_change_concerns(type: EventType, first: set[str], second: set[str]) -> None:
    table, listeners = full()
    assert told(table, listeners, type, b"/a") == first
    # One-shot ones have had theirs.
    assert told(table, listeners, type, b"/a") == second


def test_a_change_below_concerns_the_recursive_ones() -> None:
    table, listeners = full()
    assert told(table, listeners, EventType.CHANGED, b"/a/b/c") == {"recursive", "root"}
    assert told(table, listeners, EventType.CHILDREN, b"/a/b") == set()
    assert told(table, listeners, EventType.CREATED, b"/") == {"root"}


def test_one_listener_of_several_kinds_is_told_once() -> None:
    table = WatchTable()
    listener = Listener()
    for kind in (*KINDS.values(), DATA):
        table.add(kind, b"/a", listener)
    assert len(table) == 5
    assert len(table.fire(EventType.CHANGED, b"/a", 1)) == 1


def test_what_was_never_there_cannot_be_removed() -> None:
    table, listeners = full()
    assert not table.remove(DATA, b"/b", listeners["data"])
    assert not table.remove(DATA, b"/a", listeners["child"])
    assert table.remove(DATA, b"/a", listeners["data"])
    assert not table.remove(DATA, b"/a", listeners["data"])


@pytest.mark.parametrize(
    ("kind", "others", "type"),
    [
        (DATA, (), codes.WATCHER_DATA),
        (EXIST, (), codes.WATCHER_DATA),
        (CHILD, (), codes.WATCHER_CHILDREN),
        (DATA, (EXIST,), 0),
        (EXIST, (DATA,), 0),
        (DATA, (CHILD,), codes.WATCHER_DATA),
        (DATA, (PERSISTENT,), 0),
        (CHILD, (RECURSIVE,), 0),
        (PERSISTENT, (), codes.WATCHER_ANY),
        (RECURSIVE, (), codes.WATCHER_ANY),
        (PERSISTENT, (PERSISTENT,), 0),
        (PERSISTENT, (DATA, CHILD), codes.WATCHER_ANY),
        (PERSISTENT, (RECURSIVE,), codes.WATCHER_PERSISTENT),
        (RECURSIVE, (PERSISTENT,), codes.WATCHER_PERSISTENT_RECURSIVE),
    ],
)
def test_a_server_is_told_what_to_forget(kind: int, others: tuple[int, ...], type: int) -> None:
    table = WatchTable()
    gone = Listener()
    table.add(kind, b"/a", gone)
    for other in others:
        table.add(other, b"/a", Listener())
    table.add(RECURSIVE, b"/", Listener())
    table.remove(kind, b"/a", gone)
    assert table.removal(kind, b"/a") == type


def test_a_watch_on_its_way_keeps_the_servers() -> None:
    table = WatchTable()
    table.arm(EXIST, b"/a")
    table.arm(DATA, b"/a")
    assert table.removal(DATA, b"/a") == 0
    table.settle(DATA, b"/a")
    assert table.removal(DATA, b"/a") == 0
    table.settle(EXIST, b"/a")
    assert table.removal(DATA, b"/a") == codes.WATCHER_DATA
