"""The server as a whole: in this process where a fault has to be planted, as a process of its own elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import logging
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import ClassVar

import pytest

import coati.server.driver as driver_module
import coati.storage.disk as disk_module
from coati.errors import StorageCorrupt, StorageFailed
from coati.server import main as main_module
from coati.server.collector import GC_THRESHOLDS, CycleCollector
from coati.server.config import Entry, ServerConfig, load_config
from coati.server.exitcodes import (
    FINISHED,
    INVALID_INVOCATION,
    SEVERE_LOG_ERROR,
    UNABLE_TO_ACCESS_DATADIR,
    UNEXPECTED_ERROR,
)
from coati.server.listeners import ClientProtocol
from coati.server.main import run
from coati.server.pipeline import Conn
from coati.server.replica import Replica
from coati.storage.store import Store
from tools.javapeer import free_port

WAIT_S = 20.0
CONNECT = struct.pack(">iqiqi16s?", 0, 0, 10_000, 0, 16, bytes(16), False)


def frame(payload: bytes) -> bytes:
    return struct.pack(">i", len(payload)) + payload


class Client:
    """As little of a ZooKeeper client as will do, on a blocking socket."""

    made: ClassVar[list[Client]] = []

    def __init__(self, address: str, connect: bytes = CONNECT) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), WAIT_S)
        self.made.append(self)
        self.socket.sendall(frame(connect))
        reply = self.read_frame()
        self.timeout_ms, self.session_id = struct.unpack_from(">iq", reply, 4)
        self.password = reply[20:36]

    def read_frame(self) -> bytes:
        return self._exactly(struct.unpack(">i", self._exactly(4))[0])

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise ConnectionError("the server has closed the connection")
            data += part
        return data

    def create(self, path: bytes, data: bytes, flags: int = 0) -> int:
        """The error of the reply."""
        acl = struct.pack(">ii", 1, 31) + b"\0\0\0\5world\0\0\0\6anyone"
        self.socket.sendall(
            frame(struct.pack(">ii", 1, 1) + frame(path) + frame(data) + acl + struct.pack(">i", flags))
        )
        return int(struct.unpack_from(">i", self.read_frame(), 12)[0])

    def get(self, path: bytes) -> bytes | None:
        self.socket.sendall(frame(struct.pack(">ii", 1, 4) + frame(path) + b"\0"))
        reply = self.read_frame()
        return None if len(reply) == 16 else reply[20 : 20 + struct.unpack_from(">i", reply, 16)[0]]

    def close(self) -> None:
        self.socket.close()


def ask(address: str, word: bytes) -> bytes:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), WAIT_S) as one:
        one.sendall(word)
        answer = b""
        while part := one.recv(1 << 16):
            answer += part
    return answer


def configure(data_dir: Path, **keys: str) -> ServerConfig:
    given = {"dataDir": str(data_dir), "clientPort": "0", "4lw.commands.whitelist": "*", "preAllocSize": "64"}
    given.update({name.replace("__", "."): value for name, value in keys.items()})
    return load_config(None, overrides={name: Entry(value, "a test") for name, value in given.items()})


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    """What a server's process has to itself, and this one has not."""
    signals = {number: signal.getsignal(number) for number in main_module._STOP_SIGNALS}
    names = ("coati", "asyncio")
    loggers = {name: (logging.getLogger(name).handlers[:], logging.getLogger(name).propagate) for name in names}
    thresholds, interval = gc.get_threshold(), sys.getswitchinterval()
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    while Client.made:
        Client.made.pop().close()
    for number, handler in signals.items():
        signal.signal(number, handler)
    for name, (handlers, propagate) in loggers.items():
        logging.getLogger(name).handlers[:] = handlers
        logging.getLogger(name).propagate = propagate
    gc.enable()
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    sys.setswitchinterval(interval)
    resource.setrlimit(resource.RLIMIT_NOFILE, files)


class Ran:
    """How a server in this process ended."""

    def __init__(self, code: int, log: str, failure: BaseException | None) -> None:
        self.code = code
        self.log = log
        self.failure = failure

    @property
    def last_line(self) -> str:
        return self.log.splitlines()[-1]


