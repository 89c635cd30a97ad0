"""The truth about sessions: one that has expired is always said to have, one that goes on keeps what it had.

Against one server and three of them, coati's and Java's. The network between is a proxy that can fall silent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Final, Literal

import pytest

import coati
from coati import Client, EventType, Mode, State, ZKError
from tests.interop import peers
from tests.interop.ensembles import COATI, Ensemble
from tools.storm_client import Proxy

JAVA: Final = "3.9.3"
# Of a tick of 200 ms: the server takes it, and waiting for it is bearable.
SHORT_S: Final = 1.0
LONG_S: Final = 20.0
# For everything that happens in the end.
PATIENCE_S: Final = 60.0


@pytest.fixture(scope="module", params=["coati", "java", "three coati", "three java"])
def hosts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    kind = COATI if "coati" in request.param else JAVA
    if request.param.startswith("three"):
        with Ensemble(tmp_path_factory.mktemp("sessions"), (kind,) * 3, cfg={"minSessionTimeout": "400"}) as ensemble:
            ensemble.start(1, 2, 3)
            yield [f"{peers.HOST}:{member.port}" for member in ensemble.members.values()]
    else:
        with peers.running(kind, props=peers.QUICK_PROPS, cfg=peers.QUICK_CFG) as server:
            yield [server.address]


async def until(is_so: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline = monotonic() + PATIENCE_S
    never = asyncio.get_running_loop().create_future()
    while not await is_so():
        assert monotonic() < deadline, what
        await asyncio.wait([never], timeout=0.02)


@asynccontextmanager
async def through_a_proxy(address: str) -> AsyncIterator[tuple[Proxy, str]]:
    host, _, port = address.rpartition(":")
    proxy = Proxy(host, int(port))
    try:
        yield proxy, await proxy.start()
    finally:
        await proxy.stop()


class Diary:
    """All states of a client, in order."""

    def __init__(self, zk: Client) -> None:
        self.states: list[State] = []
        self._states = zk.states()
        self._task = asyncio.ensure_future(self._write())

    async def _write(self) -> None:
        async for change in self._states:
            self.states.append(change.state)

    async def end(self) -> list[State]:
        """When the client has ended."""
        await asyncio.wait_for(self._task, PATIENCE_S)
        return self.states


async def expire(hosts: list[str], zk: Client) -> None:
    """Ends the session behind its client's back, as kazoo's tests do: another client takes it over and closes it.

    On a busy machine its own client may take it back in between: then again.
    """
    ended: list[str] = []
    zk.session.on_end(ended.append)
    while not ended:
        with suppress(ZKError):
            async with Client(hosts, resume=zk.session.token, session_timeout=LONG_S):
                pass
        with suppress(ZKError):
            await zk.exists("/")


async def has_gone(client: Client, path: str) -> bool:
    await client.sync(path)
    return await client.exists(path) is None


def test_an_expired_session_is_reported_and_renewed(hosts: list[str]) -> None:
    async def run() -> None:
        async with Client(hosts) as calm, Client(hosts, session_timeout=LONG_S) as zk:
            diary = Diary(zk)
            ended: list[str] = []
            zk.session.on_end(ended.append)
            first = zk.session.id
            await zk.create("/renewed", mode=Mode.EPHEMERAL)
            await calm.ensure("/watched")
            await zk.sync()
            trigger = coati.Trigger()
            await zk.get("/watched", watch=trigger)
            async with zk.watch("/watched") as events:
                await expire(hosts, zk)
                await until(lambda: has_gone(calm, "/renewed"), "the ephemeral goes")
                await zk.wait_for(State.CONNECTED, timeout=PATIENCE_S)
                # It may be the old connection still.
                await until(lambda: _is(zk.session.id not in (0, first) and zk.session.state is State.CONNECTED), "new")
                assert len(ended) == 1
                # The new session watches what the old one did, and says that there was a gap.
                assert (await asyncio.wait_for(anext(events), PATIENCE_S)).type is EventType.RESYNC
                await calm.set("/watched", b"1")
                assert (await trigger.wait(PATIENCE_S)).type is EventType.CHANGED
                assert (await asyncio.wait_for(anext(events), PATIENCE_S)).type is EventType.CHANGED
            assert await zk.ephemerals() == []
            await zk.aclose()
            states = await diary.end()
            at = states.index(State.EXPIRED)
            assert set(states[:at]) == {State.CONNECTED, State.SUSPENDED}
            assert states[at - 1 : at + 3] == [State.SUSPENDED, State.EXPIRED, State.CONNECTING, State.CONNECTED]
            assert states[-1] is State.CLOSED

    asyncio.run(run())


async def _is(value: bool) -> bool:
    return value


def test_an_expired_session_that_must_not_be_renewed_raises_everywhere(hosts: list[str]) -> None:
    async def run() -> None:
        async with Client(hosts) as calm:
            zk = await Client(hosts, session_timeout=LONG_S, on_expired="raise").start()
            diary = Diary(zk)
            await zk.create("/raised", mode=Mode.EPHEMERAL)
            trigger = coati.Trigger()
            await zk.exists("/raised", watch=trigger)
            async with zk.watch("/") as events:
                await expire(hosts, zk)
                await zk.wait_for(State.EXPIRED, timeout=PATIENCE_S)
                assert await has_gone(calm, "/raised")
                assert zk.is_closed
                left = [event.type async for event in events]
                assert left[-1] is EventType.RESYNC
            assert trigger.event is not None
            for work in (
                zk.get("/"),
                zk.create("/x"),
                zk.exists("/"),
                zk.multi([coati.Create("/x")]),
                zk.sync(),
                zk.start(),
                zk.wait_for(State.CONNECTED),
                zk.authenticate(coati.Digest("a", "b")),
                zk.watch("/").__aenter__(),
            ):
                with pytest.raises(coati.SessionExpired):
                    await asyncio.wait_for(work, PATIENCE_S)
            await zk.aclose()
            assert (await diary.end())[-1] is State.EXPIRED
            assert await calm.exists("/x") is None

    asyncio.run(run())


@pytest.mark.parametrize("on_expired", ["renew", "raise"])
def test_silence_longer_than_the_timeout_is_the_end_on_both_sides(
    hosts: list[str], on_expired: Literal["renew", "raise"]
) -> None:
    async def run() -> None:
        async with Client(hosts) as calm, through_a_proxy(hosts[0]) as (proxy, address):
            zk = await Client(address, session_timeout=SHORT_S, on_expired=on_expired).start()
            diary = Diary(zk)
            await zk.create("/silent", mode=Mode.EPHEMERAL)
            for link in proxy.links:
                link.flows.clear()
            proxy.refuses = True
            deadline = zk.session.deadline
            await until(lambda: has_gone(calm, "/silent"), "the ephemeral goes")
            # The promise that recipes rest on.
            assert asyncio.get_running_loop().time() >= deadline
            assert asyncio.get_running_loop().time() >= zk.session.deadline
            await zk.wait_for(State.EXPIRED, State.CLOSED, timeout=PATIENCE_S) if on_expired == "raise" else None
            proxy.heal()
            if on_expired == "renew":
                await zk.with_options(timeout=PATIENCE_S).create("/silent", mode=Mode.EPHEMERAL)
                assert await zk.ephemerals() == ["/silent"]
            await zk.aclose()
            assert State.EXPIRED in await diary.end()

    asyncio.run(run())


def test_a_short_silence_keeps_the_session(hosts: list[str]) -> None:
    async def run() -> None:
        async with Client(hosts) as calm, through_a_proxy(hosts[-1]) as (proxy, address):
            async with Client([address, *hosts[:-1]], session_timeout=LONG_S) as zk:
                diary = Diary(zk)
                first = zk.session.id
                await calm.ensure("/kept/a")
                await calm.sync()
                await zk.sync()
                await zk.create("/kept/e", mode=Mode.EPHEMERAL)
                data, children = coati.Trigger(), coati.Trigger()
                await zk.get("/kept/a", watch=data)
                await zk.children("/kept/a", watch=children)
                async with zk.watch("/kept", recursive=True) as events:
                    zk.set_hosts([address])
                    await zk.sync()
                    for _ in range(3):
                        proxy.refuses = True
                        for link in list(proxy.links):
                            link.cut()
                        await zk.wait_for(State.SUSPENDED, timeout=PATIENCE_S)
                        # Seen by nobody; the next server is asked what happened after the last zxid that was seen.
                        await calm.set("/kept/a", b"1")
                        await calm.ensure("/kept/a/b")
                        proxy.refuses = False
                        await zk.wait_for(State.CONNECTED, timeout=PATIENCE_S)
                        await zk.sync()
                        assert zk.session.id == first
                        assert await zk.ephemerals() == ["/kept/e"]
                    assert (await data.wait(PATIENCE_S)).type is EventType.CHANGED
                    assert (await children.wait(PATIENCE_S)).type is EventType.CHILDREN
                    assert (await asyncio.wait_for(anext(events), PATIENCE_S)).type is EventType.RESYNC
                    await zk.set("/kept/a", b"2")
                    while (await asyncio.wait_for(anext(events), PATIENCE_S)).type is EventType.RESYNC:
                        pass
                await zk.aclose()
                assert State.EXPIRED not in await diary.end()
            await calm.delete_tree("/kept")

    asyncio.run(run())


def test_a_session_moves_to_another_server(hosts: list[str]) -> None:
    async def run() -> None:
        async with Client(hosts[0], session_timeout=LONG_S) as zk, Client(hosts) as calm:
            first = zk.session.id
            await zk.create("/moved", mode=Mode.EPHEMERAL)
            trigger = coati.Trigger()
            await zk.get("/moved", watch=trigger)
            for host in [*hosts[1:], hosts[0]]:
                zk.set_hosts([host])
                assert await zk.ephemerals() == ["/moved"]
                assert zk.session.id == first
                assert zk.session.server == host
            await calm.sync()
            await calm.set("/moved", b"1")
            assert (await trigger.wait(PATIENCE_S)).type is EventType.CHANGED

    asyncio.run(run())


def test_another_client_takes_a_session_over_by_its_token(hosts: list[str]) -> None:
    async def run() -> None:
        async with through_a_proxy(hosts[0]) as (proxy, address):
            first = await Client(address, session_timeout=LONG_S).start()
            await first.create("/taken", b"x", mode=Mode.EPHEMERAL)
            token = first.session.token
            # As if its process had died: the session is not closed.
            proxy.refuses = True
            for link in list(proxy.links):
                link.cut()
            await first.wait_for(State.SUSPENDED, timeout=PATIENCE_S)
            async with Client(hosts[-1], resume=token, session_timeout=LONG_S) as second:
                assert second.session.id == token.id
                assert await second.ephemerals() == ["/taken"]
                assert (await second.get("/taken")).data == b"x"
                await first.aclose()
                assert await second.ephemerals() == ["/taken"]
                forged = token._replace(password=bytes(16))
                async with Client(hosts, resume=forged, session_timeout=LONG_S) as other:
                    assert other.session.id != token.id
                with pytest.raises(coati.SessionExpired):
                    await Client(hosts, resume=forged, on_expired="raise").start()
                assert await second.ephemerals() == ["/taken"]
            async with Client(hosts) as calm:
                assert await has_gone(calm, "/taken")
                with pytest.raises(coati.SessionExpired):
                    await Client(hosts, resume=token, on_expired="raise").start()

    asyncio.run(run())
