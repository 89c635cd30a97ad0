"""The patterns for threads: what they do is tested with those of asyncio; here, that they come through."""

from __future__ import annotations

import dataclasses

import pytest

import coati
from coati import sync
from coati.patterns.config import BadConfig, from_json, to_json
from coati.sync.patterns import Cluster, Config, NamingService
from tests.interop.peers import CoatiServer
from tests.sync.kit import LONG_S, until


@dataclasses.dataclass(frozen=True)
class Settings:
    rate: float = 1.0


def test_names(zk: sync.Client) -> None:
    names = NamingService(zk)
    assert names.path("a/b") == "/names/a/b"
    assert names.bind("a/b", b"1").path == "/names/a/b"
    names.bind("a/mine", b"x", while_here=True)
    with pytest.raises(coati.NodeExists):
        names.bind("a/b", b"2")
    with names.follow("a/b") as values:
        first = values.poll(LONG_S)
        assert first is not None
        assert first.data == b"1"
        names.rebind("a/b", b"2")
        second = values.poll(LONG_S)
        assert second is not None
        assert (second.data, names.lookup("a/b")) == (b"2", b"2")
    with pytest.raises(coati.BadVersion):
        names.replace("a/b", b"3", version=7)
    assert names.unique("jobs/job-") == "jobs/job-0000000000"
    assert names.names() == ["a", "jobs"]
    assert names.names("a") == ["b", "mine"]
    names.unbind("a/b")
    assert names.names("a") == ["mine"]


def test_a_configuration_is_kept_up_to_date(zk: sync.Client) -> None:
    with Config(zk, "/config", from_json(Settings), default=Settings()) as config:
        assert (config.value, config.version, config.error) == (Settings(), -1, None)
        with config.changes() as changes:
            assert changes.poll(LONG_S) == Settings()
            zk.put("/config", to_json(Settings(2.0)))
            assert changes.poll(LONG_S) == Settings(2.0)
            zk.set("/config", b"nonsense")
            until(lambda: config.error is not None)
            assert (config.value, config.version) == (Settings(2.0), 0)
            zk.set("/config", to_json(Settings(3.0)))
            assert changes.poll(LONG_S) == Settings(3.0)
    assert list(config.changes()) == [Settings(3.0)]


def test_a_configuration_that_is_missing_is_an_error(zk: sync.Client) -> None:
    with pytest.raises(BadConfig), Config(zk, "/config", from_json(Settings)):
        raise AssertionError
    with pytest.raises(coati.ClientClosed):
        _ = Config(zk, "/config", from_json(Settings)).value


def test_one_of_the_members_is_the_master(zk: sync.Client, server: CoatiServer) -> None:
    with sync.Client(f"{server.address}{zk._it._chroot}") as other:
        here, there = Cluster(zk, "/workers", me=b"here"), Cluster(other, "/workers", me=b"there")
        assert (here.path, here.me) == ("/workers", b"here")
        with here.join() as first:
            assert first.me == b"here"
            until(lambda: first.is_master)
            with there.join() as second, here.views() as views:
                until(lambda: len(there.view().members) == 2)
                until(lambda: views.poll(LONG_S).members == (b"here", b"there"))
                assert here.view().master == b"here"
                assert not second.is_master
                assert second.term is None
                term = first.term
                assert term is not None
                zk.multi([term.guard(), coati.Create("/workers-plan")])
                zk.delete(term.path)
                until(lambda: second.is_master)
                assert not term.is_held
                with pytest.raises(coati.MultiError):
                    zk.multi([term.guard(), coati.Set("/workers-plan", b"late")])
        until(lambda: here.view().members == ())
