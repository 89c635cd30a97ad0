"""The list of servers in files: what Java 3.9.3 leaves behind, and what is left when the disk does not take it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coati.server.config import ServerConfig, load_config
from coati.server.dynamicconfig import ViewKeeper
from coati.storage.disk import RealDisk
from coati.zab.quorum import View

CFG = """# comments go, as in Java
tickTime=500
dataDir={data}
clientPort=17014
clientPortAddress=127.0.0.1
initLimit=5
syncLimit=5
reconfigEnabled=true
authProvider.x=a\\\\b
peerType=participant
server.1=127.0.0.1:1:2
server.2=127.0.0.1:3:4
"""
PLAIN = b"server.1=127.0.0.1:1:2:participant\nserver.2=127.0.0.1:3:4:participant\nversion=100000000"
WITH_CLIENTS = (
    b"server.2=127.0.0.1:3:4:participant;0.0.0.0:8\nserver.1=127.0.0.1:1:2:participant;127.0.0.1:17014\n"
    b"server.10=127.0.0.1:5:6:observer;0.0.0.0:9\nversion=10000001c"
)


def read(path: Path) -> ServerConfig:
    return load_config(str(path))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "myid").write_text("1\n")
    path = tmp_path / "zoo.cfg"
    path.write_text(CFG.format(data=tmp_path / "data"))
    return path


def keeper_of(path: Path, moved: list[tuple[str, int]] | None = None) -> ViewKeeper:
    moves = [] if moved is None else moved
    return ViewKeeper(read(path), RealDisk(lambda call: call()), lambda host, port: moves.append((host, port)))


def text_of(view: View | None) -> bytes:
    assert view is not None
    return view.to_text()


def test_the_first_list_leaves_zoo_cfg(path: Path) -> None:
    """As Java's editStaticConfig; the client port stays while the list does not say it."""
    before = path.read_text()
    keeper = keeper_of(path)
    view = View.from_text(PLAIN)
    keeper.on_seen(view)
    assert Path(f"{path}.dynamic.next").read_bytes() == PLAIN
    keeper.on_in_force(view)
    keeper.on_activated(view)
    dynamic = Path(f"{path}.dynamic.100000000")
    assert dynamic.read_bytes() == PLAIN.rpartition(b"\n")[0]
    assert Path(f"{path}.bak").read_text() == before
    assert not Path(f"{path}.dynamic.next").exists()
    assert path.read_text() == (
        f"tickTime=500\ndataDir={path.parent}/data\nclientPort=17014\nclientPortAddress=127.0.0.1\ninitLimit=5\n"
        f"syncLimit=5\nreconfigEnabled=true\nauthProvider.x=a\\\\b\ndynamicConfigFile={os.path.realpath(dynamic)}\n"
    )
    config = read(path)
    assert text_of(config.ensemble) == view.to_text()
    assert (config.client_port, config.client_address) == (17014, "127.0.0.1")


def test_the_next_list_takes_its_place(path: Path) -> None:
    """The client port stands in the list now; the copy of the first zoo.cfg stays. Row 70, ZOOKEEPER-2847."""
    moved: list[tuple[str, int]] = []
    keeper = keeper_of(path, moved)
    keeper.on_activated(View.from_text(PLAIN))
    kept = Path(f"{path}.bak").read_text()
    keeper.on_activated(View.from_text(WITH_CLIENTS))
    assert Path(f"{path}.bak").read_text() == kept
    config = read(path)
    assert text_of(config.ensemble) == View.from_text(WITH_CLIENTS).to_text()
    assert (config.client_port, config.client_address) == (17014, "127.0.0.1")
    assert "clientPort" not in path.read_text()
    assert Path(f"{path}.dynamic.10000001c").read_bytes().split(b"\n") == sorted(WITH_CLIENTS.split(b"\n")[:3])
    # What stays is not let go of.
    assert moved == []
    keeper.on_activated(View.from_text(WITH_CLIENTS.replace(b"17014", b"17015")))
    assert moved == [("127.0.0.1", 17015)]
    # Removed: nothing of its own is said any more.
    keeper.on_activated(View.from_text(b"server.2=127.0.0.1:3:4:participant;0.0.0.0:8\nversion=10000001d"))


def test_a_list_that_may_not_be_committed_is_read_again(path: Path) -> None:
    keeper = keeper_of(path)
    keeper.on_activated(View.from_text(PLAIN))
    keeper.on_seen(View.from_text(WITH_CLIENTS))
    # Left behind by a process that was killed.
    Path(f"{path}.dynamic.next.tmp").write_text("half")
    keeper.on_seen(View.from_text(WITH_CLIENTS))
    config = read(path)
    assert text_of(config.ensemble) == View.from_text(PLAIN).to_text()
    assert text_of(config.seen) == View.from_text(WITH_CLIENTS).to_text()


def test_a_directory_that_takes_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A zoo.cfg from a read-only volume: the server goes on, as Java does, and begins with the old list again."""
    config = read(path)
    config.path = "/proc/nowhere/zoo.cfg"
    keeper = ViewKeeper(config, RealDisk(lambda call: call()), lambda host, port: None)
    keeper.on_seen(View.from_text(PLAIN))
    assert "the next configuration cannot be written path=/proc/nowhere/zoo.cfg" in caplog.text
    keeper.on_activated(View.from_text(PLAIN))
    assert "the new configuration cannot be written path=/proc/nowhere/zoo.cfg" in caplog.text
    assert config.ensemble is not None
    assert config.ensemble.version == 0x100000000
    # From flags alone: there is nowhere to write to.
    config.path = ""
    caplog.clear()
    keeper.on_seen(View.from_text(WITH_CLIENTS))
    keeper.on_activated(View.from_text(WITH_CLIENTS))
    assert "cannot" not in caplog.text
