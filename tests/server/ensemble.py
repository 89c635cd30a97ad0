"""Replicas that lead and follow, connected by plain lists: what would be zab and the network is a script.

A leader commits when it is told to; what travels between two servers keeps its order, and goes when it is told to.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from coati.core.acl import Access
from coati.core.answer import Answers
from coati.core.prepare import PrepareConfig, Preparer
from coati.core.sessions import SessionTable
from coati.core.tree import TreeConfig, pristine
from coati.core.watches import Watches
from coati.server.handshake import Doubt
from coati.server.pipeline import Conn
from coati.server.replica import Replica, ReplicaConfig
from coati.server.stats import ServerStats
from coati.testing.server import SimClient, SimLink
from coati.wire import codes
from coati.wire.records import Id
from coati.zab.broadcast import Broadcast

START_MS = 1_700_000_000_000
TREE = TreeConfig(extended_types=True)


class Leading(Broadcast):
    """A leader's zab: proposals wait in `log` until the test commits them, tokens of syncs in `syncs`."""

    __slots__ = ("log", "syncs")

    def __init__(self) -> None:
        super().__init__(leads=True, last_zxid=0)
        self.log: list[tuple[int, bytes]] = []
        self.syncs: list[object] = []

    def next_zxid(self) -> int:
        return self.proposed_zxid + 1

    def propose(self, zxid: int, payload: bytes) -> None:
        assert zxid == self.next_zxid()
        self.proposed_zxid = zxid
        self.log.append((zxid, payload))

    def sync(self, token: object) -> None:
        self.syncs.append(token)


class Following(Broadcast):
    """A learner's zab: `sent` is on its way to the leader, in order."""

    __slots__ = ("sent",)

    def __init__(self) -> None:
        super().__init__(leads=False, last_zxid=0)
        self.sent: list[tuple[Any, ...]] = []

    def request(self, session_id: int, cxid: int, op: int, body: bytes, auth: list[Id]) -> None:
        self.sent.append(("request", session_id, cxid, op, body, auth))

    def revalidate(self, session_id: int, timeout_ms: int) -> None:
        self.sent.append(("revalidate", session_id, timeout_ms))

    def sync(self, token: object) -> None:
        self.sent.append(("sync", token))


class GivenIds(SessionTable):
    """Session ids as the test wants them, so that they are the same wherever a client connects."""

    __slots__ = ("given",)

    given: list[int]

    def take_id(self) -> int:
        return self.given.pop(0) if self.given else super().take_id()


class Member:
    """One server; `came` are the messages of its leader that it has not looked at yet."""

    def __init__(self, broadcast: Broadcast, sid: int, config: ReplicaConfig, timeouts: dict[int, int]) -> None:
        self.broadcast = broadcast
        self.sid = sid
        self.now_ms = 10_000
        self.tree = pristine(TREE)
        self.watches = Watches()
        self.sessions = GivenIds(config.tick_ms, sid, self.now_ms)
        self.sessions.given = []
        self.sessions.restore(timeouts, self.now_ms)
        access = Access()
        self.replica = Replica(
            tree=self.tree,
            sessions=self.sessions,
            watches=self.watches,
            preparer=Preparer(self.tree, self.sessions, access, PrepareConfig(enforce_quota=True)),
            answers=Answers(self.tree, self.watches, access),
            access=access,
            broadcast=broadcast,
            stats=ServerStats(),
            entropy=random.Random(0),
            config=config,
        )
        self.came: list[tuple[Any, ...]] = []
        self.pass_time(0)

    @property
    def sent(self) -> list[tuple[Any, ...]]:
        """What of a follower is on its way to the leader."""
        assert isinstance(self.broadcast, Following), "the leader sends by itself"
        return self.broadcast.sent

    def pass_time(self, ms: int) -> None:
        self.now_ms += ms
        self.replica.begin_turn(self.now_ms, START_MS + self.now_ms)

    def client(self) -> SimClient:
        """A client whose connection stands; nothing has been said yet."""
        return SimClient(PlainLink(self))

    def flush(self) -> None:
        """What a driver does at the end of a turn."""
        outlet = self.replica.outlet
        while outlet.dirty or outlet.closes:
            for conn in outlet.take_dirty():
                data = b"".join(conn.out)
                conn.out.clear()
                conn.is_dirty = False
                conn.link.send(data)
                if conn.flush_then_close:
                    conn.link.close()
                elif conn.is_full:
                    self.replica.on_received(conn, b"")
            for conn in outlet.take_closes():
                conn.link.close()
        self.replica.count_updates()


