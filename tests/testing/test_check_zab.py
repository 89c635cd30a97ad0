"""The checks of traces and logs: a good run of three servers passes, and each with one violation is told by its id."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coati.testing import history as h
from coati.testing.check_zab import Lag, Quorum, check_logs, check_traces, committed_log, two_leaders
from coati.testing.history import ServerLog, Trace, Violation
from tests.testing.kit import ids_of

QUORUM = Quorum([1, 2, 3])
OBSERVER = 4


def z(epoch: int, counter: int) -> int:
    return epoch << 32 | counter


class Tale:
    """Traces by hand, one every 10 ms."""

    def __init__(self) -> None:
        self.traces: list[Trace] = []
        self.now_ms = 0

    def add(
        self,
        sid: int,
        kind: str,
        zxid: int = 0,
        *,
        epoch: int = 0,
        accepted: int = 0,
        payload: bytes = b"",
        digest: int | None = None,
        acks: tuple[int, ...] = (),
        count: int = 0,
        is_leader: bool = False,
    ) -> None:
        self.now_ms += 10
        self.traces.append(
            Trace(self.now_ms, sid, kind, zxid, epoch, accepted, payload, digest, acks, count, is_leader)
        )

    def log(self, sid: int, zxid: int, *, is_synced: bool = True) -> None:
        self.add(sid, h.LOGGED, zxid, payload=b"txn %d" % zxid)
        if is_synced:
            self.add(sid, h.SYNCED, zxid)

    def write(self, leader: int, followers: tuple[int, ...], zxid: int) -> None:
        """One txn, from its proposal to its delivery."""
        self.add(leader, h.PROPOSED, zxid, payload=b"txn %d" % zxid)
        self.log(leader, zxid)
        for sid in followers:
            self.log(sid, zxid)
            self.add(sid, h.ACKED, zxid)
        self.add(leader, h.COMMITTED, zxid, acks=(leader, *followers))
        for sid in (leader, *followers):
            self.add(sid, h.APPLIED, zxid, digest=zxid * 7)

    def lead(self, leader: int, followers: tuple[int, ...], epoch: int) -> None:
        """The discovery and synchronisation of an epoch, with nothing to send."""
        for sid in (leader, *followers):
            self.add(sid, h.EPOCHS, epoch=epoch - 1, accepted=epoch)
            self.add(sid, h.PROMISED, epoch=epoch)
        self.add(leader, h.LEADING, epoch=epoch)
        for sid in (leader, *followers):
            self.add(sid, h.EPOCHS, epoch=epoch, accepted=epoch)
        for sid in followers:
            self.add(sid, h.ACKED_LEADER, epoch=epoch)
        for sid in (leader, *followers):
            self.add(sid, h.SERVING, epoch=epoch, is_leader=sid == leader)


def good() -> Tale:
    """Two epochs; 3 misses the end of the first, joins by a snapshot, and 1 loses its tail."""
    tale = Tale()
    for sid in (1, 2, 3):
        tale.add(sid, h.RECOVERED)
    tale.lead(1, (2, 3), 1)
    tale.write(1, (2, 3), z(1, 1))
    tale.write(1, (2,), z(1, 2))
    tale.add(1, h.PROPOSED, z(1, 3), payload=b"lost")
    tale.add(1, h.LOGGED, z(1, 3), payload=b"lost")
    tale.add(1, h.DOWN)
    tale.add(2, h.LOOKING, z(1, 2))
    tale.add(3, h.LOOKING, z(1, 1))
    tale.add(3, h.INSTALLED, z(1, 2))
    tale.lead(2, (3,), 2)
    tale.write(2, (3,), z(2, 1))
    tale.add(1, h.RECOVERED, z(1, 3), epoch=1, accepted=1)
    tale.add(1, h.LOOKING, z(1, 3))
    tale.add(1, h.TRUNCATED, z(1, 2))
    tale.add(1, h.EPOCHS, epoch=1, accepted=2)
    tale.log(1, z(2, 1))
    tale.add(1, h.EPOCHS, epoch=2, accepted=2)
    tale.add(1, h.ACKED_LEADER, epoch=2)
    tale.add(1, h.SERVING, epoch=2)
    tale.add(1, h.APPLIED, z(2, 1), digest=z(2, 1) * 7)
    tale.write(2, (1, 3), z(2, 2))
    return tale


def checked(tale: Tale) -> list[Violation]:
    return check_traces(tale.traces, QUORUM, lags=[Lag(1000)])


def test_an_epoch_that_is_written_when_its_role_is_over_promises_nothing_later() -> None:
    """The link breaks while the disk writes the epoch; then the same leader has more for this server."""
    tale = good()
    tale.add(3, h.LOOKING, z(2, 2))
    tale.add(3, h.EPOCHS, epoch=3, accepted=3)
    tale.add(3, h.JOINING)
    tale.log(3, z(3, 1))
    tale.add(3, h.ACKED_LEADER, epoch=3)
    assert checked(tale) == []
    late = next(trace for trace in tale.traces if trace.kind == h.JOINING)
    tale.traces.remove(late)
    assert ids_of(checked(tale)) == ["Z7"]


def test_a_good_run_passes() -> None:
    tale = good()
    assert checked(tale) == []
    assert two_leaders(tale.traces) == []


def lead_the_same_epoch(tale: Tale) -> None:
    tale.add(3, h.LEADING, epoch=2)


def apply_other_content(tale: Tale) -> None:
    tale.add(3, h.APPLIED, z(2, 2), payload=b"y")


def log_other_content(tale: Tale) -> None:
    tale.add(3, h.LOGGED, z(2, 3), payload=b"y")
    tale.add(1, h.LOGGED, z(2, 3), payload=b"x")


def apply_what_nobody_proposed(tale: Tale) -> None:
    tale.add(3, h.APPLIED, z(2, 3))


def apply_with_a_hole(tale: Tale) -> None:
    """(2,4) without (2,3)."""
    for counter in (3, 4):
        tale.add(2, h.PROPOSED, z(2, counter), payload=b"p")
    tale.add(3, h.APPLIED, z(2, 4))


def skip_into_the_next_epoch(tale: Tale) -> None:
    """4925: 3 never applied the last txn of epoch 2 and goes on with epoch 3."""
    tale.write(2, (1,), z(2, 3))
    tale.add(2, h.PROPOSED, z(3, 1), payload=b"p")
    tale.add(3, h.APPLIED, z(3, 1))


def skip_into_the_next_epoch_by_a_new_role(tale: Tale) -> None:
    """The same behind an election: nothing was applied in the new role before."""
    tale.write(2, (1,), z(2, 3))
    tale.add(3, h.LOOKING, z(2, 2))
    tale.add(2, h.PROPOSED, z(3, 1), payload=b"p")
    tale.add(3, h.APPLIED, z(3, 1))


def skip_what_only_a_leader_had(tale: Tale) -> None:
    """1 comes back with a txn in its log that nobody applied, a quorum follows it, and 3 goes on without the txn."""
    tale.add(2, h.PROPOSED, z(2, 3), payload=b"txn %d" % z(2, 3))
    tale.log(1, z(2, 3))
    tale.add(1, h.DOWN)
    tale.add(1, h.RECOVERED, z(2, 3), epoch=2, accepted=2)
    tale.lead(1, (3,), 3)
    tale.write(1, (3,), z(3, 1))


def apply_again_in_a_new_role(tale: Tale) -> None:
    tale.add(3, h.LOOKING, z(2, 2))
    tale.add(3, h.APPLIED, z(2, 2))


def go_back(tale: Tale) -> None:
    """(2,1) again behind (2,2)."""
    tale.add(3, h.APPLIED, z(2, 1))


def lead_without_the_committed(tale: Tale) -> None:
    tale.write(2, (1,), z(2, 3))
    tale.lead(3, (1,), 3)


def ack_before_the_sync(tale: Tale) -> None:
    tale.log(3, z(2, 3), is_synced=False)
    tale.add(3, h.ACKED, z(2, 3))
    tale.add(3, h.SYNCED, z(2, 3))


def ack_the_leader_before_the_sync(tale: Tale) -> None:
    """3023, 3911, 4646: the synced proposals are logged behind the ack of NEWLEADER."""
    tale.log(3, z(2, 3), is_synced=False)
    tale.add(3, h.EPOCHS, epoch=3, accepted=3)
    tale.add(3, h.ACKED_LEADER, epoch=3)


def write_the_epoch_before_the_sync(tale: Tale) -> None:
    """4643: currentEpoch first, then the txns."""
    tale.log(3, z(2, 3), is_synced=False)
    tale.add(3, h.EPOCHS, epoch=3, accepted=3)
    tale.add(3, h.SYNCED, z(2, 3))
    tale.add(3, h.ACKED_LEADER, epoch=3)


def lose_what_was_durable(tale: Tale) -> None:
    tale.add(3, h.DOWN)
    tale.add(3, h.RECOVERED, z(2, 1), epoch=2, accepted=2)


def come_back_with_an_old_epoch(tale: Tale) -> None:
    """2307, 4269, 582."""
    tale.add(3, h.RECOVERED, z(2, 2), epoch=1, accepted=1)


def hold_txns_of_an_unknown_epoch(tale: Tale) -> None:
    """currentEpoch 4, the last zxid in epoch 5."""
    tale.add(5, h.RECOVERED, z(5, 1), epoch=4, accepted=4)


def lower_an_epoch(tale: Tale) -> None:
    tale.add(3, h.EPOCHS, epoch=1, accepted=2)


def serve_an_epoch_not_written(tale: Tale) -> None:
    tale.add(3, h.SERVING, epoch=3)


def lead_an_epoch_not_accepted(tale: Tale) -> None:
    """335: the leader proposes an epoch that it has not itself on disk."""
    tale.add(1, h.LEADING, epoch=7)


def promise_an_epoch_not_written(tale: Tale) -> None:
    """335: ACKEPOCH leaves before acceptedEpoch is durable."""
    tale.add(3, h.PROMISED, epoch=3)
    tale.add(3, h.EPOCHS, epoch=2, accepted=3)


def lead_without_promises(tale: Tale) -> None:
    tale.add(3, h.EPOCHS, epoch=2, accepted=3)
    tale.add(3, h.PROMISED, epoch=3)
    tale.add(3, h.LEADING, epoch=3)


def lead_with_the_promise_of_an_observer(tale: Tale) -> None:
    tale.add(OBSERVER, h.EPOCHS, epoch=2, accepted=3)
    tale.add(OBSERVER, h.PROMISED, epoch=3)
    lead_without_promises(tale)


def serve_before_a_quorum_has_the_history(tale: Tale) -> None:
    tale.lead(3, (1,), 3)
    last = next(trace for trace in reversed(tale.traces) if trace.kind == h.ACKED_LEADER)
    tale.traces.remove(last)


def log_with_a_hole(tale: Tale) -> None:
    """2846, 4882: 7 behind 3."""
    tale.log(3, z(2, 7))


def claim_more_than_the_disk_has(tale: Tale) -> None:
    """5094, 3642: memory is ahead of the disk."""
    tale.add(3, h.LOOKING, z(2, 3))


def claim_less_than_the_disk_has(tale: Tale) -> None:
    """2845: the txn that is only logged is forgotten without a restart."""
    tale.log(3, z(2, 3))
    tale.add(3, h.LOOKING, z(2, 2))


def differ(tale: Tale) -> None:
    tale.add(4, h.APPLIED, z(2, 2), digest=1)


def commit_without_a_quorum(tale: Tale) -> None:
    tale.log(2, z(2, 3))
    tale.add(2, h.COMMITTED, z(2, 3), acks=(2,))


def count_an_observer(tale: Tale) -> None:
    tale.log(2, z(2, 3))
    tale.log(OBSERVER, z(2, 3))
    tale.add(OBSERVER, h.ACKED, z(2, 3))
    tale.add(2, h.COMMITTED, z(2, 3), acks=(2, OBSERVER))


def count_an_observer_by_luck(tale: Tale) -> None:
    tale.log(2, z(2, 3))
    tale.log(3, z(2, 3))
    tale.add(3, h.ACKED, z(2, 3))
    tale.add(2, h.COMMITTED, z(2, 3), acks=(2, OBSERVER))


def count_oneself_before_the_sync(tale: Tale) -> None:
    """1 and 3 are a quorum without it."""
    tale.add(2, h.PROPOSED, z(2, 3), payload=b"txn %d" % z(2, 3))
    tale.log(2, z(2, 3), is_synced=False)
    for sid in (1, 3):
        tale.log(sid, z(2, 3))
        tale.add(sid, h.ACKED, z(2, 3))
    tale.add(2, h.COMMITTED, z(2, 3), acks=(1, 2, 3))


def count_who_has_said_nothing(tale: Tale) -> None:
    tale.log(2, z(2, 3))
    tale.log(3, z(2, 3))
    tale.add(2, h.COMMITTED, z(2, 3), acks=(2, 3))


def count_too_few(tale: Tale) -> None:
    """There is a quorum, and the leader does not know of it."""
    tale.log(2, z(2, 3))
    tale.log(3, z(2, 3))
    tale.add(3, h.ACKED, z(2, 3))
    tale.add(2, h.COMMITTED, z(2, 3), acks=(2,))


def lead_on_behind_another(tale: Tale) -> None:
    """2 does not notice for long that the others have left it."""
    tale.lead(1, (3,), 3)
    tale.write(1, (3,), z(3, 1))
    for _ in range(200):
        tale.add(2, h.WATCHES)


def stay_behind(tale: Tale) -> None:
    tale.write(2, (1,), z(2, 3))
    for _ in range(200):
        tale.add(2, h.WATCHES)


def leak_watches(tale: Tale) -> None:
    """1382, 3131."""
    tale.add(3, h.WATCHES, count=5)


PLANTED: list[tuple[str, Callable[[Tale], None]]] = [
    ("Z1", lead_the_same_epoch), ("Z2", apply_other_content), ("Z2", log_other_content),
    ("Z3", apply_what_nobody_proposed), ("Z4", apply_with_a_hole), ("Z4", skip_into_the_next_epoch),
    ("Z4", skip_into_the_next_epoch_by_a_new_role), ("Z4", skip_what_only_a_leader_had), ("Z5", go_back),
    ("Z12", lead_without_promises), ("Z13", lead_with_the_promise_of_an_observer),
    ("Z12", serve_before_a_quorum_has_the_history), ("Z5", apply_again_in_a_new_role),
    ("Z8", promise_an_epoch_not_written), ("Z12", count_too_few), ("Z13", count_oneself_before_the_sync),
    ("Z13", count_who_has_said_nothing), ("R5", lead_on_behind_another), ("Z6", lead_without_the_committed),
    ("Z7", ack_before_the_sync), ("Z7", ack_the_leader_before_the_sync), ("Z7", write_the_epoch_before_the_sync),
    ("Z7", lose_what_was_durable), ("Z8", come_back_with_an_old_epoch), ("Z8", hold_txns_of_an_unknown_epoch),
    ("Z8", lower_an_epoch), ("Z8", serve_an_epoch_not_written), ("Z8", lead_an_epoch_not_accepted),
    ("Z9", log_with_a_hole), ("Z10", claim_more_than_the_disk_has), ("Z10", claim_less_than_the_disk_has),
    ("Z11", differ), ("Z12", commit_without_a_quorum), ("Z13", count_an_observer), ("Z13", count_an_observer_by_luck),
    ("R5", stay_behind), ("E7", leak_watches),
]  # fmt: skip


@pytest.mark.parametrize(("id_", "plant"), PLANTED, ids=[f"{id_} {plant.__name__}" for id_, plant in PLANTED])
def test_a_planted_violation_is_found(id_: str, plant: Callable[[Tale], None]) -> None:
    tale = good()
    plant(tale)
    found = checked(tale)
    assert id_ in ids_of(found), "\n".join(map(str, found))


# What nothing else would notice.
LONE = (
    skip_what_only_a_leader_had, count_oneself_before_the_sync, count_too_few, lead_without_promises,
    lead_with_the_promise_of_an_observer, serve_before_a_quorum_has_the_history,
)  # fmt: skip


def test_a_planted_violation_of_one_kind_is_that_one_only() -> None:
    for id_, plant in PLANTED:
        if plant in LONE:
            tale = good()
            plant(tale)
            assert ids_of(checked(tale)) == [id_], plant.__name__


def test_a_leader_may_apply_its_tail_where_nobody_sees_it() -> None:
    """1 leads and delivers what it had, and nobody comes; then it follows who has the same."""
    tale = good()
    tale.add(2, h.PROPOSED, z(2, 3), payload=b"txn %d" % z(2, 3))
    for sid in (1, 3):
        tale.log(sid, z(2, 3))
        tale.add(sid, h.LOOKING, z(2, 3))
    tale.lead(3, (1,), 3)
    tale.add(3, h.APPLIED, z(2, 3))
    tale.write(3, (1,), z(3, 1))
    assert checked(tale) == []


def test_nothing_is_late_but_in_calm_times() -> None:
    tale = good()
    stay_behind(tale)
    assert check_traces(tale.traces, QUORUM, lags=[Lag(1000, [(0, 1), (5, 6)])]) == []
    assert ids_of(check_traces(tale.traces, QUORUM, lags=[Lag(1000, [(0, tale.now_ms)])])) == ["R5"]


def count_late(*, has_snapshot: bool) -> Tale:
    """1 is stopped, and counts its acks when 2 leads, which came back with the txn in its tree; 3 got a snapshot."""
    tale = Tale()
    for sid in (1, 2, 3):
        tale.add(sid, h.RECOVERED)
    tale.lead(1, (2, 3), 1)
    tale.write(1, (2, 3), z(1, 1))
    tale.add(1, h.PROPOSED, z(1, 2), payload=b"txn %d" % z(1, 2))
    for sid in (1, 2):
        tale.log(sid, z(1, 2))
    tale.add(2, h.ACKED, z(1, 2))
    tale.add(2, h.DOWN)
    tale.add(2, h.RECOVERED, z(1, 2), epoch=1, accepted=1)
    tale.add(2, h.LOOKING, z(1, 2))
    tale.add(3, h.LOOKING, z(1, 1))
    if has_snapshot:
        tale.add(3, h.INSTALLED, z(1, 2))
    else:
        tale.log(3, z(1, 2))
    tale.lead(2, (3,), 2)
    tale.add(1, h.COMMITTED, z(1, 2), acks=(1, 2))
    tale.add(1, h.APPLIED, z(1, 2))
    tale.add(1, h.LOOKING, z(1, 2))
    for _ in range(200):
        tale.add(2, h.WATCHES)
    return tale


def test_nobody_lacks_what_it_began_with_when_a_deposed_leader_counts_late() -> None:
    """Simulator, seeds 100243 (a snapshot) and 100555 (a restart)."""
    assert checked(count_late(has_snapshot=True)) == []
    (found,) = checked(count_late(has_snapshot=False))
    assert found.id == "R5"
    assert "server 3" in found.text


def test_hierarchical_quorums() -> None:
    quorum = Quorum([1, 2, 3, 4, 5, 6], groups=[[1, 2, 3], [4, 5, 6], [7]], weights={7: 0, 6: 3})
    assert quorum.has([1, 2, 6])
    assert not quorum.has([1, 2, 3, 4, 5])
    assert not quorum.has([6])


def test_two_leaders_are_seen() -> None:
    tale = good()
    start_ms = tale.now_ms + 10
    tale.add(3, h.SERVING, epoch=3, is_leader=True)
    tale.add(2, h.LOOKING, z(2, 2))
    assert two_leaders(tale.traces) == [(start_ms, start_ms + 10)]
    tale.add(1, h.SERVING, epoch=4, is_leader=True)
    assert two_leaders(tale.traces)[1:] == [(tale.now_ms, tale.now_ms)]


def test_logs_are_compared() -> None:
    good_logs = {1: ServerLog([(1, b"a"), (2, b"b")]), 2: ServerLog([(2, b"b"), (3, b"c")], 2)}
    assert check_logs(good_logs) == []
    assert ids_of(check_logs({1: ServerLog([(3, b"a"), (7, b"b")], 2)})) == ["Z9"]
    assert ids_of(check_logs({1: ServerLog([(1, b"a")]), 2: ServerLog([(1, b"b")])})) == ["Z2"]


def test_the_committed_log_is_made_of_those_that_could_win() -> None:
    """2 joined by a snapshot at 1:2; what 1 has beside it was never committed; 3 never had anything."""
    first = [(z(1, 1), b"a"), (z(1, 2), b"b"), (z(1, 3), b"never")]
    second = [(z(2, 1), b"c")]
    logs = {1: ServerLog(first), 2: ServerLog(second, z(1, 2)), 3: ServerLog([])}
    assert committed_log([], logs) == [*first[:2], *second]
    tale = good()
    assert [zxid for zxid, _ in committed_log(tale.traces, logs)] == [z(1, 1), z(1, 2), z(2, 1), z(2, 2)]


def test_what_a_leader_has_in_its_snapshot_is_committed_too() -> None:
    """Nobody has applied it: 1 died before it served, and 3 has it from 1 as a snapshot, and leads."""
    tale = good()
    tale.add(2, h.PROPOSED, z(2, 3), payload=b"txn %d" % z(2, 3))
    tale.log(1, z(2, 3))
    tale.add(1, h.LOOKING, z(2, 3))
    tale.add(3, h.LOOKING, z(2, 2))
    tale.add(3, h.INSTALLED, z(2, 3))
    tale.add(1, h.DOWN)
    tale.add(3, h.LOOKING, z(2, 3))
    tale.log(2, z(2, 3))
    tale.add(2, h.LOOKING, z(2, 3))
    tale.lead(3, (2,), 4)
    tale.write(3, (2,), z(4, 1))
    assert checked(tale) == []
    assert [zxid for zxid, _ in committed_log(tale.traces, {})][-3:] == [z(2, 2), z(2, 3), z(4, 1)]
