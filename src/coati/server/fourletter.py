"""The four-letter words: what a monitor asks on the client port, answered byte for byte as Java 3.9 does.

Knows the words, their texts and the whitelist; must not know sockets, files or the machines: all figures come through
`ServerView`. Sources: server.command.*, ServerCnxn.dumpConnectionInfo, ExpiryQueue.dump, DataTree.dump*, Environment.
Invariant: an answer is made piece by piece while it is sent, so the largest one costs no more memory than a small one,
and what changes in between is at worst missing or shown twice, as in Java where the tables move on as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

from coati import __version__
from coati.server.metricnames import COUNTERS, GAUGES, PERCENTILES, ROLE_GAUGES, SUMMARIES
from coati.server.standing import Standing
from coati.server.stats import ServerStats, Summary

# The release whose behaviour this is. Monitors take `X.Y.Z-<hash>, built on <date>` apart; the hash spells our own name
# and version in hexadecimal, so that it cannot be mistaken for a commit of Apache ZooKeeper.
COMPATIBLE_VERSION: Final = "3.9.5"
REVISION: Final = f"coati {__version__}".encode().hex()
BUILD_DATE: Final = "2026-11-21 00:00 UTC"
FULL_VERSION: Final = f"{COMPATIBLE_VERSION}-{REVISION}, built on {BUILD_DATE}"

NOT_SERVING: Final = b"This ZooKeeper instance is not currently serving requests"
TRACE_MASK_DEFAULT: Final = 0b100110010  # ZooTrace
TRACE_MASK_BYTES: Final = 8
CHUNK_BYTES: Final = 16_384
_UNSIGNED: Final = 2**64 - 1
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class ConnInfo:
    """One connection as `cons` and `stat` show it; `last_cxid` is -1 until a request came."""

    __slots__ = (
        "address",
        "average_ms",
        "established_ms",
        "interest",
        "last_cxid",
        "last_latency_ms",
        "last_op",
        "last_response_ms",
        "last_zxid",
        "max_ms",
        "min_ms",
        "outstanding",
        "received",
        "sent",
        "session_id",
        "timeout_ms",
    )

    def __init__(self, address: str, interest: int, outstanding: int, received: int, sent: int) -> None:
        self.address = address
        self.interest = interest
        self.outstanding = outstanding
        self.received = received
        self.sent = sent
        self.session_id = 0
        self.last_op = "NA"
        self.established_ms = 0
        self.timeout_ms = 0
        self.last_cxid = -1
        self.last_zxid = 0
        self.last_response_ms = 0
        self.last_latency_ms = 0
        self.min_ms = 0
        self.average_ms = 0
        self.max_ms = 0


class ServerView(Protocol):
    """What the words show and reset. Times are Unix ms unless the name says otherwise."""

    @property
    def stats(self) -> ServerStats: ...

    @property
    def trace_mask(self) -> int: ...

    def set_trace_mask(self, mask: int) -> None: ...

    def is_serving(self) -> bool: ...

    def is_read_only(self) -> bool: ...

    def mode(self) -> str:
        """`standalone`, or the role in an ensemble."""

    def standing(self) -> Standing | None:
        """More of the role in an ensemble; None: there is none. Asked only while somebody is served."""

    def membership(self) -> bytes | None:
        """Who is in the ensemble, as text; None: there is none."""

    def outstanding(self) -> int: ...

    def last_zxid(self) -> int: ...

    def node_count(self) -> int: ...

    def connection_count(self) -> int: ...

    def gauges(self) -> dict[str, float]:
        """Values for metricnames.GAUGES that are not in `stats`; one left out shows as 0."""

    def configuration(self) -> list[tuple[str, str]]: ...

    def environment(self) -> list[tuple[str, str]]: ...

    def directory_bytes(self) -> tuple[int, int]:
        """Of the snapshots and of the logs."""

    def connections(self) -> Iterator[ConnInfo]: ...

    def session_timeouts(self) -> list[tuple[int, int]]:
        """(id, timeout in ms) of all sessions, sorted."""

    def session_deadlines(self) -> list[tuple[int, int]]:
        """(when the session would expire, its id), sorted."""

    def connection_deadlines(self) -> list[tuple[int, str, int]]:
        """(when the connection would be closed, its address, its session), sorted."""

    def ephemerals(self) -> Iterator[tuple[int, list[bytes]]]: ...

    def ephemeral_sessions(self) -> int: ...

    def digests(self) -> list[tuple[int, int]]:
        """(zxid, digest) of the history, oldest first."""

    def watch_totals(self) -> tuple[int, int, int]:
        """Connections that watch, paths watched, watches."""

    def watches_by_path(self) -> Iterator[tuple[bytes, list[int]]]:
        """Sessions that watch a path."""

    def watches_by_session(self) -> Iterator[tuple[int, list[bytes]]]: ...

    def reset_connection_stats(self) -> None: ...


def parse_whitelist(text: str, *, is_read_only_enabled: bool) -> frozenset[str]:
    """The words that may be used, from `4lw.commands.whitelist`. Source: FourLetterCommands.isEnabled."""
    words = {"srvr"}
    if is_read_only_enabled:
        words.add("isro")
    for part in text.split(","):
        word = part.strip()
        if word == "*":
            words.update(NAMES.values())
            break
        if word:
            words.add(word)
    return frozenset(words)


def answer(word: bytes, enabled: frozenset[str], view: ServerView, trace_mask: int = 0) -> Iterator[bytes]:
    """The answer to `word`, a key of NAMES, in chunks of bounded size; none where Java only closes."""
    name = NAMES[word]
    if name not in enabled:
        yield f"{name} is not executed because it is not in the whitelist.\n".encode()
        return
    if word == b"stmk":
        view.set_trace_mask(trace_mask)
        yield str(trace_mask).encode()
        return
    maker = _MAKERS.get(word)
    if maker is None:
        return
    if not view.is_serving() and word not in _ALWAYS:
        yield NOT_SERVING if word == b"hash" else NOT_SERVING + b"\n"
        return
    yield from _in_chunks(maker(view))


def _in_chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= CHUNK_BYTES:
            yield b"".join(waiting)
            waiting.clear()
            size = 0
    if waiting:
        yield b"".join(waiting)


def java_double(value: float) -> str:
    """Double.toString: plain between 0.001 and ten million, else one digit before the point and an exponent."""
    text = repr(float(value))
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return text
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = text.removeprefix("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    # Both write the shortest digits that give the same double; only the place of the point differs.
    point = int(exponent or 0) + len(whole.lstrip("0")) - 1
    if whole == "0":
        point -= len(fraction) - len(fraction.lstrip("0"))
    digits = (whole + fraction).strip("0")
    return f"{sign}{digits[0]}.{digits[1:] or '0'}E{point}"


def java_date(wall_ms: int) -> str:
    """Date.toString in the server's time zone, English whatever the locale."""
    at = time.localtime(wall_ms // 1000)
    clock = f"{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}"
    return f"{_DAYS[at.tm_wday]} {_MONTHS[at.tm_mon - 1]} {at.tm_mday:02} {clock} {at.tm_zone} {at.tm_year}"


def _hex(number: int) -> str:
    """Long.toHexString."""
    return f"{number & _UNSIGNED:x}"


# One function a word, each giving small pieces.


def _conf(view: ServerView) -> Iterator[bytes]:
    for key, value in view.configuration():
        yield f"{key}={value}\n".encode()
    membership = view.membership()
    if membership is not None:
        yield b"membership: \n" + membership


def _cons(view: ServerView) -> Iterator[bytes]:
    for info in view.connections():
        yield f"{_brief(info)}{_details(info)})\n".encode()
    yield b"\n"


def _brief(info: ConnInfo) -> str:
    return f" /{info.address}[{info.interest:x}](queued={info.outstanding},recved={info.received},sent={info.sent}"


def _details(info: ConnInfo) -> str:
    if not info.session_id:
        return ""
    cxid = f",lcxid=0x{_hex(info.last_cxid)}" if info.last_cxid >= 0 else ""
    return (
        f",sid=0x{_hex(info.session_id)},lop={info.last_op},est={info.established_ms},to={info.timeout_ms}{cxid}"
        f",lzxid=0x{_hex(info.last_zxid)},lresp={info.last_response_ms},llat={info.last_latency_ms}"
        f",minlat={info.min_ms},avglat={info.average_ms},maxlat={info.max_ms}"
    )


def _crst(view: ServerView) -> Iterator[bytes]:
    view.reset_connection_stats()
    yield b"Connection stats reset.\n"


def _srst(view: ServerView) -> Iterator[bytes]:
    view.stats.reset()
    yield b"Server stats reset.\n"


def _dirs(view: ServerView) -> Iterator[bytes]:
    snapshots, logs = view.directory_bytes()
    yield f"datadir_size: {snapshots}\nlogdir_size: {logs}\n".encode()


def _dump(view: ServerView) -> Iterator[bytes]:
    standing = view.standing()
    yield b"SessionTracker dump:\n"
    reads_only = view.is_read_only()
    if reads_only:
        yield from _sets(b"Local Session", _session_lines(view))
    if reads_only or (standing is not None and not standing.leads):
        # LearnerSessionTracker.dumpSessions: only the leader knows when a session expires.
        timeouts = view.session_timeouts()
        yield b"Global Sessions(%d):\n" % len(timeouts)
        for session_id, timeout_ms in timeouts:
            yield f"0x{_hex(session_id)}\t{timeout_ms}ms\n".encode()
    else:
        yield from _sets(b"Session", _session_lines(view))
    yield f"ephemeral nodes dump:\nSessions with Ephemerals ({view.ephemeral_sessions()}):\n".encode()
    for owner, paths in view.ephemerals():
        yield f"0x{_hex(owner)}:\n".encode()
        for path in paths:
            yield b"\t%b\n" % path
    yield b"Connections dump:\n"
    connections = view.connection_deadlines()
    lines = [(at, f"ip: /{address} sessionId: 0x{_hex(session_id)}") for at, address, session_id in connections]
    yield from _sets(b"Connections", lines)


def _session_lines(view: ServerView) -> list[tuple[int, str]]:
    return [(at, f"0x{_hex(session_id)}") for at, session_id in view.session_deadlines()]


def _sets(title: bytes, sorted_entries: list[tuple[int, str]]) -> Iterator[bytes]:
    """ExpiryQueue.dump: the buckets in order of time, each with its members."""
    buckets: dict[int, list[str]] = {}
    for at, text in sorted_entries:
        buckets.setdefault(at, []).append(text)
    yield b"%b Sets (%d)/(%d):\n" % (title, len(buckets), len(sorted_entries))
    for at, texts in buckets.items():
        yield f"{len(texts)} expire at {java_date(at)}:\n".encode()
        for text in texts:
            yield f"\t{text}\n".encode()


def _envi(view: ServerView) -> Iterator[bytes]:
    yield b"Environment:\n"
    for key, value in view.environment():
        yield f"{key}={value}\n".encode("utf-8", "backslashreplace")


def _gtmk(view: ServerView) -> Iterator[bytes]:
    yield str(view.trace_mask).encode()


def _hash(view: ServerView) -> Iterator[bytes]:
    for zxid, digest in view.digests():
        # Java shows the digest as the signed long that it keeps.
        yield f"{_hex(zxid)}: {digest - 2**64 if digest >= 2**63 else digest}\n".encode()


def _isro(view: ServerView) -> Iterator[bytes]:
    if not view.is_serving():
        yield b"null"
    else:
        yield b"ro" if view.is_read_only() else b"rw"


def _ruok(view: ServerView) -> Iterator[bytes]:
    yield b"imok"


def _srvr(view: ServerView) -> Iterator[bytes]:
    yield from _version(view)
    yield from _figures(view)


def _stat(view: ServerView) -> Iterator[bytes]:
    yield from _version(view)
    yield b"Clients:\n"
    for info in view.connections():
        yield f"{_brief(info)})\n".encode()
    yield b"\n"
    yield from _figures(view)


def _version(view: ServerView) -> Iterator[bytes]:
    yield f"Zookeeper version: {FULL_VERSION}\n".encode()
    if view.is_read_only():
        yield b"READ-ONLY mode; serving only read-only clients\n"


def _figures(view: ServerView) -> Iterator[bytes]:
    stats = view.stats
    latency = stats.latency
    yield (
        f"Latency min/avg/max: {latency.lowest}/{java_double(latency.average())}/{latency.highest}\n"
        f"Received: {stats.packets_received}\n"
        f"Sent: {stats.packets_sent}\n"
        f"Connections: {view.connection_count()}\n"
        f"Outstanding: {view.outstanding()}\n"
        f"Zxid: 0x{_hex(view.last_zxid())}\n"
        f"Mode: {view.mode()}\n"
        f"Node count: {view.node_count()}\n"
    ).encode()
    standing = view.standing()
    if standing is not None and standing.leads:
        sizes = "/".join(str(size) for size in standing.proposal_sizes)
        yield f"Proposal sizes last/min/max: {sizes}\n".encode()


def _wchs(view: ServerView) -> Iterator[bytes]:
    connections, paths, total = view.watch_totals()
    yield b"%d connections watching %d paths\nTotal watches:%d\n" % (connections, paths, total)


def _wchc(view: ServerView) -> Iterator[bytes]:
    for session_id, paths in view.watches_by_session():
        yield f"0x{_hex(session_id)}\n".encode()
        for path in paths:
            yield b"\t%b\n" % path
    yield b"\n"


def _wchp(view: ServerView) -> Iterator[bytes]:
    for path, session_ids in view.watches_by_path():
        yield b"%b\n" % path
        for session_id in session_ids:
            yield f"\t0x{_hex(session_id)}\n".encode()
    yield b"\n"


def _mntr(view: ServerView) -> Iterator[bytes]:
    stats = view.stats
    yield f"zk_version\t{FULL_VERSION}\nzk_server_state\t{view.mode()}\n".encode()
    gauges = view.gauges()
    standing = view.standing()
    if standing is not None:
        yield f"zk_peer_state\t{standing.peer_state}\n".encode()
        if standing.observed_sid is not None:
            yield _metric("observer_master_id", standing.observed_sid)
        gauges.update(standing.gauges())
    gauges.update(
        avg_latency=stats.latency.average(),
        min_latency=stats.latency.lowest,
        max_latency=stats.latency.highest,
        packets_received=stats.packets_received,
        packets_sent=stats.packets_sent,
        last_client_response_size=stats.response_last_bytes,
        min_client_response_size=stats.response_min_bytes,
        max_client_response_size=stats.response_max_bytes,
        auth_failed_count=stats.auth_failed,
        connection_drop_probability=0.0,
    )
    for name in GAUGES:
        if name in gauges or name not in ROLE_GAUGES:
            yield _metric(name, gauges.get(name, 0))
    counters = {
        **stats.counters,
        "bytes_received_count": stats.received_bytes,
        "response_bytes": stats.sent_bytes,
        "watch_bytes": stats.watch_bytes,
    }
    for name in COUNTERS:
        yield _metric(name, counters.get(name, 0))
    for name in SUMMARIES:
        yield from _summary(name, stats.summaries.get(name, _NOTHING))
    for name in PERCENTILES:
        summary = stats.summaries.get(name, _NOTHING)
        yield from _summary(name, summary)
        for label, quantile in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999)):
            yield _metric(f"{label}_{name}", summary.percentile(quantile))


