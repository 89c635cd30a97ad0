"""The two servers that every command meets, and the commands on a subtree of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.cli import kit
from tests.cli.witness import Witness
from tests.interop import peers, raw
from tests.interop.peers import Server

_numbers = itertools.count()


@pytest.fixture(scope="session", params=["coati", pytest.param("3.8.0", marks=pytest.mark.interop)])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Each of the two: what a command shows of one it shows of the other."""
    with peers.running(request.param, props=peers.QUICK_PROPS, cfg=peers.QUICK_CFG) as running:
        yield running


@pytest.fixture
def hosts(server: Server) -> str:
    """An empty subtree for the test, as a connect string."""
    path = f"/t{next(_numbers)}"
    with peers.session(server) as control:
        assert control.call(raw.CREATE, raw.create(path))[0] == 0
        control.close()
    return server.address + path


@pytest.fixture
def witness(server: Server, hosts: str) -> Iterator[Witness]:
    """Who makes and reads the test's znodes without our client."""
    with peers.session(server) as control:
        yield Witness(control, hosts.removeprefix(server.address))
        control.close()


@pytest.fixture(autouse=True)
def nobody_s_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """No variable and no context of whoever runs the tests."""
    for key in ("HOSTS", "AUTH", "TIMEOUT", "CONTEXT", "TLS_CA", "TLS_CERT", "TLS_KEY"):
        monkeypatch.delenv(f"COATI_{key}", raising=False)
    monkeypatch.setenv("COATI_CONFIG", f"{tmp_path}/config.toml")


@pytest.fixture
def cli(hosts: str) -> kit.Cli:
    """`cli("get", "/a")`: a command on the test's subtree."""

    def run(*argv: str, **how: object) -> kit.Done:
        return kit.run("-s", hosts, *argv, **how)  # type: ignore[arg-type]  # names are passed on

    return run
