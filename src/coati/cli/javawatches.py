"""Watches as the Java shell sets them: with `-w` for one event, with `addWatch` until they are removed.

Knows which are set, and says each event in Java's words; must not know the grammar of commands. As there is one default
watcher in Java, a znode that is watched twice in one way is told once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from coati.client.types import Event, EventType
from coati.client.watching import Trigger, Watch
from coati.errors import ZKError
from coati.recipes.client import Client

NAMES: Final = {
    EventType.CREATED: "NodeCreated",
    EventType.DELETED: "NodeDeleted",
    EventType.CHANGED: "NodeDataChanged",
    EventType.CHILDREN: "NodeChildrenChanged",
}
DATA: Final = "data"
CHILDREN: Final = "children"


class JavaWatches:
    """Those of one session. `spawn` keeps the tasks that wait for events."""

    def __init__(self, say: Callable[[str], None], spawn: Callable[[Coroutine[object, object, None]], object]) -> None:
        self._say = say
        self._spawn = spawn
        self.is_printing = True
        self._once: dict[tuple[str, str], Trigger] = {}
        self._lasting: dict[tuple[str, bool], Watch] = {}

    @contextmanager
    def once(self, kind: str, path: str, *, is_wanted: bool) -> Iterator[Trigger | None]:
        """For a read in the block: what it is to arm. It counts if the read succeeds."""
        if not is_wanted:
            yield None
            return
        trigger = Trigger()
        yield trigger
        old = self._once.get((kind, path))
        self._once[kind, path] = trigger
        self._spawn(self._wait(kind, path, trigger))
        if old is not None:
            old.close()

    async def add(self, zk: Client, path: str, *, is_recursive: bool) -> None:
        """A lasting one. Raises what the server says."""
        if (path, is_recursive) in self._lasting:
            return
        watch = zk.watch(path, recursive=is_recursive)
        await watch.__aenter__()
        self._lasting[path, is_recursive] = watch
        self._spawn(self._follow(path, is_recursive, watch))

    def remove(self, path: str) -> bool:
        """Takes back all of a path; whether there were any."""
        gone = False
        for kind, name in ((CHILDREN, "ChildWatchRemoved"), (DATA, "DataWatchRemoved")):
            trigger = self._once.pop((kind, path), None)
            if trigger is not None:
                trigger.close()
                self._print(name, path, -1)
                gone = True
        for is_recursive in (False, True):
            watch = self._lasting.pop((path, is_recursive), None)
            if watch is not None:
                watch.close()
                self._print("PersistentWatchRemoved", path, -1)
                gone = True
        return gone

    def close(self) -> None:
        """All of them, without a word."""
        for trigger in self._once.values():
            trigger.close()
        for watch in self._lasting.values():
            watch.close()
        self._once.clear()
        self._lasting.clear()

    async def _wait(self, kind: str, path: str, trigger: Trigger) -> None:
        event = await trigger.wait()
        if self._once.get((kind, path)) is trigger:
            del self._once[kind, path]
            self._tell(event)

    async def _follow(self, path: str, is_recursive: bool, watch: Watch) -> None:
        with suppress(ZKError, asyncio.CancelledError):
            async for event in watch:
                self._tell(event)
        if self._lasting.get((path, is_recursive)) is watch:
            del self._lasting[path, is_recursive]

    def _tell(self, event: Event) -> None:
        if event.type in NAMES:
            self._print(NAMES[event.type], event.path, event.zxid)

    def _print(self, name: str, path: str, zxid: int) -> None:
        if self.is_printing:
            self._say(f"WatchedEvent state:SyncConnected type:{name} path:{path} zxid: {zxid}")
