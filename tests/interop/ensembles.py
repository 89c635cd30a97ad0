"""Ensembles of coati and Java servers, mixed at will, and the clients that judge them.

A member may be killed, started again, and become one of the other kind on the same data directory and ports. `Load`
writes all the time and knows what was acknowledged, `Held` keeps a session; `Ensemble.check` says whether the members
agree on everything.
Must not import coati: members are seen through sockets, files and logs only.
Invariant: every process is dead when the `with` block ends; when it ends with an error the logs are shown.
"""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Final, Self

from tests.interop import peers, picture, raw
from tests.interop.peers import CoatiServer, eventually
from tools.javapeer import JavaServer, four_letter, why_missing

COATI: Final = "coati"
CFG: Final[Mapping[str, str]] = {"tickTime": "500", "initLimit": "40", "syncLimit": "20", "maxSessionTimeout": "60000"}
# No fsync: a killed process leaves its writes with the kernel.
PROPS: Final[Mapping[str, str]] = {
    "zookeeper.DigestAuthenticationProvider.superDigest": peers.SUPER_DIGEST,
    "zookeeper.extendedTypesEnabled": "true",
    "zookeeper.forceSync": "no",
    "zookeeper.preAllocSize": "64",
}
JVM: Final = ("-Xmx200m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")
SERVE_S: Final = 60.0
AGREE_S: Final = 30.0
LOG_TAIL_CHARS: Final = 6000
SESSION_MS: Final = 60_000
# What a member says of a tree that is not the leader's.
_DIFFERS: Final = re.compile(r"digest mismatch|Digests are not matching|internal error", re.IGNORECASE)
# Below the kernel's own (net.ipv4.ip_local_port_range).
PORTS: Final = range(12_000, 32_000)
CONFIG: Final = "/zookeeper/config"
NODE_EXISTS: Final = -110
BAD_VERSION: Final = -103
NO_NODE: Final = -101
# Of a session that is only held: far less than what an ensemble takes to change its kind, and more than an election.
HELD_MS: Final = 20_000
HELD_PING_S: Final = 1.0


_ports: Final = iter(random.Random(os.getpid()).sample(PORTS, len(PORTS)))


def _fresh_port() -> int:
    """A free port that this process gives to nobody else, and that no client's end takes while a member is down."""
    for port in _ports:
        with socket.socket() as probe:
            if probe.connect_ex((peers.HOST, port)) != 0:
                return port
    raise AssertionError("no port is free")


def is_halted(stat: Path) -> bool:
    """Whether a thread, given by its file in /proc, is stopped."""
    return stat.read_text().rpartition(")")[2].split()[0] == "T"


