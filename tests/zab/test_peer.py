"""The peer: one server's roles, one after the other, and what goes from each into the next.

Election, leader and learner are the real ones; the other servers, the network and the disk are the test.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coati.wire.quorum import (
    ACK,
    ACKEPOCH,
    COMMIT,
    DIFF,
    FOLLOWERINFO,
    FOLLOWING,
    LEADERINFO,
    LEADING,
    LOOKING,
    NEWLEADER,
    OBSERVING,
    PROPOSAL,
    SNAP,
    TRUNC,
    UPTODATE,
    Notification,
    Packet,
    PacketReader,
    encode_int,
    encode_learner_info,
)
from coati.wire.zxid import COUNTER_MAX, make_zxid
from coati.zab.broadcast import Limits
from coati.zab.leader import Leader
from coati.zab.learner import DIALING, Learner
from coati.zab.outbox import NOTHING, Outbox
from coati.zab.peer import NOWHERE_ZXID, Entry, Peer, PeerConfig
from tests.now import now
from tests.zab.leaderkit import view_of
from tests.zab.learnerkit import payload, z

TICK_MS = 100
LIMITS = Limits(tick_ms=TICK_MS, init_ticks=10, sync_ticks=5)
INIT_MS = TICK_MS * LIMITS.init_ticks
DIFF_LIMIT = 1 << 20


class Bench:
    """Server `sid`, whose log ends at 1:3, all of it delivered, in the epoch 1. Its disk is as slow as the test."""

    def __init__(self, sid: int = 1, *, voters: int = 3, observers: int = 0, last: int = z("1:3")) -> None:
        self.outbox = Outbox()
        self.now_ms = 5000
        self.others = [other for other in range(1, voters + 1) if other != sid]
        self.delivered: list[Entry] = []
        self.peer = Peer(
            PeerConfig(sid, view_of(voters, observers), limits=LIMITS),
            self.outbox,
            last_zxid=last,
            accepted_epoch=1,
            current_epoch=1,
            read_log=self.read_log,
            diff_limit_bytes=lambda: DIFF_LIMIT,
            touched=list,
        )
        self.peer.start(self.now_ms)

    def read_log(self, after: int) -> Iterator[Entry]:
        """Nothing is read in these tests but by who leads an empty history."""
        return iter(())

    # The election.

    def vote(self, sender: int, leader: int, *, zxid: int = 0, epoch: int = 0, rounds: int = 0) -> None:
        """A server looks, and votes; `rounds` after this one's."""
        n = Notification(LOOKING, leader, zxid, self.peer.election.round + rounds, epoch, None)
        self.peer.on_vote(sender, n, self.now_ms)

    def elect(self, leader: int) -> Bench:
        """All others vote for it, which has the best history if it is another one."""
        peer = self.peer
        zxid, epoch = peer.logged_zxid, peer.current_epoch
        if leader != peer.config.sid:
            zxid, epoch = zxid + 100, epoch + 100
        for other in self.others:
            self.vote(other, leader, zxid=zxid, epoch=epoch)
        return self

    # What comes on a link.

    def say(self, link: int, kind: int, zxid: int = 0, data: bytes | None = None) -> Bench:
        self.peer.on_packets(link, [Packet(kind, zxid, data)], self.now_ms)
        return self

    def propose(self, link: int, *zxids: int) -> Bench:
        for zxid in zxids:
            self.say(link, PROPOSAL, zxid, payload(zxid))
        return self

    def commit(self, link: int, *zxids: int) -> Bench:
        for zxid in zxids:
            self.say(link, COMMIT, zxid)
        return self

    # The disk and the tree.

    def sync(self) -> Bench:
        """What is to be logged is durable."""
        entries, self.outbox.log = self.outbox.log, []
        if entries:
            self.peer.on_synced(entries[-1][0], self.now_ms)
        return self

    def write_epochs(self) -> Bench:
        outbox, peer = self.outbox, self.peer
        accepted = max(outbox.accepted_epoch, peer.accepted_epoch)
        current = max(outbox.current_epoch, peer.current_epoch)
        outbox.accepted_epoch = outbox.current_epoch = NOTHING
        peer.on_epochs(accepted, current, self.now_ms)
        return self

    def take(self) -> list[int]:
        """What goes to the tree."""
        entries = self.peer.take_deliveries()
        self.delivered += entries
        zxids = [zxid for zxid, _ in self.delivered]
        assert zxids == sorted(set(zxids)), "each txn once, in order"
        return [zxid for zxid, _ in entries]

    # Roles.

    def follow(self, link: int, leader: int, epoch: int, *, upto: int = UPTODATE) -> Bench:
        """Up to ACKEPOCH, or to UPTODATE after an empty DIFF."""
        self.elect(leader).peer.on_link(link, self.now_ms)
        self.say(link, LEADERINFO, make_zxid(epoch, 0), encode_int(0x10000)).write_epochs()
        if upto == ACKEPOCH:
            return self
        return self.serve(link, epoch)

    def serve(self, link: int, epoch: int) -> Bench:
        """From DIFF on."""
        self.say(link, DIFF, self.peer.logged_zxid)
        self.say(link, NEWLEADER, make_zxid(epoch, 0), b"version=0").sync().write_epochs()
        return self.say(link, UPTODATE, -1)

    def lead(self, link: int) -> Bench:
        """Elected, and followed by server 1 on the link."""
        self.elect(self.peer.config.sid).join(link)
        assert self.peer.is_serving
        return self

    def join(self, link: int, sid: int = 1, last: int = z("1:3")) -> Bench:
        role = self.leader()
        self.peer.on_link(link, self.now_ms)
        self.say(link, FOLLOWERINFO, make_zxid(1, 0), encode_learner_info(sid, 0)).write_epochs()
        self.say(link, ACKEPOCH, last, encode_int(1)).write_epochs()
        return self.say(link, ACK, make_zxid(role.epoch, 0))

    def lose(self, link: int) -> Bench:
        self.peer.on_link_lost(link, self.now_ms)
        return self

    def leader(self) -> Leader:
        role = self.peer.role
        assert isinstance(role, Leader)
        return role

    def learner(self) -> Learner:
        role = self.peer.role
        assert isinstance(role, Learner)
        return role

    def wait(self, ms: int) -> Bench:
        """Time passes; the peer is called when it wants to be."""
        end_ms = self.now_ms + ms
        while (due_ms := self.peer.next_deadline_ms()) is not None and due_ms <= end_ms:
            self.now_ms = max(due_ms, self.now_ms + 1)
            self.peer.on_tick(self.now_ms)
        self.now_ms = end_ms
        return self

    def answer_to(self, sid: int) -> Notification:
        """What a server that looks is told."""
        self.outbox.votes.clear()
        self.vote(sid, sid)
        return dict(self.outbox.votes)[sid]


