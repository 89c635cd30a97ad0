"""The servers whose answers are taken apart: all that we can start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop import peers
from tests.interop.peers import Server

WORDS = {"4lw.commands.whitelist": "srvr,stat,cons,dump,conf,envi,mntr,ruok,isro,wchs,wchp,wchc"}


@pytest.fixture(
    scope="session",
    params=["coati", *(pytest.param(version, marks=pytest.mark.interop) for version in ("3.8.0", "3.9.3"))],
)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Each allows every word but `hash`."""
    with peers.running(request.param, props=peers.QUICK_PROPS, cfg={**peers.QUICK_CFG, **WORDS}) as running:
        yield running
