"""Services are registered and found in both layouts; a provider chooses, counts, and rests who fails."""

from __future__ import annotations

import json
import logging

import pytest

import coati
from coati.recipes.balance import ConsistentHash
from coati.recipes.instances import Instance
from coati.recipes.registry import NoInstance, RegistryLayout
from coati.testing.loop import pass_time
from coati.testing.world import SimWorld
from tests.patterns.simkit import clients, run, until

URL = "dubbo://10.0.0.7:20880/com.example.Billing?weight=2"
A, B = (Instance("billing", name, f"10.0.0.{number}", 80) for number, name in enumerate("ab"))


def url(host: str) -> Instance:
    return Instance("billing", f"http://{host}:80", url=f"http://{host}:80")


@pytest.mark.parametrize("layout", ["curator", "dubbo"])
def test_what_is_registered_is_found_until_its_block_ends(layout: RegistryLayout) -> None:
    async def main(sim: SimWorld) -> None:
        async with clients(sim, 2) as (server, user):
            registry = user.registry("/services", layout=layout)
            assert (await registry.services(), await registry.instances("billing")) == ([], [])
            offered = A if layout == "curator" else url("h")
            async with server.registry("/services", layout=layout).register(offered):
                await user.sync()
                assert await registry.services() == ["billing"]
                (found,) = await registry.instances("billing")
                assert (found.service, found.id, found.port) == ("billing", offered.id, 80)
            await user.sync()
            assert await registry.instances("billing") == []

    run(main)


def test_the_layouts_are_those_of_curator_and_dubbo() -> None:
    async def main(sim: SimWorld) -> None:
        async with clients(sim, 1) as (zk,):
            async with zk.registry("/services").register(A):
                node = await zk.get("/services/billing/a")
                assert json.loads(node.data)["name"] == "billing"
                assert node.stat.ephemeral_owner == zk.session.id
            dubbo = zk.registry("/", layout="dubbo")
            async with dubbo.register(Instance("svc", "x", url=URL)), dubbo.consume("svc", "consumer://10.0.0.9/x"):
                name = "dubbo%3A%2F%2F10.0.0.7%3A20880%2Fcom.example.Billing%3Fweight%3D2"
                assert await zk.children("/svc/providers") == [name]
                assert await zk.children("/svc/consumers") == ["consumer%3A%2F%2F10.0.0.9%2Fx"]
                assert await dubbo.consumers("svc") == ["consumer://10.0.0.9/x"]
                assert [instance.weight for instance in await dubbo.instances("svc")] == [2.0]
            assert await dubbo.consumers("svc") == []

    run(main)


def test_curator_has_no_consumers() -> None:
    async def main(sim: SimWorld) -> None:
        async with clients(sim, 1) as (zk,):
            registry = zk.registry("/services")
            with pytest.raises(ValueError, match="layout dubbo"):
                await registry.consumers("svc")
            with pytest.raises(ValueError, match="layout dubbo"):
                async with registry.consume("svc", URL):
                    pass
            with pytest.raises(ValueError, match="without slashes"):
                registry.directory("a/b")

    run(main)


def test_a_registration_outlives_its_session_and_can_change() -> None:
    async def main(sim: SimWorld) -> None:
        async with clients(sim, 2) as (server, user), server.registry("/services").register(A) as offer:
            await user.sync()
            follow = user.registry("/services").follow("billing")
            assert [one.id for one in await anext(follow)] == ["a"]
            sim.expire(server.session.id)
            seen = await anext(follow)
            while not seen:
                seen = await anext(follow)
            assert [one.id for one in seen] == ["a"]
            await offer.update(Instance("billing", "a", "10.0.0.99", 81))
            while seen[0].port != 81:
                seen = await anext(follow)
            with pytest.raises(ValueError, match="register another one"):
                await offer.update(B)
            await offer.update(Instance("billing", "a", "10.0.0.99", 81, enabled=False))
            assert await anext(follow) == []
            await follow.aclose()

    run(main)


def test_what_is_static_stays() -> None:
    async def main(sim: SimWorld) -> None:
        async with clients(sim, 1) as (zk,):
            registry = zk.registry("/services")
            async with registry.register(Instance("billing", "a", "h", 1, kind="STATIC")) as offer:
                await offer.update(Instance("billing", "a", "h", 2, kind="STATIC"))
            assert [one.port for one in await registry.instances("billing")] == [2]

    run(main)


def test_what_cannot_be_read_is_left_out_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def main(sim: SimWorld) -> None:
        async with clients(sim, 1) as (zk,):
            registry = zk.registry("/services")
            await zk.create("/services/billing/bad", b"{", parents=True)
            async with registry.register(A):
                assert [one.id for one in await registry.instances("billing")] == ["a"]
                async with registry.provider("billing") as provider:
                    assert [one.id for one in provider.instances] == ["a"]

    with caplog.at_level(logging.WARNING, "coati.recipes.registry"):
        run(main)
    assert "billing has an instance bad that cannot be read" in caplog.text


def test_a_provider_goes_round_and_follows() -> None:
    async def main(sim: SimWorld) -> None:
        async with clients(sim, 2) as (server, user), user.registry("/services").provider("billing") as provider:
            with pytest.raises(NoInstance, match="nobody offers billing"):
                provider.pick()
            registry = server.registry("/services")
            async with registry.register(A), registry.register(B):
                await until(lambda: len(provider.instances) == 2, "both are known")
                assert [provider.pick().id for _ in range(4)] == ["a", "b", "a", "b"]
            await until(lambda: not provider.instances, "both are gone")

    run(main)


def test_a_provider_counts_uses_and_rests_who_fails() -> None:
    async def main(sim: SimWorld) -> None:
        async with clients(sim, 1) as (zk,):
            registry = zk.registry("/services")
            async with (
                registry.register(A),
                registry.register(B),
                registry.provider("billing", tolerates=1, rests=5.0) as provider,
            ):
                provider.least_loaded()
                with provider.use() as one, provider.use() as two:
                    assert {one.id, two.id} == {"a", "b"}
                    with provider.use():
                        assert sorted((provider.load(one), provider.load(two))) == [1, 2]
                assert provider.load(one) == 0
                for _ in range(2):
                    provider.note_fault(A)
                assert {provider.pick().id for _ in range(9)} == {"b"}
                for _ in range(2):
                    with pytest.raises(coati.ConnectionLoss), provider.use():
                        raise coati.ConnectionLoss
                assert {provider.pick().id for _ in range(30)} == {"a", "b"}, "if all rest, none does"
                await pass_time(6)
                assert {provider.pick().id for _ in range(30)} == {"a", "b"}

    run(main)


def test_a_provider_takes_any_strategy() -> None:
    async def main(sim: SimWorld) -> None:
        async with clients(sim, 1) as (zk,):
            registry = zk.registry("/services")
            strategy = ConsistentHash[Instance](lambda instance: instance.id)
            async with registry.register(A), registry.register(B), registry.provider("billing", strategy) as provider:
                picks = {key: provider.pick(key).id for key in map(str, range(20))}
                assert set(picks.values()) == {"a", "b"}
                assert all(provider.pick(key).id == chosen for key, chosen in picks.items())

    run(main)
