"""The four-letter words as values: what servers answer on the client port, taken apart.

Pure: knows the texts that Java 3.4 to 3.9 and coati give; must not know sockets (`ask`, `knock`). Lines that a newer
server adds are passed over; an answer that lacks what the word is asked for is a BadAnswer.
Sources: server.command.*, ServerCnxn.dumpConnectionInfo, SessionTrackerImpl and LearnerSessionTracker.dumpSessions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from coati.errors import ZKError

REFUSED: Final = "is not executed because it is not in the whitelist"
NOT_SERVING: Final = "This ZooKeeper instance is not currently serving requests"
READ_ONLY: Final = "READ-ONLY mode"
UNREADY_MODES: Final = ("leaderelection", "unknown", "")
"""What `Mode:` says of a server that serves nobody."""

_SESSION: Final = re.compile(r"0x([0-9a-fA-F]{1,16})")
_CONNECTION: Final = re.compile(r"\s*/(\S+)\[([0-9a-fA-F]+)\]\((.*)\)\s*")
_GLOBAL: Final = re.compile(r"\t?0x([0-9a-fA-F]{1,16})\t(\d+)ms")
_EXPIRY: Final = re.compile(r"\d+ expire at (.*):")
_COUNTS: Final = re.compile(r"(\d+) connections watching (\d+) paths\s+Total watches:(\d+)")
_MEMBER: Final = re.compile(r"server\.(\d+)=(.*)")
_SHOWN_CHARS: Final = 80


class WordError(ZKError):
    """A word was answered, though not with what it is asked for."""

    def __init__(self, word: str, text: str) -> None:
        super().__init__(f"{word}: {text}")
        self.word = word


class WordRefused(WordError):
    """The word is not in the server's whitelist."""

    def __init__(self, word: str) -> None:
        super().__init__(
            word, f"the server does not allow it; set 4lw.commands.whitelist={word} (or more) in its zoo.cfg"
        )


class NotServing(WordError):
    """The server has no quorum, or is starting."""

    def __init__(self, word: str) -> None:
        super().__init__(word, "not serving: it has no quorum, or is starting")


class BadAnswer(WordError):
    """The answer cannot be understood, or ended early."""

    def __init__(self, word: str, text: str) -> None:
        shown = text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."
        super().__init__(word, f"an answer that is none: {shown!r}" if text else "no answer; it may not know the word")


@dataclass(slots=True)
class ServerInfo:
    """What `srvr` says. `mode`: standalone, leader, follower, observer, read-only; sizes are the leader's alone."""

    version: str = ""
    latency_min_ms: float = 0.0
    latency_avg_ms: float = 0.0
    latency_max_ms: float = 0.0
    received: int = 0
    sent: int = 0
    connections: int = 0
    outstanding: int = 0
    zxid: int = 0
    mode: str = ""
    node_count: int = 0
    is_read_only: bool = False
    proposal_sizes: tuple[int, ...] = ()

    @property
    def epoch(self) -> int:
        """The leader's number, in the upper half of the zxid."""
        return self.zxid >> 32

    @property
    def counter(self) -> int:
        """Of the txn within its epoch."""
        return self.zxid & 0xFFFFFFFF

    @property
    def is_serving(self) -> bool:
        """Whether a client that writes is served."""
        return self.mode not in UNREADY_MODES and not self.is_read_only

    @property
    def release(self) -> str:
        """`3.9.3` of `3.9.3-c26634f..., built on ...`."""
        return self.version.partition(",")[0].partition("-")[0]


@dataclass(slots=True)
class Connection:
    """A line of `cons` or `stat`; `session_id` is 0 before there is one, and in `stat`. Times in ms."""

    address: str
    queued: int = 0
    received: int = 0
    sent: int = 0
    session_id: int = 0
    timeout_ms: int = 0
    established_ms: int = 0
    last_op: str = ""
    last_latency_ms: int = 0
    min_latency_ms: int = 0
    avg_latency_ms: int = 0
    max_latency_ms: int = 0


@dataclass(slots=True)
class SessionInfo:
    """A session of `dump`: a leader says when it `expires`, another member how long its timeout is."""

    id: int
    timeout_ms: int = 0
    expires: str = ""


