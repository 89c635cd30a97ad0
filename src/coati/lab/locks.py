"""Many clients want one lock: who is woken by a release, if all watch one znode, and if each watches the one before it.

The recipes are coati's own, the servers a simulated ensemble; what is counted are frames that its servers sent and
heard, from the first request for the lock to the last release. A holder watches its own znode, and is told of its own
release; that is no wake-up.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Final

from coati.errors import ConfigError
from coati.lab.story import HEAR, STATE, Fact, Step, Story, table_of
from coati.recipes.client import Client
from coati.recipes.held import Held
from coati.recipes.lock import ExclusiveLock, Lock
from coati.testing.loop import pass_time
from coati.testing.world import SimWorld, run
from coati.wire import codes
from coati.wire.jute import FrameBuffer, Reader
from coati.wire.records import ReplyHeader, RequestHeader, WatcherEvent

MAX_CLIENTS: Final = 50
PATH: Final = "/lock"
DELAY_MS: Final = 5
# So long a client keeps the lock, and so much later than the one before it each one asks: then all is quiet again.
HOLD_S: Final = 1.0
GAP_S: Final = 0.1
SERVERS: Final = "servers"

_EVENTS: Final = {
    codes.EVENT_CREATED: "NodeCreated",
    codes.EVENT_DELETED: "NodeDeleted",
    codes.EVENT_DATA_CHANGED: "NodeDataChanged",
    codes.EVENT_CHILDREN_CHANGED: "NodeChildrenChanged",
}
_KINDS: Final[dict[str, type[Lock] | type[ExclusiveLock]]] = {"herd": ExclusiveLock, "sequence": Lock}
KINDS: Final = tuple(_KINDS)
_TITLES: Final = {
    "herd": "{} clients want one lock, which is one znode that all of them watch (ExclusiveLock).",
    "sequence": "{} clients want one lock; each watches the one before it in the line (Lock).",
}


class Traffic:
    """What passes between clients and servers, told and counted."""

    def __init__(self, world: SimWorld, story: Story) -> None:
        self.story = story
        self.requests: Counter[str] = Counter()
        self.events = 0
        # Who waits for the lock.
        self.waiting: dict[str, None] = {}
        # Wake-ups since the last release, and the most there were between two; and all.
        self.woken = 0
        self.most_woken = 0
        self.all_woken = 0
        self._world = world
        self._began_ms = 0
        self._is_on = False
        self._frames: dict[tuple[str, str], FrameBuffer] = {}
        self._greeted: dict[tuple[str, str], None] = {}
        world.net.witness = self._pass

    def begin(self) -> None:
        """From here on."""
        self._began_ms = self._world.clock.now_ms
        self._is_on = True

    def end(self) -> None:
        """To here."""
        self._is_on = False

    def tell(self, lane: str, kind: str, text: str, *, peers: Sequence[str] = (), label: str = "") -> None:
        """The next step."""
        if self._is_on:
            now_ms = self._world.clock.now_ms - self._began_ms
            sent_ms = now_ms - DELAY_MS if kind == HEAR else -1
            self.story.add(Step(now_ms, kind, lane, text, tuple(peers), sent_ms, label))

    def _pass(self, name: str, what: str, data: bytes) -> None:
        """Something passes a server's door."""
        if what not in "<>":
            return
        key = (name, what)
        client = name.partition(":")[0]
        for frame in self._frames.setdefault(key, FrameBuffer()).feed(data):
            # The first one opens the session.
            if key in self._greeted and what == ">":
                self._asked(client, frame)
            elif key in self._greeted:
                self._told(client, frame)
            self._greeted[key] = None

    def _asked(self, client: str, frame: bytes) -> None:
        header = RequestHeader.read(Reader(frame))
        if header.xid == codes.XID_PING or not self._is_on:
            return
        name = codes.OP_NAMES.get(header.type, str(header.type))
        watches = header.type in (codes.OP_GET_DATA, codes.OP_EXISTS) and frame[-1:] == b"\x01"
        text = f"{name}, and watches" if watches else name
        self.requests[name] += 1
        self.tell(SERVERS, HEAR, text, peers=[client], label=text)

    def _told(self, client: str, frame: bytes) -> None:
        r = Reader(frame)
        if ReplyHeader.read(r).xid != codes.XID_NOTIFICATION or not self._is_on:
            return
        event = WatcherEvent.read(r)
        name = _EVENTS.get(event.type, str(event.type))
        text = f"{name} {short(event.path.decode())}"
        is_woken = client in self.waiting
        meaning = "is woken" if is_woken else "its own release"
        self.events += 1
        self.woken += is_woken
        self.all_woken += is_woken
        # Told when it arrives, counted when it is sent.
        clock = self._world.clock
        clock.call_at(
            clock.now_ms + DELAY_MS,
            lambda: self.tell(client, HEAR, f"{text}: {meaning}", peers=[SERVERS], label=name),
        )

    def released(self) -> None:
        """The next one's turn."""
        self.most_woken = max(self.most_woken, self.woken)
        self.woken = 0