def run_here(config: ServerConfig, scene: Callable[[str], None] = lambda address: None, *, stops: bool = True) -> Ran:
    """Runs a server on this thread while `scene` plays on another; then a signal ends the server."""
    failures: list[BaseException] = []
    threads: list[threading.Thread] = []

    def play(address: str) -> None:
        try:
            scene(address)
        except BaseException as error:
            failures.append(error)
        finally:
            if stops or failures:
                os.kill(os.getpid(), signal.SIGTERM)

    def on_serving(address: str) -> None:
        threads.append(threading.Thread(target=play, args=(address,)))
        threads[-1].start()

    stream = io.StringIO()
    code = run(config, stream, log_level="debug", on_serving=on_serving)
    for thread in threads:
        thread.join(WAIT_S)
    ran = Ran(code, stream.getvalue(), failures[0] if failures else None)
    if ran.failure is not None:
        raise ran.failure
    return ran


def test_server_serves_and_stops(tmp_path: Path) -> None:
    def scene(address: str) -> None:
        assert ask(address, b"ruok") == b"imok"
        client = Client(address)
        assert client.session_id != 0
        assert client.timeout_ms == 10_000
        assert client.create(b"/a", b"hello") == 0
        assert client.get(b"/a") == b"hello"
        client.close()

    ran = run_here(configure(tmp_path / "data"), scene)
    assert ran.code == FINISHED
    assert re.search(
        r" info coati\.server\.main recovered zxid=0x0 znodes=5 sessions=0 replayed=0 ms=\d+ dir=/.+\n", ran.log
    )
    assert re.search(r" info coati\.server\.main serving address=127\.0\.0\.1:(\d+) port=\1 version=", ran.log)
    assert ran.last_line.endswith(" info coati.server.main stopped")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_stop_the_server(tmp_path: Path, number: signal.Signals) -> None:
    ran = run_here(configure(tmp_path), lambda address: os.kill(os.getpid(), number), stops=False)
    assert ran.code == FINISHED
    assert f"stopping reason={number.name}" in ran.log


def test_data_and_sessions_survive_a_restart(tmp_path: Path) -> None:
    seen: list[Client] = []

    def before(address: str) -> None:
        client = Client(address)
        assert client.create(b"/kept", b"1") == 0
        assert client.create(b"/mine", b"2", flags=1) == 0
        seen.append(client)

    def after(address: str) -> None:
        old = seen[0]
        resumed = struct.pack(">iqiqi16s?", 0, 0, 10_000, old.session_id, 16, old.password, False)
        client = Client(address, resumed)
        assert client.session_id == old.session_id
        assert client.get(b"/kept") == b"1"
        assert client.get(b"/mine") == b"2"
        client.close()
        old.close()

    assert run_here(configure(tmp_path), before).code == FINISHED
    ran = run_here(configure(tmp_path), after)
    assert " znodes=7 sessions=1 replayed=3 " in ran.log


