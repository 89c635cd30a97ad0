"""Records what a Java server sends on its election and quorum ports: the golden streams of tests/golden/quorum.

    python tools/record_quorum.py VERSION FILE

One Java server of an ensemble whose other members are played here: once it leads (sid 3), once it follows (sid 1). Kept
is every byte that it sent, a stream a connection, as hex in JSON. Knows the order of the protocol; what is read back
here is only looked at to know when to go on. Times, ports and pings differ from one recording to the next.
"""

from __future__ import annotations

import argparse
import json
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Protocol

from coati.wire import quorum
from coati.wire.codes import OP_CREATE, OP_CREATE_SESSION, OP_SYNC
from coati.wire.jute import FrameBuffer, Reader, Writer, frame
from coati.wire.quorum import HelloReader, Notification, Packet, PacketReader, VoteReader, encode_packet
from coati.wire.records import (
    ACL,
    ConnectRequest,
    ConnectResponse,
    CreateRequest,
    CreateSessionTxn,
    Id,
    SyncRequest,
    TxnHeader,
)
from tools.javapeer import HOST, JavaServer, free_port

DEADLINE_S: Final = 60.0
EPOCH_1: Final = 1 << 32
SIGNATURE: Final = b"\x00\x00\x00\x0aBenWasHere"
TIMEOUT_MS: Final = 30_000
HELLO_HEAD_BYTES: Final = 20


class Record(Protocol):
    """What can be written."""

    def write(self, w: Writer) -> None: ...


class Tap:
    """A socket to or from Java that keeps what Java sent."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(DEADLINE_S)
        self.heard = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def hear(self) -> bytes:
        """Some more bytes; raises EOFError at the end."""
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        self.heard += data
        return data


class Link(Tap):
    """A tapped quorum port."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._reader = PacketReader(1 << 20)
        self._waiting: list[Packet] = []
        self._raw = b""
        self._in_snapshot = False

    def say(self, kind: int, zxid: int, data: bytes | None = None) -> None:
        self.send(encode_packet(kind, zxid, data))

    def expect(self, kind: int) -> Packet:
        """The next packet of this kind; others are passed over."""
        while True:
            while self._waiting:
                packet = self._waiting.pop(0)
                if packet.type == kind:
                    return packet
            data = self.hear()
            if self._in_snapshot:
                self._raw += data
            else:
                self._waiting += self._reader.feed(data)
                self._raw = self._reader.take_rest() if self._reader.is_raw else b""
            self._in_snapshot = self._reader.is_raw
            if SIGNATURE in self._raw:
                self._in_snapshot = False
                _, _, rest = self._raw.partition(SIGNATURE)
                self._raw = b""
                self._waiting += self._reader.end_raw(rest)


def listen(port: int) -> socket.socket:
    sock = socket.create_server((HOST, port))
    sock.settimeout(DEADLINE_S)
    return sock


