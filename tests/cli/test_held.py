"""lock, elect, sem: the child, its exit code and its signals; and that nobody else is ever there at the same time."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

import coati
from coati.cli import exits
from coati.sync import Client as SyncClient
from tests.cli import contest, kit
from tests.cli.beside import beside
from tests.interop.peers import Server, eventually
from tests.recipes.livekit import until_queued
from tests.recipes.lossy import Wire, wire

SESSION_S = 2.0
DEADLINE_S = 20.0


def sh(script: str) -> list[str]:
    return ["--", "sh", "-c", script]


@pytest.mark.parametrize(
    "command", [["lock", "/l"], ["elect", "/l", "--id", "me"], ["sem", "/l", "-n", "2"], ["lock", "/l", "--shared"]]
)
def test_a_command_runs_while_it_is_held(command: list[str], cli: kit.Cli, hosts: str, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    script = f'echo "$ZK_FENCE $ZK_LOCK_PATH $ZK_LOCK_NODE" > {notes}; exit 3'
    done = cli(*command, *sh(script))
    assert (done.code, done.out, done.err) == (3, b"", "")
    fence, path, node = notes.read_text().split()
    assert path == "/l"
    assert node.startswith("/l/")
    with SyncClient(hosts) as zk:
        # It is given back, and the next one has a larger token.
        assert cli(*command, *sh(script)).code == 3
        assert int(notes.read_text().split()[0]) > int(fence)
        assert zk.exists(node) is None


def test_the_fence_is_the_czxid_of_the_znode_that_is_held(cli: kit.Cli, hosts: str, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    told = f"echo $FENCE > {seen}; echo $ZK_LOCK_NODE >> {seen}; read x < {tmp_path}/go"
    os.mkfifo(tmp_path / "go")
    with running(hosts, "lock", "/l", "--fence-env", "FENCE", *sh(told)) as process, SyncClient(hosts) as zk:
        eventually(lambda: seen.exists() and len(seen.read_text().split()) == 2, "the child is there")
        fence, node = seen.read_text().split()
        stat = zk.exists(node)
        assert stat is not None
        assert stat.czxid == int(fence)
        assert cli("lock", "/l", "--wait", "0", *sh("exit 1")).code == exits.CHECK_FAILED
        done = cli("lock", "/l", "--wait", "0.05", *sh("exit 1"))
        assert (done.code, done.err) == (exits.CHECK_FAILED, "coati lock: /l was not free within 0.05 s\n")
        # Who did not get it has left no place in the line behind.
        eventually(lambda: zk.children("/l") == [node.removeprefix("/l/")], "nobody waits")
        (tmp_path / "go").write_text("x\n")
        assert process.wait(DEADLINE_S) == 0


def test_places_are_so_many(cli: kit.Cli, hosts: str) -> None:
    with SyncClient(hosts) as zk, zk.semaphore("/s", 2), zk.semaphore("/s", 2):
        assert cli("sem", "/s", "-n", "2", "--wait", "0", "--", "true").code == exits.CHECK_FAILED
        assert cli("sem", "/s", "-n", "3", "--wait", "9", "--", "true").code == exits.DONE
    assert cli("sem", "/s", "-n", "0", "--", "true").code == exits.USAGE


def test_kazoo_s_semaphore_tells_who_reckons_otherwise(cli: kit.Cli) -> None:
    # Java before 3.9 does not tell the token in the answer to the multi that makes the znode.
    assert cli("sem", "/s", "-n", "2", "--layout", "kazoo", *sh('test "$ZK_FENCE" -gt 0')).code == exits.DONE
    done = cli("sem", "/s", "-n", "3", "--layout", "kazoo", "--", "true")
    assert done.code == exits.CONFLICT
    assert "has 2 permits, not 3" in done.err


def test_an_exclusive_lock_has_its_token_whatever_the_server_answers(hosts: str) -> None:
    with SyncClient(hosts) as zk, zk.exclusive_lock("/x") as held:
        stat = zk.exists("/x")
        assert stat is not None
        assert held.token == stat.czxid


def test_readers_keep_a_writer_out(cli: kit.Cli, hosts: str) -> None:
    with SyncClient(hosts) as zk, zk.rwlock("/l").read():
        assert cli("lock", "/l", "--shared", "--wait", "0", "--", "true").code == exits.DONE
        assert cli("lock", "/l", "--exclusive", "--wait", "0", "--", "true").code == exits.CHECK_FAILED


def test_the_layouts_are_those_of_others(cli: kit.Cli, hosts: str) -> None:
    with SyncClient(hosts) as zk, zk.lock("/l", layout="kazoo"):
        assert cli("lock", "/l", "--layout", "kazoo", "--wait", "0", "--", "true").code == exits.CHECK_FAILED


def test_a_child_that_dies_by_a_signal(cli: kit.Cli) -> None:
    assert cli("lock", "/l", *sh("kill -9 $$")).code == exits.SIGNAL + signal.SIGKILL
    assert cli("lock", "/l", "--", "coati-no-such-command").code == 127


@pytest.mark.parametrize(
    "wrong",
    [
        ["lock", "/l"],
        ["lock", "/l", "--wait", "-1", "--", "true"],
        ["lock", "/l", "--grace", "9", "--", "true"],
        ["elect", "/l", "--id", "x", "--wait", "0", "--", "true"],
        ["elect", "/l", "--", "true"],
        ["lock", "/l", "--shared", "--exclusive", "--", "true"],
    ],
)
def test_flags_that_make_no_sense(wrong: list[str], cli: kit.Cli) -> None:
    assert cli(*wrong).code == exits.USAGE


@pytest.mark.parametrize("command", ["lock", "elect", "sem"])
def test_help_has_examples(command: str) -> None:
    done = kit.run(command, "--help")
    assert done.code == exits.DONE
    assert f"  coati {command} " in done.text


def words_of(seen: Path) -> list[str]:
    """What a child says of itself, once it is there."""
    eventually(lambda: seen.exists() and seen.read_text().endswith("\n"), "the child is there")
    return seen.read_text().split()


def test_a_lock_whose_znode_goes_is_lost(cli: kit.Cli, hosts: str, tmp_path: Path) -> None:
    seen = tmp_path / "seen"

    def delete() -> None:
        (node,) = words_of(seen)
        with SyncClient(hosts) as zk:
            zk.delete(node)

    with beside(delete):
        script = f"trap 'exit 0' TERM; echo $ZK_LOCK_NODE > {seen}; while :; do sleep 0.02; done"
        done = cli("-q", "lock", "/l", *sh(script))
    assert done.code == exits.LOST
    assert "what the command relied on was lost, so it was ended: " in done.err
    assert "its znode is gone" in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_the_child_s(number: signal.Signals, cli: kit.Cli, hosts: str, tmp_path: Path) -> None:
    seen = tmp_path / "seen"

    def send() -> None:
        words_of(seen)
        os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with beside(send):
        script = f"trap 'exit 21' INT; trap 'exit 22' TERM; echo > {seen}; while :; do sleep 0.02; done"
        done = cli("lock", "/l", *sh(script))
    assert (done.code, done.err) == ({signal.SIGINT: 21, signal.SIGTERM: 22}[number], "")
    assert signal.getsignal(number) is before
    with SyncClient(hosts) as zk:
        assert zk.children("/l") == []


def test_a_signal_ends_the_wait(cli: kit.Cli, hosts: str) -> None:
    with SyncClient(hosts) as zk, zk.lock("/l"):

        def send() -> None:
            eventually(lambda: len(zk.children("/l")) == 2, "it stands in line")
            os.kill(os.getpid(), signal.SIGTERM)

        with beside(send):
            assert cli("lock", "/l", "--", "true").code == exits.SIGNAL + signal.SIGTERM
        eventually(lambda: len(zk.children("/l")) == 1, "it has left")


def test_in_another_thread_signals_are_somebody_else_s(cli: kit.Cli) -> None:
    done: list[kit.Done] = []
    with beside(lambda: done.append(cli("lock", "/l", *sh("exit 6")))):
        pass
    assert done[0].code == 6


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, exits.SIGNAL + signal.SIGKILL), (signal.SIGSTOP, exits.LOST)]
)
def test_without_its_guardian_the_child_ends_in_time_too(
    number: signal.Signals, code: int, cli: kit.Cli, hosts: str, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"

    def harm() -> None:
        guardian, _, node = words_of(seen)
        os.kill(int(guardian), number)
        if number == signal.SIGSTOP:
            with SyncClient(hosts) as zk:
                zk.delete(node)

    with beside(harm):
        script = f"echo $PPID $$ $ZK_LOCK_NODE > {seen}; while :; do sleep 0.02; done"
        assert cli("lock", "/l", "--session", "1", *sh(script)).code == code
    child = Path("/proc", seen.read_text().split()[1])
    eventually(lambda: not child.exists(), "the child is gone")


def test_two_are_never_there_at_a_time(server: Server, hosts: str, tmp_path: Path) -> None:
    """Whoever holds the lock is killed, or stopped, or cut off; meanwhile somebody else waits."""

    async def scene() -> None:
        async with asyncio.timeout(15), wire(server) as between, asyncio.TaskGroup() as group:
            for fault in ("kill", "stop", "cut"):
                group.create_task(_fault(fault, hosts, between, tmp_path / fault))

    asyncio.run(scene())


async def _fault(fault: str, hosts: str, between: Wire, notes: Path) -> None:
    where = re.sub(r":\d+/", f":{between.port}/", hosts) if fault == "cut" else hosts
    async with coati.Client(hosts) as zk:
        with _ended(contest.contend(where, f"/{fault}", notes, session_s=SESSION_S)) as first:
            await until(lambda: contest.stays(notes))
            with _ended(contest.contend(hosts, f"/{fault}", notes, session_s=SESSION_S)) as second:
                await until_queued(zk, f"/{fault}", 2)
                if fault == "kill":
                    first.kill()
                elif fault == "stop":
                    first.send_signal(signal.SIGSTOP)
                else:
                    between.mute()
                    between.deafen()
                await until(lambda: len(contest.stays(notes)) == 2)
                first.send_signal(signal.SIGCONT)
                ended = await asyncio.to_thread(first.communicate)
                second.kill()
    assert first.returncode == (-signal.SIGKILL if fault == "kill" else exits.LOST), ended
    contest.judge(notes)


async def until(holds: Callable[[], object]) -> None:
    """Asks again and again, for what no event announces."""
    never = asyncio.get_running_loop().create_future()
    while not holds():
        await asyncio.wait([never], timeout=0.02)


@contextmanager
def _ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    with process:
        try:
            yield process
        finally:
            process.kill()


def running(hosts: str, *argv: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """`coati ARGV...` in a process of its own."""
    return _ended(
        subprocess.Popen(
            [sys.executable, "-m", "coati", "-s", hosts, *argv],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
    )  # fmt: skip
