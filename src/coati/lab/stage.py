"""A stage: a simulated ensemble of whole servers whose packets, logs, acks and roles are told as steps of a story.

Knows `coati.testing`'s cluster and its traces, which are taken where the parts of a server meet; packets are told where
they leave the network. The servers know nothing of it. Every way takes `DELAY_MS` and every write to a disk `DISK_MS`,
without dice, so that a story is the same each time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Final

from coati.lab.ballots import vote_text, zxid_text
from coati.lab.story import FAULT, HEAR, NOTE, STATE, Fact, Step, Story
from coati.testing import history
from coati.testing.cluster import ClusterConfig, SimMember
from coati.testing.history import Trace
from coati.testing.server import Reply, SimClient, SimLink
from coati.testing.sim_member import TracedCluster, TracedHub, TracedMember
from coati.wire.quorum import (
    ACKEPOCH,
    FOLLOWERINFO,
    LEADERINFO,
    LEADING,
    LOOKING,
    NAMES,
    NEWLEADER,
    OBSERVERINFO,
    PING,
    REQUEST,
    UPTODATE,
    Notification,
    Packet,
    decode_learner_info,
)
from coati.wire.zxid import epoch_of
from coati.zab.leader import Leader
from coati.zab.learner import Learner
from coati.zab.peer import STATE_NAMES

DELAY_MS: Final = 10
DISK_MS: Final = 5
TICK_MS: Final = 2000
LIMIT_MS: Final = 60_000
CLIENT: Final = "client"

# What packets say whose name does not.
_MEANINGS: Final = {
    REQUEST: "a client's write, for the leader",
    FOLLOWERINFO: "wants to follow; the last epoch it has accepted is in it",
    OBSERVERINFO: "wants to observe; the last epoch it has accepted is in it",
    LEADERINFO: "the new epoch",
    ACKEPOCH: "accepts the epoch; its log ends there",
    NEWLEADER: "behind this there is nothing of earlier epochs",
    UPTODATE: "a quorum has all of it: serve",
}
# In these the zxid is an epoch with nothing behind it, or nothing at all.
_WITHOUT_ZXID: Final = (REQUEST, UPTODATE)


class StageHub(TracedHub):
    """Tells what arrives, before anybody acts on it."""

    def on_vote(self, sender: int, n: Notification) -> None:
        if self.peer.state == LOOKING:
            self._stage.on_vote(sender, self.member.sid, n)
        super().on_vote(sender, n)

    def on_packets(self, link: int, packets: list[Packet]) -> None:
        for packet in packets:
            sender = self._sender(link, packet)
            if sender and packet.type != PING:
                self._stage.on_packet(sender, self.member.sid, packet)
        super().on_packets(link, packets)

    @property
    def _stage(self) -> Stage:
        cluster = self.member.cluster
        assert isinstance(cluster, StageCluster)
        return cluster.stage

    def _sender(self, link: int, packet: Packet) -> int:
        role = self.peer.role
        if isinstance(role, Learner):
            return role.leader_sid
        if packet.type in (FOLLOWERINFO, OBSERVERINFO):
            return decode_learner_info(packet.data)[0]
        learner = role.attendance.by_link.get(link) if isinstance(role, Leader) else None
        return 0 if learner is None else learner.sid


class StageMember(TracedMember):
    """A whole server with such a hub."""

    hub_type = StageHub


class StageCluster(TracedCluster):
    """The servers of a stage."""

    member_type: type[SimMember] = StageMember

    def __init__(self, stage: Stage, config: ClusterConfig) -> None:
        self.stage = stage
        super().__init__(config, dice=Random(0), on_snapshot=lambda sid, leader: None)
        self.net.delay_ms = (DELAY_MS, DELAY_MS)


class StageClient:
    """A client on one connection, which takes its time, too."""

    def __init__(self, stage: Stage, sid: int) -> None:
        self._stage = stage
        self._sid = sid
        self._raw = SimClient(SimLink(stage.member(sid), ("127.0.0.1", 40000)))
        self._raw.open_session(timeout_ms=20 * TICK_MS)
        stage.run_until(lambda: self._raw.connected is not None)
        self._take = self._raw.link.on_data
        self._raw.link.on_data = self._heard
        self.replies: list[Reply] = []

    def create(self, path: bytes, text: str) -> None:
        """The request is on its way."""
        stage, sent_ms = self._stage, self._stage.now_ms

        def arrive() -> None:
            stage.tell(str(self._sid), HEAR, text, peers=[CLIENT], sent_ms=sent_ms, label=text)
            self._raw.create(path)

        stage.cluster.clock.call_at(stage.cluster.clock.now_ms + DELAY_MS, arrive)

    def _heard(self, data: bytes) -> None:
        stage, known, sent_ms = self._stage, len(self._raw.replies), self._stage.now_ms
        assert self._take is not None, "the client reads"
        self._take(data)

        def arrive(reply: Reply) -> None:
            self.replies.append(reply)
            text = f"done, as zxid {zxid_text(reply.zxid)}" if not reply.err else f"error {reply.err}"
            label = "OK" if not reply.err else text
            stage.tell(CLIENT, HEAR, text, peers=[str(self._sid)], sent_ms=sent_ms, label=label)

        for reply in self._raw.replies[known:]:
            stage.cluster.clock.call_at(stage.cluster.clock.now_ms + DELAY_MS, partial(arrive, reply))


class Stage:
    """An ensemble that serves, and the story of what happens from `begin` on, at 0 ms."""

    def __init__(self, voters: int, observers: int = 0) -> None:
        config = ClusterConfig(voters, observers=observers, tick_ms=TICK_MS, disk_ms=(DISK_MS, DISK_MS))
        self.cluster = StageCluster(self, config)
        self.voters = voters
        self.needed = voters // 2 + 1
        self.story = Story("", [])
        # How many packets of which kind have arrived.
        self.packets: Counter[str] = Counter()
        self._is_told = False
        self._began_ms = 0
        self._known = 0
        # Up to where each log is durable, as it was told last.
        self._synced: dict[int, int] = {}
        # Who has been elected, whether it serves already or not.
        self._leading: dict[int, None] = {}
        self.cluster.start()
        self.run_until(self.cluster.all_serve)

    def begin(self, title: str, lanes: Sequence[str], intro: Sequence[str]) -> None:
        """From here on everything is told."""
        self.story = Story(title, list(lanes), list(intro))
        self._began_ms = self.cluster.clock.now_ms
        self._known = len(self.cluster.traces)
        self._is_told = True
        self.packets.clear()
        members = self.cluster.members
        self._synced = {sid: one.hub.peer.synced_zxid for sid, one in members.items()}
        self._leading = {sid: None for sid, one in members.items() if one.state == LEADING}

    @property
    def now_ms(self) -> int:
        """Of the story."""
        return self.cluster.clock.now_ms - self._began_ms

    def traced(self, kind: str, zxid: int) -> list[tuple[int, Trace]]:
        """When that happened in the story, to whom."""
        found = [one for one in self.cluster.traces if one.kind == kind and one.zxid == zxid]
        return [(one.at_ms - self._began_ms, one) for one in found]

    def member(self, sid: int) -> TracedMember:
        """A server."""
        member = self.cluster.members[sid]
        assert isinstance(member, TracedMember)
        return member

    def leader(self) -> int:
        """Who leads. AssertionError if nobody does."""
        leader = self.cluster.leader()
        assert leader is not None, f"nobody leads: {self.cluster}"
        return leader.sid

    def run_until(self, holds: Callable[[], bool]) -> None:
        """Event by event. AssertionError if it takes too long."""
        clock = self.cluster.clock
        due_ms = clock.now_ms + LIMIT_MS
        while not holds():
            assert clock.step(due_ms), f"not within {LIMIT_MS} ms: {self.cluster}"
            self.flush()

    def run(self, duration_ms: int) -> None:
        """So much time passes."""
        clock = self.cluster.clock
        until_ms = clock.now_ms + duration_ms
        while clock.step(until_ms):
            self.flush()

    # Telling.

    def tell(self, lane: str, kind: str, text: str, *, peers: Sequence[str] = (), sent_ms: int = -1, label: str = "",
             facts: dict[str, Fact] | None = None) -> None:  # fmt: skip
        """The next step, behind what the traces say happened before."""
        self.flush()
        if self._is_told:
            self.story.add(Step(self.now_ms, kind, lane, text, tuple(peers), sent_ms, label, facts or {}))

    def on_vote(self, sender: int, sid: int, n: Notification) -> None:
        """A vote has come to a server that looks for a leader."""
        vote = vote_text(n.leader, n.zxid, n.peer_epoch)
        text = f"vote {vote} in round {n.round}, {STATE_NAMES[n.state]}"
        self.tell(str(sid), HEAR, text, peers=[str(sender)], sent_ms=self.now_ms - DELAY_MS, label=f"vote {vote}")

    def on_packet(self, sender: int, sid: int, packet: Packet) -> None:
        """A packet has come on a link."""
        name = NAMES.get(packet.type, str(packet.type))
        self.packets[name] += 1
        label = name if packet.type in _WITHOUT_ZXID else f"{name} {zxid_text(packet.zxid)}"
        meaning = _MEANINGS.get(packet.type)
        text = f"{label}: {meaning}" if meaning else label
        facts: dict[str, Fact] = {"packet": name, "zxid": packet.zxid}
        sent_ms = self.now_ms - DELAY_MS
        self.tell(str(sid), HEAR, text, peers=[str(sender)], sent_ms=sent_ms, label=label, facts=facts)

    def flush(self) -> None:
        """What the traces have got since."""
        traces = self.cluster.traces
        while self._known < len(traces):
            trace = traces[self._known]
            self._known += 1
            if self._is_told:
                self._tell_trace(trace)
        if self._is_told:
            self._look_for_leaders()

    def _look_for_leaders(self) -> None:
        """Who was elected has not yet got a trace of it: it has to find a quorum of followers first."""
        for sid, member in self.cluster.members.items():
            leads = member.is_up and member.state == LEADING
            if leads and sid not in self._leading:
                text = "is elected; leads once a quorum of followers has its history"
                self.story.add(Step(self.now_ms, STATE, str(sid), text, label="LEADING"))
            if leads:
                self._leading[sid] = None
            else:
                self._leading.pop(sid, None)

    def _tell_trace(self, trace: Trace) -> None:
        told = self._words(trace)
        if told is not None:
            kind, text, label = told
            facts: dict[str, Fact] = {"trace": trace.kind}
            if trace.zxid:
                facts["zxid"] = trace.zxid
            if trace.acks:
                facts["acks"] = list(trace.acks)
            # What a new leader has in its tree is told when it is known to be committed, which is later.
            last_ms = self.story.steps[-1].at_ms if self.story.steps else 0
            at_ms = max(trace.at_ms - self._began_ms, last_ms)
            self.story.add(Step(at_ms, kind, str(trace.sid), text, label=label, facts=facts))

    def _words(self, trace: Trace) -> tuple[str, str, str] | None:
        """Kind, text and label of a trace; None if a packet tells it as well."""
        zxid, kind = zxid_text(trace.zxid), trace.kind
        if kind == history.PROPOSED:
            return NOTE, f"gives the write the zxid {zxid} and proposes it", ""
        if kind == history.LOGGED and epoch_of(trace.zxid):
            return NOTE, f"writes {zxid} to its log", ""
        if kind == history.SYNCED and trace.zxid > self._synced.get(trace.sid, 0):
            self._synced[trace.sid] = trace.zxid
            return NOTE, f"has {zxid} on its disk", f"{zxid} on disk"
        if kind == history.COMMITTED:
            acks = " ".join(map(str, trace.acks))
            share = f"{len(trace.acks)} of {self.voters}"
            return NOTE, f"has the acks of {acks} for {zxid}: {share}, more than half: commits it", f"{share}: commit"
        if kind == history.APPLIED:
            return NOTE, f"has {zxid} in its tree now", f"{zxid} in tree"
        if kind == history.TRUNCATED:
            self._synced[trace.sid] = trace.zxid
            return NOTE, f"cuts its log off behind {zxid}: what came later is discarded", "log is cut"
        return self._words_of_role(trace)

    def _words_of_role(self, trace: Trace) -> tuple[str, str, str] | None:
        zxid, kind = zxid_text(trace.zxid), trace.kind
        if kind == history.LOOKING:
            return STATE, f"looks for a leader; its log ends at {zxid}", "LOOKING"
        if kind == history.JOINING:
            role = self.member(trace.sid).hub.peer
            leader = role.role.leader_sid if isinstance(role.role, Learner) else 0
            return STATE, f"has elected {leader} and connects to it", f"{STATE_NAMES[role.state]} {leader}"
        if kind == history.LEADING:
            return NOTE, f"leads epoch {trace.epoch}: a quorum has promised to follow no earlier one", ""
        if kind == history.SERVING:
            if trace.is_leader:
                return NOTE, f"a quorum has its history: serves clients, in epoch {trace.epoch}", "serves"
            return NOTE, f"serves clients, in epoch {trace.epoch}", "serves"
        if kind == history.EPOCHS:
            return NOTE, f"has accepted epoch {trace.accepted}, its history is of epoch {trace.epoch}: on its disk", ""
        if kind == history.RECOVERED:
            self._synced[trace.sid] = trace.zxid
            return FAULT, f"starts again; its log ends at {zxid}, its epoch is {trace.epoch}", "starts"
        if kind == history.DOWN:
            return FAULT, "dies", "dies"
        if kind == history.INSTALLED:
            return NOTE, f"has taken over the leader's snapshot, up to {zxid}", "snapshot"
        return None
