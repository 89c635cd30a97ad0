"""Reconfig: the hub of an ensemble whose members may change, and what it does with their lists.

What the peer has activated goes into the tree, and into the files; what it has seen goes into a file of its own, before
it is acknowledged. The log has it as well: the last reconfig in the tree was seen, though it may not be committed.
Sources: QuorumPeer (setQuorumVerifier, setLastSeenQuorumVerifier, initConfigInZKDatabase).
"""

from __future__ import annotations

from typing import Protocol

from coati.core.tree import CONFIG, Tree, show_config
from coati.errors import ProtocolError
from coati.seams import Clock
from coati.server.hub import Hub, HubParts
from coati.server.recovery import Loaded
from coati.storage.store import Store
from coati.zab.broadcast import Broadcast
from coati.zab.dynamic import DynamicLeader, DynamicPeer
from coati.zab.outbox import NOTHING
from coati.zab.peer import PeerConfig
from coati.zab.quorum import View


class Keeper(Protocol):
    """What the shell does with views."""

    def on_activated(self, view: View) -> None:
        """It is committed: durable when this returns, and nothing that was seen before counts any more."""

    def on_seen(self, view: View) -> None:
        """It may become the next: durable when this returns."""

    def on_in_force(self, view: View) -> None:
        """Whom to connect to from now on."""


class DynamicHub(Hub):
    """One member of an ensemble whose members may change."""

    def __init__(
        self, config: PeerConfig, loaded: Loaded, store: Store, clock: Clock, parts: HubParts, *, keeper: Keeper
    ) -> None:
        self._keeper = keeper
        self._peer_config = config
        # The versions of the views that the shell was told.
        self._known = (NOTHING, NOTHING)
        super().__init__(config, loaded, store, clock, parts)

    def _take(self, loaded: Loaded) -> None:
        """A list in the tree that is later than this server's was logged here, or is that of the leader."""
        config, found = self._peer_config, view_in(loaded.tree)
        if found is None or found.version <= self._view.version:
            super()._take(loaded)
            return
        self.tree = loaded.tree
        self.timeouts = loaded.timeouts
        if config.seen is None or found.version > config.seen.version:
            # Read by the peer when it begins; later on it knows by itself.
            config.seen = found

    def _begin_serving(self) -> None:
        super()._begin_serving()
        self._settle_views()

    def _talk(self) -> None:
        self._settle_views()
        super()._talk()

    def _settle_views(self) -> None:
        peer = self.peer
        assert isinstance(peer, DynamicPeer), "made for it"
        views, peer.views = peer.views, []
        for view, has_txn in views:
            self._view = view
            if not has_txn:
                show_config(self.tree, view.to_text(), view.version)
            self._keeper.on_activated(view)
        known = (peer.view.version, peer.seen.version)
        if known != self._known:
            self._known = known
            if peer.seen.version > peer.view.version:
                self._keeper.on_seen(peer.seen)
            self._keeper.on_in_force(peer.in_force())


def view_in(tree: Tree) -> View | None:
    """The list of servers in the config znode; None if there is none that can be read."""
    node = tree.nodes.get(CONFIG)
    text = None if node is None else node.data()
    try:
        return View.from_text(text) if text else None
    except ProtocolError:
        return None


def planner_of(role: Broadcast) -> DynamicLeader | None:
    """Who answers a client that wishes for other members."""
    return role if isinstance(role, DynamicLeader) else None
