"""`coati sh` without a terminal: lines, what they share, where output goes, and how it ends."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from coati.cli import exits
from coati.cli.command import Streams
from coati.cli.online import OnlineCall
from coati.cli.sh import SH
from coati.cli.shell import Shell, is_secret, role_of, shown_line, told_change
from coati.cli.table import GROUPS, Entry
from coati.client.types import Mode, State, StateChange
from coati.recipes.client import Client
from tests.cli import kit

PROBES = ("events", "fails", "hangs", "plain")


@pytest.fixture(autouse=True)
def probes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROBES:
        monkeypatch.setitem(GROUPS["inspecting"], name, Entry(f"tests.cli.probe:{name.upper()}", "for a test"))


@pytest.fixture
def sh(hosts: str) -> Callable[..., kit.Done]:
    """Lines that are run in one shell."""

    def run(*lines: str, flags: tuple[str, ...] = (), merged: bool = False) -> kit.Done:
        return kit.run("-s", hosts, "sh", *flags, stdin="".join(f"{line}\n" for line in lines).encode(), merged=merged)

    return run


Sh = Callable[..., kit.Done]


def test_lines_share_where_they_stand(sh: Sh) -> None:
    done = sh(
        "create /a one", "create /a/b two", "cd a", "pwd", "get b | cat >&2", "get b", "cd", "pwd", flags=("--java",)
    )
    assert (done.code, done.text) == (0, "/a\ntwo\n/\n")
    assert done.err == "Created /a\nCreated /a/b\n"


def test_it_stops_at_the_first_failure(sh: Sh) -> None:
    done = sh("# a comment", "", "get /nope", "get /")
    assert (done.code, done.out) == (exits.MISSING, b"")
    assert "NoNode" in done.err
    assert "coati sh: stopped at line 3: get /nope" in done.err


def test_or_goes_on_and_tells_the_first_code(sh: Sh) -> None:
    done = sh("get /nope", "get --nonsense /", "pwd", flags=("--keep-going",))
    assert (done.code, done.out) == (exits.MISSING, b"/\n")
    assert "unrecognized arguments: --nonsense" in done.err


def test_lines_from_arguments_and_files(cli: kit.Cli, tmp_path: Path) -> None:
    assert cli("sh", "-c", "cd /", "-c", "pwd").out == b"/\n"
    file = tmp_path / "runbook"
    file.write_text("pwd\nquit\npwd\n")
    assert cli("sh", str(file)).out == b"/\n"
    assert cli("sh", str(tmp_path / "none")).code == exits.USAGE
    assert cli("sh", "-", stdin=b"pwd").out == b"/\n"


def test_data_from_stdin_is_not_the_script(sh: Sh) -> None:
    done = sh("pwd", "errors NoNode", "pwd")
    assert done.lines[0] == done.lines[-1] == "/"


def test_no_server() -> None:
    done = kit.run("-s", "127.0.0.1:1", "--timeout", "0.2", "sh", "-c", "pwd")
    assert (done.code, done.out) == (exits.NO_CONNECTION, b"")


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("nonsense", exits.USAGE, "there is no command 'nonsense' here"),
        ("sh", exits.USAGE, "there is no command 'sh' here"),
        ("serve", exits.USAGE, "there is no command 'serve' here"),
        ("| cat", exits.USAGE, "a command is missing"),
        ("get 'x", exits.USAGE, "a quote is not closed"),
        ("get / > /proc/none/x", exits.USAGE, "cannot be written"),
        ("cd /nowhere", exits.MISSING, "/nowhere is not there"),
        ("cd a b", exits.USAGE, "usage: cd [PATH]"),
        ("fails", exits.BUG, "please report it"),
        ("undo", exits.MISSING, "nothing to undo"),
        ("redo 7", exits.USAGE, "Command index out of range"),
        ("redo x", exits.USAGE, "Command index out of range"),
        ("unwatch 3", exits.MISSING, "nothing in the background is about 3"),
        ("help nonsense", exits.USAGE, "no command 'nonsense'"),
        ("pwd &", exits.USAGE, "does not run in the background"),
        ("plain &", exits.USAGE, "does not run in the background"),
        ("events & | cat", exits.USAGE, "neither through a pipe nor into a file"),
        ("connect 127.0.0.1:1", exits.NO_CONNECTION, "cannot be reached"),
    ],
)
def test_lines_that_fail(line: str, code: int, said: str, cli: kit.Cli) -> None:
    done = cli("--timeout", "1", "sh", "-c", line)
    assert (done.code, done.out) == (code, b"")
    assert said in done.err


def test_errors_are_explained(sh: Sh) -> None:
    assert sh("explain").text == "Nothing has failed yet.\n"
    done = sh("get /nope", "explain", "cd /nope", "explain", flags=("-k",))
    assert "NoNode (-101): The znode" in done.text
    assert "exit code 4: a znode is not there" in done.text
    done = sh("set /nope x", "explain", "create /nope/a", "explain", flags=("-k", "--java"))
    assert done.text.count("NoNode (-101)") == 4


def test_a_change_is_undone(sh: Sh) -> None:
    done = sh(
        "create /a one",
        "set /a two",
        "undo",
        "get /a",
        "set /a three",
        "set /a four",
        "undo",
        "get /a",
        flags=("--java",),
    )
    assert done.text == "one\nthree\n"
    assert "undone: set /a four" in done.err
    # The next one further back, until nothing is left.
    done = sh("create /b one", "deleteall /b", "undo", "get /b", "undo", "undo", flags=("--java",))
    assert (done.code, done.text) == (exits.MISSING, "one\n")


def test_history_keeps_no_secrets(sh: Sh) -> None:
    done = sh("pwd", "addauth digest alice:secret", "history", "redo 0", "history")
    assert done.lines[:4] == ["/", "0 - pwd", "1 - addauth digest ...", "2 - history"]
    assert done.lines[4:] == ["/", "0 - pwd", "1 - addauth digest ...", "2 - history", "3 - pwd", "4 - history"]
    assert "secret" not in done.text


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("addauth digest a:b", True), ("auth hash alice", True), ("get / --auth digest:a", True), (" get /", True),
        ("COATI_AUTH=x", True), ("get /auth", False), ("authority", False), ("ls /", False),
    ],
)  # fmt: skip
def test_what_is_secret(line: str, answer: bool) -> None:
    assert is_secret(line) is answer
    assert (shown_line(line) == line) is not answer


def test_output_goes_to_programs_and_files(sh: Sh, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "out"
    done = sh(
        "create /a data", f"get /a > {file}", f"get /a >> '{file}'", "get /a | tr a-z A-Z", "get /a | exit 3",
        flags=("-k",),
    )  # fmt: skip
    assert done.code == 3
    assert file.read_text() == "datadata"
    assert capfd.readouterr().out == "DATA"
    assert sh("get /nope | cat").code == exits.MISSING
    assert sh("get /a | kill -9 $$").code == exits.SIGNAL + 9


def test_a_program_that_stops_reading(sh: Sh) -> None:
    # More than a pipe holds, in many lines: the writer notices, and that is no failure.
    done = sh("help | head -c 1 > /dev/null", "errors | true", "pwd")
    assert (done.code, done.text) == (0, "/\n")


def test_help(sh: Sh) -> None:
    text = sh("help", "help cd", "help get", "help getAcl", "get --help").text
    assert "in the shell:\n  cd " in text
    assert "getAcl [-s] path" in text
    assert text.count("usage: coati get ") == 2
    assert "--server" not in text, "the shell has its own"


def test_a_command_without_a_loop_runs_beside_it(sh: Sh) -> None:
    done = sh("cd /", "plain")
    assert (done.code, done.text) == (7, "/ plain\n")


def test_no_session_no_commands(sh: Sh, hosts: str) -> None:
    done = sh(
        "close",
        "get /",
        "cd /",
        "getAcl /",
        "undo",
        "errors NoNode | cat > /dev/null",
        f"connect {hosts}",
        "get /",
        flags=("-k",),
    )
    assert done.code == exits.NO_CONNECTION
    assert done.err.count("not connected") == 2
    assert "Not connected\n" in done.err
    assert sh("connect", "pwd").code == exits.DONE


def test_whose_grammar_counts(sh: Sh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GROUPS["data"], "ls", Entry("tests.cli.probe:LIST", "for a test"))
    done = sh("create /a x world:anyone:r", "ls", "ls --timeout 9 /", "ls -s /", "ls /a watch", "cd /a", "ls -R .")
    assert done.code == 0, done.err
    # Its own flag's default goes before the shell's; the other words are Java's.
    assert done.lines[:3] == ["a 3.5 3.5", "a 9.0 9.0", "[a]"]
    assert done.lines[3].startswith("cZxid = 0x")
    assert done.lines[-2:] == ["[]", "/a"]
    assert sh("ls /", flags=("--java",)).text == "[a]\n"
    assert "the following arguments are required" in sh("ls --limit", "get", flags=("-k",)).err


# --- in one loop ---------------------------------------------------------------------------------------


class Recorder:
    """A Front that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.noted: list[str] = []
        self.refreshed = 0
        self.cancel: Callable[[], object] = lambda: None
        self._happened = asyncio.Event()

    def say(self, line: str) -> None:
        self.said.append(line)
        self._happened.set()

    def note(self, line: str) -> None:
        self.noted.append(line)
        self._happened.set()

    def refresh(self) -> None:
        self.refreshed += 1
        self._happened.set()

    def interrupts(self, cancel: Callable[[], object]) -> AbstractContextManager[object]:
        self.cancel = cancel
        return nullcontext()

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not holds():
                self._happened.clear()
                await self._happened.wait()


