"""Read-only mode: what a server without a quorum says, when it begins and ends, and that it writes nothing.

The bytes expected here are what Java 3.9.3 answered (tests/interop/test_read_only.py asks both again).
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from coati.core.sessions import session_password
from coati.core.tree import Tree, TreeConfig, pristine
from coati.server.config import ServerConfig
from coati.server.fourletter import NAMES, answer
from coati.server.pipeline import Conn
from coati.server.readonly import MAX_RUNS, MIN_GRACE_MS, GivenIds, ReadOnly
from coati.server.recovery import Loaded
from coati.server.view import LiveView
from coati.testing.cluster import ClusterConfig, SimCluster, SimMember
from coati.testing.server import DATA_DIR, SimClient, SimLink, connect_frame, create_body, data_of, request_frame
from coati.wire import codes
from coati.wire.jute import Writer
from coati.wire.quorum import LOOKING
from coati.wire.records import AuthPacket, TxnHeader
from coati.wire.txns import CloseSessionTxn, encode_txn
from coati.zab.quorum import Server, View
from tests.now import now
from tests.server.clusterkit import converge, fill, isolate, joined

NOT_READ_ONLY = -119
TICK_MS = 200


def start(kind: type[SimCluster] = SimCluster, **options: Any) -> SimCluster:
    cluster = kind(ClusterConfig(reads_alone=True, **options), dice=Random(1)).start()
    cluster.run_until(cluster.all_serve)
    return cluster


def connect(member: SimMember, **hello: Any) -> SimClient:
    """A client that will do with reads, unless it says otherwise; what it asked has been answered."""
    client = SimClient(SimLink(member, ("127.0.0.1", 40100)))
    client.open_session(**{"read_only": True, **hello})
    member.cluster.run(20)
    return client


def left_alone(cluster: SimCluster) -> SimMember:
    """The others die, and it gives up on them."""
    member = cluster.followers()[0]
    for other in cluster.members.values():
        if other is not member:
            other.kill()
    cluster.run_until(lambda: member.driver.is_read_only, step_ms=1)
    return member


def files(member: SimMember) -> dict[str, bytes]:
    """All that is on its disk."""
    directory = f"{DATA_DIR}/version-2"
    return {name: member.disk.open_read(f"{directory}/{name}").read(1 << 20) for name in member.disk.list(directory)}


@pytest.fixture(scope="module")
def alone() -> SimMember:
    """A server without a quorum, with two znodes of a session that lives."""
    cluster = start()
    client = joined(cluster, cluster.followers()[0])
    client.create(b"/a", b"data")
    client.create(b"/mine", flags=codes.FLAG_EPHEMERAL)
    cluster.run(100)
    return left_alone(cluster)


# When.


@pytest.mark.parametrize("tick_ms", [TICK_MS, 3000])
def test_it_begins_when_a_leader_has_been_looked_for_long_enough(tick_ms: int) -> None:
    cluster = start(tick_ms=tick_ms)
    member = cluster.followers()[0]
    for other in cluster.members.values():
        if other is not member:
            other.kill()
    cluster.run_until(lambda: member.state == LOOKING, step_ms=1)
    since_ms = cluster.clock.now_ms
    assert connect(member).connected is None
    cluster.run_until(lambda: member.driver.is_read_only, step_ms=1)
    assert 0 <= cluster.clock.now_ms - since_ms - max(MIN_GRACE_MS, tick_ms) <= 2


def test_it_begins_at_the_start_of_a_server_without_others() -> None:
    cluster = SimCluster(ClusterConfig(reads_alone=True))
    cluster.members[1].start()
    cluster.run(MIN_GRACE_MS - 10)
    assert not cluster.members[1].driver.is_read_only
    cluster.run(20)
    assert cluster.members[1].driver.is_read_only


def test_it_is_off_unless_asked_for() -> None:
    cluster = SimCluster().start()
    cluster.run_until(cluster.all_serve)
    member = cluster.followers()[0]
    for other in cluster.members.values():
        if other is not member:
            other.kill()
    cluster.run(10 * MIN_GRACE_MS)
    assert not member.driver.serves_clients


def test_clients_that_came_early_are_served_when_it_begins() -> None:
    cluster = SimCluster(ClusterConfig(reads_alone=True))
    member = cluster.members[1]
    member.start()
    cluster.run(1000)
    client = SimClient(SimLink(member, ("127.0.0.1", 40100)))
    cluster.run(1500)
    client.open_session(read_only=True)
    cluster.run(10)
    assert client.session_id != 0


def test_it_ends_when_there_is_a_leader_and_all_clients_are_to_come_anew() -> None:
    cluster = start()
    member = left_alone(cluster)
    client, silent = connect(member), SimClient(SimLink(member, ("127.0.0.1", 40101)))
    cluster.run(10)
    assert now(client.is_open)
    for other in cluster.members.values():
        if other is not member:
            other.start()
    converge(cluster)
    cluster.run(10)
    assert not client.is_open
    assert not silent.is_open
    assert not member.driver.is_read_only
    # Of its session nobody else has ever heard.
    back = SimClient(SimLink(member, ("127.0.0.1", 40102)))
    back.resume_from(client)
    cluster.run_until(lambda: back.connected is not None)
    assert back.session_id == 0


def test_another_tree_begins_it_anew() -> None:
    """A snapshot of the last leader may be in place only when the server looks for the next one already."""
    cluster = start()
    member = left_alone(cluster)
    client = connect(member)
    served = member.driver.replica
    member.hub._take(Loaded(pristine(TreeConfig()), {}, 0))
    member.hub.settle()
    cluster.run(10)
    assert not client.is_open
    assert isinstance(member.driver.replica, ReadOnly)
    assert member.driver.replica is not served
    assert member.driver.replica.tree is member.tree


# Who.


@pytest.mark.parametrize("hello", [{"read_only": False}, {"has_read_only": False}])
def test_who_wants_to_write_is_closed(alone: SimMember, hello: dict[str, object]) -> None:
    client = connect(alone, **hello)
    assert (client.is_open, client.connected) == (False, None)


def test_who_has_seen_more_is_closed(alone: SimMember) -> None:
    assert connect(alone, last_zxid=alone.tree.last_zxid).session_id != 0
    client = connect(alone, last_zxid=alone.tree.last_zxid + 1)
    assert (client.is_open, client.connected) == (False, None)


def test_a_session_is_local_and_the_flag_says_so(alone: SimMember) -> None:
    client = connect(alone, timeout_ms=5000)
    assert client.connected is not None
    assert client.connected.read_only
    assert client.timeout_ms == 5000
    assert client.password == session_password(client.session_id)
    assert client.session_id >> 56 == alone.sid
    assert client.session_id not in alone.hub.timeouts


def test_a_session_of_the_ensemble_is_closed_and_not_told_that_it_is_over(alone: SimMember) -> None:
    (session_id,) = alone.hub.timeouts
    for password in (session_password(session_id), bytes(16)):
        client = connect(alone, session_id=session_id, password=password)
        assert (client.is_open, client.connected) == (False, None)


def test_a_session_that_nobody_here_knows_may_live_elsewhere(alone: SimMember) -> None:
    """Java says that it is over (S1)."""
    client = connect(alone, session_id=77, password=session_password(77))
    assert (client.is_open, client.connected) == (False, None)


def test_a_wrong_password_gets_no_session(alone: SimMember) -> None:
    for session_id in (77, connect(alone).session_id):
        client = connect(alone, session_id=session_id, password=b"x" * 16)
        assert client.connected is not None
        assert (client.session_id, client.timeout_ms, client.password) == (0, 0, bytes(16))
        assert client.connected.read_only
        assert not client.is_open


def test_a_session_moves_to_the_connection_it_comes_back_on(alone: SimMember) -> None:
    old = connect(alone)
    new = connect(alone, session_id=old.session_id, password=old.password, timeout_ms=8000)
    assert (new.session_id, new.timeout_ms) == (old.session_id, 8000)
    assert (old.is_open, new.is_open) == (False, True)


def test_a_session_that_was_closed_is_over() -> None:
    member = left_alone(start())
    client = connect(member)
    xid = client.close_session()
    member.cluster.run(10)
    assert (client.reply(xid).err, client.reply(xid).zxid) == (0, member.tree.last_zxid)
    assert not client.is_open
    back = connect(member, session_id=client.session_id, password=client.password)
    assert back.connected is not None
    assert back.session_id == 0


def test_a_session_of_an_earlier_mode_is_over() -> None:
    cluster = start()
    member = left_alone(cluster)
    client = connect(member)
    others = [other for other in cluster.members.values() if other is not member]
    for other in others:
        other.start()
    converge(cluster)
    isolate(cluster, member)
    cluster.run_until(lambda: member.driver.is_read_only)
    back = connect(member, session_id=client.session_id, password=client.password)
    assert back.connected is not None
    assert back.session_id == 0


def test_a_session_expires_without_a_word() -> None:
    member = left_alone(start())
    client, lively = connect(member, timeout_ms=4000), connect(member, timeout_ms=4000)
    for _ in range(50):
        lively.ping()
        member.cluster.run(100)
    assert not client.is_open
    assert lively.is_open
    back = connect(member, session_id=client.session_id, password=client.password)
    assert back.connected is not None
    assert back.session_id == 0


@pytest.mark.parametrize("hello", [b"\0\0\0\4\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\0\0\0"])
def test_what_is_no_hello_is_closed(alone: SimMember, hello: bytes) -> None:
    client = SimClient(SimLink(alone, ("127.0.0.1", 40100)))
    client.link.feed(hello)
    alone.cluster.run(20)
    assert (client.is_open, client.connected) == (False, None)


def test_bytes_may_come_one_by_one(alone: SimMember) -> None:
    client = SimClient(SimLink(alone, ("127.0.0.1", 40100)))
    for byte in connect_frame(5000, read_only=True) + request_frame(codes.XID_PING, codes.OP_PING):
        client.link.feed(bytes([byte]))
        alone.cluster.run(1)
    assert [reply.xid for reply in client.replies] == [codes.XID_PING]


# What.


WRITES = (
    codes.OP_CREATE, codes.OP_CREATE2, codes.OP_CREATE_CONTAINER, codes.OP_CREATE_TTL, codes.OP_DELETE,
    codes.OP_SET_DATA, codes.OP_SET_ACL, codes.OP_MULTI, codes.OP_RECONFIG, codes.OP_SYNC, codes.OP_DELETE_CONTAINER,
)  # fmt: skip


@pytest.mark.parametrize("op", WRITES)
@pytest.mark.parametrize("body", [b"", create_body(b"/x")])
def test_writes_are_refused_unread_and_syncs_too(alone: SimMember, op: int, body: bytes) -> None:
    client = connect(alone)
    xid = client.send(op, body)
    alone.cluster.run(10)
    reply = client.reply(xid)
    assert (reply.err, reply.zxid, reply.body) == (NOT_READ_ONLY, alone.tree.last_zxid, b"")
    assert client.is_open


@pytest.mark.parametrize("op", [codes.OP_CHECK, codes.OP_CREATE_SESSION, 999])
def test_what_no_client_may_send_ends_the_connection(alone: SimMember, op: int) -> None:
    client = connect(alone)
    xid = client.send(op)
    alone.cluster.run(10)
    assert (client.reply(xid).err, client.reply(xid).zxid) == (-6, -1)
    assert not client.is_open


def test_a_frame_too_short_for_a_header_ends_the_connection(alone: SimMember) -> None:
    client = connect(alone)
    client.link.feed(b"\0\0\0\4abcd")
    alone.cluster.run(10)
    assert not client.is_open


def test_reads_are_answered_from_the_tree(alone: SimMember) -> None:
    client = connect(alone)
    get, exists, children, missing = (
        client.get(b"/a"), client.exists(b"/mine"), client.children(b"/"), client.get(b"/gone")
    )  # fmt: skip
    client.ping()
    alone.cluster.run(10)
    assert data_of(client.reply(get)) == b"data"
    assert [client.reply(xid).err for xid in (exists, children, missing)] == [0, 0, -101]
    assert {reply.zxid for reply in client.replies} == {alone.tree.last_zxid}


def test_one_can_authenticate(alone: SimMember) -> None:
    client = connect(alone)
    w = Writer()
    AuthPacket(0, "digest", b"me:secret").write(w)
    client.send(codes.OP_AUTH, w.getvalue(), xid=codes.XID_AUTH)
    alone.cluster.run(10)
    assert client.reply(codes.XID_AUTH).err == 0
    client.send(codes.OP_SASL)
    alone.cluster.run(10)
    assert not client.is_open


def test_watches_go_with_their_connection(alone: SimMember) -> None:
    served = alone.driver.replica
    assert served is not None
    before = served.watches.size()
    client = connect(alone)
    client.get(b"/a", watch=True)
    client.exists(b"/gone", watch=True)
    alone.cluster.run(10)
    assert served.watches.size() == before + 2
    client.link.drop()
    alone.cluster.run(10)
    assert served.watches.size() == before


def test_many_large_answers_come_in_turns() -> None:
    cluster = start()
    client = joined(cluster, cluster.followers()[0])
    client.create(b"/big", bytes(900_000))
    cluster.run(200)
    member = left_alone(cluster)
    reader = connect(member)
    xids = [reader.get(b"/big") for _ in range(20)]
    cluster.run(200)
    assert [reply.xid for reply in reader.replies] == xids


def test_four_letter_words_say_that_it_only_reads(alone: SimMember) -> None:
    """As Java 3.9.3: no peer state, no membership, and the sessions of the ensemble beside its own."""
    server = Server(1, "127.0.0.1", 2888, 3888)
    config = ServerConfig(my_id=1, ensemble=View.build([server], {}, {}))
    view = LiveView(config, alone.driver, alone.disk, alone.clock)
    view.is_running = True
    client = connect(alone)
    enabled = frozenset(NAMES.values())

    def ask(word: bytes) -> str:
        return b"".join(answer(word, enabled, view)).decode()

    assert ask(b"isro") == "ro"
    for word in (b"srvr", b"stat"):
        assert ask(word).split("\n")[1] == "READ-ONLY mode; serving only read-only clients"
        assert "\nMode: read-only\n" in ask(word)
    figures = dict(line.split("\t") for line in ask(b"mntr").splitlines())
    assert figures["zk_server_state"] == "read-only"
    assert "zk_peer_state" not in figures
    assert figures["zk_global_sessions"] == "1"
    assert int(figures["zk_local_sessions"]) >= 1
    assert "membership" not in ask(b"conf")
    dump = ask(b"dump")
    assert dump.index("Local Session Sets (") < dump.index(f"\t0x{client.session_id:x}\n")
    assert dump.index(f"\t0x{client.session_id:x}\n") < dump.index("Global Sessions(1):\n")


# The disk.


def lives_alone(cluster: SimCluster, member: SimMember) -> None:
    """Sessions are opened, write, close and expire there, and others do not live as long."""
    clients = [connect(member, timeout_ms=4000) for _ in range(3)]
    clients[0].create(b"/never")
    clients[0].set_data(b"/w0", b"never")
    clients[1].close_session()
    cluster.run(10_000)
    assert not any(client.is_open for client in clients)


def test_a_session_that_expires_without_a_quorum_leaves_no_trace() -> None:
    """Row 22, ZOOKEEPER-3526: the end of the session was logged with zxid 1, and later everything was cut off."""
    leaves_no_trace(SimCluster)


def leaves_no_trace(kind: type[SimCluster]) -> None:
    cluster = start(kind)
    member = cluster.followers()[0]
    writer = joined(cluster, member)
    fill(cluster, writer, 20)
    member = left_alone(cluster)
    before, zxid, timeouts = files(member), member.tree.last_zxid, dict(member.hub.timeouts)
    digest = member.tree.digest
    lives_alone(cluster, member)
    assert member.driver.is_read_only
    assert files(member) == before
    assert (member.tree.last_zxid, member.store.last_zxid, member.tree.digest) == (zxid, zxid, digest)
    assert member.hub.timeouts == timeouts
    for other in cluster.members.values():
        if other is not member:
            other.start()
    converge(cluster)
    back = SimClient(SimLink(member, ("127.0.0.1", 40102)))
    back.resume_from(writer)
    cluster.run_until(lambda: back.connected is not None)
    assert back.session_id == writer.session_id
    # Nothing was cut: what was there is the beginning of what is there now.
    after = files(member)
    for name, data in before.items():
        if name.startswith("log."):
            assert after[name].startswith(data.rstrip(b"\0"))


class LogsTheEnd(ReadOnly):
    """A planted mistake: the end of a session is logged, as by ZOOKEEPER-3526."""

    member: SimMember

    def _end_session(self, session_id: int, conn: Conn | None) -> None:
        super()._end_session(session_id, conn)
        zxid = self.member.store.last_zxid + 1
        header = TxnHeader(session_id, 0, zxid, self.member.clock.wall_ms(), codes.OP_CLOSE_SESSION)
        self.member.hub.outbox.log.append((zxid, encode_txn(header, CloseSessionTxn([]), None)))


def test_the_regression_finds_who_logs_the_end_of_a_session() -> None:
    class Member(SimMember):
        def _make_read_only(self, tree: Tree, timeouts: dict[int, int], given: GivenIds) -> ReadOnly:
            made = super()._make_read_only(tree, timeouts, given)
            made.__class__ = LogsTheEnd
            assert isinstance(made, LogsTheEnd)
            made.member = self
            return made

    class Cluster(SimCluster):
        member_type = Member

    with pytest.raises(AssertionError):
        leaves_no_trace(Cluster)


# Ids.


def test_runs_of_ids_are_remembered_the_last_ones_if_there_are_many() -> None:
    given = GivenIds()
    for first in range(0, 10 * (MAX_RUNS + 1), 10):
        for number in range(3):
            given.add(first + number)
    assert [0 in given, 10 in given, 12 in given, 13 in given, 10 * MAX_RUNS + 2 in given] == [
        *(False, True, True, False, True)
    ]
