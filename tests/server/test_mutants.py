"""Servers with one planted mistake each, and the test that must notice. A test that cannot fail is no test.

Only for the plain build: compiled classes cannot be replaced by interpreted ones.
"""

from __future__ import annotations

import pytest

from coati.server import replica as replica_module

if not (replica_module.__file__ or "").endswith(".py"):
    pytest.skip("compiled classes have no interpreted subclasses", allow_module_level=True)

from collections.abc import Callable, Mapping, Sequence

from coati.core.acl import Access, AclList
from coati.core.change import Change
from coati.core.prepare import Request
from coati.core.sessions import Session, SessionTable
from coati.core.tree import Tree, TreeConfig
from coati.core.watches import Watcher, Watches
from coati.server.driver import Driver
from coati.server.pipeline import Conn
from coati.server.readonly import ReadOnly
from coati.server.recovery import Loaded, load
from coati.server.replica import Replica
from coati.storage.store import SnapshotWriter, Store
from coati.testing.server import Parts
from coati.wire import codes
from coati.wire.records import ACL, Id
from tests.server import test_driver, test_replica, test_single_server_crash
from tests.server import test_replica_sessions as test_sessions
from tools.storm_server import Storm

# What the server does wrong.


class AnswersBeforeSync(Driver):
    """Writes are delivered when they are handed to the disk, not when it has them."""

    def _sync(self) -> None:
        zxid = self._store.last_zxid
        self._store.sync(lambda error: None)
        self._on_synced(zxid, None)


class SendsAfterAFailedAppend(Driver):
    def _append(self, first_zxid: int, payloads: list[bytes]) -> None:
        super()._append(first_zxid, payloads)
        self._is_dead = False


class GoesOnAfterAFailedDisk(Driver):
    def die(self, error: BaseException) -> None:
        self._on_fatal(error)


class ExpiresBeforeItLooks(Driver):
    """The tick comes before what has arrived already."""

    def tick(self) -> None:
        self._begin_turn()
        assert self.replica is not None
        self.replica.on_tick()
        self._finish_turn()


class NeverPauses(Driver):
    def _pause_if_full(self, replica: Replica | ReadOnly, conn: Conn) -> None:
        return


class KeepsRefusedChanges(Tree):
    """What a refused multi had staged stays for those who come later."""

    __slots__ = ()

    def discard(self, change: Change) -> None:
        return


def load_keeping(store: Store, config: TreeConfig) -> Loaded:
    loaded = load(store, config)
    loaded.tree.__class__ = KeepsRefusedChanges
    return loaded


def load_counting_children(store: Store, config: TreeConfig) -> Loaded:
    """Sequence numbers start again from the children that are left."""
    loaded = load(store, config)
    for node in loaded.tree.nodes.values():
        node.cversion = node.child_count()
    return loaded


class SeesEverything(Access):
    """Nobody is asked for READ."""

    def allows(self, acl: AclList, perm: int, ids: list[Id]) -> bool:
        return perm == codes.PERM_READ or super().allows(acl, perm, ids)


class ReadsAtOnce(Replica):
    """Reads do not wait for the writes of their own session."""

    def _answer_in_turn(self, conn: Conn, data: bytes, start: int, end: int) -> None:
        outstanding, conn.outstanding = conn.outstanding, 0
        super()._answer_in_turn(conn, data, start, end)
        conn.outstanding = outstanding


class ForgetsTheOldHome(Replica):
    """A session that comes back leaves its old connection open."""

    def on_received(self, conn: Conn, data: bytes) -> None:
        if conn.session is None:
            self.homes.clear()
        super().on_received(conn, data)


class KeepsWaitingReads(Replica):
    """What a closed connection had asked is answered all the same, and its watches are set."""

    def on_closed(self, conn: Conn) -> None:
        waiting = conn.waiting.copy()
        super().on_closed(conn)
        conn.waiting = waiting


class TellsTooLate(Replica):
    """Events come after the reply that reveals them."""

    def _deliver(self, change: Change, request: Request | None) -> None:
        super()._deliver(change, request)
        super()._notify(change)

    def _notify(self, change: Change) -> None:
        return


class WorksAfterTheEnd(Replica):
    """Requests behind a closeSession are executed."""

    def _on_request(self, conn: Conn, xid: int, op: int, data: bytes, start: int, end: int) -> None:
        super()._on_request(conn, xid, op, data, start, end)
        conn.is_done = False


class LeavesEphemerals(Replica):
    """The connection of an expired session stays open."""

    def _end_session(self, session_id: int, conn: object | None) -> None:
        self.sessions.commit_close(session_id)


class KeepsWatches(Watches):
    def remove_watcher(self, watcher: Watcher) -> None:
        return


class FiresTwice(Watches):
    """A one-shot watch is not used up."""

    def trigger(self, event_type: int, path: bytes) -> list[Watcher]:
        told = super().trigger(event_type, path)
        for watcher in told:
            self.add_data(path, watcher)
        return told


class ExpiresEarly(SessionTable):
    """Without the grace of a tick."""

    def expired(self, now_ms: int) -> list[Session]:
        return super().expired(now_ms + self.tick_ms)


class ExpiresLate(SessionTable):
    """Whoever was once given a long timeout keeps its place."""

    def set_timeout(self, session: Session, timeout_ms: int, now_ms: int) -> None:
        session.timeout_ms = timeout_ms
        session.deadline_ms = now_ms + timeout_ms


