"""Records a transcript from a live Java server: `python -m tests.core.record SEED [COUNT]`.

Three connections; after every request the others are pinged, so that every event is on record with its cause.
"""

from __future__ import annotations

import socket
import struct
import sys
import zlib
from pathlib import Path

from tests.core.kit import jbuf, jint, jlong
from tests.core.requests import CREDENTIALS, Requests
from tests.core.transcript import HOME, Step, Transcript
from tools.javapeer import JavaServer

VERSION = "3.9.3"


class Wire:
    """One connection to the server."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 20)
        self.file = self.socket.makefile("rb")
        self.send(jint(0) + jlong(0) + jint(40000) + jlong(0) + jbuf(bytes(16)) + b"\0")
        self.session_id: int = struct.unpack_from(">q", self.frame(), 8)[0]

    def send(self, payload: bytes) -> None:
        self.socket.sendall(jbuf(payload))

    def frame(self) -> bytes:
        size = self.file.read(4)
        if len(size) < 4:
            raise EOFError("the server closed the connection")
        return self.file.read(struct.unpack(">i", size)[0])

    def frames_until(self, xid: int) -> list[bytes]:
        frames = [self.frame()]
        while frames[-1][:4] != jint(xid):
            frames.append(self.frame())
        return frames


def exchange(wires: list[Wire], step: Step) -> None:
    wires[step.conn].send(jint(step.xid) + jint(step.op) + step.body)
    step.frames += [(step.conn, frame) for frame in wires[step.conn].frames_until(step.xid)]
    for index, wire in enumerate(wires):
        if index != step.conn:
            wire.send(jint(-2) + jint(11))
            step.frames += [(index, frame) for frame in wire.frames_until(-2)[:-1]]


def log_of(server: JavaServer) -> dict[int, bytes]:
    """The log by zxid.

    Of two entries with one zxid the second is an unreadable request's, which has none of its own.
    """
    entries: dict[int, bytes] = {}
    for path in sorted(Path(server.data_dir).rglob("log.*")):
        data = path.read_bytes()
        at = 16
        while at + 12 <= len(data):
            checksum, size = struct.unpack_from(">qi", data, at)
            if size == 0:
                break
            payload = data[at + 12 : at + 12 + size]
            assert zlib.adler32(payload) == checksum
            entries.setdefault(struct.unpack_from(">q", payload, 12)[0], payload)
            at += 12 + size + 1
    return entries


def record(seed: int, count: int) -> Transcript:
    transcript = Transcript(extended_types=seed % 2 == 0, enforce_quota=seed % 3 == 0)
    props = {"znode.container.checkIntervalMs": "100000000"}
    props["zookeeper.extendedTypesEnabled"] = str(transcript.extended_types).lower()
    props["zookeeper.enforceQuota"] = str(transcript.enforce_quota).lower()
    requests = Requests(seed, extended_types=transcript.extended_types)
    with JavaServer(VERSION, props=props) as server:
        wires = [Wire(server.port) for _ in range(3)]
        steps = [Step(1, -4, 100, jint(0) + jbuf(b"digest") + jbuf(CREDENTIALS.encode()))]
        for number in range(count):
            op, body = requests.any()
            xid = -8 if op in (101, 105) else number + 1
            steps.append(Step(requests.random.choice((0, 0, 1)), xid, op, body))
        steps.append(Step(0, count + 1, -11, b""))
        for step in steps:
            exchange(wires, step)
        entries = log_of(server)
    transcript.sessions = [(wire.session_id, entries[zxid]) for zxid, wire in enumerate(wires, 1)]
    by_request = {(struct.unpack_from(">qi", payload)): payload for payload in entries.values()}
    for step in steps:
        step.logged = by_request.get((wires[step.conn].session_id, step.xid), b"")
    transcript.steps = steps
    return transcript


if __name__ == "__main__":
    chosen = int(sys.argv[1])
    HOME.mkdir(exist_ok=True)
    record(chosen, int(sys.argv[2]) if len(sys.argv) > 2 else 600).save(HOME / f"seed{chosen}.txt.gz")
