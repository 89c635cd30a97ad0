"""Changing znodes, on both servers: set, create, rm."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import pytest

from coati.cli import exits
from coati.cli.change import CREATE, hold
from coati.cli.command import Streams
from coati.cli.exits import CommandError
from coati.cli.online import OnlineCall
from coati.client.client import BaseClient
from coati.client.types import State, StateChange
from coati.recipes.client import Client
from tests.cli import kit
from tests.cli.witness import Witness
from tests.interop import raw

# --- set ------------------------------------------------------------------------------------------


def test_set_takes_data_from_everywhere(cli: kit.Cli, witness: Witness, tmp_path: Path) -> None:
    witness.make("/a")
    done = cli("set", "/a", "hello")
    assert (done.code, done.out) == (0, b"")
    assert "/a has version 1" in done.err
    assert witness.data("/a") == b"hello"
    assert cli("-q", "set", "/a", "-", stdin=b"\x00\xff") == kit.Done(0, b"", "")
    assert witness.data("/a") == b"\x00\xff"
    assert "ctrl-D" in cli("set", "/a", stdin=b"typed", is_asked=True).err
    assert witness.data("/a") == b"typed"
    (tmp_path / "data").write_bytes(b"\xfe")
    assert cli("set", "/a", f"@{tmp_path}/data").code == 0
    assert witness.data("/a") == b"\xfe"
    assert cli("set", "/a", "").code == 0
    assert witness.data("/a") == b""
    assert cli("set", "/a", "@/nowhere").code == exits.USAGE
    assert cli("set", "/a", "--", "-x").code == 0
    assert witness.data("/a") == b"-x"


def test_set_compares_versions(cli: kit.Cli, witness: Witness) -> None:
    witness.make("/a")
    stat = json.loads(cli("-o", "json", "set", "--version", "0", "/a", "one").out)
    assert stat == {"path": "/a", "version": 1, "zxid": hex(witness.stat("/a").mzxid)}
    done = cli("set", "--version", "0", "/a", "two")
    assert (done.code, done.out, witness.data("/a")) == (exits.CONFLICT, b"", b"one")
    assert "it has version 1 now" in done.err
    assert cli("set", "--version", "0", "--create", "/a", "two").code == exits.USAGE


def test_set_of_what_is_missing_names_create(cli: kit.Cli, witness: Witness) -> None:
    done = cli("set", "/a/b", "x")
    assert (done.code, witness.is_there("/a")) == (exits.MISSING, False)
    assert "--create makes it" in done.err
    assert cli("set", "--create", "/a/b", "x").code == 0
    assert witness.data("/a/b") == b"x"
    assert cli("set", "--create", "/a/b", "y").code == 0
    assert (witness.data("/a/b"), witness.stat("/a/b").version) == (b"y", 1)


# --- create ---------------------------------------------------------------------------------------


def test_create_prints_the_path(cli: kit.Cli, witness: Witness) -> None:
    assert cli("create", "/test", "laogong") == kit.Done(0, b"/test\n", "")
    assert witness.data("/test") == b"laogong"
    assert witness.acl("/test") == [(31, "world", "anyone")]
    assert cli("create", "-s", "/test") == kit.Done(0, b"/test0000000001\n", "")
    assert cli("create", "-s", "/test/", is_terminal=True).text == "/test/0000000000\n"
    assert json.loads(cli("-o", "json", "create", "-s", "/test").out) == {"path": "/test0000000002"}
    assert cli("create", "-s", "/").text == "/0000000003\n"
    assert cli("create", "/empty").code == 0
    assert witness.data("/empty") == b""
    assert cli("create", "/piped", "-", stdin=b"\xff").code == 0
    assert witness.data("/piped") == b"\xff"


def test_create_of_what_is_there(cli: kit.Cli, witness: Witness) -> None:
    witness.make("/a")
    done = cli("create", "/a")
    assert (done.code, done.out) == (exits.CONFLICT, b"")
    assert "coati set changes its data" in done.err


def test_what_is_too_large_is_explained(cli: kit.Cli, witness: Witness) -> None:
    """Servers hang up; whether it was the size, only the size can tell."""
    witness.make("/a")
    large = bytes(1_100_000)
    for argv in (["set", "/a", "-"], ["create", "/b", "-"]):
        done = cli(*argv, stdin=large)
        assert done.code == exits.NO_CONNECTION
        assert "1100000 bytes may be more than the servers take: jute.maxbuffer" in done.err
    assert (witness.data("/a"), witness.is_there("/b")) == (b"", False)


def test_create_under_a_missing_parent_names_p(cli: kit.Cli, witness: Witness) -> None:
    done = cli("create", "/a/b/c")
    assert (done.code, witness.is_there("/a")) == (exits.MISSING, False)
    assert "-p makes it" in done.err
    assert cli("create", "-p", "/a/b/c", "x").text == "/a/b/c\n"
    assert witness.data("/a/b/c") == b"x"
    witness.make("/e", flags=1)
    assert cli("create", "/e/child").code == exits.CONFLICT


def test_create_with_an_acl(cli: kit.Cli, witness: Witness) -> None:
    acl = "world:anyone:r,ip:127.0.0.1:cdrwa"
    assert cli("create", "--acl", acl, "/a").code == 0
    assert witness.acl("/a") == [(1, "world", "anyone"), (31, "ip", "127.0.0.1")]
    done = cli("create", "--acl", "world:anyone:rx", "/b")
    assert (done.code, witness.is_there("/b")) == (exits.USAGE, False)
    assert "'x' is no permission" in done.err


def test_containers_and_ttls(cli: kit.Cli, witness: Witness) -> None:
    assert cli("create", "-c", "/c").text == "/c\n"
    assert cli("create", "--ttl", "1000", "/t").text == "/t\n"
    assert cli("create", "--ttl", "1000", "-s", "/t").text == "/t0000000002\n"
    assert [witness.stat(path).ephemeral_owner for path in ("/c", "/t")] == [0, 0]
    assert "at most" in cli("create", "--ttl", "1e12", "/u").err
    assert cli("create", "--ttl", "-1", "/u").code == exits.USAGE


@pytest.mark.parametrize("flags", [["-e", "-c"], ["-e", "--ttl", "1"], ["-c", "--ttl", "1"], ["-c", "-s"]])
def test_kinds_that_exclude_each_other(flags: list[str], cli: kit.Cli) -> None:
    done = cli("create", *flags, "/a")
    assert done.code == exits.USAGE
    assert "not both" in done.err


@pytest.fixture
def hears_interrupts() -> Iterator[None]:
    """A process that was started in the background ignores them, and its children do."""
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGHUP: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.usefixtures("hears_interrupts")
def test_an_ephemeral_lives_as_long_as_its_command(number: signal.Signals, hosts: str, witness: Witness) -> None:
    """And goes at once with it: the server would keep it for the session's timeout otherwise, 10 seconds."""
    flags = ["-e"] if number is signal.SIGINT else ["-e", "-s"]
    with subprocess.Popen(
        [sys.executable, "-m", "coati", "-s", hosts, "create", *flags, "/test", "laogong"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        path = process.stdout.readline().rstrip()
        assert path == "/test" if flags == ["-e"] else re.fullmatch(r"/test\d{10}", path)
        assert witness.data(path) == b"laogong"
        assert witness.stat(path).ephemeral_owner != 0
        assert "ctrl-C" in process.stderr.readline()
        process.send_signal(number)
        assert process.wait(20) == exits.SIGNAL + number
        assert not witness.is_there(path)
        assert process.stderr.read() == ""


@pytest.mark.usefixtures("hears_interrupts")
def test_a_signal_ends_an_ephemeral_in_this_process(cli: kit.Cli, witness: Witness) -> None:
    """As above, where its coverage is seen; and ignored signals stay ignored, as nohup wants it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)

    class Stdout(io.BytesIO):
        is_told = False

        def flush(self) -> None:
            if not self.is_told:
                self.is_told = True
                os.kill(os.getpid(), signal.SIGHUP)
                os.kill(os.getpid(), signal.SIGTERM)

    try:
        done = cli("create", "-e", "/e", stdout=Stdout())
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (done.code, done.out) == (exits.SIGNAL + signal.SIGTERM, b"/e\n")
    assert not witness.is_there("/e")


async def told(*changes: StateChange) -> tuple[str, int]:
    """What is said while an ephemeral is held in a session with these changes, and how it ends."""
    err = io.StringIO()
    streams = Streams(io.BytesIO(), io.BytesIO(), err)

    class Client:
        async def states(self) -> AsyncIterator[StateChange]:
            for change in changes:
                yield change

    with pytest.raises(CommandError) as caught:
        await hold(OnlineCall("create", argparse.Namespace(quiet=False), streams), cast("BaseClient", Client()))
    return err.getvalue(), caught.value.code


def test_an_ephemeral_that_is_lost_is_no_success() -> None:
    at_first = StateChange(State.CONNECTED, State.CONNECTING, "h:1", "")
    lost = StateChange(State.SUSPENDED, State.CONNECTED, "", "cut off")
    back = StateChange(State.CONNECTED, State.SUSPENDED, "h:2", "")
    over = StateChange(State.EXPIRED, State.SUSPENDED, "", "too late")
    err, code = asyncio.run(told(at_first, lost, back, lost, over, at_first))
    assert code == exits.LOST
    assert [line.partition(": ")[2] for line in err.splitlines()[1:]] == [
        "the connection is lost, looking for a server: cut off",
        "connected to h:2",
        "the connection is lost, looking for a server: cut off",
    ]
    assert asyncio.run(told(at_first))[1] == exits.LOST


def test_an_ephemeral_goes_with_a_task_that_is_cancelled(hosts: str, witness: Witness) -> None:
    """By whoever runs the command; no signal, so no exit code."""

    async def run() -> None:
        streams = Streams(io.BytesIO(), io.BytesIO(), io.StringIO())
        options = CREATE.parser().parse_args(["--server", hosts, "-e", "/e"])
        task = asyncio.ensure_future(CREATE.coroutine(OnlineCall("create", options, streams)))
        async with Client(hosts) as zk:
            async for node in zk.values("/e"):
                if node is not None:
                    break
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert not witness.is_there("/e")


def test_the_shell_s_session_keeps_an_ephemeral(hosts: str, witness: Witness) -> None:
    """The command returns at once, and signals stay the shell's."""
    before = signal.getsignal(signal.SIGINT)

    async def shell() -> tuple[int | None, bool]:
        async with Client(hosts) as zk:
            options = CREATE.parser().parse_args(["-e", "/e"])
            streams = Streams(io.BytesIO(), io.BytesIO(), io.StringIO())
            return await CREATE.coroutine(OnlineCall("create", options, streams, zk)), witness.is_there("/e")

    assert asyncio.run(shell()) == (0, True)
    assert signal.getsignal(signal.SIGINT) is before
    assert not witness.is_there("/e")


# --- rm -------------------------------------------------------------------------------------------


def test_rm_of_one_znode_does_not_ask(cli: kit.Cli, witness: Witness) -> None:
    witness.make("/a", "/b", "/c")
    assert cli("rm", "/a", "/b") == kit.Done(0, b"", "")
    assert witness.children("/") == ["c"]
    done = cli("rm", "/a")
    assert (done.code, done.out) == (exits.MISSING, b"")
    done = cli("rm", "--version", "5", "/c")
    assert done.code == exits.CONFLICT
    assert "it has version 0 now" in done.err
    assert cli("rm", "--version", "0", "/c").code == 0
    assert witness.children("/") == []
    assert cli("rm", "--version", "0", "/c").code == exits.MISSING


def test_rm_of_what_has_children_names_r(cli: kit.Cli, witness: Witness) -> None:
    witness.make("/a", "/a/b", "/a/c", "/d", "/d/e")
    done = cli("rm", "/a")
    assert (done.code, witness.children("/a")) == (exits.CONFLICT, ["b", "c"])
    assert "it has 2 children; -r deletes" in done.err
    assert "it has 1 child; -r deletes" in cli("rm", "/d").err
    assert cli("rm", "--dry-run", "/d").code == exits.CONFLICT


def test_rm_r_shows_and_asks(cli: kit.Cli, witness: Witness) -> None:
    witness.make("/a", "/a/b", "/a/b/c", "/d")
    done = cli("rm", "-r", "/a")
    assert (done.code, witness.is_there("/a/b/c")) == (exits.REFUSED, True)
    assert "say --yes" in done.err
    done = cli("rm", "-r", "/a", "/d", stdin=b"n\n", is_asked=True)
    assert (done.code, witness.is_there("/a/b/c")) == (exits.REFUSED, True)
    assert done.err.startswith("/a\n/a/b\n/a/b/c\n/d\nDelete 4 znodes? [y/N] ")
    done = cli("rm", "-r", "/a/b/c", stdin=b"y\n", is_asked=True)
    assert (done.code, witness.children("/a/b")) == (0, [])
    assert "Delete 1 znode?" in done.err
    assert "1 znode deleted" in done.err
    done = cli("rm", "-r", "-y", "/a", "/d")
    assert (done.code, done.out, witness.children("/")) == (0, b"", [])
    assert "3 znodes deleted" in done.err
    assert cli("rm", "-r", "--yes", "/a").code == exits.MISSING
    assert cli("rm", "-r", "/a").code == exits.MISSING


def test_rm_says_what_would_go(cli: kit.Cli, witness: Witness) -> None:
    witness.make("/a", "/a/b", "/d")
    assert cli("rm", "-r", "--dry-run", "/a") == kit.Done(0, b"/a\n/a/b\n", "")
    assert json.loads(cli("-o", "json", "rm", "-n", "/d").out) == [{"path": "/d"}]
    assert witness.children("/") == ["a", "d"]
    assert cli("rm", "-n", "/nowhere").code == exits.MISSING


@pytest.mark.parametrize("path", ["/", "//", "/zookeeper", "/zookeeper/quota", "/a/../zookeeper"])
def test_what_is_never_deleted(path: str, cli: kit.Cli, witness: Witness) -> None:
    witness.make("/a", "/zookeeper", "/zookeeper/quota")
    for flags in ([], ["-r", "--yes"], ["-r", "--dry-run"]):
        done = cli("rm", *flags, "/a", path)
        assert (done.code, done.out) == (exits.REFUSED, b"")
        assert "never deleted" in done.err
    assert witness.children("/") == ["a", "zookeeper"]


def test_rm_of_a_version_is_of_one(cli: kit.Cli, witness: Witness) -> None:
    witness.make("/a", "/b")
    assert cli("rm", "--version", "0", "/a", "/b").code == exits.USAGE
    assert cli("rm", "-r", "--version", "0", "--yes", "/a").code == exits.USAGE
    assert witness.children("/") == ["a", "b"]
    assert cli("rm", "/a", "/a").code == 0


def test_what_the_acl_forbids(cli: kit.Cli, witness: Witness) -> None:
    witness.make("/a", acl=((1, "world", "anyone"),))
    assert cli("set", "/a", "x").code == exits.NOT_AUTHORISED
    assert cli("create", "/a/b").code == exits.NOT_AUTHORISED
    witness.make("/b")
    witness.make("/b/c")
    witness.call(raw.SET_ACL, raw.set_acl(witness.path("/b"), ((1, "world", "anyone"),)))
    assert cli("rm", "/b/c").code == exits.NOT_AUTHORISED
