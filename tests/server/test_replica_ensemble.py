"""Replicas that lead and follow: what clients of both see is what those of a single server would.

The servers are joined by `tests/server/ensemble.py`. Expectations are ZooKeeper's: W, R, E and S are its guarantees for
writes, reads, events and sessions. Only for the plain build: the roles are scripted, and compiled ones have no
interpreted subclasses.
"""

from __future__ import annotations

import pytest

from coati.server import replica as replica_module

if not (replica_module.__file__ or "").endswith(".py"):
    pytest.skip("compiled classes have no interpreted subclasses", allow_module_level=True)

import random

from coati import errors
from coati.core.sessions import session_password
from coati.errors import MarshallingError
from coati.testing.server import SimClient, create_body, data_of, request_frame, stat_of
from coati.wire import codes
from tests.core.requests import Requests
from tests.now import now
from tests.server.ensemble import Ensemble, Member, sync
from tests.server.kit import EPHEMERAL, auth_body, xids

TIMEOUT_MS = 10_000
TICK_MS = 2000


def same_trees(ensemble: Ensemble) -> None:
    """Z11: equal znodes, ephemerals, sessions and digests everywhere, and nothing left in flight."""
    leader = ensemble.leader
    for member in ensemble.members:
        tree = member.tree
        assert not tree.staged
        assert tree.digest_mismatches == 0
        assert (tree.digest, tree.last_zxid) == (leader.tree.digest, leader.tree.last_zxid)
        assert {path: node.body for path, node in tree.nodes.items()} == {
            path: node.body for path, node in leader.tree.nodes.items()
        }
        assert {path: node.acl.wire for path, node in tree.nodes.items()} == {
            path: node.acl.wire for path, node in leader.tree.nodes.items()
        }
        assert tree.ephemerals == leader.tree.ephemerals
        assert member.sessions.timeouts == leader.sessions.timeouts
        assert member.replica.in_flight() == 0


# The same as on one server.


class World:
    """Three clients, on the servers they are given; what they got, byte for byte."""

    def __init__(self, ensemble: Ensemble, servers: list[Member]) -> None:
        self.ensemble = ensemble
        self.servers = servers
        self.clients: list[SimClient] = []
        self.old: list[SimClient] = []
        self.count = 0
        for server in servers:
            self.clients.append(self.join(server))

    def join(self, server: Member) -> SimClient:
        self.count += 1
        server.sessions.given.append(0x100000000 + self.count)
        return self.ensemble.joined(server)

    def step(self, dice: random.Random, requests: Requests) -> None:
        """One client does something."""
        index = dice.randrange(len(self.clients))
        client = self.clients[index]
        draw = dice.random()
        self.ensemble.pass_time(dice.randrange(20))
        if draw < 0.04:
            self.old.append(client)
            client.close_session()
            self.ensemble.pump()
            self.clients[index] = self.join(self.servers[index])
        elif draw < 0.08:
            self.old.append(client)
            self.clients[index] = self.ensemble.moved(client, self.servers[index])
        else:
            batch = []
            for _ in range(dice.choice((1, 1, 2, 5))):
                client._xid += 1
                op, body = requests.any()
                if dice.random() < 0.1:
                    body = body[: dice.randrange(len(body) + 1)]
                batch.append(request_frame(client._xid, op, body))
            client.link.feed(b"".join(batch))
            self.ensemble.pump()

    def streams(self) -> list[bytes]:
        return [bytes(client.link.received) for client in [*self.old, *self.clients]]


@pytest.mark.parametrize("seed", range(12))
def test_clients_of_followers_get_the_bytes_that_a_single_server_would_send(seed: int) -> None:
    """Zxids included: create2's Stat, results of multis, errors of all kinds, events, W4 within a batch."""
    worlds = []
    for followers in (0, 2):
        ensemble = Ensemble(followers)
        worlds.append(World(ensemble, [ensemble.members[index % (followers + 1)] for index in range(3)]))
    dice = [random.Random(seed) for _ in worlds]
    requests = [Requests(seed, extended_types=True) for _ in worlds]
    for _ in range(120):
        for index, world in enumerate(worlds):
            world.step(dice[index], requests[index])
    alone, together = worlds
    assert together.streams() == alone.streams(), f"seed {seed}"
    assert together.ensemble.committed == alone.ensemble.committed
    assert together.ensemble.leader.tree.digest == alone.ensemble.leader.tree.digest
    same_trees(together.ensemble)


