"""Transcripts of a Java server: requests, what it logged for them, and every frame it sent.

A transcript is gzipped text. `record.py` makes one from a live server; `test_transcripts.py` plays it to the core.

    config extended_types=0 enforce_quota=0
    session 72057594037927936 0000016f...       the three sessions, with the log entry that opened them
    request 0 17 1 000000022f61...              which connection, xid, opcode, record
    logged 0100...                              the entry of the log it made, if it made one
    frame 0 00000011...                         a frame and whom it went to, without its length
"""

from __future__ import annotations

import gzip
from pathlib import Path

HOME = Path(__file__).parent / "java393"


class Step:
    """One request and what came of it; `frames` are pairs of connection and payload, in order per connection."""

    def __init__(self, conn: int, xid: int, op: int, body: bytes) -> None:
        self.conn = conn
        self.xid = xid
        self.op = op
        self.body = body
        self.logged = b""
        self.frames: list[tuple[int, bytes]] = []

    def frames_of(self, conn: int) -> list[bytes]:
        return [payload for to, payload in self.frames if to == conn]


class Transcript:
    """A whole run."""

    def __init__(self, *, extended_types: bool, enforce_quota: bool) -> None:
        self.extended_types = extended_types
        self.enforce_quota = enforce_quota
        self.sessions: list[tuple[int, bytes]] = []
        self.steps: list[Step] = []

    def save(self, path: Path) -> None:
        lines = [f"config extended_types={int(self.extended_types)} enforce_quota={int(self.enforce_quota)}"]
        lines += [f"session {session_id} {logged.hex()}" for session_id, logged in self.sessions]
        for step in self.steps:
            lines.append(f"request {step.conn} {step.xid} {step.op} {step.body.hex()}")
            if step.logged:
                lines.append(f"logged {step.logged.hex()}")
            lines += [f"frame {conn} {payload.hex()}" for conn, payload in step.frames]
        with path.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as zipped:
            zipped.write(("\n".join(lines) + "\n").encode())

    @staticmethod
    def load(path: Path) -> Transcript:
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
        config = dict(word.split("=") for word in lines[0].split()[1:])
        transcript = Transcript(
            extended_types=config["extended_types"] == "1", enforce_quota=config["enforce_quota"] == "1"
        )
        for line in lines[1:]:
            kind, *words = line.split(" ")
            if kind == "session":
                transcript.sessions.append((int(words[0]), bytes.fromhex(words[1])))
            elif kind == "request":
                conn, xid, op = map(int, words[:3])
                transcript.steps.append(Step(conn, xid, op, bytes.fromhex(words[3])))
            elif kind == "logged":
                transcript.steps[-1].logged = bytes.fromhex(words[0])
            else:
                transcript.steps[-1].frames.append((int(words[0]), bytes.fromhex(words[1])))
        return transcript
