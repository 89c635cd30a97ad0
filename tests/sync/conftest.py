"""A server in a process of its own for each file, and a client in a chroot of its own for each test."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from itertools import count

import pytest

from coati import sync
from tests.interop.peers import QUICK_CFG, QUICK_PROPS, CoatiServer

_serial = count()


@pytest.fixture(scope="module")
def server() -> Iterator[CoatiServer]:
    with CoatiServer(cfg=QUICK_CFG, props=QUICK_PROPS) as server:
        yield server


@pytest.fixture
def zk(server: CoatiServer) -> Iterator[sync.Client]:
    with sync.Client(server.address) as client:
        root = f"/t{next(_serial)}"
        client.create(root)
        yield client.chroot(root)
        client.delete_tree(root)


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """A process that was started in the background ignores interrupts, and pytest with it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
