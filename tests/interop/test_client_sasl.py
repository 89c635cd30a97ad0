"""SASL's DIGEST-MD5 with Java servers, which are the only ones that know it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import coati
from coati import AuthFailed, Client, NoAuth, SaslDigest
from tests.interop import peers
from tools.javapeer import JavaServer, why_missing

JAAS = """
Server {
    org.apache.zookeeper.server.auth.DigestLoginModule required
    user_bob="secret"
    user_zoë="pässword";
};
"""
PROVIDER = {"zookeeper.authProvider.1": "org.apache.zookeeper.server.auth.SASLAuthenticationProvider"}


@pytest.fixture(scope="module", params=["3.9.3", "3.8.0"])
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    reason = why_missing(request.param)
    if reason is not None:
        peers.missing(reason)
    jaas = tmp_path_factory.mktemp("jaas") / "jaas.conf"
    jaas.write_text(JAAS, encoding="utf-8")
    login = (f"-Djava.security.auth.login.config={jaas}", "-Dfile.encoding=UTF-8")
    props = {**peers.QUICK_PROPS, **PROVIDER}
    with JavaServer(request.param, props=props, cfg=peers.QUICK_CFG, jvm_args=login) as server:
        yield server.address


@pytest.mark.parametrize(("user", "password"), [("bob", "secret"), ("zoë", "pässword")])
def test_who_proves_the_password_is_that_user(address: str, user: str, password: str) -> None:
    async def scene() -> None:
        path = f"/{user}"
        async with Client(address, auth=[SaslDigest(user, password)]) as zk:
            await zk.create(path, b"mine", acl=coati.acl(f"sasl:{user}:cdrwa"))
            assert (await zk.get(path)).data == b"mine"
            assert ("sasl", user) in {(one.scheme, one.user) for one in await zk.whoami()}
        async with Client(address) as nobody:
            with pytest.raises(NoAuth):
                await nobody.get(path)

    asyncio.run(scene())


def test_a_wrong_password_ends_the_client(address: str) -> None:
    async def scene() -> None:
        with pytest.raises(AuthFailed):
            await Client(address, auth=[SaslDigest("bob", "wrong")]).start()

    asyncio.run(scene())


@pytest.mark.parametrize("kind", ["coati", "3.9.3"])
def test_a_server_without_sasl_is_told_apart(kind: str, tmp_path: Path) -> None:
    async def scene(address: str) -> None:
        with pytest.raises(AuthFailed):
            await Client(address, auth=[SaslDigest("bob", "secret")]).start()

    with peers.running(kind, tmp_path, props=peers.QUICK_PROPS, cfg=peers.QUICK_CFG) as server:
        asyncio.run(scene(server.address))
