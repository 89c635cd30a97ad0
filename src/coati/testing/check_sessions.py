"""S1 to S7: sessions end by a txn, neither early nor late, have one home and an id of their own.

Knows the history and what the log made of it. Times are compared only where the rules say how the txns' clock stands
to the history's. Sources: SessionTrackerImpl, ZooKeeperServer (reopenSession, initializeNextSessionId).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from coati.testing.history import Conn, Operation, State, Story, Violation
from coati.testing.reports import Reports
from coati.testing.requests import WRITES
from coati.testing.timeline import Timeline, is_session
from coati.wire import codes


@dataclass(slots=True)
class SessionRules:
    """`skew_ms`: a txn's time less the history's; None: no times are compared. `starts_ms`: when servers began to lead.

    `reports`: what leaders knew of what learners heard; None: all of it. `grace_ms`: beyond timeout and tick, for
    failover. `end_ms`: until when a server led; None: the last line of the history. `sids`: the high bytes of session
    ids. `calm`: times without faults, in which whoever comes back is let in. `answer_ms`: what the network may need.
    """

    skew_ms: int | None = None
    tick_ms: int = 2000
    reports: Reports | None = None
    grace_ms: int = 0
    starts_ms: Sequence[int] = ()
    end_ms: int | None = None
    sids: Sequence[int] = ()
    calm: Sequence[tuple[int, int]] = ()
    answer_ms: int = 0


# So many connections in a row that end without an answer, though nothing is broken, are no accident.
_STUCK: Final = 4


def check_sessions(story: Story, timeline: Timeline, rules: SessionRules) -> list[Violation]:
    """All of them."""
    found = _check_ids(story, timeline, rules)
    over = _told_over(story)
    for conn in story.conns.values():
        found += _check_told(conn, story, timeline, rules)
        found += _check_resume(conn, story, timeline, over)
        found += _check_afterlife(conn, timeline)
    found += _check_homes(story)
    found += _check_stuck(story, rules)
    if rules.skew_ms is not None:
        found += _check_times(story, timeline, rules, rules.skew_ms)
    return found


def _check_ids(story: Story, timeline: Timeline, rules: SessionRules) -> list[Violation]:
    """S7."""
    found = []
    given: dict[int, State] = {}
    for conn in story.conns.values():
        state = conn.connected
        if state is None or conn.asked.session_id:
            continue
        if state.session_id in given:
            text = f"session {state.session_id:#x} was given out twice"
            found.append(Violation("S7", text, [given[state.session_id], state]))
        given[state.session_id] = state
    for session_id in {**timeline.opened, **given}:
        if not is_session(session_id):
            text = f"session {session_id & ((1 << 64) - 1):#x} would own what containers or TTLs own"
            found.append(Violation("S7", text, [given.get(session_id)]))
        elif rules.sids and session_id >> 56 & 0xFF not in rules.sids:
            found.append(Violation("S7", f"no server has the high byte of {session_id:#x}", [given.get(session_id)]))
    return found


def _told_over(story: Story) -> dict[int, int]:
    """Where in the history a client was told first that its session is over."""
    over: dict[int, int] = {}
    for conn in story.conns.values():
        if conn.expired_at >= 0:
            over.setdefault(_session_of(conn), conn.expired_at)
        for operation in conn.calls:
            end = operation.end
            if operation.call.op == codes.OP_CLOSE_SESSION and end is not None and not end.err:
                over.setdefault(_session_of(conn), operation.until)
    return over


def _check_told(conn: Conn, story: Story, timeline: Timeline, rules: SessionRules) -> list[Violation]:
    """S1: nobody is told that a session is over before its end is committed: for others it lives until then."""
    asked = conn.asked
    if conn.expired_at < 0 or not asked.session_id or not asked.has_password:
        return []
    told = story.lines[conn.expired_at]
    zxid = timeline.closed.get(asked.session_id)
    what = f"session {asked.session_id:#x} is told to have expired"
    if zxid is None:
        return [Violation("S1", f"{what}, and no closeSession was committed", [asked, told])]
    if rules.reports is not None and rules.reports.committed_ms(zxid) > told.at_ms:
        text = f"{what} {rules.reports.committed_ms(zxid) - told.at_ms} ms before its closeSession was committed"
        return [Violation("S1", text, [asked, told, timeline.done[zxid]])]
    return []


def _check_resume(conn: Conn, story: Story, timeline: Timeline, over: dict[int, int]) -> list[Violation]:
    """S5 and S6: what a client is told that comes back with its session."""
    found: list[Violation] = []
    asked = conn.asked
    if not asked.session_id:
        return []
    state = conn.connected
    if state is None:
        return found
    if not asked.has_password:
        found.append(Violation("S5", f"session {asked.session_id:#x} resumed with a wrong password", [asked, state]))
    elif state.session_id != asked.session_id:
        text = f"session {asked.session_id:#x} came back as {state.session_id:#x}"
        found.append(Violation("S6", text, [asked, state]))
    elif over.get(asked.session_id, conn.asked_at) < conn.asked_at:
        told = story.lines[over[asked.session_id]]
        found.append(Violation("S6", f"session {asked.session_id:#x} was over and is resumed", [told, asked, state]))
    return found


def _check_afterlife(conn: Conn, timeline: Timeline) -> list[Violation]:
    """S1: nobody is served by a state in which the session is over."""
    closed = timeline.closed.get(_session_of(conn))
    for one in conn.heard:
        if closed is None or not isinstance(one, Operation) or one.end is None or one.txn_zxid:
            continue
        if one.end.zxid >= closed and not one.end.err:
            text = f"connection {conn.number} is served at {one.end.zxid:#x}, its session was closed at {closed:#x}"
            return [Violation("S1", text, [one, timeline.done[closed]])]
    return []


def _session_of(conn: Conn) -> int:
    return conn.connected.session_id if conn.connected is not None else conn.asked.session_id


def _check_homes(story: Story) -> list[Violation]:
    """S4: a connection that its session has left gets no write through."""
    moves: dict[int, list[Conn]] = {}
    for conn in story.conns.values():
        if conn.connected is not None:
            moves.setdefault(conn.connected.session_id, []).append(conn)
    found = []
    for conns in moves.values():
        conns.sort(key=lambda one: one.connected_at)
        for conn, heir in pairwise(conns):
            for operation in conn.calls:
                end = operation.end
                if operation.at > heir.connected_at and operation.call.op in WRITES and end is not None and not end.err:
                    text = f"a write on connection {conn.number}, which the session had left for {heir.number}"
                    found.append(Violation("S4", text, [heir.connected, operation]))
    return found


def _check_stuck(story: Story, rules: SessionRules) -> list[Violation]:
    """S4: a session that moves arrives: it is not refused for ever as one that has moved (2886)."""
    found = []
    vain: dict[int, list[Conn]] = {}
    for conn in story.conns.values():
        if not conn.asked.session_id or conn.ended_at < 0:
            continue
        tries = vain.setdefault(conn.asked.session_id, [])
        if conn.heard or conn.expired_at >= 0:
            tries.clear()
            continue
        if not _is_try(conn, story, rules):
            continue
        tries.append(conn)
        if len(tries) == _STUCK:
            text = f"session {conn.asked.session_id:#x} comes back {_STUCK} times, and is told nothing"
            found.append(Violation("S4", text, [one.asked for one in tries]))
    return found


def _is_try(conn: Conn, story: Story, rules: SessionRules) -> bool:
    """Whether it could have been answered: in calm, by a server that has seen as much, and the client waited for it.

    ClientCnxn gives each server its share of the session's time (connectTimeout), however slow the network is.
    """
    asked, began_ms, ended_ms = conn.asked, conn.asked.at_ms, story.lines[conn.ended_at].at_ms
    if rules.reports is not None and not rules.reports.progress.has(asked.server, asked.last_zxid, began_ms - 1):
        return False
    patience_ms = asked.timeout_ms // max(len(rules.sids), 1)
    if patience_ms <= ended_ms - began_ms < rules.answer_ms:
        return False
    return any(low <= began_ms and ended_ms <= high for low, high in rules.calm)


def _check_times(story: Story, timeline: Timeline, rules: SessionRules, skew_ms: int) -> list[Violation]:
    """S2 and S3, for sessions that a client had."""
    expired = {
        session_id: timeline.done[zxid].time_ms - skew_ms
        for session_id, zxid in timeline.closed.items()
        if not timeline.done[zxid].cxid
    }
    heard = _last_heard(story, timeline, rules, expired)
    sent: dict[int, int] = {}
    closing: dict[int, None] = {}
    told: dict[int, list[int]] = {}
    for conn in story.conns.values():
        session_id = _session_of(conn)
        if conn.connected is not None:
            sent[session_id] = max(sent.get(session_id, 0), conn.connected.at_ms)
            told.setdefault(session_id, []).append(conn.connected.timeout_ms)
        for operation in conn.calls:
            sent[session_id] = max(sent.get(session_id, 0), operation.call.at_ms)
            if operation.call.op == codes.OP_CLOSE_SESSION:
                closing[session_id] = None
    end_ms = rules.end_ms
    if end_ms is None:
        end_ms = story.lines[-1].at_ms if story.lines else 0
    found = []
    for session_id, timeout_ms in timeline.timeouts.items():
        if session_id not in told:
            continue
        timeouts_ms = [timeout_ms, *told[session_id]]
        over_ms = expired.get(session_id)
        if over_ms is not None:
            began_ms = _began_ms(session_id, timeline, rules, over_ms, skew_ms)
            base_ms = max(heard.get(session_id, 0), began_ms)
            if over_ms < base_ms + min(timeouts_ms):
                text = f"session {session_id:#x} expired {over_ms - base_ms} ms after it was heard, or the leader came"
                found.append(Violation("S2", text, [timeline.done[timeline.closed[session_id]]]))
        elif session_id in timeline.closed or session_id in closing:
            continue
        limit = max(timeouts_ms) + rules.tick_ms + rules.grace_ms
        until = end_ms if over_ms is None else over_ms
        # Each leader gives it all of its time again, however long there was none.
        last = max([sent[session_id], *(start for start in rules.starts_ms if start <= until)])
        if until > last + limit:
            text = f"session {session_id:#x} lives {until - last} ms after the last contact"
            found.append(Violation("S3", text, [timeline.timeouts[session_id], over_ms]))
    return found


def _last_heard(story: Story, timeline: Timeline, rules: SessionRules, expired: dict[int, int]) -> dict[int, int]:
    """When whoever let a session expire, or the only server there is, is sure to have heard of its client last."""
    heard: dict[int, int] = {}
    reports = rules.reports
    for conn in story.conns.values():
        session_id = _session_of(conn)
        over_ms = expired.get(session_id)
        if over_ms is None:
            continue
        server, epoch = conn.asked.server, timeline.closed[session_id] >> 32
        if conn.connected is not None and (reports is None or reports.serves(server, epoch, conn.asked.at_ms)):
            heard[session_id] = max(heard.get(session_id, 0), conn.asked.at_ms)
        for operation in conn.calls:
            at_ms = operation.call.at_ms
            if operation.end is None or at_ms > over_ms:
                continue
            if reports is None or reports.is_known(server, epoch, at_ms, over_ms):
                heard[session_id] = max(heard.get(session_id, 0), at_ms)
    return heard


def _began_ms(session_id: int, timeline: Timeline, rules: SessionRules, over_ms: int, skew_ms: int) -> int:
    """When the leader that let the session expire began to watch over it: with its epoch, or with the session."""
    reports, opened = rules.reports, timeline.opened.get(session_id, 0)
    epoch = timeline.closed[session_id] >> 32
    if reports is None:
        return max((start for start in rules.starts_ms if start <= over_ms), default=0)
    began_ms = reports.began_ms.get(epoch, 0)
    return max(began_ms, timeline.done[opened].time_ms - skew_ms) if opened >> 32 == epoch else began_ms
