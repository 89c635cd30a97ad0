"""What the four-letter words show of a running server.

Reads the replica, the listener and the operating system; changes nothing but statistics and the trace mask. Tables are
copied a piece at a time, so that an answer can be sent while the tables move on. Sources: as in fourletter.py, and
ZooKeeperServer.dumpConf, Environment.list, OSMXBean for the figures.
"""

from __future__ import annotations

import os
import pwd
import resource
import socket
import sys
from collections.abc import Iterator
from typing import Final

from coati import __version__
from coati.seams import Clock, Disk
from coati.server.config import ServerConfig
from coati.server.driver import Driver
from coati.server.fourletter import FULL_VERSION, TRACE_MASK_DEFAULT, ConnInfo
from coati.server.listeners import ClientListener, ClientProtocol, java_address
from coati.server.pipeline import Conn
from coati.server.readonly import ReadOnly
from coati.server.replica import Replica
from coati.server.standing import Standing
from coati.server.stats import ServerStats
from coati.wire import codes

VERSION_DIR: Final = "version-2"
_MEBIBYTE: Final = 1 << 20
_NOT_THERE: Final = "<NA>"
# FinalRequestProcessor's names of the last operation; what it does not name, such as auth, leaves the one before.
_LAST_OPS: Final[dict[int, str]] = {
    codes.OP_PING: "PING",
    codes.OP_CREATE_SESSION: "SESS",
    codes.OP_MULTI: "MULT",
    codes.OP_MULTI_READ: "MLTR",
    codes.OP_CREATE: "CREA",
    codes.OP_CREATE2: "CREA",
    codes.OP_CREATE_TTL: "CREA",
    codes.OP_CREATE_CONTAINER: "CREA",
    codes.OP_DELETE: "DELE",
    codes.OP_DELETE_CONTAINER: "DELE",
    codes.OP_SET_DATA: "SETD",
    codes.OP_RECONFIG: "RECO",
    codes.OP_SET_ACL: "SETA",
    codes.OP_CLOSE_SESSION: "CLOS",
    codes.OP_SYNC: "SYNC",
    codes.OP_CHECK: "CHEC",
    codes.OP_EXISTS: "EXIS",
    codes.OP_GET_DATA: "GETD",
    codes.OP_SET_WATCHES: "SETW",
    codes.OP_SET_WATCHES2: "STW2",
    codes.OP_ADD_WATCH: "ADDW",
    codes.OP_GET_ACL: "GETA",
    codes.OP_GET_CHILDREN: "GETC",
    codes.OP_GET_CHILDREN2: "GETC",
    codes.OP_GET_ALL_CHILDREN_NUMBER: "GETACN",
    codes.OP_CHECK_WATCHES: "CHKW",
    codes.OP_REMOVE_WATCHES: "REMW",
    codes.OP_WHO_AM_I: "HOMI",
    codes.OP_GET_EPHEMERALS: "GETE",
}
_FD_DIRS: Final = ("/proc/self/fd", "/dev/fd")
# Directories below a data directory that are looked into for its size; nobody makes deeper ones.
MAX_DEPTH: Final = 4