def dial(port: int) -> socket.socket:
    """Connects as soon as somebody listens."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            return socket.create_connection((HOST, port), timeout=DEADLINE_S)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def encoded(*records: Record) -> bytes:
    w = Writer()
    for record in records:
        record.write(w)
    return w.getvalue()


def connect_client(port: int, session_id: int = 0, password: bytes = bytes(16)) -> socket.socket:
    """A client that asked for a session; the answer is not waited for."""
    sock = dial(port)
    sock.sendall(frame(encoded(ConnectRequest(0, 0, TIMEOUT_MS, session_id, password, False))))
    return sock


def read_password(client: socket.socket) -> bytes:
    """That of the session the client got."""
    frames = FrameBuffer()
    answers: list[bytes] = []
    while not answers:
        answers = frames.feed(client.recv(65536))
    return ConnectResponse.read(Reader(answers[0])).passwd or b""


def request(op: int, record: Record, xid: int = 1) -> bytes:
    return frame(xid.to_bytes(4, "big") + op.to_bytes(4, "big") + encoded(record))


CREATE_A: Final = CreateRequest(b"/a", b"hello", [ACL(31, Id("world", "anyone"))], 0)


def answer_vote(tap: Tap, leader: int) -> Notification:
    """Reads a vote and answers in its round that `leader` it shall be."""
    votes = VoteReader()
    messages: list[bytes] = []
    if tap.heard:
        hello = HelloReader()
        hello.feed(tap.heard)
        messages = votes.feed(hello.take_rest())
    while not messages:
        messages = votes.feed(tap.hear())
    vote = quorum.decode_notification(messages[0])
    tap.send(quorum.frame_vote(Notification(quorum.LOOKING, leader, 0, vote.round, 0, vote.config)))
    return vote


class Recording:
    """One Java server, the ports of all three, and the streams."""

    def __init__(self, version: str, sid: int, props: dict[str, str] | None = None) -> None:
        self.quorum_ports = {member: free_port() for member in (1, 2, 3)}
        self.election_ports = {member: free_port() for member in (1, 2, 3)}
        cfg = {
            f"server.{member}": f"{HOST}:{self.quorum_ports[member]}:{self.election_ports[member]}"
            + (":observer" if member == 2 else "")
            for member in (1, 2, 3)
        }
        self.java = JavaServer(version, sid=sid, cfg=cfg, props=props, jvm_args=["-Xmx128m"])

    def join(self, sid: int, kind: int, zxid: int) -> Link:
        """Joins Java, which leads, as a learner."""
        link = Link(dial(self.quorum_ports[3]))
        link.say(kind, 0, quorum.encode_learner_info(sid, 0))
        link.expect(quorum.LEADERINFO)
        link.say(quorum.ACKEPOCH, zxid, quorum.encode_int(0 if zxid == 0 else -1))
        leader = link.expect(quorum.NEWLEADER)
        link.say(quorum.ACK, leader.zxid)
        link.expect(quorum.UPTODATE)
        link.say(quorum.ACK, leader.zxid)
        return link


def record_leader(version: str, streams: dict[str, bytes]) -> None:
    """Java leads: sid 3 with a follower and an observer, both played here."""
    recording = Recording(version, 3)
    with ExitStack() as stack:
        listener = stack.enter_context(listen(recording.election_ports[1]))
        stack.callback(recording.java.close)
        recording.java.start(wait=False)
        election = Tap(listener.accept()[0])
        while len(election.heard) <= HELLO_HEAD_BYTES:
            election.hear()
        answer_vote(election, 3)
        follower = recording.join(1, quorum.FOLLOWERINFO, 0)
        recording.java.wait_ready()
        observer = recording.join(2, quorum.OBSERVERINFO, 0)
        client = stack.enter_context(connect_client(recording.java.port))
        zxid = 0
        # The session, its znode, and the same znode again, which is an error.
        for _ in range(3):
            zxid = follower.expect(quorum.PROPOSAL).zxid
            follower.say(quorum.ACK, zxid)
            follower.expect(quorum.COMMIT)
            observer.expect(quorum.INFORM)
            client.sendall(request(OP_CREATE, CREATE_A))
        follower.say(quorum.REVALIDATE, 0, quorum.encode_revalidate(0x1234, TIMEOUT_MS))
        follower.expect(quorum.REVALIDATE)
        follower.say(quorum.ACK, follower.expect(quorum.PROPOSAL).zxid)
        observer.expect(quorum.INFORM)
        sync = quorum.encode_request(0x1234, 7, OP_SYNC, encoded(SyncRequest(b"/a")))
        follower.send(encode_packet(quorum.REQUEST, -1, sync, [Id("ip", HOST)]))
        follower.expect(quorum.SYNC)
        follower.say(quorum.PING, 0, quorum.encode_touched([]))
        follower.expect(quorum.PING)
        follower.sock.close()
        # It comes back with a proposal that nobody else has.
        returned = recording.join(1, quorum.FOLLOWERINFO, zxid + 0x50)
        streams["election: leader to follower"] = election.heard
        streams["quorum: leader to follower"] = follower.heard
        streams["quorum: leader to observer"] = observer.heard
        streams["quorum: leader to a follower with too much"] = returned.heard


def record_snapshot(version: str, streams: dict[str, bytes]) -> None:
    """Java leads and sends the whole tree."""
    recording = Recording(version, 3, {"zookeeper.forceSnapshotSync": "true"})
    with ExitStack() as stack:
        listener = stack.enter_context(listen(recording.election_ports[1]))
        stack.callback(recording.java.close)
        recording.java.start(wait=False)
        election = Tap(listener.accept()[0])
        while len(election.heard) <= HELLO_HEAD_BYTES:
            election.hear()
        answer_vote(election, 3)
        streams["quorum: leader to a follower without data"] = recording.join(1, quorum.FOLLOWERINFO, 0).heard


def record_follower(version: str, streams: dict[str, bytes]) -> None:
    """Java follows: sid 1, the leader is played here."""
    recording = Recording(version, 1)
    java = recording.java
    with ExitStack() as stack:
        elections = stack.enter_context(listen(recording.election_ports[3]))
        links = stack.enter_context(listen(recording.quorum_ports[3]))
        stack.callback(java.close)
        java.start(wait=False)
        given_up = Tap(elections.accept()[0])
        try:
            while True:
                given_up.hear()
        except EOFError:
            pass
        election = Tap(dial(recording.election_ports[1]))
        election.send(quorum.encode_hello(3, f"{HOST}:{recording.election_ports[3]}"))
        vote = answer_vote(election, 3)
        link = Link(links.accept()[0])
        link.expect(quorum.FOLLOWERINFO)
        link.say(quorum.LEADERINFO, EPOCH_1, quorum.encode_int(quorum.PROTOCOL_VERSION))
        link.expect(quorum.ACKEPOCH)
        link.say(quorum.DIFF, 0)
        link.say(quorum.NEWLEADER, EPOCH_1, vote.config)
        link.expect(quorum.ACK)
        link.say(quorum.UPTODATE, -1)
        link.expect(quorum.ACK)
        java.wait_ready()
        client = stack.enter_context(connect_client(java.port))
        session_id, cxid, _, _ = quorum.decode_request(link.expect(quorum.REQUEST).data)
        header = TxnHeader(session_id, cxid, EPOCH_1 + 1, int(time.time() * 1000), OP_CREATE_SESSION)
        link.say(quorum.PROPOSAL, EPOCH_1 + 1, encoded(header, CreateSessionTxn(TIMEOUT_MS)))
        link.expect(quorum.ACK)
        link.say(quorum.COMMIT, EPOCH_1 + 1)
        password = read_password(client)
        client.sendall(request(OP_CREATE, CREATE_A))
        link.expect(quorum.REQUEST)
        link.say(quorum.PING, EPOCH_1 + 1)
        link.expect(quorum.PING)
        stack.enter_context(connect_client(java.port, session_id, password))
        link.expect(quorum.REVALIDATE)
        streams["election: follower gives way"] = given_up.heard
        streams["election: follower to leader"] = election.heard
        streams["quorum: follower to leader"] = link.heard


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="records the streams between Java servers")
    parser.add_argument("version")
    parser.add_argument("file", type=Path)
    options = parser.parse_args()
    streams: dict[str, bytes] = {}
    record_leader(options.version, streams)
    record_snapshot(options.version, streams)
    record_follower(options.version, streams)
    options.file.parent.mkdir(exist_ok=True)
    options.file.write_text(json.dumps({name: data.hex() for name, data in streams.items()}, indent=0) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
