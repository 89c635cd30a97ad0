"""What the staged regressions have in common: a client that writes all the time, and ensembles in known trouble."""

from __future__ import annotations

from coati.testing.cluster import SimCluster, SimMember
from coati.testing.server import Reply, SimClient
from coati.zab.peer import STATE_NAMES
from tests.server.clusterkit import converge, joined


class Writer:
    """A client that creates one znode after another without waiting; `acked` is what it was told is there."""

    def __init__(self, cluster: SimCluster, member: SimMember, base: bytes = b"/w") -> None:
        self.cluster = cluster
        self.client = joined(cluster, member)
        self.sent: dict[int, bytes] = {}
        self._base = base

    def write(self, count: int = 1, data: bytes = b"x") -> None:
        """So many requests leave."""
        for _ in range(count):
            path = b"%s%d" % (self._base, len(self.sent))
            self.sent[self.client.create(path, data)] = path

    def write_for(self, duration_ms: int, each_ms: int = 2) -> None:
        """One request every few ms of the time."""
        for _ in range(duration_ms // each_ms):
            self.write()
            self.cluster.run(each_ms)

    @property
    def acked(self) -> list[bytes]:
        answers = [reply for reply in self.client.replies if reply.xid in self.sent]
        assert [reply.err for reply in answers] == [0] * len(answers)
        return [self.sent[reply.xid] for reply in answers]


def answer(cluster: SimCluster, client: SimClient, xid: int) -> Reply:
    """The reply to a request, once it is there."""
    replies: list[Reply] = []

    def is_there() -> bool:
        replies[:] = [reply for reply in client.replies if reply.xid == xid]
        return bool(replies)

    cluster.run_until(is_there, step_ms=1)
    return replies[0]


def has_all(member: SimMember, paths: list[bytes]) -> None:
    """Nothing of it is missing."""
    missing = [path for path in paths if path not in member.tree.nodes]
    assert not missing, f"server {member.sid}, {STATE_NAMES[member.state]}, lacks {len(missing)} of {len(paths)}"


def all_have(cluster: SimCluster, paths: list[bytes]) -> None:
    """All servers are of one mind, and nothing of it is missing anywhere."""
    converge(cluster)
    for member in cluster.members.values():
        has_all(member, paths)


def restarted(cluster: SimCluster, member: SimMember) -> None:
    """Its process ends and begins again: it has what its disk has."""
    member.kill()
    member.start()
    cluster.run_until(cluster.all_serve)
