"""W3 and W4: what was done in which order, in real time and in each session, and in which order it was told.

A write that comes late, over a connection that its session has left, may be behind what was sent later on the next one
only if it does nothing: Java asks whose the session is before it looks at the tree (SessionMoved, SessionExpired), and
only what is wrong with the request itself is seen earlier. Nobody asks at the end of a session, which may come late.
Knows the history and what the log made of it. Must not know servers.
Sources: PrepRequestProcessor (pRequest2Txn, validateCreateRequest, pRequestHelper), SessionTrackerImpl.checkSession,
LeaderSessionTracker, FinalRequestProcessor (multi), CreateMode, EphemeralType.
"""

from __future__ import annotations

from typing import Final, Protocol

from coati import errors
from coati.testing.history import Operation, Story
from coati.testing.requests import Write, read_write
from coati.testing.timeline import Timeline
from coati.wire import codes

# What checkSession says; UnknownSession is a lone server's word for an expired one.
_GONE: Final = (errors.SESSION_EXPIRED, errors.SESSION_MOVED, errors.UNKNOWN_SESSION)
_CREATES: Final = (codes.OP_CREATE, codes.OP_CREATE2, codes.OP_CREATE_CONTAINER, codes.OP_CREATE_TTL)
_TTL_FLAGS: Final = (codes.FLAG_PERSISTENT_WITH_TTL, codes.FLAG_PERSISTENT_SEQUENTIAL_WITH_TTL)
_MAX_FLAGS: Final = 6
_MAX_TTL: Final = (1 << 40) - 1


class Fail(Protocol):
    """Takes a violation: its id, what happened, in which operation, and the zxid of the txn that shows it."""

    def __call__(self, id_: str, text: str, at: Operation | None = None, zxid: int = 0) -> None: ...


def check_order(story: Story, timeline: Timeline, fail: Fail) -> None:
    """All of it; the first of W3 only, since one early zxid makes many late ones."""
    _check_real_time(story, fail)
    _check_replies(story, fail)
    _check_effects(story, timeline, fail)
    _check_moved(story, timeline, fail)


def _check_real_time(story: Story, fail: Fail) -> None:
    """W3: what returned before another was called has the lower zxid."""
    first: Operation | None = None
    writes = [operation for operation in story.operations if operation.txn_zxid]
    for operation in sorted(writes, key=_zxid_of, reverse=True):
        if first is not None and first.until < operation.at:
            text = f"{first.txn_zxid:#x} had returned before {operation.txn_zxid:#x} was called"
            fail("W3", text, operation, operation.txn_zxid)
            return
        if operation.until >= 0 and (first is None or operation.until < first.until):
            first = operation


def _zxid_of(operation: Operation) -> int:
    return operation.txn_zxid


def _check_replies(story: Story, fail: Fail) -> None:
    """W4: replies come in the order of the calls."""
    for stray in story.strays:
        fail("W4", f"a reply to what was not asked: {stray}")
    for conn in story.conns.values():
        asked = [operation for operation in conn.calls if operation.call.xid >= 0]
        heard = [one for one in conn.heard if isinstance(one, Operation) and one.call.xid >= 0]
        for expected, operation in zip(asked, heard, strict=False):
            if expected is not operation:
                fail("W4", f"reply {operation.call.xid} came before {expected.call.xid}", operation)
                break


def _check_effects(story: Story, timeline: Timeline, fail: Fail) -> None:
    """W4: writes take effect in the order of the calls; what does nothing need be in that of its connection only."""
    # The latest in the log, by connection, and by session of those that do something.
    by_conn: dict[int, Operation] = {}
    by_session: dict[int, Operation] = {}
    for operation in story.operations:
        if not operation.txn_zxid:
            continue
        before = [by_conn.get(operation.call.conn)]
        is_effective = not _may_be_late(operation, timeline)
        if is_effective:
            before.append(by_session.get(operation.call.session_id))
        for other in before:
            if other is not None and other.txn_zxid > operation.txn_zxid:
                text = f"write {operation.call.xid} took effect before {other.call.xid} of its session"
                fail("W4", f"{text}, which is {timeline.done[other.txn_zxid]}", operation, operation.txn_zxid)
                break
        _keep_latest(by_conn, operation.call.conn, operation)
        if is_effective:
            _keep_latest(by_session, operation.call.session_id, operation)


def _keep_latest(latest: dict[int, Operation], key: int, operation: Operation) -> None:
    other = latest.get(key)
    if other is None or other.txn_zxid < operation.txn_zxid:
        latest[key] = operation


def _may_be_late(operation: Operation, timeline: Timeline) -> bool:
    """Whether it may stand in the log behind what its session has sent later, over another connection."""
    done = timeline.done[operation.txn_zxid]
    if done.op == codes.OP_CLOSE_SESSION:
        return True
    if done.op not in (codes.OP_ERROR, codes.OP_MULTI):
        return False
    write = read_write(operation.call.op, operation.call.body)
    if done.op == codes.OP_ERROR:
        is_reconfig = operation.call.op == codes.OP_RECONFIG
        err = done.results[0].err
        return _is_refused_unseen(write, err) or (is_reconfig and err == errors.RECONFIG_DISABLED)
    # The session is asked for with each part, and a part that went through was not too late. Without parts nobody asks.
    failed = next((index for index, result in enumerate(done.results) if result.err), None)
    if failed is None:
        return not done.results
    part = write.parts[0] if failed == 0 and write is not None and write.parts else None
    err = done.results[failed].err
    return _is_refused_unseen(part, err) if part is not None else err in _GONE


def _is_refused_unseen(write: Write | None, err: int) -> bool:
    """Whether that error comes before, or from, the look at whose the session is: the tree has no part in it."""
    if err in _GONE:
        return True
    if write is None:
        return err == errors.MARSHALLING_ERROR
    if write.op not in _CREATES:
        return False
    has_ttl = write.flags in _TTL_FLAGS
    if err == errors.UNIMPLEMENTED:
        # zookeeper.extendedTypesEnabled is off.
        return has_ttl
    is_known = 0 <= write.flags <= _MAX_FLAGS
    is_right = 0 < write.ttl <= _MAX_TTL if has_ttl else write.ttl < 0
    return err == errors.BAD_ARGUMENTS and not (is_known and is_right)


def _check_moved(story: Story, timeline: Timeline, fail: Fail) -> None:
    """W6: only who has another connection, or has asked for one, is told that the session has moved."""
    asked: dict[int, dict[int, int]] = {}
    for conn in story.conns.values():
        session_id = conn.asked.session_id or (conn.connected.session_id if conn.connected is not None else 0)
        asked.setdefault(session_id, {})[conn.number] = conn.asked_at
    for operation in story.operations:
        if not operation.txn_zxid:
            continue
        results = timeline.done[operation.txn_zxid].results
        if any(result.err == errors.SESSION_MOVED for result in results):
            until = operation.until if operation.until >= 0 else len(story.lines)
            others = [at for conn, at in asked[operation.call.session_id].items() if conn != operation.call.conn]
            if not any(at < until for at in others):
                text = f"session {operation.call.session_id:#x} is said to have moved, and was nowhere else"
                fail("W6", text, operation, operation.txn_zxid)
