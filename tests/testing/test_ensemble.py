"""Ensembles for tests: what each fault does, who is asked for it, and that nothing is left."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from coati.testing.backends import Ground
from coati.testing.ensemble import Ensemble, EnsembleError, FaultRefused
from coati.testing.memory import MemoryBackend
from tests.interop import raw

# Failures are found out quickly: a syncLimit is 150 ms.
BRISK = {"tickTime": "50", "syncLimit": "3"}
CREATED = (0, "/a")


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await test()

    asyncio.run(main())


async def session(ensemble: Ensemble, sid: int, timeout_ms: int = 30_000) -> raw.Session:
    host, _, port = ensemble.hosts_of(sid).rpartition(":")
    return await asyncio.to_thread(raw.Session, host, int(port), timeout_ms)


async def call(who: raw.Session, op: int, body: bytes) -> tuple[int, object]:
    return await asyncio.to_thread(who.call, op, body)


async def create(ensemble: Ensemble, sid: int, path: str = "/a") -> tuple[int, object]:
    who = await session(ensemble, sid)
    answer = await call(who, raw.CREATE, raw.create(path, b"x"))
    await asyncio.to_thread(who.close)
    return answer


def test_three_members_and_an_observer_serve() -> None:
    async def test() -> None:
        async with Ensemble(3, observers=1) as e:
            assert sorted(member.role for member in e.members.values()) == [
                "follower",
                "follower",
                "leader",
                "observer",
            ]
            assert e.members[4].is_observer
            assert e.hosts == ",".join(e.hosts_of(sid) for sid in (1, 2, 3, 4))
            assert e.leader in e.voters
            assert sorted([e.leader, *e.followers]) == [1, 2, 3]
            assert await create(e, 4) == CREATED

    run(test)


def test_ensembles_run_on_uvloop_as_well() -> None:
    """A socket that is closed twice there closes somebody else's file, so nothing may be complained of."""
    complaints: list[dict[str, object]] = []

    async def test() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        for _ in range(5):
            async with Ensemble(3, 1, config=BRISK) as e:
                old = e.leader
                await e.isolate(old)
                await e.wait_leader(but=old)
                await e.repair()
                await e.kill(e.leader)
                await e.pause(4)
                await e.repair()
                assert await create(e, 4) == CREATED

    uvloop.run(test())
    assert complaints == []


def test_one_member_is_standalone() -> None:
    async def test() -> None:
        async with Ensemble(1) as e:
            assert e.members[1].role == "standalone"
            assert e.leader == 1
            assert await create(e, 1) == CREATED

    run(test)


def test_several_ensembles_in_one_loop() -> None:
    async def test() -> None:
        async with Ensemble(3) as one, Ensemble(3) as other:
            assert await create(one, 1) == CREATED
            assert await create(other, 1) == CREATED

    run(test)


def test_a_killed_leader_is_replaced_and_comes_back_with_its_data() -> None:
    async def test() -> None:
        async with Ensemble(3) as e:
            assert await create(e, 1) == CREATED
            old = e.leader
            await e.kill(old)
            assert e.role(old) == "stopped"
            new = await e.wait_leader(but=old)
            assert await create(e, new, "/b") == (0, "/b")
            await e.start(old)
            assert e.role(old) == "follower"
            who = await session(e, old)
            assert await call(who, raw.GET_CHILDREN, raw.path_watch("/")) == (0, ["a", "b", "zookeeper"])
            await asyncio.to_thread(who.close)
            await e.restart(e.leader)
            await e.stop(1)
            await e.start(1)
            assert "stopped" not in [member.role for member in e.members.values()]

    run(test)


def test_a_member_that_runs_is_not_started_and_one_that_does_not_is_not_killed() -> None:
    async def test() -> None:
        async with Ensemble(1) as e:
            with pytest.raises(EnsembleError, match="runs already"):
                await e.start(1)
            await e.kill(1)
            with pytest.raises(EnsembleError, match="does not run"):
                await e.kill(1)
            with pytest.raises(EnsembleError, match="nobody leads: 1 stopped"):
                _ = e.leader
            with pytest.raises(ValueError, match="no member 2"):
                await e.pause(2)

    run(test)


