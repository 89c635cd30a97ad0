"""The storm of bad input: what hostile clients do in great numbers, and what it costs the server and everybody else.

Each attack runs against a coati of its own kind (limits on, short time for a session to appear) while an onlooker in
another process asks on: see tools/onlooker.py. After each the server must live, have given back descriptors and
watches, hold the same znodes, have taken little memory, and have said little. `make test` runs the same functions with
a small dose (tests/interop/test_bad_input_storm.py); here they have the dose of the bad-input table
(docs/bad-input.md).

    python -m tools.storm_input                     # all of it, and a line in docs/ledger.md
    python -m tools.storm_input --only stall --scale 0.2 --no-ledger

Stops at the first finding, by AssertionError.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import resource
import select
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.interop import peers, raw
from tests.interop.peers import CoatiServer
from tests.interop.raw import Session, Wire, i32, request
from tools import onlooker

LEDGER: Final = Path(__file__).resolve().parent.parent / "docs" / "ledger.md"
PER_ADDRESS: Final = 60
SESSIONLESS_MS: Final = 3000
CFG: Mapping[str, str] = {"maxClientCnxns": str(PER_ADDRESS), "minSessionTimeout": "400", "maxSessionTimeout": "60000"}
PROPS: Mapping[str, str] = {**peers.QUICK_PROPS, "zookeeper.nio.sessionlessCnxnTimeout": str(SESSIONLESS_MS)}
OK: Final = 0
AUTH_FAILED: Final = -115
NO_AUTH: Final = -102
DEADLINE_S: Final = 60.0
# What one of a hundred pings of somebody else may take, on a machine that has more to do; a quarter of the tick, the
# longest anybody may have to wait behind one answer; what all connections of an attack may take in memory;
# and lines of log for whatever happens, which are counted and not repeated.
MAX_P99_MS: Final = 1000
MAX_LAG_MS: Final = 500
MAX_GROWTH_MB: Final = 200
MAX_LOG_LINES: Final = 60
BATCH: Final = 5000
TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Look:
    """What can be seen of a server from the outside."""

    files: int
    resident_mb: int
    znodes: int
    watches: int
    log_lines: int


def look(server: CoatiServer) -> Look:
    """How it stands now."""
    told = peers.monitor(server)
    return Look(
        len(os.listdir(f"/proc/{server.pid}/fd")),
        memory_mb(server, "VmRSS"),
        int(told["znode_count"]),
        int(told["watch_count"]),
        server.log().count("\n"),
    )


def _is_back(before: Look, now: Look) -> bool:
    # One descriptor more may be that of the question's own connection.
    return now.files <= before.files + 1 and now.watches <= before.watches and now.znodes <= before.znodes


def memory_mb(server: CoatiServer, line: str) -> int:
    """VmRSS, or VmHWM for the most it was since `forget_peak`."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(re.findall(rf"{line}:\s+(\d+) kB", status)[0]) // 1024


def forget_peak(server: CoatiServer) -> None:
    """VmHWM begins anew (proc(5), clear_refs)."""
    Path(f"/proc/{server.pid}/clear_refs").write_text("5")


@contextlib.contextmanager
def attack(server: CoatiServer, *, max_p99_ms: float = MAX_P99_MS) -> Iterator[list[str]]:
    """While the block attacks, an onlooker is served, and behind it all is as before. Yields what is to be told."""
    notes: list[str] = []
    with onlooker.Onlooker(server.host, server.port) as watching:
        before = look(server)
        forget_peak(server)
        began = time.monotonic()
        yield notes
    took_s = time.monotonic() - began
    peak_mb = memory_mb(server, "VmHWM")
    assert server.is_running, server.log()[-2000:]
    peers.eventually(lambda: _is_back(before, look(server)), f"all is given back that was not there in {before}", 20.0)
    after = look(server)
    assert replace(after, files=0, resident_mb=0, log_lines=0) == replace(before, files=0, resident_mb=0, log_lines=0)
    assert after.log_lines - before.log_lines <= MAX_LOG_LINES, server.log()[-4000:]
    assert peak_mb - before.resident_mb <= MAX_GROWTH_MB, f"it took {peak_mb - before.resident_mb} MB"
    assert watching.served.p99_ms <= max_p99_ms, f"others were not served: {watching.served}"
    notes.append(f"+{peak_mb - before.resident_mb} MB at most, {took_s:.0f} s; others: {watching.served}")


