"""A server in somebody else's event loop: it leaves the process alone, and others in the same loop."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

import coati.server
from coati.errors import ConfigError, StorageFailed
from coati.server import Config, Server
from coati.server.embed import GuardedLoop
from tests.interop import raw

T = TypeVar("T")
QUICK = {"forceSync": "no", "preAllocSize": "64", "tickTime": "200"}


async def ask(server: Server, talk: Callable[[raw.Session], T]) -> T:
    """What a client in another thread gets."""

    def asks() -> T:
        with raw.Session("127.0.0.1", server.client_port) as session:
            return talk(session)

    return await asyncio.to_thread(asks)


def created(path: str) -> Callable[[raw.Session], tuple[int, object]]:
    return lambda session: session.call(raw.CREATE, raw.create(path, b"x"))


def names(session: raw.Session) -> object:
    return session.call(raw.GET_CHILDREN, raw.path_watch("/"))[1]


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await test()

    asyncio.run(main())


def test_a_server_is_there_within_its_block_and_leaves_nothing_behind() -> None:
    async def test() -> None:
        async with Server(Config(QUICK)) as server:
            assert server.hosts == f"127.0.0.1:{server.client_port}"
            assert server.role == "standalone"
            assert await ask(server, created("/a")) == (0, "/a")
            assert server.config is not None
            data_dir = server.config.data_dir
            assert os.path.isdir(data_dir)  # noqa: ASYNC240  # a directory in memory, as below
        assert server.role == "stopped"
        assert not os.path.exists(data_dir)  # noqa: ASYNC240  # as above
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", server.client_port)

    run(test)


def test_servers_in_one_loop_know_nothing_of_each_other(tmp_path: Path) -> None:
    async def test() -> None:
        async with Server(Config(QUICK, data_dir=tmp_path / "1")) as one, Server(Config(QUICK)) as other:
            await ask(one, created("/one"))
            await ask(other, created("/other"))
            assert await ask(one, names) == ["one", "zookeeper"]
            assert await ask(other, names) == ["other", "zookeeper"]
            await one.kill()
            assert (one.role, other.role) == ("stopped", "standalone")
            assert await ask(other, names) == ["other", "zookeeper"]

    run(test)


def test_a_killed_server_keeps_what_it_wrote_and_lets_go_of_lock_and_port(tmp_path: Path) -> None:
    async def test() -> None:
        async with Server(Config(QUICK, data_dir=tmp_path)) as server:
            await ask(server, created("/kept"))
            port = server.client_port
            with pytest.raises(StorageFailed, match="locked"):
                await Server(Config(QUICK, data_dir=tmp_path)).start()
            await server.kill()
            await server.kill()
            async with Server(Config(QUICK, data_dir=tmp_path, client_port=port)) as again:
                assert await ask(again, names) == ["kept", "zookeeper"]
                assert again.client_port == port

    run(test)


def test_a_client_of_a_killed_server_is_cut_off() -> None:
    async def test() -> None:
        async with Server(Config(QUICK)) as server:
            session = await asyncio.to_thread(raw.Session, "127.0.0.1", server.client_port)
            await server.kill()
            with pytest.raises(raw.Closed):
                await asyncio.to_thread(session.reply)
            session.wire.close()

    run(test)


def test_a_stopped_server_answers_what_is_under_way(tmp_path: Path) -> None:
    async def test() -> None:
        async with Server(Config(QUICK, data_dir=tmp_path)) as server:
            session = await asyncio.to_thread(raw.Session, "127.0.0.1", server.client_port)
            sent = [session.send(raw.CREATE, raw.create(f"/n{number}")) for number in range(50)]
            # One that is answered, so all have arrived.
            replies = await asyncio.to_thread(lambda: [session.reply()])
            await server.stop()
            await server.stop()
            replies += await asyncio.to_thread(lambda: [session.reply() for _ in sent[1:]])
            assert [reply.err for reply in replies] == [0] * 50
            session.wire.close()

    run(test)


def test_a_member_without_a_quorum_looks_for_a_leader(tmp_path: Path) -> None:
    keys = {**QUICK, "initLimit": "5", "syncLimit": "5"}
    keys |= {f"server.{sid}": f"127.0.0.1:{sid}0001:{sid}0002" for sid in (1, 2, 3)}

    async def test() -> None:
        async with Server(Config(keys, data_dir=tmp_path, my_id=1)) as server:
            assert server.role == "looking"
            assert not server.is_serving
            assert server.tree is None
            with pytest.raises(TimeoutError):
                await server.wait_serving(0.01)
        assert (tmp_path / "myid").read_text() == "1\n"

    run(test)


def test_a_file_says_what_the_server_is(tmp_path: Path) -> None:
    zoo_cfg = tmp_path / "zoo.cfg"
    zoo_cfg.write_text(f"dataDir={tmp_path / 'data'}\nclientPortAddress=127.0.0.1\nclientPort=0\nforceSync=no\n")

    async def test() -> None:
        async with Server(Config.from_file(zoo_cfg, {"tickTime": 300})) as server:
            assert server.config is not None
            assert (server.config.tick_time_ms, server.config.force_sync) == (300, False)
            assert (tmp_path / "data").is_dir()
        with pytest.raises(ConfigError, match="the keys given: tickTime"):
            await Server(Config.from_file(zoo_cfg, {"tickTime": "soon"})).start()

    run(test)


def test_an_id_needs_a_place() -> None:
    with pytest.raises(ConfigError, match="data directory"):
        Config(my_id=1).load(None)


def test_a_server_touches_nothing_that_is_the_process_s() -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        before = (
            sys.getswitchinterval(),
            gc.get_threshold(),
            gc.get_freeze_count(),
            [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)],
            loop.get_exception_handler(),
            list(logging.getLogger().handlers),
        )
        async with Server(Config(QUICK)) as server:
            await ask(server, created("/a"))
        after = (
            sys.getswitchinterval(),
            gc.get_threshold(),
            gc.get_freeze_count(),
            [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)],
            loop.get_exception_handler(),
            list(logging.getLogger().handlers),
        )
        assert after == before

    run(test)


def test_a_callback_that_fails_ends_its_own_server(caplog: pytest.LogCaptureFixture) -> None:
    guards: list[GuardedLoop] = []

    def guard(loop: asyncio.AbstractEventLoop) -> GuardedLoop:
        guards.append(GuardedLoop(loop))
        return guards[-1]

    async def test() -> None:
        async with Server(Config(QUICK), guard=guard) as broken, Server(Config(QUICK)) as other:
            guards[0].call_soon(lambda: 1 // 0)
            async with asyncio.timeout(10):
                assert await broken.server.wait() != 0
            assert broken.role == "stopped"
            with pytest.raises(TimeoutError, match="has ended"):
                await broken.wait_serving()
            assert await ask(other, created("/a")) == (0, "/a")

    run(test)
    assert "internal error" in caplog.text


def test_nothing_runs_on_a_loop_that_is_dead() -> None:
    async def test() -> None:
        guard = GuardedLoop(asyncio.get_running_loop())
        ran: list[str] = []
        guard.call_soon(ran.append, "soon")
        guard.call_soon_threadsafe(ran.append, "from a thread")
        guard.call_later(0, ran.append, "later")
        guard.die()
        done = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0, done.set_result, None)
        await done
        assert ran == []

    run(test)


def test_the_room_exports_nothing_else() -> None:
    assert coati.server.__all__ == ["Config", "Server"]
    with pytest.raises(AttributeError, match="Nobody"):
        _ = coati.server.Nobody
