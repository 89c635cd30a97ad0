"""Asks Java what it thinks of bytes: runs java/WirePeer.java, and writes the fixtures from its answers.

`python -m tests.wire.wirepeer` (from the root of the checkout) rewrites fixtures/: java_records.json, java_codes.json,
java_paths.txt, java_views.json, java_hellos.json; and java_txns.txt, where the golden data directories are. Must not
import coati: the fixtures are the word of Java alone.
"""

from __future__ import annotations

import json
import os
import random
import struct
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


# Right sides of a server line: every branch of QuorumServer, and of how the JDK reads a literal.
MEMBERS = (
    "zoo.invalid:2888:3888", "zoo.invalid:2888:3888:participant", "zoo.invalid:2888:3888:observer",
    "127.0.0.1:2888:3888", "127.1:2888:3888", "127.0.1:1:2", "2130706433:1:2", "4294967296:1:2", "1.2.3.4.5:1:2",
    "1.2.65536:1:2", "256.1:1:2", "1.2.3.256:1:2", "010.0.0.08:1:2", "1..2:1:2", ".1:1:2", "0000000127.0.0.1:1:2",
    "[::1]:2888:3888", "[2001:DB8::A]:1:2:observer", "[::ffff:1.2.3.4]:1:2", "[::1.2.3.4]:1:2", "[::]:1:2",
    "[1:2:3]:1:2", "[zoo.invalid]:1:2", "[127.1]:1:2", ":1:2", "[]:1:2", "[::1:1:2", "[::1]", "[::1]:", "[::1]:1:",
    "[::1]x1:2", "::1:1:2", "fe80::1", "zoo.invalid", "zoo.invalid:1", "zoo.invalid:1:1", "zoo.invalid:1:2:3:4",
    "zoo.invalid:1:2:Observer", "zoo.invalid:1:2: PARTICIPANT ", "zoo.invalid:1:2:obs", "zoo.invalid:1:2:",
    "zoo.invalid:0:65535", "zoo.invalid:-1:2", "zoo.invalid:1:65536", "zoo.invalid:+1:2", "zoo.invalid:x:2",
    "zoo.invalid: 1:2", "zoo.invalid:1:99999999999", "zoo.invalid:1:2;2181", "zoo.invalid:1:2;h.invalid:2181",
    "zoo.invalid:1:2;[::1]:2181", "zoo.invalid:1:2;127.1:0", "zoo.invalid:1:2;", "zoo.invalid:1:2;;",
    "zoo.invalid:1:2;2181;2281", "zoo.invalid:1:2;:2181", "zoo.invalid:1:2;a:b:1", "zoo.invalid:1:2;x",
    "zoo.invalid:1:2;:", "zoo.invalid:1:2;65536", ";2181", ";", "", "|", "|zoo.invalid:1:2", "zoo.invalid:1:2|",
    "zoo.invalid:1:2|b.invalid:1:2", "zoo.invalid:1:2|;2181", "zoo.invalid:1:2:observer;2181",
)  # fmt: skip
# Whole texts but for their members, of which there are three: 1, 2 and 3.
RULES = (
    "", "version=0", "version=10000000a", "version=-1", "version=7fffffffffffffff", "version=ffffffffffffffff",
    "version=x", "version=", "version=+a", "# a comment\n\n! another\r\nversion=1", "tickTime=2000",
    "group.1=1:2:3", "group.1=1:2:3\nversion=ff", "group.1=1:2", "group.1=1:2:3:4", "group.1=1:2:3:4\nweight.4=1",
    "group.1=1:2:3\nweight.9=7", "group.1=1\ngroup.2=2\ngroup.3=3", "group.1=1:2\ngroup.2=2:3", "group.1=1:1:2:3",
    "group.1=1:2\ngroup.2=3", "group.1=1:2\ngroup.2=3\nweight.3=0", "group.1=1:2:3\nweight.1=0",
    "group.1=1:2:3\nweight.1=2", "group.1=1:2:3\nweight.1=3", "group.1=1:2:3\nweight.1=0\nweight.2=0\nweight.3=0",
    "group.1=1:2:3\nweight.1=5\nweight.2=4\nweight.3=2", "weight.1=1", "group.1=", "group.1=1::2:3", "group.1=:",
    "group.1=1:2:3:", "group.x=1:2:3", "group=1:2:3", "groups.7=1:2:3", "weighty.1=2\ngroup.1=1:2:3", "group.1=a",
    "group.1=1:2:3\nweight.1=", "group.1=1:2:3\nweight.x=1", "group.1=1:2:3\nweight.1=x", "server.x=a.invalid:1:2",
    "server.=a.invalid:1:2", "server.4=a.invalid:1:2:observer", "group.1=1:2:3\nserver.4=a.invalid:1:2:observer",
    "group.1=1:2:3:4\nserver.4=a.invalid:1:2:observer", "server.-1=a.invalid:1:2",
    "group.1=1:2:3:4\nserver.4=a.invalid:1:2:observer\nweight.4=1", "group.-1=1:2:3",
)  # fmt: skip