def _summary(name: str, summary: Summary) -> Iterator[bytes]:
    yield _metric(f"avg_{name}", summary.average())
    yield _metric(f"min_{name}", summary.lowest)
    yield _metric(f"max_{name}", summary.highest)
    yield _metric(f"cnt_{name}", summary.count)
    yield _metric(f"sum_{name}", summary.total)


def _metric(name: str, value: float) -> bytes:
    text = str(value) if isinstance(value, int) else java_double(value)
    return f"zk_{name}\t{text}\n".encode()


_NOTHING: Final = Summary()

# The bytes that arrive, and what the whitelist calls them.
NAMES: Final = {
    **{
        word.encode(): word
        for word in (
            "conf", "cons", "crst", "dirs", "dump", "envi", "gtmk", "hash", "isro", "mntr", "ruok", "srst", "srvr",
            "stat", "stmk", "wchc", "wchp", "wchs",
        )
    },
    # What telnet sends when its user presses ^C; Java knows it so as not to log a bad length, and answers nothing.
    b"\xff\xf4\xff\xfd": "telnet close",
}  # fmt: skip
_MAKERS: Final[dict[bytes, Callable[[ServerView], Iterator[bytes]]]] = {
    b"conf": _conf,
    b"cons": _cons,
    b"crst": _crst,
    b"dirs": _dirs,
    b"dump": _dump,
    b"envi": _envi,
    b"gtmk": _gtmk,
    b"hash": _hash,
    b"isro": _isro,
    b"mntr": _mntr,
    b"ruok": _ruok,
    b"srst": _srst,
    b"srvr": _srvr,
    b"stat": _stat,
    b"wchc": _wchc,
    b"wchp": _wchp,
    b"wchs": _wchs,
}
# These do not need a serving server.
_ALWAYS: Final = (b"envi", b"gtmk", b"isro", b"ruok")
