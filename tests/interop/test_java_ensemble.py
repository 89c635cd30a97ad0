"""The ensemble for tests with Java's servers behind it: the same verbs, and the same plugin."""

from __future__ import annotations

import asyncio

import pytest

from coati.client.client import BaseClient
from coati.testing.background import Stage
from coati.testing.ensemble import Ensemble, FaultRefused
from coati.testing.handles import Shape
from coati.testing.pytest import Lease
from tests.interop.peers import missing
from tools.javapeer import JARS_39, why_missing


@pytest.fixture(autouse=True)
def _java() -> None:
    reason = why_missing("3.9.3")
    if reason is not None:
        missing(reason)


def test_java_servers_are_killed_paused_and_expired() -> None:
    async def test() -> None:
        async with Ensemble(3, 1, backend="java", classpath=str(JARS_39)) as e:
            async with BaseClient(e.hosts) as zk:
                await zk.create("/a")
                old = e.leader
                await e.kill(old)
                await e.wait_leader(but=old)
                await e.start(old)
                await e.pause(4)
                assert e.role(4) == "paused"
                await e.resume(4)
                await e.settled()
                assert await e.expire(zk)
                with pytest.raises(FaultRefused):
                    await e.isolate(1)
            assert "/a bytes=0" in e.dump()
            assert "log of member 4" in e.dump()

    asyncio.run(test())


def test_the_fixture_of_a_client_works_with_java() -> None:
    stage = Stage("java", hosts=None, seed=1, classpath=str(JARS_39))
    try:
        ensemble = stage.ensemble(Shape(1))

        async def test() -> None:
            lease = Lease(ensemble, stage.new_root(), [])
            zk = await lease.open()
            await zk.create("/a/b", parents=True)
            await lease.close()

        asyncio.run(test())
    finally:
        stage.close()