class Screen(io.BytesIO):
    """stdout; `written` is set by each write."""

    def __init__(self) -> None:
        super().__init__()
        self.written = asyncio.Event()

    def write(self, data: Any, /) -> int:
        self.written.set()
        return super().write(data)


@asynccontextmanager
async def a_shell(hosts: str) -> AsyncIterator[tuple[Shell, Recorder, Screen]]:
    front, screen = Recorder(), Screen()
    call = SH.call(
        SH.parser().parse_args(["-s", hosts, "--timeout", "20"]), Streams(io.BytesIO(), screen, io.StringIO())
    )
    assert isinstance(call, OnlineCall)
    shell = Shell(call, front)
    await shell.connect()
    try:
        yield shell, front, screen
    finally:
        await shell.close()


def in_a_shell(hosts: str, work: Callable[[Shell, Recorder, Screen], Awaitable[None]]) -> None:
    async def run() -> None:
        async with a_shell(hosts) as (shell, front, screen):
            await work(shell, front, screen)

    asyncio.run(run())


def test_what_others_changed_is_not_undone(hosts: str) -> None:
    async def work(shell: Shell, front: Recorder, screen: Screen) -> None:
        assert await shell.run("create /a one") == 0
        async with Client(hosts) as other:
            await other.set("/a", b"theirs")
        assert await shell.run("undo") == exits.CONFLICT
        await shell.run("explain")
        assert b"was not undone, as things have changed since" in screen.getvalue()
        assert b"exit code 5" in screen.getvalue()

    in_a_shell(hosts, work)


