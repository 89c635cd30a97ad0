"""One data directory handed back and forth between coati and Java, with writes and a SIGKILL between each."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop import peers, picture, raw
from tests.interop.peers import Server

# No fsync: a killed process leaves its writes with the kernel.
PROPS = {**peers.LOCKSTEP_PROPS, "zookeeper.preAllocSize": "64"}
# Snapshots and new log files are made many times on the way. Java's are fuzzy when it writes meanwhile, and then
# its own restart may count a digest mismatch (seen with 3.8.0 and 3.9.3 alike), so on most routes Java makes them
# only when it starts.
MANY_SNAPSHOTS = {"zookeeper.snapCount": "100"}
WRITES = 300
IN_FLIGHT = 400
ACKNOWLEDGED_BEFORE_KILL = 100
KINDS = {
    "create": 6, "sequential": 3, "ephemeral": 2, "container": 1, "ttl": 1, "set": 6, "acl": 2, "delete": 2, "multi": 3,
}  # fmt: skip
ROUTES = {
    "3.8.0": ("coati", "3.8.0", "coati", "3.8.0"),
    "3.9.3": ("coati", "3.9.3", "coati", "3.9.3"),
    "3.9.3 first": ("3.9.3", "coati", "3.9.3", "coati"),
    "fuzzy": ("3.9.3 fuzzy", "coati", "3.9.3 fuzzy", "coati"),
}


@contextlib.contextmanager
def running(leg: str, data_dir: Path) -> Iterator[Server]:
    """The server of a leg of a route."""
    kind, _, fuzzy = leg.partition(" ")
    snapshots = MANY_SNAPSHOTS if fuzzy or kind == "coati" else {}
    with peers.running(kind, data_dir, props={**PROPS, **snapshots}) as server:
        yield server


def write_a_while(session: raw.Session, rng: random.Random, base: str) -> None:
    """Many kinds of writes below `base`, some of them refused; all answered."""
    assert session.call(raw.CREATE, raw.create(base))[0] == 0
    paths = [base]
    for number in range(WRITES):
        op, body = _write(rng, paths, number)
        session.send(op, body)
    refused = sum(session.reply().err != 0 for _ in range(WRITES))
    assert refused < WRITES / 2, "the workload must mostly succeed"


def _write(rng: random.Random, paths: list[str], number: int) -> tuple[int, bytes]:
    path = rng.choice(paths)
    data = rng.randbytes(rng.choice((0, 1, 10, 300))) if rng.random() < 0.9 else None
    fresh = f"{path}/n{number}"
    kind = rng.choices(*zip(*KINDS.items(), strict=True))[0]
    acl = rng.choice((raw.OPEN, raw.OPEN, ((31, "digest", "a:b"), (1, "world", "anyone")), ((31, "ip", "127.0.0.1"),)))
    if kind == "create":
        paths.append(fresh)
        return raw.CREATE2, raw.create(fresh, data, acl)
    if kind in ("sequential", "ephemeral"):
        return raw.CREATE, raw.create(f"{path}/{kind}-", data, acl, 2 if kind == "sequential" else 3)
    if kind == "container":
        return raw.CREATE_CONTAINER, raw.create(fresh, data, acl, 4)
    if kind == "ttl":
        return raw.CREATE_TTL, raw.create_ttl(fresh, data, acl, rng.choice((5, 6)), 3_600_000)
    if kind == "set":
        return raw.SET_DATA, raw.set_data(path, data)
    if kind == "acl":
        return raw.SET_ACL, raw.set_acl(path, acl)
    if kind == "delete":
        return raw.DELETE, raw.path_version(paths.pop() if len(paths) > 1 else "/nothing")
    parts = [
        (raw.CREATE, raw.create(fresh, data)),
        (raw.SET_DATA, raw.set_data(path, data)),
        (raw.CHECK, raw.path_version(fresh, 0)),
    ]
    if rng.random() < 0.3:
        parts.append((raw.DELETE, raw.path_version("/nothing")))
    return raw.MULTI, raw.multi(parts)


def kill_while_writing(server: Server, session: raw.Session, base: str) -> int:
    """Pipeline creates and kill the server in the middle; how many it had acknowledged."""
    assert session.call(raw.CREATE, raw.create(base))[0] == 0
    for number in range(IN_FLIGHT):
        session.send(raw.CREATE, raw.create(f"{base}/{number:05d}"))
    acknowledged = 0
    while acknowledged < ACKNOWLEDGED_BEFORE_KILL:
        assert session.reply().err == 0
        acknowledged += 1
    server.kill9()
    with contextlib.suppress(raw.Closed):
        while True:
            assert session.reply().err == 0
            acknowledged += 1
    return acknowledged


@dataclass(frozen=True, slots=True)
class Left:
    """What one leg left behind when its server was killed."""

    number: int
    kept: dict[str, picture.Shown]
    in_flight: str
    acknowledged: int
    last_zxid: int
    session_id: int
    password: bytes


def tree(session: raw.Session) -> dict[str, picture.Shown]:
    """Everything but what each start makes anew and the root, whose Stat moves with every leg."""
    shown = picture.take(session)
    return {path: node for path, node in shown.items() if path not in ("/", "/zookeeper/config")}


def leave(server: Server, number: int, rng: random.Random) -> Left:
    """Write, look, and kill the server while writing on."""
    with peers.superuser(server) as writer:
        write_a_while(writer, rng, f"/leg{number}")
        kept = tree(writer)
        assert any(node.stat.ephemeral_owner == writer.session_id for node in kept.values())
        in_flight = f"/in-flight{number}"
        acknowledged = kill_while_writing(server, writer, in_flight)
        return Left(number, kept, in_flight, acknowledged, writer.last_zxid, writer.session_id, writer.password)


def check(server: Server, left: Left, *, digests: bool) -> None:
    """All that was acknowledged is there, exactly as it was, and nothing else; the session is resumed and ends."""
    if digests:
        assert peers.monitor(server)["digest_mismatches_count"] == "0", server.log()[-3000:]
    with peers.superuser(server) as control:
        assert control.ping() > left.last_zxid
        shown = tree(control)
        control.close()
    assert {path: (shown.get(path), node) for path, node in left.kept.items() if shown.get(path) != node} == {}
    new = sorted(path for path in shown if path not in left.kept)
    survived = len(new) - 1
    # Pipelined creates of one session survive as a prefix of what was sent.
    assert new == [left.in_flight, *(f"{left.in_flight}/{number:05d}" for number in range(survived))]
    assert left.acknowledged <= survived <= IN_FLIGHT
    mine = sorted(path for path, node in left.kept.items() if node.stat.ephemeral_owner == left.session_id)
    with raw.Session(
        server.host,
        server.port,
        session_id=left.session_id,
        password=left.password,
        last_zxid=left.last_zxid,
    ) as resumed:
        assert resumed.call(raw.GET_EPHEMERALS, raw.ustring("")) == (0, mine)
        resumed.close()


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES.keys())
def test_nothing_acknowledged_is_lost_from_server_to_server(route: tuple[str, ...], tmp_path: Path) -> None:
    rng = random.Random("->".join(route))
    digests = not any("fuzzy" in leg for leg in route)
    left: Left | None = None
    for number, leg in enumerate(route):
        with running(leg, tmp_path) as server:
            if left is not None:
                check(server, left, digests=digests)
            left = leave(server, number, rng)
    assert left is not None
    with running(route[0], tmp_path) as server:
        check(server, left, digests=digests)
    assert len(list((tmp_path / "version-2").glob("snapshot.*"))) > len(route), (
        "the run is to make snapshots on its way"
    )