@pytest.mark.parametrize("seed", range(8))
def test_replies_keep_the_order_of_requests_whatever_the_network_does(seed: int) -> None:
    """W4, R2 and E1 with deep pipelines of writes, reads and syncs, and messages that travel at random."""
    dice = random.Random(seed)
    ensemble = Ensemble(2)
    clients = [ensemble.joined(member) for member in ensemble.members for _ in range(2)]
    clients[0].create(b"/n", b"0")
    ensemble.pump()
    sent = [0] * len(clients)
    sent[0] = 1
    for number in range(400):
        draw = dice.random()
        if draw < 0.5:
            index = dice.randrange(len(clients))
            client = clients[index]
            sent[index] += 1
            kind = dice.randrange(4)
            if kind == 0:
                client.get(b"/n", watch=dice.random() < 0.3)
            elif kind == 1:
                sync(client)
            else:
                client.set_data(b"/n", b"%d" % number)
        else:
            follower = dice.choice(ensemble.followers)
            dice.choice(
                (
                    lambda follower=follower: ensemble.up(follower),
                    lambda: ensemble.commit(dice.randrange(3)),
                    ensemble.answer_syncs,
                    lambda follower=follower: ensemble.down(follower, dice.randrange(4)),
                )
            )()
    ensemble.pump()
    for client, count in zip(clients, sent, strict=True):
        assert xids(client) == list(range(1, count + 1)), f"seed {seed}"
        zxids = [entry.zxid for entry in client.log]
        assert zxids == sorted(zxids), f"seed {seed}: a zxid went back"
    same_trees(ensemble)


# Writes and reads through a follower.


def test_a_reply_on_a_follower_comes_when_the_write_is_delivered_there() -> None:
    ensemble = Ensemble()
    (follower,) = ensemble.followers
    client = ensemble.joined(follower)
    client.create(b"/a", b"x")
    client.get(b"/a")
    ensemble.up(follower)
    ensemble.commit()
    assert b"/a" in ensemble.leader.tree.nodes
    assert client.replies == []
    ensemble.down(follower)
    assert xids(client) == [1, 2]
    assert data_of(client.reply(2)) == b"x"


def test_a_read_waits_only_for_the_writes_before_it_and_others_never() -> None:
    ensemble = Ensemble()
    (follower,) = ensemble.followers
    client, other = ensemble.joined(follower), ensemble.joined(follower)
    client.create(b"/a", b"x")
    client.get(b"/a")
    client.set_data(b"/a", b"y")
    client.get(b"/a")
    other.exists(b"/a")
    assert other.reply(1).err == errors.NO_NODE
    ensemble.up(follower)
    ensemble.commit()
    ensemble.down(follower, 1)
    assert data_of(client.reply(2)) == b"x"
    assert xids(client) == [1, 2]
    ensemble.down(follower)
    assert data_of(client.reply(4)) == b"y"


def test_a_write_that_cannot_be_read_is_answered_on_a_follower_too() -> None:
    """Java's leader drops it, and the client of the follower waits for ever."""
    ensemble = Ensemble()
    client = ensemble.joined(ensemble.followers[0])
    client.create(b"/a")
    client.send(codes.OP_SET_DATA, b"\0\0\0\2/a\x7f")
    client.get(b"/")
    assert client.replies == []
    ensemble.pump()
    assert len(ensemble.committed) == 2
    assert [reply.err for reply in client.replies] == [errors.OK, errors.MARSHALLING_ERROR, errors.OK]
    same_trees(ensemble)


@pytest.mark.parametrize(
    "op", [codes.OP_SET_DATA, codes.OP_GET_DATA, codes.OP_DELETE_CONTAINER, codes.OP_CHECK, 9999, -11, -10]
)
def test_what_a_server_forwards_without_reason_does_no_harm(op: int) -> None:
    """Each is an error txn, or the end of a session that is not: whoever waits for it is told."""
    ensemble = Ensemble()
    ensemble.leader.replica.on_remote_request(77, 5, 1, op, b"\0\0", [])
    ensemble.pump()
    assert len(ensemble.committed) == 1
    assert ensemble.leader.sessions.timeouts == {}
    same_trees(ensemble)