class LiveView:
    """coati.server.fourletter.ServerView of one server. `listener` and `client_port` are set once it listens."""

    def __init__(self, config: ServerConfig, driver: Driver, disk: Disk, clock: Clock) -> None:
        self._config = config
        self._driver = driver
        self._disk = disk
        self._clock = clock
        self._started_ms = clock.monotonic_ms()
        self.trace_mask = TRACE_MASK_DEFAULT
        self.is_running = False
        self.listener: ClientListener | None = None
        self.client_port = config.client_port

    @property
    def stats(self) -> ServerStats:
        return self._driver.stats

    @property
    def _replica(self) -> Replica | ReadOnly:
        """Words that ask for it are not answered while nobody is served."""
        replica = self._driver.replica
        assert replica is not None, "somebody is served"
        return replica

    def set_trace_mask(self, mask: int) -> None:
        self.trace_mask = mask

    def is_serving(self) -> bool:
        return self.is_running and self._driver.serves_clients

    def is_read_only(self) -> bool:
        return self._driver.is_read_only

    def mode(self) -> str:
        return self._driver.mode()

    def standing(self) -> Standing | None:
        return self._driver.standing()

    def membership(self) -> bytes | None:
        view = self._config.ensemble
        # Without a quorum Java's server is no QuorumZooKeeperServer, and does not show it (ConfCommand).
        return None if view is None or self.is_read_only() else view.to_text()

    def outstanding(self) -> int:
        return self._replica.in_flight()

    def last_zxid(self) -> int:
        return self._replica.tree.last_zxid

    def node_count(self) -> int:
        return self._replica.tree.node_count()

    def connection_count(self) -> int:
        return 0 if self.listener is None else self.listener.connection_count

    def gauges(self) -> dict[str, float]:
        tree = self._replica.tree
        return {
            "ephemerals_count": tree.ephemerals_count(),
            "num_alive_connections": self.connection_count(),
            "outstanding_requests": self.outstanding(),
            "znode_count": self.node_count(),
            "global_sessions": len(self._replica.sessions.timeouts),
            "local_sessions": len(self._replica.sessions.sessions) if self.is_read_only() else 0,
            "watch_count": self._replica.watches.size(),
            "approximate_data_size": tree.data_bytes,
            "uptime": self._clock.monotonic_ms() - self._started_ms,
            "open_file_descriptor_count": open_files(),
            "max_file_descriptor_count": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        }

    def configuration(self) -> list[tuple[str, str]]:
        config = self._config
        snapshots, logs = self.directory_bytes()
        shown = [
            ("clientPort", str(self.client_port)),
            ("secureClientPort", "-1"),
            ("dataDir", _version_dir(config.data_dir)),
            ("dataDirSize", str(snapshots)),
            ("dataLogDir", _version_dir(config.data_log_dir)),
            ("dataLogSize", str(logs)),
            ("tickTime", str(config.tick_time_ms)),
            ("maxClientCnxns", str(config.max_client_cnxns)),
            ("minSessionTimeout", str(config.min_session_timeout_ms)),
            ("maxSessionTimeout", str(config.max_session_timeout_ms)),
            ("clientPortListenBacklog", str(config.listen_backlog)),
            ("serverId", str(max(config.my_id, 0))),
        ]
        if config.ensemble is not None:
            mine = config.ensemble.servers.get(config.my_id)
            shown += [
                ("initLimit", str(config.init_limit)),
                ("syncLimit", str(config.sync_limit)),
                ("electionAlg", str(config.election_alg)),
            ]
            # A server that was removed runs on until it is stopped.
            if mine is not None:
                shown += [
                    ("electionPort", str(mine.election_port)),
                    ("quorumPort", str(mine.quorum_port)),
                    ("peerType", "1" if mine.is_observer else "0"),
                ]
        return shown

    def environment(self) -> list[tuple[str, str]]:
        """Java's keys, so that what reads them finds them; there is no JVM behind those that name one."""
        system = os.uname()
        user = _user()
        pages = os.sysconf("SC_PAGE_SIZE")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return [
            ("zookeeper.version", FULL_VERSION),
            ("host.name", socket.gethostname()),
            *((f"java.{name}", _NOT_THERE) for name in ("version", "vendor", "home", "class.path", "library.path")),
            ("java.io.tmpdir", _NOT_THERE),
            ("java.compiler", _NOT_THERE),
            ("os.name", system.sysname),
            ("os.arch", system.machine),
            ("os.version", system.release),
            ("user.name", user[0]),
            ("user.home", user[1]),
            ("user.dir", os.getcwd()),
            ("os.memory.free", f"{_pages('SC_AVPHYS_PAGES') * pages // _MEBIBYTE}MB"),
            ("os.memory.max", f"{_pages('SC_PHYS_PAGES') * pages // _MEBIBYTE}MB"),
            ("os.memory.total", f"{peak // _MEBIBYTE}MB"),
            ("coati_version", __version__),
            ("python.version", sys.version.split()[0]),
        ]

    def directory_bytes(self) -> tuple[int, int]:
        config = self._config
        snapshots = self._bytes_below(_version_dir(config.data_dir), MAX_DEPTH)
        logs = self._bytes_below(_version_dir(config.data_log_dir), MAX_DEPTH)
        return snapshots, logs

    def _bytes_below(self, path: str, depth: int) -> int:
        """ZooKeeperServer.getDirSize; a file that goes away meanwhile counts as nothing."""
        try:
            if self._disk.is_file(path):
                return self._disk.size(path)
            names = self._disk.list(path) if depth else []
        except OSError:
            return 0
        return sum(self._bytes_below(os.path.join(path, name), depth - 1) for name in names)

    def connections(self) -> Iterator[ConnInfo]:
        for protocol in self._protocols():
            yield self._conn_info(protocol)

    def _protocols(self) -> list[ClientProtocol]:
        return [] if self.listener is None else self.listener.protocols()

    def _conn_info(self, protocol: ClientProtocol) -> ConnInfo:
        conn = protocol.conn
        queued = conn.outstanding + len(conn.waiting)
        made = ConnInfo(java_address(*conn.address), protocol.interest, queued, conn.received, conn.sent)
        made.session_id = conn.session_id
        made.last_op = _LAST_OPS.get(conn.last_op, "NA")
        made.established_ms = self._wall(conn.created_ms)
        made.timeout_ms = conn.timeout_ms
        made.last_cxid = conn.last_cxid
        made.last_zxid = conn.last_zxid
        made.last_response_ms = conn.last_response_ms
        made.last_latency_ms = conn.last_latency_ms
        made.min_ms = conn.latency_min_ms
        made.average_ms = conn.latency_total_ms // conn.latency_count if conn.latency_count else 0
        made.max_ms = conn.latency_max_ms
        return made

    def _wall(self, monotonic_ms: int) -> int:
        return self._clock.wall_ms() + monotonic_ms - self._clock.monotonic_ms()

    def session_timeouts(self) -> list[tuple[int, int]]:
        return sorted(self._replica.sessions.timeouts.items())

    def session_deadlines(self) -> list[tuple[int, int]]:
        tick_ms = self._config.tick_time_ms
        found = [
            (self._wall(_next_multiple(session.deadline_ms, tick_ms)), session.session_id)
            for session in self._replica.sessions.sessions.values()
        ]
        found.sort()
        return found

    def connection_deadlines(self) -> list[tuple[int, str, int]]:
        """NIOServerCnxnFactory keeps connections in buckets of the time it grants to those without a session."""
        interval_ms = self._config.sessionless_timeout_ms
        found = [
            (
                self._wall(_next_multiple(self._deadline(protocol.conn), interval_ms)),
                protocol.peer,
                protocol.conn.session_id,
            )
            for protocol in self._protocols()
        ]
        found.sort()
        return found

    def _deadline(self, conn: Conn) -> int:
        # Also where only the leader watches over it.
        session = conn.session
        if session is None:
            return conn.created_ms + self._config.sessionless_timeout_ms
        return session.deadline_ms

    def ephemerals(self) -> Iterator[tuple[int, list[bytes]]]:
        ephemerals = self._replica.tree.ephemerals
        for owner in list(ephemerals):
            yield owner, list(ephemerals.get(owner, ()))

    def ephemeral_sessions(self) -> int:
        return len(self._replica.tree.ephemerals)

    def digests(self) -> list[tuple[int, int]]:
        return list(self._replica.tree.digest_log)

    def watch_totals(self) -> tuple[int, int, int]:
        return self._replica.watches.summary()

    def watches_by_path(self) -> Iterator[tuple[bytes, list[int]]]:
        table = self._replica.watches.data.by_path
        for path in list(table):
            watchers = table.get(path)
            if watchers:
                yield path, [watcher.session_id for watcher in watchers]

    def watches_by_session(self) -> Iterator[tuple[int, list[bytes]]]:
        table = self._replica.watches.data.by_watcher
        for watcher in list(table):
            paths = table.get(watcher)
            if paths:
                yield watcher.session_id, list(paths)

    def reset_connection_stats(self) -> None:
        for conn in self._replica.conns:
            conn.reset_statistics()
            # ServerCnxn.resetStats: `cons` then shows lop=NA, no lcxid, and -1 for the zxid.
            conn.last_op = 0
            conn.last_cxid = -1
            conn.last_zxid = -1
            conn.last_response_ms = 0


def open_files() -> int:
    """Open file descriptors of this process; -1 where the system does not tell."""
    for directory in _FD_DIRS:
        try:
            # One of them is the directory itself.
            return len(os.listdir(directory)) - 1
        except OSError:
            continue
    return -1


def _version_dir(path: str) -> str:
    return os.path.join(os.path.abspath(path), VERSION_DIR)


def _next_multiple(at_ms: int, interval_ms: int) -> int:
    """ExpiryQueue.roundToNextInterval."""
    return (at_ms // interval_ms + 1) * interval_ms


def _pages(name: str) -> int:
    """A figure of sysconf, 0 on systems that do not know it."""
    try:
        return max(os.sysconf(name), 0)
    except (ValueError, OSError):
        return 0


def _user() -> tuple[str, str]:
    """Name and home directory; a container's user may have neither."""
    try:
        entry = pwd.getpwuid(os.getuid())
    except KeyError:
        return str(os.getuid()), "?"
    return entry.pw_name, entry.pw_dir
