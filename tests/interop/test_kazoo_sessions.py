"""Sessions: states, loss, move, expiry and restart, on coati and on Java alike."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable, Iterator
from time import monotonic

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionClosedError, NoNodeError
from kazoo.protocol.states import EventType, KazooState, KeeperState

from tests.interop import peers, raw
from tests.interop.peers import Server

Clients = Callable[..., KazooClient]
DEADLINE_S = 20.0


class States:
    """The states a client passes through, in order."""

    def __init__(self, client: KazooClient) -> None:
        self._queue: queue.Queue[str] = queue.Queue()
        client.add_listener(self._queue.put)

    def next(self) -> str:
        return self._queue.get(timeout=DEADLINE_S)


def cut(client: KazooClient) -> None:
    """Break the client's TCP connection under it."""
    client._connection._socket.shutdown(socket.SHUT_RDWR)


def close_behind_its_back(server: Server, client: KazooClient) -> None:
    """End the client's session from another connection, as kazoo's own tests expire sessions."""
    session_id, password = client.client_id
    with raw.Session(server.host, server.port, session_id=session_id, password=password) as thief:
        thief.close()


@pytest.fixture(params=["coati", "3.9.3"], ids=["coati", "java"])
def own_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that the test may kill."""
    with peers.running(request.param, cfg=peers.QUICK_CFG) as running:
        yield running


def test_states_of_a_life(clients: Clients) -> None:
    client = clients()
    assert client.connected
    assert client.state == KazooState.CONNECTED
    assert client.client_state == KeeperState.CONNECTED
    states = States(client)
    client.stop()
    assert states.next() == KazooState.LOST
    assert client.client_state == KeeperState.CLOSED
    with pytest.raises(ConnectionClosedError):
        client.get("/")


def test_restart_makes_a_new_session(zk: KazooClient) -> None:
    before = zk.client_id
    zk.create("/e", ephemeral=True)
    zk.restart()
    assert zk.connected
    assert zk.client_id[0] != before[0]
    assert zk.exists("/e") is None


def test_lost_connection_is_resumed_with_the_same_session(zk: KazooClient) -> None:
    before = zk.client_id
    zk.create("/e", ephemeral=True)
    states = States(zk)
    gone = threading.Event()
    zk.get("/e", watch=lambda event: gone.set() if event.type == EventType.NONE else None)
    cut(zk)
    assert states.next() == KazooState.SUSPENDED
    assert states.next() == KazooState.CONNECTED
    assert gone.wait(DEADLINE_S)
    assert zk.client_id == before
    assert zk.retry(zk.exists, "/e").ephemeralOwner == before[0]


def test_session_that_was_closed_is_lost(server: Server, zk: KazooClient) -> None:
    before = zk.client_id
    zk.create("/e", ephemeral=True)
    states = States(zk)
    close_behind_its_back(server, zk)
    assert [states.next() for _ in range(3)] == [KazooState.SUSPENDED, KazooState.LOST, KazooState.CONNECTED]
    assert zk.client_id[0] != before[0]
    assert zk.retry(zk.exists, "/e") is None


def test_client_id_can_be_handed_to_another_client(
    server: Server, root: str, zk: KazooClient, clients: Clients
) -> None:
    with peers.session(server) as first:
        assert first.call(raw.CREATE, raw.create(f"{root}/e", flags=1))[0] == 0
    heir = clients(client_id=(first.session_id, first.password))
    assert heir.client_id == (first.session_id, first.password)
    assert heir.exists("/e").ephemeralOwner == first.session_id
    heir.stop()
    assert zk.exists("/e") is None


def test_wrong_password_and_unknown_id_are_expired(server: Server) -> None:
    with peers.session(server) as first:
        pass
    for session_id, password in ((first.session_id, bytes(16)), (0x7700000000000001, first.password)):
        with pytest.raises(raw.Expired):
            raw.Session(server.host, server.port, session_id=session_id, password=password)
    with raw.Session(server.host, server.port, session_id=first.session_id, password=first.password) as again:
        assert again.session_id == first.session_id
        again.close()


def test_ephemerals_go_with_the_session(zk: KazooClient, clients: Clients) -> None:
    other = clients()
    paths = [other.create("/e-", ephemeral=True, sequence=True) for _ in range(5)]
    zk.create("/mine", ephemeral=True)
    assert sorted(zk.get_children("/")) == sorted([*(path[1:] for path in paths), "mine"])
    other.stop()
    assert zk.get_children("/") == ["mine"]


def test_silent_session_expires_at_its_time(server: Server, root: str, zk: KazooClient) -> None:
    gone = threading.Event()
    with peers.session(server, 800) as silent:
        assert silent.timeout_ms == 800
        began = monotonic()
        assert silent.call(raw.CREATE, raw.create(f"{root}/e", flags=1))[0] == 0
        assert zk.exists("/e", watch=lambda _: gone.set())
        assert gone.wait(DEADLINE_S)
        took = monotonic() - began
        with pytest.raises(raw.Closed):
            silent.receive()
    # Deadlines are rounded up to the next tick (200 ms); the rest is for a busy machine.
    assert 0.8 <= took < 0.8 + 0.2 + 1.0
    assert zk.exists("/e") is None
    with pytest.raises(raw.Expired):
        raw.Session(server.host, server.port, session_id=silent.session_id, password=silent.password)


def test_pings_keep_a_session(server: Server, root: str, zk: KazooClient) -> None:
    never = threading.Event()
    with peers.session(server, 400) as session:
        assert session.call(raw.CREATE, raw.create(f"{root}/e", flags=1))[0] == 0
        for _ in range(20):
            never.wait(0.05)
            session.ping()
        assert zk.exists("/e") is not None
        session.close()
    assert zk.exists("/e") is None


def test_timeout_is_negotiated_within_the_bounds(server: Server) -> None:
    for asked, given in ((1, 400), (0, 400), (-1, 400), (5_000, 5_000), (2**31 - 1, 60_000)):
        with peers.session(server, asked) as session:
            assert session.timeout_ms == given
            session.close()


def test_client_that_accepts_read_only_gets_a_writable_server(clients: Clients) -> None:
    client = clients(read_only=True)
    assert client.client_state == KeeperState.CONNECTED
    assert client.create("/a") == "/a"


def test_session_from_the_future_is_refused(server: Server) -> None:
    with peers.session(server) as live:
        with pytest.raises(raw.Closed):
            raw.Session(
                server.host,
                server.port,
                session_id=live.session_id,
                password=live.password,
                last_zxid=live.last_zxid + 10**6,
            )
        with pytest.raises(raw.Closed):
            raw.Session(server.host, server.port, last_zxid=2**62)
        assert live.call(raw.EXISTS, raw.path_watch("/"))[0] == 0
        live.close()


def test_session_ids_are_unique_and_grow(server: Server) -> None:
    ids = []
    for _ in range(50):
        with peers.session(server) as session:
            ids.append(session.session_id)
            session.close()
    assert len(set(ids)) == 50
    assert ids == sorted(ids)


def test_hosts_can_be_changed_while_connected(server: Server, root: str, zk: KazooClient) -> None:
    zk.set_hosts(f"127.0.0.1:1,{server.address}{root}")
    cut(zk)
    assert zk.retry(zk.exists, "/") is not None
    assert zk.unchroot(f"{root}/x") == "/x"


def test_retry_repeats_over_a_lost_connection(zk: KazooClient) -> None:
    zk.create("/a", b"x")
    cut(zk)
    assert zk.retry(zk.get, "/a")[0] == b"x"


@pytest.mark.parametrize("how", ["stop", "kill9"])
def test_session_and_ephemerals_survive_a_restart_of_the_server(own_server: Server, how: str) -> None:
    client = KazooClient(own_server.address, timeout=30)
    client.start(timeout=20)
    try:
        before = client.client_id
        client.create("/p", b"data")
        client.create("/p/e", ephemeral=True)
        states = States(client)
        getattr(own_server, how)()
        assert states.next() == KazooState.SUSPENDED
        own_server.start()
        assert states.next() == KazooState.CONNECTED
        assert client.client_id == before
        assert client.retry(client.get, "/p")[0] == b"data"
        assert client.exists("/p/e").ephemeralOwner == before[0]
        assert client.create("/p/s-", sequence=True) == "/p/s-0000000001"
    finally:
        client.stop()
        client.close()


def test_session_that_was_away_too_long_expires_after_a_restart(own_server: Server) -> None:
    with peers.session(own_server, 600) as short:
        assert short.call(raw.CREATE, raw.create("/e", flags=1))[0] == 0
    own_server.kill9()
    own_server.start()
    client = KazooClient(own_server.address)
    client.start(timeout=20)
    try:
        peers.eventually(lambda: client.exists("/e") is None, "the ephemeral of a session that never came back goes")
        with pytest.raises(NoNodeError):
            client.get("/e")
        with pytest.raises(raw.Expired):
            raw.Session(own_server.host, own_server.port, session_id=short.session_id, password=short.password)
    finally:
        client.stop()
        client.close()