# One role after the other.


def test_a_follower_serves_until_its_leader_is_gone() -> None:
    bench = Bench()
    peer = bench.peer
    assert (peer.state, peer.role, peer.is_serving) == (LOOKING, None, False)
    bench.follow(7, 3, 2)
    assert (peer.state, peer.is_serving, bench.outbox.dials) == (FOLLOWING, True, [3])
    term = peer.term
    bench.lose(7)
    assert (peer.state, peer.role, peer.is_serving, peer.term) == (LOOKING, None, False, term + 1)
    assert peer.over_reason == "the link to the leader is lost"


def test_an_observer_observes() -> None:
    bench = Bench(4, observers=1)
    for sid in (1, 2, 3):
        n = Notification(LEADING if sid == 3 else FOLLOWING, 3, z("1:3"), 1, 1, None)
        bench.peer.on_vote(sid, n, bench.now_ms)
    assert bench.peer.state == OBSERVING
    assert bench.learner().is_observer


def test_a_leader_serves_until_nobody_follows() -> None:
    bench = Bench(3).lead(9)
    assert bench.peer.state == LEADING
    bench.lose(9).wait(TICK_MS)
    assert (bench.peer.state, bench.peer.role) == (LOOKING, None)


def test_who_is_alone_leads_at_once() -> None:
    bench = Bench(voters=1)
    assert (bench.peer.state, bench.peer.is_serving) == (LEADING, False)
    bench.write_epochs().write_epochs()
    assert bench.peer.is_serving
    role = bench.leader()
    role.propose(role.next_zxid(), payload(z("2:1")))
    bench.sync()
    assert bench.take() == [z("2:1")]


