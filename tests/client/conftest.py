"""A server of coati's in a process of its own, for the tests of this room that need one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.peers import QUICK_PROPS, CoatiServer


@pytest.fixture(scope="module")
def server() -> Iterator[CoatiServer]:
    with CoatiServer(props=QUICK_PROPS, cfg={"tickTime": "500", "maxSessionTimeout": "60000"}) as running:
        yield running