def test_a_paused_leader_answers_nothing_and_is_replaced() -> None:
    async def test() -> None:
        async with Ensemble(3, config=BRISK) as e:
            old = e.leader
            who = await session(e, old)
            await e.pause(old)
            assert e.role(old) == "paused"
            xid = who.send(raw.CREATE, raw.create("/late"))
            new = await e.wait_leader(but=old)
            assert await create(e, new, "/meanwhile") == (0, "/meanwhile")
            await e.resume(old)
            await e.settled()
            assert e.leader == new
            # It has met its follower's leave before it could commit anything.
            with pytest.raises(raw.Closed):
                await asyncio.to_thread(lambda: who.reply().xid == xid)
            who.wire.close()

    run(test)


def test_a_short_pause_loses_nothing() -> None:
    async def test() -> None:
        async with Ensemble(3) as e:
            leader = e.leader
            for sid, other in ((1, 2), (2, 3), (3, 1)):
                who, awake = await session(e, sid), await session(e, other)
                await e.pause(sid)
                asked = asyncio.create_task(call(who, raw.CREATE, raw.create(f"/n{sid}")))
                assert (await call(awake, raw.EXISTS, raw.path_watch("/")))[0] == 0
                assert not asked.done()
                await e.resume(sid)
                assert await asked == (0, f"/n{sid}")
                for one in (who, awake):
                    await asyncio.to_thread(one.close)
            assert e.leader == leader

    run(test)


def test_a_leader_that_is_cut_off_commits_nothing_and_follows_after_the_healing() -> None:
    async def test() -> None:
        async with Ensemble(3, config=BRISK) as e:
            old = e.leader
            who = await session(e, old)
            await e.isolate(old)
            who.send(raw.CREATE, raw.create("/lost"))
            new = await e.wait_leader(but=old)
            assert await create(e, new) == CREATED
            await e._until(lambda: e.role(old) == "looking", "it has stepped down", 20)
            with pytest.raises(raw.Closed):
                await asyncio.to_thread(who.reply)
            who.wire.close()
            await e.heal()
            await e.settled()
            assert e.leader == new
            again = await session(e, old)
            assert await call(again, raw.GET_CHILDREN, raw.path_watch("/")) == (0, ["a", "zookeeper"])
            await asyncio.to_thread(again.close)

    run(test)


def test_a_short_partition_is_not_noticed() -> None:
    async def test() -> None:
        async with Ensemble(3) as e:
            leader = e.leader
            who = await session(e, leader)
            reader = await session(e, leader)
            await e.isolate(leader)
            asked = asyncio.create_task(call(who, raw.CREATE, raw.create("/a")))
            assert (await call(reader, raw.EXISTS, raw.path_watch("/")))[0] == 0
            assert not asked.done()
            await e.heal()
            assert await asked == CREATED
            assert e.leader == leader
            for one in (who, reader):
                await asyncio.to_thread(one.close)

    run(test)


def test_one_way_is_cut_and_the_other_is_not() -> None:
    async def test() -> None:
        async with Ensemble(3) as e:
            leader, (deaf, other) = e.leader, e.followers
            who, reader = await session(e, deaf), await session(e, other)
            await e.cut(leader, deaf)
            # Its request reaches the leader; the commit does not come back.
            asked = asyncio.create_task(call(who, raw.CREATE, raw.create("/a")))
            async with asyncio.timeout(20):
                while (await call(reader, raw.EXISTS, raw.path_watch("/a")))[0] != 0:
                    assert not asked.done()
            assert not asked.done()
            assert f"cut: {leader} -> {deaf}" in e.dump()
            await e.heal()
            assert await asked == CREATED
            for one in (who, reader):
                await asyncio.to_thread(one.close)

    run(test)


def test_a_member_may_be_killed_while_it_is_paused_or_cut_off() -> None:
    async def test() -> None:
        async with Ensemble(3) as e:
            one, other = e.followers
            await e.isolate(one)
            await e.kill(one)
            await e.heal()
            await e.start(one)
            await e.pause(other)
            await e.kill(other)
            assert e.role(other) == "stopped"
            await e.start(other)
            assert await create(e, other) == CREATED

    run(test)


