"""Counters, values and ids: nothing is counted twice, nothing is lost, and what is unclear is said."""

from __future__ import annotations

import asyncio
import json
import struct

import pytest

import coati
from coati.recipes.counter import Counter, CounterLayout
from tests.interop.peers import Server
from tests.recipes.livekit import clients, run
from tests.recipes.lossy import wire


@pytest.mark.parametrize(
    ("layout", "data"),
    [
        ("native", b"40"),
        ("kazoo", b"40"),
        ("curator", struct.pack(">q", 40)),
        ("curator-int", struct.pack(">i", 40)),
    ],
)
def test_many_adders_lose_no_addition(server: Server, path: str, layout: CounterLayout, data: bytes) -> None:
    async def main() -> None:
        async with clients(server, 4) as zks:
            sums: list[int] = []

            async def add(zk: coati.Client) -> None:
                counter = zk.counter(path, layout=layout)
                for _ in range(10):
                    sums.append(await counter.add(1))

            async with asyncio.TaskGroup() as group:
                for zk in zks:
                    group.create_task(add(zk))
            assert sorted(sums) == list(range(1, 41))
            assert (await zks[0].get(path)).data == data
            assert await zks[0].counter(path, layout=layout).get() == 40

    run(main())


def test_whoever_loses_often_stands_in_line(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as zks:
            counters = [
                Counter(zk, path, default=0, layout="curator", lock_path=f"{path}-line", promote_after=0) for zk in zks
            ]
            rival = zks[0].counter(path, layout="curator")
            await asyncio.gather(*(counter.add(1) for counter in counters * 10), *(rival.add(1) for _ in range(10)))
            assert await rival.get() == 30
            assert await zks[0].children(f"{path}-line") == []
            first = zks[0].counter(path, layout="curator", lock_path=f"{path}-line")
            assert await first.add(1) == 31

    run(main())


def test_a_counter_compares_sets_and_counts_in_floats(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            counter = zks[0].counter(path, default=1.5)
            assert await counter.get() == 1.5
            assert await counter.add(0.25) == 1.75
            assert (await zks[0].get(path)).data == b"1.75"
            assert not await counter.compare_and_set(1.5, 3.0)
            assert await counter.compare_and_set(1.75, 3.0)
            await counter.set(-2.0)
            assert await counter.update(lambda value: value * 2) == -4.0

    run(main())


def test_a_counter_refuses_what_does_not_fit(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            counter = zks[0].counter(path, layout="curator-int")
            await counter.set(2**31 - 1)
            with pytest.raises(OverflowError):
                await counter.add(1)
            with pytest.raises(ValueError, match="holds 4 bytes"):
                await zks[0].counter(path, layout="curator").get()
            with pytest.raises(ValueError, match="whole numbers"):
                zks[0].counter(path, layout="curator", default=1.5)

    run(main())


def test_a_compare_that_loses_the_race_looks_again(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            counter = zks[0].counter(path)
            await counter.set(5)
            # Ten try at once to replace what only one can find.
            tried = await asyncio.gather(*(counter.compare_and_set(5, 6) for _ in range(10)))
            assert sorted(tried) == [False] * 9 + [True]

    run(main())


def test_a_counter_is_a_stream(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as zks:
            seen = zks[1].counter(path).values()
            assert await anext(seen) == 0
            await zks[0].counter(path).add(7)
            assert await anext(seen) == 7
            await zks[0].set(path, b"7")
            await zks[0].counter(path).add(1)
            assert await anext(seen) == 8
            await zks[0].delete(path)
            assert await anext(seen) == 0

    run(main())


def test_an_addition_whose_answer_is_lost_is_called_unclear(server: Server, path: str) -> None:
    async def main() -> None:
        async with wire(server) as line, coati.Client(f"127.0.0.1:{line.port}", session_timeout=20.0) as zk:
            counter = zk.counter(path)
            await counter.set(5)
            node = await zk.get(path)
            line.mute()
            adding = asyncio.ensure_future(zk.value(path).swap(None, b"x"))
            await line.swallowed()
            line.cut()
            # It was there: whatever became of the request, it was refused.
            assert not await adding
            seen = await zk.value(path).read()
            line.mute()
            adding = asyncio.ensure_future(zk.value(path).swap(seen, b"6"))
            await line.swallowed()
            line.cut()
            with pytest.raises(coati.ConnectionLoss) as raised:
                await adding
            assert raised.value.maybe_applied
            assert (await zk.get(path)).version == node.version + 1

    run(main())


def test_an_equal_write_of_another_one_is_not_taken_for_ours(server: Server, path: str) -> None:
    async def main() -> None:
        async with (
            clients(server, 1) as zks,
            wire(server) as line,
            coati.Client(f"127.0.0.1:{line.port}", session_timeout=20.0) as zk,
        ):
            value = zk.value(path)
            await value.set(b"5")
            seen = await value.read()
            assert seen is not None
            # Ours is refused, and that answer is lost; theirs has made the version and the data that ours would have.
            await zks[0].set(path, b"6", version=seen.node.version)
            line.mute()
            swapping = asyncio.ensure_future(value.swap(seen, b"6"))
            await line.swallowed()
            line.cut()
            with pytest.raises(coati.ConnectionLoss):
                await swapping
            # With other data it is clear.
            line.mute()
            swapping = asyncio.ensure_future(value.swap(seen, b"7"))
            await line.swallowed()
            line.cut()
            assert not await swapping
            await zks[0].delete(path)
            await zks[0].create(path, b"7")
            line.mute()
            swapping = asyncio.ensure_future(value.swap(seen, b"7"))
            await line.swallowed()
            line.cut()
            # Another znode by now: what became of the old one nobody knows.
            with pytest.raises(coati.ConnectionLoss):
                await swapping

    run(main())


class Json:
    """A codec as a user writes it."""

    def encode(self, value: dict[str, int], /) -> bytes:
        return json.dumps(value).encode()

    def decode(self, data: bytes, /) -> dict[str, int]:
        return {str(key): int(number) for key, number in json.loads(data).items()}


def test_a_value_is_compared_updated_and_watched(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 2) as zks:
            value = zks[0].value(path, Json())
            seen = zks[1].value(path, Json()).values()
            assert await value.get() is None
            assert await anext(seen) is None
            assert await value.swap(None, {"a": 1})
            assert await anext(seen) == {"a": 1}
            assert not await value.swap(None, {"a": 2})
            read = await value.read()
            assert read is not None
            await value.set({"a": 3})
            assert await anext(seen) == {"a": 3}
            assert not await value.swap(read, {"a": 4})

            async def bump(zk: coati.Client) -> None:
                await zk.value(path, Json()).update(lambda old: {"a": (old or {})["a"] + 1})

            await asyncio.gather(*(bump(zk) for zk in zks for _ in range(5)))
            assert await value.get() == {"a": 13}
            assert await zks[0].value(path).get() == b'{"a": 13}'

    run(main())


@pytest.mark.parametrize("cache", [1, 7])
def test_nobody_gets_an_id_twice(server: Server, path: str, cache: int) -> None:
    async def main() -> None:
        async with clients(server, 3) as zks:
            got: list[int] = []

            async def take(zk: coati.Client, size: int) -> None:
                ids = zk.sequence(path, cache=size)
                mine = [await ids.next() for _ in range(20)]
                assert mine == sorted(mine)
                got.extend(mine)

            # The first one's size is everybody's.
            assert await zks[0].sequence(path, cache=cache).next() == 1
            await asyncio.gather(*(take(zk, size) for zk, size in zip(zks, (1, 5, 100), strict=True)))
            assert len(set(got)) == 60
            if cache == 1:
                assert sorted(got) == list(range(2, 62))

    run(main())


def test_a_deleted_sequence_begins_again(server: Server, path: str) -> None:
    async def main() -> None:
        async with clients(server, 1) as zks:
            ids = zks[0].sequence(path)
            assert [await ids.next() for _ in range(3)] == [1, 2, 3]
            await zks[0].delete(path)
            assert await ids.next() == 1
            with pytest.raises(ValueError, match="at least one"):
                zks[0].sequence(path, cache=0)

    run(main())


def test_a_lost_answer_costs_ids_and_repeats_none(server: Server, path: str) -> None:
    async def main() -> None:
        async with wire(server) as line, coati.Client(f"127.0.0.1:{line.port}", session_timeout=20.0) as zk:
            ids = zk.sequence(path)
            assert await ids.next() == 1
            line.mute()
            taking = asyncio.ensure_future(ids.next())
            await line.swallowed()
            line.cut()
            assert await taking == 3

    run(main())
