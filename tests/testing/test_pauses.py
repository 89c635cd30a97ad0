"""Processes that are stopped and go on, in simulated ensembles, and epochs that end by their counter."""

from __future__ import annotations

from functools import partial
from random import Random

import pytest

from coati.core.sessions import session_password
from coati.testing import history
from coati.testing.check_sessions import SessionRules
from coati.testing.checkers import Rules, check
from coati.testing.cluster import SimCluster
from coati.testing.gate import DUE, ENDED, HEARD, SOON, Gate
from coati.testing.history import Trace
from coati.testing.reports import Reports
from coati.testing.server import SimClient, SimLink
from coati.wire import codes
from coati.wire.quorum import LEADING
from coati.wire.txns import CloseSessionTxn
from coati.wire.zxid import COUNTER_MAX, counter_of, epoch_of, make_zxid
from coati.zab.leader import Leader
from tests.server.clusterkit import joined, leader_of, start
from tests.testing.kit import ids_of
from tests.testing.script import BASE, Script

SYNC_MS = 1000


def has_session(client: SimClient) -> bool:
    return client.session_id != 0 or not client.is_open


def done(client: SimClient, xid: int, *, or_lost: bool = False) -> bool:
    return any(reply.xid == xid for reply in client.replies) or (or_lost and not client.is_open)


def converge(cluster: SimCluster) -> None:
    cluster.run_until(cluster.all_serve)
    cluster.run_until(lambda: len({(m.tree.last_zxid, m.tree.digest) for m in cluster.members.values()}) == 1)
    assert not any(member.fatal for member in cluster.members.values())


# The gate.


def test_a_process_that_goes_on_does_things_in_the_order_of_an_event_loop() -> None:
    gate, done = Gate(), []
    gate.enter(DUE, None, lambda: done.append("open"))
    gate.shut()
    for kind, source, name in (
        (DUE, None, "timer 1"),
        (HEARD, "a", "a1"),
        (HEARD, "b", "b1"),
        (ENDED, "a", "end"),
        (SOON, None, "soon"),
        (HEARD, "a", "a2"),
        (DUE, None, "timer 2"),
    ):
        gate.enter(kind, source, partial(done.append, name))
    assert done == ["open"]
    calls, ends = gate.open(Random(1))
    for call in [*calls, *ends]:
        call()
    assert done[1] == "soon"
    assert done[2:5] in (["a1", "a2", "b1"], ["b1", "a1", "a2"])
    assert done[5:] == ["timer 1", "timer 2", "end"]


def test_what_waited_for_a_process_that_is_killed_never_happens() -> None:
    gate = Gate()
    gate.shut()
    gate.enter(HEARD, "a", pytest.fail)
    gate.abandon()
    assert not gate.is_shut
    assert gate.open(Random(1)) == ([], [])


# Members that are stopped.


