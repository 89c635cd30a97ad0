"""What surrounds a server's process: full disks, closed descriptors, links, masks (rows 58 and 63 of bad input)."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from coati.server.exitcodes import FINISHED, SEVERE_LOG_ERROR, UNABLE_TO_ACCESS_DATADIR
from tests.server.test_main import WAIT_S, Client, Process, ask, process
from tools.javapeer import free_port

COMMAND = f"exec {sys.executable} -m coati serve"


@contextlib.contextmanager
def shell(line: str) -> Iterator[subprocess.Popen[str]]:
    """A server started by a shell, which sets limits and closes descriptors before."""
    child = subprocess.Popen(["/bin/sh", "-c", line], stderr=subprocess.PIPE, text=True)
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.communicate()


def test_full_disk_ends_the_server_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """No file may grow beyond 100 kB here, which is what a full disk looks like to whoever writes."""
    flags = f"--client-port 0 --data-dir {tmp_path} --set preAllocSize=0"
    written = 0
    with shell(f"ulimit -f 200 && {COMMAND} {flags}") as child:
        server = Process(child)
        client = Client(server.address)
        with contextlib.suppress(ConnectionError):
            while client.create(b"/n%d" % written, bytes(1000)) == 0:
                written += 1
        child.communicate(timeout=WAIT_S)
        assert child.returncode == SEVERE_LOG_ERROR
    assert 10 < written < 110
    with process(tmp_path) as server:
        client = Client(server.address)
        assert [client.get(b"/n%d" % number) for number in range(written)] == [bytes(1000)] * written
        assert client.create(b"/again", b"") == 0
        assert server.stop() == FINISHED


def test_disk_that_is_full_from_the_start_refuses(tmp_path: Path) -> None:
    with shell(f"ulimit -f 0 && {COMMAND} --client-port 0 --data-dir {tmp_path}") as child:
        said = child.communicate(timeout=WAIT_S)[1]
        assert child.returncode == UNABLE_TO_ACCESS_DATADIR
        assert "the data directory cannot be used: " in said.splitlines()[-1]
        assert str(tmp_path) in said.splitlines()[-1]


@pytest.mark.parametrize("place", ["/proc/nobody/here", "/dev/null/here"])
def test_directory_that_cannot_be_made_is_named(place: str) -> None:
    with shell(f"{COMMAND} --client-port 0 --data-dir {place}") as child:
        said = child.communicate(timeout=WAIT_S)[1]
        assert child.returncode == UNABLE_TO_ACCESS_DATADIR
        assert place.rpartition("/")[0] in said.splitlines()[-1]


def test_link_to_the_data_directory_is_followed_and_locked(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    with process(tmp_path / "link") as first:
        assert Client(first.address).create(b"/a", b"1") == 0
        with shell(f"{COMMAND} --client-port 0 --data-dir {tmp_path / 'elsewhere'}") as second:
            assert "locked" in second.communicate(timeout=WAIT_S)[1]
            assert second.returncode == UNABLE_TO_ACCESS_DATADIR
        assert first.stop() == FINISHED
    assert (tmp_path / "elsewhere" / "version-2").is_dir()


def test_link_in_place_of_the_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with shell(f"{COMMAND} --client-port 0 --data-dir {tmp_path / 'loop'}") as child:
        assert "the data directory cannot be used: " in child.communicate(timeout=WAIT_S)[1]
        assert child.returncode == UNABLE_TO_ACCESS_DATADIR


def test_standard_descriptors_that_are_closed_do_not_become_the_log(tmp_path: Path) -> None:
    """Whatever writes to 1 or 2 later, a library or the interpreter at its end, must not write into the data."""
    port = free_port()
    flags = f"--client-port {port} --data-dir {tmp_path}"
    with shell(f"{COMMAND} {flags} <&- >&- 2>&-") as child:
        client = connected(f"127.0.0.1:{port}")
        assert client.create(b"/a", b"1") == 0
        for number in (0, 1, 2):
            assert os.readlink(f"/proc/{child.pid}/fd/{number}") == "/dev/null"
        child.send_signal(signal.SIGTERM)
        assert child.wait(WAIT_S) == FINISHED
    with process(tmp_path) as server:
        assert Client(server.address).get(b"/a") == b"1"
        assert server.stop() == FINISHED


def connected(address: str) -> Client:
    """A client of a server that cannot say when it serves."""
    never, ends = threading.Event(), monotonic() + WAIT_S
    while monotonic() < ends:
        with contextlib.suppress(OSError):
            return Client(address)
        never.wait(0.02)
    raise AssertionError(f"nobody serves at {address}")


@pytest.mark.parametrize(("umask", "mode"), [(0, 0o666), (0o077, 0o600)])
def test_files_have_the_mode_that_the_mask_leaves(tmp_path: Path, umask: int, mode: int) -> None:
    """As Java's have: the operator decides, and a log is never made executable."""
    with process(tmp_path, umask=umask) as server:
        assert Client(server.address).create(b"/a", b"1") == 0
        assert b"Zxid" in ask(server.address, b"srvr")
        assert server.stop() == FINISHED
    files = [path for path in (tmp_path / "version-2").iterdir() if path.name.startswith(("log", "snapshot"))]
    assert len(files) >= 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {mode}


@pytest.mark.parametrize("seed", ["0", "1", "4294967295"])
def test_hash_seed_does_not_matter(tmp_path: Path, seed: str) -> None:
    with process(tmp_path, environment={**os.environ, "PYTHONHASHSEED": seed}) as server:
        client = Client(server.address)
        for number in range(20):
            assert client.create(b"/n%d" % number, b"1") == 0
        assert b"/n" not in ask(server.address, b"srvr")
        assert server.stop() == FINISHED
