"""Ordinary asyncio code against the simulated ensemble: what network and servers do to it, and what a run finds."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator

import pytest

from coati.testing import clientnet
from coati.testing.loop import Deadlock, pass_time
from coati.testing.server import encode, request_frame
from coati.testing.world import Leak, SimWorld, run
from coati.wire import codes
from coati.wire.records import GetDataRequest
from tests.now import now
from tests.testing import stormy
from tests.testing.rawclient import RawClient, RawProtocol, connect, dial

Main = Callable[[SimWorld], Coroutine[object, object, object]]

_HASHES = """
import logging, sys
logging.disable(logging.CRITICAL)
from coati.testing.world import run
from tests.testing.stormy import main
ballast = [bytearray(n % 99) for n in range(int(sys.argv[1]))]
for seed in map(int, sys.argv[2:]):
    print(run(main, seed))
"""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Servers warn of what is done to them."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


# A client's life.


@pytest.mark.parametrize("seed", range(5))
def test_a_client_lives_and_leaves(seed: int) -> None:
    async def main(world: SimWorld) -> None:
        first, _, port = world.hosts.split(",")[seed % 3].partition(":")
        zk = await (await dial(first, int(port))).greet()
        assert world.sessions() == [zk.session_id]
        assert await zk.create(b"/a", b"1") == 0
        assert await zk.get(b"/a") == b"1"
        assert zk.transport.get_extra_info("sockname") == ("10.0.1.1", 40_001)
        await zk.close()
        assert world.sessions() == []
        assert not world.net.calls

    run(main, seed)


def test_many_clients_on_many_hosts() -> None:
    async def one(world: SimWorld, number: int) -> None:
        with world.on_host(f"h{number % 5}"):
            zk = await connect(f"m{number % 4 + 1}")
        for count in range(5):
            assert await zk.create(b"/c%d-%d" % (number, count), bytes(number)) == 0
        await zk.close()

    async def main(world: SimWorld) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(40):
                group.create_task(one(world, number))
        assert world.net.hosts == [f"h{number}" for number in range(5)]
        zk = await connect()
        assert await zk.get(b"/c39-4") == bytes(39)
        await zk.close()

    run(main, 1, observers=1)


def test_names_and_addresses_are_those_of_members() -> None:
    async def main(world: SimWorld) -> None:
        loop = asyncio.get_running_loop()
        assert [entry[4] for entry in await loop.getaddrinfo("zk", 2181)] == [
            ("10.0.0.1", 2181),
            ("10.0.0.2", 2181),
            ("10.0.0.3", 2181),
        ]
        world.net.names["zk"] = [3]
        assert [entry[4] for entry in await loop.getaddrinfo("zk", 2181)] == [("10.0.0.3", 2181)]
        with pytest.raises(socket.gaierror):
            await dial("elsewhere")
        with pytest.raises(socket.gaierror):
            await loop.getaddrinfo("m1", 2181, family=socket.AF_INET6)
        with pytest.raises(ConnectionRefusedError):
            await dial("10.0.0.2", 2182)
        world.net.names["zk"] = [1, 2]
        with pytest.raises(OSError, match=r"Multiple exceptions.*m2:2182"):
            await dial("zk", 2182)

    run(main, 1)


@pytest.mark.parametrize(("word", "text"), [(b"ruok", b"imok"), (b"isro", b"rw"), (b"mntr", b"whitelist.\n")])
def test_words_of_four_letters_are_answered(word: bytes, text: bytes) -> None:
    async def main(world: SimWorld) -> None:
        client = await dial("m2")
        client.protocol.is_raw = True
        client.transport.write(word)
        assert await client.protocol.lost is None
        assert b"".join(client.protocol.pieces).endswith(text)
        assert client.protocol.has_eof

    run(main, 2)


def test_a_server_without_a_quorum_says_so() -> None:
    async def main(world: SimWorld) -> None:
        world.kill(1)
        world.kill(2)
        await pass_time(5)
        client = await dial("m3")
        client.protocol.is_raw = True
        client.transport.write(b"isro")
        await client.protocol.lost
        assert b"".join(client.protocol.pieces) == b"null"

    run(main, 2)


def test_bytes_come_in_pieces_as_well_as_in_one() -> None:
    sizes: list[int] = []

    async def main(world: SimWorld) -> None:
        world.net.split_share = 0.5
        zk = await connect()
        await zk.create(b"/a", bytes(1000))
        for _ in range(20):
            assert await zk.get(b"/a") == bytes(1000)
        sizes.extend(map(len, zk.protocol.pieces))
        await zk.close()

    run(main, 1)
    assert len(set(sizes)) > 10


def test_who_asks_for_no_session_is_closed() -> None:
    async def main(world: SimWorld) -> None:
        began = world.loop.time()
        assert isinstance(await (await dial("m1")).protocol.lost, ConnectionResetError)
        assert world.loop.time() - began == pytest.approx(10, abs=0.2)

    run(main, 1)


# Servers.


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_server_ends_its_connections_and_a_restarted_one_takes_new_ones(seed: int) -> None:
    async def main(world: SimWorld) -> type[object]:
        zk = await connect("m3")
        world.kill(3)
        began = world.loop.time()
        error = await zk.protocol.lost
        assert world.loop.time() - began < 1
        assert error is None or isinstance(error, ConnectionResetError)
        with pytest.raises(ConnectionRefusedError):
            await dial("m3")
        world.restart(3)
        await world.serving()
        again = await (await dial("m3")).greet(zk.session_id, zk.password)
        assert again.session_id == zk.session_id
        await again.close()
        return type(error)

    run(main, seed)


def test_a_killed_server_is_a_reset_or_an_end() -> None:
    async def main(world: SimWorld) -> bool:
        zk = await connect("m3")
        world.kill(3)
        return await zk.protocol.lost is None

    assert {run(main, seed) for seed in range(8)} == {True, False}


def test_a_server_without_power_leaves_connections_half_open() -> None:
    async def main(world: SimWorld) -> None:
        loop = world.loop
        idle, busy = await connect("m3"), await connect("m3")
        world.crash(3)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(busy.create(b"/a"), 30)
        began = loop.time()
        with pytest.raises(TimeoutError, match="m3:2181"):
            await dial("m3")
        assert loop.time() - began == pytest.approx(127, abs=0.2)
        world.restart(3)
        # What was sent again meets a host that does not know the connection; the other one notices nothing.
        assert isinstance(await busy.protocol.lost, ConnectionResetError)
        await world.serving()
        assert not idle.protocol.lost.done()
        await idle.hang_up()

    run(main, 3)


def test_a_stopped_server_answers_when_it_goes_on() -> None:
    async def main(world: SimWorld) -> None:
        zk = await connect("m3")
        began = world.loop.time()
        world.net.split_share = 0.9
        world.pause(3)
        late = asyncio.create_task(connect("m3"))
        # Sooner than its leader or its followers miss it.
        world.loop.call_later(0.5, world.resume, 3)
        assert await zk.get(b"/a") is None
        assert 0.5 <= world.loop.time() - began < 1
        await (await late).close()
        await zk.close()

    run(main, 4)


def test_an_expired_session_is_closed_and_does_not_come_back() -> None:
    async def main(world: SimWorld) -> None:
        zk = await connect("m1")
        world.expire(zk.session_id)
        world.expire(zk.session_id)
        await zk.protocol.lost
        assert world.sessions() == []
        again = await (await dial("m1")).greet(zk.session_id, zk.password)
        assert again.session_id == 0
        await again.protocol.lost

    run(main, 5)


# The network.


@pytest.mark.parametrize("both", [True, False])
def test_a_cut_swallows_and_healing_brings_it_all(both: bool) -> None:
    async def main(world: SimWorld) -> None:
        zk = await connect("m1")
        world.client_cut(both=both)
        call = asyncio.create_task(zk.create(b"/a"))
        await pass_time(3)
        assert not call.done()
        assert (world.member(1).tree.find(b"/a") is None) is both
        world.heal()
        assert await call == 0
        await zk.close()

    run(main, 6)


def test_one_host_is_cut_and_another_is_not() -> None:
    async def main(world: SimWorld) -> None:
        with world.on_host("left"):
            left = await connect("m1")
        with world.on_host("right"):
            right = await connect("m1")
        world.cut("left", 1)
        assert await right.create(b"/a") == 0
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(left.get(b"/a"), 1)
        with pytest.raises(TimeoutError), world.on_host("left"):
            await asyncio.wait_for(dial("m1"), 5)
        world.heal("left", 1)
        await left.hang_up()
        await right.close()

    run(main, 7)


def test_a_dial_into_a_cut_succeeds_with_one_of_its_tries() -> None:
    async def main(world: SimWorld) -> None:
        world.client_cut("client")
        world.loop.call_later(4, world.heal)
        began = world.loop.time()
        zk = await connect("m1")
        assert 7 <= world.loop.time() - began < 8
        await zk.close()

    run(main, 8)


def test_a_dial_that_is_given_up_leaves_nothing_at_the_server() -> None:
    async def main(world: SimWorld) -> None:
        world.net.delay_ms = (10, 10)
        for after_ms in range(40):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(dial("m1"), after_ms / 2000)
        await pass_time(1)
        assert not world.net.calls
        assert not world.member(1).links

    run(main, 9)


def test_a_reset_reaches_both_ends() -> None:
    async def main(world: SimWorld) -> None:
        zk = await connect("m1")
        (call,) = world.net.calls
        call.break_off()
        assert isinstance(await zk.protocol.lost, ConnectionResetError)
        await pass_time(1)
        assert not world.member(1).links

    run(main, 10)


def test_who_writes_into_a_cut_is_told_to_stop_and_to_go_on() -> None:
    class Writer(RawProtocol):
        is_choked = False

        def pause_writing(self) -> None:
            self.is_choked = True

        def resume_writing(self) -> None:
            self.is_choked = False

    async def main(world: SimWorld) -> None:
        transport, protocol = await world.loop.create_connection(Writer, "m1", 2181)
        world.client_cut()
        transport.write(bytes(100_000))
        assert not now(protocol.is_choked)
        transport.write(bytes(100_000))
        assert now(protocol.is_choked)
        assert transport.get_write_buffer_size() > 100_000
        transport.close()
        await pass_time(10)
        assert not protocol.lost.done()
        world.heal()
        await protocol.lost
        assert not now(protocol.is_choked)

    run(main, 11)


def test_who_does_not_read_gets_it_later_in_order() -> None:
    async def main(world: SimWorld) -> None:
        client = await dial("m1")
        client.protocol.is_raw = True
        client.transport.pause_reading()
        client.transport.write(b"ruok")
        await pass_time(1)
        assert not client.protocol.pieces
        assert not client.protocol.has_eof
        client.transport.resume_reading()
        await client.protocol.lost
        assert b"".join(client.protocol.pieces) == b"imok"

    run(main, 12)


async def _large_reader(world: SimWorld, count: int) -> RawClient:
    """Has asked for a large znode so many times, and reads nothing."""
    zk = await connect("m1", timeout_ms=40_000)
    assert await zk.create(b"/large", bytes(900_000)) == 0
    zk.transport.pause_reading()
    body = encode(GetDataRequest(b"/large", False))
    zk.transport.writelines(request_frame(100 + number, codes.OP_GET_DATA, body) for number in range(count))
    await pass_time(2)
    return zk


def test_who_does_not_read_for_long_holds_up_the_server_and_not_the_others() -> None:
    async def main(world: SimWorld) -> None:
        slow, other = await _large_reader(world, 8), await connect("m1")
        (door, _) = world.member(1).links
        chokes = [door.is_choked]
        assert slow.protocol.frames.empty()
        assert door.sends < 8, "it does not make answers that nobody takes"
        assert await other.get(b"/large") == bytes(900_000)
        slow.transport.resume_reading()
        frames = [await slow.next_frame() for _ in range(8)]
        assert [int.from_bytes(frame[:4], "big") for frame in frames] == list(range(100, 108))
        assert [*chokes, door.is_choked] == [True, False]
        await slow.close()
        await other.close()

    run(main, 12)


def test_who_never_reads_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clientnet, "UNREAD_BYTES", 500_000)

    async def main(world: SimWorld) -> None:
        slow = await _large_reader(world, 1)
        assert not world.member(1).links
        slow.transport.resume_reading()
        assert isinstance(await slow.protocol.lost, ConnectionResetError)

    run(main, 12)


def test_a_transport_is_one_of_asyncio() -> None:
    async def main(world: SimWorld) -> None:
        client = await dial("m1")
        transport, protocol = client.transport, client.protocol
        protocol.is_raw = True
        assert transport.get_protocol() is protocol
        transport.set_protocol(protocol)
        assert transport.is_reading()
        assert transport.can_write_eof()
        assert transport.get_extra_info("peername") == ("10.0.0.1", 2181)
        assert transport.get_extra_info("socket") is None
        assert transport.get_write_buffer_limits() == (16 << 10, 64 << 10)
        for high, low, limits in ((100, None, (25, 100)), (None, 10, (10, 40)), (None, None, (16 << 10, 64 << 10))):
            transport.set_write_buffer_limits(high, low)
            assert transport.get_write_buffer_limits() == limits
        with pytest.raises(ValueError):
            transport.set_write_buffer_limits(1, 2)
        with pytest.raises(TypeError, match="str"):
            transport.write("text")  # type: ignore[arg-type]  # what it must refuse
        transport.writelines([b"is", b"", b"ro"])
        transport.write_eof()
        with pytest.raises(RuntimeError, match="write_eof"):
            transport.write(b"more")
        await protocol.lost
        assert transport.is_closing()
        assert not transport.is_reading()
        transport.close()
        transport.abort()
        transport.resume_reading()
        transport.pause_reading()

    run(main, 12)


def test_streams_of_asyncio_work() -> None:
    async def main(world: SimWorld) -> None:
        reader, writer = await asyncio.open_connection("m2", 2181)
        for piece in (b"ru", b"o", b"k"):
            writer.write(piece)
            await writer.drain()
            await pass_time(0.1)
        assert await reader.read() == b"imok"
        writer.close()
        await writer.wait_closed()

    run(main, 12)


def test_a_protocol_with_a_buffer_of_its_own_is_refused() -> None:
    class Buffered(asyncio.BufferedProtocol):
        pass

    async def main(world: SimWorld) -> None:
        transport, _ = await world.loop.create_connection(Buffered, "m2", 2181)
        transport.write(b"ruok")
        await pass_time(1)

    with pytest.raises(Leak, match="NotImplementedError"):
        run(main, 12)


def test_an_abort_drops_what_is_on_its_way() -> None:
    async def main(world: SimWorld) -> None:
        world.net.delay_ms = (10, 10)
        zk = await connect("m1")
        zk.transport.write(b"x" * 100)
        zk.transport.abort()
        assert await zk.protocol.lost is None
        await pass_time(1)
        assert not world.member(1).links

    run(main, 12)


def test_a_connection_that_ends_while_it_is_made_is_lost_at_once() -> None:
    async def main(world: SimWorld) -> None:
        world.net.delay_ms = (10, 10)

        def kill() -> None:
            # Connected by the server's kernel, and not known to the client yet.
            assert world.net.calls
            assert not world.loop.transports
            world.net.delay_ms = (1, 1)
            world.kill(1)

        world.loop.call_later(0.025, kill)
        client = await dial("m1")
        await client.protocol.lost

    run(main, 12)


def test_cut_servers_find_each_other_again() -> None:
    async def main(world: SimWorld) -> None:
        leader = world.cluster.leader()
        assert leader is not None
        others = [sid for sid in world.cluster.members if sid != leader.sid]
        for sid in others:
            world.cut(leader.sid, sid)
        await pass_time(5)
        assert not leader.is_serving
        zk = await connect(f"m{others[0]}")
        assert await zk.create(b"/a") == 0
        for sid in others:
            world.heal(leader.sid, sid)
        await world.serving()
        assert leader.tree.find(b"/a") is not None
        await zk.close()

    run(main, 12)


def test_who_has_still_to_hear_that_its_leader_is_gone_does_not_serve() -> None:
    """Seed 1151 of a storm: the world was whole, and one server about to look for a leader."""

    async def main(world: SimWorld) -> None:
        leader, (stopped, *_) = world.cluster.leader(), world.cluster.followers()
        assert leader is not None
        world.pause(stopped.sid)
        world.kill(leader.sid)
        await pass_time(5)
        world.restart(leader.sid)
        await pass_time(5)
        assert world.cluster.all_serve()
        assert not world.all_serve()
        world.resume(stopped.sid)
        await world.settled()
        assert stopped.store.current_epoch == 2

    run(main, 12, voters=5)


def test_what_a_fault_does_twice_it_does_once() -> None:
    async def main(world: SimWorld) -> None:
        for what in (world.restart, world.resume, world.pause, world.pause, world.resume, world.resume):
            what(2)
        for what in (world.kill, world.kill, world.crash, world.pause, world.resume, world.restart, world.restart):
            what(2)
        for what in (world.crash, world.crash, world.kill, world.restart):
            what(3)
        await world.serving()
        world.expire(12345)
        await pass_time(1)
        world.kill(1)
        world.kill(2)
        world.kill(3)
        assert world.sessions() == []
        with pytest.raises(AssertionError, match="nobody leads"):
            world.expire(1)
        with pytest.raises(AssertionError, match="not within 500 ms"):
            await world.serving(limit_ms=500)
        assert "seed=12" in repr(world)

    run(main, 12)


def test_a_cancelled_storm_heals() -> None:
    async def main(world: SimWorld) -> None:
        storm = asyncio.create_task(world.storm(1000))
        await pass_time(20)
        storm.cancel()
        with pytest.raises(asyncio.CancelledError):
            await storm
        await world.serving()
        assert world.faults

    run(main, 12)


def test_a_server_that_ends_by_itself_fails_the_run() -> None:
    async def main(world: SimWorld) -> None:
        world.member(2).fatal.append(OSError("disk"))

    with pytest.raises(AssertionError, match="server 2 ended"):
        run(main, 12)


def test_a_protocol_that_fails_loses_its_connection() -> None:
    class Broken(RawProtocol):
        def data_received(self, data: bytes) -> None:
            raise ZeroDivisionError

    async def main(world: SimWorld) -> None:
        transport, protocol = await world.loop.create_connection(Broken, "m1", 2181)
        transport.write(b"ruok")
        assert isinstance(await protocol.lost, ZeroDivisionError)

    with pytest.raises(Leak, match=r"a protocol failed.*ZeroDivisionError"):
        run(main, 13)


# What a run leaves behind.


async def _leaves_a_task(world: SimWorld) -> None:
    world.kept = asyncio.create_task(asyncio.Event().wait(), name="forgotten")  # type: ignore[attr-defined]  # kept


async def _leaves_a_connection(world: SimWorld) -> None:
    await dial("m2")


async def _leaves_a_timer(world: SimWorld) -> None:
    world.loop.call_later(5, _leaves_a_timer, world)


async def _leaves_an_error(world: SimWorld) -> None:
    async def fails() -> None:
        raise ZeroDivisionError("nobody looks")

    task = asyncio.create_task(fails())
    await pass_time(1)
    del task


async def _leaves_a_failed_callback(world: SimWorld) -> None:
    world.loop.call_soon(lambda: 1 // 0)


@pytest.mark.parametrize(
    ("main", "text"),
    [
        (_leaves_a_task, "not done: task forgotten"),
        (_leaves_a_connection, "not closed: <SimTransport client:40001->m2>"),
        (_leaves_a_timer, "not cancelled: <TimerHandle .*_leaves_a_timer"),
        (_leaves_an_error, "never retrieved.*nobody looks"),
        (_leaves_a_failed_callback, "ZeroDivisionError"),
    ],
)
def test_what_is_left_behind_is_named(main: Main, text: str) -> None:
    with pytest.raises(Leak, match=text):
        run(main, 14)


def test_what_main_raises_says_the_seed() -> None:
    async def main(world: SimWorld) -> None:
        world.loop.call_soon(lambda: 1 // 0)
        await pass_time(1)
        raise KeyError("mine")

    with pytest.raises(KeyError) as caught:
        run(main, 15)
    seed, other = caught.value.__notes__
    assert "seed 15" in seed
    assert "ZeroDivisionError" in other


def test_who_waits_for_an_answer_that_does_not_come_is_found() -> None:
    async def main(world: SimWorld) -> None:
        zk = await connect("m1")
        world.crash(1)
        await zk.next_frame()

    with pytest.raises(Deadlock, match="next_frame"):
        run(main, 16, voters=1)


# Storms.


def test_one_seed_is_one_execution_whatever_the_hashes_and_addresses_are() -> None:
    seeds = ["1", "2", "3"]
    outputs = []
    for hash_seed, ballast in (("1", "0"), ("2", "10000")):
        env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(
            [sys.executable, "-c", _HASHES, ballast, *seeds],
            env=env,
            capture_output=True,
            text=True,
            check=True,
            timeout=100,
        )
        outputs.append(done.stdout.split())
    assert outputs[0] == outputs[1] == [run(stormy.main, int(seed)) for seed in seeds]
    assert len(set(outputs[0])) == len(seeds)