@dataclass(slots=True)
class Dump:
    """What `dump` says: sessions by id, and the paths of their ephemerals."""

    sessions: dict[int, SessionInfo] = field(default_factory=dict)
    ephemerals: dict[int, list[str]] = field(default_factory=dict)


@dataclass(slots=True)
class WatchCounts:
    """What `wchs` says."""

    connections: int
    paths: int
    watches: int


@dataclass(slots=True)
class Configuration:
    """What `conf` says: keys and values, and the right sides of the lines server.N by N."""

    values: dict[str, str] = field(default_factory=dict)
    members: dict[int, str] = field(default_factory=dict)


def checked(word: str, answer: bytes) -> str:
    """The text of an answer. Raises WordRefused, NotServing, BadAnswer for none."""
    text = answer.decode("utf-8", "backslashreplace")
    if REFUSED in text[:200]:
        raise WordRefused(word)
    if text.startswith(NOT_SERVING):
        raise NotServing(word)
    if not text:
        raise BadAnswer(word, "")
    return text


def parse_srvr(text: str, word: str = "srvr") -> ServerInfo:
    """`srvr`, and `stat` whose clients are passed over. Raises BadAnswer."""
    info = ServerInfo(is_read_only=READ_ONLY in text)
    found: set[str] = set()
    try:
        for line in text.splitlines():
            key, colon, value = line.partition(": ")
            if colon and not line.startswith(" "):
                found.add(key)
                _set_figure(info, key, value.strip())
    except ValueError:
        raise BadAnswer(word, text) from None
    if not {"Zookeeper version", "Mode"} <= found:
        raise BadAnswer(word, text)
    return info


def _set_figure(info: ServerInfo, key: str, value: str) -> None:
    if key == "Latency min/avg/max":
        info.latency_min_ms, info.latency_avg_ms, info.latency_max_ms = map(float, value.split("/"))
    elif key == "Zookeeper version":
        info.version = value
    elif key == "Received":
        info.received = int(value)
    elif key == "Sent":
        info.sent = int(value)
    elif key == "Connections":
        info.connections = int(value)
    elif key == "Outstanding":
        info.outstanding = int(value)
    elif key == "Zxid":
        info.zxid = int(value, 16) & 0xFFFFFFFFFFFFFFFF
    elif key == "Mode":
        info.mode = value
    elif key == "Node count":
        info.node_count = int(value)
    elif key == "Proposal sizes last/min/max":
        info.proposal_sizes = tuple(map(int, value.split("/")))


def parse_stat(text: str) -> tuple[ServerInfo, list[Connection]]:
    """`stat`. Raises BadAnswer."""
    info = parse_srvr(text, "stat")
    lines = text.partition("Clients:\n")[2].splitlines()
    connections: list[Connection] = []
    for line in lines:
        if not line.strip():
            break
        connections.append(_connection("stat", line))
    return info, connections


def parse_cons(text: str) -> list[Connection]:
    """`cons`. Raises BadAnswer."""
    return [_connection("cons", line) for line in text.splitlines() if line.strip()]


def _connection(word: str, line: str) -> Connection:
    found = _CONNECTION.fullmatch(line)
    if found is None:
        raise BadAnswer(word, line)
    pairs = dict(part.partition("=")[::2] for part in found[3].split(","))

    def number(key: str, base: int = 10) -> int:
        return int(pairs.get(key) or "0", base)

    try:
        return Connection(
            address=found[1], queued=number("queued"), received=number("recved"), sent=number("sent"),
            session_id=number("sid", 16), timeout_ms=number("to"), established_ms=number("est"),
            last_op=pairs.get("lop", ""), last_latency_ms=number("llat"), min_latency_ms=number("minlat"),
            avg_latency_ms=number("avglat"), max_latency_ms=number("maxlat"),
        )  # fmt: skip
    except ValueError:
        raise BadAnswer(word, line) from None


