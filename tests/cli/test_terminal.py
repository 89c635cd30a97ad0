"""`coati sh` in a real terminal: editing, completion, history, lines above the prompt, a pasted page."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coati.sync import Client
from tests.cli.tmux import Terminal, terminal

pytestmark = pytest.mark.interop


@pytest.fixture
def environ(hosts: str, tmp_path: Path) -> dict[str, str]:
    return {
        "XDG_STATE_HOME": str(tmp_path / "state"), "COATI_CONFIG": os.devnull, "COATI_HOSTS": hosts, "TERM": "screen",
        "PYTHONPATH": os.pathsep.join(sys.path), "LC_ALL": "C.UTF-8",
    }  # fmt: skip


@pytest.fixture
def pane(environ: dict[str, str], hosts: str) -> Iterator[Terminal]:
    """The shell, ready for a line."""
    with terminal(f"{sys.executable} -m coati sh; echo left $?; exec cat", environ) as pane:
        pane.until(lambda lines: lines and lines[-1] == f"{where(hosts)} / >", "the prompt")
        yield pane


def where(hosts: str) -> str:
    return f"{hosts.partition('/')[0]}(standalone)"


def menu(lines: list[str]) -> list[str]:
    """The line that is typed, and what is offered below it."""
    return [line.partition(" > ")[2] or line.strip() for line in lines[-3:]]


def at_prompt(line: str) -> Callable[[list[str]], bool]:
    """The last line of the screen is the prompt with this behind it."""
    return lambda lines: bool(lines) and lines[-1].endswith(f" > {line}".rstrip())


def edits_and_completes(pane: Terminal) -> None:
    """In the middle of a line; by Tab."""
    # Editing: in the middle of the line.
    pane.type("gt /apple")
    pane.keys("Home", "Right")
    pane.type("e")
    pane.until(at_prompt("get /apple"), "the edited line")
    pane.keys("Enter")
    pane.until(lambda lines: lines[-2:-1] == ["red"] and at_prompt("")(lines), "the data, and the prompt")
    # Completion: the one that fits, of several what they share, then a menu.
    pane.type("explai")
    pane.keys("Tab")
    pane.until(at_prompt("explain"), "the completed command")
    pane.keys("C-u")
    pane.type("get /apr")
    pane.keys("Tab")
    pane.until(at_prompt("get /apricot"), "the completed path")
    pane.keys("Enter")
    pane.until(lambda lines: "orange" in lines and at_prompt("")(lines), "its data")
    pane.type("get /")
    pane.keys("Tab")
    pane.until(lambda lines: menu(lines) == ["get /ap", "apple", "apricot"], "what both begin with, and a menu")
    pane.keys("Tab")
    pane.until(lambda lines: menu(lines) == ["get /apple", "apple", "apricot"], "the first of the menu")
    pane.keys("C-c")
    pane.until(at_prompt(""), "an empty line after Ctrl-C")


def finds_lines_again(pane: Terminal) -> None:
    """By the arrow and by search; nobody keeps a password."""
    # History: up, and searched.
    pane.keys("Up", "Up")
    pane.until(at_prompt("get /apple"), "the line before the last")
    pane.keys("C-c")
    pane.until(at_prompt(""), "an empty line")
    pane.keys("C-r")
    pane.type("apri")
    pane.until(lambda lines: "(reverse-i-search)`apri': get /apricot" in lines[-1], "the line that was searched for")
    pane.keys("Enter")
    pane.until(at_prompt("get /apricot"), "it, to be run")
    pane.keys("C-u")
    # Nobody keeps a password.
    pane.type("addauth digest alice:secret")
    pane.keys("Enter")
    pane.until(at_prompt(""), "the prompt")
    pane.keys("Up")
    pane.until(at_prompt("get /apricot"), "the last line without a secret")
    pane.keys("C-u")


def sees_events(pane: Terminal, zk: Client) -> None:
    """While a line is typed, which stays whole; Ctrl-C ends what runs, but not the shell."""
    # An event comes while a line is typed; the line stays whole.
    pane.type("addWatch /apple")
    pane.keys("Enter")
    pane.until(at_prompt(""), "the prompt")
    pane.type("get /apri")
    pane.until(at_prompt("get /apri"), "the half line")
    zk.set("/apple", b"green")
    event = "WatchedEvent state:SyncConnected type:NodeDataChanged path:/apple"
    pane.until(
        lambda lines: lines[-2].startswith(event) and at_prompt("get /apri")(lines), "the event above the half line"
    )
    pane.type("cot")
    pane.keys("Enter")
    pane.until(lambda lines: lines[-2:-1] == ["orange"] and at_prompt("")(lines), "the whole line's data")
    # Ctrl-C ends what runs, and what it runs through, but not the shell.
    pane.type("get /apple | sh -c 'echo paged; exec sleep 1000'")
    pane.keys("Enter")
    pane.until(lambda lines: lines[-1] == "paged", "the pager")
    pane.keys("C-c")
    pane.until(at_prompt(""), "the prompt")


def test_a_session_of_a_person(pane: Terminal, hosts: str, environ: dict[str, str]) -> None:
    with Client(hosts) as zk:
        zk.create("/apple", b"red")
        zk.create("/apricot", b"orange")
        edits_and_completes(pane)
        finds_lines_again(pane)
        sees_events(pane, zk)
        pane.keys("C-d")
        pane.until(lambda lines: "left 130" in lines, "the end, with the last line's code")
    kept = (Path(environ["XDG_STATE_HOME"]) / "coati" / "history").read_text()
    assert kept.splitlines()[:2] == ["get /apple", "get /apricot"]
    assert "secret" not in kept


PAGE = """\
create /app "first version"
create -e /app/lock me
create -s /app/item- one
ls -s /app
get -s /app
setAcl /app world:anyone:cdrwa
getAcl /app
setquota -n 100 /app
listquota /app
set -v 0 /app second
get -w /app
set /app third
deleteall /app
ls -s /app
"""


def test_a_page_of_the_java_shell(pane: Terminal, hosts: str, environ: dict[str, str]) -> None:
    pane.paste(PAGE)
    pane.until(lambda lines: any(line.endswith("ls -s /app") for line in lines), "the page")
    pane.keys("Enter")
    pane.until(lambda lines: "Node does not exist: /app" in lines and at_prompt("")(lines), "the end of the page")
    lines = pane.screen()
    echoed = [line.partition(" > ")[2] for line in lines if line.startswith(where(hosts)) and " > " in line]
    assert [line for line in PAGE.splitlines() if line not in echoed] == []
    for said in ("dataVersion = 0", "'world,'anyone", ": cdrwa", "second", "[item-0000000001, lock]"):
        assert said in lines, said
    assert any(line.startswith("Output quota for /app count=100,bytes=-1") for line in lines)
    pane.until(lambda lines: any("type:NodeDataChanged path:/app" in line for line in lines), "the event")
    # All of its lines are in the history, each by itself.
    pane.keys("Up", "Up")
    pane.until(at_prompt("deleteall /app"), "the last but one")
    pane.keys("C-c")
    pane.type("quit")
    pane.keys("Enter")
    pane.until(lambda lines: "left 0" in lines, "the end")
