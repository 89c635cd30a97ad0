"""Our commands say what upstream's shell (zkCli of 3.8.0) says, on both servers: one run of it, with all questions."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import pytest

from tests.cli import kit
from tests.cli.witness import Witness
from tests.interop import javaclient
from tests.interop.peers import Server

FIELDS = {
    "cZxid": "czxid", "mZxid": "mzxid", "pZxid": "pzxid", "cversion": "cversion", "dataVersion": "version",
    "aclVersion": "aversion", "dataLength": "bytes", "numChildren": "children",
}  # fmt: skip


def answers(server: Server, chroot: str, questions: Sequence[str]) -> list[list[str]]:
    """What zkCli prints for each; `version` between them tells where one ends."""
    script = "".join(f"{question}\nversion\n" for question in questions) + "quit\n"
    ran = javaclient.finish(javaclient.shell("3.8.0", server, chroot, script=script))
    parts = re.split(r"^ZooKeeper CLI version: .*\n", ran.output, flags=re.MULTILINE)
    assert len(parts) == len(questions) + 1, ran.output
    return [part.splitlines() for part in parts[:-1]]


@pytest.mark.interop
def test_our_commands_say_what_zkcli_says(server: Server, hosts: str, cli: kit.Cli, witness: Witness) -> None:
    chroot = hosts.removeprefix(server.address)
    witness.make("/b", "/a", "/a/z", "/a/b", "/a-b", "/a/b/c", data=b"some text")
    assert cli("acl", "set", "/b", "ip:127.0.0.1:cdrwa,world:anyone:r").code == 0
    assert cli("set", "/a", "other text").code == 0
    questions = ["ls -R /", "getAcl /b", "stat /a", "getAllChildrenNumber /", "get /a", "whoami"]
    tree, acl, stat, count, data, who = answers(server, chroot, questions)

    ours = cli("ls", "-R", "/").lines
    # Which lists the children of a znode before it goes on below.
    assert sorted(line for line in tree if line.startswith("/")) == sorted(ours)
    entries = re.findall(r"'(\w+),'(\S+)\n: (\w+)", "\n".join(acl))
    assert [":".join(entry) for entry in entries] == cli("acl", "get", "/b").lines
    shown = json.loads(cli("-o", "json", "stat", "/a").out)
    theirs = dict(line.split(" = ") for line in stat if " = " in line)
    assert {ours: str(shown[ours]) for ours in FIELDS.values()} == {FIELDS[name]: theirs[name] for name in FIELDS}
    assert count[-1] == cli("count", "/").text.rstrip()
    assert data[-1] == cli("get", "/a").text
    assert "ip: 127.0.0.1" in who