def test_identities_of_a_client_reach_the_leader() -> None:
    ensemble = Ensemble()
    client = ensemble.joined(ensemble.followers[0])
    client.send(codes.OP_AUTH, auth_body("digest", b"bob:p"), xid=codes.XID_AUTH)
    acl = b"\0\0\0\1\0\0\0\x1f\0\0\0\4auth\0\0\0\0"
    client.send(codes.OP_CREATE, b"\0\0\0\2/a\0\0\0\0" + acl + b"\0\0\0\0")
    client.set_data(b"/a", b"x")
    other = ensemble.joined(ensemble.followers[0])
    other.set_data(b"/a", b"y")
    ensemble.pump()
    assert [reply.err for reply in client.replies] == [errors.OK] * 3
    assert other.reply(1).err == errors.NO_AUTH


def test_a_txn_that_cannot_be_read_ends_the_role() -> None:
    ensemble = Ensemble()
    with pytest.raises(MarshallingError):
        ensemble.followers[0].replica.on_delivered(1, b"no txn")


def test_a_digest_that_is_not_the_leaders_is_noticed() -> None:
    """Z11."""
    ensemble = Ensemble()
    (follower,) = ensemble.followers
    client = ensemble.joined(follower)
    assert follower.tree.digest_mismatches == 0
    follower.tree.staged_digest += 1
    client.create(b"/a")
    ensemble.pump()
    assert follower.tree.digest_mismatches == 1


# Sync.


def test_a_sync_on_a_follower_shows_what_was_acknowledged_elsewhere() -> None:
    """R4: and nothing of the client overtakes it, nor is it answered before the writes in front of it (W4)."""
    ensemble = Ensemble()
    (follower,) = ensemble.followers
    writer, reader = ensemble.joined(ensemble.leader), ensemble.joined(follower)
    writer.create(b"/a", b"1")
    ensemble.commit()
    assert writer.reply(1).err == errors.OK
    reader.get(b"/a")
    assert reader.reply(1).err == errors.NO_NODE
    reader.create(b"/b")
    sync(reader, b"/a")
    reader.get(b"/a")
    reader.create(b"/c")
    assert [kind for kind, *_ in follower.sent] == ["request"]
    ensemble.down(follower)
    assert xids(reader) == [1]
    ensemble.pump()
    assert xids(reader) == [1, 2, 3, 4, 5]
    assert reader.reply(3).body == b"\0\0\0\2/a"
    assert data_of(reader.reply(4)) == b"1"
    assert reader.reply(5).err == errors.OK


@pytest.mark.parametrize("where", [0, 1])
def test_a_sync_waits_for_its_answer_and_for_nothing_when_its_client_is_gone(where: int) -> None:
    ensemble = Ensemble()
    member = ensemble.members[where]
    client, gone = ensemble.joined(member), ensemble.joined(member)
    sync(client)
    client.ping()
    sync(gone)
    gone.link.drop()
    assert client.replies == []
    ensemble.pump()
    assert xids(client) == [1, codes.XID_PING]
    assert gone.replies == []


def test_a_session_that_ends_while_it_waits_for_a_sync_is_closed_without_a_word() -> None:
    """S1."""
    ensemble = Ensemble()
    client = ensemble.joined(ensemble.followers[0])
    sync(client)
    ensemble.leader.replica.close_session(client.session_id)
    ensemble.pump()
    assert not client.is_open
    assert client.replies == []


def test_many_answers_before_a_sync_do_not_lose_it() -> None:
    """Reads that exceed a turn are read again, and the sync behind them with them."""
    ensemble = Ensemble()
    (follower,) = ensemble.followers
    client = ensemble.joined(follower)
    client.create(b"/big", bytes(900_000))
    for _ in range(4):
        client.get(b"/big")
    sync(client)
    client.get(b"/")
    ensemble.pump()
    assert xids(client) == [1, 2, 3, 4, 5, 6, 7]


