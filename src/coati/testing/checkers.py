"""Checks a run: the histories of its clients, the traces and the logs of its servers, against the invariants.

What must hold is listed with each check; a Violation carries the id of its invariant. The zxid in every reply says
where in the total order it happened, so nothing is searched for: the committed log is replayed once by `timeline.py`,
and everything is looked up in it, in O((writes + reads) log writes). The zxids are guarded by the logs and traces
(`check_zab.py`); `linear.py` does without both. Must share no code with the server but its records.

Ids: W writes (order: `check_order.py`), R reads, E watches (`check_watches.py`), S sessions (`check_sessions.py`), Z
replication.
Sources: DataTree, FinalRequestProcessor, PrepRequestProcessor; Wing and Gong for what `linear.py` does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from coati import errors
from coati.errors import MarshallingError
from coati.testing.check_order import check_order
from coati.testing.check_sessions import SessionRules, check_sessions
from coati.testing.check_watches import check_watches
from coati.testing.check_zab import Lag, Quorum, check_logs, check_traces, committed_log, two_leaders
from coati.testing.history import (
    APPLIED,
    CONNECTED,
    SERVING,
    History,
    Operation,
    Return,
    ServerLog,
    State,
    Story,
    Trace,
    Violation,
)
from coati.testing.linear import check_registers
from coati.testing.requests import WRITES, Write, read_auth, read_write
from coati.testing.timeline import Timeline, is_session, read_body, reply_of
from coati.wire import codes
from coati.wire.jute import Reader
from coati.wire.txns import decode_txn

MAX_VIOLATIONS: Final = 50
_SLICE_LINES: Final = 8
# Errors to which a server gives no zxid: it could not read the request, or would not.
_NO_TXN: Final = (errors.MARSHALLING_ERROR, errors.UNIMPLEMENTED, errors.NOT_READ_ONLY, errors.THROTTLED_OP)
_READS: Final = (codes.OP_GET_DATA, codes.OP_EXISTS, codes.OP_GET_CHILDREN, codes.OP_GET_CHILDREN2)
_CHILDREN: Final = (codes.OP_GET_CHILDREN, codes.OP_GET_CHILDREN2)
# Replies that say nothing of the tree: their header's zxid is whatever it is.
_TIMELESS: Final = (codes.OP_AUTH, codes.OP_SASL)
_LIVE: Final = b"/zookeeper"


@dataclass(slots=True)
class Rules:
    """What holds in this run. `quorum` stands for the voters; without one, a lone server.

    `is_exact`: a read shows the state that its header names. Java may show one up to the header of the next reply.
    `lags`: how far a server that serves may be behind, in times without faults and otherwise (R5).
    `registers`: of so many znodes an order is searched without believing zxids (`linear.py`), with dice of this `seed`.
    """

    is_exact: bool = True
    quorum: Quorum = field(default_factory=Quorum)
    sessions: SessionRules = field(default_factory=SessionRules)
    lags: Sequence[Lag] = ()
    registers: int = 0
    seed: int = 0


def check(
    history: History | None,
    log: Sequence[tuple[int, bytes]] | None = None,
    *,
    traces: Sequence[Trace] = (),
    logs: Mapping[int, ServerLog] | None = None,
    rules: Rules | None = None,
) -> list[Violation]:
    """All violations, at most MAX_VIOLATIONS. Without a committed `log` it is made out of traces and logs."""
    rules = rules or Rules()
    begun = [trace.at_ms for trace in traces if trace.kind == SERVING and trace.is_leader]
    rules = replace(rules, sessions=replace(rules.sessions, starts_ms=[*rules.sessions.starts_ms, *begun]))
    found = check_traces(traces, rules.quorum, lags=rules.lags)
    found += check_logs(logs or {})
    if log is None:
        log = committed_log(traces, logs or {}, rules.quorum)
    checker = Checker(history.lines if history is not None else [], log, rules)
    checker.windows = two_leaders(traces)
    found += checker.run()
    found += _compare_digests(checker.timeline, traces)
    if rules.registers:
        found += check_registers(checker.story, Random(rules.seed), samples=rules.registers)
    return found[:MAX_VIOLATIONS]


def _compare_digests(timeline: Timeline, traces: Sequence[Trace]) -> list[Violation]:
    """Z11: the tree of every server is the one that the log makes."""
    found = []
    for trace in traces:
        expected = timeline.digests.get(trace.zxid)
        if trace.kind == APPLIED and trace.digest is not None and expected not in (None, trace.digest):
            text = f"server {trace.sid} has digest {trace.digest} at {trace.zxid:#x}, the log makes {expected}"
            found.append(Violation("Z11", text, [trace]))
    return found


class Checker:
    """One run of all checks on clients' histories. `windows`: times with two leaders."""

    def __init__(self, lines: Sequence[object], log: Sequence[tuple[int, bytes]], rules: Rules) -> None:
        self.story = Story(lines)  # type: ignore[arg-type]  # lines of a History
        self.timeline = Timeline()
        self.rules = rules
        self.found: list[Violation] = []
        self.windows: list[tuple[int, int]] = []
        self._log = log
        self._writes: dict[int, Write | None] = {}
        self._by_key: dict[tuple[int, int], list[Operation]] = {}

    def run(self) -> list[Violation]:
        """Everything, in an order in which the first finding is the most telling."""
        self._note_calls()
        self._replay()
        for operation in self.story.operations:
            if operation.call.op in WRITES and operation.end is not None:
                self._check_write(operation, operation.end)
        check_order(self.story, self.timeline, self._fail)
        self._check_floors()
        self._check_syncs()
        for operation in self.story.operations:
            if operation.call.op in _READS and operation.end is not None:
                self._check_read(operation, operation.end)
        self.found += check_watches(self.story, self.timeline, is_exact=self.rules.is_exact)
        self.found += check_sessions(self.story, self.timeline, self.rules.sessions)
        return self.found

    def _fail(self, id_: str, text: str, at: Operation | None = None, zxid: int = 0) -> None:
        """With the last lines of the connection, and the txn."""
        if len(self.found) >= MAX_VIOLATIONS:
            return
        lines: list[object] = []
        if at is not None:
            until = at.until if at.until >= 0 else at.at
            for line in reversed(self.story.lines[: until + 1]):
                if line.conn == at.call.conn:
                    lines.insert(0, line)
                if len(lines) == _SLICE_LINES:
                    break
        done = self.timeline.done.get(zxid)
        if done is not None:
            lines.append(done)
        self.found.append(Violation(id_, text, lines))

    # The log

    def _note_calls(self) -> None:
        for conn in self.story.conns.values():
            ids = conn.calls[0].ids if conn.calls else []
            for operation in conn.calls:
                operation.ids = ids
                call = operation.call
                if call.op == codes.OP_AUTH and operation.end is not None and not operation.end.err:
                    ids = [*ids, *read_auth(call.body)]
        for operation in self.story.operations:
            call = operation.call
            if call.op in WRITES:
                self._by_key.setdefault((call.session_id, call.xid), []).append(operation)

    def _replay(self) -> None:
        """W2 and Z3 while it meets the requests; what the timeline finds besides."""
        recorded = {conn.connected.session_id: None for conn in self.story.conns.values() if conn.connected}
        last = 0
        for zxid, payload in self._log:
            try:
                record = decode_txn(payload)
            except MarshallingError as error:
                self._fail("Z3", f"the txn {zxid:#x} cannot be read: {error}")
                continue
            if last and not (zxid == last + 1 or (zxid >> 32 > last >> 32 and zxid & 0xFFFFFFFF == 1)):
                self._fail("Z9", f"the committed {zxid:#x} follows {last:#x}")
            last = zxid
            header = record.header
            operation = self._caller(header.client_id, header.cxid)
            write = None
            if operation is not None:
                operation.txn_zxid = zxid
                write = self._write_of(operation)
            elif header.client_id in recorded and header.cxid and header.type != codes.OP_CREATE_SESSION:
                self._blame(header.client_id, header.cxid, zxid)
            for id_, text in self.timeline.apply(record, write, operation.ids if operation else ()):
                self._fail(id_, text, operation, zxid)

    def _caller(self, session_id: int, cxid: int) -> Operation | None:
        for operation in self._by_key.get((session_id, cxid), ()):
            if not operation.txn_zxid:
                return operation
        return None

    def _blame(self, session_id: int, cxid: int, zxid: int) -> None:
        """W2: no write twice. Z3: none that nobody asked for."""
        known = self._by_key.get((session_id, cxid))
        if known:
            text = f"write {cxid} of session {session_id:#x} is in the log at {known[-1].txn_zxid:#x} and {zxid:#x}"
            self._fail("W2", text, known[-1], zxid)
        else:
            self._fail("Z3", f"nobody sent write {cxid} of session {session_id:#x}, committed at {zxid:#x}", None, zxid)

    def _write_of(self, operation: Operation) -> Write | None:
        if operation.at not in self._writes:
            self._writes[operation.at] = read_write(operation.call.op, operation.call.body)
        return self._writes[operation.at]

    # Writes

    def _check_write(self, operation: Operation, end: Return) -> None:
        """W1, W6 to W9: what a client was told of its write is what the log has."""
        call = operation.call
        zxid = operation.txn_zxid
        write = self._write_of(operation)
        what = f"{write or call} of session {call.session_id:#x}"
        if not zxid:
            if end.err in _NO_TXN:
                return
            told = "acknowledged" if not end.err else f"answered {end.err}"
            self._fail("W6" if end.err else "W1", f"{what} was {told}, and is not in the log", operation)
            return
        if end.zxid < zxid:
            self._fail("W1", f"{what} was answered at {end.zxid:#x}, before its own zxid {zxid:#x}", operation, zxid)
        if write is None:
            return
        err, body = reply_of(write, self.timeline.done[zxid])
        if end.err != err:
            id_ = "W6" if end.err else "W1"
            self._fail(id_, f"{what} was answered {end.err}, the log says {err}", operation, zxid)
        elif end.body != body:
            self._fail(
                self._id_of_body(write, end.body, body), f"{what}: the reply is not what it did", operation, zxid
            )

    def _id_of_body(self, write: Write, told: bytes, body: bytes) -> str:
        if write.op == codes.OP_MULTI:
            return "W7"
        # A create tells the path first: what differs there is the number that the server gave it.
        size = 4 + int.from_bytes(body[:4], "big") if write.acl is not None and write.op != codes.OP_SET_ACL else 0
        return "W9" if told[:size] != body[:size] else "W8"

    # Reads

    def _check_floors(self) -> None:
        """R2: a session never goes back, on whatever server. R3: it reads its writes."""
        floors: dict[int, tuple[int, bool]] = {}
        homes: dict[int, int] = {}
        ends = {operation.until: operation for operation in self.story.operations if operation.until >= 0}
        for at, line in enumerate(self.story.lines):
            if isinstance(line, State):
                if line.state == CONNECTED:
                    homes[line.session_id] = line.conn
                    if line.session_id not in floors:
                        floors[line.session_id] = (self.story.conns[line.conn].asked.last_zxid, False)
                continue
            operation = ends.get(at)
            if operation is None or operation.end is None or operation.end.zxid < 0:
                continue
            session_id = line.session_id
            if operation.call.op in _TIMELESS or homes.get(session_id) != line.conn:
                continue
            zxid = operation.end.zxid
            floor, is_own = floors.get(session_id, (0, False))
            if zxid < floor:
                what = "its own write" if is_own else "what it had seen"
                self._fail("R3" if is_own else "R2", f"a reply at {zxid:#x} behind {what} at {floor:#x}", operation)
            if zxid >= floor:
                floors[session_id] = (zxid, operation.txn_zxid == zxid)

    def _check_syncs(self) -> None:
        """R4: behind a sync a session sees all that anybody was told before it was called."""
        acked = [one for one in self.story.operations if one.txn_zxid and one.end is not None and not one.end.err]
        acked.sort(key=lambda one: one.until)
        untils = [one.until for one in acked]
        highest: list[int] = []
        for one in acked:
            highest.append(max(one.txn_zxid, highest[-1] if highest else 0))
        floors: dict[int, int] = {}
        for operation in self.story.operations:
            end = operation.end
            if end is None or end.zxid < 0 or (operation.call.op not in _READS and operation.call.op != codes.OP_SYNC):
                continue
            session_id = operation.call.session_id
            if operation.call.op == codes.OP_SYNC and not end.err:
                before = bisect_left(untils, operation.at)
                floors[session_id] = max(floors.get(session_id, 0), highest[before - 1] if before else 0)
            if end.zxid < floors.get(session_id, 0):
                self._fail_sync(operation, end, floors[session_id])

    def _fail_sync(self, operation: Operation, end: Return, floor: int) -> None:
        text = f"behind a sync {end.zxid:#x} is shown, {floor:#x} was acknowledged before it"
        if any(start <= end.at_ms and operation.call.at_ms <= until for start, until in self.windows):
            text += " (stale sync, known 1675 window: two leaders)"
        self._fail("R4", text, operation, floor)

    def _check_read(self, operation: Operation, end: Return) -> None:
        """R1: a read shows the state that its header names; S1: and so no ephemeral whose session is over."""
        call = operation.call
        path, _ = _path_and_watch(call.body)
        if path is None or path.startswith(_LIVE) or end.err in _NO_TXN or end.err == errors.BAD_ARGUMENTS:
            return
        if end.err == errors.SESSION_EXPIRED or end.err == errors.SESSION_MOVED:
            return
        timeline = self.timeline
        if end.zxid > timeline.last_zxid():
            self._fail("R1", f"a read at {end.zxid:#x}, the log ends at {timeline.last_zxid():#x}", operation)
            return
        states = [end.zxid]
        if not self.rules.is_exact:
            states += timeline.is_between(path, end.zxid, self._next_zxid(operation))
        if not any(self._shows(operation, end, path, zxid) for zxid in states):
            node = timeline.at(path, end.zxid)
            expected = "nothing" if node is None else f"{node.data!r}, version {node.version}, mzxid {node.mzxid:#x}"
            text = f"{codes.OP_NAMES[call.op]} {path!r} at {end.zxid:#x} is answered {end.err} {end.body[:60]!r}"
            self._fail(self._id_of_read(path, end), f"{text}; there was {expected}", operation, end.zxid)

    def _id_of_read(self, path: bytes, end: Return) -> str:
        before = self.timeline.at(path, end.zxid)
        if before is None and not end.err and path in self.timeline.versions:
            owners = [node.owner for node in self.timeline.versions[path][1] if node is not None]
            closed = self.timeline.closed.get(owners[-1], end.zxid + 1) if owners and is_session(owners[-1]) else None
            if closed is not None and closed <= end.zxid:
                return "S1"
        return "R1"

    def _next_zxid(self, operation: Operation) -> int:
        conn = self.story.conns[operation.call.conn]
        for other in conn.heard[conn.heard.index(operation) + 1 :]:
            if isinstance(other, Operation) and other.end is not None and other.end.zxid > 0:
                return other.end.zxid
        return self.timeline.last_zxid()

    def _shows(self, operation: Operation, end: Return, path: bytes, zxid: int) -> bool:
        op = operation.call.op
        err, body = read_body(op, self.timeline, path, zxid)
        if end.err == errors.NO_AUTH and not err:
            # Whose ids the server knows is not in the history; the events are judged by them all the same.
            node = self.timeline.at(path or b"/", zxid)
            return node is not None and any(entry.id.scheme != "world" for entry in node.acl)
        if end.err or err:
            return end.err == err
        if body is not None:
            return end.body == body
        return self._shows_children(op, end.body, path or b"/", zxid)

    def _shows_children(self, op: int, told: bytes, path: bytes, zxid: int) -> bool:
        try:
            r = Reader(told)
            names = [r.path() for _ in range(r.length())]
        except MarshallingError:
            return False
        names.sort()
        node = self.timeline.at(path, zxid)
        stat = node.stat() if node is not None and op == codes.OP_GET_CHILDREN2 else b""
        return names == self.timeline.children_at(path, zxid) and told[r.pos :] == stat


def _path_and_watch(body: bytes) -> tuple[bytes | None, bool]:
    try:
        r = Reader(body)
        return r.path(), r.boolean()
    except MarshallingError:
        return None, False
