"""A cache is what a walk of the tree finds, whatever happened in between, and tells each change of it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from random import Random

import pytest

import coati
from coati.client import cache as caching
from coati.client.cache import Change, TreeCache
from coati.client.streams import Stream
from coati.client.types import EventType
from tests.client.livekit import client, expire, relay, run, until


async def found(zk: coati.Client, path: str) -> dict[str, bytes]:
    return {node.path: node.data async for node in zk.walk(path)}


def held(cache: TreeCache) -> dict[str, bytes]:
    data = {}
    for path in cache.paths():
        node = cache.get(path)
        assert node is not None
        data[path] = node.data
    return data


async def agree(cache: TreeCache, zk: coati.Client, path: str) -> None:
    await cache.sync()
    assert held(cache) == await found(zk, path)
    for each in cache.paths():
        assert cache.children(each) == await zk.children(each)
    assert cache.is_current


async def told(changes: Stream[Change], count: int) -> list[tuple[str, str]]:
    return [(change.type.name, change.path) for change in [await changes.poll(10) for _ in range(count)]]


async def grow(zk: coati.Client, path: str, names: str) -> None:
    await zk.ensure(path)
    for name in names.split():
        await zk.put(f"{path}/{name}", name.encode())


def test_cache_holds_the_tree_and_follows_it(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk, client(port) as other:
            await grow(other, top, "a a/b a/c d")
            async with zk.cache(top) as cache:
                assert cache.paths() == [top, f"{top}/a", f"{top}/a/b", f"{top}/a/c", f"{top}/d"]
                assert cache.children(f"{top}/a") == ["b", "c"]
                assert len(cache) == 5
                assert f"{top}/d" in cache
                assert f"{top}/e" not in cache
                changes = cache.changes()
                await other.set(f"{top}/a/b", b"new")
                change = await changes.poll(10)
                assert (change.type, change.path) == (EventType.CHANGED, f"{top}/a/b")
                assert change.old is not None
                assert change.new is not None
                assert (change.old.data, change.new.data) == (b"a/b", b"new")
                await other.create(f"{top}/e", b"e")
                change = await changes.poll(10)
                assert (change.type, change.path, change.old, change.new) == (
                    (EventType.CREATED, f"{top}/e", None, cache.get(f"{top}/e"))
                )  # fmt: skip
                await other.delete(f"{top}/d")
                assert await told(changes, 1) == [("DELETED", f"{top}/d")]
                await agree(cache, other, top)
            with pytest.raises(StopAsyncIteration):
                await changes.poll(1)
            assert not cache.is_current
            assert len(zk._core.machine.watches) == 0
            assert zk._core.pump._tasks == {}

    run(scene)


def test_cache_of_what_is_missing_fills_when_it_comes_and_empties_when_it_goes(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk, client(port) as other, zk.cache(top) as cache:
            assert len(cache) == 0
            assert cache.get(top) is None
            assert cache.children(top) == []
            await grow(other, top, "a a/b")
            await agree(cache, other, top)
            assert len(cache) == 3
            await other.delete_tree(top)
            await agree(cache, other, top)
            assert len(cache) == 0
            await grow(other, top, "c")
            await agree(cache, other, top)

    run(scene)


def test_cache_of_one_level_and_of_one_znode(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk, client(port) as other:
            await grow(other, top, "a a/b c")
            async with zk.cache(top, depth=1) as level, zk.cache(top, recursive=False) as node:
                assert level.paths() == [top, f"{top}/a", f"{top}/c"]
                assert node.paths() == [top]
                changes = node.changes()
                await grow(other, top, "a/d e e/f")
                await other.set(top, b"new")
                await level.sync()
                await node.sync()
                assert level.paths() == [top, f"{top}/a", f"{top}/c", f"{top}/e"]
                assert node.paths() == [top]
                assert (await changes.poll(10)).type is EventType.CHANGED
                stat = await other.exists(top)
                seen = node.get(top)
                assert seen is not None
                assert seen.stat == stat

    run(scene)


def test_cache_without_data_holds_the_stat(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk, client(port) as other:
            await grow(other, top, "a")
            async with zk.cache(top, data=False) as cache:
                node = cache.get(f"{top}/a")
                assert node is not None
                assert (node.data, node.stat.data_length) == (b"", 1)
                await other.delete(f"{top}/a")
                await other.put(f"{top}/b", b"12")
                await cache.sync()
                assert cache.children(top) == ["b"]

    run(scene)


def test_cache_of_a_view_shows_its_paths(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk:
            await grow(zk, top, "a a/b")
            async with zk.chroot(top).cache("/") as cache:
                assert cache.paths() == ["/", "/a", "/a/b"]
                assert cache.children("/") == ["a"]
                await zk.create(f"{top}/c")
                await cache.sync()
                assert cache.children("/") == ["a", "c"]

    run(scene)


def test_cache_heals_a_lost_connection_and_says_so(port: int, top: str) -> None:
    async def scene() -> None:
        async with relay(port) as gate, client(gate) as zk, client(port) as other:
            await grow(other, top, "a a/b c")
            async with zk.cache(top) as cache:
                changes = cache.changes()
                gate.cut()
                await zk.wait_for(coati.State.SUSPENDED, timeout=10)
                await other.delete_tree(f"{top}/a")
                await grow(other, top, "d d/e")
                await other.set(f"{top}/c", b"new")
                gate.heal()
                seen = []
                while (change := await changes.poll(10)).type is not EventType.RESYNC:
                    seen.append((change.type.name, change.path))
                assert sorted(seen) == [
                    ("CHANGED", f"{top}/c"),
                    ("CREATED", f"{top}/d"),
                    ("CREATED", f"{top}/d/e"),
                    ("DELETED", f"{top}/a"),
                    ("DELETED", f"{top}/a/b"),
                ]
                assert changes.gaps == 1
                await agree(cache, other, top)

    run(scene)


def test_cache_goes_on_with_a_new_session(port: int, top: str) -> None:
    async def scene() -> None:
        async with relay(port) as gate, client(gate) as zk, client(port) as other:
            await grow(other, top, "a")
            async with zk.cache(top) as cache:
                await expire(zk, gate, port)
                await other.set(f"{top}/a", b"1")
                await agree(cache, other, top)
                await other.create(f"{top}/b")
                await until(lambda: cache.children(top) == ["a", "b"])

    run(scene)


def test_cache_heals_when_more_happened_than_it_can_note(port: int, top: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching, "EVENTS", 2)

    async def scene() -> None:
        async with client(port) as zk, client(port) as other, zk.cache(top) as cache:
            await asyncio.gather(*(other.create(f"{top}/n{number}", parents=True) for number in range(200)))
            await agree(cache, other, top)
            assert len(cache) == 201

    run(scene)


def test_changes_that_nobody_reads_are_one_gap(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk, zk.cache(top) as cache:
            changes = cache.changes(buffer=2)
            await grow(zk, top, "a b c d e")
            await cache.sync()
            assert await told(changes, 2) == [("RESYNC", top), ("CREATED", f"{top}/e")]
            assert changes.gaps == 1
            changes.close()
            await grow(zk, top, "f")
            assert cache._feeds == {}

    run(scene)


@pytest.mark.parametrize("seed", range(3))
def test_cache_agrees_after_a_storm(port: int, top: str, seed: int) -> None:
    """Random writes by two clients, cut connections, sessions that end: then it is what a walk finds."""
    dice = Random(seed)

    async def scramble(zk: coati.Client) -> None:
        path = top + "".join(f"/{dice.choice('abc')}" for _ in range(dice.randrange(3)))
        match dice.randrange(6):
            case 0 | 1 | 2:
                await zk.put(path, b"%d" % dice.randrange(1000))
            case 3:
                await zk.delete_tree(path)
            case 4:
                async with zk.transaction() as t:
                    t.create(f"{top}/m{dice.randrange(5)}", b"m")
            case _:
                async with zk.transaction() as t:
                    t.delete(f"{top}/m{dice.randrange(5)}")

    async def scene() -> None:
        async with (
            relay(port) as gate,
            client(gate) as zk,
            client(port) as one,
            client(port) as two,
            zk.cache(top) as it,
        ):
            feed = it.changes(buffer=100_000)

            async def write(by: coati.Client, *, cuts: bool) -> None:
                for step in range(150):
                    with suppress(coati.MultiError, coati.NoNode, coati.NotEmpty):
                        await scramble(by)
                    if cuts and step % 50 == 49:
                        if dice.random() < 0.5:
                            await expire(zk, gate, port)
                        gate.cut()
                        gate.heal()

            await asyncio.gather(write(one, cuts=True), write(two, cuts=False))
            await zk.wait_for(coati.State.CONNECTED, timeout=10)
            await agree(it, one, top)
            # The changes that were told lead to the same.
            it._end()
            mirror: dict[str, bytes] = {}
            async for change in feed:
                if change.new is not None:
                    mirror[change.path] = change.new.data
                elif change.old is not None:
                    del mirror[change.path]
            assert mirror == held(it), f"seed {seed}"

    run(scene)


def test_znodes_that_may_not_be_read_are_left_out(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk, client(port) as other:
            await other.authenticate(coati.Digest("u", "p"))
            await grow(other, top, "a b")
            await other.set_acl(f"{top}/a", coati.CREATOR)
            async with zk.cache(top) as cache:
                assert cache.children(top) == ["b"]
            await other.set_acl(top, coati.CREATOR)
            with pytest.raises(coati.NoAuth):
                async with zk.cache(top):
                    pass
            assert len(zk._core.machine.watches) == 0

    run(scene)


def test_znode_that_becomes_readable_comes_with_what_is_below(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk, client(port) as other:
            await other.authenticate(coati.Digest("u", "p"))
            await grow(other, top, "a a/b a/b/c")
            await other.set_acl(f"{top}/a", coati.CREATOR)
            async with zk.cache(top) as cache:
                assert cache.paths() == [top]
                await other.set_acl(f"{top}/a", coati.OPEN)
                # A change of an ACL is no event.
                await other.set(f"{top}/a", b"open")
                await agree(cache, other, top)
                assert len(cache) == 4

    run(scene)


class Scripted:
    """A client of one znode, whose reads are answered when the test says so."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[coati.Node]] = []
        self.is_closed = False
        self.events: coati.Watch | None = None

    def watch(
        self, path: str, *, recursive: bool = False, mode: coati.WatchMode = coati.WatchMode.PERSISTENT, buffer: int = 1
    ) -> coati.Watch:
        async def arm(watch: coati.Watch) -> None:
            self.events = watch

        return coati.Watch(arm, path=path, show=bytes.decode, release=lambda watch: None, buffer=buffer)

    def spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)

    async def get(self, path: str) -> coati.Node:
        self.asked.append(asyncio.get_running_loop().create_future())
        return await self.asked[-1]

    async def exists(self, path: str) -> coati.Stat | None:
        raise AssertionError

    async def children(self, path: str) -> list[str]:
        raise AssertionError

    async def sync(self, path: str = "/") -> int:
        return 0