def test_a_paused_member_takes_what_its_kernel_has_room_for() -> None:
    async def test() -> None:
        async with Ensemble(1, config={"jute.maxbuffer": 4_000_000}) as e:
            who = await session(e, 1)
            await e.pause(1)
            await e.pause(1)
            # More than fits into the buffers of a socket.
            asked = [
                asyncio.create_task(call(who, raw.CREATE, raw.create("/large", bytes(900_000)))),
            ]
            await e.resume(1)
            await e.resume(1)
            assert [await one for one in asked] == [(0, "/large")]
            # The answer as well.
            body = [who.send(raw.GET_DATA, raw.path_watch("/large")) for _ in range(20)]
            for _ in body:
                assert (await asyncio.to_thread(who.reply)).err == 0
            await asyncio.to_thread(who.close)

    run(test)


def test_who_waits_in_vain_is_told_what_the_members_do() -> None:
    async def test() -> None:
        async with Ensemble(1) as e:
            with pytest.raises(
                EnsembleError, match=r"not within 0.01 s: a leader(.|\n)*member 1 127.0.0.1:\d+ standalone"
            ):
                await e.wait_leader(but=1, timeout=0.01)
            await e.kill(1)
            assert "nobody serves" in e.dump()

    assert "not started" in Ensemble(1).dump()
    run(test)


def test_a_dump_has_an_end() -> None:
    async def test() -> None:
        async with Ensemble(1) as e:
            who = await session(e, 1)
            for number in range(120):
                await call(who, raw.CREATE, raw.create(f"/n{number:03}"))
            await asyncio.to_thread(who.close)
            said = e.dump()
            assert "/n090" in said
            assert "/n110" not in said
            assert "  and more" in said

    run(test)


def test_a_partition_takes_the_place_of_another() -> None:
    async def test() -> None:
        async with Ensemble(3) as e:
            await e.partition({1}, {2}, {3})
            await e.partition({1, 2, 3})
            assert await create(e, 1) == CREATED

    run(test)


def test_without_a_majority_nobody_serves() -> None:
    async def test() -> None:
        async with Ensemble(3, config=BRISK) as e:
            await e.partition({1}, {2}, {3})
            await e._until(lambda: {m.role for m in e.members.values()} == {"looking"}, "all look", 20)
            with pytest.raises(EnsembleError, match="nobody serves"):
                await e.expire((1, bytes(16)))
            await e.repair()
            assert await create(e, 1) == CREATED

    run(test)


def test_a_partition_has_every_member_once() -> None:
    async def test() -> None:
        async with Ensemble(3) as e:
            with pytest.raises(ValueError, match="nobody in common"):
                await e.partition({1, 2}, {2, 3})
            with pytest.raises(ValueError, match="no member 7"):
                await e.partition({7})

    run(test)


def test_an_expired_session_is_gone_with_its_znodes() -> None:
    async def test() -> None:
        async with Ensemble(3) as e:
            who = await session(e, 1)
            assert await call(who, raw.CREATE, raw.create("/mine", flags=1)) == (0, "/mine")
            assert await e.expire((who.session_id, who.password))
            with pytest.raises(raw.Closed):
                await asyncio.to_thread(who.reply)
            assert not await e.expire((who.session_id, who.password))
            other = await session(e, 1)
            assert (await call(other, raw.SYNC, raw.ustring("/")))[0] == 0
            assert (await call(other, raw.EXISTS, raw.path_watch("/mine")))[0] == -101
            with pytest.raises(raw.Expired):
                await asyncio.to_thread(
                    lambda: raw.Session("127.0.0.1", port(e), session_id=who.session_id, password=who.password)
                )
            await asyncio.to_thread(other.close)
            who.wire.close()

    run(test)


def port(ensemble: Ensemble) -> int:
    return int(ensemble.hosts_of(1).rpartition(":")[2])


def test_dropped_connections_keep_their_sessions() -> None:
    async def test() -> None:
        async with Ensemble(1) as e:
            who = await session(e, 1)
            assert await call(who, raw.CREATE, raw.create("/mine", flags=1)) == (0, "/mine")
            assert await e.drop_connections() == 1
            with pytest.raises(raw.Closed):
                await asyncio.to_thread(who.reply)
            back = await asyncio.to_thread(
                lambda: raw.Session("127.0.0.1", port(e), session_id=who.session_id, password=who.password)
            )
            assert (await call(back, raw.EXISTS, raw.path_watch("/mine")))[0] == 0
            await asyncio.to_thread(back.close)
            who.wire.close()

    run(test)