@contextlib.contextmanager
def many_files(count: int) -> Iterator[None]:
    """Descriptors for so many connections of this process, and of the servers that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 500
    assert hard == resource.RLIM_INFINITY or hard >= wanted, f"ulimit -Hn is {hard}, {wanted} are needed"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def address(number: int) -> str:
    """The loopback address of the attacker's `number`-th connection: no more come from one than may."""
    host = number // PER_ADDRESS
    return f"127.1.{host // 250}.{host % 250 + 1}"


def session(server: CoatiServer, source: str, timeout_ms: int = 60_000) -> Session:
    """A session from an address."""
    return Session(server.host, server.port, timeout_ms, deadline_s=DEADLINE_S, source=source)


# --- before a session -----------------------------------------------------------------------------


def stall(server: CoatiServer, silent: int, trickling: int) -> str:
    """Rows 3 and 4: connections that say nothing, or promise a million bytes and send one now and then."""
    count = silent + trickling
    with many_files(count), attack(server) as notes:
        held: dict[int, socket.socket] = {}
        poll = select.poll()
        for number in range(count):
            one = socket.create_connection((server.host, server.port), DEADLINE_S, (address(number), 0))
            held[one.fileno()] = one
            poll.register(one, select.POLLIN)
            if number >= silent:
                one.sendall(i32(1_000_000))
            if number + 1 == PER_ADDRESS:
                with Wire(server.host, server.port, source=address(0)) as refused:
                    assert refused.read_to_end() == b"", "more from one address than may be"
        ends = time.monotonic() + DEADLINE_S
        trickles = list(held.values())[silent:]
        while held:
            assert time.monotonic() < ends, f"{len(held)} of {count} are still open"
            for fd, _ in poll.poll(500):
                poll.unregister(fd)
                with held.pop(fd) as closed, contextlib.suppress(ConnectionError):
                    assert closed.recv(1) == b"", "there was nothing to answer"
            for one in trickles:
                with contextlib.suppress(OSError):
                    one.send(b"x")
    return f"{silent} connections that are silent, {trickling} that send a byte now and then: {notes[0]}"


def flood(server: CoatiServer, count: int) -> str:
    """Row 14: connections from one address, as fast as another process can make them."""
    with attack(server) as notes:
        made, took_ms = onlooker.flood(server.host, server.port, count)
    return f"{made} connections at {made * 1000 // max(took_ms, 1)}/s: {notes[0]}"


# --- in a session ---------------------------------------------------------------------------------


def guess(server: CoatiServer, count: int) -> str:
    """Row 26: the super user's password, tried again and again from one address."""
    results: Counter[int] = Counter()
    credentials = raw.auth("digest", peers.SUPER_PASSWORD.encode())
    with attack(server) as notes:
        began = time.monotonic()
        log_chars = len(server.log())
        for number in range(count):
            with session(server, "127.0.0.3", 400) as one:
                one.send(raw.AUTH, raw.auth("digest", b"super:%d" % number), xid=raw.XID_AUTH)
                results[one.reply().err] += 1
        windows = 1 + int((time.monotonic() - began) / 10)
        assert results[OK] <= 100 * windows, f"{results[OK]} passwords were looked at"
        assert results[OK] + results[AUTH_FAILED] == count
        with session(server, "127.0.0.4") as other:
            assert other.call(raw.AUTH, credentials, xid=raw.XID_AUTH)[0] == OK
            other.close()
        said = [line for line in server.log()[log_chars:].splitlines() if "super" in line]
        assert len(said) <= 2 * windows, said
    return f"{count} wrong passwords, {results[OK]} looked at: {notes[0]}"


def identify(server: CoatiServer, count: int) -> str:
    """Row 26: more identities than anybody has, and then a znode whose ACL is as long as it can be."""
    with attack(server) as notes:
        with session(server, "127.0.0.3") as one:
            one.wire.send(
                b"".join(request(raw.XID_AUTH, raw.AUTH, raw.auth("digest", b"u%d:x" % n)) for n in range(count))
            )
            taken = 0
            with contextlib.suppress(raw.Closed):
                while one.reply().err == OK:
                    taken += 1
            assert taken < 1000
        with session(server, "127.0.0.3") as one:
            for number in range(900):
                one.send(raw.AUTH, raw.auth("digest", b"u%d:x" % number), xid=raw.XID_AUTH)
            assert {one.reply().err for _ in range(900)} == {OK}
            acl = [(31, "digest", f"nobody:{number}") for number in range(20_000)] + [(24, "world", "anyone")]
            assert one.call(raw.CREATE, raw.create("/guarded", b"", acl))[0] == OK
            one.wire.send(b"".join(request(n, raw.GET_DATA, raw.path_watch("/guarded")) for n in range(5000)))
            assert {one.reply().err for _ in range(5000)} == {NO_AUTH}
            assert one.call(raw.DELETE, raw.path_version("/guarded"))[0] == OK
            one.close()
    return f"{count} identities, {taken} taken: {notes[0]}"


