"""watch and wait: what others do is seen, in order, and once."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

import coati
from coati.cli import exits
from coati.cli.command import Streams, guarded
from coati.cli.main import split
from coati.cli.online import OnlineCall
from coati.cli.watching import WAIT, WATCH
from coati.client.types import Event, EventType
from coati.client.watching import Watch
from tests.cli import kit

LIMIT_S = 30.0
SHOW = "import os,sys; print(os.environ['ZK_EVENT'], os.environ['ZK_PATH'], sys.stdin.read())"


class Out(io.BytesIO):
    """Tells when something was written to it."""

    def __init__(self, heard: asyncio.Event) -> None:
        super().__init__()
        self.heard = heard

    def write(self, data: bytes) -> int:  # type: ignore[override]  # of all buffers it gets bytes
        self.heard.set()
        return super().write(data)


class Err(io.StringIO):
    """As `Out`."""

    def __init__(self, heard: asyncio.Event) -> None:
        super().__init__()
        self.heard = heard

    def write(self, text: str) -> int:
        self.heard.set()
        return super().write(text)


@dataclass
class Run:
    """A command that runs, and another client beside it."""

    out: Out
    err: Err
    task: asyncio.Task[int]

    async def says(self, text: str) -> None:
        """Until it has said that."""
        async with asyncio.timeout(LIMIT_S):
            while text not in self.err.getvalue() + self.out.getvalue().decode():
                assert not self.task.done(), self.err.getvalue()
                self.out.heard.clear()
                await self.out.heard.wait()

    async def end(self) -> int:
        async with asyncio.timeout(LIMIT_S):
            return await self.task


Story = Callable[[Run, coati.Client], Awaitable[object]]


def beside(hosts: str, *argv: str, story: Story, shared: bool = False) -> kit.Done:
    """The command runs while the story does. `shared`: on the story's own session, as in the shell."""

    async def main() -> kit.Done:
        _, (name, *rest) = split(argv)
        command = {"watch": WATCH, "wait": WAIT}[name]
        heard = asyncio.Event()
        out, err = Out(heard), Err(heard)
        async with coati.Client(hosts) as zk:
            options = command.parser().parse_args(["-s", hosts, *rest])
            call = OnlineCall(name, options, Streams(io.BytesIO(), out, err), zk if shared else None)
            run = Run(out, err, asyncio.ensure_future(_coded(call, command.coroutine(call))))
            run.task.add_done_callback(lambda task: heard.set())
            try:
                await story(run, zk)
                code = await run.end()
            finally:
                run.task.cancel()
        return kit.Done(code, out.getvalue(), err.getvalue())

    return asyncio.run(main())


async def _coded(call: OnlineCall, body: Awaitable[int | None]) -> int:
    """The exit code, as `Command.run` finds it."""
    try:
        value = await body
    except Exception as error:
        raised = error

        def fails() -> int | None:
            raise raised

        return guarded(call, fails)
    return guarded(call, lambda: value)


async def changes(run: Run, zk: coati.Client) -> None:
    await run.says("watching /a")
    await zk.create("/a", b"one")
    await run.says("created")
    await zk.set("/a", b"two\n")
    await run.says("changed")
    await zk.create("/a/b", b"")
    await zk.delete("/a/b")
    await zk.delete("/a")
    await run.says("deleted\t/a\n")
    run.task.cancel()


def seen(hosts: str, *argv: str) -> list[str]:
    """The lines of a watch that is cut off."""
    lines: list[str] = []

    async def story(run: Run, zk: coati.Client) -> None:
        await changes(run, zk)
        lines.extend(run.out.getvalue().decode().splitlines())

    with pytest.raises(asyncio.CancelledError):
        beside(hosts, *argv, story=story)
    return lines


def test_events_of_one_znode(hosts: str) -> None:
    assert seen(hosts, "watch", "/a") == [
        "created\t/a", "changed\t/a", "children\t/a", "children\t/a", "deleted\t/a",
    ]  # fmt: skip


def test_events_of_a_tree(hosts: str) -> None:
    assert seen(hosts, "watch", "-R", "/a") == [
        "created\t/a", "changed\t/a", "created\t/a/b", "deleted\t/a/b", "deleted\t/a",
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["json", "jsonl", "yaml"])
def test_events_for_programs(hosts: str, form: str) -> None:
    async def story(run: Run, zk: coati.Client) -> None:
        await run.says("watching /a")
        await zk.create("/a", b"\xff")

    done = beside(hosts, "watch", "/a", "--once", "--data", "-o", form, story=story)
    assert done.code == exits.DONE
    event = json.loads(done.out)
    # Servers before 3.9 do not say the zxid.
    assert event.pop("zxid") != 0
    assert event == {"event": "created", "path": "/a", "data_base64": "/w=="}


def test_events_with_data(hosts: str) -> None:
    async def story(run: Run, zk: coati.Client) -> None:
        await run.says("watching /")
        await zk.create("/a", b"one\ntwo")
        await run.says("created\t/a\tone\\ntwo\n")
        await zk.delete("/a")
        await run.says("\ndeleted\t/a\n")
        run.task.cancel()

    with pytest.raises(asyncio.CancelledError):
        beside(hosts, "watch", "/", "-R", "--data", story=story)


def test_a_command_for_each_event(hosts: str) -> None:
    async def story(run: Run, zk: coati.Client) -> None:
        await run.says("watching /a")
        await zk.create("/a", b"one")
        await run.says("created /a one")
        await zk.delete("/a")

    child = [sys.executable, "-c", SHOW + "; sys.exit(os.environ['ZK_EVENT'] == 'deleted' and 42)"]
    done = beside(hosts, "watch", "/a", "--data", "--", *child, story=story)
    assert (done.code, done.lines) == (42, ["created /a one", "deleted /a "])


