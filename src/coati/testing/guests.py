"""Clients that will do with reads, at the servers of a simulated ensemble that have no quorum.

They are judged at once and by themselves, since what they see belongs to no history: a server without a quorum has a
tree that stands still, refuses all writes, and gives sessions that nobody else ever hears of. Now and then one comes
with the session of a client of the ensemble, of which such a server must not speak. The dice are their own, so that
runs without them are what they were. Source: ReadOnlyZooKeeperServer, and ZOOKEEPER-3526 for what must not be.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Final

from coati import errors
from coati.core.sessions import session_password
from coati.testing import history
from coati.testing.cluster import SimCluster, SimMember
from coati.testing.history import Trace, Violation
from coati.testing.server import Reply, SimClient, SimLink, data_of
from coati.testing.workload import LEAVES, ROOTS, Walker

# How many runs have servers that go on without a quorum.
SHARE: Final = 0.3
ID: Final = "RO"
PORT: Final = 50_000
_CLIENT_ID_BYTES: Final = 8


class Guest:
    """One connection. `is_foreign`: it came with a session of the ensemble. `expected`: error and data, by xid."""

    __slots__ = ("client", "expected", "is_foreign", "is_told", "seen", "sid")

    def __init__(self, client: SimClient, sid: int, *, is_foreign: bool) -> None:
        self.client = client
        self.sid = sid
        self.is_foreign = is_foreign
        self.is_told = False
        self.expected: dict[int, tuple[int, bytes | None]] = {}
        self.seen = 0


class Guests:
    """All of one run. `given` are their sessions, `violations` what was wrong."""

    def __init__(self, cluster: SimCluster, walkers: list[Walker], seed: int, reach: Counter[str]) -> None:
        self.dice = Random(f"guests {seed}")
        self.is_wanted = self.dice.random() < SHARE
        self.given: dict[int, None] = {}
        self.violations: list[Violation] = []
        self._cluster = cluster
        self._walkers = walkers
        self._reach = reach
        self._guests: list[Guest] = []

    def visit(self) -> None:
        """A moment of their life: they hear, come, ask and go."""
        for guest in self._guests:
            self._judge(guest)
        self._guests = [guest for guest in self._guests if guest.client.is_open]
        if not self.is_wanted:
            return
        for member in self._cluster.members.values():
            if member.is_up and not member.is_paused and member.driver.is_read_only:
                self._come(member)
        for guest in self._guests:
            member = self._cluster.members[guest.sid]
            if guest.client.session_id and member.driver.is_read_only:
                self._ask(guest, member)

    def _come(self, member: SimMember) -> None:
        dice = self.dice
        if dice.random() < 0.5:
            return
        client = SimClient(SimLink(member, ("127.0.0.1", PORT)))
        sessions = [walker.session_id for walker in self._walkers if walker.session_id]
        foreign = dice.choice(sessions) if sessions and dice.random() < 0.2 else 0
        own = dice.choice(list(self.given)) if self.given and dice.random() < 0.3 else 0
        session_id = foreign or own
        timeout_ms = self._cluster.config.min_session_timeout_ms
        password = session_password(session_id) if session_id else None
        client.open_session(timeout_ms=timeout_ms, session_id=session_id, password=password, read_only=True)
        self._guests.append(Guest(client, member.sid, is_foreign=bool(foreign)))
        self._reach["client without a quorum"] += 1

    def _ask(self, guest: Guest, member: SimMember) -> None:
        client, dice = guest.client, self.dice
        path = dice.choice(ROOTS) + dice.choice((b"", b"/" + dice.choice(LEAVES)))
        choice = dice.randrange(8)
        if choice == 0:
            guest.expected[client.create(path, b"never")] = (errors.NOT_READ_ONLY, None)
        elif choice == 1:
            guest.expected[client.set_data(path, b"never")] = (errors.NOT_READ_ONLY, None)
        elif choice == 2:
            guest.expected[client.delete(path)] = (errors.NOT_READ_ONLY, None)
        elif choice == 3 and dice.random() < 0.2:
            client.close_session()
        elif choice == 4 and dice.random() < 0.2:
            client.link.drop()
        elif choice < 7:
            node = member.tree.nodes.get(path)
            xid = client.get(path, watch=dice.random() < 0.3)
            guest.expected[xid] = (errors.NO_NODE, None) if node is None else (errors.OK, node.data())
        # Else it says nothing, and its session expires if that goes on.

    def _judge(self, guest: Guest) -> None:
        client = guest.client
        connected = client.connected
        if connected is not None and not guest.is_told:
            guest.is_told = True
            if not connected.read_only:
                self._wrong(guest, "was not told that the server only reads")
            if guest.is_foreign:
                self._wrong(guest, "was told of a session of the ensemble")
            if connected.session_id:
                self.given[connected.session_id] = None
        if client.events:
            self._wrong(guest, f"saw a change: {client.events}")
        replies = client.replies
        for reply in replies[guest.seen :]:
            self._judge_reply(guest, reply)
        guest.seen = len(replies)

    def _judge_reply(self, guest: Guest, reply: Reply) -> None:
        expected = guest.expected.pop(reply.xid, None)
        if expected is None:
            return
        err, data = expected
        if reply.err != err or (err == errors.OK and (data_of(reply) or b"") != (data or b"")):
            self._wrong(guest, f"was answered with {reply} in place of {expected}")

    def _wrong(self, guest: Guest, what: str) -> None:
        self.violations.append(Violation(ID, f"a client of server {guest.sid}, which has no quorum, {what}"))

    def check(self, traces: list[Trace]) -> list[Violation]:
        """What they saw, and whether anything of them has come to a log."""
        for trace in traces:
            if trace.kind in (history.LOGGED, history.PROPOSED):
                session_id = int.from_bytes(trace.payload[:_CLIENT_ID_BYTES], "big", signed=True)
                if session_id in self.given:
                    self.violations.append(Violation(ID, f"a local session is in the log: {session_id:#x}", [trace]))
        return self.violations