def test_a_sync_of_a_dozen_bytes_is_answered_as_java_does() -> None:
    """Too short to have a path: the leader does not look, and who answers does."""
    ensemble = Ensemble()
    client = ensemble.joined(ensemble.followers[0])
    client.link.feed(request_frame(1, codes.OP_SYNC) + request_frame(codes.XID_PING, codes.OP_PING))
    ensemble.pump()
    assert xids(client) == [1, codes.XID_PING]
    assert client.reply(1).err == errors.MARSHALLING_ERROR


def test_no_write_overtakes_a_sync_when_a_client_has_to_authenticate_first() -> None:
    """W4: such requests are read where the rare ones are."""
    ensemble = Ensemble(schemes=("digest",))
    client = ensemble.joined(ensemble.followers[0])
    auth = request_frame(codes.XID_AUTH, codes.OP_AUTH, auth_body("digest", b"bob:pw"))
    write = request_frame(2, codes.OP_CREATE2, create_body(b"/a"))
    client.link.feed(auth + request_frame(1, codes.OP_SYNC, b"\0\0\0\1/") + write)
    ensemble.pump()
    assert xids(client) == [codes.XID_AUTH, 1, 2]


# Watches.


def test_watches_fire_on_every_server_before_the_reply_that_reveals_the_change() -> None:
    """E1, E3: the zxid in the event is the same everywhere."""
    ensemble = Ensemble()
    (follower,) = ensemble.followers
    clients = [ensemble.joined(ensemble.leader), ensemble.joined(follower)]
    clients[0].create(b"/a")
    ensemble.pump()
    for client in clients:
        client.get(b"/a", watch=True)
    clients[1].set_data(b"/a", b"new")
    clients[1].get(b"/a")
    ensemble.pump()
    assert clients[0].events == clients[1].events
    (event,) = clients[1].events
    assert (event.type, event.path, event.zxid) == (codes.EVENT_DATA_CHANGED, b"/a", clients[1].reply(2).zxid)
    assert clients[1].log.index(event) < clients[1].log.index(clients[1].reply(2))


# Sessions.


def test_a_session_of_a_follower_is_known_to_all_and_closed_by_its_client() -> None:
    ensemble = Ensemble(2)
    follower = ensemble.followers[0]
    client = ensemble.joined(follower)
    assert client.session_id >> 56 == follower.sid
    # It is that follower's from the beginning: nobody else may write in its name.
    ensemble.leader.replica.on_remote_request(1, client.session_id, 9, codes.OP_CREATE, create_body(b"/x"), [])
    ensemble.pump()
    assert b"/x" not in follower.tree.nodes
    client.create(b"/e", flags=EPHEMERAL)
    ensemble.pump()
    assert stat_of(client.reply(1)).ephemeral_owner == client.session_id
    for member in ensemble.members:
        assert member.sessions.timeouts == {client.session_id: TIMEOUT_MS}
    client.close_session()
    client.create(b"/late")
    ensemble.pump()
    assert [reply.err for reply in client.replies] == [errors.OK] * 2
    assert not client.is_open
    for member in ensemble.members:
        assert b"/e" not in member.tree.nodes
        assert b"/late" not in member.tree.nodes
        assert not member.sessions.timeouts
        assert not member.replica.homes
    same_trees(ensemble)


def test_requests_behind_a_handshake_wait_for_the_session() -> None:
    ensemble = Ensemble()
    (follower,) = ensemble.followers
    client = follower.client()
    client.open_session()
    client.create(b"/a")
    client.get(b"/a")
    ensemble.up(follower)
    assert len(ensemble.zab.log) == 1
    ensemble.pump()
    assert xids(client) == [1, 2]