def lock(kind: str, clients: int = 5) -> Story:
    """The story of a lock of one kind. Raises ConfigError."""
    if not 1 <= clients <= MAX_CLIENTS:
        raise ConfigError(f"the lab has room for 1 to {MAX_CLIENTS} clients")
    names = [f"c{number}" for number in range(1, clients + 1)]
    story = Story(_TITLES[kind].format(clients), [SERVERS, *names])
    story.intro = [
        f"Each keeps it for {HOLD_S:g} s; a message takes {DELAY_MS} ms. Three servers stand behind one lane.",
    ]

    async def main(world: SimWorld) -> None:
        await _main(world, kind, names, story)

    run(main, 0)
    return story


async def _main(world: SimWorld, kind: str, names: Sequence[str], story: Story) -> None:
    world.net.delay_ms = world.cluster.net.delay_ms = (DELAY_MS, DELAY_MS)
    world.net.split_share = world.cluster.net.split_share = 0.0
    traffic = Traffic(world, story)
    made: list[Client] = []
    for name in names:
        with world.on_host(name):
            client = Client(world.hosts, name=name, session_timeout=30.0, entropy=world.random())
            await client.start()
            made.append(client)
    order: list[str] = []
    traffic.begin()
    contenders = [
        asyncio.create_task(_contend(index, name, _KINDS[kind](client, PATH), traffic, order))
        for index, (name, client) in enumerate(zip(names, made, strict=True))
    ]
    await asyncio.gather(*contenders)
    await pass_time(HOLD_S)
    traffic.released()
    traffic.end()
    for client in made:
        await client.aclose()
    _conclude(story, traffic, order)


async def _contend(index: int, name: str, wanted: Lock | ExclusiveLock, traffic: Traffic, order: list[str]) -> None:
    await pass_time(index * GAP_S)
    traffic.tell(name, STATE, "wants the lock", label="WAITING")
    traffic.waiting[name] = None
    held: Held
    async with wanted as held:
        order.append(name)
        del traffic.waiting[name]
        traffic.tell(name, STATE, f"has the lock, {short(held.path)}", label="HOLDING")
        await pass_time(HOLD_S)
        traffic.released()
        traffic.tell(name, STATE, "releases it", label="DONE")


def short(path: str) -> str:
    """Without the random mark of a client: `/lock/..0000000003`."""
    parent, mark, name = path.rpartition("/_c_")
    return f"{parent}/..{name[-10:]}" if mark else path


def _conclude(story: Story, traffic: Traffic, order: list[str]) -> None:
    requests = sum(traffic.requests.values())
    shown = ", ".join(f"{count} {name}" for name, count in sorted(traffic.requests.items()))
    story.outcome = [
        f"The lock went round in this order: {' '.join(order)}.",
        f"Wake-ups of those who wait: {traffic.all_woken}, at most {traffic.most_woken} for one release.",
        f"Events that the servers sent: {traffic.events}.",
        f"Requests that they heard: {requests} ({shown}).",
    ]
    counts: dict[str, Fact] = dict(sorted(traffic.requests.items()))
    story.facts = {
        "order": order,
        "wake_ups": traffic.all_woken,
        "events": traffic.events,
        "most_woken": traffic.most_woken,
        "requests": requests,
        "requests_by_kind": counts,
    }


def compare(stories: Sequence[Story], kinds: Sequence[str]) -> list[str]:
    """What the kinds cost."""
    if len(stories) < 2:
        return []
    rows = [
        [kind, *(str(story.facts[name]) for name in ("wake_ups", "most_woken", "events", "requests"))]
        for kind, story in zip(kinds, stories, strict=True)
    ]
    return table_of(["lock", "wake-ups", "most for one release", "events", "requests"], rows)
