"""Whole simulated servers whose members change, and what is asked of them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from coati.core.tree import CONFIG
from coati.server.reconfig import view_in
from coati.testing.cluster import ClusterConfig
from coati.testing.reconfig import DynamicCluster, DynamicMember, server
from coati.wire import codes
from coati.zab.quorum import View
from tests.server.clusterkit import joined

REPLY_MS = 20_000


def text(value: str | None) -> bytes:
    return b"\xff\xff\xff\xff" if value is None else len(value).to_bytes(4, "big") + value.encode()


def body(
    joining: str | None = None, leaving: str | None = None, members: str | None = None, version: int = -1
) -> bytes:
    """A ReconfigRequest."""
    return text(joining) + text(leaving) + text(members) + version.to_bytes(8, "big", signed=True)


def line(sid: int, *, is_observer: bool = False) -> str:
    return f"server.{sid}={server(sid, is_observer=is_observer).to_text()}"


def start(seed: int = 1, *, cluster_type: type[DynamicCluster] = DynamicCluster, **options: object) -> DynamicCluster:
    cluster = cluster_type(ClusterConfig(**options), dice=Random(seed))  # type: ignore[arg-type]  # options by name
    cluster.start()
    cluster.run_until(cluster.all_serve)
    return cluster


def member(cluster: DynamicCluster, sid: int) -> DynamicMember:
    found = cluster.members[sid]
    assert isinstance(found, DynamicMember)
    return found


def leader_of(cluster: DynamicCluster) -> DynamicMember:
    leader = cluster.leader()
    assert isinstance(leader, DynamicMember), str(cluster)
    return leader


def send(cluster: DynamicCluster, at: DynamicMember, request: bytes) -> Callable[[], tuple[int, bytes] | None]:
    """Sends a reconfig; what comes back asks for the reply: error and list of servers."""
    client = joined(cluster, at)
    xid = client.send(codes.OP_RECONFIG, request)

    def answer() -> tuple[int, bytes] | None:
        for reply in client.replies:
            if reply.xid == xid:
                return reply.err, reply.body[4:-68]
        return None

    return answer


def change(cluster: DynamicCluster, at: DynamicMember, request: bytes) -> View:
    """A reconfig that is done: its view, which all that run have in the end."""
    answer = send(cluster, at, request)
    cluster.run_until(lambda: answer() is not None, REPLY_MS)
    told = answer()
    assert told is not None
    assert told[0] == 0
    view = View.from_text(told[1])
    cluster.run_until(lambda: agree(cluster, view.version), 60_000)
    return view


def agree(cluster: DynamicCluster, version: int) -> bool:
    """All that run serve, with that list in force, in files and tree."""
    for found in cluster.members.values():
        assert isinstance(found, DynamicMember)
        if not found.is_up:
            continue
        shown = view_in(found.tree)
        if not found.is_serving or found.peer.view.version != version or found.keeper.view.version != version:
            return False
        if shown is None or shown.version != version or found.peer.seen.version != version:
            return False
    return cluster.leader() is not None


def settle(cluster: DynamicCluster) -> None:
    """All that run have the same tree, its list of servers included, and nobody has died."""
    cluster.net.heal_all()
    up = [found for found in cluster.members.values() if found.is_up]
    cluster.run_until(cluster.all_serve, 120_000)
    cluster.run_until(lambda: len({found.tree.last_zxid for found in up}) == 1, 60_000)
    for found in cluster.members.values():
        assert found.fatal == []
        assert found.tree.digest_mismatches == 0
    assert len({found.tree.digest for found in up}) == 1
    cluster.run_until(lambda: len({found.tree.nodes[CONFIG].data() for found in up}) == 1, 60_000)