class Member:
    """One seat in the ensemble: sid, ports and data directory stay, the server in it changes."""

    def __init__(self, ensemble: Ensemble, sid: int, kind: str) -> None:
        self.sid = sid
        self.kind = kind
        self.port, quorum_port, election_port = (_fresh_port() for _ in range(3))
        self.data_dir = ensemble.base / str(sid)
        self.quorum_ports = f"{peers.HOST}:{quorum_port}:{election_port}"
        self.is_stopped = False
        self._ensemble = ensemble
        self._old_logs = ""
        self._server: CoatiServer | JavaServer | None = None

    @property
    def host(self) -> str:
        return peers.HOST

    @property
    def server(self) -> CoatiServer | JavaServer:
        assert self._server is not None, "never started"
        return self._server

    @property
    def is_running(self) -> bool:
        return self._server is not None and self._server.is_running

    def launch(self) -> None:
        """Start, and do not wait."""
        if self._server is None or self._server.version != self.kind:
            if self._server is not None:
                self._old_logs = self.log()
                self._server.close()
            self._server = self._make()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        (self.data_dir / "myid").write_text(f"{self.sid}\n")
        if isinstance(self._server, CoatiServer):
            self._server.launch()
        else:
            self._server.start(wait=False)

    def become(self, kind: str) -> None:
        """Ends in order and starts as a server of another kind."""
        self.server.stop()
        self.kind = kind
        self.launch()

    def kill(self) -> None:
        """SIGKILL."""
        if self._server is not None:
            self._server.kill9()
        self.is_stopped = False

    def freeze(self) -> None:
        """SIGSTOP: when it returns nothing is read any more, and nothing of it will be after a kill."""
        os.kill(self.server.pid, signal.SIGSTOP)
        # A thread that runs on another processor goes on for a moment, and may log what comes in that time.
        tasks = Path(f"/proc/{self.server.pid}/task")
        eventually(lambda: all(map(is_halted, tasks.glob("*/stat"))), f"{self.sid} is stopped")
        self.is_stopped = True

    def close(self) -> None:
        self.kill()
        if self._server is not None:
            self._server.close()

    def mode(self) -> str | None:
        """leader, follower, observer, or None while it does not serve."""
        if not self.is_running or self.is_stopped:
            return None
        try:
            answer = four_letter(self.host, self.port, "srvr")
        except OSError:
            return None
        modes = [line.removeprefix("Mode: ") for line in answer.splitlines() if line.startswith("Mode: ")]
        return modes[0] if modes and modes[0] != "leaderelection" else None

    def snapshots(self) -> set[str]:
        """The names of its snapshots."""
        found = (self.data_dir / "version-2").glob("snapshot.*")
        return {path.name for path in found if path.suffix != ".tmp"}

    def log(self) -> str:
        """All it has said, as whatever it was."""
        return self._old_logs + ("" if self._server is None else self._server.log())

    def _make(self) -> CoatiServer | JavaServer:
        cfg = self._ensemble.cfg(self.sid)
        if self.kind == COATI:
            return CoatiServer(self.data_dir, self.port, self._ensemble.props, cfg, log_level="info")
        reason = why_missing(self.kind)
        if reason is not None:
            peers.missing(reason)
        return JavaServer(
            self.kind, self.data_dir, self.port, self._ensemble.props, cfg,
            jvm_args=self._ensemble.jvm, sid=self.sid, log_level="INFO",
        )  # fmt: skip


