"""`coati serve`: flags, files and properties become one configuration; what is wrong is said in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TextIO

import pytest

from coati.cli import serve
from coati.server.config import ServerConfig


class Started:
    """Stands in for the server: keeps what it was started with."""

    def __init__(self) -> None:
        self.config = ServerConfig()
        self.log_level = ""

    def run(self, config: ServerConfig, stream: TextIO, *, log_level: str, on_serving: object) -> int:
        assert stream is sys.stderr
        assert callable(on_serving)
        on_serving("127.0.0.1:2181")
        self.config = config
        self.log_level = log_level
        return 7


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    made = Started()
    monkeypatch.setattr(serve, "run", made.run)
    return made


def test_without_arguments_the_server_is_for_this_machine(started: Started, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve.main([]) == 7
    config = started.config
    assert (config.client_address, config.client_port, config.data_dir) == ("127.0.0.1", 2181, "coati-data")
    assert started.log_level == "info"
    assert capsys.readouterr().err == ""


def test_flags_and_properties(started: Started, tmp_path: Path) -> None:
    cfg = tmp_path / "zoo.cfg"
    cfg.write_text("dataDir=/from/the/file\nclientPort=1\ntickTime=100\n")
    arguments = ["--data-dir", "/from/a/flag", "--client-port", "0", "--host", "::1", "--set", "tickTime=200"]
    arguments += ["--set", "dataDir=/less", "-Dzookeeper.snapCount=55", "-D", "zookeeper.skipACL = yes", "-Dempty"]
    assert serve.main([*arguments, "--log-level", "debug", str(cfg)]) == 7
    config = started.config
    assert (config.data_dir, config.client_port, config.client_address) == ("/from/a/flag", 0, "::1")
    assert (config.tick_time_ms, config.snap_count, config.skip_acl) == (200, 55, True)
    assert config.warnings == ["keys without effect: empty (unknown)"]
    assert started.log_level == "debug"


def test_port_is_a_shorter_name(started: Started) -> None:
    assert serve.main(["--port", "5"]) == 7
    assert started.config.client_port == 5


def test_hint_says_what_to_try(started: Started, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve.main(["--hint"]) == 7
    hint = capsys.readouterr().err
    assert "coati -s 127.0.0.1:2181 sh " in hint
    assert "echo srvr | nc 127.0.0.1 2181" in hint
    assert "zkCli.sh -server 127.0.0.1:2181" in hint
    assert 'Client("127.0.0.1:2181")' in hint
    assert f"its data stays in {os.getcwd()}/coati-data." in hint


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--client-port", "x"], 'coati serve: --client-port: clientPort: "x" is not a whole number'),
        (["--client-port", ""], 'coati serve: --client-port: clientPort: "" is not a whole number'),
        (["--set", "tickTime=0"], "coati serve: tickTime is not set"),
        (["--set", "tickTime"], 'coati serve: --set: tickTime: "" is not a whole number'),
        (["/no/such/file"], "coati serve: cannot read /no/such/file: No such file or directory"),
        (["--data-dir", ""], "coati serve: dataDir is not set"),
    ],
)
def test_wrong_values_are_said_in_one_line(
    started: Started, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert serve.main(arguments) == 2
    assert capsys.readouterr().err == f"{message}\n"


@pytest.mark.parametrize(
    "arguments", [["--no-such-flag"], ["--data-dir"], ["a", "b"], ["--log-level", "loud"], ["--da", "x"]]
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        serve.main(arguments)
    assert caught.value.code == 2
    assert "usage: coati serve" in capsys.readouterr().err


def test_wrong_configuration_ends_the_process_with_two(tmp_path: Path) -> None:
    cfg = tmp_path / "zoo.cfg"
    cfg.write_text("dataDir=/x\nclientPort=nope\n")
    done = subprocess.run([sys.executable, "-m", "coati", "serve", str(cfg)], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f'coati serve: {cfg} line 2: clientPort: "nope" is not a whole number\n'