def test_who_is_alone_leads_again_when_the_numbers_are_used_up() -> None:
    """ZOOKEEPER-1277. What was proposed and is not durable is not lost on the way."""
    bench = Bench(voters=1, last=z("1:3")).write_epochs().write_epochs()
    role = bench.leader()
    role.proposed_zxid = make_zxid(2, COUNTER_MAX - 2)
    last = make_zxid(2, COUNTER_MAX - 1)
    role.propose(last, payload(last))
    role.propose(role.next_zxid(), b"one too many")
    bench.wait(TICK_MS)
    assert bench.leader() is not role
    assert (bench.leader().epoch, bench.peer.logged_zxid) == (3, last)
    # What the next leader begins with is its own history.
    assert bench.take() == [last]
    assert not bench.peer.is_serving
    # Not before it is durable is the epoch asked for.
    bench.write_epochs()
    assert bench.outbox.current_epoch == NOTHING
    bench.sync().write_epochs()
    assert bench.peer.is_serving


def test_who_looks_is_told_the_leaders_new_epoch() -> None:
    """QuorumPeer.updateElectionVote: late joiners compare it with what the others say."""
    bench = Bench(3).elect(3)
    assert bench.answer_to(1).peer_epoch == 1
    bench.join(9)
    n = bench.answer_to(2)
    assert (n.state, n.leader, n.peer_epoch) == (LEADING, 3, 2)


def test_who_looks_says_so_again() -> None:
    bench = Bench()
    bench.outbox.votes.clear()
    bench.wait(200)
    assert [sid for sid, _ in bench.outbox.votes] == [2, 3]


def test_a_role_that_ended_by_its_own_server_is_left_at_the_next_tick() -> None:
    """The hub refuses a leader without a packet for the peer: nothing else would wake it up."""
    bench = Bench().follow(7, 3, 2)
    bench.learner().refuse("it talks nonsense")
    bench.wait(1)
    assert (bench.peer.role, bench.peer.over_reason) == (None, "it talks nonsense")


def test_deadlines_are_those_of_election_or_role() -> None:
    bench = Bench()
    assert bench.peer.next_deadline_ms() == bench.now_ms + 200
    bench.elect(3)
    assert bench.peer.next_deadline_ms() == bench.learner().next_deadline_ms() == bench.now_ms + INIT_MS


# What one role leaves to the next.


def unfinished(*, synced: bool = True) -> Bench:
    """A follower of server 3 that is in the epoch 2, has logged 2:1 to 2:3, and lost its leader. 2:1 was committed."""
    bench = Bench().follow(7, 3, 2)
    bench.propose(7, z("2:1"), z("2:2"), z("2:3"))
    if synced:
        bench.sync()
    bench.commit(7, z("2:1"))
    return bench.lose(7)


def test_what_was_logged_and_not_committed_comes_with_the_next_leader() -> None:
    """ZOOKEEPER-2845, 5094: it is in the log, so it must be in the tree as soon as the leader's history has it."""
    bench = unfinished()
    peer = bench.peer
    assert (peer.logged_zxid, [zxid for zxid, _ in peer.tail]) == (z("2:3"), [z("2:2"), z("2:3")])
    # It votes with what it has logged, as after a restart.
    assert peer.election.vote.zxid == z("2:3")
    assert bench.take() == [z("2:1")]
    # The DIFF goes on behind it, and so 2:2 and 2:3 are part of the leader's history.
    bench.follow(8, 3, 3)
    assert bench.take() == [z("2:2"), z("2:3")]
    assert peer.delivered_zxid == z("2:3")