def test_words_show_the_server(tmp_path: Path) -> None:
    """What `view.py` finds, after the doings of a client."""

    def scene(address: str) -> None:
        client = Client(address)
        sid = f"0x{client.session_id:x}"
        assert client.create(b"/mine", b"data", flags=1) == 0
        client.socket.sendall(frame(struct.pack(">ii", 2, 4) + frame(b"/mine") + b"\1"))
        client.read_frame()
        me = ":".join(map(str, client.socket.getsockname()))
        assert re.search(
            rf"^ /{me}\[1\]\(queued=0,recved=3,sent=3,sid={sid},lop=GETD,est=\d+,to=10000,lcxid=0x2,lzxid=0x2,"
            r"lresp=\d+,llat=\d+,minlat=\d+,avglat=\d+,maxlat=\d+\)$",
            ask(address, b"cons").decode(),
            re.MULTILINE,
        )
        assert ask(address, b"wchs") == b"1 connections watching 1 paths\nTotal watches:1\n"
        assert ask(address, b"wchc").decode() == f"{sid}\n\t/mine\n\n"
        assert ask(address, b"wchp").decode() == f"/mine\n\t{sid}\n\n"
        dump = ask(address, b"dump").decode()
        assert "Session Sets (1)/(1):\n1 expire at " in dump
        assert f"Sessions with Ephemerals (1):\n{sid}:\n\t/mine\n" in dump
        assert f"\tip: /{me} sessionId: {sid}\n" in dump
        assert b"\tsessionId" not in ask(address, b"dump")
        assert b"\nNode count: 6\n" in ask(address, b"srvr")
        metrics = dict(line.split("\t") for line in ask(address, b"mntr").decode().splitlines())
        assert metrics["zk_server_state"] == "standalone"
        assert metrics["zk_ephemerals_count"] == "1"
        assert metrics["zk_znode_count"] == "6"
        assert metrics["zk_watch_count"] == "1"
        assert metrics["zk_global_sessions"] == "1"
        assert metrics["zk_num_alive_connections"] == "2"
        assert int(metrics["zk_cnt_fsynctime"]) >= 2
        assert int(metrics["zk_cnt_updatelatency"]) == 2
        assert 0 < int(metrics["zk_open_file_descriptor_count"]) < int(metrics["zk_max_file_descriptor_count"])
        assert ask(address, b"crst") == b"Connection stats reset.\n"
        assert f",recved=0,sent=0,sid={sid},lop=NA,est=" in ask(address, b"cons").decode()
        assert ",lzxid=0xffffffffffffffff,lresp=0,llat=0,minlat=0,avglat=0,maxlat=0)" in ask(address, b"cons").decode()
        assert ask(address, b"hash") == b""
        assert ask(address, b"isro") == b"rw"
        assert ask(address, b"stmk" + struct.pack(">q", 5)) == ask(address, b"gtmk") == b"5"
        client.close()

    assert run_here(configure(tmp_path / "data"), scene).code == FINISHED


def test_conf_dirs_and_envi(tmp_path: Path) -> None:
    def scene(address: str) -> None:
        conf = dict(line.split("=") for line in ask(address, b"conf").decode().splitlines())
        snapshot_bytes = sum(path.stat().st_size for path in (tmp_path / "data" / "version-2").iterdir())
        assert conf == {
            "clientPort": address.rpartition(":")[2],
            "secureClientPort": "-1",
            "dataDir": str(tmp_path / "data" / "version-2"),
            "dataDirSize": str(snapshot_bytes),
            "dataLogDir": str(tmp_path / "log" / "version-2"),
            "dataLogSize": "0",
            "tickTime": "500",
            "maxClientCnxns": "60",
            "minSessionTimeout": "1000",
            "maxSessionTimeout": "10000",
            "clientPortListenBacklog": "-1",
            "serverId": "0",
        }
        assert ask(address, b"dirs").decode() == f"datadir_size: {snapshot_bytes}\nlogdir_size: 0\n"
        lines = ask(address, b"envi").decode().splitlines()
        environment = dict(line.split("=", 1) for line in lines[1:])
        assert lines[0] == "Environment:"
        assert environment["zookeeper.version"].startswith("3.9.")
        assert environment["coati_version"] == "0.1.0"
        assert environment["user.dir"] == os.getcwd()
        assert re.fullmatch(r"\d+MB", environment["os.memory.total"])
        recorded = (Path(__file__).parent / "java393" / "envi.txt").read_text().splitlines()[1:]
        assert {line.partition("=")[0] for line in recorded} <= set(environment)

    config = configure(tmp_path / "data", dataLogDir=str(tmp_path / "log"), tickTime="500")
    assert run_here(config, scene).code == FINISHED


# Starts that fail: one clear last line and an exit code of Java's.


def test_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = run_here(configure(tmp_path, clientPort=str(port)))
    assert ran.code == UNEXPECTED_ERROR
    assert ran.last_line.endswith(
        f" fatal coati.server.main cannot listen address=127.0.0.1:{port} reason=Address already in use"
    )
    assert list(tmp_path.iterdir()) == []


