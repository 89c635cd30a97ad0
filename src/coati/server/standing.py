"""Standing: what the four-letter words show of a server's place in its ensemble.

Reads the peer, changes nothing. Sources: LeaderZooKeeperServer.registerMetrics, QuorumPeer.getDetailedPeerState,
QuorumZooKeeperServer.dumpMonitorValues.
"""

from __future__ import annotations

from coati.wire.quorum import OBSERVING
from coati.zab.leader import Leader
from coati.zab.peer import STATE_NAMES, Peer


class Standing:
    """One look at a peer that serves since `since_ms`. `proposal_sizes`: last, smallest and largest, -1 before any.

    `observed_sid`: whom an observer follows, None for others.
    """

    __slots__ = ("_gauges", "leads", "observed_sid", "peer_state", "proposal_sizes")

    def __init__(self, peer: Peer, since_ms: int, now_ms: int) -> None:
        role = peer.role
        # Words are answered only while somebody is served, and then it is always this.
        self.peer_state = f"{STATE_NAMES[peer.state].lower()} - broadcast"
        self.leads = isinstance(role, Leader)
        self.observed_sid: int | None = None
        self.proposal_sizes = (-1, -1, -1)
        self._gauges: dict[str, float] = {"quorum_size": len(peer.config.view.voters()), "uptime": now_ms - since_ms}
        if isinstance(role, Leader):
            self.proposal_sizes = (role.sizes.last, role.sizes.smallest, role.sizes.largest)
            self._gauges.update(leader_gauges(role), leader_uptime=now_ms - since_ms)
        elif role is not None and peer.state == OBSERVING:
            self.observed_sid = role.leader_sid

    def gauges(self) -> dict[str, float]:
        """Those of metricnames.GAUGES that depend on the role."""
        return self._gauges


def leader_gauges(role: Leader) -> dict[str, float]:
    """What a leader tells of its learners and proposals."""
    attendance = role.attendance
    followers = [attendance.by_link[link] for link in attendance.forwarding]
    return {
        "learners": len(attendance.by_link),
        "synced_followers": len(followers),
        "synced_non_voting_followers": len([learner for learner in followers if not learner.is_voter]),
        "synced_observers": len(attendance.observing),
        "pending_syncs": role.rounds.pending_count(),
        "last_proposal_size": role.sizes.last,
        "min_proposal_size": role.sizes.smallest,
        "max_proposal_size": role.sizes.largest,
    }
