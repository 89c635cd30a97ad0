"""Every verb of the blocking client against a server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import coati
from coati import (
    ANY,
    Auth,
    BadVersion,
    Check,
    Children,
    ClientClosed,
    Create,
    Digest,
    EventType,
    Get,
    Mode,
    MultiError,
    Node,
    NodeExists,
    NoNode,
    Op,
    ReconfigDisabled,
    Set,
    Stat,
    State,
    StateChange,
    Unimplemented,
    acl,
    digest_id,
    sync,
)
from tests.interop.peers import SUPER_PASSWORD, CoatiServer

LONG_S = 20.0


def test_create_get_set_delete(zk: sync.Client) -> None:
    made = zk.create("/a", b"1")
    assert made.path == "/a"
    assert zk.get("/a") == Node("/a", b"1", made.stat)
    stat = zk.set("/a", b"2", version=0)
    assert stat.version == 1
    with pytest.raises(BadVersion):
        zk.set("/a", b"3", version=0)
    zk.delete("/a", version=1)
    with pytest.raises(NoNode) as caught:
        zk.get("/a")
    assert (caught.value.op, caught.value.path) == ("get", "/a")
    zk.delete("/a", missing_ok=True)


def test_create_knows_modes_ttl_parents_and_acl(zk: sync.Client) -> None:
    first = zk.create("/p/q/s-", mode=Mode.EPHEMERAL_SEQUENTIAL, parents=True)
    assert first.path == "/p/q/s-0000000000"
    assert first.stat.ephemeral_owner == zk.session.id
    assert zk.create("/ttl", ttl=60.0).path == "/ttl"
    zk.create("/mine", acl=acl("world:anyone:rwda"))
    assert zk.get_acl("/mine").acl == acl("world:anyone:rwda")
    assert zk.ephemerals() == [first.path]


def test_exists_and_children(zk: sync.Client) -> None:
    assert zk.exists("/a") is None
    zk.create("/a")
    stat = zk.exists("/a")
    assert isinstance(stat, Stat)
    zk.create("/a/c")
    zk.create("/a/b")
    assert zk.children("/a") == ["b", "c"]
    assert zk.count("/a") == 2


def test_ensure_and_put(zk: sync.Client) -> None:
    assert zk.ensure("/x/y", b"1") is True
    assert zk.ensure("/x/y", b"2") is False
    assert zk.get("/x/y").data == b"1"
    assert zk.put("/x/y", b"3").version == 1
    assert zk.put("/x/z/deep", b"4").version == 0
    assert zk.get("/x/z/deep").data == b"4"


def test_update_calls_the_function_on_the_callers_thread(zk: sync.Client) -> None:
    zk.create("/n", b"1")
    calls: list[bytes] = []

    def more(data: bytes) -> bytes:
        calls.append(data)
        if len(calls) == 1:
            # On the loop's thread this would be refused; and it makes the first answer too old.
            zk.set("/n", b"10")
        return b"%d" % (int(data) + 1)

    assert zk.update("/n", more).data == b"11"
    assert calls == [b"1", b"10"]
    assert zk.get("/n").data == b"11"


def test_update_lets_the_functions_error_through(zk: sync.Client) -> None:
    zk.create("/n", b"x")
    with pytest.raises(ValueError, match="invalid literal"):
        zk.update("/n", lambda data: b"%d" % int(data))


def test_delete_tree_and_walk(zk: sync.Client) -> None:
    for path in ("/t/a/b", "/t/c"):
        zk.ensure(path)
    assert [node.path for node in zk.walk("/t")] == ["/t", "/t/a", "/t/c", "/t/a/b"]
    assert zk.delete_tree("/t", keep_root=True) == 3
    assert zk.delete_tree("/t") == 1
    assert zk.delete_tree("/t") == 0


def test_walk_can_be_left_early(zk: sync.Client) -> None:
    zk.ensure("/t/a")
    with zk.walk("/t") as nodes:
        assert next(nodes).path == "/t"
    assert list(nodes) == []


def test_acls(zk: sync.Client) -> None:
    zk.create("/a")
    assert zk.set_acl("/a", acl("world:anyone:cdrwa"), version=0).aversion == 1
    with pytest.raises(BadVersion):
        zk.set_acl("/a", acl("world:anyone:cdrwa"), version=0)
    assert str(zk.get_acl("/a").acl[0]) == "world:anyone:cdrwa"


def test_authenticate_and_whoami(zk: sync.Client) -> None:
    zk.create("/mine", acl=acl(f"digest:{digest_id('u', 'p')}:r,world:anyone:ad"))
    with pytest.raises(coati.NoAuth):
        zk.get("/mine")
    zk.authenticate(Digest("u", "p"))
    assert zk.get("/mine").data == b""
    assert ("digest", "u") in zk.whoami()


def test_auth_as_an_argument(server: CoatiServer) -> None:
    with sync.Client(server.address, auth=[Digest("u", "p")]) as client:
        assert ("digest", "u") in client.whoami()


def test_sync_returns_a_zxid(zk: sync.Client) -> None:
    made = zk.create("/a")
    assert zk.sync("/a") >= made.zxid


def test_multi(zk: sync.Client) -> None:
    def ops() -> Iterator[Op]:
        # A generator runs on the caller's thread: it may use the client.
        yield Create("/a", b"1")
        assert zk.exists("/a") is None
        yield Create("/a/b")
        yield Set("/a", b"2")

    created, child, stat = zk.multi(ops())
    assert isinstance(created, Node)
    assert isinstance(child, Node)
    assert isinstance(stat, Stat)
    assert (created.path, child.path, stat.version) == ("/a", "/a/b", 1)
    with pytest.raises(MultiError) as caught:
        zk.multi([Create("/c"), Check("/none", ANY)])
    assert caught.value.index == 1
    assert zk.exists("/c") is None


def test_transaction(zk: sync.Client) -> None:
    with zk.transaction() as t:
        t.create("/a", b"1")
        t.set("/a", b"2")
        t.check("/a", version=1)
        t.add(Create("/b"))
        t.delete("/b")
        assert len(t.ops) == 5
        before = t.results
    assert before is None
    assert t.results is not None
    assert len(t.results) == 5
    assert zk.get("/a").data == b"2"


def test_a_transaction_whose_block_raises_sends_nothing(zk: sync.Client) -> None:
    def fail() -> None:
        with zk.transaction() as t:
            t.create("/a")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert zk.exists("/a") is None


def test_multi_read(zk: sync.Client) -> None:
    zk.create("/a", b"1")
    node, names, error = zk.multi_read([Get("/a"), Children("/"), Get("/none")])
    assert isinstance(node, Node)
    assert node.data == b"1"
    assert names == ["a"]
    assert isinstance(error, NoNode)


def test_config_and_reconfig(server: CoatiServer) -> None:
    with sync.Client(server.address, auth=[Auth("digest", SUPER_PASSWORD.encode())]) as client:
        assert client.config().servers == ()
        with pytest.raises((ReconfigDisabled, Unimplemented)):
            client.reconfig(leave=[3])


def test_views(zk: sync.Client) -> None:
    zk.create("/app")
    app = zk.chroot("/app")
    assert type(app) is sync.Client
    app.create("/a", b"1")
    assert zk.get("/app/a").data == b"1"
    assert app.session.id == zk.session.id
    assert app.chroot_free().exists("/zookeeper") is not None
    quick = zk.with_options(timeout=5.0, default_acl=coati.READ_ONLY)
    assert quick.get_acl(quick.create("/ro").path).acl == coati.READ_ONLY
    with pytest.raises(NodeExists):
        quick.create("/ro")


def test_a_subclass_keeps_its_views(server: CoatiServer) -> None:
    class Mine(sync.Client):
        colour = "red"

    with Mine(server.address, name="mine") as client:
        assert client.colour == "red"
        assert type(client.chroot("/x")) is Mine
        assert client.name == "mine"
        assert "mine" in repr(client)


def test_the_session(zk: sync.Client, server: CoatiServer) -> None:
    session = zk.session
    assert session.id != 0
    assert session.timeout == 10.0
    assert session.state is State.CONNECTED
    assert session.server == server.address
    assert session.read_only is False
    assert session.deadline > 0
    assert session.last_zxid > 0
    assert session.token.id == session.id


def test_a_session_is_resumed(server: CoatiServer) -> None:
    first = sync.Client(server.address).start()
    token = first.session.token
    with sync.Client(server.address, resume=token) as second:
        assert second.session.id == token.id
    first.close()


def test_set_hosts(zk: sync.Client, server: CoatiServer) -> None:
    zk.set_hosts([server.address])
    assert zk.exists("/") is not None


def test_start_and_close_without_a_block(server: CoatiServer) -> None:
    client = sync.Client(server.address)
    assert client.start() is client
    before = client.is_closed
    client.close()
    client.close()
    assert (before, client.is_closed) == (False, True)
    with pytest.raises(ClientClosed):
        client.get("/")


def test_a_client_that_was_not_started_says_so() -> None:
    client = sync.Client("127.0.0.1:1")
    with pytest.raises(ClientClosed, match=r"client\.start\(\)"):
        client.get("/")
    client.close()


def test_states_and_wait_for(server: CoatiServer) -> None:
    client = sync.Client(server.address).start()
    states = client.states()
    assert next(states).state is State.CONNECTED
    with pytest.raises(TimeoutError):
        states.poll(0)
    with pytest.raises(TimeoutError):
        client.wait_for(State.SUSPENDED, timeout=0.01)
    assert client.wait_for(State.CONNECTED) is State.CONNECTED
    client.close()
    assert [change.state for change in states] == [State.CLOSED]


def test_states_can_be_closed_while_one_is_awaited(zk: sync.Client) -> None:
    states = zk.states()
    assert isinstance(states.poll(LONG_S), StateChange)
    with pytest.raises(TimeoutError):
        states.poll(0.01)
    states.close()
    with pytest.raises(StopIteration):
        states.poll(0)


def test_watch_yields_events_and_can_be_polled(zk: sync.Client) -> None:
    zk.create("/a")
    with zk.watch("/a", recursive=True) as events:
        with pytest.raises(TimeoutError):
            events.poll(0)
        zk.create("/a/b")
        event = events.poll(LONG_S)
        assert (event.type, event.path) == (EventType.CREATED, "/a/b")
        zk.set("/a", b"1")
        zk.delete("/a/b")
        assert next(events).type is EventType.CHANGED
        # What is there already comes without waiting.
        assert events.poll(0).type is EventType.DELETED
        events.close()
        assert list(events) == []


def test_a_trigger_waits_once(zk: sync.Client) -> None:
    zk.create("/a")
    with sync.Trigger() as trigger:
        zk.get("/a", watch=trigger)
        assert trigger.has_fired is False
        with pytest.raises(TimeoutError):
            trigger.wait(0.01)
        zk.set("/a", b"1")
        assert trigger.wait(LONG_S).type is EventType.CHANGED
        assert trigger.event is not None
        zk.exists("/b", watch=trigger)
        zk.create("/b")
        assert trigger.wait(LONG_S).path == "/b"
        zk.children("/a", watch=trigger)
        trigger.close()
