"""E1 to E6: every watch fires once for what it watches, before the data that reveals it, in order.

Each connection is followed as its server sees it: a reply's header says at which zxid its watch was set, so the next
txn that fires it is looked up; what is due must have come before the next reply at or behind its zxid. Must not know
logs or servers.
Sources: DataTree (setWatches), WatchManager, FinalRequestProcessor, PathParentIterator.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Final, TypeAlias

from coati import errors
from coati.errors import MarshallingError
from coati.testing.history import Conn, Event, Operation, Return, Story, Violation
from coati.testing.requests import may
from coati.testing.timeline import Timeline, Trigger
from coati.wire import codes
from coati.wire.jute import Reader
from coati.wire.records import AddWatchRequest, Id, RemoveWatchesRequest, SetWatches, SetWatches2

# Kinds of registrations: the two tables of one-shot watches, and the modes that stay.
_DATA, _CHILD, _PERSISTENT, _RECURSIVE = range(4)
_READS: Final = (codes.OP_GET_DATA, codes.OP_EXISTS, codes.OP_GET_CHILDREN, codes.OP_GET_CHILDREN2)
_TIMELESS: Final = (codes.OP_AUTH, codes.OP_SASL)
_REMOVED: Final = {
    codes.WATCHER_CHILDREN: (_CHILD,),
    codes.WATCHER_DATA: (_DATA,),
    codes.WATCHER_ANY: (_DATA, _CHILD, _PERSISTENT, _RECURSIVE),
    codes.WATCHER_PERSISTENT: (_PERSISTENT,),
    codes.WATCHER_PERSISTENT_RECURSIVE: (_RECURSIVE,),
}
_MAX_PER_CONN: Final = 3
_SLICE: Final = 10

Key: TypeAlias = tuple[int, bytes]


def check_watches(story: Story, timeline: Timeline, *, is_exact: bool = True) -> list[Violation]:
    """All connections. If replies may be newer than their headers (Java), only events without a cause are found."""
    found: list[Violation] = []
    families = _Descendants(timeline)
    for conn in story.conns.values():
        found += _Follower(conn, timeline, families, is_exact).run()
    return found


class _Descendants:
    """The events of the data table at a path and below, collected when first asked for."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._known: dict[bytes, list[Trigger]] = {}

    def of(self, root: bytes) -> list[Trigger]:
        known = self._known.get(root)
        if known is None:
            prefix = root if root == b"/" else root + b"/"
            known = []
            for path, triggers in self._timeline.data_triggers.items():
                if path == root or path.startswith(prefix):
                    known += triggers
            known.sort(key=lambda one: (one.zxid, one.order))
            self._known[root] = known
        return known


class _Expected:
    """An event that is due; it may come or not if nobody but the server knows whether it may be told."""

    __slots__ = ("is_certain", "trigger")

    def __init__(self, trigger: Trigger, is_certain: bool) -> None:
        self.trigger = trigger
        self.is_certain = is_certain


