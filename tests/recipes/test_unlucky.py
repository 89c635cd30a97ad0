"""What goes wrong between two steps of a recipe, at the worst moment, which callbacks let the test choose."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

import coati
from coati.recipes.election import Term
from coati.recipes.keeper import TOUCH
from coati.recipes.lease import Lease
from coati.recipes.line import LOCK, Line, Number
from coati.recipes.marks import create_marked, mark
from coati.recipes.once import LeaderScheduler
from tests.interop.peers import Server
from tests.recipes.livekit import clients, expire, names, run, until
from tests.recipes.lossy import wire

# --- offices and items ----------------------------------------------------------------------------


def test_an_office_whose_znode_is_gone_is_not_taken(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as zks:
            places = [
                await zk.create(f"{path}/x", mode=coati.Mode.EPHEMERAL_SEQUENTIAL, parents=True)
                for zk in (*zks, zks[0])
            ]
            await zks[1].delete(places[0].path)
            assert not await Term(zks[0], places[0], on_loss="flag", goes_on=False).is_kept()
            # It is there, and of another session than ours of now.
            assert not await Term(zks[0], places[1], on_loss="flag", goes_on=False).is_kept()
            term = Term(zks[0], places[2], on_loss="flag", goes_on=False)
            keeping = asyncio.ensure_future(term.is_kept())
            await asyncio.sleep(0)
            keeping.cancel()
            with pytest.raises(asyncio.CancelledError):
                await keeping

    run(main())


def test_a_line_that_is_not_patient_leaves_nothing_when_the_time_is_up(server: Server, path: str) -> None:
    async def main() -> None:
        async with (
            wire(server) as line,
            coati.Client(f"127.0.0.1:{line.port}", session_timeout=20.0) as zk,
            clients(server, 1) as zks,
        ):
            await zk.ensure(path)
            hurried = Line(zk.with_options(timeout=0.05), path, LOCK["kazoo"], is_patient=False)
            line.mute()
            with pytest.raises(coati.OperationTimeout):
                await hurried.stand("__lock__", b"")
            assert len(await names(zks[0], path)) == 1
            line.cut()

            async def is_gone() -> bool:
                return await names(zks[0], path) == []

            await until(is_gone, "it is swept up")

    run(main())


def test_whoever_vanishes_while_looked_at_is_left_out(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            election = zks[0].election(path, id=b"a")
            async with election:
                gone = Number("0-term-0000000000", "-term-", 0)
                assert await Line(zks[0], path, LOCK["native"]).contender(gone) is None
                assert await zks[0].group(path)._data(zks[0], "nobody") is None

    run(main())


@pytest.mark.parametrize("is_done", [True, False])
def test_a_take_whose_answer_is_lost_is_looked_into(server: Server, path: str, is_done: bool) -> None:
    async def main() -> None:
        async with wire(server) as line, coati.Client(f"127.0.0.1:{line.port}", session_timeout=20.0) as zk:
            queue = zk.queue(path)
            name = await queue.put(b"x")
            assert (await zk.queue(path).get(timeout=0.0)).is_held
            await queue.put(b"y")
            (name,) = set(await zk.children(f"{path}/entries")) - {name}
            node = await zk.get(f"{path}/entries/{name}")
            if is_done:
                line.mute()
            else:
                line.deafen()
            taking = asyncio.ensure_future(queue._hold(node, f"{path}/taken/{name}"))
            await line.swallowed()
            line.cut()
            item = await taking
            assert (item is not None) is is_done
            # The entry has changed since: the same look at it takes nothing any more.
            if item is not None:
                await item.end(is_done=False)
                assert await queue._hold(node, f"{path}/taken/{name}") is None

    run(main())


@pytest.mark.parametrize("is_made", [True, False])
def test_a_put_whose_answer_is_lost_puts_once_or_says_so(server: Server, path: str, is_made: bool) -> None:
    async def main() -> None:
        async with wire(server) as line, coati.Client(f"127.0.0.1:{line.port}", session_timeout=20.0) as zk:
            queue = zk.queue(path)
            await zk.ensure(f"{path}/entries")
            if is_made:
                line.mute()
            else:
                line.deafen()
            putting = asyncio.ensure_future(queue.put(b"x"))
            await line.swallowed()
            line.cut()
            if is_made:
                await putting
                assert await queue.size() == 1
            else:
                # It cannot be told from one that was put, and taken by somebody quick.
                with pytest.raises(coati.ConnectionLoss) as raised:
                    await putting
                assert raised.value.maybe_applied
                assert await queue.size() == 0

    run(main())


def test_the_end_of_an_item_whose_request_is_lost_is_asked_again(server: Server, path: str) -> None:
    async def main() -> None:
        async with wire(server) as line, coati.Client(f"127.0.0.1:{line.port}", session_timeout=20.0) as zk:
            queue = zk.queue(path)
            await queue.put(b"x")
            item = await queue.get()
            line.deafen()
            ending = asyncio.ensure_future(item.end(is_done=True))
            await line.swallowed()
            line.cut()
            await ending
            assert await queue.size() == 0

    run(main())


def test_items_that_must_not_be_touched_are_said_to_be(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            queue = zks[0].queue(path)
            await queue.put(b"x")
            item = await queue.get()
            await zks[0].set_acl(f"{path}/entries", coati.READ_ONLY)
            with pytest.raises(coati.MultiError) as raised:
                await item.end(is_done=True)
            assert raised.value.code == -102
            with pytest.raises(coati.NoAuth):
                await queue.put(b"y")
            await zks[0].queue(f"{path}2").put(b"x")
            await zks[0].create(f"{path}2/taken", acl=coati.READ_ONLY)
            with pytest.raises(coati.MultiError):
                await zks[0].queue(f"{path}2").get()

    run(main())


def test_a_place_to_hold_items_that_goes_is_made_again(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            queue = zks[0].queue(path)
            name = await queue.put(b"x")
            node = await zks[0].get(f"{path}/entries/{name}")
            assert await queue._hold(node, f"{path}/taken/{name}") is None
            assert await zks[0].exists(f"{path}/taken") is not None
            assert await queue._take("item-100-0-x-0000000000", 100) is None
            async with await queue.get() as item:
                assert item.data == b"x"

    run(main())


# --- marks ----------------------------------------------------------------------------------------


def test_a_parent_that_vanishes_is_made_again(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as zks:
            busy = True

            async def remove() -> None:
                while busy:
                    if await names(zks[1], path) == []:
                        with suppress(coati.NotEmpty):
                            await zks[1].delete(path, missing_ok=True)

            removing = asyncio.ensure_future(remove())
            for _ in range(30):
                made = await create_marked(zks[0], path, f"{mark(zks[0])}-x-", b"")
                await zks[0].delete(made.path)
            busy = False
            await removing

    run(main())


# --- kept znodes ----------------------------------------------------------------------------------


def test_what_an_older_session_of_ours_has_left_is_replaced(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as zks:
            await zks[1].create(path, b"old", mode=coati.Mode.EPHEMERAL)
            kept = zks[0].ephemeral(path, b"new")
            kept._ours[zks[1].session.id] = None
            async with kept:
                assert (await zks[0].get(path)).data == b"new"

    run(main())


def test_data_set_while_the_connection_goes_arrives(server: Server, path: str) -> None:
    async def main() -> None:
        async with (
            wire(server) as line,
            clients(server, 1) as zks,
            coati.Client(f"127.0.0.1:{line.port}", session_timeout=20.0) as zk,
            zk.ephemeral(path, b"old") as kept,
        ):
            line.deafen()
            setting = asyncio.ensure_future(kept.set(b"new"))
            await line.swallowed()
            line.cut()
            with pytest.raises(coati.ConnectionLoss):
                await setting
            # The next time that it has to be looked after, it is put right.
            await zks[0].set(path, b"other")

            async def is_right() -> bool:
                return (await zks[0].get(path)).data == b"new"

            await until(is_right, "the newest data has arrived")

    run(main())


def test_a_place_that_is_closed_later_ends_the_keeping(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            await zks[0].ensure(path)
            async with zks[0].ephemeral(f"{path}/x") as kept:
                told = asyncio.ensure_future(anext(aiter(kept.lost)))
                await asyncio.sleep(0)
                await zks[0].set_acl(path, (coati.ACL(coati.Perm.ALL & ~coati.Perm.CREATE, "world", "anyone"),))
                await zks[0].delete(f"{path}/x")
                assert await told
                assert not kept.is_there

    run(main())


def test_a_ttl_node_is_touched_again_after_errors(server: Server, path: str) -> None:
    async def main() -> None:
        async with wire(server) as line, coati.Client(f"127.0.0.1:{line.port}", session_timeout=20.0) as zk:
            hurried = zk.with_options(timeout=0.05)
            async with hurried.ttl_node(path, b"1", ttl=0.3):
                line.mute()
                line.passed = 0
                while line.passed < 2:  # noqa: ASYNC110  # nobody tells
                    await asyncio.sleep(0)
                line.cut()
                version = (await zk.get(path)).version

                async def is_touched() -> bool:
                    return (await zk.get(path)).version != version

                await until(is_touched, "it is touched again")
            assert TOUCH < 1

    run(main())


# --- numbers, leases, jobs ------------------------------------------------------------------------


def test_a_counter_whose_znode_is_deleted_meanwhile_is_unclear(server: Server, path: str) -> None:
    async def main() -> None:
        async with (
            wire(server) as line,
            clients(server, 1) as zks,
            coati.Client(f"127.0.0.1:{line.port}", session_timeout=20.0) as zk,
        ):
            await zk.counter(path).set(5)

            def fn(value: int) -> int:
                line.mute()
                return value + 1

            adding = asyncio.ensure_future(zk.counter(path).update(fn))
            await line.swallowed()
            await zks[0].delete(path)
            line.cut()
            with pytest.raises(coati.ConnectionLoss):
                await adding
            # An unconditional one is the client's, which does not repeat it.
            line.deafen()
            setting = asyncio.ensure_future(zk.counter(path).set(5))
            await line.swallowed()
            line.cut()
            with pytest.raises(coati.ConnectionLoss):
                await setting

    run(main())


def test_a_lease_whose_answer_is_lost_is_ours_if_it_was_written(server: Server, path: str) -> None:
    async def main() -> None:
        async with wire(server) as line, coati.Client(f"127.0.0.1:{line.port}", session_timeout=20.0) as zk:
            times = iter([line.mute])

            def clock() -> float:
                # Between the reading and the writing.
                next(times, lambda: None)()
                return 1e9

            asking = asyncio.ensure_future(Lease(zk, path, 60.0, id="us", clock=clock).obtain())
            await line.swallowed()
            line.cut()
            assert await asking

    run(main())


def test_a_time_that_somebody_has_begun_is_not_run_again(server: Server, path: str) -> None:
    async def main() -> None:
        async with (
            wire(server) as line,
            clients(server, 1) as zks,
            coati.Client(f"127.0.0.1:{line.port}", session_timeout=20.0) as zk,
        ):
            scheduler = LeaderScheduler(zk, path, id=b"a", clock=lambda: 1000.0)

            async def job(term: coati.Term) -> None:
                raise AssertionError

            scheduler.every(1.0, "job", job)
            (entry,) = scheduler._entries
            await zk.ensure(f"{path}/jobs")
            async with scheduler.election as term:
                assert await scheduler._is_first(entry, 7, term)
                assert not await scheduler._is_first(entry, 7, term)
                assert await scheduler._is_first(entry, 8, term)
                getting = asyncio.ensure_future(scheduler._is_first(entry, 9, term))
                await asyncio.sleep(0)
                # Somebody else writes it down between the reading and the writing.
                await zks[0].set(f"{path}/jobs/job", b"9")
                assert not await getting or (await zk.get(f"{path}/jobs/job")).data == b"9"
                await zks[0].set_acl(f"{path}/jobs/job", coati.READ_ONLY)
                with pytest.raises(coati.MultiError):
                    await scheduler._is_first(entry, 10, term)

    run(main())


def test_a_leader_without_jobs_leads(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            scheduler = zks[0].leader_scheduler(path, id=b"a")
            running = asyncio.ensure_future(scheduler.run())

            async def leads() -> bool:
                return await scheduler.election.leader() == b"a"

            await until(leads, "it leads")
            running.cancel()
            await asyncio.wait((running,))

    run(main())


# --- partitions -----------------------------------------------------------------------------------


def test_a_session_that_ends_while_items_are_won_starts_again(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            ended: list[asyncio.Future[None]] = []

            def share(member: str, members: object, items: object) -> list[str]:
                if not ended:
                    ended.append(asyncio.ensure_future(expire(zks[0], server)))
                return ["a", "b"]

            partition = zks[0].partition(path, ["a", "b"], id="m", settle=0.0, share=share)
            async for mine in partition.assignments():
                if not mine.is_over:
                    assert {place.stat.ephemeral_owner for _, place in partition._places.values()} == {
                        zks[0].session.id
                    }
                    break

    run(main())


def test_members_that_change_while_an_item_is_waited_for_are_counted_again(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as zks:
            held = await zks[1].lock(f"{path}/locks/a", layout="kazoo").acquire()
            partition = zks[0].partition(path, ["a"], id="m", settle=0.0)
            shares = partition.assignments()
            winning = asyncio.ensure_future(anext(shares))

            async def waits() -> bool:
                return len(await names(zks[1], f"{path}/locks/a")) == 2

            await until(waits, "it waits for the item")
            async with zks[1].group(f"{path}/party", layout="kazoo-shallow").join(name="a"):
                # The item is not ours any more, so we wait for it no longer.
                mine = await winning
                assert mine.items == ()
            await zks[1].delete(held.path)
            await mine.ended()
            assert (await anext(shares)).items == ("a",)

    run(main())


def test_a_partition_whose_group_cannot_be_read_says_so(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            shares = zks[0].partition(path, ["a"], id="m", settle=0.0).assignments()
            mine = await anext(shares)
            await zks[0].set_acl(f"{path}/party", (coati.ACL(coati.Perm.ADMIN, "world", "anyone"),))
            await expire(zks[0], server)
            await mine.ended()
            with pytest.raises(coati.ZKError):
                await anext(shares)

    run(main())