class GivesIdsTwice(SessionTable):
    def take_id(self) -> int:
        session_id = self._next_id
        self._next_id = session_id + 1
        return session_id


class NamesSnapshotsTooEarly(Store):
    """A snapshot holds more than its name says."""

    def begin_snapshot(
        self, zxid: int, sessions: Mapping[int, int], acls: Mapping[int, Sequence[ACL]]
    ) -> SnapshotWriter:
        return super().begin_snapshot(max(zxid - 3, 1), sessions, acls)


class ForgetsSessions(Store):
    def begin_snapshot(
        self, zxid: int, sessions: Mapping[int, int], acls: Mapping[int, Sequence[ACL]]
    ) -> SnapshotWriter:
        return super().begin_snapshot(zxid, {}, acls)


# Which test notices.

Test = Callable[..., None]
REPLICA: list[tuple[str, Parts, Test]] = [
    ("reads", Parts(replica=ReadsAtOnce), test_replica.test_pipelined_replies_leave_in_the_order_of_the_requests),
    ("overlay", Parts(load=load_keeping), test_replica.test_a_refused_multi_leaves_nothing_for_those_behind_it),
    ("home", Parts(replica=ForgetsTheOldHome), test_sessions.test_a_session_that_comes_back_leaves_its_old_connection),
    ("order", Parts(replica=TellsTooLate), test_replica.test_an_event_comes_before_the_reply_that_reveals_it),
    ("twice", Parts(watches=FiresTwice), test_replica.test_an_event_comes_before_the_reply_that_reveals_it),
    ("READ", Parts(access=SeesEverything), test_replica.test_events_go_only_to_those_who_may_read),
    ("watches", Parts(watches=KeepsWatches), test_replica.test_the_watches_of_a_connection_go_with_it),
    ("waiting", Parts(replica=KeepsWaitingReads), test_replica.test_the_watches_of_a_connection_go_with_it),
    ("end", Parts(replica=WorksAfterTheEnd), test_replica.test_no_request_is_executed_behind_a_close),
    ("inbox", Parts(driver=ExpiresBeforeItLooks), test_sessions.test_thousands_may_expire_at_once_and_the_others_live),
    ("ghost", Parts(replica=LeavesEphemerals), test_sessions.test_the_ephemerals_of_an_expired_session_go_at_one_zxid),
    ("late", Parts(sessions=ExpiresLate),
     test_sessions.test_a_shorter_timeout_of_a_session_that_comes_back_counts_at_once),
    ("ids", Parts(sessions=GivesIdsTwice), test_sessions.test_session_ids_are_not_given_twice_when_the_clock_goes_back),
    ("session", Parts(driver=AnswersBeforeSync), test_driver.test_a_session_is_not_told_before_its_sync),
    ("append", Parts(driver=SendsAfterAFailedAppend),
     test_driver.test_reads_of_the_turn_in_which_an_append_fails_are_not_sent),
    ("pause", Parts(driver=NeverPauses), test_driver.test_who_writes_too_much_is_paused_and_resumed),
    ("name", Parts(store=NamesSnapshotsTooEarly),
     test_driver.test_a_snapshot_alone_gives_tree_digest_and_sessions_back),
    ("sessions", Parts(store=ForgetsSessions), test_driver.test_a_snapshot_alone_gives_tree_digest_and_sessions_back),
    ("numbers", Parts(load=load_counting_children),
     test_single_server_crash.test_sequence_numbers_go_on_after_a_restart),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "test"), [case[1:] for case in REPLICA], ids=[case[0] for case in REPLICA])
def test_a_planted_mistake_is_noticed(parts: Parts, test: Test) -> None:
    with pytest.raises((AssertionError, ValueError)):
        test(parts=parts)


@pytest.mark.parametrize("kind", ["create", "refused", "close"])
def test_answers_before_the_sync_are_noticed(kind: str) -> None:
    with pytest.raises(AssertionError):
        test_driver.test_nothing_is_answered_before_its_sync(kind, Parts(driver=AnswersBeforeSync))


@pytest.mark.parametrize("kind", ["write", "sync", "append"])
def test_going_on_after_a_failed_disk_is_noticed(kind: str) -> None:
    with pytest.raises(AssertionError):
        test_driver.test_a_failed_disk_is_told_once_and_nothing_is_sent_any_more(
            kind, Parts(driver=GoesOnAfterAFailedDisk)
        )


@pytest.mark.parametrize("offset_ms", [0, 700, 1999])
def test_expiry_without_grace_is_noticed(offset_ms: int) -> None:
    test = test_sessions.test_a_silent_session_expires_after_its_timeout_and_within_a_tick
    with pytest.raises(AssertionError):
        test(offset_ms, Parts(sessions=ExpiresEarly))


@pytest.mark.slow
@pytest.mark.parametrize(
    "parts",
    [
        Parts(driver=AnswersBeforeSync),
        Parts(load=load_keeping),
        Parts(load=load_counting_children),
        Parts(replica=ReadsAtOnce),
        Parts(replica=TellsTooLate),
        Parts(watches=FiresTwice),
    ],
    ids=["sync", "overlay", "numbers", "reads", "order", "twice"],
)
def test_the_storm_notices_too(parts: Parts) -> None:
    """Within a few seeds, whatever it is."""
    with pytest.raises(AssertionError):
        storms(parts)


def storms(parts: Parts) -> None:
    for seed in range(1, 9):
        Storm(seed, crash_every=3, parts=parts).go(200)
