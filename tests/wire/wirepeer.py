"""Asks Java what it thinks of bytes: runs java/WirePeer.java, and writes the fixtures from its answers.

`python -m tests.wire.wirepeer` (from the root of the checkout) rewrites fixtures/: java_records.json, java_codes.json,
java_paths.txt; and java_txns.txt, where the golden data directories are. Must not import coati: the fixtures are the
word of Java alone.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tools import javapeer

HERE = Path(__file__).parent
FIXTURES = HERE / "fixtures"
SOURCE = HERE / "java" / "WirePeer.java"
VERSION = "3.9.3"
DATA = ("Id", "ACL", "Stat", "StatPersisted", "ClientInfo")
TXN_NAMES = """
TxnDigest TxnHeader CreateTxnV0 CreateTxn CreateTTLTxn CreateContainerTxn DeleteTxn SetDataTxn CheckVersionTxn
SetACLTxn CreateSessionTxn CloseSessionTxn ErrorTxn Txn MultiTxn
"""
PROTO_NAMES = """
ConnectRequest ConnectResponse SetWatches SetWatches2 RequestHeader MultiHeader AuthPacket ReplyHeader
GetDataRequest SetDataRequest ReconfigRequest SetDataResponse GetSASLRequest SetSASLRequest SetSASLResponse
CreateRequest CreateTTLRequest DeleteRequest GetChildrenRequest GetAllChildrenNumberRequest GetChildren2Request
CheckVersionRequest SyncRequest SyncResponse GetACLRequest SetACLRequest SetACLResponse AddWatchRequest
WatcherEvent ErrorResponse CreateResponse Create2Response ExistsRequest ExistsResponse GetDataResponse
GetChildrenResponse GetAllChildrenNumberResponse GetChildren2Response GetACLResponse CheckWatchesRequest
RemoveWatchesRequest GetEphemeralsRequest GetEphemeralsResponse WhoAmIResponse
"""
QUORUM = ("LearnerInfo", "QuorumPacket", "QuorumAuthPacket")
PATHS = 3000
# Data directories written by Java servers that were killed.
GOLDEN = javapeer.ROOT / "tests" / "golden"
TXNS_OF_A_TYPE = 4
LOG_HEADER_BYTES = 16
SEED = 20


def java_class(record: str) -> str:
    """The full name of the Java class of a record."""
    if record in DATA:
        return f"org.apache.zookeeper.data.{record}"
    if record in TXN_NAMES.split():
        return f"org.apache.zookeeper.txn.{record}"
    if record in QUORUM:
        return f"org.apache.zookeeper.server.quorum.{record}"
    if record == "FileHeader":
        return "org.apache.zookeeper.server.persistence.FileHeader"
    return f"org.apache.zookeeper.proto.{record}"


class WirePeer:
    """The compiled Java program; each question is one process."""

    def __init__(self, classes: str) -> None:
        self._path = os.pathsep.join([classes, *javapeer.classpath(VERSION)])

    def ask(self, question: str, *args: str, lines: Sequence[str] = ()) -> str:
        """The answer to one question of WirePeer.java, given `lines` on its stdin."""
        command = [javapeer.java_command(), "-cp", self._path, "WirePeer", question, *args]
        text = "".join(f"{line}\n" for line in lines)
        return subprocess.run(command, input=text, capture_output=True, text=True, check=True, timeout=100).stdout

    def echo(self, questions: Sequence[tuple[str, bytes]]) -> list[bytes | None]:
        """For (record, bytes): what Java writes after reading it, or None where it refuses."""
        lines = [f"{java_class(record)} {data.hex()}" for record, data in questions]
        answers = self.ask("echo", lines=lines).split("\n")[:-1]
        assert len(answers) == len(questions), "one answer a line"
        return [bytes.fromhex(answer[1:]) if answer.startswith("=") else None for answer in answers]


@contextmanager
def wire_peer() -> Iterator[WirePeer]:
    """The peer, compiled for the length of the block. Raises JavaUnavailable."""
    jars = os.pathsep.join(javapeer.classpath(VERSION))
    javac = Path(javapeer.java_command()).with_name("javac")
    command = str(javac) if javac.exists() else "javac"
    with tempfile.TemporaryDirectory(prefix="wirepeer-") as classes:
        subprocess.run([command, "-proc:none", "-cp", jars, "-d", classes, str(SOURCE)], check=True, timeout=100)
        yield WirePeer(classes)


def needed_peer() -> Iterator[WirePeer]:
    """For a fixture: the peer; skips without Java, fails without it where COATI_REQUIRE_INTEROP=1."""
    reason = javapeer.why_missing(VERSION)
    if reason is not None:
        if os.environ.get("COATI_REQUIRE_INTEROP") == "1":
            pytest.fail(f"required by COATI_REQUIRE_INTEROP=1: {reason}", pytrace=False)
        pytest.skip(reason)
    with wire_peer() as peer:
        yield peer


# What paths are made of: every boundary of PathUtils.validatePath, and what a UTF-8 decoder has to say something about.
PIECES: tuple[bytes, ...] = (
    b"/", b"/", b"/", b"//", b".", b".", b"..", b"a", b"b", b"-", b"0", b" ", b"~", b"!", b"\\", b"zookeeper",
    b"\x00", b"\x01", b"\x1f", b"\x7f",
    *(chr(c).encode() for c in (
        0x80, 0x9F, 0xA0, 0xE9, 0x7FF, 0x800, 0x3042, 0xD7FF, 0xE000, 0xF8FF, 0xF900, 0xFEFF, 0xFFEF, 0xFFF0,
        0xFFFD, 0xFFFF, 0x10000, 0x1F600, 0x10FFFF,
    )),
    b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xed\xa0\xbd\xed\xb8\x80", b"\xc0\x80", b"\xc0\xaf", b"\xe0\x80\xaf",
    b"\xf0\x80\x80\xaf", b"\xf4\x90\x80\x80", b"\x80", b"\xff", b"\xe2\x82", b"\xf0\x9f\x98",
)  # fmt: skip
# Mostly harmless, so that long paths have a chance to be valid.
GOOD: tuple[bytes, ...] = (
    b"/a", b"/b.", b"/..c", b"/.d", b"/...", b"e", b" ", b"-", b"~", b".", b"/",
    *(chr(c).encode() for c in (
        0xA0, 0xE9, 0x7FF, 0x800, 0x3042, 0xD7FF, 0xF900, 0xFEFF, 0xFFEF,
    )),
)  # fmt: skip
EDGES: tuple[bytes, ...] = (
    b"", b"a", b"/", b"/a/", b"//", b"/a//b", b"/.", b"/..", b"/...", b"/./a", b"/../a", b"/a/.", b"/a/..", b"/a/./b",
    b"/a/../b", b"/a.", b"/a..", b"/.a", b"/..a", b"/a./b", b"/a../b", b"/.a/b", b"/..a/b", b"/a/.../b", b"/.../",
    b"/ ", b"/ /", b"a/b", b".", b"..", b"/a.b", b"/a..b", b"/..b/", b"/.b/.", b"/" + b"a" * 300, b"/a" * 100,
    b"/a" * 100 + b"/",
)  # fmt: skip


def generate_paths() -> list[bytes]:
    """The edges, every piece in a few surroundings, and random sequences of pieces."""
    paths = dict.fromkeys(EDGES)
    for piece in PIECES:
        paths |= dict.fromkeys((piece, b"/" + piece, b"/a" + piece, b"/" + piece + b"a", b"/a/" + piece + b"/b"))
    dice = random.Random(SEED)
    while len(paths) < PATHS:
        path = b"".join(dice.choices(GOOD if dice.random() < 0.6 else PIECES, k=dice.randrange(1, 7)))
        paths[path if dice.random() < 0.2 else b"/" + path] = None
    return list(paths)


def records_text(peer: WirePeer) -> str:
    """java_records.json."""
    names = [*DATA, *PROTO_NAMES.split(), *QUORUM, "FileHeader", *TXN_NAMES.split()]
    return peer.ask("records", *(java_class(name) for name in names))


def paths_text(peer: WirePeer) -> str:
    """java_paths.txt: the verdicts on the path, plain and sequential, and the path in hex, one a line."""
    paths = generate_paths()
    verdicts = peer.ask("paths", lines=[path.hex() for path in paths]).split()
    return "".join(f"{verdict} {path.hex()}\n" for verdict, path in zip(verdicts, paths, strict=True))


def codes_text(peer: WirePeer) -> str:
    """java_codes.json."""
    return json.dumps(json.loads(peer.ask("codes")), indent=1, sort_keys=True) + "\n"


def log_payloads(path: Path) -> Iterator[bytes]:
    """The payloads of a log file (FileTxnLog): Adler32 as a long, length, payload, 0x42; zeros end it."""
    data = path.read_bytes()
    pos = LOG_HEADER_BYTES
    while pos + 12 <= len(data) and (length := int.from_bytes(data[pos + 8 : pos + 12], "big")) > 0:
        payload = data[pos + 12 : pos + 12 + length]
        assert zlib.adler32(payload) == int.from_bytes(data[pos : pos + 8], "big"), f"{path} at byte {pos}"
        yield payload
        pos += 12 + length + 1


def golden_logs() -> list[Path]:
    """The log files of the golden directories."""
    return sorted(GOLDEN.glob("*/version-2/log.*"))


def txns_text() -> str:
    """java_txns.txt: the first few payloads of each type and length of multi in each golden directory, in hex."""
    kept: dict[tuple[str, int, int], list[str]] = {}
    for path in golden_logs():
        for payload in log_payloads(path):
            kind = int.from_bytes(payload[28:32], "big", signed=True)
            parts = int.from_bytes(payload[32:36], "big") if kind == 14 else 0
            same = kept.setdefault((path.parts[-3], kind, parts), [])
            if len(same) < TXNS_OF_A_TYPE and len(payload) < 1000:
                same.append(payload.hex())
    return "".join(f"{text}\n" for texts in kept.values() for text in texts)


def main() -> None:
    FIXTURES.mkdir(exist_ok=True)
    with wire_peer() as peer:
        (FIXTURES / "java_records.json").write_text(records_text(peer))
        (FIXTURES / "java_paths.txt").write_text(paths_text(peer))
        (FIXTURES / "java_codes.json").write_text(codes_text(peer))
    if golden_logs():
        (FIXTURES / "java_txns.txt").write_text(txns_text())


if __name__ == "__main__":
    main()
