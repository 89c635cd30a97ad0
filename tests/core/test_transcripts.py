"""Core against a Java server, byte by byte: what it logged with its digests, what it answered, what events it sent.

The transcripts are of Java 3.9.3 (see record.py). Only the order of children and of ephemerals is Java's own matter,
as those are hash sets there.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from coati.core.replay import apply
from coati.core.tree import Tree, TreeConfig, pristine
from coati.errors import MARSHALLING_ERROR
from coati.wire import codes
from coati.wire.jute import Reader
from coati.wire.records import ErrorResponse, GetDataResponse, MultiHeader, WhoAmIResponse
from coati.wire.txns import CloseSessionTxn, decode_txn
from tests.core.kit import Client, Core, image, jint
from tests.core.transcript import HOME, Step, Transcript

WRITES = (1, 2, 5, 7, 14, 15, 16, 19, 21, -11)
FILES = sorted(HOME.glob("*.txt.gz"))


def test_there_are_transcripts() -> None:
    assert len(FILES) >= 3


def sorted_lists(op: int, payload: bytes) -> object:
    """The payload with every list that has no order of its own sorted."""
    if payload[:4] == jint(codes.XID_NOTIFICATION) or payload[12:16] != jint(0):
        return payload
    r = Reader(payload, 16)
    if op in (codes.OP_GET_CHILDREN, codes.OP_GET_CHILDREN2, codes.OP_GET_EPHEMERALS):
        names = sorted(r.path() for _ in range(r.count()))
        return payload[:16], names, payload[r.pos :]
    if op == codes.OP_WHO_AM_I:
        return payload[:16], sorted(map(repr, WhoAmIResponse.read(r).client_info or []))
    if op == codes.OP_MULTI_READ:
        return payload[:16], multi_read_results(r)
    return payload


def multi_read_results(r: Reader) -> list[object]:
    results: list[object] = []
    while not (header := MultiHeader.read(r)).done:
        if header.type == codes.OP_GET_CHILDREN:
            results.append(sorted(r.path() for _ in range(r.count())))
        elif header.type == codes.OP_GET_DATA:
            results.append(GetDataResponse.read(r))
        else:
            results.append(ErrorResponse.read(r))
    return results


class Player:
    """Plays a transcript to a core, with the times of the log."""

    def __init__(self, transcript: Transcript) -> None:
        self.core = Core(extended_types=transcript.extended_types, enforce_quota=transcript.enforce_quota)
        self.clients: list[Client] = []
        for session_id, logged in transcript.sessions:
            self.core.now_ms = decode_txn(logged).header.time
            self.core.xid = -1
            self.clients.append(self.core.connect(session_id, 40_000))
            assert self.core.log.pop() == logged

    def play(self, step: Step) -> None:
        client = self.clients[step.conn]
        if step.op == codes.OP_AUTH:
            r = Reader(step.body, 4)
            result = self.core.access.authenticate(r.string(), r.buffer(), "127.0.0.1")
            client.auth = [*client.auth, *result.ids]
            return
        replies = self._write(client, step) if step.op in WRITES else self._read(client, step)
        for index, one in enumerate(self.clients):
            frames = [frame[4:] for frame in one.frames]
            one.frames.clear()
            if index == step.conn:
                frames += replies
            self._compare(step, frames, step.frames_of(index))

    def _compare(self, step: Step, ours: list[bytes], theirs: list[bytes]) -> None:
        mine, java = ([sorted_lists(step.op, frame) for frame in frames] for frames in (ours, theirs))
        if step.op == codes.OP_CLOSE_SESSION:
            # The events of the ephemerals come in the order of a hash set.
            mine, java = (sorted(frames, key=repr) for frames in (mine, java))
        assert mine == java, f"request {step.xid} of connection {step.conn}, operation {step.op}"

    def _read(self, client: Client, step: Step) -> list[bytes]:
        data = self.core.answers.answer(client, step.xid, step.op, step.body, 0, len(step.body))
        frames: list[bytes] = []
        while data:
            size = 4 + Reader(data).int32()
            frames.append(data[4:size])
            data = data[size:]
        return frames

    def _write(self, client: Client, step: Step) -> list[bytes]:
        core = self.core
        core.xid = step.xid - 1
        if step.logged:
            core.now_ms = decode_txn(step.logged).header.time
        proposal = core.prepare(client, step.op, step.body)
        if proposal.change.err == MARSHALLING_ERROR and not step.logged:
            if step.op == codes.OP_MULTI:
                # With a null ACL inside Java has no zxid for it; here every multi has one (docs/divergences.md).
                core.tree.discard(proposal.change)
                core.log.pop()
                core.zxid -= 1
            else:
                assert proposal.payload == b""
            assert len(step.frames_of(step.conn)) == 1
            return [jint(step.xid) + step.frames[0][1][4:12] + jint(MARSHALLING_ERROR)]
        reply = core.deliver(proposal).frame[4:]
        self._compare_logged(step.logged, proposal.payload)
        return [reply]

    def _compare_logged(self, theirs: bytes, ours: bytes) -> None:
        if theirs == ours:
            return
        mine, java = decode_txn(ours), decode_txn(theirs)
        assert isinstance(mine.txn, CloseSessionTxn)
        assert isinstance(java.txn, CloseSessionTxn)
        assert sorted(mine.txn.paths_to_delete) == sorted(java.txn.paths_to_delete)
        assert (mine.header, mine.digest) == (java.header, java.digest)


def replayed(transcript: Transcript, payloads: list[bytes]) -> Tree:
    tree = pristine(TreeConfig(extended_types=transcript.extended_types))
    for payload in payloads:
        record = decode_txn(payload)
        apply(tree, record.header, record.txn, record.digest)
    return tree


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name.split(".")[0])
def test_core_says_what_java_said(path: Path) -> None:
    transcript = Transcript.load(path)
    player = Player(transcript)
    for step in transcript.steps:
        player.play(step)
    assert player.core.tree.staged == {}
    # And Java's own log, replayed, ends in the same tree with the digests it carries.
    log = [logged for _, logged in transcript.sessions] + [step.logged for step in transcript.steps if step.logged]
    tree = replayed(transcript, sorted(log, key=lambda payload: decode_txn(payload).header.zxid))
    assert tree.digest_mismatches == 0
    assert image(tree) == image(player.core.tree)
    assert tree.digest == player.core.tree.digest
