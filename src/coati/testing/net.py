"""A simulated network between servers: links that delay, stall, break and half-break, and votes that may get lost.

A link is two pipes, each of which delivers in order what it was given, cut anywhere, after a delay of its own. Where
the network is cut, bytes wait, as TCP would send them again; how long, and whether the link breaks meanwhile, the
fault mix decides. Votes are messages: of those that wait for a receiver only the newest counts, as in votes.py.
Deterministic: the dice come from the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from coati.testing.clock import SimClock

# How long a refused or unanswered dial takes to fail.
DIAL_TIMEOUT_MS: Final = 200
# After how long a vote comes that was lost with its connection.
VOTE_AGAIN_MS: Final = 400
# What a socket takes whose process does not read.
SOCKET_BYTES: Final = 64 << 10


class Pipe:
    """One direction of a link: an end to send on; its receiver gets the bytes at `on_data`."""

    __slots__ = ("_due_ms", "_link", "_net", "_unread_bytes", "_waiting", "on_data", "on_lost", "source", "target")

    def __init__(self, net: SimNet, link: SimNetLink, source: int, target: int) -> None:
        self._net = net
        self._link = link
        self._due_ms = 0
        self._waiting: list[bytes] = []
        self._unread_bytes = 0
        self.source = source
        self.target = target
        self.on_data: Callable[[bytes], None] = _nobody
        self.on_lost: Callable[[], None] = _nothing

    @property
    def waiting_bytes(self) -> int:
        """What was sent and has not arrived."""
        return sum(map(len, self._waiting))

    def send(self, data: bytes) -> None:
        """On its way, unless the link is gone."""
        if self._link.is_open:
            self._waiting.append(data)
            self.hurry()

    def hurry(self) -> None:
        """What waits is due after a delay, but never before what was sent earlier."""
        net = self._net
        self._due_ms = max(self._due_ms, net.clock.now_ms + net.delay())
        net.clock.call_at(self._due_ms, self._arrive)

    def go_on(self) -> None:
        """The receiver reads again: what its socket had no room for comes."""
        self._unread_bytes = 0
        for _ in range(len(self._waiting)):
            self.hurry()

    def _has_room(self, data: bytes) -> bool:
        """Whether the receiver reads, or its socket takes this at least."""
        if not self._net.is_frozen(self.target):
            return True
        self._unread_bytes += len(data)
        return self._unread_bytes <= self._net.socket_bytes

    def _arrive(self) -> None:
        if not self._link.is_open or not self._waiting or self._net.is_cut(self.source, self.target):
            return
        if not self._has_room(self._waiting[0]):
            return
        data = self._waiting.pop(0)
        if len(data) > 1 and self._net.dice.random() < self._net.split_share:
            # A stream has no borders: the rest comes later.
            at = self._net.dice.randrange(1, len(data))
            self._waiting.insert(0, data[at:])
            data = data[:at]
            self.hurry()
        self.on_data(data)


class SimNetLink:
    """A connection between two servers. `forward` is from the one who dialled, `back` to it."""

    __slots__ = ("back", "forward", "is_open")

    def __init__(self, net: SimNet, source: int, target: int) -> None:
        self.is_open = True
        self.forward = Pipe(net, self, source, target)
        self.back = Pipe(net, self, target, source)


class SimNet:
    """All links between servers, which are numbers. `delay_ms`: the shortest and the longest time of a way.

    `split_share`: how many of the pieces arrive in two. `listeners`: who takes a dialled link, by server; it says
    whether it does.
    """

    def __init__(
        self, clock: SimClock, dice: Random, *, delay_ms: tuple[int, int] = (1, 1), split_share: float = 0.0
    ) -> None:
        self.clock = clock
        self.dice = dice
        self.delay_ms = delay_ms
        self.split_share = split_share
        self.listeners: dict[int, Callable[[SimNetLink], bool]] = {}
        self.voters: dict[int, Callable[[int, bytes], None]] = {}
        self.refused: dict[int, Callable[[int], None]] = {}
        self.vote_loss = 0.0
        self.socket_bytes = SOCKET_BYTES
        self._frozen: dict[int, None] = {}
        self._links: list[SimNetLink] = []
        self._cuts: dict[tuple[int, int], None] = {}
        self._votes: dict[tuple[int, int], bytes] = {}

    def delay(self) -> int:
        """The time of one way."""
        return self.dice.randint(*self.delay_ms)

    # Cutting.

    def is_cut(self, source: int, target: int) -> bool:
        """Whether nothing gets from the one to the other."""
        return (source, target) in self._cuts

    def cut(self, source: int, target: int) -> None:
        """One way; the other is another cut."""
        self._cuts[source, target] = None

    def heal(self, source: int, target: int) -> None:
        """What waited goes on."""
        if self._cuts.pop((source, target), 0) is None:
            for link in self._links:
                for pipe in (link.forward, link.back):
                    if (pipe.source, pipe.target) == (source, target):
                        for _ in range(len(pipe._waiting)):
                            pipe.hurry()
            self._deliver_vote(source, target)

    def heal_all(self) -> None:
        """No cut is left."""
        for source, target in list(self._cuts):
            self.heal(source, target)

    # Servers that do not read.

    def is_frozen(self, server: int) -> bool:
        """Whether the server's process is stopped."""
        return server in self._frozen

    def freeze(self, server: int) -> None:
        """What comes for it stays in its sockets, and in those of who sends when they are full."""
        self._frozen[server] = None

    def thaw(self, server: int) -> None:
        """It reads again, or its process is gone."""
        if self._frozen.pop(server, 0) is None:
            for link in self._links:
                for pipe in (link.forward, link.back):
                    if pipe.target == server:
                        pipe.go_on()

    # Links.

    def dial(self, source: int, target: int, done: Callable[[SimNetLink | None], None]) -> None:
        """Connects, or tells `done` None after a while."""
        if self.is_cut(source, target) or self.is_cut(target, source) or target not in self.listeners:
            self.clock.call_at(self.clock.now_ms + DIAL_TIMEOUT_MS, lambda: done(None))
            return
        self.clock.call_at(self.clock.now_ms + self.delay(), lambda: self._accept(source, target, done))

    def _accept(self, source: int, target: int, done: Callable[[SimNetLink | None], None]) -> None:
        listener = self.listeners.get(target)
        link = SimNetLink(self, source, target)
        if listener is None or not listener(link):
            done(None)
            return
        self._links.append(link)
        done(link)

    def close(self, link: SimNetLink, *, by: int = -1) -> None:
        """Both ends hear of it, after a while, but for the server that closed it."""
        if not link.is_open:
            return
        link.is_open = False
        self._links.remove(link)
        for pipe in (link.forward, link.back):
            if pipe.target != by:
                self.clock.call_at(self.clock.now_ms + self.delay(), pipe.on_lost)

    def close_all(self, server: int) -> None:
        """The server's process is gone."""
        for link in list(self._links):
            if server in (link.forward.source, link.forward.target):
                self.close(link, by=server)

    def links_between(self, one: int, other: int) -> list[SimNetLink]:
        """The open links of two servers."""
        pair = {one, other}
        return [link for link in self._links if {link.forward.source, link.forward.target} == pair]

    # Votes.

    def send_vote(self, source: int, target: int, message: bytes) -> None:
        """Replaces what still waits for the same receiver."""
        is_new = (source, target) not in self._votes
        self._votes[source, target] = message
        if is_new:
            self.clock.call_at(self.clock.now_ms + self.delay(), lambda: self._deliver_vote(source, target))

    def _deliver_vote(self, source: int, target: int) -> None:
        if self.is_cut(source, target):
            return
        message = self._votes.pop((source, target), None)
        receiver = self.voters.get(target)
        if receiver is None:
            self.clock.call_at(self.clock.now_ms + self.delay(), lambda: self._refuse_vote(source, target))
        if message is None or receiver is None:
            return
        if self.vote_loss and self.dice.random() < self.vote_loss:
            # Its connection broke; the next one begins with the last vote (QuorumCnxManager.SendWorker).
            self._votes[source, target] = message
            due_ms = self.clock.now_ms + VOTE_AGAIN_MS
            self.clock.call_at(due_ms, lambda: self._deliver_vote(source, target))
            return
        receiver(source, message)

    def _refuse_vote(self, source: int, target: int) -> None:
        """The host is up, and no process listens there."""
        refused = self.refused.get(source)
        if refused is not None and target not in self.voters and not self.is_cut(source, target):
            refused(target)


def _nobody(data: bytes) -> None:
    """What comes before anybody listens is an error of the simulation."""
    raise AssertionError(f"{len(data)} bytes for nobody")


def _nothing() -> None:
    """Nobody wants to hear of the end."""