def test_the_leader_expires_what_followers_do_not_hear_of() -> None:
    """S1, S2, S3: ephemerals go at one zxid, the connection without a word; who is heard of anywhere lives."""
    ensemble = Ensemble(2)
    silent = ensemble.joined(ensemble.followers[0])
    alive = [ensemble.joined(member) for member in ensemble.members]
    for number in range(3):
        silent.create(b"/e%d" % number, flags=EPHEMERAL)
    ensemble.tick(0)
    for _ in range(4):
        ensemble.tick(TICK_MS)
        for client in alive:
            client.ping()
    assert now(silent.is_open)
    before = ensemble.leader.tree.last_zxid
    for _ in range(2):
        ensemble.tick(TICK_MS)
        for client in alive:
            client.ping()
    assert ensemble.leader.tree.last_zxid == before + 1
    assert not silent.is_open
    assert all(client.is_open for client in alive)
    for member in ensemble.members:
        assert not member.tree.ephemerals
        assert silent.session_id not in member.sessions.timeouts
    same_trees(ensemble)


def test_sessions_from_before_are_watched_over_by_the_leader_alone() -> None:
    """S2: each has its full timeout from the beginning of the leader's term."""
    ensemble = Ensemble(timeouts={9: 4000})
    ensemble.tick(4000)
    assert ensemble.committed == []
    ensemble.tick(TICK_MS)
    assert len(ensemble.committed) == 1
    same_trees(ensemble)


def test_a_client_that_left_just_after_its_ping_was_heard_of() -> None:
    """S2: the leader's clock starts at the ping, not at the report before it."""
    ensemble = Ensemble()
    (follower,) = ensemble.followers
    client = ensemble.joined(follower)
    ensemble.ping()
    ensemble.tick(8000)
    client.ping()
    client.link.drop()
    for _ in range(4):
        ensemble.tick(TICK_MS)
    assert client.session_id in ensemble.leader.sessions.timeouts
    ensemble.tick(3 * TICK_MS)
    assert client.session_id not in ensemble.leader.sessions.timeouts


def test_only_who_was_heard_of_since_is_reported() -> None:
    ensemble = Ensemble()
    (follower,) = ensemble.followers
    client, waiting = ensemble.joined(follower), ensemble.joined(follower)
    fresh = follower.client()
    fresh.link.drop()
    assert [session for session, _ in follower.replica.take_touched()] == [client.session_id, waiting.session_id]
    assert follower.replica.take_touched() == []
    ensemble.pass_time(5)
    client.ping()
    # Who waits for a sync cannot be heard, whatever it sends.
    sync(waiting)
    follower.replica.take_touched()
    assert follower.replica.take_touched() == [(waiting.session_id, TIMEOUT_MS)]
    waiting.link.drop()
    client.link.drop()
    assert follower.replica.take_touched() == []


def test_a_session_moves_between_servers_and_its_old_connection_can_write_no_more() -> None:
    """S4. ZOOKEEPER-710: the loser is closed, not answered."""
    ensemble = Ensemble(2)
    old = ensemble.joined(ensemble.followers[0])
    old.create(b"/e", flags=EPHEMERAL)
    ensemble.pump()
    new = ensemble.moved(old, ensemble.followers[1], timeout_ms=8000)
    assert (new.session_id, new.timeout_ms, new.password) == (old.session_id, 8000, session_password(old.session_id))
    new.set_data(b"/e", b"new")
    old.set_data(b"/e", b"old")
    ensemble.pump()
    assert not old.is_open
    assert len(old.replies) == 1
    assert new.replies[-1].err == errors.OK
    third = ensemble.moved(new, ensemble.leader)
    new.set_data(b"/e", b"new")
    third.set_data(b"/e", b"third")
    ensemble.pump()
    assert not new.is_open
    assert third.replies[-1].err == errors.OK
    again = ensemble.moved(third, ensemble.followers[0])
    third.set_data(b"/e", b"third")
    ensemble.pump()
    assert not third.is_open
    again.get(b"/e")
    assert data_of(again.replies[-1]) == b"third"
    same_trees(ensemble)


def test_a_stale_revalidation_costs_a_connection_and_not_the_session() -> None:
    """ZOOKEEPER-2886: the leader took the wrong server for the owner, and a client of multis alone never got away."""
    ensemble = Ensemble(2)
    first, second = ensemble.followers
    start = ensemble.joined(first)
    start.link.drop()
    # It comes to the first server, whose question is slow, gives up and goes to the second one.
    given_up = first.client()
    given_up.resume_from(start)
    given_up.link.drop()
    client = second.client()
    client.resume_from(start)
    ensemble.up(second)
    ensemble.down(second)
    assert client.session_id
    ensemble.up(first)
    ensemble.down(first)
    assert given_up.connected is None
    assert client.session_id not in first.replica.homes
    client.multi((codes.OP_CREATE, create_body(b"/m")))
    ensemble.pump()
    assert not client.is_open
    assert client.replies == []
    back = ensemble.moved(client, second)
    back.multi((codes.OP_CREATE, create_body(b"/m")))
    ensemble.pump()
    assert back.replies[-1].err == errors.OK
    assert b"/m" in second.tree.nodes
    same_trees(ensemble)


