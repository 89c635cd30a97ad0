"""smoke: good servers pass, what is wrong is told, and nothing is left."""

from __future__ import annotations

import json

import pytest

from coati.cli import exits, smoke
from coati.client.client import BaseClient
from tests.cli import kit
from tests.cli.witness import Witness


def test_a_good_server_passes_and_nothing_is_left(cli: kit.Cli, witness: Witness) -> None:
    witness.make("/app")
    done = cli("-o", "json", "smoke", "/app")
    assert done.code == exits.DONE, done.err
    assert [(line["trial"], line["outcome"]) for line in json.loads(done.out)] == [
        ("read", "ok"), ("write", "ok"), ("watch", "ok"),
    ]  # fmt: skip
    assert witness.children("/app") == []


def test_what_is_wrong_is_told(cli: kit.Cli, witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    async def forgets(self: smoke.Trial) -> None:
        raise smoke.Wrong("a znode is there that was deleted")

    monkeypatch.setattr(smoke.Trial, "write", forgets)
    done = cli("smoke")
    assert done.code == exits.CHECK_FAILED
    assert [line.split("\t")[1:] for line in done.lines[1:]] == [["write", "", "a znode is there that was deleted"]]
    assert witness.children("/") == []


def test_a_server_that_shows_something_else_is_found(cli: kit.Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    real = BaseClient.sync

    async def sync(self: BaseClient, path: str = "/") -> int:
        await self.set(path, b"other")
        return await real(self, path)

    monkeypatch.setattr(BaseClient, "sync", sync)
    done = cli("smoke")
    assert done.code == exits.CHECK_FAILED
    assert "read\t\tb'other' instead of" in done.text


def test_a_path_that_is_not_there(cli: kit.Cli) -> None:
    assert cli("smoke", "/nowhere").code == exits.MISSING
