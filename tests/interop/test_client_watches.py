"""coati's client on coati, 3.8.0 and 3.9.3: watches of both kinds on one path, streams and caches, quotas."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import pytest

import coati
from coati.client.types import EventType
from tests.client.livekit import client, expire, relay, run
from tests.interop.javaclient import finish, shell
from tests.interop.peers import QUICK_CFG, QUICK_PROPS, Server, running
from tools.javapeer import four_letter

_serial = itertools.count(1)


@pytest.fixture(scope="module", params=["coati", "3.8.0", "3.9.3"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with running(request.param, cfg=QUICK_CFG, props=QUICK_PROPS) as started:
        yield started


@pytest.fixture
def top() -> str:
    return f"/w{next(_serial)}"


async def seen(zk: coati.Client, events: coati.Watch) -> list[tuple[str, str]]:
    """What has come: events come before the answer to what is asked after them."""
    await zk.sync("/")
    await zk.exists("/")
    found = []
    while (event := events.take()) is not None:
        found.append((event.type.name, event.path))
    return found


@pytest.mark.parametrize("recursive", [False, True])
def test_one_shot_and_persistent_watches_of_one_path(server: Server, top: str, *, recursive: bool) -> None:
    async def scene() -> None:
        async with client(server.port) as zk, client(server.port) as other:
            await other.create(top)
            events = zk.watch(top, recursive=recursive)
            async with events:
                data, children = coati.Trigger(), coati.Trigger()
                await zk.get(top, watch=data)
                await zk.children(top, watch=children)
                await other.set(top, b"1")
                await other.set(top, b"2")
                await other.create(f"{top}/a")
                below = ("CREATED", f"{top}/a") if recursive else ("CHILDREN", top)
                assert await seen(zk, events) == [("CHANGED", top), ("CHANGED", top), below]
                assert (await data.wait(10)).type is EventType.CHANGED
                assert (await children.wait(10)).type is EventType.CHILDREN
                # One that is taken back does not take the persistent one with it.
                again = coati.Trigger()
                await zk.get(top, watch=again)
                again.close()
                await other.set(top, b"3")
                assert await seen(zk, events) == [("CHANGED", top)]
                # And the end of the persistent one leaves those that wait.
                data, children = coati.Trigger(), coati.Trigger()
                await zk.get(top, watch=data)
                await zk.children(top, watch=children)
            await zk.exists("/")
            assert not data.has_fired
            await other.set(top, b"4")
            await other.create(f"{top}/b")
            assert (await data.wait(10)).type is EventType.CHANGED
            assert (await children.wait(10)).type is EventType.CHILDREN
            assert await seen(zk, events) == []

    run(scene)


def test_both_kinds_outlive_a_lost_connection(server: Server, top: str) -> None:
    async def scene() -> None:
        async with relay(server.port) as gate, client(gate) as zk, client(server.port) as other:
            await other.create(top)
            async with zk.watch(top) as events:
                trigger = coati.Trigger()
                await zk.get(top, watch=trigger)
                gate.cut()
                await zk.wait_for(coati.State.SUSPENDED, timeout=10)
                gate.heal()
                await zk.wait_for(coati.State.CONNECTED, timeout=10)
                assert (await events.poll(10)).type is EventType.RESYNC
                # The server has the watch again before it answers this.
                await zk.exists(top)
                assert not trigger.has_fired
                await other.set(top, b"1")
                await other.set(top, b"2")
                assert await seen(zk, events) == [("CHANGED", top)] * 2
                assert trigger.has_fired

    run(scene)


def test_streams_and_caches_through_cuts_and_a_new_session(server: Server, top: str) -> None:
    async def scene() -> None:
        async with relay(server.port) as gate, client(gate) as zk, client(server.port) as other, zk.cache(top) as cache:
            values, members = zk.values(top), zk.members(top)
            assert await values.poll(10) is None
            for step in range(3):
                await other.put(top, b"%d" % step)
                await other.create(f"{top}/n{step}")
                if step == 1:
                    await expire(zk, gate, server.port)
                gate.cut()
                gate.heal()
                await other.put(f"{top}/n0", b"%d" % step)
                await other.put(f"{top}/x/{step}", b"")
                await other.delete(f"{top}/x/{step}")
            while (node := await values.poll(10)) is None or node.data != b"2":
                pass
            while await members.poll(10) != {"n0", "n1", "n2", "x"}:
                pass
            # Through the same servers as the writes: its sync leads past the last cut.
            await zk.wait_for(coati.State.CONNECTED, timeout=10)
            await cache.sync()
            held = {path: cache.get(path) for path in cache.paths()}
            found = {node.path: node async for node in other.walk(top)}
            assert {path: node.data for path, node in held.items() if node} == {
                path: node.data for path, node in found.items()
            }

    run(scene)


def test_watches_leave_the_server_with_their_readers(server: Server, top: str) -> None:
    async def scene() -> None:
        async with client(server.port) as zk, client(server.port) as other:
            await other.create(top)
            async with zk.watch(top), zk.watch(top, recursive=True):
                values, members = zk.values(top), zk.members(top)
                await values.poll(10)
                await members.poll(10)
                values.close()
                members.close()
            await zk.exists("/")
            assert len(zk._core.machine.watches) == 0
            assert top not in await asyncio.to_thread(four_letter, server.host, server.port, "wchp")

    run(scene)


def test_quotas_are_those_of_zookeepers_shell(top: str) -> None:
    with running("3.9.3", cfg=QUICK_CFG, props=QUICK_PROPS) as server:

        def told(*commands: str) -> str:
            return finish(shell("3.9.3", server, script="".join(f"{command}\n" for command in commands))).output

        async def before() -> None:
            async with client(server.port) as zk:
                await zk.create(f"{top}/a", b"12345", parents=True)
                await zk.quota.set(top, count=5)
                await zk.quota.set(top, bytes=100, hard=True)

        async def between() -> None:
            async with client(server.port) as zk:
                assert await zk.quota.get(top) == coati.Quota(top, count=5, bytes=77, hard_bytes=100)
                assert await zk.quota.list() == [await zk.quota.get(top)]
                with pytest.raises(coati.BadArguments):
                    await zk.quota.set(f"{top}/a", count=1)

        async def after() -> None:
            async with client(server.port) as zk:
                assert await zk.quota.list() == [coati.Quota(f"{top}/a", count=3)]
                assert await zk.quota.usage(f"{top}/a") == coati.Usage(f"{top}/a", 1, 5)
                assert await zk.quota.remove(f"{top}/a")
                assert await zk.children("/zookeeper/quota") == []

        run(before)
        listed = told(f"listquota {top}", f"setquota -b 77 {top}")
        assert f"Output quota for {top} count=5,bytes=-1=;byteHardLimit=100;countHardLimit=-1" in listed
        assert f"Output stat for {top} count=2,bytes=5" in listed
        run(between)
        refused = told(f"delquota {top}", f"setquota -n 3 {top}/a", f"setquota -n 9 {top}")
        assert f"{top} has a child {top}/a which has a quota" in refused
        run(after)


def test_a_cache_follows_a_server_that_is_killed(top: str) -> None:
    """The same session on a server that came back with its data."""
    with running("coati", cfg=QUICK_CFG, props=QUICK_PROPS) as server:

        async def scene() -> None:
            async with client(server.port) as zk:
                await zk.create(f"{top}/a", parents=True)
                async with zk.cache(top) as cache:
                    changes = cache.changes()
                    await asyncio.to_thread(server.kill9)
                    await asyncio.to_thread(server.start)
                    while (await changes.poll(20)).type is not EventType.RESYNC:
                        pass
                    await zk.create(f"{top}/b")
                    await cache.sync()
                    assert cache.children(top) == ["a", "b"]

        run(scene)