def test_port_that_is_taken_costs_no_client_its_way_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reconfig names another address for clients: the old one is let go when the new one is there, and not before."""
    servers: list[main_module.Server] = []
    opened = main_module.Server.open

    def open_and_keep(self: main_module.Server) -> tuple[str, int]:
        servers.append(self)
        return opened(self)

    monkeypatch.setattr(main_module.Server, "open", open_and_keep)

    def move(host: str, port: int) -> socket.socket | None:
        moved: Future[socket.socket | None] = Future()

        def on_loop() -> None:
            servers[0]._move_clients(host, port)
            listener = servers[0]._listener
            moved.set_result(None if listener is None else listener._socket)

        servers[0]._loop.call_soon_threadsafe(on_loop)
        return moved.result(WAIT_S)

    def scene(address: str) -> None:
        port = int(address.rpartition(":")[2])
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = other.getsockname()[1]
            before = servers[0]._listener
            assert before is not None
            old = before._socket
            assert move("127.0.0.1", taken) is old
            assert ask(address, b"ruok") == b"imok"
        # The same port: the old one has to go first.
        assert move("127.0.0.2", port) is not old
        # No address of this machine (RFC 5737): back to where they were.
        move("203.0.113.9", port)
        assert ask(f"127.0.0.2:{port}", b"ruok") == b"imok"
        assert servers[0]._config.client_address == "127.0.0.2"
        assert move("127.0.0.1", taken) is not None
        assert ask(f"127.0.0.1:{taken}", b"ruok") == b"imok"
        with pytest.raises(ConnectionRefusedError):
            ask(f"127.0.0.2:{port}", b"ruok")

    ran = run_here(configure(tmp_path, clientPort=str(free_port())), scene)
    assert ran.code == FINISHED
    assert ran.log.count("clients stay where they were") == 2
    assert ran.log.count("clients connect to address=") == 2


def test_host_that_does_not_exist(tmp_path: Path) -> None:
    ran = run_here(configure(tmp_path, clientPortAddress="no-such-host.invalid"))
    assert ran.code == UNEXPECTED_ERROR
    assert "cannot listen address=no-such-host.invalid:0 reason=" in ran.last_line


def test_data_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a directory")
    ran = run_here(configure(tmp_path / "data"))
    assert ran.code == UNABLE_TO_ACCESS_DATADIR
    assert "the data directory cannot be used: " in ran.last_line
    assert str(tmp_path / "data") in ran.last_line


def test_data_directory_that_must_not_be_created(tmp_path: Path) -> None:
    ran = run_here(configure(tmp_path / "data", datadir__autocreate="false"))
    assert ran.code == UNABLE_TO_ACCESS_DATADIR
    assert not (tmp_path / "data").exists()


def test_second_server_on_one_directory(tmp_path: Path) -> None:
    config = configure(tmp_path)
    with process(tmp_path) as first:
        ran = run_here(config)
        assert ran.code == UNABLE_TO_ACCESS_DATADIR
        assert ask(first.address, b"ruok") == b"imok"


def test_damaged_log_is_named(tmp_path: Path) -> None:
    def scene(address: str) -> None:
        client = Client(address)
        for n in range(20):
            assert client.create(b"/n%d" % n, b"data") == 0
        client.close()

    assert run_here(configure(tmp_path), scene).code == FINISHED
    (log,) = (tmp_path / "version-2").glob("log.*")
    data = bytearray(log.read_bytes())
    data[300] ^= 1
    log.write_bytes(data)
    ran = run_here(configure(tmp_path))
    assert ran.code == SEVERE_LOG_ERROR
    assert f"the data is damaged, nothing was changed: {log}" in ran.last_line
    assert log.read_bytes() == data


def test_compression_that_is_not_known(tmp_path: Path) -> None:
    config = configure(tmp_path)
    config.snapshot_compression = "zip"
    assert run_here(config).code == INVALID_INVOCATION


def test_signal_during_recovery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow_load(*_: object, is_alone: bool) -> None:
        assert is_alone
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(WAIT_S)

    monkeypatch.setattr(main_module, "load", slow_load)
    ran = run_here(configure(tmp_path))
    assert ran.code == FINISHED
    assert ran.last_line.endswith(" stopped before serving")


# Ends that are not wished for.


def test_failed_fsync_ends_the_server_without_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = disk_module._fdatasync
    is_broken = threading.Event()

    def sync(fd: int) -> None:
        if is_broken.is_set():
            raise OSError(5, "Input/output error")
        real(fd)

    monkeypatch.setattr(disk_module, "_fdatasync", sync)

    def scene(address: str) -> None:
        client = Client(address)
        assert client.create(b"/a", b"1") == 0
        is_broken.set()
        with pytest.raises(ConnectionError):
            client.create(b"/b", b"2")

    ran = run_here(configure(tmp_path), scene, stops=False)
    assert ran.code == SEVERE_LOG_ERROR
    assert " fatal coati.server.main the transaction log cannot be written, exiting: " in ran.last_line


def test_data_that_cannot_be_gone_on_with_ends_the_server_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRUNC below every snapshot is such a case."""
    real = main_module.Server._tick
    is_asked = threading.Event()

    def tick(self: main_module.Server) -> None:
        real(self)
        if is_asked.is_set():
            self._on_fatal(StorageCorrupt("version-2", 0, "no snapshot", "Move it away"))

    monkeypatch.setattr(main_module.Server, "_tick", tick)
    ran = run_here(configure(tmp_path, tickTime="50"), lambda address: is_asked.set(), stops=False)
    assert ran.code == SEVERE_LOG_ERROR
    assert " fatal coati.server.main the data cannot be gone on with, exiting: version-2 " in ran.last_line
    assert ran.last_line.endswith("no snapshot. Move it away")