def test_what_a_role_has_delivered_may_be_taken_in_the_next() -> None:
    bench = unfinished()
    bench.follow(8, 3, 3, upto=ACKEPOCH)
    assert bench.learner().delivered_zxid == z("2:1")
    bench.serve(8, 3)
    assert bench.take() == [z("2:1"), z("2:2"), z("2:3")]


def test_who_is_elected_delivers_what_it_has_logged() -> None:
    """Its history is what the others are to have."""
    bench = Bench(3)
    bench.follow(7, 2, 2).propose(7, z("2:1"), z("2:2")).sync().commit(7, z("2:1")).lose(7)
    bench.elect(3)
    assert bench.peer.tail == []
    assert bench.take() == [z("2:1"), z("2:2")]
    # And what is in memory for who comes: no hole, nothing twice.
    assert bench.peer.history.after(z("2:1")) == [(z("2:2"), payload(z("2:2")))]
    assert bench.peer.history.max_zxid == z("2:2")
    bench.join(9, last=z("2:1"))
    assert bench.peer.is_serving


def test_a_leader_that_wrote_nothing_ends_where_its_log_ends() -> None:
    """A vote for the beginning of its epoch, and no DIFF from there: nobody else has that zxid."""
    bench = Bench(3).lead(9).lose(9).wait(TICK_MS)
    assert bench.peer.logged_zxid == z("1:3")
    assert bench.peer.election.vote.zxid == z("1:3")
    bench.elect(3)
    assert bench.peer.history.after(z("1:3")) == []


def test_what_a_leader_had_proposed_stays_in_its_log() -> None:
    bench = Bench(3).lead(9)
    role = bench.leader()
    role.propose(z("2:1"), payload(z("2:1")))
    bench.sync().say(9, ACK, z("2:1"))
    role.propose(z("2:2"), payload(z("2:2")))
    bench.lose(9).wait(TICK_MS)
    assert (bench.peer.logged_zxid, bench.peer.synced_zxid) == (z("2:2"), z("2:1"))
    assert bench.take() == [z("2:1")]
    # 2:1 is committed: nobody may cut it off any more; 2:2 he may.
    bench.sync().follow(8, 2, 3, upto=ACKEPOCH).say(8, TRUNC, z("1:3"))
    assert bench.peer.role is None
    assert "committed" in bench.peer.over_reason
    bench.follow(10, 2, 4, upto=ACKEPOCH).say(10, TRUNC, z("2:1"))
    assert bench.outbox.truncate_to == z("2:1")


# Cutting.


def test_a_cut_within_the_tail_takes_nothing_from_the_tree() -> None:
    bench = unfinished()
    bench.take()
    bench.follow(8, 3, 3, upto=ACKEPOCH).say(8, TRUNC, z("2:2"))
    assert bench.outbox.truncate_to == z("2:2")
    bench.outbox.truncate_to = NOTHING
    bench.peer.on_truncated(z("2:2"), z("2:1"), bench.now_ms)
    bench.say(8, NEWLEADER, z("3:0"), b"version=0").write_epochs().say(8, UPTODATE, -1)
    assert bench.take() == [z("2:2")]
    assert bench.peer.history.max_zxid == z("2:2")