def test_what_cannot_be_undone_says_why(hosts: str) -> None:
    async def work(shell: Shell, front: Recorder, screen: Screen) -> None:
        async with Client(hosts) as other:
            await other.create("/theirs", mode=Mode.EPHEMERAL)
            assert await shell.run("delete /theirs") == 0
        assert await shell.run("undo") == exits.CONFLICT
        assert "another session's ephemeral" in str(shell.error)
        assert await shell.run("undo") == exits.MISSING

    in_a_shell(hosts, work)


def test_watches_stay_in_the_background(hosts: str) -> None:
    async def work(shell: Shell, front: Recorder, screen: Screen) -> None:
        assert await shell.run("create /a x") == 0
        assert await shell.run("-o json events /a &") == 0
        assert await shell.run("events --once a &") == 0
        await front.until(lambda: sum("watching" in line for line in front.noted) == 2)
        assert await shell.run("set /a y") == 0
        await front.until(lambda: len(front.said) == 2)
        assert json.dumps({"type": "CHANGED", "path": "/a"}) in front.said
        assert "CHANGED\t/a" in front.said
        await front.until(lambda: any("[2] events --once a & has ended" in line for line in front.noted))
        await shell.run("jobs")
        assert b"[1] -o json events /a &\n" in screen.getvalue()
        assert await shell.run("events /nope/nope/.. &") == 0
        assert await shell.run("unwatch /a") == 0
        assert await shell.run("unwatch 1") == exits.MISSING
        assert await shell.run("fails &") == 0
        await front.until(lambda: any("has ended with exit code 1" in line for line in front.noted))
        assert any("ZeroDivisionError" in line for line in front.noted)
        assert await shell.run("unwatch") == 0
        assert await shell.run("jobs") == 0

    in_a_shell(hosts, work)


def test_watches_of_the_java_shell(hosts: str) -> None:
    async def work(shell: Shell, front: Recorder, screen: Screen) -> None:
        for line in (
            "create /a x",
            "getAcl /a",
            "stat -w /a",
            "get -w /a",
            "addWatch -m PERSISTENT /a",
            "addWatch -m persistent /a",
        ):
            assert await shell.run(line) == 0
        assert await shell.run("set /a y") == 0
        await front.until(lambda: len(front.said) == 2)
        assert all("type:NodeDataChanged path:/a" in line for line in front.said)
        assert await shell.run("printwatches off") == 0
        assert await shell.run("set /a z") == 0
        assert await shell.run("printwatches on") == 0
        assert await shell.run("unwatch /a") == 0
        assert await shell.run("get -w /nope") == exits.MISSING
        assert await shell.run("ls -w /a") == 0
        assert await shell.run("unwatch") == 0
        assert await shell.run("create /a/b") == 0
        assert len(front.said) == 3
        assert "PersistentWatchRemoved" in front.said[-1]

    in_a_shell(hosts, work)