def znode(czxid: int, mzxid: int) -> coati.Node:
    return coati.Node("/a", b"%d" % mzxid, coati.Stat(czxid, mzxid, 0, 0, 0, 0, 0, 0, 1, 0, czxid))


async def others_run() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_path_is_read_by_one_reader_at_a_time_and_again_if_it_changes_meanwhile() -> None:
    async def scene() -> None:
        zk = Scripted()
        cache = TreeCache(zk, "/a")
        loading = asyncio.create_task(cache.__aenter__())
        await others_run()
        assert zk.events is not None
        for zxid in (5, 6):
            zk.events.on_event(EventType.CHANGED, b"/a", zxid)
            await others_run()
        assert len(zk.asked) == 1
        assert not loading.done()
        zk.asked[0].set_result(znode(3, 4))
        await others_run()
        assert len(zk.asked) == 2
        zk.asked[1].set_result(znode(3, 6))
        await loading
        assert cache.is_current
        assert held(cache) == {"/a": b"6"}
        await cache.aclose()

    run(scene)


@pytest.mark.parametrize(
    ("type", "zxid", "reads", "stays"),
    [
        # It was read after that, perhaps as another znode of that name.
        (EventType.DELETED, 6, 0, True),
        (EventType.CREATED, 7, 0, True),
        (EventType.CHANGED, 9, 0, True),
        (EventType.DELETED, 10, 0, False),
        (EventType.CHANGED, 10, 1, True),
        (EventType.CREATED, 12, 1, True),
        # Of a server before 3.9, which does not say when.
        (EventType.DELETED, -1, 1, True),
        (EventType.CHANGED, -1, 1, True),
    ],
)
def test_an_event_that_is_older_than_what_is_known_changes_nothing(
    type: EventType, zxid: int, reads: int, *, stays: bool
) -> None:
    async def scene() -> None:
        zk = Scripted()
        cache = TreeCache(zk, "/a")
        loading = asyncio.create_task(cache.__aenter__())
        await others_run()
        zk.asked.pop().set_result(znode(7, 9))
        await loading
        assert zk.events is not None
        zk.events.on_event(type, b"/a", zxid)
        await others_run()
        assert (len(zk.asked), "/a" in cache) == (reads, stays)
        await cache.aclose()

    run(scene)


def test_cache_ends_with_the_client(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk:
            await grow(zk, top, "a")
            cache = zk.cache(top)
            await cache.__aenter__()
            changes = cache.changes()
            waiting = asyncio.create_task(anext(changes, None))
            await asyncio.sleep(0)
        assert await waiting is None
        assert not cache.is_current
        assert cache.children(top) == ["a"]
        with pytest.raises(coati.ClientClosed):
            await cache.sync()
        await cache.aclose()
        assert await anext(cache.changes(), None) is None

    run(scene)


def test_cancelled_while_it_loads_leaves_nothing(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk, client(port) as other:
            await grow(other, top, " ".join(f"n{number}" for number in range(100)))
            for steps in (0, 1, 3, 10, 30):
                loading = asyncio.create_task(zk.cache(top).__aenter__())
                for _ in range(steps):
                    await asyncio.sleep(0)
                loading.cancel()
                (loaded,) = await asyncio.gather(loading, return_exceptions=True)
                if isinstance(loaded, TreeCache):
                    # The server was faster.
                    await loaded.aclose()
                assert len(zk._core.machine.watches) == 0
            assert zk._core.pump._tasks == {}

    run(scene)