def test_a_session_comes_back_to_the_same_follower_and_leaves_its_old_connection() -> None:
    """S4, one home; what was sent before is done."""
    ensemble = Ensemble()
    (follower,) = ensemble.followers
    old = ensemble.joined(follower)
    old.create(b"/a")
    new = follower.client()
    new.resume_from(old)
    new.create(b"/b")
    ensemble.pump()
    assert not old.is_open
    assert xids(new) == [2]
    assert b"/a" in follower.tree.nodes
    assert follower.replica.homes[old.session_id] is new.link.conn
    same_trees(ensemble)


def test_what_waits_on_an_old_connection_is_not_sent_behind_the_question_for_its_session() -> None:
    """Storm of real servers, seed 329, `bridge`: writes behind a sync were executed after later ones of their session.

    The follower had been cut off, and the client had been elsewhere meanwhile. It came back, the sync that it had given
    up was answered, and what waited behind it went to a leader who had just been told that the session was here again.
    """
    ensemble = Ensemble(2)
    first, second = ensemble.followers
    old = ensemble.joined(first)
    old.send(codes.OP_SYNC, b"\0\0\0\x01/")
    old.create(b"/late")
    elsewhere = second.client()
    elsewhere.resume_from(old)
    ensemble.up(second)
    ensemble.down(second)
    elsewhere.create(b"/later")
    ensemble.up(second)
    ensemble.commit()
    elsewhere.link.drop()
    back = first.client()
    back.resume_from(old)
    ensemble.up(first)
    ensemble.answer_syncs()
    # Both answers come at once, and the hub looks at syncs first.
    first.came.sort(key=lambda one: one[0] == "revalidated")
    ensemble.pump()
    assert back.is_open
    assert not old.is_open
    assert b"/later" in first.tree.nodes
    assert b"/late" not in first.tree.nodes
    same_trees(ensemble)


def test_two_connections_ask_for_one_session_and_the_last_one_has_it() -> None:
    ensemble = Ensemble()
    (follower,) = ensemble.followers
    start = ensemble.joined(follower)
    start.link.drop()
    clients = [follower.client() for _ in range(2)]
    for client in clients:
        client.resume_from(start)
    ensemble.pump()
    assert [client.is_open for client in clients] == [False, True]
    assert clients[1].session_id == start.session_id


@pytest.mark.parametrize("case", ["unknown", "closed", "password"])
def test_a_session_that_is_over_is_refused_by_a_follower(case: str) -> None:
    """S5, S6: a wrong password looks the same, and the leader is not even asked."""
    ensemble = Ensemble()
    (follower,) = ensemble.followers
    client = ensemble.joined(follower)
    session_id = client.session_id + (case == "unknown")
    if case == "closed":
        client.close_session()
        ensemble.pump()
    again = follower.client()
    password = b"wrong" if case == "password" else session_password(session_id)
    again.open_session(session_id=session_id, password=password)
    assert bool(follower.sent) == (case != "password")
    ensemble.pump()
    assert (again.session_id, again.timeout_ms, again.password) == (0, 0, bytes(16))
    assert not again.is_open
    follower.replica.on_revalidated(session_id, True)
    assert session_id not in follower.replica.homes or case == "password"


def test_a_client_that_has_seen_more_is_refused_by_a_follower_that_is_behind() -> None:
    """R2."""
    ensemble = Ensemble()
    (follower,) = ensemble.followers
    client = ensemble.joined(ensemble.leader)
    client.create(b"/a")
    ensemble.commit()
    again = follower.client()
    again.resume_from(client)
    assert not again.is_open
    assert not again.link.received
    ensemble.pump()
    assert ensemble.moved(client, follower).is_open


