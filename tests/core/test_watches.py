"""Watches: one-shot, persistent, recursive; which coexist, and of which nothing stays behind."""

from __future__ import annotations

import pytest

from coati.core.watches import MODE_RECURSIVE, Watches
from coati.wire.codes import (
    EVENT_CHILDREN_CHANGED,
    EVENT_CREATED,
    EVENT_DATA_CHANGED,
    EVENT_DELETED,
    WATCHER_ANY,
    WATCHER_CHILDREN,
    WATCHER_DATA,
    WATCHER_PERSISTENT,
    WATCHER_PERSISTENT_RECURSIVE,
)
from tests.core.kit import Client

A = b"/a"


@pytest.fixture
def watches() -> Watches:
    return Watches()


def is_clean(watches: Watches) -> bool:
    """Nobody is left in any table (E7)."""
    tables = (watches.data, watches.children)
    return all(not t.by_path and not t.by_watcher and t.recursive == 0 for t in tables)


def test_data_watch_fires_once(watches: Watches) -> None:
    one = Client(1)
    watches.add_data(A, one)
    assert watches.trigger(EVENT_DATA_CHANGED, A) == [one]
    assert watches.trigger(EVENT_DATA_CHANGED, A) == []
    assert is_clean(watches)


@pytest.mark.parametrize("event", [EVENT_CREATED, EVENT_DATA_CHANGED, EVENT_DELETED])
def test_data_watch_fires_on(watches: Watches, event: int) -> None:
    one = Client(1)
    watches.add_data(A, one)
    assert watches.trigger(event, A) == [one]


def test_data_watch_does_not_hear_of_children(watches: Watches) -> None:
    watches.add_data(A, Client(1))
    assert watches.trigger(EVENT_CHILDREN_CHANGED, A) == []


@pytest.mark.parametrize(("event", "fires"), [(EVENT_CHILDREN_CHANGED, 1), (EVENT_DELETED, 1), (EVENT_CREATED, 0)])
def test_child_watch(watches: Watches, event: int, fires: int) -> None:
    watches.add_children(A, Client(1))
    assert len(watches.trigger(event, A)) == fires
    assert watches.is_empty() == (fires == 1)


def test_child_watch_does_not_hear_of_data(watches: Watches) -> None:
    watches.add_children(A, Client(1))
    assert watches.trigger(EVENT_DATA_CHANGED, A) == []


def test_deletion_is_told_once_and_uses_both_up(watches: Watches) -> None:
    one, two = Client(1), Client(2)
    watches.add_data(A, one)
    watches.add_children(A, one)
    watches.add_children(A, two)
    assert watches.trigger(EVENT_DELETED, A) == [one, two]
    assert is_clean(watches)


def test_watch_again_is_the_same_watch(watches: Watches) -> None:
    one = Client(1)
    watches.add_data(A, one)
    watches.add_data(A, one)
    assert watches.size() == 1
    assert watches.trigger(EVENT_DATA_CHANGED, A) == [one]
    assert is_clean(watches)


def test_order_is_that_of_registration(watches: Watches) -> None:
    clients = [Client(n) for n in range(20)]
    for client in clients:
        watches.add_data(A, client)
    assert watches.trigger(EVENT_DATA_CHANGED, A) == clients


def test_persistent_watch_stays(watches: Watches) -> None:
    one = Client(1)
    watches.add_persistent(A, one, recursive=False)
    for event in (EVENT_CREATED, EVENT_DATA_CHANGED, EVENT_CHILDREN_CHANGED, EVENT_DELETED, EVENT_DELETED):
        assert watches.trigger(event, A) == [one]
    assert watches.trigger(EVENT_CREATED, b"/a/b") == []


def test_persistent_and_standard_coexist(watches: Watches) -> None:
    """ZOOKEEPER-4466: the one used to take the other's place."""
    one = Client(1)
    watches.add_persistent(A, one, recursive=False)
    watches.add_data(A, one)
    assert watches.contains(A, WATCHER_DATA, one)
    assert watches.trigger(EVENT_DATA_CHANGED, A) == [one]
    assert not watches.contains(A, WATCHER_DATA, one)
    assert watches.contains(A, WATCHER_PERSISTENT, one)
    assert watches.trigger(EVENT_DATA_CHANGED, A) == [one]


def test_recursive_watch_hears_of_everything_below(watches: Watches) -> None:
    one = Client(1)
    watches.add_persistent(A, one, recursive=True)
    for path in (A, b"/a/b", b"/a/b/c/d"):
        for event in (EVENT_CREATED, EVENT_DATA_CHANGED, EVENT_DELETED):
            assert watches.trigger(event, path) == [one]
    for path in (b"/", b"/ab", b"/b/a"):
        assert watches.trigger(EVENT_DATA_CHANGED, path) == []


