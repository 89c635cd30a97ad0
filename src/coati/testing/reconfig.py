"""A simulated ensemble whose members may change: what each of them keeps of views outlives its processes.

A member may be added that is in nobody's view yet, with the list that an operator would give it.
"""

from __future__ import annotations

from coati.core.acl import Access, AccessConfig
from coati.core.prepare import PrepareConfig, Preparer
from coati.core.sessions import SessionTable
from coati.core.tree import Tree
from coati.server.hub import Hub, HubParts
from coati.server.reconfig import DynamicHub, planner_of
from coati.server.recovery import Loaded
from coati.testing.cluster import SimCluster, SimMember
from coati.zab.broadcast import Broadcast
from coati.zab.dynamic import DynamicPeer
from coati.zab.peer import PeerConfig
from coati.zab.quorum import Server, View


class SimKeeper:
    """Two files in memory: the view that was activated last, and a later one that was seen."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.seen: View | None = None
        self.in_force = view

    def on_activated(self, view: View) -> None:
        self.view = view
        self.seen = None

    def on_seen(self, view: View) -> None:
        self.seen = view

    def on_in_force(self, view: View) -> None:
        self.in_force = view


class DynamicMember(SimMember):
    """A member whose clients may all reconfigure."""

    access_config = AccessConfig(skip_acl=True)

    def __init__(self, cluster: SimCluster, sid: int) -> None:
        super().__init__(cluster, sid)
        self.keeper = SimKeeper(cluster.view)

    @property
    def peer(self) -> DynamicPeer:
        peer = self.hub.peer
        assert isinstance(peer, DynamicPeer), "made for it"
        return peer

    def make_peer_config(self) -> PeerConfig:
        config = super().make_peer_config()
        config.view = self.keeper.view
        config.seen = self.keeper.seen
        config.is_dynamic = True
        return config

    def make_hub(self, peer_config: PeerConfig, loaded: Loaded, parts: HubParts) -> Hub:
        return DynamicHub(peer_config, loaded, self.store, self.clock, parts, keeper=self.keeper)

    def make_preparer(self, tree: Tree, sessions: SessionTable, access: Access, broadcast: Broadcast) -> Preparer:
        return Preparer(tree, sessions, access, PrepareConfig(reconfig_enabled=True), planner_of(broadcast))


class DynamicCluster(SimCluster):
    """Members that may come and go."""

    member_type = DynamicMember

    def add(self, sid: int, *, is_observer: bool = False) -> DynamicMember:
        """A member that is in its own list only; not started."""
        servers = [*self.view.servers.values(), server(sid, is_observer=is_observer)]
        member = DynamicMember(self, sid)
        member.keeper.view = View.build(servers, {}, {})
        self.members[sid] = member
        return member


def server(sid: int, *, is_observer: bool = False) -> Server:
    """Its line, with a client port, as a reconfig wants it."""
    return Server(sid, "127.0.0.1", 2888, 3888, is_observer=is_observer, client="0.0.0.0:2181")
