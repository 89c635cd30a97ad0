"""The recipes for threads, against a server: what is a block of a task there is a block of a thread here."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from coati import (
    EventType,
    LeadershipLost,
    LockLost,
    LockTimeout,
    MultiError,
    NoNode,
    Set,
    sync,
)
from coati.recipes.instances import Instance
from coati.sync import bridge
from coati.sync.loop import Job, LoopThread
from tests.interop.peers import CoatiServer
from tests.sync.kit import LONG_S, interrupted_when, until


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


# --- locks ----------------------------------------------------------------------------------------


def test_a_lock_is_held_in_its_block(zk: sync.Client) -> None:
    with zk.lock("/l", id=b"me") as held:
        inside = held.is_held
        assert inside
        held.check()
        assert held.lost(0) is None
        assert held.token > 0
        assert held.owner == zk.session.id
        assert held.deadline > 0
        zk.create("/x")
        zk.multi([held.guard(), Set("/x", b"1")])
        (holder,) = zk.lock("/l").holders()
        assert (holder.id, holder.path, holder.session) == (b"me", held.path, zk.session.id)
    assert not held.is_held
    assert not held.is_lost
    with pytest.raises(LockLost):
        held.check()
    assert zk.lock("/l").holders() == []


def test_one_thread_at_a_time(zk: sync.Client) -> None:
    zk.create("/n", b"0")
    lock = zk.lock("/l")

    def work() -> None:
        for _ in range(5):
            with lock:
                zk.set("/n", b"%d" % (int(zk.get("/n").data) + 1))

    for thread in [in_thread(work) for _ in range(4)]:
        thread.join()
    assert zk.get("/n").data == b"20"


def test_a_lock_belongs_to_the_thread(zk: sync.Client) -> None:
    lock = zk.lock("/l", reentrant=True)
    with lock as first:
        with lock as second:
            assert second.path == first.path
        # Another one has to wait.
        with zk.lock("/l").try_() as held:
            assert held is None
        refused: list[str] = []

        def release() -> None:
            try:
                lock.release()
            except RuntimeError as error:
                refused.append(str(error))

        in_thread(release).join()
        assert len(refused) == 1
    with lock.try_() as held:
        assert held is not None
    strict = zk.lock("/l")
    with strict, pytest.raises(RuntimeError, match="already"):
        strict.acquire()


def test_acquire_and_release_without_a_block(zk: sync.Client) -> None:
    lock = zk.lock("/l")
    held = lock.acquire()
    assert zk.lock("/l").try_acquire() is None
    lock.release()
    again = lock.try_acquire()
    assert again is not None
    # By name, from any thread.
    in_thread(lambda: lock.release(again)).join()
    assert not held.is_held
    assert not again.is_held


def test_a_lock_that_is_not_free_in_time(zk: sync.Client) -> None:
    with zk.lock("/l"):
        late = zk.lock("/l", timeout=0.01)
        with pytest.raises(LockTimeout):
            late.acquire()


def test_an_interrupt_while_waiting_for_a_lock_leaves_nothing(zk: sync.Client) -> None:
    with zk.lock("/l"):
        waiting = zk.lock("/l")
        with interrupted_when(lambda: len(zk.children("/l")) == 2), pytest.raises(KeyboardInterrupt):
            waiting.acquire()
        until(lambda: len(zk.children("/l")) == 1)


@pytest.mark.parametrize("way", ["block", "acquire", "try_acquire"])
def test_a_lock_won_when_the_interrupt_came_is_given_back(
    zk: sync.Client, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    lock = zk.lock("/l")
    first = zk.lock("/l")
    if way != "try_acquire":
        first.acquire()

    def too_late(loop: LoopThread, job: Job[object]) -> None:
        monkeypatch.undo()
        if way != "try_acquire":
            first.release()
        until(lambda: job.is_over)

    def signalled() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LoopThread, "withdraw", too_late)
    waits: Callable[[], object] = {
        "block": lock.__enter__,
        "acquire": lock.acquire,
        "try_acquire": lock.try_acquire,
    }[way]
    if way == "try_acquire":
        # It waits for nobody: interrupted as soon as it is under way.
        post = LoopThread.post

        def posted(loop: LoopThread, work: Callable[[], None]) -> None:
            monkeypatch.setattr(LoopThread, "post", post)
            post(loop, work)
            signalled()

        monkeypatch.setattr(LoopThread, "post", posted)
        with pytest.raises(KeyboardInterrupt):
            waits()
    else:
        with interrupted_when(lambda: len(zk.children("/l")) == 2), pytest.raises(KeyboardInterrupt):
            waits()
    until(lambda: zk.children("/l") == [])


def test_a_lost_lock_tells_its_callback_on_a_thread_of_its_own(zk: sync.Client) -> None:
    told: list[tuple[LockLost, int, bool]] = []
    seen = threading.Event()

    def on_loss(error: LockLost) -> None:
        # It may use the client.
        told.append((error, threading.get_ident(), zk.exists(error.path) is None))
        seen.set()

    with zk.lock("/l", on_loss=on_loss) as held:
        zk.delete(held.path)
        assert seen.wait(LONG_S)
        assert held.is_lost
        assert held.lost() is not None
        with pytest.raises(LockLost):
            held.check()
        with pytest.raises((MultiError, NoNode)):
            zk.multi([held.guard()])
    ((error, ident, was_gone),) = told
    assert isinstance(error, LockLost)
    assert ident != threading.get_ident()
    assert was_gone


def test_nothing_is_told_once_the_block_is_left(zk: sync.Client) -> None:
    told: list[LockLost] = []
    lock = zk.lock("/l", on_loss=told.append)
    with lock as held:
        pass
    with lock.try_() as again:
        assert again is not None
    assert lock._stops == {}
    assert not held.is_lost
    assert told == []


def test_a_lock_can_be_asked_for(zk: sync.Client) -> None:
    with zk.lock("/l") as held:
        assert held.revoked(0) is False
        (holder,) = zk.lock("/l").holders()
        assert holder.revoke() is True
        assert held.revoked(LONG_S) is True


def test_the_other_locks(zk: sync.Client) -> None:
    with zk.exclusive_lock("/e", id=b"me"):
        holder = zk.exclusive_lock("/e").holder()
        assert holder is not None
        assert holder.id == b"me"
    assert zk.exclusive_lock("/e").holder() is None
    with zk.semaphore("/s", 2), zk.semaphore("/s", 2) as second:
        assert second.is_held
        with zk.semaphore("/s", 2).try_() as third:
            assert third is None
        assert len(zk.semaphore("/s", 2).holders()) == 2
    with zk.semaphore_mutex("/sm") as held:
        assert held.is_held
    with zk.multilock(["/m1", "/m2"]) as both:
        assert both.is_held
        assert [part.token for part in both.parts] == list(both.tokens)
        assert len(zk.multi(both.guards())) == 2
        assert both.lost(0) is None
        with zk.multilock(["/m2"]).try_() as nothing:
            assert nothing is None


def test_readers_and_writers(zk: sync.Client) -> None:
    lock = zk.rwlock("/rw")
    with lock.read() as one:
        results: list[bool] = []

        def read() -> None:
            with lock.read() as other:
                results.append(other.is_held)

        in_thread(read).join()
        assert results == [True]
        with zk.rwlock("/rw").write().try_() as writer:
            assert writer is None
        assert one.is_held
    with lock.write() as writing:
        writing.downgrade()
        assert writing.is_held
    with lock.upgradable() as upgradable:
        upgradable.upgrade(timeout=LONG_S)
        assert upgradable.is_held
    assert lock.holders() == []


# --- offices and groups ---------------------------------------------------------------------------


def test_an_election(zk: sync.Client, server: CoatiServer) -> None:
    election = zk.election("/lead", id=b"a")
    with election as term:
        assert term.is_held
        assert election.leader() == b"a"
        assert [candidate.id for candidate in election.contenders()] == [b"a"]
        observer = zk.election("/lead", id=b"x").observe()
        assert next(observer) == b"a"
        observer.close()
    assert not term.is_held


def test_terms_follow_each_other(zk: sync.Client) -> None:
    tokens = []
    for term in zk.election("/lead", id=b"a").terms():
        with term:
            tokens.append(term.token)
        if len(tokens) == 2:
            break
    assert tokens == sorted(tokens)
    assert len(set(tokens)) == 2


def test_a_lost_office_is_told(zk: sync.Client) -> None:
    told: list[LockLost] = []
    terms = zk.election("/lead", id=b"a", on_loss=told.append).terms()
    with next(terms) as term:
        zk.delete(term.path)
        assert term.lost(LONG_S) is not None
        until(lambda: bool(told))
    assert isinstance(told[0], LeadershipLost)
    terms.close()


def test_a_group(zk: sync.Client) -> None:
    group = zk.group("/g")
    with group.join(b"data", "n1") as me:
        assert me.name == "n1"
        assert group.me == "n1"
        assert group.current() == {"n1": b"data"}
        with group.members() as members:
            assert next(members) == {"n1": b"data"}
            me.set(b"other")
            assert members.poll(LONG_S) == {"n1": b"other"}
    assert group.current() == {}


def test_an_ephemeral_is_kept(zk: sync.Client) -> None:
    with zk.ephemeral("/e", b"1") as kept:
        assert kept.is_there
        kept.set(b"2")
        assert zk.get("/e").data == b"2"
        lost = kept.lost
        with pytest.raises(TimeoutError):
            lost.poll(0)
        zk.delete("/e")
        assert isinstance(lost.poll(LONG_S), str)
        until(lambda: zk.exists("/e") is not None)
    assert zk.exists("/e") is None
    with zk.ttl_node("/ttl", b"1", ttl=60.0) as node:
        node.set(b"2")
        assert zk.get("/ttl").data == b"2"


# --- waiting for each other, numbers, work --------------------------------------------------------


def test_barriers(zk: sync.Client) -> None:
    barrier = zk.barrier("/b")
    assert barrier.create() is True
    with pytest.raises(TimeoutError):
        barrier.wait(0.01)
    thread = in_thread(lambda: barrier.wait(LONG_S))
    assert barrier.remove() is True
    thread.join()

    inside: list[int] = []

    def meet() -> None:
        with zk.double_barrier("/d", 2):
            inside.append(1)

    for thread in [in_thread(meet), in_thread(meet)]:
        thread.join()
    assert inside == [1, 1]


def test_counters(zk: sync.Client) -> None:
    counter = zk.counter("/c")
    assert counter.add(2) == 2
    assert counter.update(lambda n: n * 10 if zk.exists("/c") else 0) == 20
    assert counter.compare_and_set(20, 1) is True
    assert counter.get() == 1
    with counter.values() as values:
        assert next(values) == 1
        counter.set(5)
        assert values.poll(LONG_S) == 5
    assert zk.counter("/f", default=0.5).add(1.0) == 1.5
    ids = zk.sequence("/ids", cache=2)
    assert len({ids.next() for _ in range(5)}) == 5


def test_values(zk: sync.Client) -> None:
    value = zk.value("/v")
    assert value.get() is None
    value.set(b"1")
    seen = value.read()
    assert seen is not None
    assert value.swap(seen, b"2") is True
    assert value.update(lambda data: (data or b"") + b"!") == b"2!"


def test_a_queue(zk: sync.Client) -> None:
    queue = zk.queue("/q")
    queue.put(b"1")
    queue.put(b"2", priority=1)
    with queue.get(LONG_S) as item:
        assert item.data == b"2"
        item.check()
    for item in queue.take(0.0):
        with item:
            assert item.data == b"1"
    assert queue.size() == 0


def test_a_lease(zk: sync.Client) -> None:
    lease = zk.lease("/lease", 60.0, id="a")
    assert lease.obtain() is True
    assert zk.lease("/lease", 60.0, id="b").obtain() is False
    assert [holder.id for holder in lease.holders()] == ["a"]
    assert lease.release() is True


def test_a_partition(zk: sync.Client) -> None:
    partition = zk.partition("/p", (name for name in ("a", "b")), id="me", settle=0.0)
    with partition.assignments() as assignments:
        mine = next(assignments)
        with mine:
            assert sorted(mine) == ["a", "b"]
            assert len(mine) == 2
            assert not mine.is_over
            assert mine.ended(0) is None


def test_a_job_is_run_once_and_here(zk: sync.Client) -> None:
    ran: list[int] = []

    def job() -> None:
        # It may use the client: it runs on this thread.
        zk.ensure("/ran")
        ran.append(threading.get_ident())

    def fails() -> None:
        raise KeyError("job")

    once = zk.once("/once")
    assert once.run("k", job) is True
    assert once.run("k", job) is False
    assert ran == [threading.get_ident()]
    with pytest.raises(KeyError):
        once.run("f", fails)
    until(lambda: once.state("f").name == "FAILED")


def test_a_job_does_not_run_another_of_the_same_object(zk: sync.Client) -> None:
    once = zk.once("/once")

    def nested() -> None:
        once.run("m", lambda: None)

    with pytest.raises(RuntimeError, match="already"):
        once.run("n", nested)


def test_an_interrupted_job_has_failed(zk: sync.Client) -> None:
    once = zk.once("/once")

    def job() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        once.run("n", job)
    until(lambda: once.state("n").name == "FAILED")


def test_a_leaders_jobs_run_here(zk: sync.Client) -> None:
    scheduler = zk.leader_scheduler("/jobs", id=b"me")
    ran: list[tuple[int, bool]] = []

    class Enough(Exception):
        pass

    def job(term: sync.Term) -> None:
        ran.append((threading.get_ident(), term.is_held))
        raise Enough

    scheduler.every(0.001, "job", job)
    with pytest.raises(Enough):
        scheduler.run()
    assert ran == [(threading.get_ident(), True)]
    assert scheduler.election.path.endswith("leader")


# --- streams --------------------------------------------------------------------------------------


def test_streams_of_what_is_now(zk: sync.Client) -> None:
    with zk.values("/v") as values:
        assert next(values) is None
        zk.create("/v", b"1")
        node = values.poll(LONG_S)
        assert node is not None
        assert node.data == b"1"
        with pytest.raises(TimeoutError):
            values.poll(0)
        assert values.gaps == 0
    with zk.members("/") as members:
        assert next(members) == frozenset({"v"})
        zk.create("/w")
        assert members.poll(LONG_S) == {"v", "w"}


def test_a_stream_that_is_awaited_can_be_closed(zk: sync.Client) -> None:
    values = zk.values("/v")
    assert next(values) is None
    got: list[object] = []
    thread = in_thread(lambda: got.extend(values))
    until(lambda: values._job is not None)
    values.close()
    thread.join()
    assert got == []


def test_a_cache(zk: sync.Client) -> None:
    zk.ensure("/t/a", b"1")
    with zk.cache("/t") as cache:
        assert len(cache) == 2
        assert "/t/a" in cache
        assert cache.paths() == ["/t", "/t/a"]
        assert cache.children("/t") == ["a"]
        changes = cache.changes()
        zk.set("/t/a", b"2")
        cache.sync()
        node = cache.get("/t/a")
        assert node is not None
        assert node.data == b"2"
        assert cache.is_current
        assert changes.poll(LONG_S).type is EventType.CHANGED
        cache.close()
        assert list(changes) == []


def test_typed_views_and_quotas(zk: sync.Client) -> None:
    from_json = zk.typed(Words())
    from_json.put("/words", ["a", "b"])
    assert from_json.get("/words").value == ["a", "b"]
    assert from_json.update("/words", lambda words: [*words, "c"]).value == ["a", "b", "c"]
    zk.create("/full")
    assert zk.quota.set("/full", count=5).count == 5
    assert [quota.path for quota in zk.quota.list()] == ["/full"]
    assert zk.quota.remove("/full") is True


class Words:
    """A codec."""

    def encode(self, value: list[str]) -> bytes:
        return " ".join(value).encode()

    def decode(self, data: bytes) -> list[str]:
        return data.decode().split()


# --- all the rest ---------------------------------------------------------------------------------


def check_attributes(*mirrors: bridge.Mirror[Any]) -> None:
    """Each property has the value that it has there."""
    for mirror in mirrors:
        for name in dir(type(mirror)):
            if isinstance(getattr(type(mirror), name), property):
                check_attribute(mirror, name)


def check_attribute(mirror: bridge.Mirror[Any], name: str) -> None:
    here = getattr(mirror, name)
    there = mirror._on.do(lambda: getattr(mirror._it, name))
    if isinstance(here, bridge.Mirror | bridge.Polled):
        # Another one for the same.
        return
    if isinstance(here, tuple) and here and isinstance(here[0], bridge.Mirror):
        here = tuple(one._it for one in here)
    assert here == there or name == "deadline", f"{type(mirror).__name__}.{name}"


def test_attributes_are_those_of_the_async_objects(zk: sync.Client) -> None:
    exclusive, semaphore, rwlock = zk.exclusive_lock("/x"), zk.semaphore("/s", 1), zk.rwlock("/rw")
    multi, election, group = zk.multilock(["/m"]), zk.election("/e", id=b"me"), zk.group("/g")
    kept, timed, queue = zk.ephemeral("/k"), zk.ttl_node("/t", ttl=60.0), zk.queue("/q")
    queue.put(b"1")
    item = queue.get(LONG_S)
    claims = (rwlock.read(), rwlock.write(), rwlock.upgradable())
    check_attributes(zk, zk.session, zk.lock("/l"), exclusive, semaphore, rwlock, multi, election, group, kept, timed)
    check_attributes(queue, item, *claims, zk.once("/o"), zk.leader_scheduler("/ls", id=b"me"), zk.barrier("/b"))
    check_attributes(zk.double_barrier("/db", 2), zk.counter("/c"), zk.value("/v"), zk.sequence("/sq"))
    check_attributes(zk.lease("/le", 60.0), zk.partition("/p", ["a"], id="me"), zk.cache("/"), zk.transaction())
    check_attributes(zk.values("/"), zk.watch("/"), sync.Trigger())
    item.end(is_done=True)
    with multi as many:
        check_attributes(many, *many.parts)
    with group.join(b"") as me, election as term:
        check_attributes(me, term)
    with rwlock.write() as writing:
        check_attributes(writing)
        check_attributes(*rwlock.holders())
        writing.check()
        writing.guard()
        assert writing.lost(0) is None
        assert writing.revoked(0) is False
    with rwlock.upgradable() as upgradable:
        check_attributes(upgradable)
        upgradable.check()
        upgradable.guard()
        assert upgradable.lost(0) is None
        assert upgradable.revoked(0) is False
        upgradable.downgrade()


def test_each_way_to_a_claim(zk: sync.Client) -> None:
    rwlock = zk.rwlock("/rw")
    for claim in (rwlock.read(), rwlock.write(), rwlock.upgradable(), zk.exclusive_lock("/x"), zk.semaphore("/s", 1)):
        claim.acquire()
        claim.release()
        assert claim.try_acquire() is not None
        claim.release()
        with claim.try_() as held:
            assert held is not None
    multi = zk.multilock(["/m"])
    multi.acquire()
    multi.release()
    both = multi.try_acquire()
    assert both is not None
    both.check()
    multi.release(both)
    with multi.try_() as again:
        assert again is not None


def test_what_is_left_of_the_recipes(zk: sync.Client) -> None:
    barrier = zk.double_barrier("/db", 1)
    barrier.enter(LONG_S)
    barrier.leave(LONG_S)
    value = zk.value("/v")
    with value.values() as values:
        assert next(values) is None
        value.set(b"1")
        assert values.poll(LONG_S) == b"1"
    counter = zk.counter("/c")
    counter.set(3)
    with zk.election("/e", id=b"me") as term:
        term.check()
        term.guard()
        assert term.revoked(0) is False
        term.end()
    once = zk.once("/o")
    once.run("k", lambda: None)
    assert once.wait("k", LONG_S).name == "DONE"
    once.forget("k")
    queue = zk.queue("/q")
    queue.put(b"1")
    with queue.get(LONG_S) as item:
        item.guard()
    zk.create("/full")
    quota = zk.quota
    quota.set("/full", count=5)
    found = quota.get("/full")
    assert found is not None
    assert found.count == 5
    assert quota.usage("/full").count == 1
    assert quota.unset("/full", count=True).count is None
    words = zk.typed(Words())
    words.create("/w", ["a"])
    assert words.ensure("/w", ["b"]) is False
    words.set("/w", ["c"])
    with words.values("/w") as stream:
        node = next(stream)
        assert node is not None
        assert node.value == ["c"]


def test_a_registry(zk: sync.Client) -> None:
    registry = zk.registry("/services")
    instance = Instance("billing", "one")
    with registry.register(instance) as registration:
        assert registration.instance.id == "one"
        assert registry.directory("billing") == "/services/billing"
        assert registry.services() == ["billing"]
        assert [one.id for one in registry.instances("billing")] == ["one"]
        with registry.follow("billing") as states:
            assert [one.id for one in next(states)] == ["one"]
        with registry.provider("billing") as provider:
            until(lambda: bool(provider.instances))
            check_attributes(registry, registration, provider)
            with provider.use() as chosen:
                assert chosen.id == "one"
                assert provider.load(chosen) == 1
            assert provider.least_loaded().pick().id == "one"
            provider.note_fault(instance)
        with zk.cache("/services/billing") as cache:
            assert [one.id for one in registry.of_cache("billing", cache)] == ["one"]
        registration.update(instance)
    dubbo = zk.registry("/dubbo", layout="dubbo")
    with dubbo.consume("billing", "consumer://127.0.0.1/billing"):
        assert len(dubbo.consumers("billing")) == 1
