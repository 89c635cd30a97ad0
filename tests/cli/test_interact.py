"""The parts of the terminal that need none: history, menu, and the loop on a pipe."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from coati.cli import exits, terminal
from coati.cli.command import Streams
from coati.cli.offers import Offer, Offers
from coati.cli.online import OnlineCall
from coati.cli.sh import SH
from coati.cli.terminal import FileHistory, Menu, Screen, interact
from coati.errors import OperationTimeout
from tests.cli import kit


def loaded(history: FileHistory) -> list[str]:
    return list(history.load_history_strings())


def test_history_is_a_file_of_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "state" / "coati" / "history"
    history = FileHistory(path)
    assert loaded(history) == []
    for line in ("get /a", " get /hidden", "addauth digest a:b", "", "one\ntwo\n"):
        history.append_string(line)
    assert path.read_text() == "get /a\none\ntwo\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert loaded(FileHistory(path)) == ["two", "one", "get /a"]
    assert history.get_strings() == ["get /a", "one", "two"]


def test_the_oldest_lines_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "LINES_KEPT", 3)
    path = tmp_path / "history"
    path.write_text("".join(f"{number}\n" for number in range(6)))
    history = FileHistory(path)
    history.trim()
    assert len(path.read_text().splitlines()) == 6
    assert loaded(history) == ["5", "4", "3"]
    history.append_string("6")
    history.trim()
    assert path.read_text() == "4\n5\n6\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_history_that_cannot_be_kept() -> None:
    history = FileHistory(Path("/proc/none/history"))
    history.append_string("get /a")
    history.trim()
    assert history.get_strings() == ["get /a"]


def typed(hosts: str, text: str, *, is_java: bool = False, timeout: str = "20") -> tuple[int, str]:
    """What is typed into a shell of a terminal; its exit code, and what its commands wrote."""
    out = io.BytesIO()
    options = SH.parser().parse_args(["-s", hosts, "--timeout", timeout])
    err = io.TextIOWrapper(out, write_through=True)
    call = SH.call(options, Streams(io.BytesIO(), out, err, is_terminal=True, is_asked=True))
    assert isinstance(call, OnlineCall)

    async def run() -> int:
        with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
            keys.send_text(text)
            return await interact(call, is_java=is_java)

    return asyncio.run(run()), out.getvalue().decode()


@pytest.fixture(autouse=True)
def own_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


PASTE = "\x1b[200~{}\x1b[201~\r"


def test_lines_until_the_end(hosts: str, tmp_path: Path) -> None:
    assert typed(hosts, "pwd\rget /nope\r\x04")[0] == exits.MISSING
    code, said = typed(hosts, "half a line\x03\rpwd\rquit\r")
    assert (code, said) == (0, "/\n")
    assert (tmp_path / "state/coati/history").read_text() == "pwd\nget /nope\npwd\nquit\n"


def test_a_pasted_page_runs_line_by_line(hosts: str) -> None:
    code, said = typed(hosts, PASTE.format("create /a x\n\nls /\nquit\npwd\n"), is_java=True)
    assert code == 0
    assert [line.partition(" > ")[2] or line for line in said.splitlines()] == [
        "create /a x", "Created /a", "ls /", "[a]", "quit",
    ]  # fmt: skip


def test_no_server_no_prompt() -> None:
    with pytest.raises(OperationTimeout, match="cannot be reached"):
        typed("127.0.0.1:1", "pwd\r", timeout="0.2")


class OneOffer:
    """What Menu asks."""

    async def at(self, text: str) -> list[Offer]:
        return [Offer("'/a b'", 4, "a b")]


def test_the_menu() -> None:
    async def run() -> None:
        menu = Menu(cast("Offers", OneOffer()))
        document = Document("get /a")
        assert list(menu.get_completions(document, CompleteEvent())) == []
        (one,) = [one async for one in menu.get_completions_async(document, CompleteEvent())]
        assert (one.text, one.start_position, one.display_text) == ("'/a b'", -2, "a b")

    asyncio.run(run())


def test_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    screen.say("an event")
    screen.note("a note")
    screen.refresh()
    assert capsys.readouterr().out == "an event\n* a note\n"

    async def run() -> bool:
        pressed = asyncio.Event()
        with screen.interrupts(pressed.set):
            os.kill(os.getpid(), signal.SIGINT)
            async with asyncio.timeout(30):
                return await pressed.wait()

    assert asyncio.run(run())


def test_without_prompt_toolkit_it_says_what_is_missing() -> None:
    script = "import sys; sys.modules['prompt_toolkit'] = None; import coati.cli.terminal"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "pip install 'coati[cli]'" in done.stderr


def test_a_terminal_gets_the_terminal_s_shell(hosts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def asked(call: OnlineCall, *, is_java: bool) -> int:
        return 40 + is_java

    monkeypatch.setattr(terminal, "interact", asked)
    assert kit.run("-s", hosts, "sh", "--java", is_terminal=True, is_asked=True).code == 41
    assert kit.run("-s", hosts, "sh", is_terminal=True, is_asked=False, stdin=b"pwd\n").out == b"/\n"
