"""Z1 to Z13: what servers do to their logs, epochs and each other, from their traces; and their logs in the end.

Knows zxids and payloads as bytes. Must not know what is in a txn. One pass over the traces in their order, with a small
state for each server: what it has logged, what of it is durable, its epochs.
Sources: the invariants of ZooKeeper's TLA+ specifications; Junqueira, Reed, Serafini (2011); FileTxnLog.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from coati.testing import history
from coati.testing.history import ServerLog, Trace, Violation
from coati.testing.progress import Progress


class Quorum:
    """Whose acks count. `groups` and `weights` for hierarchical quorums: more than half of more than half of them."""

    __slots__ = ("groups", "voters", "weights")

    def __init__(
        self,
        voters: Sequence[int] = (),
        groups: Sequence[Sequence[int]] = (),
        weights: Mapping[int, int] | None = None,
    ) -> None:
        self.voters = tuple(voters)
        self.groups = groups
        self.weights = weights or {}

    def has(self, sids: Collection[int]) -> bool:
        """Whether these are a quorum."""
        groups = [group for group in self.groups or [self.voters] if sum(map(self._weight, group))]
        won = [g for g in groups if 2 * sum(self._weight(sid) for sid in g if sid in sids) > sum(map(self._weight, g))]
        return not groups or 2 * len(won) > len(groups)

    def _weight(self, sid: int) -> int:
        return self.weights.get(sid, 1)


def follows(last: int, zxid: int) -> bool:
    """Whether a log may hold `zxid` behind `last`."""
    return zxid == last + 1 or (zxid >> 32 > last >> 32 and zxid & 0xFFFFFFFF == 1)


class _Server:
    """What is known of one server."""

    def __init__(self) -> None:
        self.base = 0  # the snapshot it stands on, and the history in it
        self.under: list[int] = []
        # The snapshot is cut off, and what its disk has below that is not known until it says so.
        self.is_adrift = False
        self.zxids: list[int] = []
        self.payloads: dict[int, bytes] = {}
        self.synced = 0
        self.acked = 0
        self.accepted = 0
        self.current = 0
        # Up to where the log was durable when, in this synchronisation, the current epoch was written.
        self.epoch_synced: int | None = None
        # The last one applied in this role; and up to where the tree is at least, whatever the role.
        self.applied: int | None = None
        self.reached = 0

    @property
    def last(self) -> int:
        return self.zxids[-1] if self.zxids else self.base

    def cut(self, zxid: int) -> None:
        """Forgets what is above."""
        for gone in self.zxids[bisect_right(self.zxids, zxid) :]:
            self.payloads.pop(gone, None)
        del self.zxids[bisect_right(self.zxids, zxid) :]
        del self.under[bisect_right(self.under, zxid) :]
        self.synced = min(self.synced, zxid)
        self.acked = min(self.acked, zxid)
        self.reached = min(self.reached, zxid)
        if zxid < self.base:
            self.is_adrift = True
            self.base = self.synced = 0

    def stand_on(self, zxid: int, under: list[int]) -> None:
        """A snapshot replaces the log."""
        self.base, self.under, self.zxids, self.payloads = zxid, under, [], {}

    def history(self) -> list[int]:
        """All that it has, in order."""
        return self.under + self.zxids

    def between(self, low: int, high: int) -> list[int]:
        """What its log has in (low, high)."""
        return self.zxids[bisect_right(self.zxids, low) : bisect_left(self.zxids, high)]


class _Jump:
    """A server applied `trace` and had applied `floor` before; what is in `own` it may have applied unseen."""

    __slots__ = ("floor", "own", "trace")

    def __init__(self, trace: Trace, floor: int, own: list[int]) -> None:
        self.trace = trace
        self.floor = floor
        self.own = own


class _Pass:
    """One pass over the traces."""

    def __init__(self, quorum: Quorum) -> None:
        self.quorum = quorum
        self.found: list[Violation] = []
        self.servers: dict[int, _Server] = {}
        self.leaders: dict[int, Trace] = {}
        self.proposed: dict[int, bytes] = {}
        self.content: dict[int, bytes] = {}
        self.digests: dict[int, Trace] = {}
        self.applied: dict[int, Trace] = {}
        self.committed: dict[int, Trace] = {}
        self.order: list[int] = []
        self.implied: dict[int, None] = {}
        self.jumps: list[_Jump] = []
        # By epoch: who has promised to follow no older one, and who has all that its leader began with.
        self.promised: dict[int, dict[int, None]] = {}
        self.followed: dict[int, dict[int, None]] = {}

    def fail(self, id_: str, text: str, *lines: object) -> None:
        self.found.append(Violation(id_, text, list(lines)))

    def take(self, trace: Trace) -> None:
        server = self.servers.get(trace.sid)
        if server is None:
            server = self.servers[trace.sid] = _Server()
        _HANDLERS[trace.kind](self, server, trace)

    # Roles

    def on_looking(self, server: _Server, trace: Trace) -> None:
        """Z10: what a vote claims is what a fresh load of the disk would give."""
        server.applied = None
        server.epoch_synced = None
        if server.is_adrift:
            server.is_adrift = False
            server.base = server.synced = trace.zxid
        if trace.zxid != server.last:
            text = f"server {trace.sid} votes with {trace.zxid:#x}, its disk ends at {server.last:#x}"
            self.fail("Z10", text, trace)

    def on_joining(self, server: _Server, trace: Trace) -> None:
        """What the role before had asked the disk to write may have come only now; it promised what it had then."""
        server.epoch_synced = None

    def on_leading(self, server: _Server, trace: Trace) -> None:
        """Z1, and Z6: whoever leads has all that was committed."""
        other = self.leaders.setdefault(trace.epoch, trace)
        if other.sid != trace.sid:
            self.fail("Z1", f"servers {other.sid} and {trace.sid} lead epoch {trace.epoch}", other, trace)
        if trace.epoch > server.accepted:
            self.fail("Z8", f"server {trace.sid} leads epoch {trace.epoch}, accepted is {server.accepted}", trace)
        self._check_followers(trace, self.promised, "leads")
        for zxid in self.order:
            if zxid > server.base and zxid >> 32 < trace.epoch and zxid not in server.payloads:
                why = f"server {trace.sid} leads epoch {trace.epoch} without the committed {zxid:#x}"
                self.fail("Z6", why, self.committed[zxid], trace)
                return

    def _check_followers(self, trace: Trace, by_epoch: Mapping[int, Mapping[int, None]], what: str) -> None:
        """Z12 and Z13: a new epoch is promised by a quorum of voters, and so is its history acknowledged."""
        quorum = self.quorum
        sids = [sid for sid in quorum.voters if sid == trace.sid or sid in by_epoch.get(trace.epoch, ())]
        if quorum.voters and not quorum.has(sids):
            others = [sid for sid in by_epoch.get(trace.epoch, ()) if sid not in quorum.voters]
            text = f"server {trace.sid} {what} epoch {trace.epoch} with no more than {sids}"
            self.fail("Z13" if others else "Z12", text, trace)

    def on_serving(self, server: _Server, trace: Trace) -> None:
        """Z8; and who leads has a quorum behind it."""
        if trace.is_leader:
            self._check_followers(trace, self.followed, "serves")
            # A quorum has followed it: its history is committed, though nobody may say so ever again.
            self.implied.update(dict.fromkeys(server.history()))
        if trace.epoch > server.current:
            self.fail("Z8", f"server {trace.sid} serves epoch {trace.epoch}, its disk says {server.current}", trace)

    def on_down(self, server: _Server, trace: Trace) -> None:
        server.applied = None

    def on_recovered(self, server: _Server, trace: Trace) -> None:
        """Z8 and Z7: what comes back after a crash is all that was durable, and fits the epochs."""
        server.applied = None
        server.epoch_synced = None
        if trace.zxid < server.synced:
            self.fail("Z7", f"server {trace.sid} recovers {trace.zxid:#x}, durable was {server.synced:#x}", trace)
        if trace.accepted < server.accepted or trace.epoch < server.current:
            text = f"server {trace.sid} comes back with epochs {trace.accepted} and {trace.epoch}"
            self.fail("Z8", f"{text}, it had {server.accepted} and {server.current}", trace)
        server.accepted, server.current = trace.accepted, trace.epoch
        self._check_epochs(server, trace, trace.zxid)
        if trace.zxid < server.last:
            server.cut(trace.zxid)
        elif trace.zxid > server.last:
            server.stand_on(trace.zxid, self._history_to(trace.zxid))
        server.synced = server.reached = trace.zxid
        if not self.quorum.voters:
            # A lone server has no epochs: it gives the zxids again that it had logged and lost.
            for known in (self.content, self.proposed, self.applied, self.digests):
                for zxid in [zxid for zxid in known if zxid > trace.zxid]:
                    del known[zxid]

    def _check_epochs(self, server: _Server, trace: Trace, last: int) -> None:
        # Between the first txns of a new epoch and its currentEpoch a server may die; acceptedEpoch tells it apart
        # from one that lost its files (ZOOKEEPER-1653).
        if server.current > server.accepted or last >> 32 > server.accepted:
            text = f"accepted {server.accepted}, current {server.current}, the log ends at {last:#x}"
            self.fail("Z8", f"server {trace.sid}: {text}", trace)

    # The log

    def _note_content(self, trace: Trace, id_: str) -> None:
        known = self.content.setdefault(trace.zxid, trace.payload)
        if known != trace.payload:
            text = f"server {trace.sid} has something else at {trace.zxid:#x} than others"
            self.fail(id_, text, known[:60], trace.payload[:60], trace)

    def on_proposed(self, server: _Server, trace: Trace) -> None:
        self._note_content(trace, "Z2")
        self.proposed[trace.zxid] = trace.payload

    def on_logged(self, server: _Server, trace: Trace) -> None:
        """Z9 and Z2."""
        self._note_content(trace, "Z2")
        if server.last and not follows(server.last, trace.zxid):
            self.fail("Z9", f"server {trace.sid} logs {trace.zxid:#x} behind {server.last:#x}", trace)
        server.zxids.append(trace.zxid)
        server.payloads[trace.zxid] = trace.payload

    def on_synced(self, server: _Server, trace: Trace) -> None:
        server.synced = max(server.synced, trace.zxid)

    def on_truncated(self, server: _Server, trace: Trace) -> None:
        """Z10 comes of it if the memory is not cut as well; a TRUNC of what was committed shows when it is led."""
        server.cut(trace.zxid)

    def on_installed(self, server: _Server, trace: Trace) -> None:
        server.stand_on(trace.zxid, self._history_to(trace.zxid))
        server.synced = server.reached = trace.zxid
        server.applied = None

    def _history_to(self, zxid: int) -> list[int]:
        """What a snapshot has in it is known from the log of whoever sent it: there is one history to each zxid."""
        for one in self.servers.values():
            known = one.history()
            index = bisect_left(known, zxid)
            if index < len(known) and known[index] == zxid:
                return known[: index + 1]
        return []

    def on_epochs(self, server: _Server, trace: Trace) -> None:
        """Z8."""
        if trace.accepted < server.accepted or trace.epoch < server.current or trace.epoch > trace.accepted:
            text = f"epochs {trace.accepted} and {trace.epoch} behind {server.accepted} and {server.current}"
            self.fail("Z8", f"server {trace.sid} writes {text}", trace)
        if trace.epoch != server.current:
            server.epoch_synced = server.synced
        server.accepted, server.current = trace.accepted, trace.epoch

    # Promises

    def on_promised(self, server: _Server, trace: Trace) -> None:
        """Z8: an epoch is on disk before anybody hears of it (ZOOKEEPER-335)."""
        self.promised.setdefault(trace.epoch, {})[trace.sid] = None
        if trace.epoch > server.accepted:
            text = f"server {trace.sid} speaks of epoch {trace.epoch}, on disk it has accepted {server.accepted}"
            self.fail("Z8", text, trace)

    def on_acked(self, server: _Server, trace: Trace) -> None:
        """Z7: what is acknowledged is durable."""
        if server.synced < trace.zxid:
            self.fail("Z7", f"server {trace.sid} acks {trace.zxid:#x}, durable is {server.synced:#x}", trace)
        server.acked = max(server.acked, min(trace.zxid, server.synced))

    def on_acked_leader(self, server: _Server, trace: Trace) -> None:
        """Z7: first the history, then the epoch, then the ack (ZOOKEEPER-4643)."""
        is_late = server.epoch_synced is not None and server.epoch_synced < server.last
        if server.synced < server.last or server.current != trace.epoch or is_late:
            state = f"durable {server.synced:#x} of {server.last:#x}, current epoch {server.current}"
            when = ", which was written before the history was durable" if is_late else ""
            self.fail("Z7", f"server {trace.sid} acks NEWLEADER {trace.epoch}: {state}{when}", trace)
        server.acked = max(server.acked, server.synced)
        self.followed.setdefault(trace.epoch, {})[trace.sid] = None

    def on_committed(self, server: _Server, trace: Trace) -> None:
        """Z12: a quorum of voters has acknowledged it. Z13: and the leader has counted none but such.

        Who counts is a voter, has it on disk, and has said so; the leader's own word is its disk.
        """
        zxid, quorum = trace.zxid, self.quorum
        first = self.committed.setdefault(zxid, trace)
        if first is trace and (not self.order or zxid > self.order[-1]):
            self.order.append(zxid)
        if not quorum.voters:
            return
        sound = [sid for sid in quorum.voters if self._has_promised(sid, trace)]
        text = f"server {trace.sid} commits {zxid:#x}; it counts {list(trace.acks)}, durable and said so are {sound}"
        if not quorum.has(sound) or not quorum.has(trace.acks):
            self.fail("Z12", f"{text}: no quorum", trace)
        wrong = [sid for sid in trace.acks if sid not in sound]
        if wrong:
            why = "no voter" if any(sid not in quorum.voters for sid in wrong) else "not durable or not acknowledged"
            self.fail("Z13", f"{text}: {wrong}, {why}", trace)

    def _has_promised(self, sid: int, trace: Trace) -> bool:
        one = self.servers.get(sid)
        return one is not None and (one.synced if sid == trace.sid else one.acked) >= trace.zxid

    # Delivery

    def on_applied(self, server: _Server, trace: Trace) -> None:
        """Z3, Z5 and Z11; Z2 and Z4 are seen in the end, when all is known."""
        zxid = trace.zxid
        if self.proposed and zxid not in self.proposed:
            self.fail("Z3", f"server {trace.sid} applies {zxid:#x}, which nobody proposed", trace)
        elif trace.payload and self.proposed and self.proposed[zxid] != trace.payload:
            self.fail("Z2", f"server {trace.sid} applies something else at {zxid:#x} than was proposed", trace)
        elif trace.payload:
            self._note_content(trace, "Z2")
        self._check_step(server, trace)
        if trace.digest is not None:
            other = self.digests.setdefault(zxid, trace)
            if other.digest != trace.digest:
                self.fail("Z11", f"servers {other.sid} and {trace.sid} differ at {zxid:#x}", other, trace)
        self.applied.setdefault(zxid, trace)

    def _check_step(self, server: _Server, trace: Trace) -> None:
        """Z5 and Z4: always the next one; in the beginning of a role also behind what its log had."""
        zxid, before = trace.zxid, server.applied
        floor = server.reached if before is None else before
        if zxid <= floor:
            self.fail("Z5", f"server {trace.sid} applies {zxid:#x} behind {floor:#x}", trace)
        elif before is not None and not follows(before, zxid):
            self.fail("Z4", f"server {trace.sid} applies {zxid:#x} behind {before:#x}", trace)
        elif zxid != floor + 1:
            own = server.between(floor, zxid) if before is None else []
            self.jumps.append(_Jump(trace, floor, own))
        server.applied = server.reached = zxid

    def on_watches(self, server: _Server, trace: Trace) -> None:
        """E7."""
        if trace.count and not trace.acks:
            self.fail("E7", f"server {trace.sid} holds {trace.count} watches and has no connection", trace)

    def finish(self) -> None:
        """Z4: an epoch's txns, taken together, have no hole either; and nobody has skipped one of them.

        What a leader's log had when it began to serve counts, though no one may ever see it applied but those who
        start: a quorum has it, so who goes on behind it without it has another history.
        """
        known = sorted({**self.applied, **self.implied})
        last = 0
        for zxid in known:
            if last and not follows(last, zxid):
                self.fail("Z4", f"{zxid:#x} was applied, and nothing between it and {last:#x}", self.applied.get(zxid))
            last = zxid
        for jump in self.jumps:
            sid, zxid = jump.trace.sid, jump.trace.zxid
            between = known[bisect_right(known, jump.floor) : bisect_left(known, zxid)]
            skipped = [one for one in between if one not in jump.own]
            if skipped:
                text = f"server {sid} applies {zxid:#x} behind {jump.floor:#x}, without {skipped[0]:#x}"
                self.fail("Z4", text, self.applied.get(skipped[0]), jump.trace)


_HANDLERS = {
    history.LOOKING: _Pass.on_looking,
    history.JOINING: _Pass.on_joining,
    history.LEADING: _Pass.on_leading,
    history.SERVING: _Pass.on_serving,
    history.DOWN: _Pass.on_down,
    history.RECOVERED: _Pass.on_recovered,
    history.PROPOSED: _Pass.on_proposed,
    history.LOGGED: _Pass.on_logged,
    history.SYNCED: _Pass.on_synced,
    history.TRUNCATED: _Pass.on_truncated,
    history.INSTALLED: _Pass.on_installed,
    history.EPOCHS: _Pass.on_epochs,
    history.PROMISED: _Pass.on_promised,
    history.ACKED: _Pass.on_acked,
    history.ACKED_LEADER: _Pass.on_acked_leader,
    history.COMMITTED: _Pass.on_committed,
    history.APPLIED: _Pass.on_applied,
    history.WATCHES: _Pass.on_watches,
}


# What ends a role.
_ENDS = (history.LOOKING, history.JOINING, history.DOWN, history.RECOVERED)


@dataclass(slots=True)
class Lag:
    """How far behind a server may be that serves; `times`: only what lies in one of these, None: always.

    `pauses`, of each server: when its process was stopped. It catches up, or misses its leader, from when it goes on.
    """

    max_ms: int
    times: Sequence[tuple[int, int]] | None = None
    pauses: Mapping[int, Sequence[tuple[int, int]]] = field(default_factory=dict)

    def due_ms(self, sid: int, at_ms: int) -> int:
        """By when the server must have what was committed."""
        due_ms = at_ms + self.max_ms
        for start_ms, end_ms in self.pauses.get(sid, ()):
            if start_ms <= due_ms and end_ms > at_ms:
                due_ms = end_ms + self.max_ms
        return due_ms


def check_traces(traces: Sequence[Trace], quorum: Quorum, *, lags: Sequence[Lag] = ()) -> list[Violation]:
    """All that traces show."""
    one_pass = _Pass(quorum)
    for trace in traces:
        if trace.kind != history.REPORTED:
            one_pass.take(trace)
    one_pass.finish()
    found = one_pass.found
    for lag in lags:
        found += _check_lag(traces, lag)
    return found


def _check_lag(traces: Sequence[Trace], lag: Lag) -> list[Violation]:
    """R5: whoever serves has in time what is committed, whoever led it, or serves no more."""
    commits = [trace for trace in traces if trace.kind == history.COMMITTED]
    times = [trace.at_ms for trace in commits]
    progress = Progress(traces)
    end_ms = traces[-1].at_ms if traces else 0
    found = []
    for sid, start_ms, until_ms in _serving_times(traces, end_ms):
        for commit in commits[bisect_left(times, start_ms) :]:
            due_ms = lag.due_ms(sid, commit.at_ms)
            if due_ms >= until_ms:
                break
            is_in = lag.times is None or any(low <= commit.at_ms and due_ms <= high for low, high in lag.times)
            if is_in and not progress.has(sid, commit.zxid, due_ms):
                found.append(Violation("R5", f"server {sid} serves and lacks {commit.zxid:#x} after {lag.max_ms} ms",
                                       [commit]))  # fmt: skip
                break
    return found


def _serving_times(traces: Sequence[Trace], end_ms: int) -> list[tuple[int, int, int]]:
    """Who served from when to when."""
    since: dict[int, int] = {}
    times = []
    for trace in traces:
        if trace.kind in _ENDS and trace.sid in since:
            times.append((trace.sid, since.pop(trace.sid), trace.at_ms))
        elif trace.kind == history.SERVING:
            since[trace.sid] = trace.at_ms
    return times + [(sid, start_ms, end_ms) for sid, start_ms in since.items()]


def two_leaders(traces: Sequence[Trace]) -> list[tuple[int, int]]:
    """The times at which two servers believed to lead: there a sync may be stale (ZOOKEEPER-1675)."""
    leads: dict[int, int] = {}
    windows = []
    for trace in traces:
        if trace.kind == history.SERVING and trace.is_leader:
            leads[trace.sid] = trace.at_ms
        elif trace.kind in (history.LOOKING, history.DOWN, history.RECOVERED) and trace.sid in leads:
            start_ms = leads.pop(trace.sid)
            windows += [(max(start_ms, other), trace.at_ms) for other in leads.values()]
    end_ms = traces[-1].at_ms if traces else 0
    starts = sorted(leads.values())
    return [*windows, (starts[1], end_ms)] if len(starts) > 1 else windows


def check_logs(logs: Mapping[int, ServerLog]) -> list[Violation]:
    """Z9 in each log, Z2 between them: one zxid never stands for two txns, committed or not."""
    found = []
    content: dict[int, tuple[int, bytes]] = {}
    for sid, log in logs.items():
        last = log.snapshot_zxid
        for zxid, payload in log.entries:
            if zxid > log.snapshot_zxid and last and not follows(last, zxid):
                found.append(Violation("Z9", f"the log of server {sid} has {zxid:#x} behind {last:#x}", []))
            last = max(zxid, last)
            other, known = content.setdefault(zxid, (sid, payload))
            if known != payload:
                text = f"servers {other} and {sid} differ at {zxid:#x}"
                found.append(Violation("Z2", text, [known[:80], payload[:80]]))
    return found


def committed_log(
    traces: Sequence[Trace], logs: Mapping[int, ServerLog], quorum: Quorum | None = None
) -> list[tuple[int, bytes]]:
    """The committed txns: what was delivered, and what a leader had when it began to serve.

    Without traces the log that ends highest is believed, and below it those on which its server stands; what others
    have beside it was never committed, if the servers had come together again.
    """
    one_pass = _Pass(quorum or Quorum())
    for trace in traces:
        if trace.kind != history.REPORTED:
            one_pass.take(trace)
    delivered = sorted({**one_pass.applied, **one_pass.committed, **one_pass.implied})
    if delivered:
        payloads = dict(one_pass.content)
        for log in logs.values():
            payloads.update(log.entries)
        return [(zxid, payloads[zxid]) for zxid in delivered if zxid in payloads]
    found: list[tuple[int, bytes]] = []
    limit: int | None = None
    ranked = sorted(logs.values(), key=lambda one: one.entries[-1][0] if one.entries else 0, reverse=True)
    for log in ranked:
        mine = [entry for entry in log.entries if limit is None or entry[0] <= limit]
        if mine:
            found = mine + found
            limit = min(log.snapshot_zxid, mine[0][0] - 1) if log.snapshot_zxid else mine[0][0] - 1
    return found