def test_recursive_watch_never_hears_of_children(watches: Watches) -> None:
    """ZOOKEEPER-4475."""
    watches.add_persistent(A, Client(1), recursive=True)
    assert watches.trigger(EVENT_CHILDREN_CHANGED, A) == []
    assert watches.trigger(EVENT_CHILDREN_CHANGED, b"/a/b") == []


def test_recursive_watch_on_the_root(watches: Watches) -> None:
    one = Client(1)
    watches.add_persistent(b"/", one, recursive=True)
    assert watches.trigger(EVENT_CREATED, b"/x/y") == [one]
    assert watches.trigger(EVENT_DATA_CHANGED, b"/") == [one]


def test_only_recursive_watches_above_count(watches: Watches) -> None:
    one, two, three = Client(1), Client(2), Client(3)
    watches.add_persistent(b"/", one, recursive=True)
    watches.add_persistent(A, two, recursive=False)
    watches.add_data(A, three)
    assert watches.trigger(EVENT_CREATED, b"/a/b") == [one]


def test_several_reasons_make_one_event(watches: Watches) -> None:
    one = Client(1)
    watches.add_persistent(b"/", one, recursive=True)
    watches.add_persistent(A, one, recursive=True)
    watches.add_data(A, one)
    assert watches.trigger(EVENT_DATA_CHANGED, A) == [one]
    assert watches.data.recursive == 2


def test_all_three_modes_on_one_path(watches: Watches) -> None:
    one = Client(1)
    watches.add_data(A, one)
    watches.add_persistent(A, one, recursive=False)
    watches.add_persistent(A, one, recursive=True)
    watches.add_persistent(A, one, recursive=True)
    assert watches.data.recursive == 1
    assert watches.remove(A, WATCHER_PERSISTENT_RECURSIVE, one)
    assert watches.data.recursive == 0
    assert watches.contains(A, WATCHER_DATA, one)
    assert watches.contains(A, WATCHER_PERSISTENT, one)
    assert watches.remove(A, WATCHER_DATA, one)
    assert watches.remove(A, WATCHER_PERSISTENT, one)
    assert is_clean(watches)


CONTAINS = {
    "data": {WATCHER_DATA, WATCHER_ANY},
    "children": {WATCHER_CHILDREN, WATCHER_ANY},
    "persistent": {WATCHER_PERSISTENT, WATCHER_ANY},
    "recursive": {WATCHER_PERSISTENT_RECURSIVE, WATCHER_ANY},
}


def add_kind(watches: Watches, kind: str, client: Client) -> None:
    if kind == "data":
        watches.add_data(A, client)
    elif kind == "children":
        watches.add_children(A, client)
    else:
        watches.add_persistent(A, client, recursive=kind == "recursive")


@pytest.mark.parametrize("kind", list(CONTAINS))
@pytest.mark.parametrize("watcher_type", [1, 2, 3, 4, 5])
def test_check_and_remove_by_type(watches: Watches, kind: str, watcher_type: int) -> None:
    one, other = Client(1), Client(2)
    add_kind(watches, kind, one)
    expected = watcher_type in CONTAINS[kind]
    assert watches.contains(A, watcher_type, one) == expected
    assert not watches.contains(A, watcher_type, other)
    assert not watches.contains(b"/b", watcher_type, one)
    assert not watches.remove(A, watcher_type, other)
    assert not watches.remove(b"/b", watcher_type, one)
    assert watches.remove(A, watcher_type, one) == expected
    assert is_clean(watches) == expected


def test_remove_any_takes_both_tables(watches: Watches) -> None:
    one = Client(1)
    for kind in CONTAINS:
        add_kind(watches, kind, one)
    assert watches.remove(A, WATCHER_ANY, one)
    assert is_clean(watches)


def test_closed_connections_leave_nothing(watches: Watches) -> None:
    """ZOOKEEPER-1382, 3131: watch counts grew with every reconnect."""
    stays = Client(0)
    watches.add_data(A, stays)
    for n in range(100):
        client = Client(n)
        for kind in CONTAINS:
            add_kind(watches, kind, client)
        watches.add_data(b"/own%d" % n, client)
        watches.remove_watcher(client)
        watches.remove_watcher(client)
    assert watches.size() == 1
    assert watches.data.recursive == 0
    assert watches.trigger(EVENT_DATA_CHANGED, A) == [stays]
    assert is_clean(watches)


def test_counts(watches: Watches) -> None:
    one, two = Client(1), Client(2)
    watches.add_data(A, one)
    watches.add_data(b"/b", one)
    watches.add_data(A, two)
    watches.add_children(A, two)
    assert watches.size() == 4
    assert watches.summary() == (2, 2, 3)
    assert watches.data.modes(A, one) & MODE_RECURSIVE == 0
