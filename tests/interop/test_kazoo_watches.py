"""Watches through kazoo: plain callbacks, DataWatch, ChildrenWatch, on coati and on Java alike."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError
from kazoo.protocol.states import EventType, KeeperState, WatchedEvent
from kazoo.recipe.cache import TreeCache
from kazoo.recipe.watchers import PatientChildrenWatch

Clients = Callable[..., KazooClient]
DEADLINE_S = 10.0


class Inbox:
    """Collects what callbacks are called with."""

    def __init__(self) -> None:
        self._queue: queue.Queue[tuple[object, ...]] = queue.Queue()

    def __call__(self, *args: object) -> None:
        self._queue.put(args)

    def next(self) -> tuple[object, ...]:
        return self._queue.get(timeout=DEADLINE_S)

    def event(self) -> WatchedEvent:
        (event,) = self.next()
        return event

    @property
    def is_empty(self) -> bool:
        return self._queue.empty()


def barrier(zk: KazooClient) -> None:
    """Return when every event that was fired so far has been handed to its callback."""
    zk.sync("/")
    done = threading.Event()
    zk.handler.dispatch_callback(type("Callback", (), {"type": "watch", "func": done.set, "args": ()})())
    assert done.wait(DEADLINE_S)


def test_exists_watch_fires_once_for_a_create(zk: KazooClient) -> None:
    inbox = Inbox()
    assert zk.exists("/a", watch=inbox) is None
    zk.create("/a")
    assert inbox.event() == WatchedEvent(EventType.CREATED, KeeperState.CONNECTED, "/a")
    zk.set("/a", b"x")
    barrier(zk)
    assert inbox.is_empty


@pytest.mark.parametrize("how", ["exists", "get"])
def test_data_watch_fires_for_set_and_for_delete(zk: KazooClient, how: str) -> None:
    zk.create("/a")
    read = getattr(zk, how)
    inbox = Inbox()
    read("/a", watch=inbox)
    zk.set("/a", b"x")
    assert inbox.event() == WatchedEvent(EventType.CHANGED, KeeperState.CONNECTED, "/a")
    read("/a", watch=inbox)
    zk.delete("/a")
    assert inbox.event() == WatchedEvent(EventType.DELETED, KeeperState.CONNECTED, "/a")


def test_data_watch_is_blind_to_children_and_acls(zk: KazooClient) -> None:
    zk.create("/a")
    inbox = Inbox()
    zk.get("/a", watch=inbox)
    zk.create("/a/b")
    zk.set_acls("/a", zk.get_acls("/a")[0])
    barrier(zk)
    assert inbox.is_empty


def test_child_watch_fires_for_create_delete_and_end(zk: KazooClient) -> None:
    zk.create("/a")
    inbox = Inbox()
    zk.get_children("/a", watch=inbox)
    zk.set("/a", b"not a child")
    zk.create("/a/b")
    assert inbox.event() == WatchedEvent(EventType.CHILD, KeeperState.CONNECTED, "/a")
    zk.get_children("/a", watch=inbox)
    zk.delete("/a/b")
    assert inbox.event() == WatchedEvent(EventType.CHILD, KeeperState.CONNECTED, "/a")
    zk.get_children("/a", watch=inbox, include_data=True)
    zk.delete("/a")
    assert inbox.event() == WatchedEvent(EventType.DELETED, KeeperState.CONNECTED, "/a")


def test_failed_reads_leave_no_watch(zk: KazooClient) -> None:
    inbox = Inbox()
    with pytest.raises(NoNodeError):
        zk.get("/a", watch=inbox)
    with pytest.raises(NoNodeError):
        zk.get_children("/a", watch=inbox)
    zk.create("/a")
    zk.create("/a/b")
    barrier(zk)
    assert inbox.is_empty


def test_same_watch_twice_fires_once_and_two_watches_both_fire(zk: KazooClient) -> None:
    zk.create("/a")
    one, two = Inbox(), Inbox()
    for _ in range(2):
        zk.get("/a", watch=one)
    zk.exists("/a", watch=two)
    zk.set("/a", b"x")
    assert one.event().type == two.event().type == EventType.CHANGED
    barrier(zk)
    assert one.is_empty
    assert two.is_empty


def test_watch_of_one_session_sees_the_writes_of_another(zk: KazooClient, clients: Clients) -> None:
    other = clients()
    inbox = Inbox()
    zk.create("/a/b", makepath=True)
    zk.get_children("/a", watch=inbox)
    zk.get("/a/b", watch=inbox)
    other.delete("/a/b")
    seen = {inbox.event().path, inbox.event().path}
    assert seen == {"/a", "/a/b"}


def test_ephemerals_of_a_closed_session_fire(zk: KazooClient, clients: Clients) -> None:
    other = clients()
    other.create("/e", ephemeral=True)
    inbox = Inbox()
    assert zk.exists("/e", watch=inbox).ephemeralOwner == other.client_id[0]
    other.stop()
    assert inbox.event() == WatchedEvent(EventType.DELETED, KeeperState.CONNECTED, "/e")


def test_transaction_fires_for_every_part(zk: KazooClient) -> None:
    zk.create("/a")
    inbox = Inbox()
    zk.get("/a", watch=inbox)
    zk.exists("/b", watch=inbox)
    zk.get_children("/", watch=inbox)
    with zk.transaction() as asked:
        asked.set_data("/a", b"1")
        asked.create("/b")
    assert [inbox.event() for _ in range(3)] == [
        WatchedEvent(EventType.CHANGED, KeeperState.CONNECTED, "/a"),
        WatchedEvent(EventType.CREATED, KeeperState.CONNECTED, "/b"),
        WatchedEvent(EventType.CHILD, KeeperState.CONNECTED, "/"),
    ]


def test_event_comes_before_a_read_that_shows_the_change(zk: KazooClient, clients: Clients) -> None:
    # The reply to the read is handed out on the same queue order as the event: pipelined behind the write of this
    # session.
    zk.create("/a", b"0")
    order: list[str] = []
    zk.get("/a", watch=lambda event: order.append("event"))
    zk.set_async("/a", b"1")
    read = zk.get_async("/a")
    read.rawlink(lambda result: order.append("read"))
    assert read.get(DEADLINE_S)[0] == b"1"
    barrier(zk)
    assert sorted(order) == ["event", "read"]


# --- recipes on watches ---------------------------------------------------------------------------


def test_data_watch_recipe_follows_a_node_through_its_life(zk: KazooClient) -> None:
    inbox = Inbox()

    def watch(data: bytes | None, stat: object, event: WatchedEvent | None) -> None:
        inbox(data, event.type if event else None)

    zk.DataWatch("/a", watch)
    assert inbox.next() == (None, None)
    zk.create("/a", b"0")
    assert inbox.next() == (b"0", EventType.CREATED)
    zk.set("/a", b"1")
    assert inbox.next() == (b"1", EventType.CHANGED)
    zk.delete("/a")
    assert inbox.next() == (None, EventType.DELETED)
    zk.create("/a", b"2")
    assert inbox.next() == (b"2", EventType.CREATED)


def test_data_watch_recipe_ends_on_false(zk: KazooClient) -> None:
    zk.create("/a", b"0")
    inbox = Inbox()

    def watch(data: bytes | None, stat: object) -> bool:
        inbox(data)
        return data != b"1"

    zk.DataWatch("/a", watch)
    assert inbox.next() == (b"0",)
    zk.set("/a", b"1")
    assert inbox.next() == (b"1",)
    zk.set("/a", b"2")
    barrier(zk)
    assert inbox.is_empty


def test_children_watch_recipe_follows_the_children(zk: KazooClient) -> None:
    zk.create("/p")
    inbox = Inbox()

    def watch(children: list[str], event: WatchedEvent | None) -> bool:
        inbox(sorted(children), event.type if event else None)
        return "stop" not in children

    zk.ChildrenWatch("/p", watch, send_event=True)
    assert inbox.next() == ([], None)
    zk.create("/p/a")
    assert inbox.next() == (["a"], EventType.CHILD)
    zk.create("/p/b")
    assert inbox.next() == (["a", "b"], EventType.CHILD)
    zk.delete("/p/a")
    assert inbox.next() == (["b"], EventType.CHILD)
    zk.create("/p/stop")
    assert inbox.next() == (["b", "stop"], EventType.CHILD)
    zk.create("/p/late")
    barrier(zk)
    assert inbox.is_empty


def test_patient_children_watch_waits_for_calm(zk: KazooClient) -> None:
    zk.create("/p")
    settled = PatientChildrenWatch(zk, "/p", time_boundary=0.1).start()
    zk.create("/p/a")
    zk.create("/p/b")
    children, changed = settled.get(timeout=DEADLINE_S)
    assert set(children) <= {"a", "b"}
    zk.create("/p/c")
    assert changed.get(timeout=DEADLINE_S)


def test_tree_cache_mirrors_a_subtree(zk: KazooClient) -> None:
    zk.create("/tree/a", b"1", makepath=True)
    cache = TreeCache(zk, "/tree")
    inbox = Inbox()
    faults = Inbox()
    cache.listen(lambda event: inbox(event.event_type, event.event_data.path if event.event_data else None))
    cache.listen_fault(faults)
    cache.start()
    try:
        seen = [inbox.next() for _ in range(3)]
        assert [path for _, path in seen] == ["/tree", "/tree/a", None]  # the last says that the first picture is whole
        zk.create("/tree/a/b", b"2")
        assert inbox.next()[1] == "/tree/a/b"
        assert cache.get_data("/tree/a/b").data == b"2"
        assert cache.get_children("/tree/a") == {"b"}
        zk.set("/tree/a", b"3")
        assert inbox.next()[1] == "/tree/a"
        assert cache.get_data("/tree/a").data == b"3"
        zk.delete("/tree/a/b")
        assert inbox.next()[1] == "/tree/a/b"
        assert cache.get_data("/tree/a/b") is None
        assert faults.is_empty
    finally:
        cache.close()