def test_a_follower_that_is_stopped_for_a_moment_stays_and_its_clients_are_answered() -> None:
    cluster = start()
    leader, follower = leader_of(cluster), cluster.followers()[0]
    writer, reader = joined(cluster, leader), joined(cluster, follower)
    role = follower.hub.peer.role
    follower.pause()
    asked = reader.create(b"/r")
    written = writer.create(b"/w")
    cluster.run(SYNC_MS // 2)
    assert done(writer, written)
    assert not done(reader, asked)
    assert reader.is_open
    assert follower.tree.last_zxid < leader.tree.last_zxid
    follower.go_on()
    cluster.run(SYNC_MS // 2)
    assert reader.reply(asked).err == 0
    assert follower.hub.peer.role is role
    converge(cluster)


def test_a_follower_that_is_stopped_for_long_is_let_go_and_comes_back() -> None:
    cluster = start()
    follower = cluster.followers()[0]
    role = follower.hub.peer.role
    follower.pause()
    writer = joined(cluster, leader_of(cluster))
    writer.create(b"/w")
    cluster.run(2 * SYNC_MS)
    assert len(cluster.net.links_between(follower.sid, leader_of(cluster).sid)) == 0
    follower.go_on()
    converge(cluster)
    assert follower.hub.peer.role is not role


def test_a_leader_that_was_stopped_answers_no_sync_and_no_write_of_its_epoch() -> None:
    """ZOOKEEPER-1675: the others have gone on, and it has not heard of it yet."""
    cluster = start()
    old = leader_of(cluster)
    stale = joined(cluster, old)
    old.pause()
    cluster.run_until(lambda: leader_of(cluster) is not old)
    new = leader_of(cluster)
    assert old.state == LEADING
    writer = joined(cluster, new)
    written = writer.create(b"/new")
    cluster.run_until(lambda: done(writer, written))
    sync = stale.send(codes.OP_SYNC, b"\x00\x00\x00\x01/")
    read = stale.get(b"/new")
    old.go_on()
    cluster.run(SYNC_MS)
    assert not done(stale, sync)
    assert not done(stale, read)
    assert not stale.is_open
    converge(cluster)


def test_a_leader_that_was_stopped_ends_no_session_of_a_later_epoch() -> None:
    """S1: the client has no zxid yet by which it could be known that the server is behind."""
    cluster = start(voters=5)
    old = leader_of(cluster)
    old.pause()
    cluster.run_until(lambda: leader_of(cluster) is not old)
    client = joined(cluster, leader_of(cluster))
    assert client.last_zxid == 0
    client.link.drop()
    back = SimClient(SimLink(old, ("127.0.0.1", 40001)))
    back.resume_from(client)
    old.go_on()
    cluster.run(SYNC_MS)
    assert back.connected is None
    converge(cluster)
    again = SimClient(SimLink(old, ("127.0.0.1", 40001)))
    again.resume_from(client)
    cluster.run(SYNC_MS)
    assert again.session_id == client.session_id


@pytest.mark.parametrize("at_leader", [True, False], ids=["its own client", "a follower"])
def test_a_leader_without_a_quorum_tells_nobody_that_a_session_is_over(at_leader: bool) -> None:
    """S1: there may be another one, who has opened it."""
    cluster = start(voters=5)
    leader, follower = leader_of(cluster), cluster.followers()[0]
    for other in cluster.followers()[1:]:
        cluster.net.cut(leader.sid, other.sid)
        cluster.net.cut(other.sid, leader.sid)
    client = SimClient(SimLink(leader if at_leader else follower, ("127.0.0.1", 40001)))
    unknown = BASE + 77
    client.open_session(session_id=unknown, password=session_password(unknown))
    cluster.run(SYNC_MS // 2)
    early = client.connected
    assert early is None
    cluster.net.heal_all()
    cluster.run(100)
    assert client.connected is not None
    assert client.connected.session_id == 0


def test_a_leader_that_was_stopped_hears_its_followers_before_sessions_expire() -> None:
    """S2: their clients were heard all the time, and nobody could tell the leader."""
    cluster = start(min_session_timeout_ms=500)
    leader, follower = leader_of(cluster), cluster.followers()[0]
    client, silent = follower.client(timeout_ms=500), follower.client(timeout_ms=500)
    cluster.run_until(lambda: client.session_id != 0 and silent.session_id != 0)
    role = leader.hub.peer.role
    leader.pause()
    for _ in range(9):
        client.ping()
        cluster.run(100)
    leader.go_on()
    for _ in range(10):
        cluster.run(100)
        client.ping()
    assert leader.hub.peer.role is role, "shorter than a syncLimit"
    assert list(leader.hub.timeouts_now()) == [client.session_id]
    assert client.is_open
    assert not silent.is_open


def test_a_learner_may_connect_to_a_leader_that_is_stopped() -> None:
    """The kernel takes the connection, and what is sent on it; it is greeted when the process goes on."""
    cluster = start(observers=1)
    leader = leader_of(cluster)
    observer = cluster.members[4]
    observer.kill()
    cluster.run(10)
    observer.start()
    cluster.run_until(lambda: observer.hub.peer.role is not None, step_ms=1)
    leader.pause()
    cluster.run_until(lambda: len(cluster.net.links_between(4, leader.sid)) == 1)
    assert not observer.is_serving
    cluster.run(100)
    leader.go_on()
    cluster.run_until(lambda: observer.is_serving)
    converge(cluster)


def test_a_socket_takes_so_much_and_the_rest_waits_with_its_sender() -> None:
    cluster = start()
    leader, follower = leader_of(cluster), cluster.followers()[0]
    cluster.net.socket_bytes = 5000
    writer = joined(cluster, leader)
    follower.pause()
    for number in range(8):
        writer.create(b"/n%d" % number, bytes(1000))
        cluster.run(25)
    (link,) = cluster.net.links_between(leader.sid, follower.sid)
    waiting = link.back.waiting_bytes + link.forward.waiting_bytes
    assert 3000 < waiting < 8000
    follower.go_on()
    cluster.run(100)
    assert link.back.waiting_bytes + link.forward.waiting_bytes == 0
    converge(cluster)


def test_a_process_may_be_killed_while_it_is_stopped() -> None:
    cluster = start()
    old = leader_of(cluster)
    client = joined(cluster, old)
    old.pause()
    client.create(b"/lost")
    SimLink(old, ("127.0.0.1", 40001))
    cluster.run(10)
    old.kill()
    cluster.run_until(lambda: cluster.leader() is not None)
    old.start()
    assert not old.is_paused
    converge(cluster)
    assert b"/lost" not in old.tree.nodes


# Epochs that end by their counter, and data from a time when one had.


def test_an_epoch_whose_counter_is_used_up_gives_way_to_the_next_under_load() -> None:
    """ZOOKEEPER-1277."""
    cluster = start(last_counter=20)
    first = leader_of(cluster).hub.peer.role
    assert isinstance(first, Leader)
    written = 0
    for number in range(60):
        cluster.run_until(cluster.all_serve)
        client = cluster.followers()[0].client()
        cluster.run_until(partial(has_session, client))
        xid = client.create(b"/n%d" % number)
        cluster.run_until(partial(done, client, xid, or_lost=True))
        written += done(client, xid)
    cluster.run_until(cluster.all_serve)
    last = leader_of(cluster).hub.peer.role
    assert "counter" in first.reason
    assert last is not None
    assert last.epoch >= first.epoch + 4
    assert written > 40
    converge(cluster)
    for member in cluster.members.values():
        assert max(counter_of(zxid) for zxid, _ in member.store.read_log(0)) == 19
        assert sum(path.startswith(b"/n") for path in member.tree.nodes) >= written


def test_data_that_ends_with_the_last_zxid_of_an_epoch_is_gone_on_from() -> None:
    last = make_zxid(7, COUNTER_MAX - 1)
    cluster = start(first_zxid=last)
    client = joined(cluster, cluster.followers()[0])
    xid = client.create(b"/n")
    cluster.run_until(lambda: done(client, xid))
    assert client.reply(xid).err == 0
    for member in cluster.members.values():
        zxids = [zxid for zxid, _ in member.store.read_log(last)]
        assert zxids[0] == make_zxid(8, 1)
        assert epoch_of(zxids[-1]) == 8
    converge(cluster)


# How it is judged.


def test_a_server_that_is_stopped_hears_of_nobody() -> None:
    """Its leader knows of a client what was heard when it went on, not what lay in its socket before (S2)."""
    traces = [
        Trace(0, 1, history.SERVING, epoch=1, is_leader=True),
        Trace(0, 2, history.SERVING, epoch=1),
        Trace(500, 1, history.REPORTED, epoch=1, count=400, acks=(2,)),
        Trace(700, 1, history.REPORTED, epoch=1, count=600, acks=(2,)),
    ]
    assert Reports(traces).is_known(2, 1, 300, 501)
    stopped = Reports(traces, {2: [(250, 450)]})
    assert stopped.is_known(2, 1, 200, 501)
    assert not stopped.is_known(2, 1, 300, 501)
    assert stopped.is_known(2, 1, 300, 701)
    assert Reports(traces, {1: [(250, 450)]}).is_known(1, 1, 300, 451)
    assert not Reports(traces, {1: [(250, 450)]}).is_known(1, 1, 300, 450)


def told_over(told_ms: int, *traces: Trace) -> list[str]:
    """A session expires at 2000 ms; its client is told so then."""
    script = Script()
    client = script.client()
    zxid = script.commit(client.session_id, 0, codes.OP_CLOSE_SESSION, CloseSessionTxn([]))
    script.now_ms = told_ms
    conn = script.history.connecting(1, session_id=client.session_id, last_zxid=0)
    script.history.connected(conn, 0, 0)
    all_traces = [Trace(0, 1, history.SERVING, epoch=1, is_leader=True), *traces]
    all_traces.append(Trace(2000, 1, history.COMMITTED, zxid))
    rules = Rules(sessions=SessionRules(reports=Reports(all_traces)))
    return ids_of(check(script.history, script.log, rules=rules))


def test_who_hears_of_its_end_before_that_is_committed_is_told_too_early() -> None:
    """S1: it takes a new session, and others see what the old one has left."""
    assert told_over(1999) == ["S1"]
    assert told_over(2000) == []
    # Who leads a later epoch has begun with all that was committed in this one.
    assert told_over(1999, Trace(1500, 2, history.SERVING, epoch=2, is_leader=True)) == []
    assert told_over(1499, Trace(1500, 2, history.SERVING, epoch=2, is_leader=True)) == ["S1"]