@pytest.mark.parametrize(
    ("child", "code"),
    [
        ([sys.executable, "-c", ""], exits.DONE),
        ([sys.executable, "-c", "import os; os.kill(os.getpid(), 15)"], exits.SIGNAL + 15),
        (["/no/such/program"], exits.USAGE),
    ],
)
def test_how_a_command_ends(hosts: str, child: list[str], code: int) -> None:
    async def story(run: Run, zk: coati.Client) -> None:
        await run.says("watching /a")
        await zk.create("/a", b"one")

    assert beside(hosts, "watch", "/a", "--once", "--", *child, story=story).code == code


def test_a_command_does_not_outlive_the_watch(hosts: str) -> None:
    async def story(run: Run, zk: coati.Client) -> None:
        await run.says("watching /a")
        await zk.create("/a", b"one")

    done = beside(
        hosts, "watch", "/a", "--for", "1s", "--", sys.executable, "-c", "import time; time.sleep(60)", story=story
    )
    assert done.code == exits.DONE


async def nothing(run: Run, zk: coati.Client) -> None:
    return None


def test_nothing_happens(hosts: str) -> None:
    done = beside(hosts, "watch", "/a", "--for", "50ms", story=nothing)
    assert (done.code, done.out) == (exits.DONE, b"")
    assert beside(hosts, "watch", "/a", "--once", "--for", "50ms", story=nothing).code == exits.CHECK_FAILED


@pytest.mark.parametrize("argv", [["watch", "/a"], ["wait", "/a", "--exists"]])
def test_the_end_of_the_session_is_told(hosts: str, argv: list[str]) -> None:
    async def story(run: Run, zk: coati.Client) -> None:
        if argv[0] == "watch":
            await run.says("watching")
        else:
            # Answers come in order: its two reads are through after a few of ours.
            for _ in range(5):
                await zk.exists("/a")
        await zk.aclose()

    done = beside(hosts, *argv, story=story, shared=True)
    assert (done.code, done.out) == (exits.LOST, b"")
    assert "session is over" in done.err


def test_a_gap_is_an_event(hosts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gap(Watch):
        async def _next(self) -> Event:
            await super()._next()
            return Event(EventType.RESYNC, "/a", 7)

    monkeypatch.setattr("coati.client.client.Watch", Gap)

    async def story(run: Run, zk: coati.Client) -> None:
        await run.says("watching /a")
        await zk.create("/a")

    done = beside(hosts, "watch", "/a", "--once", "--data", story=story)
    assert (done.code, done.lines) == (exits.DONE, ["resync\t/a"])


@pytest.mark.parametrize("argv", [["watch", "/a"], ["wait", "/a", "--exists"]])
def test_a_request_that_is_not_answered_is_no_end_of_the_time(
    hosts: str, argv: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*args: object) -> int:
        raise coati.OperationTimeout("/a")

    for name in ("_follow", "_until"):
        monkeypatch.setattr(f"coati.cli.watching.{name}", fails)
    assert beside(hosts, *argv, "--for", "1h", story=nothing).code == exits.NO_CONNECTION


def test_what_is_gone_before_it_is_read_has_no_data(hosts: str) -> None:
    async def story(run: Run, zk: coati.Client) -> None:
        await run.says("watching /a")
        async with zk.transaction() as t:
            t.create("/a", b"one")
            t.delete("/a")

    assert beside(hosts, "watch", "/a", "--once", "--data", story=story).lines == ["created\t/a"]


@pytest.mark.parametrize(
    ("argv", "paths"),
    [
        (["--exists"], ["/a"]),
        (["--value", "x"], ["/a"]),
        (["--children", "2"], ["/a", "/a/1", "/a/2", "/a/3"]),
    ],
)
def test_waiting_ends_when_it_is_so(hosts: str, argv: list[str], paths: list[str]) -> None:
    async def story(run: Run, zk: coati.Client) -> None:
        await zk.exists("/a")
        assert not run.task.done()
        for path in paths:
            await zk.create(path, b"x")

    done = beside(hosts, "wait", "/a", *argv, story=story)
    assert (done.code, done.out, done.err) == (exits.DONE, b"", "")


def test_waiting_for_what_is_so_already(hosts: str, cli: kit.Cli) -> None:
    assert cli("wait", "/", "--exists").code == exits.DONE
    assert cli("wait", "/a", "--gone").code == exits.DONE
    assert cli("wait", "/", "--value", "-").code == exits.DONE
    assert cli("wait", "/", "--children", "0").code == exits.DONE


@pytest.mark.parametrize("argv", [["--gone"], ["--value", "y"], ["--children", "1"]])
def test_waiting_ends_in_time(cli: kit.Cli, argv: list[str]) -> None:
    done = cli("wait", "/", *argv, "--for", "20ms")
    assert (done.code, done.out) == (exits.CHECK_FAILED, b"")
    assert "/ is not yet what is waited for" in done.err


def test_nothing_to_wait_for(cli: kit.Cli) -> None:
    assert cli("wait", "/").code == exits.USAGE
    assert cli("wait", "/", "--exists", "--gone").code == exits.USAGE


@pytest.mark.parametrize("command", ["watch", "wait"])
def test_help_shows_examples(command: str) -> None:
    done = kit.run(command, "--help")
    assert done.code == exits.DONE
    assert f"examples:\n  coati {command} " in done.text
