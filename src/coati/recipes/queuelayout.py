"""The names and the payloads of queues, ours, kazoo's and Curator's. Pure.

| layout | items | held by | name, before the ten digits | data |
|---|---|---|---|---|
| native | `entries/` | `taken/` | `item-PPP-<due ms>-<mark>-` | as it is |
| kazoo (Queue) | the queue | nothing | `entry-PPP-` | as it is |
| kazoo-locking (LockingQueue) | `entries/` | `taken/` | `entry-PPP-` | as it is |
| curator-simple (SimpleDistributedQueue) | the queue | nothing | `qn-` | as it is |
| curator (DistributedQueue) | the queue | its lock path, if it has one | `queue-` | Curator's list of items |
| curator-priority | as curator | as curator | `queue-1PPPPPPPP`, hexadecimal | as curator |
| curator-id | as curator | as curator | `queue-`, id between bars | as curator |
| curator-delay | as curator | as curator | `queue-`, due ms between bars, hexadecimal | as curator |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from struct import Struct
from typing import Final, Literal, NamedTuple

from coati.errors import MarshallingError
from coati.recipes.marks import wrap_base

QueueLayout = Literal[
    "native", "kazoo", "kazoo-locking", "curator", "curator-simple", "curator-priority", "curator-delay", "curator-id"
]
PRIORITY: Final = 100
PRIORITY_MAX: Final = 999
_WRAP: Final = 1 << 32
# ItemSerializer of Curator.
_ITEMS: Final = Struct(">i")
_ITEM: Final = Struct(">bi")
_VERSION: Final = 0x00010001
_IS_ITEM: Final = 1
_END: Final = b"\2"


class Ticket(NamedTuple):
    """What a name says: less goes first, nobody before `due_ms` (since 1970)."""

    priority: int
    number: int
    due_ms: int


def _read_native(name: str) -> Ticket | None:
    parts = name.split("-", 4)
    if len(parts) != 5 or parts[0] != "item":
        return None
    return _ticket(parts[1], parts[4], parts[2])


def _read_kazoo(name: str) -> Ticket | None:
    parts = name.split("-", 2)
    return _ticket(parts[1], parts[2]) if len(parts) == 3 and parts[0] == "entry" else None


def _read_simple(name: str) -> Ticket | None:
    return _ticket("0", name[3:]) if name.startswith("qn-") else None


def _read_curator(name: str) -> Ticket | None:
    rest = name.removeprefix("queue-")
    if rest == name:
        return None
    # What Curator's id queue puts between bars is of no consequence for the order.
    return _ticket("0", rest.rpartition("|")[2])


def id_of(name: str) -> str | None:
    """The id in a name of Curator's id queue; None if there is none."""
    parts = name.split("|")
    return parts[1] if len(parts) == 3 and parts[0] == "queue-" else None


def fixed_id(id: str) -> str:
    """An id as it stands in names (DistributedIdQueue.fixId)."""
    return id.replace("/", "_").replace("|", "_")


def _read_curator_priority(name: str) -> Ticket | None:
    rest = name.removeprefix("queue-")
    if rest == name or len(rest) < 19:
        return None
    # One digit for the sign, eight of the number (DistributedPriorityQueue.priorityToString).
    return _ticket(str(_hex(rest[:9])), rest[9:])


def _read_curator_delay(name: str) -> Ticket | None:
    rest = name.removeprefix("queue-|")
    due, bar, digits = rest.partition("|")
    return _ticket("0", digits, str(_hex(due))) if rest != name and bar else None


def _hex(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return 0


def _ticket(priority: str, number: str, due_ms: str = "0") -> Ticket | None:
    if not (priority.isdecimal() and due_ms.isdecimal() and number.removeprefix("-").isdecimal()):
        return None
    return Ticket(int(priority), int(number), int(due_ms))


def pack_as_it_is(data: bytes) -> bytes:
    """No payload of its own."""
    return data


def pack_items(data: bytes) -> bytes:
    """One item as Curator writes it."""
    return _ITEMS.pack(_VERSION) + _ITEM.pack(_IS_ITEM, len(data)) + data + _END


def unpack_items(data: bytes) -> list[bytes]:
    """All items of an entry of Curator's. Raises MarshallingError."""
    if len(data) < _ITEMS.size + 1 or _ITEMS.unpack_from(data)[0] != _VERSION:
        raise MarshallingError("this is no entry of a Curator queue")
    at = _ITEMS.size
    items: list[bytes] = []
    while data[at : at + 1] != _END:
        if at + _ITEM.size > len(data):
            raise MarshallingError("an entry of a Curator queue is cut short")
        kind, size = _ITEM.unpack_from(data, at)
        at += _ITEM.size
        if kind != _IS_ITEM or not 0 <= size <= len(data) - at:
            raise MarshallingError("an entry of a Curator queue is cut short")
        items.append(data[at : at + size])
        at += size
    return items


def _unpack_as_it_is(data: bytes) -> list[bytes]:
    return [data]


@dataclass(frozen=True, slots=True)
class Shape:
    """One layout. `head(priority, due_ms, mark)` is the name of an item without its digits; its id is its mark."""

    head: Callable[[int, int, str], str]
    read: Callable[[str], Ticket | None]
    entries: str = ""
    taken: str = ""
    has_mark: bool = False
    has_priority: bool = False
    has_delay: bool = False
    has_id: bool = False
    pack: Callable[[bytes], bytes] = pack_as_it_is
    unpack: Callable[[bytes], list[bytes]] = _unpack_as_it_is

    def in_order(self, names: Iterable[str]) -> list[tuple[str, Ticket]]:
        """The items among the names, the first first."""
        found = [(name, ticket) for name in names if (ticket := self.read(name)) is not None]
        base = wrap_base(ticket.number for _, ticket in found)
        return sorted(found, key=lambda one: (one[1].priority, (one[1].number - base) % _WRAP, one[0]))


SHAPES: Final[dict[QueueLayout, Shape]] = {
    "native": Shape(
        lambda priority, due_ms, mark: f"item-{priority:03d}-{due_ms}-{mark}-",
        _read_native,
        entries="/entries",
        taken="/taken",
        has_mark=True,
        has_priority=True,
        has_delay=True,
    ),
    "kazoo": Shape(lambda priority, due_ms, mark: f"entry-{priority:03d}-", _read_kazoo, has_priority=True),
    "kazoo-locking": Shape(
        lambda priority, due_ms, mark: f"entry-{priority:03d}-",
        _read_kazoo,
        entries="/entries",
        taken="/taken",
        has_priority=True,
    ),
    "curator-simple": Shape(lambda priority, due_ms, mark: "qn-", _read_simple),
    "curator": Shape(lambda priority, due_ms, mark: "queue-", _read_curator, pack=pack_items, unpack=unpack_items),
    "curator-priority": Shape(
        lambda priority, due_ms, mark: f"queue-1{priority:08X}",
        _read_curator_priority,
        has_priority=True,
        pack=pack_items,
        unpack=unpack_items,
    ),
    "curator-id": Shape(
        lambda priority, due_ms, mark: f"queue-|{fixed_id(mark)}|",
        _read_curator,
        has_id=True,
        pack=pack_items,
        unpack=unpack_items,
    ),
    "curator-delay": Shape(
        lambda priority, due_ms, mark: f"queue-|{due_ms:016X}|",
        _read_curator_delay,
        has_delay=True,
        pack=pack_items,
        unpack=unpack_items,
    ),
}