def test_a_session_that_the_leader_ends_takes_its_writes_under_way_along() -> None:
    """W10; one write has the xid of the leader's own closeSession, 0, and is no answer to it."""
    ensemble = Ensemble()
    (follower,) = ensemble.followers
    client = ensemble.joined(follower)
    client.send(codes.OP_CREATE, create_body(b"/late"), xid=0)
    client.create(b"/later")
    ensemble.leader.replica.close_session(client.session_id)
    ensemble.pump()
    assert not client.is_open
    assert client.replies == []
    assert len(ensemble.committed) == 4
    assert b"/late" not in follower.tree.nodes
    same_trees(ensemble)


def test_behind_a_write_that_came_too_late_nothing_is_answered() -> None:
    """W4: the session has moved, so its old connection goes without a word, also when it ends the session next."""
    ensemble = Ensemble(2)
    old = ensemble.joined(ensemble.followers[0])
    new = ensemble.moved(old, ensemble.followers[1])
    old.create(b"/late")
    old.get(b"/")
    old.send(codes.OP_CLOSE_SESSION)
    ensemble.pump()
    assert not old.is_open
    assert xids(old) == []
    assert not new.is_open, "the end of a session is not refused"
    same_trees(ensemble)


def test_a_late_write_of_the_old_connection_is_no_answer_to_one_with_its_number() -> None:
    """A client may number its requests anew when it moves: then two writes of a session have one number.

    The follower has the first one as a proposal before the leader lets the client move, and sees that it is older.
    """
    ensemble = Ensemble(2)
    first, second = ensemble.followers
    old = ensemble.joined(first)
    old.create(b"/old")
    ensemble.up(first)
    second.broadcast.proposed_zxid = ensemble.zab.proposed_zxid
    new = second.client()
    new.resume_from(old)
    ensemble.up(second)
    ensemble.down(second)
    old._xid = new._xid = 0
    new.create(b"/new")
    ensemble.commit()
    ensemble.down(second)
    assert b"/old" in second.tree.nodes
    assert new.replies == []
    ensemble.pump()
    assert [reply.body[4:8] for reply in new.replies] == [b"/new"]
    same_trees(ensemble)


def test_the_ids_of_sessions_that_others_gave_are_not_given_again() -> None:
    """S7."""
    ensemble = Ensemble()
    (follower,) = ensemble.followers
    follower.sessions.commit_create(follower.sessions.take_id() + 1, TIMEOUT_MS)
    (known,) = follower.sessions.timeouts
    assert follower.sessions.take_id() == known + 1


def test_containers_are_reaped_by_the_leader_alone() -> None:
    ensemble = Ensemble()
    client = ensemble.joined(ensemble.followers[0])
    client.send(codes.OP_CREATE_CONTAINER, create_body(b"/c", flags=codes.FLAG_CONTAINER))
    ensemble.pump()
    for _ in range(4):
        client.ping()
        ensemble.tick(4000)
    assert all(b"/c" not in member.tree.nodes for member in ensemble.members)
    same_trees(ensemble)


def test_a_role_that_is_over_answers_nobody_and_keeps_nothing_in_flight() -> None:
    ensemble = Ensemble()
    (follower,) = ensemble.followers
    clients = [ensemble.joined(member) for member in ensemble.members]
    for client in clients:
        client.create(b"/a", flags=EPHEMERAL)
    ensemble.up(follower)
    assert ensemble.leader.tree.staged
    for member in ensemble.members:
        member.replica.retire()
        member.flush()
    assert not ensemble.leader.tree.staged
    assert ensemble.leader.tree.staged_digest == ensemble.leader.tree.digest
    assert not any(client.is_open or client.replies for client in clients)
    assert not ensemble.leader.replica.proposals


def test_a_role_that_is_over_leaves_those_too_who_are_about_to_end_their_session() -> None:
    """The answer will never come: a client that waits for it would wait for as long as its own patience lasts."""
    ensemble = Ensemble()
    (follower,) = ensemble.followers
    client = ensemble.joined(follower)
    client.close_session()
    follower.replica.retire()
    follower.flush()
    assert not client.is_open
    assert client.replies == []