def test_fault_of_our_own_ends_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A half-made change must not be served; the next start recovers what was durable."""
    real = Replica.on_received

    def on_received(self: Replica, conn: Conn, data: bytes) -> None:
        if b"poison" in data:
            raise AssertionError("an invariant is broken")
        real(self, conn, data)

    monkeypatch.setattr(Replica, "on_received", on_received)

    def scene(address: str) -> None:
        client = Client(address)
        with pytest.raises(ConnectionError):
            client.create(b"/poison", b"")

    ran = run_here(configure(tmp_path), scene, stops=False)
    assert ran.code == UNEXPECTED_ERROR
    assert " fatal coati.server.main internal error, please report it " in ran.last_line
    assert "an invariant is broken" in ran.last_line


def test_fault_in_one_connection_is_that_connection_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = ClientProtocol.data_received

    def data_received(self: ClientProtocol, data: bytes) -> None:
        if data == b"poison":
            raise RuntimeError("in the protocol")
        real(self, data)

    monkeypatch.setattr(ClientProtocol, "data_received", data_received)

    def scene(address: str) -> None:
        assert ask(address, b"poison") == b""
        assert ask(address, b"ruok") == b"imok"

    ran = run_here(configure(tmp_path), scene)
    assert ran.code == FINISHED
    assert " error coati.server.main connection failed " in ran.log


def test_second_fault_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault while the server ends already: the first reason is the one of the exit code."""
    real = main_module.Server._end_at_once

    def end_twice(self: main_module.Server, code: int) -> None:
        real(self, code)
        real(self, SEVERE_LOG_ERROR)
        self.stop("afterwards")

    monkeypatch.setattr(main_module.Server, "_end_at_once", end_twice)

    def fail(self: Replica) -> None:
        raise AssertionError("at the first tick")

    def scene(address: str) -> None:
        monkeypatch.setattr(Replica, "on_tick", fail)

    ran = run_here(configure(tmp_path, tickTime="50"), scene, stops=False)
    assert ran.code == UNEXPECTED_ERROR
    assert "afterwards" not in ran.log


def test_end_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Store.close

    def close(self: Store) -> None:
        real(self)
        raise StorageFailed("the disk has gone")

    monkeypatch.setattr(Store, "close", close)
    ran = run_here(configure(tmp_path))
    assert ran.code == SEVERE_LOG_ERROR
    assert ran.last_line.endswith(" fatal coati.server.main the end could not be written: the disk has gone")


def test_second_signal_changes_nothing(tmp_path: Path) -> None:
    def scene(address: str) -> None:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)

    ran = run_here(configure(tmp_path), scene)
    assert ran.code == FINISHED
    assert ran.log.count(" stopping ") == 1


def test_slow_fsync_is_reported(tmp_path: Path) -> None:
    def scene(address: str) -> None:
        Client(address).close()

    ran = run_here(configure(tmp_path, fsync__warningthresholdms="-1"), scene)
    assert " warn coati.server.driver slow fsync of the transaction log ms=" in ran.log


