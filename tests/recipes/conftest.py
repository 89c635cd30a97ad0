"""Fixtures of the recipes' tests: one real server for a module, and a path of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop import peers
from tests.interop.peers import Server
from tests.recipes.livekit import fresh_path


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A standalone coati process that takes short session timeouts."""
    with peers.running("coati", props=peers.QUICK_PROPS, cfg=peers.QUICK_CFG) as running:
        yield running


@pytest.fixture
def path() -> str:
    """Nothing is there yet."""
    return fresh_path()
