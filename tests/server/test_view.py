"""What the words show where the system or the directory has nothing to show. The rest is in test_main.py."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from coati.core.watches import Watches
from coati.server import view as view_module
from coati.server.clock import SystemClock
from coati.server.config import Entry, ServerConfig, load_config
from coati.server.view import LiveView, open_files
from coati.storage.disk import RealDisk
from coati.wire.records import Id


class Replica:
    """Of a replica only what these tests look at."""

    def __init__(self) -> None:
        self.watches = Watches()


class Driver:
    """The same of a driver."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.is_read_only = False

    def mode(self) -> str:
        return "standalone"


class Client:
    """Somebody who watches."""

    def __init__(self, session_id: int) -> None:
        self.session_id = session_id
        self.auth: list[Id] = []


@pytest.fixture
def config(tmp_path: Path) -> ServerConfig:
    return load_config(None, overrides={"dataDir": Entry(str(tmp_path), "a test")})


@pytest.fixture
def replica() -> Replica:
    return Replica()


@pytest.fixture
def view(config: ServerConfig, replica: Replica) -> LiveView:
    return LiveView(config, Driver(replica), RealDisk(lambda callback: None), SystemClock())  # type: ignore[arg-type]  # a part


def test_nothing_is_connected_before_there_is_a_listener(view: LiveView) -> None:
    assert view.connection_count() == 0
    assert list(view.connections()) == []
    assert view.connection_deadlines() == []
    assert not view.is_serving()
    assert not view.is_read_only()
    assert view.mode() == "standalone"


def test_sizes_of_directories(view: LiveView, tmp_path: Path) -> None:
    assert view.directory_bytes() == (0, 0)
    below = tmp_path / "version-2" / "a" / "b" / "c"
    below.mkdir(parents=True)
    (tmp_path / "version-2" / "snapshot.0").write_bytes(bytes(100))
    (below / "counted").write_bytes(bytes(10))
    (below / "d").mkdir()
    (below / "d" / "too-deep").write_bytes(bytes(1))
    assert view.directory_bytes() == (110, 110)


def test_directory_that_loops_has_an_end(view: LiveView, tmp_path: Path) -> None:
    (tmp_path / "version-2").mkdir()
    (tmp_path / "version-2" / "again").symlink_to(tmp_path / "version-2")
    assert view.directory_bytes() == (0, 0)


def test_system_that_does_not_tell(view: LiveView, monkeypatch: pytest.MonkeyPatch) -> None:
    """No /proc, no figures of memory, a user without an entry: as in some containers and on other systems."""

    def no_entry(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    real = os.sysconf

    def sysconf(name: str) -> int:
        if "PHYS" in name:
            raise ValueError("unrecognized configuration name")
        return real(name)

    monkeypatch.setattr(view_module, "_FD_DIRS", ("/no/such/directory",))
    monkeypatch.setattr("pwd.getpwuid", no_entry)
    monkeypatch.setattr("os.sysconf", sysconf)
    environment = dict(view.environment())
    assert open_files() == -1
    assert (environment["user.name"], environment["user.home"]) == (str(os.getuid()), "?")
    assert environment["os.memory.free"] == environment["os.memory.max"] == "0MB"


def test_open_files_are_counted() -> None:
    before = open_files()
    with open(os.devnull) as _:
        assert open_files() == before + 1


def test_watches_may_go_while_they_are_shown(view: LiveView, replica: Replica) -> None:
    """The answer is sent piece by piece, and watches are one-shot."""
    first, second = Client(1), Client(2)
    for path in (b"/a", b"/b"):
        replica.watches.add_data(path, first)
        replica.watches.add_data(path, second)
    assert view.watch_totals() == (2, 2, 4)
    by_path, by_session = view.watches_by_path(), view.watches_by_session()
    assert next(by_path) == (b"/a", [1, 2])
    assert next(by_session) == (1, [b"/a", b"/b"])
    replica.watches.remove_watcher(second)
    replica.watches.remove_watcher(first)
    assert list(by_path) == []
    assert list(by_session) == []