def parse_mntr(text: str) -> dict[str, str]:
    """`mntr`: values by name, without the `zk_`. Raises BadAnswer."""
    pairs = (line.partition("\t") for line in text.splitlines())
    found = {name.removeprefix("zk_"): value for name, tab, value in pairs if tab}
    if "server_state" not in found:
        raise BadAnswer("mntr", text)
    return found


def parse_dump(text: str) -> Dump:
    """`dump`. Raises BadAnswer."""
    dump = Dump()
    sessions, marker, rest = text.partition("ephemeral nodes dump:\n")
    if not marker:
        raise BadAnswer("dump", text)
    expires = ""
    for line in sessions.splitlines():
        at = _EXPIRY.fullmatch(line)
        if at is not None:
            expires = at[1]
        elif (known := _GLOBAL.fullmatch(line)) is not None:
            found = int(known[1], 16)
            dump.sessions[found] = SessionInfo(found, timeout_ms=int(known[2]))
        elif (alone := _SESSION.fullmatch(line.strip())) is not None:
            found = int(alone[1], 16)
            dump.sessions[found] = SessionInfo(found, expires=expires)
    owners = rest.partition("Connections dump:\n")[0]
    dump.ephemerals = _grouped_by_session("dump", [line for line in owners.splitlines() if _is_of_owner(line)])
    return dump


def _is_of_owner(line: str) -> bool:
    return bool(line) and not line.startswith("Sessions with Ephemerals")


def _grouped_by_session(word: str, lines: list[str]) -> dict[int, list[str]]:
    """`0x1:` or `0x1`, then its paths behind tabs."""
    grouped: dict[int, list[str]] = {}
    paths: list[str] | None = None
    for line in lines:
        if line.startswith("\t"):
            if paths is None:
                raise BadAnswer(word, line)
            paths.append(line[1:])
            continue
        owner = _SESSION.fullmatch(line.rstrip(":"))
        if owner is None:
            raise BadAnswer(word, line)
        paths = grouped.setdefault(int(owner[1], 16), [])
    return grouped


def parse_wchc(text: str) -> dict[int, list[str]]:
    """`wchc`: the paths that each session watches. Raises BadAnswer."""
    return _grouped_by_session("wchc", [line for line in text.splitlines() if line])


def parse_wchp(text: str) -> dict[str, list[int]]:
    """`wchp`: the sessions that watch each path. Raises BadAnswer."""
    grouped: dict[str, list[int]] = {}
    sessions: list[int] | None = None
    for line in text.splitlines():
        if line.startswith("/"):
            sessions = grouped.setdefault(line, [])
        elif line:
            session = _SESSION.fullmatch(line.strip())
            if session is None or sessions is None:
                raise BadAnswer("wchp", line)
            sessions.append(int(session[1], 16))
    return grouped


def parse_wchs(text: str) -> WatchCounts:
    """`wchs`. Raises BadAnswer."""
    found = _COUNTS.search(text)
    if found is None:
        raise BadAnswer("wchs", text)
    return WatchCounts(int(found[1]), int(found[2]), int(found[3]))


def parse_conf(text: str) -> Configuration:
    """`conf`. Raises BadAnswer."""
    found = Configuration()
    for line in text.splitlines():
        member = _MEMBER.fullmatch(line)
        if member is not None:
            found.members[int(member[1])] = member[2]
            continue
        key, equals, value = line.partition("=")
        if equals:
            found.values[key] = value
    if "clientPort" not in found.values and "secureClientPort" not in found.values:
        raise BadAnswer("conf", text)
    return found


def parse_envi(text: str) -> dict[str, str]:
    """`envi`. Raises BadAnswer."""
    found = dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)
    if "zookeeper.version" not in found:
        raise BadAnswer("envi", text)
    return found


def parse_ruok(text: str) -> bool:
    """`ruok`: whether it is. Raises BadAnswer."""
    if text.strip() != "imok":
        raise BadAnswer("ruok", text)
    return True


def parse_isro(text: str) -> bool | None:
    """`isro`: whether it serves reads only; None if it serves nobody. Raises BadAnswer."""
    known = {"ro": True, "rw": False, "null": None}
    if text.strip() not in known:
        raise BadAnswer("isro", text)
    return known[text.strip()]
