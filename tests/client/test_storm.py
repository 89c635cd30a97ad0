"""A sample of the storm of tools/storm_client.py; longer ones are in docs/ledger.md."""

from __future__ import annotations

import asyncio
from random import randrange

import pytest

from tests.interop.peers import CoatiServer
from tools.storm_client import storm


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", [1, randrange(1 << 30)], ids=["fixed", "random"])
def test_no_answer_goes_astray_and_nothing_is_left_after_a_storm(server: CoatiServer, seed: int) -> None:
    tally, faults = asyncio.run(storm(server.address, seed, 1500))
    assert tally.results["answered"] > 300, seed
    assert tally.results["CancelledError"] > 100, seed
    assert sum(faults.values()) > 10, seed