def test_a_cut_below_the_tail_takes_the_tree_back() -> None:
    """The driver has read it anew; what is in memory of the txns behind it is void."""
    bench = Bench().follow(7, 3, 2, upto=ACKEPOCH).say(7, DIFF, z("1:3")).propose(7, z("2:1")).sync().lose(7)
    # As committed counts only what this process has delivered; the tree of 1:3 is from the disk.
    bench.follow(8, 3, 3, upto=ACKEPOCH).say(8, TRUNC, z("1:2"))
    bench.peer.on_truncated(z("1:2"), z("1:2"), bench.now_ms)
    peer = bench.peer
    assert (peer.logged_zxid, peer.delivered_zxid, peer.synced_zxid) == (z("1:2"),) * 3
    assert peer.history.max_zxid == z("1:2")
    bench.propose(8, z("1:3")).commit(8, z("1:3"))
    bench.say(8, NEWLEADER, z("3:0"), b"version=0").sync().write_epochs().say(8, UPTODATE, -1)
    assert bench.take() == [z("1:3")]


def told(bench: Bench) -> tuple[int, int]:
    """Where the log ends and which epoch is the current one, as the last leader was told."""
    sent = b"".join(data for _, data in bench.outbox.sends)
    packet = [packet for packet in PacketReader(1 << 20).feed(sent) if packet.type == ACKEPOCH][-1]
    assert packet.data is not None
    return packet.zxid, int.from_bytes(packet.data, "big", signed=True)


def test_a_cut_that_cannot_be_had_makes_the_same_leader_send_a_snapshot() -> None:
    """ZOOKEEPER-2832, 4837: a snapshot here has what is to go. He has counted the truth already."""
    bench = unfinished()
    bench.take()
    peer = bench.peer
    assert not now(peer.can_ask_for_snapshot)
    bench.follow(8, 3, 3, upto=ACKEPOCH)
    assert told(bench) == (z("2:3"), 2)
    bench.say(8, TRUNC, z("2:2"))
    assert now(peer.can_ask_for_snapshot)
    # The disk has been read anew, with all that is logged.
    term, dials = peer.term, len(bench.outbox.dials)
    peer.on_truncated(None, z("2:3"), bench.now_ms)
    assert "TRUNC" in peer.over_reason
    assert (peer.logged_zxid, peer.delivered_zxid, peer.synced_zxid, peer.tail) == (*(z("2:3"),) * 3, [])
    # At once, or a leader who has no quorum without this server would be left alone (simulator, seed 201150).
    assert isinstance(peer.role, Learner)
    assert (peer.role.leader_sid, peer.role.state) == (3, DIALING)
    assert peer.term > term
    assert len(bench.outbox.dials) == dials + 1
    peer.on_link(9, bench.now_ms)
    bench.say(9, LEADERINFO, make_zxid(3, 0), encode_int(0x10000))
    assert told(bench) == (NOWHERE_ZXID, -1)
    # If he wants a cut again, there is no other way.
    assert not now(peer.can_ask_for_snapshot)
    bench.lose(9).follow(10, 2, 4, upto=ACKEPOCH)
    assert told(bench) == (z("2:3"), 2)
    assert now(peer.can_ask_for_snapshot)
    bench.lose(10).follow(11, 2, 4, upto=ACKEPOCH).say(11, SNAP, z("4:1"))
    peer.on_snapshot_installed(z("4:1"), bench.now_ms)
    bench.lose(11).follow(12, 2, 4, upto=ACKEPOCH)
    assert told(bench) == (z("4:1"), -1)


def test_a_cut_that_cannot_be_had_is_nothing_to_who_follows_no_more() -> None:
    bench = unfinished()
    bench.take()
    bench.follow(8, 3, 3, upto=ACKEPOCH).say(8, TRUNC, z("2:2")).lose(8)
    bench.peer.on_truncated(None, z("2:1"), bench.now_ms)
    assert (bench.peer.logged_zxid, bench.peer.delivered_zxid) == (z("2:3"), z("2:1"))