class Ensemble:
    """Members 1, 2, 3 ... of the given kinds; those in `observers` do not vote. `cfg` goes over what suits tests."""

    def __init__(
        self,
        base: Path,
        kinds: Sequence[str],
        *,
        observers: Sequence[int] = (),
        props: Mapping[str, str] | None = None,
        cfg: Mapping[str, str] | None = None,
        jvm: Sequence[str] = JVM,
    ) -> None:
        for kind in kinds:
            reason = None if kind == COATI else why_missing(kind)
            if reason is not None:
                peers.missing(reason)
        self.base = base
        self.props = {**PROPS, **(props or {})}
        self.jvm = jvm
        self._cfg = {**CFG, **(cfg or {})}
        self._observers = set(observers)
        self.members = {sid: Member(self, sid, kind) for sid, kind in enumerate(kinds, 1)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            for member in self.members.values():
                print(f"--- log of {member.sid} ({member.kind})\n{member.log()[-LOG_TAIL_CHARS:]}")
        for member in self.members.values():
            member.close()

    def __getitem__(self, sid: int) -> Member:
        return self.members[sid]

    def cfg(self, sid: int) -> dict[str, str]:
        lines = {
            f"server.{member.sid}": member.quorum_ports + (":observer" if member.sid in self._observers else "")
            for member in self.members.values()
        }
        own = {"peerType": "observer"} if sid in self._observers else {}
        return {**self._cfg, **lines, **own}

    def start(self, *sids: int) -> None:
        """Starts these and waits until all that run serve."""
        for sid in sids:
            self[sid].launch()
        self.wait()

    def start_led_by(self, leader: int) -> None:
        """Starts all; `leader`, not the smallest of the voters, leads: it and one smaller are a quorum first."""
        smaller = min(sid for sid in self.members if sid not in self._observers)
        self.start(smaller, leader)
        assert self.leader().sid == leader, "of two empty servers the one with the larger id leads"
        self.start(*(sid for sid in self.members if sid not in (smaller, leader)))

    @property
    def running(self) -> list[Member]:
        return [member for member in self.members.values() if member.is_running and not member.is_stopped]

    def wait(self) -> None:
        """Until all that run serve, one of them as the leader."""

        def is_settled() -> bool:
            modes = [member.mode() for member in self.running]
            return None not in modes and modes.count("leader") == 1

        started = self.running
        eventually(is_settled, "all serve, and one leads", SERVE_S)
        assert self.running == started, "a member has ended by itself"

    def leader(self) -> Member:
        """Who leads now."""
        (leader,) = (member for member in self.running if member.mode() == "leader")
        return leader

    def session(self, sid: int, timeout_ms: int = SESSION_MS) -> raw.Session:
        """A new session on one member."""
        return raw.Session(peers.HOST, self[sid].port, timeout_ms, deadline_s=AGREE_S)

    def resumed(self, sid: int, old: raw.Session, timeout_ms: int = SESSION_MS) -> raw.Session:
        """The session of another connection, moved to a member."""
        return raw.Session(
            peers.HOST, self[sid].port, timeout_ms, session_id=old.session_id, password=old.password,
            last_zxid=old.last_zxid, deadline_s=AGREE_S,
        )  # fmt: skip

    def trees(self) -> dict[int, dict[str, picture.Shown]]:
        """What each member shows, once it has all that was committed before."""
        trees = {}
        for member in self.running:
            with self.session(member.sid) as reader:
                error, _ = reader.call(raw.AUTH, raw.auth("digest", peers.SUPER_PASSWORD.encode()), xid=raw.XID_AUTH)
                assert error == 0, "superuser refused"
                assert reader.call(raw.SYNC, raw.ustring("/"))[0] == 0
                shown = picture.take(reader)
                reader.close()
            shown.pop(CONFIG)
            trees[member.sid] = shown
        return trees

    def check(self, acknowledged: Sequence[str] = ()) -> dict[str, picture.Shown]:
        """All members show the same tree, with all that was acknowledged, and none complains. Nobody may write."""
        trees = self.trees()
        first = next(iter(trees))
        for sid, shown in trees.items():
            lost = [path for path in acknowledged if path not in shown]
            assert not lost, f"member {sid} ({self[sid].kind}) lost {len(lost)}: {lost[:5]}"
            other = trees[first]
            paths = sorted(path for path in shown.keys() | other.keys() if shown.get(path) != other.get(path))
            differences = [(path, shown.get(path), other.get(path)) for path in paths[:3]]
            assert not differences, f"{sid} and {first} differ at {len(paths)} paths: {differences}"
        for member in self.members.values():
            said = [line for line in member.log().splitlines() if _DIFFERS.search(line)]
            assert not said, f"member {member.sid} ({member.kind}): {said[:5]}"
        for member in self.running:
            assert peers.monitor(member.server).get("digest_mismatches_count") == "0"
        return trees[first]


class Wanderer(ABC):
    """A client with one session, in a thread of its own: with one member while that works, then with the next."""

    def __init__(self, ensemble: Ensemble, sid: int, name: str, timeout_ms: int) -> None:
        self.failure: BaseException | None = None
        self._ensemble = ensemble
        self._timeout_ms = timeout_ms
        self._ends = threading.Event()
        self._pause = threading.Event()
        self._sid = sid
        self._is_connected = False
        self._session: raw.Session | None = None
        self._thread = threading.Thread(target=self._run, name=name)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.set()
        self._thread.join()
        if self._session is not None:
            self._session.wire.close()

    def end(self) -> raw.Session:
        """Nothing more is sent; the session, which has not expired."""
        self._ends.set()
        self._thread.join()
        self.check()
        assert self._session is not None, "it had a session"
        return self._session

    def check(self) -> None:
        """Raises what has gone wrong."""
        if self.failure is not None:
            raise self.failure

    @abstractmethod
    def live(self) -> None:
        """What it does until the end; a session that has expired ends it."""

    def _run(self) -> None:
        try:
            self.live()
        except BaseException as error:
            self.failure = error

    def write(self, op: int, body: bytes, again: int) -> None:
        """Until it is acknowledged. `again` is the answer that means so, when it was sent before without one."""
        ends = monotonic() + SERVE_S
        is_again = False
        while monotonic() < ends:
            try:
                error, _ = self._connected().call(op, body)
            except (raw.Closed, raw.Silent, OSError):
                self._drop()
                is_again = True
                continue
            assert error == 0 or (is_again and error == again), f"op {op}, {body!r}: {error}"
            return
        raise AssertionError(f"op {op}, {body!r}: nobody answers for {SERVE_S:g} s")

    def ping(self) -> None:
        """Once, with whoever answers."""
        try:
            self._connected().ping()
        except (raw.Closed, raw.Silent, OSError):
            self._drop()

    def _connected(self) -> raw.Session:
        old = self._session
        if old is not None and self._is_connected:
            return old
        member = self._ensemble[self._sid]
        if member.mode() is None:
            raise raw.Closed("it does not serve")
        if old is None:
            self._session = self._ensemble.session(self._sid, self._timeout_ms)
        else:
            self._session = self._ensemble.resumed(self._sid, old, self._timeout_ms)
        self._is_connected = True
        return self._session

    def _drop(self) -> None:
        """On to the next member, a moment later."""
        if self._session is not None and self._is_connected:
            self._session.wire.close()
        self._is_connected = False
        self._sid = self._sid % len(self._ensemble.members) + 1
        self._pause.wait(peers.POLL_S)


class Held(Wanderer):
    """A session with an ephemeral that does nothing but live: every second a ping."""

    def __init__(self, ensemble: Ensemble, sid: int) -> None:
        super().__init__(ensemble, sid, f"held {sid}", HELD_MS)
        self.path = f"/held{sid}"

    def live(self) -> None:
        self.write(raw.CREATE, raw.create(self.path, flags=1), NODE_EXISTS)
        while not self._ends.wait(HELD_PING_S):
            self.ping()


class Load(Wanderer):
    """One client that creates znodes one by one, changes some and deletes others, wherever it is let in.

    A write without an answer is tried again; that it is there already counts as acknowledged then.
    """

    def __init__(self, ensemble: Ensemble, base: str = "/load") -> None:
        super().__init__(ensemble, 1, "load", SESSION_MS)
        self.acknowledged: list[str] = []
        self.ephemeral = f"{base}-alive"
        self._base = base
        self._data: dict[str, bytes] = {}
        self._deleted: list[str] = []

    def wait_for(self, more: int) -> None:
        """Until so many more creates are acknowledged."""
        goal = len(self.acknowledged) + more
        self.wait_until(lambda: len(self.acknowledged) >= goal, f"{more} more writes")

    def wait_until(self, holds: Callable[[], object], what: str) -> None:
        """While the load goes on."""

        def is_so() -> object:
            self.check()
            return holds()

        eventually(is_so, what, SERVE_S)

    def live(self) -> None:
        self.write(raw.CREATE, raw.create(self.ephemeral, flags=1), NODE_EXISTS)
        number = 0
        while not self._ends.is_set():
            path = f"{self._base}{number:05d}"
            self._create(path)
            if number % 3 == 0:
                self._data[path] = b"changed"
                self.write(raw.SET_DATA, raw.set_data(path, b"changed", 0), BAD_VERSION)
            if number % 4 == 0:
                # Another name: none is given twice, so an answer that was lost is no riddle.
                gone = f"{path}-gone"
                self.write(raw.CREATE, raw.create(gone), NODE_EXISTS)
                self.write(raw.DELETE, raw.path_version(gone), NO_NODE)
                self._deleted.append(gone)
            number += 1

    def _create(self, path: str) -> None:
        data = path.encode()
        self.write(raw.CREATE, raw.create(path, data), NODE_EXISTS)
        self._data[path] = data
        self.acknowledged.append(path)

    def check_shown(self, shown: Mapping[str, picture.Shown]) -> None:
        """All that was acknowledged is there as it was written, and what was deleted is not. After the end."""
        wrong = [path for path, data in self._data.items() if path not in shown or shown[path].data != data]
        assert not wrong, f"{len(wrong)} are lost or not as written: {wrong[:5]}"
        back = [path for path in self._deleted if path in shown]
        assert not back, f"{len(back)} are back: {back[:5]}"