def test_clients_that_do_not_leave_do_not_delay_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that reads nothing of what is sent to it, and one that says nothing."""
    kept: list[socket.socket] = []
    assert main_module.DRAIN_S + main_module.GOODBYE_S < 5
    monkeypatch.setattr(main_module, "GOODBYE_S", 0.05)

    def scene(address: str) -> None:
        client = Client(address)
        assert client.create(b"/big", bytes(500_000)) == 0
        one = frame(struct.pack(">ii", 1, 4) + frame(b"/big") + b"\0")
        client.socket.settimeout(0.05)
        with contextlib.suppress(TimeoutError):
            for _ in range(200):
                client.socket.sendall(one)
        kept.append(client.socket)
        host, _, port = address.rpartition(":")
        kept.append(socket.create_connection((host, int(port))))

    ran = run_here(configure(tmp_path), scene)
    assert ran.code == FINISHED
    for one in kept:
        one.close()


def test_write_under_way_is_answered_before_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = disk_module._fdatasync
    begun, go_on = threading.Event(), threading.Event()
    is_slow = threading.Event()

    def sync(fd: int) -> None:
        if is_slow.is_set():
            begun.set()
            go_on.wait(WAIT_S)
        real(fd)

    monkeypatch.setattr(disk_module, "_fdatasync", sync)

    def scene(address: str) -> None:
        client = Client(address)
        is_slow.set()

        def end_it() -> None:
            begun.wait(WAIT_S)
            os.kill(os.getpid(), signal.SIGTERM)
            go_on.set()

        helper = threading.Thread(target=end_it)
        helper.start()
        assert client.create(b"/last", b"words") == 0
        helper.join()
        with pytest.raises(ConnectionError):
            read_for_ever(client, b"/last")

    assert run_here(configure(tmp_path), scene, stops=False).code == FINISHED
    assert (
        run_here(configure(tmp_path), lambda address: check(Client(address).get(b"/last") == b"words")).code == FINISHED
    )


def read_for_ever(client: Client, path: bytes) -> None:
    while True:
        client.get(path)


def check(condition: bool) -> None:
    assert condition


def test_purge_runs_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DatadirCleanupManager schedules its first run without a delay."""
    purged = threading.Event()
    monkeypatch.setattr(driver_module.Driver, "purge", lambda self: purged.set())
    run_here(configure(tmp_path))
    assert not purged.is_set()
    run_here(configure(tmp_path, autopurge__purgeInterval="1"))
    assert purged.is_set()


def test_warnings_of_the_configuration_are_logged_and_no_secrets(tmp_path: Path) -> None:
    config = configure(
        tmp_path, ssl__keyStore__password="s3cret", DigestAuthenticationProvider__superDigest="super:s3cret"
    )
    ran = run_here(config)
    assert ran.log.count("keys without effect: ssl.keyStore.password (TLS comes later)") == 1
    assert "s3cret" not in ran.log


