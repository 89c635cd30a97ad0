"""Whole simulated ensembles, and how they are brought into known trouble."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from coati.server.replica import Replica
from coati.testing.cluster import ClusterConfig, SimCluster, SimMember
from coati.testing.server import SimClient
from coati.wire.quorum import LEADING, LOOKING
from coati.zab.learner import Learner


def start(seed: int = 1, **options: Any) -> SimCluster:
    cluster = SimCluster(ClusterConfig(**options), dice=Random(seed)).start()
    cluster.run_until(cluster.all_serve)
    return cluster


def leader_of(cluster: SimCluster) -> SimMember:
    leader = cluster.leader()
    assert leader is not None
    return leader


def joined(cluster: SimCluster, member: SimMember, timeout_ms: int = 10_000) -> SimClient:
    client = member.client(timeout_ms=timeout_ms)
    cluster.run_until(lambda: client.session_id != 0)
    return client


def fill(cluster: SimCluster, client: SimClient, count: int, *, start: int = 0, size: int = 10) -> None:
    """Creates so many znodes, all acknowledged."""
    for number in range(start, start + count):
        client.create(b"/n%d" % number, bytes(size))
    cluster.run_until(lambda: not client.is_open or bool(client.replies and client.replies[-1].xid == client._xid))
    assert [reply.err for reply in client.replies] == [0] * len(client.replies)


def answered(client: SimClient) -> Callable[[], bool]:
    """Something has been."""
    return lambda: bool(client.replies)


def somebody_leads(cluster: SimCluster) -> Callable[[], bool]:
    """And serves."""
    return lambda: cluster.leader() is not None


def replica_of(member: SimMember) -> Replica:
    """What serves its clients, as a member of an ensemble."""
    replica = member.driver.replica
    assert isinstance(replica, Replica), f"server {member.sid} does not serve"
    return replica


def converge(cluster: SimCluster) -> None:
    """All serve in the end, with the same tree, and nobody has died."""
    cluster.net.heal_all()
    cluster.run_until(cluster.all_serve)
    cluster.run_until(lambda: len({member.tree.last_zxid for member in cluster.members.values()}) == 1)
    for member in cluster.members.values():
        assert member.fatal == []
        assert member.tree.digest_mismatches == 0
    assert len({member.tree.digest for member in cluster.members.values()}) == 1


def isolate(cluster: SimCluster, member: SimMember) -> None:
    for other in cluster.members:
        if other != member.sid:
            cluster.net.cut(member.sid, other)
            cluster.net.cut(other, member.sid)


def cut_links(cluster: SimCluster, member: SimMember) -> None:
    """Its links break; a new one can be made at once."""
    for other in cluster.members:
        for link in cluster.net.links_between(member.sid, other):
            cluster.net.close(link)


def learner_in(member: SimMember, state: int) -> Callable[[], bool]:
    def holds() -> bool:
        role = member.hub.peer.role
        return isinstance(role, Learner) and role.state == state

    return holds


def learner_link(member: SimMember) -> int:
    """The link to its leader."""
    (link,) = member._ports._ends
    return link


def takes_snapshot(member: SimMember) -> bool:
    """Whether the store has let it begin."""
    receiver = member.hub._receiver
    return receiver is not None and receiver._stream is not None


def behind(**options: Any) -> tuple[SimCluster, SimMember]:
    """A follower that was away and comes back behind a leader that remembers little. It has just been started."""
    cluster = start(commit_log_count=2, **options)
    away = cluster.followers()[0]
    away.kill()
    client = joined(cluster, leader_of(cluster))
    fill(cluster, client, 300, size=5000)
    away.start()
    return cluster, away


def alone(cluster: SimCluster, *, count: int = 3) -> SimMember:
    """A leader that has logged what nobody else has, while the others have another leader, and wrote, too."""
    old = leader_of(cluster)
    client = joined(cluster, old)
    isolate(cluster, old)
    for number in range(count):
        client.create(b"/lost%d" % number)
    cluster.run_until(lambda: old.state == LOOKING)
    cluster.run_until(lambda: any(m.is_serving and m.state == LEADING for m in cluster.members.values()))
    fill(cluster, joined(cluster, leader_of(cluster)), 3)
    assert old.hub.peer.tail
    return old