def test_what_an_ended_role_wanted_cut_stays() -> None:
    """The vote that is out speaks of it, and the next role may lead with it."""
    bench = unfinished()
    bench.follow(8, 3, 3, upto=ACKEPOCH).say(8, TRUNC, z("2:1")).lose(8)
    assert bench.outbox.truncate_to == NOTHING
    assert bench.peer.logged_zxid == z("2:3")


def test_the_log_may_be_cut_while_nobody_is_followed() -> None:
    bench = unfinished()
    bench.take()
    bench.peer.on_truncated(z("2:2"), z("2:1"), bench.now_ms)
    assert bench.peer.tail == [(z("2:2"), payload(z("2:2")))]


# What goes to the disk and cannot be called back.


def test_a_snapshot_is_the_history() -> None:
    bench = unfinished()
    bench.take()
    bench.follow(8, 3, 3, upto=ACKEPOCH).say(8, SNAP, z("2:9"))
    bench.peer.on_snapshot_installed(z("2:9"), bench.now_ms)
    bench.propose(8, z("2:10")).commit(8, z("2:10"))
    bench.say(8, NEWLEADER, z("3:0"), b"version=0").sync().write_epochs().say(8, UPTODATE, -1)
    assert bench.take() == [z("2:10")]
    assert bench.peer.history.after(z("2:9")) == [(z("2:10"), payload(z("2:10")))]


def test_a_snapshot_that_outlives_its_role_holds_the_next_one() -> None:
    """It replaces the log below whoever leads or follows: the role begins after it, with what it brought."""
    bench = unfinished()
    bench.take()
    bench.follow(8, 3, 3, upto=ACKEPOCH).say(8, SNAP, z("2:9"))
    peer = bench.peer
    peer.hold()
    bench.lose(8)
    round_ = peer.election.round
    bench.elect(1)
    assert peer.election.decided is not None
    assert peer.role is None
    peer.release()
    peer.on_snapshot_installed(z("2:9"), bench.now_ms)
    # Nothing of the old history is left, and the vote is a new one.
    assert (peer.tail, peer.logged_zxid, peer.delivered_zxid, peer.synced_zxid) == ([], *[z("2:9")] * 3)
    assert (peer.role, peer.election.round, peer.election.vote.zxid) == (None, round_ + 1, z("2:9"))
    bench.elect(1)
    assert bench.leader().proposed_zxid == z("2:9")
    assert bench.take() == []


def test_an_epoch_that_outlives_its_role_holds_the_next_one() -> None:
    """Z1: a leader that does not know what it has accepted would choose an epoch below it, and write that."""
    bench = Bench(3).elect(2)
    peer = bench.peer
    peer.on_link(7, bench.now_ms)
    bench.say(7, LEADERINFO, make_zxid(9, 0), encode_int(0x10000))
    assert bench.outbox.accepted_epoch == 9
    peer.hold()
    bench.lose(7).elect(3)
    assert peer.role is None
    peer.release()
    bench.write_epochs()
    assert bench.leader().epoch == 10


def test_what_becomes_durable_while_looking_counts() -> None:
    bench = unfinished(synced=False)
    peer = bench.peer
    assert (peer.synced_zxid, peer.delivered_zxid) == (z("1:3"), z("1:3"))
    bench.sync()
    assert peer.synced_zxid == z("2:3")
    peer.on_epochs(5, 2, bench.now_ms)
    bench.elect(1)
    assert bench.leader().epoch == 6


# Links.


def test_the_links_of_an_ended_role_are_closed_and_say_nothing_more() -> None:
    bench = Bench(3).lead(9)
    peer = bench.peer
    peer.on_link(10, bench.now_ms)
    bench.lose(9).wait(TICK_MS)
    assert peer.role is None
    assert 10 in bench.outbox.closes
    bench.outbox.closes.clear()
    bench.follow(12, 2, 3)
    bench.say(10, FOLLOWERINFO, 0, encode_learner_info(2, 0)).say(10, PROPOSAL, z("3:1"), b"x").lose(10)
    assert (bench.outbox.closes, bench.outbox.log, peer.is_serving) == ([], [], True)


