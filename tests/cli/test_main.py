"""`coati COMMAND`: finding commands, usage, exit codes."""

from __future__ import annotations

import gc
import re
import subprocess
import sys

import pytest

from coati import __version__
from coati.cli.command import Command
from coati.cli.main import find, main, process, split
from coati.cli.table import GROUPS, Entry, commands
from tests.cli import kit


@pytest.mark.parametrize("argument", ["-h", "--help", "help"])
def test_help_names_the_commands(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([argument]) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: coati ")
    assert re.search(r"\n  serve +run a server\n", out)


@pytest.mark.parametrize("argument", ["-V", "--version", "version"])
def test_version(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([argument]) == 0
    assert capsys.readouterr().out == f"coati {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["no-such-command"], ["--nonsense"], ["--"], [""]])
def test_anything_else_is_a_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "usage: coati " in captured.err
    assert ("there is no command" in captured.err) == bool(arguments and arguments[0])


def test_wrong_command_is_shown_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["a\x1b[2J\nb"]) == 2
    assert capsys.readouterr().err.splitlines()[0] == "coati: there is no command 'a\\x1b[2J\\nb'"


def test_arguments_go_to_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `main`'s own argument they are those of the process."""
    monkeypatch.setattr(sys, "argv", ["coati", "version"])
    assert main() == 0
    monkeypatch.setitem(GROUPS["tools"], "testing", Entry("tests.cli.probe:main", "for a test"))
    assert main(["testing", "1", "two"]) == 42


def test_a_process_ends_without_looking_for_cycles(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen: list[bool] = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(True))
    monkeypatch.setitem(GROUPS["tools"], "testing", Entry("tests.cli.probe:main", "for a test"))
    monkeypatch.setattr(sys, "argv", ["coati", "testing", "1", "two"])
    assert (process(), frozen) == (42, [True])


def test_flags_may_stand_before_the_command() -> None:
    assert split(["-s", "h:1", "-q", "--output=json", "get", "-s", "x"]) == (
        ["--server", "h:1", "--quiet", "--output=json"],
        ["get", "-s", "x"],
    )
    assert split(["-s=h:1", "-o", "json", "--context", "c", "ls"]) == (
        ["--server=h:1", "--output", "json", "--context", "c"],
        ["ls"],
    )
    assert split(["-s"]) == ([], ["-s"])


def test_a_name_that_is_nearly_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serv"]) == 2
    assert "is it 'serve' you mean?" in capsys.readouterr().err


def test_every_command_is_there_and_has_help() -> None:
    for name in commands():
        if isinstance(find(name), Command):
            done = kit.run(name, "--help")
            assert (done.code, f"coati {name}" in done.text) == (0, True), done.err


@pytest.mark.parametrize("name", ["serve", "bench", "get"])
def test_help_of_a_process(name: str) -> None:
    done = subprocess.run([sys.executable, "-m", "coati", name, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"coati {name}" in done.stdout
