"""A peer whose view may change, alone: what it takes over from votes. Whole servers: tests/server/test_reconfig.py."""

from __future__ import annotations

from coati.wire.quorum import LOOKING, Notification
from coati.zab.dynamic import DynamicPeer
from coati.zab.outbox import Outbox
from coati.zab.peer import Peer, PeerConfig
from coati.zab.quorum import View
from coati.zab.reconfig import Joint
from tests.zab.leaderkit import LIMITS, view_of


def peer_of(view: View, seen: View | None, *, is_dynamic: bool) -> Peer:
    return (DynamicPeer if is_dynamic else Peer)(
        PeerConfig(1, view, limits=LIMITS, is_dynamic=is_dynamic, seen=seen),
        Outbox(),
        last_zxid=0,
        accepted_epoch=0,
        current_epoch=0,
        read_log=lambda after: iter(()),
        diff_limit_bytes=lambda: 0,
        touched=list,
    )


def test_fixed_members_are_no_business_of_votes() -> None:
    """Z12, ZOOKEEPER-3829: without reconfigEnabled nobody's list is taken over."""
    peer = peer_of(view_of(3, version=1), None, is_dynamic=False)
    assert not isinstance(peer, DynamicPeer)
    peer.start(0)
    peer.on_vote(2, Notification(LOOKING, 2, 0, 1, 0, view_of(5, version=9).to_text()), 10)
    assert peer.in_force().voters() == [1, 2, 3]


def test_a_later_list_is_taken_over_and_one_that_was_seen_stays() -> None:
    peer = peer_of(view_of(3, version=1), view_of(5, version=7), is_dynamic=True)
    assert isinstance(peer, DynamicPeer)
    assert isinstance(peer.in_force(), Joint)
    peer.start(0)
    for sender, view in ((9, view_of(4, version=6)), (2, view_of(4, version=1))):
        peer.on_vote(sender, Notification(LOOKING, 2, 0, 1, 0, view.to_text()), 10)
        assert peer.view.version == 1
    peer.on_vote(2, Notification(LOOKING, 2, 0, 1, 0, view_of(4, version=6).to_text()), 10)
    assert (peer.view.version, peer.seen.version) == (6, 7)
    peer.on_vote(2, Notification(LOOKING, 2, 0, 1, 0, view_of(5, version=7).to_text()), 10)
    assert not isinstance(peer.in_force(), Joint)
    # What was seen before the committed one does not count.
    old = peer_of(view_of(3, version=8), view_of(5, version=7), is_dynamic=True)
    assert old.in_force().voters() == [1, 2, 3]