class _Follower:
    """One connection."""

    def __init__(self, conn: Conn, timeline: Timeline, descendants: _Descendants, is_exact: bool) -> None:
        self._conn = conn
        self._timeline = timeline
        self._descendants = descendants
        self._is_exact = is_exact
        self._found: list[Violation] = []
        self._watches: dict[Key, int] = {}
        self._serial = 0
        # zxid and order of the trigger, serial and key of the registration, and the trigger.
        self._heap: list[tuple[int, int, int, Key, Trigger]] = []
        self._due: deque[_Expected] = deque()
        self._hidden: dict[tuple[int, int, bytes], None] = {}
        self._caught_up: list[Event] = []
        self._ids: list[Id] = []
        self._later_ids = conn.calls[-1].ids if conn.calls else []
        self._last_event = 0
        self._last_reply = 0
        self._at = 0

    def run(self) -> list[Violation]:
        for at, line in enumerate(self._conn.heard):
            self._at = at
            if isinstance(line, Event):
                self._on_event(line)
            elif line.end is not None:
                self._on_reply(line, line.end)
            if len(self._found) >= _MAX_PER_CONN:
                break
        is_asking = any(one.end is None and one.call.xid == codes.XID_SET_WATCHES for one in self._conn.calls)
        if self._caught_up and not is_asking and not self._found:
            self._fail("E2", "an event without a zxid, and no setWatches was asked")
        return self._found

    def _fail(self, id_: str, text: str, zxid: int = 0) -> None:
        lines: list[object] = [*self._conn.heard[max(self._at - _SLICE, 0) : self._at + 1]]
        done = self._timeline.done.get(zxid)
        if done is not None:
            lines.append(done)
        self._found.append(Violation(id_, f"connection {self._conn.number}: {text}", lines))

    # What comes

    def _on_event(self, event: Event) -> None:
        if event.zxid < 0:
            self._caught_up.append(event)
            return
        if event.zxid < self._last_event:
            self._fail("E3", f"an event of {event.zxid:#x} behind one of {self._last_event:#x}", event.zxid)
        elif event.zxid <= self._last_reply and self._is_exact and self._is_due(event):
            self._fail("E1", f"{_name(event)} comes behind a reply at {self._last_reply:#x}", event.zxid)
            return
        self._last_event = max(self._last_event, event.zxid)
        self._advance(event.zxid)
        index = next((index for index, one in enumerate(self._due) if _fits(one.trigger, event)), -1)
        if index < 0:
            self._fail_without_cause(event)
            return
        skipped = [one for one in list(self._due)[:index] if one.is_certain and self._is_exact]
        for _ in range(index + 1):
            self._due.popleft()
        if skipped:
            first = skipped[0].trigger
            is_late = self._comes_later(first)
            text = f"{_name(event)} came, and {_name(first)} of {first.zxid:#x} had not"
            self._fail("E3" if is_late else "E2", text, first.zxid)

    def _is_due(self, event: Event) -> bool:
        return any(_fits(one.trigger, event) for one in self._due)

    def _fail_without_cause(self, event: Event) -> None:
        key = (event.zxid, event.type, event.path)
        if key in self._hidden:
            self._fail("E6", f"{_name(event)} tells of what the session may not read", event.zxid)
            return
        is_below = any(kind == _RECURSIVE and _is_below(event.path, path) for kind, path in self._watches)
        if event.type == codes.EVENT_CHILDREN_CHANGED and is_below and (_CHILD, event.path) not in self._watches:
            self._fail("E5", f"a recursive watch is told {_name(event)}", event.zxid)
            return
        self._fail("E2", f"{_name(event)} at {event.zxid:#x} has no watch and no cause, or came before", event.zxid)

    def _on_reply(self, operation: Operation, end: Return) -> None:
        op = operation.call.op
        if op in _TIMELESS:
            self._ids = self._later_ids if operation.ids is not self._later_ids else self._ids
            return
        if end.zxid < 0:
            return
        if end.zxid < self._last_event and self._is_exact:
            self._fail("E3", f"a reply at {end.zxid:#x} behind an event of {self._last_event:#x}", self._last_event)
        self._last_reply = max(self._last_reply, end.zxid)
        self._ids = operation.ids
        self._advance(end.zxid)
        self._demand_due(end.zxid)
        try:
            self._take_watches(operation, end)
        except MarshallingError:
            return

    def _demand_due(self, zxid: int) -> None:
        due = [one.trigger for one in self._due if one.is_certain]
        if due and self._is_exact:
            first = due[0]
            is_late = self._comes_later(first)
            how = "comes behind it" if is_late else "never came"
            self._fail("E1" if is_late else "E2", f"a reply at {zxid:#x}; {_name(first)} {how}", first.zxid)
            if is_late:
                return
        self._due.clear()

    def _comes_later(self, trigger: Trigger) -> bool:
        later = self._conn.heard[self._at + 1 :]
        return any(isinstance(line, Event) and _fits(trigger, line) for line in later)

    # Which watches there are

    def _take_watches(self, operation: Operation, end: Return) -> None:
        op = operation.call.op
        r = Reader(operation.call.body)
        if op in _READS:
            path, is_set = r.path(), r.boolean()
            if is_set and (not end.err or (op == codes.OP_EXISTS and end.err == errors.NO_NODE)):
                is_data = op in (codes.OP_GET_DATA, codes.OP_EXISTS)
                self._add(_DATA if is_data else _CHILD, path or b"/", end.zxid)
        elif end.err:
            return
        elif op == codes.OP_ADD_WATCH:
            added = AddWatchRequest.read(r)
            is_recursive = added.mode == codes.WATCH_MODE_PERSISTENT_RECURSIVE
            self._add(_RECURSIVE if is_recursive else _PERSISTENT, added.path, end.zxid)
        elif op == codes.OP_REMOVE_WATCHES:
            removed = RemoveWatchesRequest.read(r)
            for kind in _REMOVED.get(removed.type, ()):
                self._watches.pop((kind, removed.path), None)
        elif op == codes.OP_SET_WATCHES:
            old = SetWatches.read(r)
            self._catch_up(
                SetWatches2(old.relative_zxid, old.data_watches, old.exist_watches, old.child_watches, [], []), end.zxid
            )
        elif op == codes.OP_SET_WATCHES2:
            self._catch_up(SetWatches2.read(r), end.zxid)

    def _catch_up(self, asked: SetWatches2, zxid: int) -> None:
        """E4: what was missed is told before the reply, the rest is set again."""
        expected: list[tuple[bytes, int]] = []
        for path in asked.data_watches:
            node = self._timeline.at(path, zxid)
            if node is None:
                expected.append((path, codes.EVENT_DELETED))
            elif node.mzxid > asked.relative_zxid:
                expected.append((path, codes.EVENT_DATA_CHANGED))
            else:
                self._add(_DATA, path, zxid)
        for path in asked.exist_watches:
            if self._timeline.at(path, zxid) is not None:
                expected.append((path, codes.EVENT_CREATED))
            else:
                self._add(_DATA, path, zxid)
        for path in asked.child_watches:
            node = self._timeline.at(path, zxid)
            if node is None:
                expected.append((path, codes.EVENT_DELETED))
            elif node.pzxid > asked.relative_zxid:
                expected.append((path, codes.EVENT_CHILDREN_CHANGED))
            else:
                self._add(_CHILD, path, zxid)
        for kind, paths in ((_PERSISTENT, asked.persistent_watches), (_RECURSIVE, asked.persistent_recursive_watches)):
            for path in paths:
                self._add(kind, path, zxid)
        told = sorted((event.path, event.type) for event in self._caught_up)
        self._caught_up = []
        if told != sorted(expected) and self._is_exact:
            text = f"setWatches from {asked.relative_zxid:#x} at {zxid:#x} tells {told} instead of {sorted(expected)}"
            self._fail("E4", text)

    def _add(self, kind: int, path: bytes, zxid: int) -> None:
        key = (kind, path)
        if key in self._watches:
            return
        self._serial += 1
        self._watches[key] = self._serial
        self._push(key, zxid, -1)

    def _push(self, key: Key, zxid: int, order: int) -> None:
        """Enters the next txn that fires the watch, behind `order` of `zxid`."""
        kind, path = key
        lists: list[Sequence[Trigger]] = []
        if kind == _RECURSIVE:
            lists.append(self._descendants.of(path))
        if kind in (_DATA, _PERSISTENT):
            lists.append(self._timeline.data_triggers.get(path, ()))
        if kind in (_CHILD, _PERSISTENT):
            lists.append(self._timeline.child_triggers.get(path, ()))
        best: Trigger | None = None
        for triggers in lists:
            one = _first_behind(triggers, zxid, order)
            if one is not None and (best is None or (one.zxid, one.order) < (best.zxid, best.order)):
                best = one
        if best is not None:
            heappush(self._heap, (best.zxid, best.order, self._watches[key], key, best))

    def _advance(self, zxid: int) -> None:
        """Fires what is to fire up to a zxid: each event once, whoever watches."""
        last = (-1, -1)
        heap = self._heap
        while heap and heap[0][0] <= zxid:
            at, order, serial, key, trigger = heappop(heap)
            if self._watches.get(key) != serial:
                continue
            if key[0] in (_DATA, _CHILD):
                del self._watches[key]
            else:
                self._push(key, at, order)
            if (at, order) != last:
                self._fire(trigger)
            last = (at, order)

    def _fire(self, trigger: Trigger) -> None:
        now = may(trigger.acl, codes.PERM_READ, self._ids)
        later = may(trigger.acl, codes.PERM_READ, self._later_ids)
        if now is False and later is False:
            self._hidden[trigger.zxid, trigger.type, trigger.path] = None
            return
        self._due.append(_Expected(trigger, now is True and later is True))


def _first_behind(triggers: Sequence[Trigger], zxid: int, order: int) -> Trigger | None:
    low, high = 0, len(triggers)
    # A registration at a zxid stands behind all of its txn; a firing of a txn may be followed by others of the same.
    target = (zxid, order) if order >= 0 else (zxid + 1, -1)
    while low < high:
        middle = (low + high) // 2
        if (triggers[middle].zxid, triggers[middle].order) <= target:
            low = middle + 1
        else:
            high = middle
    return triggers[low] if low < len(triggers) else None


def _fits(trigger: Trigger, event: Event) -> bool:
    return trigger.zxid == event.zxid and trigger.type == event.type and trigger.path == event.path


def _is_below(path: bytes, root: bytes) -> bool:
    return path == root or root == b"/" or path.startswith(root + b"/")


def _name(one: Event | Trigger) -> str:
    return f"event {one.type} of {one.path.decode(errors='replace')}"
