"""The parts of a simulated server, the real ones for all tests but those of test_mutants.py; and the loops."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator

import pytest
import uvloop

from coati.testing import cluster as cluster_module
from coati.testing.server import Parts

Run = Callable[[Awaitable[None]], None]


@pytest.fixture
def parts() -> Parts:
    return Parts()


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a coroutine on either loop; what the loop complains of is a failure."""
    loop: asyncio.AbstractEventLoop = request.param()
    complaints: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    yield loop.run_until_complete
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert complaints == []


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """All that is logged is put into words, and seen by nobody."""
    caplog.set_level(logging.DEBUG, logger="coati")


@pytest.fixture
def no_diffs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is behind what is in memory gets a snapshot."""
    monkeypatch.setattr(cluster_module, "DIFF_LIMIT_BYTES", -1)
