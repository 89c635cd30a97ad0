"""Sizes around the limit: what coati and Java 3.9.3 make of the same requests, and what they have after a restart.

Frames and data one byte above and below it, and multis whose parts are too much together. All of it with a small
jute.maxbuffer, so that every size can be tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.interop import peers, raw
from tests.interop.hostile import OK
from tests.interop.peers import Server

MAX_BUFFER = 20_000
PROPS = {**peers.LOCKSTEP_PROPS, "jute.maxbuffer": str(MAX_BUFFER)}
AROUND = range(MAX_BUFFER - 100, MAX_BUFFER + 101)
CLOSED = "closed"


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Server, Server]]:
    with (
        peers.running("3.9.3", props=PROPS, cfg=peers.QUICK_CFG) as java,
        peers.running("coati", props=PROPS, cfg=peers.QUICK_CFG) as ours,
    ):
        yield java, ours


def answer(stack: ExitStack, sessions: dict[Server, raw.Session], server: Server, op: int, body: bytes) -> object:
    """Error and length of the reply, or that the connection was closed; who was is given a new session."""
    one = sessions.get(server)
    if one is None:
        one = sessions[server] = stack.enter_context(peers.session(server))
    try:
        one.send(op, body)
        got = one.reply()
    except raw.Closed:
        del sessions[server]
        return CLOSED
    return got.err, len(got.body)


def test_every_size_around_the_limit_has_java_s_verdict_and_survives(pair: tuple[Server, Server]) -> None:
    """The size is that of the frame of a create, then that of a setData, and then that of the data itself."""
    create_bytes = 8 + len(raw.create("/s00000", b""))
    set_bytes = 8 + len(raw.set_data("/set", b""))
    kept: dict[str, int] = {}
    with ExitStack() as stack:
        sessions: dict[Server, raw.Session] = {}

        def verdict(op: int, body: bytes) -> object:
            java, ours = (answer(stack, sessions, server, op, body) for server in pair)
            assert ours == java, f"operation {op} with {len(body)} bytes"
            return ours

        assert verdict(raw.CREATE, raw.create("/set", b"")) == (OK, 8)
        verdicts = []
        for size in AROUND:
            verdicts.append(verdict(raw.CREATE, raw.create(f"/s{size:05}", bytes(size - create_bytes))))
            if verdicts[-1] != CLOSED:
                kept[f"/s{size:05}"] = size - create_bytes
            verdict(raw.SET_DATA, raw.set_data("/set", bytes(size - set_bytes)))
            verdict(raw.SET_DATA, raw.set_data("/set", bytes(size)))
        assert verdicts[0] == (OK, 11)
        assert verdicts[-1] == CLOSED
        assert len(kept) == 101
        for session in sessions.values():
            session.close()
    for server in pair:
        server.kill9()
        server.start()
        with peers.session(server) as session:
            for path, size in kept.items():
                error, got = session.call(raw.GET_DATA, raw.path_watch(path))
                assert error == OK
                assert isinstance(got, tuple)
                assert got[0] == bytes(size)
            session.close()


@pytest.mark.parametrize("part_bytes", [100, 4000])
def test_multi_whose_parts_are_too_much_together(pair: tuple[Server, Server], part_bytes: int) -> None:
    """The request fits, and the txn is longer than it: what is logged can be read back, by either."""
    with ExitStack() as stack:
        sessions: dict[Server, raw.Session] = {}
        sizes: list[int] = []
        body = b""
        for count in range(1, 200):
            parts = [
                (raw.CREATE, raw.create(f"/m{part_bytes}-{count}-{number}", bytes(part_bytes)))
                for number in range(count)
            ]
            body = raw.multi(parts)
            java, ours = (answer(stack, sessions, server, raw.MULTI, body) for server in pair)
            assert ours == java, f"{count} parts, {len(body)} bytes"
            if ours == CLOSED:
                break
            sizes.append(len(body))
        assert sizes
        assert 8 + sizes[-1] <= MAX_BUFFER < 8 + len(body)
    for server in pair:
        server.kill9()
        server.start()
        with peers.session(server) as session:
            assert session.call(raw.EXISTS, raw.path_watch(f"/m{part_bytes}-{len(sizes)}-0"))[0] == OK
            session.close()


def test_reply_longer_than_the_limit_is_sent(pair: tuple[Server, Server]) -> None:
    """The limit is for what comes in; what is too long for a client is that client's affair."""
    names = [f"n{number:04}" + "x" * 50 for number in range(1000)]
    for server in pair:
        with peers.session(server) as session:
            assert session.call(raw.CREATE, raw.create("/wide"))[0] == OK
            for name in names:
                session.send(raw.CREATE, raw.create("/wide/" + name))
            assert {session.reply().err for _ in names} == {OK}
            assert session.call(raw.GET_CHILDREN, raw.path_watch("/wide")) == (OK, names)
            session.close()