def generate_views() -> list[str]:
    """Texts of configurations: each member line, each rule, and ensembles by chance, with groups and without."""
    views = [f"server.1={member}" for member in MEMBERS]
    views += ["server.1=127.0.0.1:1:2:observer", "server.1=127.0.0.1:1:2:observer\nserver.2=127.0.0.1:1:2"]
    three = "".join(f"server.{sid}=127.0.0.{sid}:1:2\n" for sid in (1, 2, 3))
    views += [three + rule for rule in RULES]
    # Order of a HashMap of longs, before and after it grows; no two of them share a bucket.
    for sids in ((15, 16, 3), (31, 30, 16, 1), tuple(range(20, 34)), (1 << 32, 5, (1 << 62) + 4), (250, 255, 256 + 7)):
        views.append("".join(f"server.{sid}=127.0.0.1:1:2:{'observer'[: 8 * (sid > 25)]}\n" for sid in sids))
    dice = random.Random(SEED)
    for _ in range(60):
        lines = []
        chosen = dice.sample(range(1, 16), dice.randrange(1, 8))
        for sid in chosen:
            kind = ":observer" if dice.random() < 0.15 else ""
            client = f";{2181 + sid}" if dice.random() < 0.5 else ""
            lines.append(f"server.{sid}=127.0.0.{sid}:{2888 + sid}:{3888 + sid}{kind}{client}")
            if dice.random() < 0.4:
                lines.append(f"weight.{sid}={dice.choice((0, 1, 2, 3, 10))}")
        count = dice.randrange(1, 4)
        for group in range(1, count + 1):
            if mine := [str(sid) for sid in chosen if sid % count == group - 1]:
                lines.append(f"group.{group}={':'.join(mine)}")
        if dice.random() < 0.4:
            lines = [line for line in lines if line.startswith("server")]
        views.append("\n".join([*lines, f"version={dice.randrange(1 << 40):x}"]))
    return views


def views_text(peer: WirePeer) -> str:
    """java_views.json: for each text what it is written as and which sets are quorums, or the name of the exception."""
    found = []
    views = generate_views()
    for view, answer in zip(
        views, peer.ask("views", lines=[v.encode().hex() for v in views]).split("\n"), strict=False
    ):
        text, _, verdicts = answer.partition(" ")
        found.append([view, bytes.fromhex(text[1:]).decode(), verdicts] if verdicts else [view, answer, None])
    return json.dumps(found, indent=0, ensure_ascii=False) + "\n"


# Address texts of a hello.
ADDRESSES: tuple[str, ...] = (
    "127.0.0.1:3888", "zoo.invalid:3888", "[::1]:3888", "[2001:db8::1]:1", "a.invalid:1|b.invalid:2|127.0.0.3:3",
    "0.0.0.0:1", "[::]:1", "[0:0::0]:1", "0:1", "0.0.0.0:1|127.0.0.1:2", "127.1:1", "a.invalid", "a.invalid:", ":1",
    "a.invalid:1:2", "::1:1", "[::1]", "[::1]:", "[::1", "[]:1", "a.invalid:x", "a.invalid:-1", "a.invalid:65535",
    "a.invalid:65536", "a.invalid:+5", "a.invalid: 5", "|", "||a.invalid:1", "a.invalid:1|", "a.invalid:1||b.invalid:1",
    "a.invalid:1|b.invalid", " ", "x" * 2000 + ".invalid:1", "|".join(["127.0.0.1:1"] * 170), "[::ffff:0.0.0.0]:1",
)  # fmt: skip


def generate_hellos() -> list[bytes]:
    """Whole hellos and broken ones."""
    texts = [text.encode() for text in ADDRESSES]
    hellos = [b"%b%b" % (struct.pack(">qqi", -65536, 7, len(text)), text) for text in texts]
    good = texts[0]
    for version in (-65535, -65534, -65537, -1, -(1 << 63)):
        hellos.append(struct.pack(">qqi", version, 7, len(good)) + good)
    for length in (0, -1, 2048, 2049, (1 << 31) - 1, len(good) + 1):
        hellos.append(struct.pack(">qqi", -65536, 7, length) + good)
    hellos.append(struct.pack(">qqi", -65536, (1 << 63) - 1, len(good)) + good)
    hellos.append(struct.pack(">qqi", -65536, 7, 2048) + b"127.0.0.1:3888" + b"|" * 2034)
    hellos.append(struct.pack(">qqi", -65536, 7, 2049) + b"127.0.0.1:3888" + b"|" * 2035)
    return hellos


def hellos_text(peer: WirePeer) -> str:
    """java_hellos.json: the bytes in hex, and the sid with its addresses or the name of the exception."""
    hellos = [hello.hex() for hello in generate_hellos()]
    answers = peer.ask("hellos", lines=hellos).split("\n")[:-1]
    return json.dumps([list(pair) for pair in zip(hellos, answers, strict=True)], indent=0) + "\n"


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
        (FIXTURES / "java_views.json").write_text(views_text(peer))
        (FIXTURES / "java_hellos.json").write_text(hellos_text(peer))
    if golden_logs():
        (FIXTURES / "java_txns.txt").write_text(txns_text())


if __name__ == "__main__":
    main()
