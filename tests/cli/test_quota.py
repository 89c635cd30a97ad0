"""Quotas, on both servers, and as upstream's own shell sees them."""

from __future__ import annotations

import json

import pytest

from coati.cli import exits
from coati.client.client import BaseClient
from coati.client.quota import Quota, Usage
from coati.errors import NoNode
from tests.cli import kit
from tests.cli.witness import Witness
from tests.interop import javaclient
from tests.interop.peers import Server, eventually

COLUMNS = ["path", "znodes", "count", "hard_count", "bytes_used", "bytes", "hard_bytes", "used_percent"]


def rows(cli: kit.Cli, *argv: str) -> list[list[object]]:
    found = json.loads(cli("-o", "json", "quota", "ls", *argv).out)
    assert all(list(row) == COLUMNS for row in found)
    return [list(row.values()) for row in found]


def limits(witness: Witness, path: str) -> bytes:
    """As the servers read them."""
    return Witness(witness.session, "/zookeeper/quota").data(witness.path(path) + "/zookeeper_limits")


def test_quota_set_and_ls(cli: kit.Cli, witness: Witness) -> None:
    witness.make("/a", "/b", "/a/x")
    witness.make("/a/y", data=b"12345")
    assert rows(cli) == []
    assert cli("quota", "set", "/a", "--count", "10", "--bytes", "1k") == kit.Done(0, b"", "")
    assert limits(witness, "/a") == b"count=10,bytes=1024=;byteHardLimit=-1;countHardLimit=-1"
    assert rows(cli) == [["/a", 3, 10, None, 5, 1024, None, 30]]
    done = cli("quota", "set", "/b", "--hard", "--count", "1")
    assert done.code == 0
    assert "enforceQuota" in done.err
    assert limits(witness, "/b") == b"count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit=1"
    assert rows(cli, "/b") == [["/b", 1, None, 1, 0, None, None, 100]]
    assert cli("quota", "ls").lines == ["/a\t3\t10\t\t5\t1024\t\t30", "/b\t1\t\t1\t0\t\t\t100"]
    assert [row[0] for row in rows(cli, "--top")] == ["/b", "/a"]
    assert cli("quota", "ls", is_terminal=True).lines[0].split() == [name.upper() for name in COLUMNS]


def test_quota_lifted_one_by_one(cli: kit.Cli, witness: Witness) -> None:
    witness.make("/a")
    assert cli("quota", "set", "/a", "--count", "10", "--bytes", "0").code == 0
    assert rows(cli) == [["/a", 1, 10, None, 0, 0, None, 10]]
    assert cli("quota", "set", "/a", "--count", "none", "--bytes", "2M").code == 0
    assert rows(cli) == [["/a", 1, None, None, 0, 2 << 20, None, 0]]
    assert cli("quota", "set", "/a", "--hard", "--bytes", "3g", "--count", "5").code == 0
    assert cli("quota", "rm", "/a", "--hard").code == 0
    assert rows(cli) == [["/a", 1, None, None, 0, 2 << 20, None, 0]]
    assert cli("quota", "set", "/a", "--bytes", "none").code == 0
    assert rows(cli) == [["/a", 1, None, None, 0, None, None, None]]
    assert cli("quota", "rm", "/a", "--hard").code == 0
    assert rows(cli) == []


def test_quota_rm(cli: kit.Cli, witness: Witness) -> None:
    witness.make("/a")
    assert cli("quota", "set", "/a", "--count", "10").code == 0
    assert cli("quota", "rm", "/a") == kit.Done(0, b"", "")
    assert rows(cli) == []
    for argv in (["rm", "/a"], ["rm", "/a", "--hard"], ["ls", "/a"], ["set", "/a", "--count", "none"]):
        done = cli("quota", *argv)
        assert (done.code, done.out) == (exits.MISSING, b"")
        assert "/a has no quota of its own" in done.err


def test_quota_that_cannot_be(cli: kit.Cli, witness: Witness) -> None:
    witness.make("/a", "/a/b")
    assert cli("quota", "set", "/nowhere", "--count", "1").code == exits.MISSING
    assert cli("quota", "set", "/a", "--count", "0").code == exits.USAGE
    assert cli("quota", "set", "/a", "--count", "10").code == 0
    done = cli("quota", "set", "/a/b", "--count", "10")
    assert done.code == exits.USAGE
    assert "quotas do not nest" in done.err


@pytest.mark.parametrize(
    "argv",
    [
        ["rm"], ["set", "--count", "1"], ["set", "/a"], ["ls", "--count", "1"], ["ls", "--hard"],
        ["rm", "/a", "--top"], ["set", "/a", "--bytes", "-5"], ["set", "/a", "--bytes", "1kk"],
        ["set", "/a", "--bytes", "k"], ["set", "/a", "--bytes", "\u0664"],
    ],
)  # fmt: skip
def test_quota_wrong_usage(argv: list[str], cli: kit.Cli) -> None:
    assert cli("quota", *argv).code == exits.USAGE


def test_quota_that_goes_while_it_is_listed(cli: kit.Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    class Going:
        async def list(self) -> list[Quota]:
            return [Quota("/a", 1)]

        async def usage(self, path: str) -> Usage:
            raise NoNode(path)

    monkeypatch.setattr(BaseClient, "quota", Going())
    assert rows(cli) == []


@pytest.mark.interop
def test_quota_is_java_s(server: Server, hosts: str, cli: kit.Cli, witness: Witness) -> None:
    """What is set here is what upstream's shell lists, and the other way round."""
    witness.make("/a", "/b")
    assert cli("quota", "set", "/a", "--count", "10", "--bytes", "77").code == 0
    root = hosts.removeprefix(server.address)
    script = f"listquota {root}/a\nsetquota -n 5 {root}/b\nquit\n"
    ran = javaclient.finish(javaclient.shell("3.8.0", server, script=script))
    assert "Output quota for" in ran.output
    assert "count=10,bytes=77=;byteHardLimit=-1;countHardLimit=-1" in ran.output
    eventually(lambda: len(rows(cli)) == 2, "the quota set by the shell is there")
    assert rows(cli, "/b") == [["/b", 1, 5, None, 0, None, None, 20]]