def test_a_dump_says_who_is_where_what_is_in_the_tree_and_what_happened() -> None:
    async def test() -> None:
        async with Ensemble(3, seed=7) as e:
            await create(e, 1)
            await e.kill(e.leader)
            await e.partition({1}, {2}, {3})
            said = e.dump()
        assert "seed=7" in said
        assert "stopped" in said
        assert "[1] | [2] | [3]" in said
        assert "/a bytes=1 version=0" in said
        assert "serving state=LEADING" in said

    run(test)


def test_the_log_of_members_does_not_reach_who_did_not_ask_for_it(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with Ensemble(1):
            assert "serving" not in caplog.text

    # Whatever other tests have left there.
    caplog.set_level(logging.WARNING, "coati")
    before = logging.getLogger("coati.server").level
    run(test)
    assert caplog.text == ""
    assert (logging.getLogger("coati.server").level, logging.getLogger("coati.server").propagate) == (before, True)


def test_nothing_is_left_when_a_test_fails() -> None:
    kept: list[Path] = []

    async def test() -> None:
        async with Ensemble(3) as e:
            backend = e.backend
            assert isinstance(backend, MemoryBackend)
            config = backend.server(1).config
            assert config is not None
            kept.append(Path(config.data_dir).parent)
            await e.pause(2)
            await e.partition({1})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(test)
    assert not kept[0].exists()


def test_equal_seeds_are_equal_dice() -> None:
    assert Ensemble(seed=3).dice.random() == Ensemble(seed=3).dice.random()
    assert Ensemble().seed != Ensemble().seed


def test_ports_are_kept_for_their_servers() -> None:
    ground = Ground(1, 0, {})
    try:
        plan = ground.plans[1]
        # A server may bind it; and a client whose port the kernel chooses never gets it, nor is connected to itself.
        with socket.socket() as server, socket.socket() as client:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((plan.host, plan.port))
            assert client.connect_ex((plan.host, plan.port)) != 0
            server.listen()
        with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
            stranger.bind((plan.host, plan.port))
    finally:
        ground.close()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"members": 0}, "one member"),
        ({"backend": "docker"}, "none of memory"),
        ({"backend": "external"}, "hosts"),
        ({"hosts": "127.0.0.1:2181"}, "hosts"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Ensemble(**options)  # type: ignore[arg-type]  # some of them are wrong on purpose


def test_an_ensemble_of_others_is_used_and_not_broken() -> None:
    async def test() -> None:
        async with Ensemble(1) as own:
            # Asked in another thread, for it asks by blocking calls.
            def use() -> None:
                async def other() -> None:
                    async with Ensemble(backend="external", hosts=own.hosts) as e:
                        assert e.hosts == own.hosts
                        assert e.leader == 1
                        assert "/zookeeper" in e.dump()
                        for fault in (e.kill, e.pause, e.drop_connections):
                            with pytest.raises(FaultRefused, match="memory"):
                                await fault(1)
                        with pytest.raises(FaultRefused, match="memory"):
                            await e.cut(1, 1)

                asyncio.run(other())

            await asyncio.to_thread(use)
            assert own.members[1].role == "standalone"

    run(test)


def test_java_without_its_jars_is_an_error_that_says_where_they_were_looked_for(tmp_path: Path) -> None:
    async def test() -> None:
        with pytest.raises(EnsembleError, match="java"):
            async with Ensemble(backend="java", classpath=str(tmp_path)):
                pass

    run(test)


@pytest.mark.slow
def test_processes_are_killed_paused_and_expired() -> None:
    async def test() -> None:
        async with Ensemble(3, backend="process") as e:
            assert await create(e, 1) == CREATED
            with pytest.raises(FaultRefused, match="the backend memory has"):
                await e.partition({1})
            old = e.leader
            await e.kill(old)
            await e.wait_leader()
            await e.start(old)
            await e.pause(1)
            assert e.role(1) == "paused"
            await e.resume(1)
            who = await session(e, 1)
            assert await e.expire((who.session_id, who.password))
            who.wire.close()
            await e.restart(2)
            assert "/a bytes=1" in e.dump()
            assert "log of member 3" in e.dump()

    run(test)
