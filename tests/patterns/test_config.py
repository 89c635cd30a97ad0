"""A configuration is read, follows its znode, keeps the last good value, and has the type that it should."""

from __future__ import annotations

import dataclasses
import json
import logging

import pytest

import coati
from coati.patterns.config import BadConfig, Config, from_json, to_json
from coati.testing.world import SimWorld
from tests.patterns.simkit import clients, run, until


@dataclasses.dataclass(frozen=True)
class Pool:
    size: int = 1
    names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Settings:
    rate: float = 1.0
    debug: bool = False
    note: str | None = None
    pool: Pool = dataclasses.field(default_factory=Pool)
    limits: dict[str, int] = dataclasses.field(default_factory=dict)
    ports: list[int] = dataclasses.field(default_factory=list)
    pair: tuple[int, str] = (0, "")


GOOD = Settings(2.0, True, "x", Pool(3, ("a", "b")), {"k": 4}, [5], (6, "y"))
decode = from_json(Settings)


def test_json_becomes_the_dataclass_and_back() -> None:
    assert decode(to_json(GOOD)) == GOOD
    assert decode(b"{}") == Settings()
    assert decode(b'{"rate": 3}').rate == 3.0


@pytest.mark.parametrize(
    ("field", "why"),
    [
        ('"unknown": 1', "unknown: unknown"),
        ('"rate": "3"', "rate is '3', which is no float"),
        ('"debug": 1', "debug is 1"),
        ('"note": 1', "note is 1, which is no str or NoneType"),
        ('"pool": 1', "pool is no JSON object"),
        ('"pool": {"size": 1.5}', "pool.size is 1.5"),
        ('"pool": {"sise": 1}', "unknown: pool.sise"),
        ('"limits": {"k": "v"}', "limits.k is 'v'"),
        ('"ports": [1, null]', r"ports\[1\] is None"),
        ('"pair": [1]', "pair has 1 items, not 2"),
        ('"rate": true', "rate is True"),
    ],
)
def test_what_is_of_another_type_is_refused_by_name(field: str, why: str) -> None:
    with pytest.raises(BadConfig, match=why):
        decode(f"{{{field}}}".encode())


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(BadConfig, match="it is no JSON object"):
        decode(b"[]")
    with pytest.raises(ValueError, match="Expecting value"):
        decode(b"")


def test_only_dataclasses_can_be_settings() -> None:
    with pytest.raises(TypeError, match="no dataclass"):
        from_json(int)
    with pytest.raises(TypeError, match="no dataclass"):
        to_json(Settings)


def test_a_change_is_seen_and_a_bad_one_keeps_the_last_good(caplog: pytest.LogCaptureFixture) -> None:
    async def main(sim: SimWorld) -> None:
        async with clients(sim, 2) as (zk, operator):
            await operator.create("/config", to_json(GOOD))
            await zk.sync()
            async with Config(zk, "/config", decode) as config:
                assert (config.value, config.version, config.error) == (GOOD, 0, None)
                changes = config.changes()
                assert await anext(changes) == GOOD
                await operator.set("/config", b'{"rate": "fast"}')
                await until(lambda: config.error is not None, "the error is seen")
                assert "/config, version 1: rate is 'fast'" in str(config.error)
                assert (config.value, config.version) == (GOOD, 0)
                await operator.set("/config", b'{"rate": 7}')
                assert await anext(changes) == Settings(rate=7)
                assert (config.version, config.error) == (2, None)
            assert [value async for value in changes] == []

    with caplog.at_level(logging.WARNING, "coati.patterns.config"):
        run(main)
    assert [record.message.partition(":")[0] for record in caplog.records] == ["kept the last good configuration"]


def test_the_default_holds_while_the_znode_is_missing() -> None:
    async def main(sim: SimWorld) -> None:
        async with clients(sim, 1) as (zk,), Config(zk, "/config", decode, default=Settings()) as config:
            assert (config.value, config.version) == (Settings(), -1)
            await zk.create("/config", json.dumps({"debug": True}).encode())
            await until(lambda: config.value.debug, "the znode is read")
            await zk.delete("/config")
            await until(lambda: config.version == -1, "the default is back")
            assert config.value == Settings()

    run(main)


def test_without_a_default_a_missing_znode_is_an_error_at_the_start_and_none_later() -> None:
    async def main(sim: SimWorld) -> None:
        async with clients(sim, 1) as (zk,):
            with pytest.raises(BadConfig, match="/config: it is missing"):
                await Config(zk, "/config", decode).__aenter__()
            await zk.create("/config", b"{}")
            async with Config(zk, "/config", decode) as config:
                await zk.delete("/config")
                await until(lambda: config.error is not None, "its loss is noticed")
                assert config.value == Settings()

    run(main)


def test_a_znode_that_may_not_be_read_is_an_error() -> None:
    async def main(sim: SimWorld) -> None:
        async with clients(sim, 1) as (zk,):
            await zk.create("/config", b"{}", acl=coati.acl("ip:10.9.9.9:r"))
            with pytest.raises(coati.NoAuth):
                await Config(zk, "/config", decode).__aenter__()

    run(main)


def test_a_config_is_not_read_outside_its_block() -> None:
    with pytest.raises(coati.ClientClosed, match="ask inside"):
        _ = Config(coati.Client(), "/config", decode).value
