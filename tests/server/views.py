"""A ServerView out of plain values, for the tests of the words and of the listener."""

from __future__ import annotations

from collections.abc import Iterator

from coati.server.fourletter import TRACE_MASK_DEFAULT, ConnInfo
from coati.server.standing import Standing
from coati.server.stats import ServerStats


class PlainView:
    """Shows what its fields say."""

    def __init__(self) -> None:
        self.stats = ServerStats()
        self.trace_mask = TRACE_MASK_DEFAULT
        self.serving = True
        self.read_only = False
        self.infos: list[ConnInfo] = []
        self.connected = 1
        self.gauge_values: dict[str, float] = {}
        self.conf: list[tuple[str, str]] = []
        self.env: list[tuple[str, str]] = []
        self.sessions: list[tuple[int, int]] = []
        self.conn_deadlines: list[tuple[int, str, int]] = []
        self.owners: dict[int, list[bytes]] = {}
        self.digest_log: list[tuple[int, int]] = []
        self.watches: list[tuple[int, list[bytes]]] = []
        self.zxid = 8
        self.nodes = 9
        self.resets = 0
        self.mode_name = "standalone"
        self.role: Standing | None = None
        self.members: bytes | None = None

    def set_trace_mask(self, mask: int) -> None:
        self.trace_mask = mask

    def is_serving(self) -> bool:
        return self.serving

    def is_read_only(self) -> bool:
        return self.read_only

    def mode(self) -> str:
        return self.mode_name

    def standing(self) -> Standing | None:
        return self.role

    def membership(self) -> bytes | None:
        return self.members

    def session_timeouts(self) -> list[tuple[int, int]]:
        return [(session_id, 10000) for session_id in sorted(session_id for _, session_id in self.sessions)]

    def outstanding(self) -> int:
        return 0

    def last_zxid(self) -> int:
        return self.zxid

    def node_count(self) -> int:
        return self.nodes

    def connection_count(self) -> int:
        return self.connected

    def gauges(self) -> dict[str, float]:
        return dict(self.gauge_values)

    def configuration(self) -> list[tuple[str, str]]:
        return self.conf

    def environment(self) -> list[tuple[str, str]]:
        return self.env

    def directory_bytes(self) -> tuple[int, int]:
        return 478, 67109358

    def connections(self) -> Iterator[ConnInfo]:
        return iter(self.infos)

    def session_deadlines(self) -> list[tuple[int, int]]:
        return self.sessions

    def connection_deadlines(self) -> list[tuple[int, str, int]]:
        return self.conn_deadlines

    def ephemerals(self) -> Iterator[tuple[int, list[bytes]]]:
        return iter(self.owners.items())

    def ephemeral_sessions(self) -> int:
        return len(self.owners)

    def digests(self) -> list[tuple[int, int]]:
        return self.digest_log

    def watch_totals(self) -> tuple[int, int, int]:
        paths = {path for _, watched in self.watches for path in watched}
        return len(self.watches), len(paths), sum(len(watched) for _, watched in self.watches)

    def watches_by_path(self) -> Iterator[tuple[bytes, list[int]]]:
        by_path: dict[bytes, list[int]] = {}
        for session_id, paths in self.watches:
            for path in paths:
                by_path.setdefault(path, []).append(session_id)
        return iter(by_path.items())

    def watches_by_session(self) -> Iterator[tuple[int, list[bytes]]]:
        return iter(self.watches)

    def reset_connection_stats(self) -> None:
        self.resets += 1