def watch_much(server: CoatiServer, count: int) -> str:
    """Rows 11 and 29: as many watches as a request holds, all listed by several at once."""
    paths = [f"/{number:x}" for number in range(count)]
    with attack(server) as notes, session(server, "127.0.0.3") as one:
        one.send(raw.SET_WATCHES, raw.set_watches(one.last_zxid, [], paths, []), xid=raw.XID_SET_WATCHES)
        assert one.reply().err == OK
        wires = [Wire(server.host, server.port, deadline_s=DEADLINE_S, source="127.0.0.3") for _ in range(9)]
        for wire, word in zip(wires, (b"wchc", b"wchp", b"wchs") * 3, strict=True):
            wire.send(word)
        for wire, lines in zip(wires, (count + 1, 2 * count, 2) * 3, strict=True):
            with wire:
                assert len(wire.read_to_end().split()) >= lines
        assert one.call(raw.CREATE, raw.create(paths[-1]))[0] == OK
        assert [event.path for event in one.events] == paths[-1:]
        assert one.call(raw.DELETE, raw.path_version(paths[-1]))[0] == OK
        one.close()
    return f"{count} watches set at once and listed: {notes[0]}"


def watch_all(server: CoatiServer, sessions: int, writes: int) -> str:
    """Row 29: everybody watches everything."""
    with many_files(sessions), attack(server, max_p99_ms=5 * MAX_P99_MS) as notes, contextlib.ExitStack() as stack:
        watchers = [stack.enter_context(session(server, address(number))) for number in range(sessions)]
        for one in watchers:
            one.send(raw.ADD_WATCH, raw.path_version("/", 1))
        assert {one.reply().err for one in watchers} == {OK}
        with session(server, "127.0.0.3") as writer:
            assert writer.call(raw.CREATE, raw.create("/hot"))[0] == OK
            for number in range(writes):
                writer.send(raw.SET_DATA, raw.set_data("/hot", b"%d" % number))
            assert {writer.reply().err for _ in range(writes)} <= {OK}
            assert writer.call(raw.DELETE, raw.path_version("/hot"))[0] == OK
            writer.close()
        for one in watchers:
            one.ping()
            assert len([event for event in one.events if event.path == "/hot"]) == writes + 2
            one.send(raw.CLOSE_SESSION)
    return f"{sessions} sessions that watch all, {writes} writes: {notes[0]}"


def be_deaf(server: CoatiServer, events: int) -> str:
    """Row 30: long events for a client that never reads."""
    path = "/" + "x" * 900_000
    with attack(server) as notes, session(server, "127.0.0.3") as deaf, session(server, "127.0.0.4") as writer:
        deaf.wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        assert writer.call(raw.CREATE, raw.create(path))[0] == OK
        deaf.send(raw.ADD_WATCH, raw.path_version(path, 0))
        assert deaf.reply().err == OK
        for _ in range(events):
            assert writer.call(raw.SET_DATA, raw.set_data(path, b""))[0] == OK
        peers.eventually(lambda: "slow reader cut off" in server.log(), "who does not read is cut off")
        assert writer.call(raw.DELETE, raw.path_version(path))[0] == OK
        writer.close()
    return f"{events} events of 900 kB that nobody reads: {notes[0]}"


def pipeline(server: CoatiServer, count: int, data_bytes: int = 10_000) -> str:
    """Row 31: requests and requests without a look at the answers; in the end all are there, in order."""
    with attack(server) as notes, session(server, "127.0.0.3") as one:
        assert one.call(raw.CREATE, raw.create("/read", bytes(data_bytes)))[0] == OK
        body = raw.path_watch("/read")
        waiting = memoryview(b"".join(request(number, raw.GET_DATA, body) for number in range(count)))
        one.wire.sock.settimeout(1.0)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < len(waiting):
                sent += one.wire.sock.send(waiting[sent : sent + (1 << 16)])
        held_back = len(waiting) - sent
        rest = threading.Thread(target=_send_rest, args=(one.wire.sock.dup(), bytes(waiting[sent:])))
        rest.start()
        for number in range(count):
            got = one.reply()
            assert (got.xid, got.err, len(got.body)) == (number, OK, data_bytes + 72)
        rest.join()
        assert one.call(raw.DELETE, raw.path_version("/read"))[0] == OK
        one.close()
    return f"{count} reads of {data_bytes} bytes pipelined, {held_back} bytes of them held back: {notes[0]}"


