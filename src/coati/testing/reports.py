"""Whom the leader of an epoch knows to be alive: what its learners have told it, from the traces.

A client is heard of by the server that it is connected to, and that tells the leader in its answer to the next PING.
If that answer never comes, nobody has promised anything (S2). Which PING was answered is the leader's word, and what a
learner must have heard by then is the history's; so neither has to be believed about sessions.
Must not know sessions or txns. Sources: LearnerHandler (PING), Follower.processPacket.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

from coati.testing import history
from coati.testing.history import Trace
from coati.testing.progress import Progress


class _Role:
    """A server serves in an epoch. `told_ms`: up to when it has told all, `came_ms`: since when the leader knows it."""

    __slots__ = ("came_ms", "epoch", "is_over", "leads", "since_ms", "told_ms")

    def __init__(self, trace: Trace) -> None:
        self.since_ms = trace.at_ms
        self.epoch = trace.epoch
        self.leads = trace.is_leader
        self.is_over = False
        self.told_ms: list[int] = []
        self.came_ms: list[int] = []


class Reports:
    """Of one run. `began_ms`: when the leader of an epoch began to serve. `progress`: how far servers were.

    `pauses`: from when to when a server's process was stopped; it hears then of nobody.
    """

    def __init__(self, traces: Sequence[Trace], pauses: Mapping[int, Sequence[tuple[int, int]]] | None = None) -> None:
        self.progress = Progress(traces)
        self.began_ms: dict[int, int] = {}
        self._roles: dict[int, list[_Role]] = {}
        self._pauses = pauses or {}
        self._applied_ms: dict[int, int] = {}
        for trace in traces:
            if trace.kind in (history.COMMITTED, history.APPLIED):
                self._applied_ms.setdefault(trace.zxid, trace.at_ms)
            elif trace.kind == history.SERVING:
                self._roles.setdefault(trace.sid, []).append(_Role(trace))
                if trace.is_leader:
                    self.began_ms.setdefault(trace.epoch, trace.at_ms)
            elif trace.kind in (history.LOOKING, history.DOWN):
                for role in self._roles.get(trace.sid, [])[-1:]:
                    role.is_over = True
            elif trace.kind == history.REPORTED:
                self._note(trace)

    def _note(self, trace: Trace) -> None:
        (learner,) = trace.acks
        for role in self._roles.get(learner, [])[-1:]:
            if role.epoch == trace.epoch and not role.is_over:
                role.told_ms.append(trace.count)
                role.came_ms.append(trace.at_ms)

    def committed_ms(self, zxid: int) -> int:
        """Since when a committed txn is known to be that: by who delivers it, or by a leader of a later epoch."""
        since = [began_ms for epoch, began_ms in self.began_ms.items() if epoch > zxid >> 32]
        if zxid in self._applied_ms:
            since.append(self._applied_ms[zxid])
        return min(since, default=0)

    def _hears_ms(self, server: int, at_ms: int) -> int:
        """When it reads what came at that time."""
        return next((end_ms for start_ms, end_ms in self._pauses.get(server, ()) if start_ms <= at_ms < end_ms), at_ms)

    def serves(self, server: int, epoch: int, at_ms: int) -> bool:
        """Whether that server belonged to that epoch then."""
        role = self._role(server, self._hears_ms(server, at_ms))
        return role is not None and role.epoch == epoch

    def is_known(self, server: int, epoch: int, at_ms: int, by_ms: int) -> bool:
        """Whether the leader of the epoch knew before `by_ms` whom that server had heard of at `at_ms`."""
        at_ms = self._hears_ms(server, at_ms)
        role = self._role(server, at_ms)
        if role is None or role.epoch != epoch:
            return False
        if role.leads:
            return at_ms < by_ms
        index = bisect_left(role.told_ms, at_ms)
        return index < len(role.told_ms) and role.came_ms[index] < by_ms

    def _role(self, server: int, at_ms: int) -> _Role | None:
        roles = self._roles.get(server, [])
        return next((role for role in reversed(roles) if role.since_ms <= at_ms), None)
