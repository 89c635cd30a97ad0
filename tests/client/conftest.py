"""One coati server for all tests of the client in this process; each test has a tree of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.interop.peers import QUICK_CFG, QUICK_PROPS, CoatiServer

_serial = itertools.count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[CoatiServer]:
    """A process of its own."""
    with CoatiServer(cfg=QUICK_CFG, props={**QUICK_PROPS, "zookeeper.enforceQuota": "true"}) as running:
        yield running


@pytest.fixture(scope="session")
def port(server: CoatiServer) -> int:
    """Where the server listens."""
    return server.port


@pytest.fixture
def top() -> str:
    """A path that no other test uses; nothing is there."""
    return f"/t{next(_serial)}"
