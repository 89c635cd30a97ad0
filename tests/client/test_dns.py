"""Servers from DNS: asked before the first dial, again when the answer is old, kept when there is none."""

from __future__ import annotations

import asyncio
import builtins
import sys
from collections.abc import Sequence
from types import ModuleType, SimpleNamespace

import pytest

import coati
from coati.client.core import _hosts_of
from coati.client.dns import DnsSrv
from coati.client.hosts import Host, parse_connect_string
from tests.client.livekit import HOST, relay, run, until


class Records:
    """A resolver that says what it is told to."""

    def __init__(self, *hosts: Host) -> None:
        self.hosts: Sequence[Host] | OSError = list(hosts)
        self.asked: list[str] = []

    async def __call__(self, name: str) -> Sequence[Host]:
        self.asked.append(name)
        if isinstance(self.hosts, OSError):
            raise self.hosts
        return self.hosts


NAME = "_zookeeper._tcp.example.test"


def test_answer_is_kept_for_a_while() -> None:
    async def scene() -> None:
        records = Records(Host("b", 1), Host("a", 2))
        dns = DnsSrv(NAME, resolve=records)
        assert list(dns.hosts()) == [NAME]
        await dns.refresh()
        assert list(dns.hosts()) == ["a:2", "b:1"]
        records.hosts = [Host("c", 3)]
        await dns.refresh()
        assert list(dns.hosts()) == ["a:2", "b:1"]
        assert records.asked == [NAME]

    run(scene)


def test_answer_is_asked_for_again_and_none_changes_nothing() -> None:
    async def scene() -> None:
        records = Records(Host("a", 2))
        dns = DnsSrv(NAME, resolve=records, refresh=0)
        await dns.refresh()
        answers: list[Sequence[Host] | OSError] = [OSError("no network"), []]
        for records.hosts in answers:
            await dns.refresh()
            assert list(dns.hosts()) == ["a:2"]
        records.hosts = [Host("c", 3)]
        await dns.refresh()
        assert list(dns.hosts()) == ["c:3"]

    run(scene)


def test_no_answer_at_all_is_an_error() -> None:
    async def scene() -> None:
        records = Records()
        dns = DnsSrv(NAME, resolve=records)
        with pytest.raises(OSError, match="no SRV records"):
            await dns.refresh()
        records.hosts = OSError("no network")
        with pytest.raises(OSError, match="no network"):
            await dns.refresh()

    run(scene)


def test_client_finds_its_server_by_dns_and_follows_when_it_moves(port: int, top: str) -> None:
    async def scene() -> None:
        async with relay(port) as old, relay(port) as new:
            records = Records(Host(HOST, old.port))
            dns = DnsSrv(NAME, resolve=records, refresh=0)
            async with coati.Client(dns) as zk:
                await zk.create(top)
                assert zk.session.server == f"{HOST}:{old.port}"
                session_id = zk.session.id
                records.hosts = [Host(HOST, new.port)]
                old.cut()
                await until(lambda: zk.session.server == f"{HOST}:{new.port}")
                assert await zk.exists(top) is not None
                assert zk.session.id == session_id

    run(scene)


def test_client_waits_for_dns(port: int) -> None:
    async def scene() -> None:
        records = Records()
        records.hosts = OSError("no network")
        async with asyncio.TaskGroup() as group:
            zk = coati.Client(DnsSrv(NAME, resolve=records))
            starting = group.create_task(zk.start())
            await until(lambda: len(records.asked) > 1)
            assert not starting.done()
            records.hosts = [Host(HOST, port)]
        await zk.aclose()

    run(scene)


class Record:
    target = "zk1.example.test."
    port = 2181


class DnsError(Exception):
    pass


def fake_dnspython(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    asked = []

    async def resolve(name: str, kind: str) -> list[Record]:
        asked.append((name, kind))
        if name == "broken":
            raise DnsError("NXDOMAIN")
        return [Record()]

    package = ModuleType("dns")
    package.asyncresolver = SimpleNamespace(resolve=resolve)  # type: ignore[attr-defined]  # a stand-in
    package.exception = SimpleNamespace(DNSException=DnsError)  # type: ignore[attr-defined]  # a stand-in
    monkeypatch.setitem(sys.modules, "dns", package)
    monkeypatch.setitem(sys.modules, "dns.asyncresolver", package.asyncresolver)
    return asked


def test_connect_string_asks_for_srv_records(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = fake_dnspython(monkeypatch)

    async def scene() -> None:
        found, chroot, provider = _hosts_of(f"dns-srv://{NAME}/app/x")
        assert (found, chroot) == ([Host(NAME, 2181)], "/app/x")
        assert isinstance(provider, DnsSrv)
        await provider.refresh()
        assert list(provider.hosts()) == ["zk1.example.test:2181"]
        assert asked == [(NAME, "SRV")]
        with pytest.raises(OSError, match="no SRV records of broken: NXDOMAIN"):
            await DnsSrv("broken").refresh()

    run(scene)


def test_chroot_of_a_connect_string_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_dnspython(monkeypatch)
    assert [_hosts_of(f"dns-srv://{NAME}{end}")[1] for end in ("", "/", "/a")] == ["", "", "/a"]
    with pytest.raises(ValueError, match="no name"):
        coati.Client("dns-srv:///a")


def test_missing_dnspython_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: object) -> ModuleType:
        if name.startswith("dns"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *args)  # type: ignore[arg-type]  # handed on as it came

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"pip install 'coati\[dns\]'"):
        coati.Client(f"dns-srv://{NAME}")


def test_other_schemes_are_no_hosts() -> None:
    with pytest.raises(ValueError, match="no list of servers"):
        parse_connect_string("zk://a:2181")