def test_descriptors_are_raised_to_what_is_allowed(tmp_path: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    run_here(configure(tmp_path))
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


class Knot:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.itself = self


def test_what_is_garbage_is_not_frozen_for_ever() -> None:
    """A leader's snapshot takes the place of the tree: what a server has left behind that served must go first."""
    collector = CycleCollector()
    collector.rest()
    assert not gc.isenabled()
    collector.settle()
    assert gc.isenabled()
    frozen = gc.get_freeze_count()
    assert frozen > 1000
    gone = weakref.ref(Knot())
    assert gone() is not None
    collector.rest()
    assert gone() is None
    assert not gc.isenabled()
    kept = [Knot() for _ in range(1000)]
    collector.go_on()
    assert gc.isenabled()
    collector.settle()
    assert gc.get_freeze_count() >= frozen + len(kept)


def test_collector_is_tuned_after_recovery(tmp_path: Path) -> None:
    seen: list[object] = []
    run_here(
        configure(tmp_path), lambda address: seen.extend((gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()))
    )
    assert seen[0] is True
    assert seen[1] == GC_THRESHOLDS
    assert isinstance(seen[2], int)
    assert seen[2] > 1000


def test_loop_is_uvloop_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert " loop=uvloop " in run_here(configure(tmp_path)).log
    monkeypatch.setattr(main_module, "_new_loop", asyncio.new_event_loop)
    assert " loop=asyncio " in run_here(configure(tmp_path)).log


# A process of its own.


class Process:
    """`python -m coati serve`, with its log."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self.child = child
        self.lines: list[str] = []
        assert child.stderr is not None
        for line in child.stderr:
            self.lines.append(line)
            found = re.search(r" serving address=(\S+) ", line)
            if found is not None:
                self.address = found[1]
                return
        raise AssertionError("".join(self.lines))

    def stop(self) -> int:
        self.child.send_signal(signal.SIGTERM)
        self.child.communicate(timeout=WAIT_S)
        return self.child.returncode


@contextlib.contextmanager
def process(
    data_dir: Path, *flags: str, environment: dict[str, str] | None = None, umask: int = -1
) -> Iterator[Process]:
    command = [sys.executable, "-m", "coati", "serve", "--client-port", "0", "--data-dir", str(data_dir)]
    command += ["--set", "4lw.commands.whitelist=*", *flags]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, umask=umask)
    try:
        yield Process(child)
    finally:
        if child.poll() is None:
            child.kill()
        child.communicate()


def test_storm_of_signals(tmp_path: Path) -> None:
    with process(tmp_path) as server:
        client = Client(server.address)
        assert client.create(b"/a", b"1") == 0
        for _ in range(30):
            for number in main_module._STOP_SIGNALS:
                with contextlib.suppress(ProcessLookupError):
                    server.child.send_signal(number)
        server.child.communicate(timeout=5)
        assert server.child.returncode == FINISHED
        client.close()


def test_closed_log_does_not_matter(tmp_path: Path) -> None:
    with process(tmp_path) as server:
        assert server.child.stderr is not None
        server.child.stderr.close()
        server.child.stderr = None
        client = Client(server.address)
        assert client.create(b"/a", b"1") == 0
        client.close()
        for _ in range(70):
            ask(server.address, b"ruok")
        assert server.stop() == FINISHED


@pytest.mark.slow
def test_few_descriptors_are_enough(tmp_path: Path) -> None:
    """`ulimit -n 64` and a hundred clients: some wait, all are served in the end, the log can still be rolled."""
    limit = "ulimit -n 64 && exec "
    command = f"{limit}{sys.executable} -m coati serve --client-port 0 --data-dir {tmp_path} --set snapCount=10"
    child = subprocess.Popen(
        ["/bin/sh", "-c", f"{command} --set preAllocSize=64 --set maxClientCnxns=0"], stderr=subprocess.PIPE, text=True
    )
    try:
        server = Process(child)
        host, _, port = server.address.rpartition(":")
        waiting = [socket.create_connection((host, int(port)), WAIT_S) for _ in range(100)]
        for one in waiting[:80]:
            one.close()
        client = Client(server.address)
        for n in range(50):
            assert client.create(b"/n%d" % n, b"x") == 0
        client.close()
        for one in waiting:
            one.close()
        assert server.stop() == FINISHED
    finally:
        if child.poll() is None:
            child.kill()
        child.communicate()
    assert len(list((tmp_path / "version-2").glob("log.*"))) > 1


@pytest.mark.parametrize(
    "environment", [{"PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo"}, {"LC_ALL": "C", "TZ": "nonsense"}]
)
def test_environment_does_not_matter(tmp_path: Path, environment: dict[str, str]) -> None:
    with process(tmp_path, environment={**os.environ, **environment}, umask=0o077) as server:
        client = Client(server.address)
        assert client.create(b"/a", b"1") == 0
        client.close()
        assert b"expire at" in ask(server.address, b"dump")
        assert server.stop() == FINISHED


def test_start_is_cheap(tmp_path: Path) -> None:
    """Time on the processor, as others may be using the machine; an idle one has to keep 0.4 s of wall time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with process(tmp_path) as server:
        status = Path(f"/proc/{server.child.pid}/status")
        if status.exists():
            resident_kb = int(re.findall(r"VmRSS:\s+(\d+) kB", status.read_text())[0])
            assert resident_kb < 60 * 1024
        assert server.stop() == FINISHED
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.4


def test_start_imports_nothing_that_is_not_needed() -> None:
    code = "import sys, coati.cli.main, coati.cli.serve; print(*sys.modules)"
    modules = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert "coati.server.main" in modules
    assert not modules & {
        "click", "rich", "numpy", "kazoo", "hypothesis", "pytest", "logging.config", "logging.handlers",
        "importlib.metadata", "email", "http", "urllib.request", "xml", "json", "decimal", "fractions", "statistics",
        "unittest", "multiprocessing", "coati.bench", "coati.cli.bench", "coati.testing",
    }  # fmt: skip
