"""Every recipe that kazoo ships, with two or more clients, on coati and on Java alike."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import CancelledError, LockTimeout
from kazoo.recipe.partitioner import SetPartitioner

from tests.interop.peers import eventually

Clients = Callable[..., KazooClient]
DEADLINE_S = 10.0
# kazoo's lease asks datetime.utcnow by default, which Python 3.12 warns about; the clock is an argument.
START = datetime.fromisoformat("2030-01-01")


class Background:
    """Runs one call in a thread."""

    def __init__(self, call: Callable[..., object], *args: object) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._future = self._pool.submit(call, *args)

    def result(self) -> Any:
        try:
            return self._future.result(DEADLINE_S)
        finally:
            self._pool.shutdown(wait=False)

    @property
    def is_done(self) -> bool:
        return self._future.done()


# --- locks ----------------------------------------------------------------------------------------


def test_lock_passes_from_holder_to_waiter_in_order(zk: KazooClient, clients: Clients) -> None:
    first = zk.Lock("/lock", "first")
    others = [clients().Lock("/lock", f"other{number}") for number in range(2)]
    assert first.acquire(timeout=DEADLINE_S)
    order: list[str] = []

    def take(lock: Any, name: str) -> None:
        with lock:
            order.append(name)

    def has_queued(name: str) -> bool:
        return name in first.contenders()

    waits = []
    for number, lock in enumerate(others):
        waits.append(Background(take, lock, f"other{number}"))
        eventually(partial(has_queued, f"other{number}"), "the waiter has queued")
    assert first.contenders() == ["first", "other0", "other1"]
    assert order == []
    first.release()
    for wait in waits:
        wait.result()
    assert order == ["other0", "other1"]
    assert zk.get_children("/lock") == []


def test_lock_without_blocking_with_timeout_and_cancelled(zk: KazooClient, clients: Clients) -> None:
    held, wanted = zk.Lock("/lock"), clients().Lock("/lock")
    assert held.acquire()
    assert wanted.acquire(blocking=False) is False
    with pytest.raises(LockTimeout):
        wanted.acquire(timeout=0.05)
    waiting = Background(wanted.acquire)
    eventually(lambda: len(zk.get_children("/lock")) == 2, "the waiter has queued")
    wanted.cancel()
    with pytest.raises(CancelledError):
        waiting.result()
    held.release()
    assert wanted.acquire(timeout=DEADLINE_S)
    wanted.release()


def test_lock_of_a_dead_session_is_free(zk: KazooClient, clients: Clients) -> None:
    holder = clients()
    holder.Lock("/lock").acquire()
    waiting = Background(zk.Lock("/lock").acquire)
    eventually(lambda: len(zk.get_children("/lock")) == 2, "the waiter has queued")
    holder.stop()
    assert waiting.result() is True


def test_readers_share_and_a_writer_does_not(zk: KazooClient, clients: Clients) -> None:
    one, two = clients(), clients()
    reads = [one.ReadLock("/rw", "one"), two.ReadLock("/rw", "two")]
    for read in reads:
        assert read.acquire(timeout=DEADLINE_S)
    write = zk.WriteLock("/rw", "writer")
    assert write.acquire(blocking=False) is False
    writing = Background(write.acquire)
    eventually(lambda: len(zk.get_children("/rw")) == 3, "the writer has queued")
    late = clients().ReadLock("/rw", "late")
    assert late.acquire(blocking=False) is False
    for read in reads:
        assert not writing.is_done
        read.release()
    assert writing.result() is True
    write.release()
    assert late.acquire(timeout=DEADLINE_S)
    late.release()


def test_semaphore_admits_its_number(zk: KazooClient, clients: Clients) -> None:
    semaphores = [clients().Semaphore("/sem", f"c{number}", max_leases=2) for number in range(3)]
    assert semaphores[0].acquire()
    assert semaphores[1].acquire()
    assert semaphores[2].acquire(blocking=False) is False
    assert sorted(semaphores[2].lease_holders()) == ["c0", "c1"]
    waiting = Background(semaphores[2].acquire)
    semaphores[0].release()
    assert waiting.result() is True
    assert sorted(semaphores[0].lease_holders()) == ["c1", "c2"]


def test_election_gives_one_leader_at_a_time(zk: KazooClient, clients: Clients) -> None:
    elections = [client.Election("/election", f"c{n}") for n, client in enumerate((zk, clients()))]
    leading = [threading.Event() for _ in elections]
    resign = [threading.Event() for _ in elections]

    def lead(number: int) -> None:
        leading[number].set()
        assert resign[number].wait(DEADLINE_S)

    runs = [Background(elections[0].run, lead, 0)]
    assert leading[0].wait(DEADLINE_S)
    runs.append(Background(elections[1].run, lead, 1))
    eventually(lambda: elections[0].contenders() == ["c0", "c1"], "the second candidate has queued")
    assert not leading[1].is_set()
    resign[0].set()
    runs[0].result()
    assert leading[1].wait(DEADLINE_S)
    resign[1].set()
    runs[1].result()


def test_election_can_be_cancelled(zk: KazooClient, clients: Clients) -> None:
    leading, resign = threading.Event(), threading.Event()

    def lead() -> None:
        leading.set()
        resign.wait(DEADLINE_S)

    leader = Background(zk.Election("/election", "leader").run, lead)
    assert leading.wait(DEADLINE_S)
    other = clients().Election("/election", "other")
    candidate = Background(other.run, lead)
    eventually(lambda: len(zk.get_children("/election")) == 2, "the candidate has queued")
    other.cancel()
    assert candidate.result() is None
    resign.set()
    leader.result()


# --- barriers, counter, leases --------------------------------------------------------------------


def test_barrier_holds_until_removed(zk: KazooClient, clients: Clients) -> None:
    barrier = zk.Barrier("/barrier")
    barrier.create()
    other = clients().Barrier("/barrier")
    assert other.wait(0.05) is False
    waiting = Background(other.wait, DEADLINE_S)
    assert barrier.remove() is True
    assert waiting.result() is True
    assert barrier.remove() is False


def test_double_barrier_waits_for_all_to_enter_and_to_leave(zk: KazooClient, clients: Clients) -> None:
    one, two = zk.DoubleBarrier("/double", 2), clients().DoubleBarrier("/double", 2)
    entering = Background(one.enter)
    eventually(lambda: zk.exists("/double") and len(zk.get_children("/double")) == 1, "one has come")
    assert not entering.is_done
    two.enter()
    entering.result()
    assert one.participating
    assert two.participating
    leaving = Background(one.leave)
    two.leave()
    leaving.result()
    assert not one.participating
    assert zk.get_children("/double") == []


def test_counter_adds_up_over_clients(zk: KazooClient, clients: Clients) -> None:
    others = [clients() for _ in range(3)]

    def count(client: KazooClient) -> None:
        counter = client.Counter("/counter")
        for _ in range(10):
            counter += 1
        counter -= 3

    runs = [Background(count, client) for client in others]
    for run in runs:
        run.result()
    counter = zk.Counter("/counter")
    assert counter.value == 21
    counter += 4
    assert (counter.pre_value, counter.post_value) == (21, 25)
    real = zk.Counter("/real", default=1.5)
    real += 0.25
    assert real.value == 1.75


def test_counter_that_curator_can_read(zk: KazooClient) -> None:
    counter = zk.Counter("/shared", support_curator=True)
    counter += 258
    assert zk.get("/shared")[0] == b"\0\0\1\2"


def test_non_blocking_lease_is_held_renewed_and_taken_over(zk: KazooClient, clients: Clients) -> None:
    other = clients()
    hour = timedelta(hours=1)

    def lease(client: KazooClient, who: str, at: datetime) -> bool:
        return bool(client.NonBlockingLease("/lease", hour, who, utcnow=lambda: at))

    assert lease(zk, "one", START)
    assert not lease(other, "two", START + timedelta(minutes=59))
    assert lease(zk, "one", START + timedelta(minutes=30))
    assert not lease(other, "two", START + timedelta(minutes=61))
    assert lease(other, "two", START + timedelta(minutes=91))


def test_multi_non_blocking_lease_admits_its_number(zk: KazooClient, clients: Clients) -> None:
    other = clients()

    def lease(client: KazooClient, who: str) -> bool:
        return bool(client.MultiNonBlockingLease(2, "/leases", timedelta(hours=1), who, utcnow=lambda: START))

    assert [lease(zk, "one"), lease(other, "two"), lease(other, "three"), lease(zk, "one")] == [True, True, False, True]


# --- queues ---------------------------------------------------------------------------------------


def test_queue_is_ordered_by_priority_then_age(zk: KazooClient, clients: Clients) -> None:
    queue = zk.Queue("/queue")
    assert queue.get() is None
    for value, priority in ((b"c", 100), (b"a", 50), (b"d", 100), (b"b", 99)):
        queue.put(value, priority=priority)
    assert len(queue) == 4
    other = clients().Queue("/queue")
    assert [queue.get(), other.get(), queue.get(), other.get(), queue.get()] == [b"a", b"b", b"c", b"d", None]


def test_queue_gives_each_item_to_one_consumer(zk: KazooClient, clients: Clients) -> None:
    wanted = {str(number).encode() for number in range(40)}
    producer = zk.Queue("/queue")
    for value in wanted:
        producer.put(value)

    def consume(client: KazooClient) -> list[bytes]:
        queue, got = client.Queue("/queue"), []
        while (value := queue.get()) is not None:
            got.append(value)
        return got

    runs = [Background(consume, clients()) for _ in range(3)]
    got = [value for run in runs for value in run.result()]
    assert len(got) == len(wanted)
    assert set(got) == wanted


def test_locking_queue_holds_an_item_until_it_is_consumed(zk: KazooClient, clients: Clients) -> None:
    one, two = zk.LockingQueue("/queue"), clients().LockingQueue("/queue")
    one.put_all([b"x", b"y"])
    one.put(b"first", priority=1)
    assert one.get(DEADLINE_S) == b"first"
    assert one.holds_lock()
    assert two.get(DEADLINE_S) == b"x"
    assert one.consume()
    assert two.release()
    assert one.get(DEADLINE_S) == b"x"
    assert one.consume()
    assert two.get(DEADLINE_S) == b"y"
    assert two.consume()
    assert one.get(0.05) is None


def test_locking_queue_wakes_a_waiting_consumer(zk: KazooClient, clients: Clients) -> None:
    waiting = Background(clients().LockingQueue("/queue").get, DEADLINE_S)
    zk.LockingQueue("/queue").put(b"late")
    assert waiting.result() == b"late"


# --- parties --------------------------------------------------------------------------------------


def test_party_lists_its_members(zk: KazooClient, clients: Clients) -> None:
    other = clients()
    one, two = zk.Party("/party", "one"), other.Party("/party", "two")
    one.join()
    two.join()
    assert sorted(one) == ["one", "two"]
    assert len(two) == 2
    one.leave()
    assert list(two) == ["two"]
    other.stop()
    assert list(one) == []


def test_shallow_party_names_its_members_in_the_path(zk: KazooClient, clients: Clients) -> None:
    one, two = zk.ShallowParty("/party", "one"), clients().ShallowParty("/party", "two")
    one.join()
    two.join()
    assert sorted(one) == ["one", "two"]
    two.leave()
    assert list(one) == ["one"]


def test_set_partitioner_divides_and_divides_again(zk: KazooClient, clients: Clients) -> None:
    everything = tuple(range(6))

    def join(client: KazooClient, name: str) -> SetPartitioner:
        return client.SetPartitioner("/parts", everything, identifier=name, time_boundary=0.1)

    one = join(zk, "one")
    one.wait_for_acquire(DEADLINE_S)
    assert sorted(one) == list(everything)
    other = clients()
    two = join(other, "two")
    eventually(lambda: one.release, "the newcomer makes the first member let go")
    one.release_set()
    for member in (one, two):
        member.wait_for_acquire(DEADLINE_S)
        assert member.acquired
    assert sorted([*one, *two]) == list(everything)
    assert len(list(one)) == 3
    two.finish()
    eventually(lambda: one.release, "a leaver makes the others divide again")
    one.release_set()
    one.wait_for_acquire(DEADLINE_S)
    assert sorted(one) == list(everything)
    one.finish()
