"""`coati _complete` and the scripts around it: what fits is offered, and trouble is silent."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coati.cli import completing
from coati.cli.completing import BUDGET_S, FRESH_S, Server, candidates, complete, flags_of, server_of
from coati.cli.main import main
from coati.cli.places import listings_path
from coati.cli.table import commands
from tests.cli import kit
from tests.interop import peers, raw
from tests.interop.peers import Server as Peer

NAMES = ["apple", "apricot", "pear tree", "ключ"]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CACHE_HOME": str(tmp_path / "cache"), "COATI_CONFIG": str(tmp_path / "config.toml"), "HOME": "/none"}


@pytest.fixture
def fruit(server: Peer, hosts: str) -> str:
    """The test's subtree with children, and its root on the server."""
    root = hosts.partition("/")[2]
    with peers.session(server) as control:
        for name in NAMES:
            assert control.call(raw.CREATE, raw.create(f"/{root}/{name}"))[0] == 0
        assert control.call(raw.CREATE, raw.create(f"/{root}/apple/core"))[0] == 0
        control.close()
    return hosts


def test_commands_come_first(environ: dict[str, str]) -> None:
    assert candidates("coati ", environ) == list(commands())
    assert candidates("sudo /usr/bin/coati -q -s h:1 ge", environ) == ["get"]
    assert "_complete" not in candidates("coati _", environ)
    assert candidates("coati -s ", environ) == []
    assert candidates("coati nonsense /", environ) == []


def test_flags(environ: dict[str, str]) -> None:
    assert candidates("coati get --tls-c", environ) == ["--tls-ca", "--tls-cert"]
    assert flags_of("serve") == []
    # The second time the command is not asked.
    (file,) = Path(environ["XDG_CACHE_HOME"], "coati").glob("flags-*/get")
    file.write_text("--kept\n")
    assert candidates("coati get -", environ) == ["--kept"]


def test_paths_from_flags_variables_and_context(fruit: str, environ: dict[str, str]) -> None:
    assert candidates(f"coati -s {fruit} get /ap", environ) == ["/apple", "/apricot"]
    assert candidates(f"coati get --server={fruit} ", environ) == [f"/{name}" for name in sorted(NAMES)]
    assert candidates("coati get /apple/", {**environ, "COATI_HOSTS": fruit}) == ["/apple/core"]
    assert candidates("coati get '/pear t", {**environ, "COATI_HOSTS": f"zk://{fruit}"}) == ["/pear tree"]
    Path(environ["COATI_CONFIG"]).write_text(f'current = "it"\n[context.it]\nhosts = "127.0.0.1:1,{fruit}"\n')
    assert candidates("coati get /apr", environ) == ["/apricot"]
    assert candidates("coati --context it get /k", environ) == []


def test_credentials_count(server: Peer, environ: dict[str, str]) -> None:
    environ["COATI_HOSTS"] = server.address
    environ["COATI_AUTH"] = "digest:alice:pw"
    assert "/zookeeper" in candidates("coati get /zoo", environ)
    assert not any(b"pw" in file.read_bytes() for file in Path(listings_path(environ)).iterdir())


def test_a_listing_is_shown_again_for_a_moment(fruit: str, server: Peer, environ: dict[str, str]) -> None:
    def listing() -> list[str]:
        return candidates(f"coati -s {fruit} get /apple/", environ)

    assert listing() == ["/apple/core"]
    (file,) = Path(listings_path(environ)).iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    with peers.session(server) as control:
        assert control.call(raw.CREATE, raw.create(f"/{fruit.partition('/')[2]}/apple/seed"))[0] == 0
        control.close()
    os.utime(file, (time.time() + 60, time.time() + 60))
    assert listing() == ["/apple/core"]
    past = time.time() - FRESH_S - 1
    os.utime(file, (past, past))
    assert listing() == ["/apple/core", "/apple/seed"]
    # Another one of the same number.
    file.write_text("some other path\nother\n")
    assert listing() == ["/apple/core", "/apple/seed"]


@pytest.fixture
def mute() -> Iterator[str]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield "127.0.0.1:{1}".format(*listener.getsockname())


@pytest.mark.parametrize("hosts", ["127.0.0.1:1", "nonsense:port", "[::1]", "dns-srv://x", ":", "\x00:1"])
def test_servers_that_are_none_say_nothing(hosts: str, environ: dict[str, str]) -> None:
    assert candidates(f"coati -s '{hosts}' get /", environ) == []


def test_nobody_waits_longer_than_the_budget(mute: str, environ: dict[str, str]) -> None:
    began = time.monotonic()
    assert candidates(f"coati -s {mute} get /", environ) == []
    assert time.monotonic() - began < BUDGET_S + 0.5


def test_what_is_missing_has_no_children(fruit: str, environ: dict[str, str]) -> None:
    assert candidates(f"coati -s {fruit} get /nowhere/", environ) == []


def test_whose_listing_would_need_tls() -> None:
    environ = {"COATI_CONFIG": "/dev/null"}
    assert server_of(["-s", "h/a"], environ) == Server("h", "/a", "")
    assert server_of(["-s", "h", "--tls-ca", "ca.pem"], environ) is None
    assert server_of([], environ) == Server("127.0.0.1:2181", "", "")
    assert completing.paths("/", None, environ) == []
    assert completing.paths("relative", Server("h", "", ""), environ) == []


@pytest.mark.parametrize("answer", [b"", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x08abc"])
def test_a_server_that_talks_nonsense(answer: bytes, environ: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        found: list[str] = []
        # It is accepted, answered and closed by the kernel's backlog only after this has connected.
        asking = threading.Thread(target=completing._ask, args=(Server(f"127.0.0.1:{port}", "", ""), "/", found))
        asking.start()
        conn, _ = listener.accept()
        conn.sendall(answer)
        conn.close()
        asking.join(10)
        assert not asking.is_alive()
    assert found == []


def test_trouble_is_silent(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COATI_CONFIG", str(tmp_path / "broken.toml"))
    (tmp_path / "broken.toml").write_text("no toml")
    assert complete(["coati get /"]) == 0
    assert complete([]) == 0
    assert candidates("coati get \"'", {}) == []
    assert capsys.readouterr() == ("", "")


def test_a_cache_that_cannot_be_written(fruit: str, environ: dict[str, str]) -> None:
    environ["XDG_CACHE_HOME"] = "/proc/none"
    assert candidates(f"coati -s {fruit} get /apr", environ) == ["/apricot"]


def test_hidden_commands_run_and_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["_complete", "coati erro"]) == 0
    assert capsys.readouterr().out == "errors\n"
    assert main(["help"]) == 0
    assert "_complete" not in capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts(shell: str) -> None:
    done = kit.run("completion", shell)
    assert (done.code, done.err) == (0, "")
    assert "coati _complete" in done.text


def test_bash_completes_a_path(fruit: str, environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "coati").write_text(f'#!/bin/sh\nexec {sys.executable} -m coati "$@"\n')
    (tmp_path / "coati").chmod(0o755)
    script = kit.run("completion", "bash").text
    script += 'COMP_LINE="coati get /p garbage" COMP_POINT=12 _coati; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=60,
        env={**os.environ, **environ, "COATI_HOSTS": fruit, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.stdout == "/pear\\ tree\n", done.stderr


def test_a_listing_needs_no_client() -> None:
    # A person waits for it: the client alone takes longer to load.
    script = "import sys; import coati.cli.completing; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert not [
        name for name in loaded if name in ("asyncio", "argparse", "pathlib") or name.startswith("coati.client")
    ]