def test_a_link_while_nobody_is_followed_is_closed() -> None:
    bench = Bench()
    bench.peer.on_link(5, bench.now_ms)
    bench.lose(5)
    assert bench.outbox.closes == [5]


def test_the_next_leader_is_dialled_as_soon_as_the_last_is_known_to_be_dead() -> None:
    """With no finalizeWait between: the link breaks, the other voter agrees, and the dead one's port is closed."""
    bench = Bench().follow(7, 3, 2)
    peer = bench.peer
    bench.lose(7)
    bench.vote(2, 2, zxid=peer.logged_zxid + 1, epoch=peer.current_epoch)
    assert peer.role is None
    peer.on_refused(3, bench.now_ms)
    assert bench.learner().leader_sid == 2


def test_a_leader_that_cannot_be_reached_is_dialled_again() -> None:
    bench = Bench().elect(3)
    bench.peer.on_dial_failed(2, bench.now_ms)
    bench.wait(TICK_MS)
    assert bench.outbox.dials == [3]
    bench.peer.on_dial_failed(3, bench.now_ms)
    bench.wait(TICK_MS)
    assert bench.outbox.dials == [3, 3]
    for _ in range(7):
        bench.peer.on_dial_failed(3, bench.now_ms)
    assert bench.peer.role is None
    bench.peer.on_dial_failed(3, bench.now_ms)


def test_bytes_of_a_snapshot_are_a_sign_of_life() -> None:
    bench = Bench().follow(7, 3, 2, upto=ACKEPOCH).say(7, SNAP, z("2:9"))
    bench.wait(INIT_MS - 1)
    bench.peer.on_heard(7, bench.now_ms)
    bench.wait(INIT_MS - 1)
    assert now(bench.peer.role) is not None
    # A learner forgives one silence while its own disk was waited for.
    bench.wait(2 * INIT_MS)
    assert bench.peer.role is None
    leading = Bench(3).lead(9)
    leading.peer.on_heard(9, leading.now_ms)
    assert leading.peer.is_serving


# Leaders that wait in vain.


def test_a_leader_does_not_wait_for_voters_that_have_changed_their_minds() -> None:
    """ZOOKEEPER-3109: Java's waits out its initLimit. Each says so once, and may not say it again for a minute."""
    bench = Bench(3).elect(3)
    bench.vote(1, 1, rounds=1)
    bench.wait(TICK_MS)
    assert now(bench.peer.role) is not None, "there may be a quorum without it"
    bench.vote(2, 1, rounds=1)
    role = bench.leader()
    bench.wait(TICK_MS // 2)
    assert (bench.peer.role, bench.peer.over_reason) == (None, "a quorum has changed its mind")
    # It ends once, for one reason.
    role.reason = "this one"
    role.on_deserted()
    assert role.reason == "this one"


def test_a_leader_waits_for_who_is_there_whatever_it_said() -> None:
    bench = Bench(3).elect(3)
    bench.vote(1, 1, rounds=1)
    bench.vote(2, 1, rounds=1)
    bench.join(9)
    bench.wait(TICK_MS // 2)
    assert bench.peer.is_serving


def test_a_leader_does_not_wait_for_who_looks_again_and_again() -> None:
    """They vote for it, and do not come: something else keeps them away."""
    bench = Bench(3).elect(3).wait(TICK_MS)
    for sid in (1, 2):
        bench.vote(sid, 3, zxid=z("1:3"), epoch=1)
    bench.wait(TICK_MS)
    assert (bench.peer.role, bench.peer.over_reason) == (None, "a quorum looks for another leader")


@pytest.mark.parametrize("rounds", [0, 1])
def test_a_follower_does_not_care_who_looks(rounds: int) -> None:
    bench = Bench().follow(7, 3, 2)
    bench.vote(2, 2, rounds=rounds)
    assert bench.peer.is_serving
