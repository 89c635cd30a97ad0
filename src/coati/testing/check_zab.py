"""Z1 to Z13: what servers do to their logs, epochs and each other, from their traces; and their logs in the end.

Knows zxids and payloads as bytes. Must not know what is in a txn. One pass over the traces in their order, with a small
state for each server: what it has logged, what of it is durable, its epochs.
Sources: the invariants of ZooKeeper's TLA+ specifications; Junqueira, Reed, Serafini (2011); FileTxnLog.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Mapping, Sequence

from coati.testing import history
from coati.testing.history import ServerLog, Trace, Violation


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
        self.base = 0  # the snapshot it stands on
        self.zxids: list[int] = []
        self.payloads: dict[int, bytes] = {}
        self.synced = 0
        self.acked = 0
        self.accepted = 0
        self.current = 0
        # Up to where the log was durable when, in this synchronisation, the current epoch was written.
        self.epoch_synced: int | None = None
        self.applied: int | None = None

    @property
    def last(self) -> int:
        return self.zxids[-1] if self.zxids else self.base

    def cut(self, zxid: int) -> None:
        """Forgets what is above."""
        for gone in self.zxids[bisect_right(self.zxids, zxid) :]:
            self.payloads.pop(gone, None)
        del self.zxids[bisect_right(self.zxids, zxid) :]
        self.synced = min(self.synced, zxid)
        self.acked = min(self.acked, zxid)


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
        for zxid in self.order:
            if zxid > server.base and zxid >> 32 < trace.epoch and zxid not in server.payloads:
                why = f"server {trace.sid} leads epoch {trace.epoch} without the committed {zxid:#x}"
                self.fail("Z6", why, self.committed[zxid], trace)
                return

    def on_serving(self, server: _Server, trace: Trace) -> None:
        if trace.is_leader:
            # A quorum has followed it: its history is committed, though nobody may say so ever again.
            self.implied.update(dict.fromkeys(server.zxids))
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
            server.base, server.zxids, server.payloads = trace.zxid, [], {}
        server.synced = trace.zxid
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
        server.base, server.zxids, server.payloads = trace.zxid, [], {}
        server.synced = trace.zxid
        server.applied = None

    def on_epochs(self, server: _Server, trace: Trace) -> None:
        """Z8."""
        if trace.accepted < server.accepted or trace.epoch < server.current or trace.epoch > trace.accepted:
            text = f"epochs {trace.accepted} and {trace.epoch} behind {server.accepted} and {server.current}"
            self.fail("Z8", f"server {trace.sid} writes {text}", trace)
        if trace.epoch != server.current:
            server.epoch_synced = server.synced
        server.accepted, server.current = trace.accepted, trace.epoch

    # Promises

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

    def on_committed(self, server: _Server, trace: Trace) -> None:
        """Z12 and Z13."""
        zxid = trace.zxid
        first = self.committed.setdefault(zxid, trace)
        if first is trace and (not self.order or zxid > self.order[-1]):
            self.order.append(zxid)
        voters = self.quorum.voters
        if not voters:
            return
        acked = [sid for sid, one in self.servers.items() if (one.synced if sid == trace.sid else one.acked) >= zxid]
        if self.quorum.has([sid for sid in acked if sid in voters]):
            if trace.acks and not self.quorum.has([sid for sid in trace.acks if sid in voters]):
                self.fail("Z13", f"{zxid:#x} is committed by the votes of {trace.acks}, not all of voters", trace)
            return
        observers = [sid for sid in trace.acks or acked if sid not in voters]
        text = f"{zxid:#x} is committed with the acks of {acked}"
        self.fail("Z13" if observers else "Z12", f"{text}, counted were {trace.acks}", trace)

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
        if server.applied is not None:
            if zxid <= server.applied:
                self.fail("Z5", f"server {trace.sid} applies {zxid:#x} behind {server.applied:#x}", trace)
            elif not follows(server.applied, zxid):
                self.fail("Z4", f"server {trace.sid} applies {zxid:#x} behind {server.applied:#x}", trace)
        server.applied = zxid
        if trace.digest is not None:
            other = self.digests.setdefault(zxid, trace)
            if other.digest != trace.digest:
                self.fail("Z11", f"servers {other.sid} and {trace.sid} differ at {zxid:#x}", other, trace)
        self.applied.setdefault(zxid, trace)

    def on_watches(self, server: _Server, trace: Trace) -> None:
        """E7."""
        if trace.count and not trace.acks:
            self.fail("E7", f"server {trace.sid} holds {trace.count} watches and has no connection", trace)

    def finish(self) -> None:
        """Z4: an epoch's txns, taken together, have no hole either; nobody skipped from one epoch over another.

        What a leader's log had when it began to serve counts: no one may ever see it applied but those who start.
        """
        last = 0
        for zxid in sorted({**self.applied, **self.implied}):
            if last and not follows(last, zxid):
                self.fail("Z4", f"{zxid:#x} was applied, and nothing between it and {last:#x}", self.applied.get(zxid))
            last = zxid


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
    history.ACKED: _Pass.on_acked,
    history.ACKED_LEADER: _Pass.on_acked_leader,
    history.COMMITTED: _Pass.on_committed,
    history.APPLIED: _Pass.on_applied,
    history.WATCHES: _Pass.on_watches,
}


def check_traces(
    traces: Sequence[Trace],
    quorum: Quorum,
    *,
    max_lag_ms: int | None = None,
    calm: Sequence[tuple[int, int]] = (),
) -> list[Violation]:
    """All that traces show."""
    one_pass = _Pass(quorum)
    for trace in traces:
        if trace.kind != history.REPORTED:
            one_pass.take(trace)
    one_pass.finish()
    found = one_pass.found + _check_skips(traces, one_pass)
    if max_lag_ms is not None:
        found += _check_lag(traces, max_lag_ms, calm)
    return found


def _check_skips(traces: Sequence[Trace], done: _Pass) -> list[Violation]:
    """Z4: who applies a txn of a later epoch has applied all of the earlier ones that anybody applied."""
    known = sorted(done.applied)
    last: dict[int, int] = {}
    found = []
    for trace in traces:
        if trace.kind != history.APPLIED:
            if trace.kind in (history.LOOKING, history.DOWN, history.RECOVERED, history.INSTALLED):
                last.pop(trace.sid, None)
            continue
        before = last.get(trace.sid)
        if before is not None and follows(before, trace.zxid) and trace.zxid != before + 1:
            skipped = known[bisect_right(known, before) : bisect_left(known, trace.zxid)]
            if skipped:
                text = f"server {trace.sid} applies {trace.zxid:#x} behind {before:#x}, without {skipped[0]:#x}"
                found.append(Violation("Z4", text, [done.applied[skipped[0]], trace]))
        last[trace.sid] = trace.zxid
    return found


def _check_lag(traces: Sequence[Trace], max_lag_ms: int, calm: Sequence[tuple[int, int]]) -> list[Violation]:
    """R5: in calm times a serving learner applies in time what its leader has."""
    commits = [trace for trace in traces if trace.kind == history.COMMITTED]
    applied = {(trace.sid, trace.zxid): trace.at_ms for trace in traces if trace.kind == history.APPLIED}
    end_ms = traces[-1].at_ms if traces else 0
    found = []
    for sid, start_ms, until_ms in _serving_times(traces, end_ms):
        for commit in commits[bisect_left([one.at_ms for one in commits], start_ms) :]:
            due_ms = commit.at_ms + max_lag_ms
            if due_ms > until_ms:
                break
            is_calm = not calm or any(low <= commit.at_ms and due_ms <= high for low, high in calm)
            if is_calm and applied.get((sid, commit.zxid), due_ms + 1) > due_ms:
                found.append(Violation("R5", f"server {sid} serves and lacks {commit.zxid:#x} after {max_lag_ms} ms",
                                       [commit]))  # fmt: skip
                break
    return found


def _serving_times(traces: Sequence[Trace], end_ms: int) -> list[tuple[int, int, int]]:
    """Which learner served from when to when."""
    since: dict[int, int] = {}
    times = []
    for trace in traces:
        if trace.kind in (history.LOOKING, history.DOWN, history.RECOVERED) and trace.sid in since:
            times.append((trace.sid, since.pop(trace.sid), trace.at_ms))
        elif trace.kind == history.SERVING and not trace.is_leader:
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
