"""Partitions: every item has one owner, never two, while members come, go and lose their sessions."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

import coati
from coati.recipes.partition import Partition, every_nth
from tests.interop.peers import Server
from tests.recipes.livekit import clients, expire, names, run, until

ITEMS = [f"item{number}" for number in range(7)]


class Ledger:
    """Who says to own what; two owners of one item are an error."""

    def __init__(self) -> None:
        self.owners: dict[str, str] = {}
        self.rounds = 0

    async def work(self, partition: Partition) -> None:
        async for mine in partition.assignments():
            async with mine:
                for item in mine:
                    assert item not in self.owners, f"{item} of {self.owners[item]} given to {partition.id}"
                    self.owners[item] = partition.id
                self.rounds += 1
                try:
                    await asyncio.Event().wait()
                finally:
                    for item in mine:
                        del self.owners[item]

    def counts(self) -> list[int]:
        """How many items each owner has."""
        owners = list(self.owners.values())
        return sorted(owners.count(owner) for owner in sorted(set(owners)))


async def until_shared(ledger: Ledger, counts: list[int]) -> None:
    async def is_so() -> bool:
        return ledger.counts() == counts

    await until(is_so, f"the items are shared as {counts}")


def test_items_are_shared_out_anew_when_members_come_and_go(server: Server, path: str) -> None:
    async def main() -> None:
        ledger = Ledger()
        async with clients(server, 3) as zks:
            tasks = []
            for number, counts in enumerate(([7], [3, 4], [2, 2, 3])):
                partition = zks[number].partition(path, ITEMS, id=f"m{number}", settle=0.02)
                tasks.append(asyncio.ensure_future(ledger.work(partition)))
                await until_shared(ledger, counts)
            tasks[0].cancel()
            await asyncio.wait((tasks[0],))
            await until_shared(ledger, [3, 4])
            # Without a farewell.
            await expire(zks[1], server)
            await until_shared(ledger, [3, 4])
            for task in tasks[1:]:
                task.cancel()
            await asyncio.wait(tasks)
            for task in tasks:
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert ledger.owners == {}

            async def is_left() -> bool:
                # Iterations that were left in the middle are closed behind the caller's back.
                found = [await names(zks[0], f"{path}/locks/{item}") for item in ITEMS]
                return not any(found) and not await names(zks[0], f"{path}/party")

            await until(is_left, "nothing is left")

    run(main())


def test_an_owner_that_does_not_come_back_keeps_its_items(server: Server, path: str) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            zks = await stack.enter_async_context(clients(server, 2))
            slow = zks[0].partition(path, ITEMS, id="slow", settle=0.02).assignments()
            mine = await anext(slow)
            assert mine.items == tuple(ITEMS)
            assert not mine.is_over
            other = zks[1].partition(path, ITEMS, id="other", settle=0.02).assignments()
            theirs = asyncio.ensure_future(anext(other))
            assert await mine.ended() == "the members have changed"
            # It is told, and has not let go yet.
            assert not theirs.done()
            again, got = await asyncio.gather(anext(slow), theirs)
            assert sorted((*again, *got)) == ITEMS
            assert len(again) == 3

    run(main())


def test_a_lost_assignment_ends_its_block_when_it_is_entered_late(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            shares = zks[0].partition(path, ["a"], id="m", settle=0.02).assignments()
            mine = await anext(shares)
            await expire(zks[0], server)
            await mine.ended()
            reached = False
            async with mine:
                await zks[0].exists("/")
                reached = True
            assert not reached
            assert (await anext(shares)).items == ("a",)

    run(main())


def test_errors_of_the_block_go_on(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            with pytest.raises(KeyError):  # noqa: PT012  # the block is what raises
                async for mine in zks[0].partition(path, ["a"], id="m", settle=0.0).assignments():
                    async with mine:
                        raise KeyError
            with pytest.raises(ValueError, match="slash"):
                zks[0].partition(path, ["a/b"], id="m")

    run(main())


def test_every_nth_is_kazoos_way() -> None:
    members = ["b", "a", "c"]
    assert [list(every_nth(member, members, ITEMS)) for member in ("a", "b", "c")] == [
        ["item0", "item3", "item6"],
        ["item1", "item4"],
        ["item2", "item5"],
    ]


def test_a_closed_client_ends_the_shares(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            shares = zks[0].partition(path, ["a"], id="m", settle=0.0).assignments()
            await anext(shares)
            await zks[0].aclose()
            with pytest.raises(coati.ZKError):
                await anext(shares)

    run(main())
