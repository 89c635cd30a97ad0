"""Our recipes and kazoo's on the same paths, on coati and on Java alike: each takes part in what the other one does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

from kazoo.client import KazooClient
from kazoo.recipe.partitioner import SetPartitioner

import coati
from coati.recipes.lease import Lease
from tests.interop.peers import Server

Clients = Callable[..., KazooClient]
DEADLINE_S = 30.0
START = datetime.fromisoformat("2030-01-01")


def with_ours(server: Server, root: str, test: Callable[[coati.Client], Coroutine[Any, Any, None]]) -> None:
    """Runs the test with a client of ours in the same subtree."""

    async def main() -> None:
        async with asyncio.timeout(DEADLINE_S), coati.Client(server.address + root, session_timeout=20.0) as zk:
            await test(zk)

    asyncio.run(main())


async def until(holds: Callable[[], Awaitable[object]], what: str) -> None:
    """Asks again and again."""
    try:
        async with asyncio.timeout(DEADLINE_S / 2):
            while not await holds():  # what is waited for tells nobody
                pass
    except TimeoutError:
        raise AssertionError(f"not in time: {what}") from None


def test_parties_see_each_other(server: Server, root: str, clients: Clients) -> None:
    async def test(zk: coati.Client) -> None:
        theirs = clients().Party("/party", "theirs")
        await asyncio.to_thread(theirs.join)
        async with zk.group("/party", layout="kazoo").join(b"ours"):
            assert sorted(await asyncio.to_thread(list, theirs)) == ["ours", "theirs"]
            found = await zk.group("/party", layout="kazoo").current()
            assert sorted(found.values()) == [b"ours", b"theirs"]
        assert await asyncio.to_thread(list, theirs) == ["theirs"]
        shallow = clients().ShallowParty("/shallow", "theirs")
        await asyncio.to_thread(shallow.join)
        async with zk.group("/shallow", layout="kazoo-shallow").join(name="ours"):
            assert sorted(await asyncio.to_thread(list, shallow)) == ["ours", "theirs"]

    with_ours(server, root, test)


def test_elections_give_one_leader_of_both(server: Server, root: str, clients: Clients) -> None:
    async def test(zk: coati.Client) -> None:
        led: list[str] = []
        theirs = clients().Election("/lead", "theirs")
        ours = zk.election("/lead", id=b"ours", layout="kazoo")
        async with ours:
            running = asyncio.ensure_future(asyncio.to_thread(theirs.run, led.append, "theirs"))

            async def both_stand() -> bool:
                return len(await ours.contenders()) == 2

            await until(both_stand, "both stand")
            assert await asyncio.to_thread(theirs.contenders) == ["ours", "theirs"]
            assert led == []
        await running
        assert led == ["theirs"]
        # And the other way round: ours waits for theirs.
        lock = clients().Lock("/lead", "holder")
        await asyncio.to_thread(lock.acquire)
        waiting = asyncio.ensure_future(_lead(zk, led))
        await until(both_stand, "ours waits")
        assert await ours.leader() == b"holder"
        await asyncio.to_thread(lock.release)
        await waiting
        assert led == ["theirs", "ours"]

    with_ours(server, root, test)


async def _lead(zk: coati.Client, led: list[str]) -> None:
    async with zk.election("/lead", id=b"ours", layout="kazoo"):
        led.append("ours")


def test_counters_count_together(server: Server, root: str, clients: Clients) -> None:
    async def test(zk: coati.Client) -> None:
        kazoo = clients()

        def add(path: str, default: float, by: float, **options: Any) -> object:
            counter = kazoo.Counter(path, default=default, **options)
            counter += by
            return counter.value

        assert await asyncio.to_thread(add, "/int", 0, 2) == 2
        assert await zk.counter("/int", layout="kazoo").add(3) == 5
        assert await asyncio.to_thread(add, "/int", 0, -1) == 4
        assert await zk.counter("/real", layout="kazoo", default=1.5).add(0.25) == 1.75
        assert await asyncio.to_thread(add, "/real", 1.5, 1.0) == 2.75
        assert await zk.counter("/real", layout="kazoo", default=1.5).get() == 2.75
        assert await zk.counter("/curator", layout="curator-int").add(7) == 7
        options = {"support_curator": True}
        assert await asyncio.to_thread(lambda: add("/curator", 0, 1, **options)) == 8
        assert await zk.counter("/curator", layout="curator-int").get() == 8
        # Both at once lose nothing.
        await asyncio.gather(
            *(asyncio.to_thread(add, "/int", 0, 1) for _ in range(5)),
            *(zk.counter("/int", layout="kazoo").add(1) for _ in range(5)),
        )
        assert await zk.counter("/int").get() == 14

    with_ours(server, root, test)


def test_queues_pass_items_both_ways(server: Server, root: str, clients: Clients) -> None:
    async def test(zk: coati.Client) -> None:
        theirs = clients().Queue("/queue")
        ours = zk.queue("/queue", layout="kazoo")
        await asyncio.to_thread(theirs.put, b"low", 200)
        await ours.put(b"high", priority=5)
        assert await asyncio.to_thread(theirs.get) == b"high"
        async with await ours.get() as item:
            assert item.data == b"low"
        assert await asyncio.to_thread(len, theirs) == 0

    with_ours(server, root, test)


def test_locking_queues_hold_items_against_each_other(server: Server, root: str, clients: Clients) -> None:
    async def test(zk: coati.Client) -> None:
        theirs = clients().LockingQueue("/locking")
        ours = zk.queue("/locking", layout="kazoo-locking")
        await asyncio.to_thread(theirs.put, b"1")
        await ours.put(b"2")
        async with await ours.get() as item:
            assert item.data == b"1"
            # They cannot have it, and take the next one.
            assert await asyncio.to_thread(theirs.get, 5) == b"2"
            assert await ours.size() == 2
            waiting = asyncio.ensure_future(ours.get(timeout=20.0))
        assert await asyncio.to_thread(theirs.release)
        async with await waiting as item:
            assert item.data == b"2"
            assert await asyncio.to_thread(theirs.get, 0.05) is None
        await ours.put(b"3")
        assert await asyncio.to_thread(theirs.get, 5) == b"3"
        assert await asyncio.to_thread(theirs.consume)
        assert await ours.size() == 0

    with_ours(server, root, test)


def test_double_barriers_count_members_of_both(server: Server, root: str, clients: Clients) -> None:
    async def test(zk: coati.Client) -> None:
        for theirs_first in (True, False):
            path = f"/double{theirs_first}"
            theirs = clients().DoubleBarrier(path, 2)
            ours = zk.double_barrier(path, 2)
            await zk.ensure(path)

            async def one_is_in(path: str = path) -> bool:
                return bool(await zk.children(path))

            if theirs_first:
                entering = asyncio.ensure_future(asyncio.to_thread(theirs.enter))
                await until(one_is_in, "they wait")
                await ours.enter()
                await entering
                leaving = asyncio.ensure_future(asyncio.to_thread(theirs.leave))
                await ours.leave()
                await leaving
            else:
                mine = asyncio.ensure_future(ours.enter())
                await until(one_is_in, "we wait")
                await asyncio.to_thread(theirs.enter)
                await mine
                mine = asyncio.ensure_future(ours.leave())
                await asyncio.to_thread(theirs.leave)
                await mine
            assert await zk.children(path) == []

    with_ours(server, root, test)


def test_barriers_hold_each_other_back(server: Server, root: str, clients: Clients) -> None:
    async def test(zk: coati.Client) -> None:
        theirs = clients().Barrier("/barrier")
        await zk.barrier("/barrier").create()
        assert not await asyncio.to_thread(theirs.wait, 0.05)
        waiting = asyncio.ensure_future(asyncio.to_thread(theirs.wait, 20))
        await zk.barrier("/barrier").remove()
        assert await waiting
        await asyncio.to_thread(theirs.create)
        ours = asyncio.ensure_future(zk.barrier("/barrier").wait())
        await zk.exists("/")
        assert not ours.done()
        await asyncio.to_thread(theirs.remove)
        await ours

    with_ours(server, root, test)


def test_leases_respect_each_other(server: Server, root: str, clients: Clients) -> None:
    async def test(zk: coati.Client) -> None:
        kazoo = clients()

        def ask(who: str, at: datetime) -> bool:
            return bool(kazoo.NonBlockingLease("/lease", timedelta(hours=1), who, utcnow=lambda: at))

        now = [START.replace(tzinfo=UTC).timestamp()]
        ours = Lease(zk, "/lease", 3600.0, id="ours", clock=lambda: now[0])
        assert await ours.obtain()
        assert not await asyncio.to_thread(ask, "theirs", START + timedelta(minutes=59))
        assert await asyncio.to_thread(ask, "ours", START + timedelta(minutes=30))
        assert await asyncio.to_thread(ask, "theirs", START + timedelta(minutes=91))
        now[0] += 91 * 60
        assert not await ours.obtain()
        (holder,) = await ours.holders()
        assert holder.id == "theirs"
        now[0] += 3600
        assert await ours.obtain()

    with_ours(server, root, test)


def test_partitions_are_shared_by_both(server: Server, root: str, clients: Clients) -> None:
    async def test(zk: coati.Client) -> None:
        items = ("a", "b", "c", "d", "e")
        shares = zk.partition("/part", items, id="ours", settle=0.1).assignments()
        mine = await anext(shares)
        assert tuple(mine) == items
        theirs = await asyncio.to_thread(
            lambda: SetPartitioner(clients(), "/part", items, identifier="theirs", time_boundary=0.1)
        )
        await mine.ended()
        mine = await anext(shares)
        await asyncio.to_thread(theirs.wait_for_acquire, 20)
        assert theirs.acquired
        assert sorted((*mine, *theirs)) == list(items)
        await asyncio.to_thread(theirs.finish)
        await mine.ended()
        mine = await anext(shares)
        assert tuple(mine) == items

    with_ours(server, root, test)