def _send_rest(sock: socket.socket, data: bytes) -> None:
    with sock:
        sock.settimeout(DEADLINE_S)
        sock.sendall(data)


def widen(server: CoatiServer, children: int) -> str:
    """Row 35: one znode with very many children, and what a ping of somebody else waits behind a long answer.

    The children stay: their owner's end is a write, and not what is asked about here.
    """
    with session(server, "127.0.0.3") as owner:
        assert owner.call(raw.CREATE, raw.create("/wide"))[0] == OK
        for first in range(0, children, BATCH):
            made = [
                (raw.CREATE, raw.create(f"/wide/{number}", flags=1))
                for number in range(first, min(first + BATCH, children))
            ]
            assert owner.call(raw.MULTI, raw.multi(made))[0] == OK
        notes = []
        for op, body in (
            (raw.GET_CHILDREN, raw.path_watch("/wide")),
            (raw.GET_CHILDREN2, raw.path_watch("/wide")),
            (raw.GET_EPHEMERALS, raw.ustring("/")),
            (raw.GET_EPHEMERALS, raw.ustring("/wide/7")),
            (raw.GET_ALL_CHILDREN_NUMBER, raw.ustring("/wide")),
            (raw.GET_ALL_CHILDREN_NUMBER, raw.ustring("/")),
        ):
            # The best of a few, as the machine may be busy with something else; each time after a change.
            lags: list[float] = []
            while not lags or (min(lags) > MAX_LAG_MS and len(lags) < TRIES):
                assert owner.call(raw.CREATE, raw.create(f"/wide/{op}-{len(body)}-{len(lags)}"))[0] == OK
                lags.append(_lag_of(server, owner, op, body, 0 if body == raw.ustring("/wide/7") else children))
            notes.append(min(lags))
            assert min(lags) <= MAX_LAG_MS, f"operation {op} held everybody up: {lags} ms"
    return f"reads of {children} children, ephemerals, znodes: others waited {max(notes):.0f} ms at most"


def _lag_of(server: CoatiServer, owner: Session, op: int, body: bytes, least: int) -> float:
    """What somebody else waited at worst, while one request was answered by `least` things or more."""
    with onlooker.Onlooker(server.host, server.port) as watching:
        owner.send(op, body)
        reply = owner.reply()
        assert reply.err == OK
        assert raw.Reader(reply.body).i32() >= least
    return watching.served.worst_ms


# --- the whole ------------------------------------------------------------------------------------

Attack = Callable[[CoatiServer, float], str]
ATTACKS: Final[dict[str, Attack]] = {
    "stall": lambda server, scale: stall(server, int(5000 * scale), int(1000 * scale)),
    "flood": lambda server, scale: flood(server, int(100_000 * scale)),
    "guess": lambda server, scale: guess(server, int(10_000 * scale)),
    "identify": lambda server, scale: identify(server, int(10_000 * scale)),
    "watch_much": lambda server, scale: watch_much(server, int(100_000 * scale)),
    "watch_all": lambda server, scale: watch_all(server, int(1000 * scale), int(1000 * scale)),
    "deaf": lambda server, scale: be_deaf(server, max(60, int(200 * scale))),
    "pipeline": lambda server, scale: pipeline(server, int(100_000 * scale)),
    "widen": lambda server, scale: widen(server, int(1_000_000 * scale)),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the attacks and notes them down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=ATTACKS, action="append", help="this attack; may be repeated")
    parser.add_argument("--scale", type=float, default=1.0, help="of the dose")
    parser.add_argument("--no-ledger", action="store_true")
    parser.add_argument("--ledger", type=Path, default=LEDGER)
    options = parser.parse_args(argv)
    began = time.monotonic()
    told = []
    with many_files(6000):
        for name in options.only or ATTACKS:
            with CoatiServer(cfg=CFG, props=PROPS) as server:
                told.append(ATTACKS[name](server, options.scale))
            print(f"{time.monotonic() - began:6.0f} s  {told[-1]}", flush=True)
    if not options.no_ledger:
        command = " ".join(["python -m tools.storm_input", *(argv if argv is not None else sys.argv[1:])])
        minutes = (time.monotonic() - began) / 60
        with options.ledger.open("a") as ledger:
            amount = f"{minutes:.0f} min: {'; '.join(told)}"
            ledger.write(f"| {datetime.now(UTC):%Y-%m-%d} | input storm | `{command}` | {amount} | nothing |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
