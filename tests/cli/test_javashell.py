"""The Java shell's commands in `coati sh` say what Java's own shell says, on the same kinds of server."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.cli import kit
from tests.interop import peers
from tests.interop.javaclient import finish, shell
from tests.interop.peers import Server
from tests.interop.test_java_shell import MARK, SCRIPT, conversation, need

# What says whose shell it is, and what only Java's shell can be wrong in.
UNLIKE = ("version", "unknown command")


def ours(server: Server, commands: list[str]) -> kit.Done:
    script = "".join(f"{command}\n{MARK}\n" for command in ["", *commands])
    return kit.run("-s", server.address, "sh", "--java", "--keep-going", stdin=script.encode(), merged=True)


def test_the_script_of_the_java_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    need("3.9.3")
    monkeypatch.setenv("TZ", "UTC")
    commands = [line for line in SCRIPT.strip().splitlines() if line not in UNLIKE]
    script = "".join(f"{command}\n{MARK}\n" for command in ["", *commands])
    with (
        peers.running("coati", props=peers.LOCKSTEP_PROPS) as one,
        peers.running("coati", props=peers.LOCKSTEP_PROPS) as other,
    ):
        java = finish(shell("3.9.3", one, script=script))
        said = ours(other, commands)
        theirs, their_events = conversation(java.output, one, commands)
        mine, my_events = conversation(said.text, other, commands)
    assert mine[-1][0] == "end", said.text
    pairs = zip(mine, theirs, strict=True)
    # Before the first command only Java says something.
    differences = [f"{a[0]}\n  ours: {a[1]}\n  java: {b[1]}" for a, b in pairs if a != b and a[0]]
    assert not differences, "\n".join(differences)
    # The connection's own events are told in other words; a quota is one txn for us and several for Java.
    assert without_zxids(my_events) == without_zxids(event for event in their_events if "type:None" not in event)


def without_zxids(events: Iterable[str]) -> list[str]:
    return [event.partition(" zxid")[0] for event in events]
