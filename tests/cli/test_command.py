"""What every command has: flags, forms of output, errors, exit codes, questions."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from coati.cli import exits
from coati.cli.command import Call, Command, Parser, Streams
from coati.cli.online import OnlineCall, OnlineCommand
from coati.cli.table import commands
from tests.cli import kit


def test_data_is_the_bytes_and_nothing_else(cli: kit.Cli) -> None:
    done = cli("get", "/")
    assert (done.code, done.out, done.err) == (exits.DONE, b"", "")
    assert json.loads(cli("-o", "json", "get", "/").out) == {"path": "/", "data": ""}


def test_what_is_not_there_has_a_code_of_its_own(cli: kit.Cli) -> None:
    done = cli("get", "/nowhere")
    assert (done.code, done.out) == (exits.MISSING, b"")
    assert "get /nowhere: NoNode" in done.err


def test_nobody_listens() -> None:
    done = kit.run("-s", "127.0.0.1:1", "--timeout", "0.2", "get", "/")
    assert (done.code, done.out) == (exits.NO_CONNECTION, b"")
    assert "127.0.0.1:1 cannot be reached" in done.err


@pytest.mark.parametrize(
    ("text", "tells"),
    [
        ("no toml", "cannot be read"),
        ('[context.far]\nhosts = "h:1"\npassword = "x"\n', "sets 'password'"),
        ("", "has no context 'far'"),
    ],
)
def test_a_context_that_cannot_be_used(text: str, tells: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(text)
    done = kit.run("--context", "far", "get", "/")
    assert done.code == exits.USAGE
    assert tells in done.err


def test_flags_go_before_variables_and_these_before_the_context(
    cli: kit.Cli, hosts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text(f'current = "near"\n[context.near]\nhosts = "{hosts}"\n')
    assert kit.run("get", "/").code == exits.DONE
    monkeypatch.setenv("COATI_HOSTS", f"{hosts}/nowhere")
    assert kit.run("get", "/").code == exits.MISSING
    assert cli("get", "/").code == exits.DONE


@pytest.mark.parametrize("auth", ["digest:user:secret", "digest:", "digest:user", "digest:@/nowhere"])
def test_a_password_is_no_argument(auth: str, cli: kit.Cli) -> None:
    done = cli("--auth", auth, "get", "/")
    assert done.code == exits.USAGE
    assert "secret" not in done.err


def test_a_timeout_that_is_none(cli: kit.Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("--timeout", "0", "get", "/").code == exits.USAGE
    monkeypatch.setenv("COATI_TIMEOUT", "soon")
    assert cli("get", "/").code == exits.USAGE


def test_a_path_is_seen_from_where_the_shell_stands() -> None:
    call = Call("get", argparse.Namespace(), Streams.standard(), cwd="/a/b")
    assert [call.path(given) for given in ("c", ".", "..", "../../..", "/x//y/", "")] == [
        "/a/b/c", "/a/b", "/a", "/", "/x/y", "/a/b",
    ]  # fmt: skip


def test_a_fault_of_ours_is_called_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(call: Call) -> int:
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(kit, "find", lambda name: Command("broken", lambda parser: None, fails))
    done = kit.run("broken")
    assert done.code == exits.BUG
    assert "please report it" in done.err


def test_a_process_without_standard_files(hosts: str) -> None:
    """Closed by its parent; the data go nowhere, and not into the socket."""
    command = [sys.executable, "-m", "coati", "-s", hosts, "get", "/"]
    done = subprocess.run(["sh", "-c", f"{shlex.join(command)} <&- >&- 2>&-"], capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_disk_that_is_full_is_told_once(hosts: str) -> None:
    command = [sys.executable, "-m", "coati", "-s", hosts, "count", "/"]
    done = subprocess.run(["sh", "-c", f"{shlex.join(command)} > /dev/full"], capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr == "coati count: [Errno 28] No space left on device\n"


@pytest.mark.parametrize(
    ("answer", "is_asked", "flags", "code"),
    [
        (b"y\n", True, [], exits.DONE),
        (b"\n", True, [], exits.REFUSED),
        (b"y\n", False, [], exits.REFUSED),
        (b"", False, ["--yes"], exits.DONE),
    ],
)
def test_what_destroys_asks_first(
    answer: bytes, is_asked: bool, flags: list[str], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def destroys(call: Call) -> None:
        call.confirm((f"line {number}" for number in range(30)), "Really?")
        call.out.text("gone")

    def flags_of(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--yes", action="store_true")

    command = Command("destroy", flags_of, destroys)
    monkeypatch.setattr(kit, "find", lambda name: command)
    done = kit.run("destroy", *flags, stdin=answer, is_asked=is_asked)
    assert done.code == code
    assert (done.out == b"gone\n") == (code == exits.DONE)
    if not flags:
        assert "line 19\n... and 10 more\n" in done.err
        assert "Really?" in done.err


def test_a_letter_of_a_command_goes_before_the_common_one() -> None:
    """`coati -s HOSTS create -s /q`: the first is the server."""

    def flags_of(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("-s", "--sequential", action="store_true")

    async def body(call: OnlineCall) -> None:
        raise AssertionError("only its flags are asked")

    options = OnlineCommand("create", flags_of, body).parser().parse_args(["--server", "h:1", "-s"])
    assert (options.server, options.sequential) == ("h:1", True)


def test_every_command_has_a_line_about_it() -> None:
    assert [name for name, entry in commands().items() if not entry.summary or entry.summary.endswith(".")] == []


@pytest.mark.parametrize(
    ("argv", "words", "child"),
    [
        (["a", "-x", "b"], ["a", "b"], []),
        (["-x", "a", "--", "b", "-x", "--", "c"], ["a"], ["b", "-x", "--", "c"]),
        (["-x", "--"], [], []),
    ],
)
def test_flags_stand_anywhere_and_behind_two_dashes_is_a_command(
    argv: list[str], words: list[str], child: list[str]
) -> None:
    parser = Parser()
    parser.add_argument("words", nargs="*")
    parser.add_argument("-x", action="store_true")
    parser.set_defaults(child=[])
    options = parser.parse_args(argv)
    assert (options.words, options.x, options.child) == (words, True, child)


def test_behind_two_dashes_nothing_is_a_flag() -> None:
    parser = Parser()
    parser.add_argument("word")
    parser.add_argument("more", nargs="?")
    parser.add_argument("-x", action="store_true")
    for argv, found in ((["-x", "--", "-a", "-x"], ("-a", "-x", True)), (["--", "-x"], ("-x", None, False))):
        options = parser.parse_args(argv)
        assert (options.word, options.more, options.x) == found


def test_commands_of_commands_keep_their_flags() -> None:
    parser = Parser()
    below = parser.add_subparsers(dest="what")
    below.add_parser("add").add_argument("-x", action="store_true")
    options = parser.parse_args(["add", "-x"])
    assert (options.what, options.x) == ("add", True)
