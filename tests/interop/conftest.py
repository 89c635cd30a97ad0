"""Fixtures of the interop tests: servers that live for the whole run, and a subtree of its own for each test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from kazoo.client import KazooClient

from tests.interop import hostile, peers, raw
from tests.interop.peers import Server

_numbers = itertools.count(1)


@pytest.fixture(scope="session", params=["coati", "3.9.3"], ids=["coati", "java"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Each of the two servers: what passes on one passes on the other."""
    with peers.running(request.param, props=peers.QUICK_PROPS, cfg=peers.QUICK_CFG) as running:
        yield running


Clients = Callable[..., KazooClient]


@pytest.fixture
def root(server: Server, request: pytest.FixtureRequest) -> str:
    """An empty znode for the test."""
    path = f"/t{next(_numbers)}"
    with peers.session(server) as control:
        assert control.call(raw.CREATE, raw.create(path))[0] == 0
        control.close()
    return path


@pytest.fixture
def clients(server: Server, root: str) -> Iterator[Clients]:
    """Makes connected kazoo clients that see the test's subtree as their root."""
    made: list[KazooClient] = []

    def make(**options: object) -> KazooClient:
        client = KazooClient(**{"hosts": server.address + root, "timeout": 20.0, **options})
        made.append(client)
        client.start(timeout=20)
        return client

    yield make
    for client in made:
        client.stop()
        client.close()


@pytest.fixture
def zk(clients: Clients) -> KazooClient:
    """One kazoo client in the test's subtree."""
    return clients()


@pytest.fixture(scope="session", params=["coati", "3.9.3"], ids=["coati", "java"])
def hardened(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Each of the two servers with tight limits."""
    with peers.running(request.param, props=hostile.PROPS, cfg=hostile.CFG) as running:
        yield running


@pytest.fixture
def target(hardened: Server) -> Iterator[Server]:
    """The server under attack, which must be none the worse for it."""
    with peers.session(hardened) as bystander:
        before = bystander.call(raw.GET_ALL_CHILDREN_NUMBER, raw.ustring("/"))
        yield hardened
        assert hardened.is_running
        assert hostile.ask(bystander, raw.EXISTS, raw.path_watch("/")) == hostile.OK
        assert hostile.ask(bystander, raw.CREATE, raw.create("/good")) == hostile.OK
        assert hostile.ask(bystander, raw.DELETE, raw.path_version("/good")) == hostile.OK
        assert bystander.call(raw.GET_ALL_CHILDREN_NUMBER, raw.ustring("/")) == before
        bystander.close()
    with peers.session(hardened) as newcomer:
        newcomer.close()