class PlainLink(SimLink):
    """The same without a driver, a clock or a pause: what is said is heard at once."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.received = bytearray()
        self.is_open = True
        self.is_choked = False
        self.on_data: Callable[[bytes], None] | None = None
        self.conn = Conn(self, ("127.0.0.1", 4000), member.now_ms)
        member.replica.on_connected(self.conn)

    def send(self, data: bytes) -> None:
        if self.is_open:
            self.received += data
            assert self.on_data is not None, "a client listens"
            self.on_data(data)

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self.member.replica.on_closed(self.conn)

    def pause(self) -> None:
        raise AssertionError("there is no driver")

    def resume(self) -> None:
        raise AssertionError("there is no driver")

    def feed(self, data: bytes) -> None:
        if self.is_open:
            self.member.replica.on_received(self.conn, data)
            self.member.flush()

    def drop(self) -> None:
        self.close()


class Ensemble:
    """A leader and its followers. `pump` lets everything happen until nothing is left to do.

    `timeouts`: sessions that were there before; `schemes`: how clients must authenticate.
    """

    def __init__(
        self, followers: int = 1, timeouts: dict[int, int] | None = None, schemes: tuple[str, ...] = ()
    ) -> None:
        config = ReplicaConfig(container_interval_ms=4000, container_max_never_used_ms=6000, required_schemes=schemes)
        timeouts = timeouts or {}
        self.zab = Leading()
        self.leader = Member(self.zab, 1, config, timeouts)
        self.followers = [Member(Following(), 2 + index, config, timeouts) for index in range(followers)]
        self.members = [self.leader, *self.followers]
        self.committed: list[bytes] = []

    def pass_time(self, ms: int) -> None:
        for member in self.members:
            member.pass_time(ms)

    def up(self, follower: Member) -> None:
        """What the follower has sent reaches the leader."""
        replica = self.leader.replica
        # As far apart as links are numbered: equal, but not the same object.
        origin = int(str(100_000 + follower.sid))
        sent = follower.sent.copy()
        follower.sent.clear()
        for kind, *what in sent:
            if kind == "request":
                replica.on_remote_request(origin, *what)
            elif kind == "revalidate":
                follower.came.append(("revalidated", what[0], replica.revalidate(origin, *what)))
            else:
                # Behind all that is proposed, as Java does.
                self.zab.syncs.append((follower, what[0]))
        self.leader.flush()

    def commit(self, count: int | None = None) -> None:
        """The leader's oldest proposals, or all of them, are committed; followers will hear of it."""
        log = self.zab.log
        for zxid, payload in log[:count]:
            self.zab.delivered_zxid = zxid
            self.committed.append(payload)
            self.leader.replica.on_delivered(zxid, payload)
            for follower in self.followers:
                follower.came.append(("deliver", zxid, payload))
        del log[:count]
        self.leader.flush()

    def answer_syncs(self) -> None:
        """All syncs asked for are over."""
        syncs, self.zab.syncs = self.zab.syncs, []
        for token in syncs:
            if isinstance(token, Doubt):
                self.leader.replica.on_revalidated(token.question[1], False)
            elif isinstance(token, tuple):
                token[0].came.append(("synced", token[1]))
            else:
                self.leader.replica.on_sync_done(token)
        self.leader.flush()

    def down(self, follower: Member, count: int | None = None) -> None:
        """What the leader has sent reaches the follower, all of it or the oldest."""
        for kind, *what in follower.came[:count]:
            if kind == "deliver":
                follower.broadcast.proposed_zxid = max(follower.broadcast.proposed_zxid, what[0])
                follower.replica.on_delivered(*what)
            elif kind == "revalidated":
                follower.replica.on_revalidated(*what)
            else:
                follower.replica.on_sync_done(*what)
        del follower.came[:count]
        follower.flush()

    def ping(self) -> None:
        """Followers report whom they heard of."""
        for follower in self.followers:
            for session_id, timeout_ms in follower.replica.take_touched():
                self.leader.replica.touch(session_id, timeout_ms)

    def tick(self, ms: int) -> None:
        """Time passes; the leader looks who is silent."""
        self.pass_time(ms)
        self.ping()
        for member in self.members:
            member.replica.on_tick()
        self.pump()

    def pump(self) -> None:
        while self.zab.log or self.zab.syncs or any(one.came or one.sent for one in self.followers):
            for follower in self.followers:
                self.up(follower)
            self.commit()
            self.answer_syncs()
            for follower in self.followers:
                self.down(follower)

    def joined(self, member: Member, *, timeout_ms: int = 10_000) -> SimClient:
        """A client that has its session."""
        client = member.client()
        client.open_session(timeout_ms=timeout_ms)
        self.pump()
        assert client.session_id
        return client

    def moved(self, client: SimClient, member: Member, *, timeout_ms: int = 10_000) -> SimClient:
        """The client comes back on a new connection; the old one still stands, and numbers its requests otherwise."""
        again = member.client()
        again.resume_from(client, timeout_ms=timeout_ms)
        again._xid += 100
        self.pump()
        return again


def sync(client: SimClient, path: bytes = b"/") -> int:
    return client.send(codes.OP_SYNC, len(path).to_bytes(4, "big") + path)