def test_ctrl_c_ends_the_command_and_not_the_shell(hosts: str) -> None:
    async def work(shell: Shell, front: Recorder, screen: Screen) -> None:
        for line in ("hangs", "get / | sleep 100"):
            screen.written.clear()
            running = asyncio.ensure_future(shell.run(line))
            if line == "hangs":
                await screen.written.wait()
            else:
                await asyncio.sleep(0)
            front.cancel()
            assert await running == exits.INTERRUPTED
        assert await shell.run("pwd") == 0
        hanging = asyncio.ensure_future(shell.run("hangs"))
        await asyncio.sleep(0)
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging

    in_a_shell(hosts, work)


@asynccontextmanager
async def relay(host: str, port: int) -> AsyncIterator[tuple[str, Callable[[], None]]]:
    """A way to a server that can be cut; the address, and what cuts it."""
    open_now: list[asyncio.StreamWriter] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, port)
        open_now.extend((writer, back))
        await asyncio.gather(pump(reader, back), pump(there, writer))

    def cut() -> None:
        for writer in open_now:
            writer.transport.abort()
        open_now.clear()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield "127.0.0.1:{1}".format(*server.sockets[0].getsockname()), cut
        cut()


def test_the_prompt_and_what_becomes_of_the_connection(hosts: str) -> None:
    async def work() -> None:
        address, _, root = hosts.partition("/")
        host, _, port = address.rpartition(":")
        async with relay(host, int(port)) as (way, cut), a_shell(f"{way}/{root}") as (shell, front, _):
            assert shell.prompt == f"{way}(standalone) / > "
            cut()
            await front.until(lambda: any(f"connected to {way}" in line for line in front.noted))
            assert "the connection is lost" in front.noted[0]
            assert front.refreshed
            assert await shell.run("cd /") == 0
            await shell.close()
            assert shell.prompt == "not connected / > "

    asyncio.run(work())


@pytest.mark.parametrize(
    ("state", "was", "said"),
    [
        (State.SUSPENDED, State.CONNECTED, "the connection is lost (why); looking for another server"),
        (State.CONNECTED, State.SUSPENDED, "connected to h:1"),
        (State.CONNECTED, State.CONNECTING, "connected to h:1, with a new session"),
        (State.READ_ONLY, State.SUSPENDED, "connected to h:1, which has lost its quorum and only reads"),
        (State.EXPIRED, State.SUSPENDED, "the session has expired: its ephemerals and watches are gone"),
        (State.AUTH_FAILED, State.CONNECTED, "the server has refused the credentials; connect begins anew"),
        (State.CLOSED, State.CONNECTED, ""),
    ],
)
def test_changes_in_words(state: State, was: State, said: str) -> None:
    assert told_change(StateChange(state, was, "h:1", "why")) == said


@pytest.mark.parametrize("server", ["", "127.0.0.1:1", "nonsense:port"])
def test_a_server_without_a_role(server: str) -> None:
    assert asyncio.run(role_of(server)) == ""


def test_offers(hosts: str) -> None:
    async def work(shell: Shell, front: Recorder, screen: Screen) -> None:
        for line in ("create /apple", "create /apricot", "create '/pear tree'", "create /apple/core"):
            assert await shell.run(line) == 0

        async def offered(text: str) -> list[str]:
            return [one.text for one in await shell.offers.at(text)]

        assert await offered("pw") == ["pwd"]
        assert {"get", "getAcl", "getEphemerals"} <= set(await offered("get"))
        assert await offered("help unw") == ["unwatch"]
        assert await offered("get /ap") == ["/apple", "/apricot"]
        assert await offered("get pe") == ["'pear tree'"]
        assert await offered("get '/pe") == ["'/pear tree'"]
        assert await offered("get /nowhere/x") == []
        assert "-w" in await offered("get -")
        assert "--output" in await offered("get --o")
        assert await offered("cd -") == []
        assert await offered("get --out") == ["--output"]
        assert await shell.run("cd /apple") == 0
        assert [one.shown for one in await shell.offers.at("get ")] == ["core"]
        await shell.run("create /apple/seed")
        assert await offered("get ") == ["core"], "for a moment it is shown again"
        await shell.close()
        assert await offered("get /new/") == []

    in_a_shell(hosts, work)
