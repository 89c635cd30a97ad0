"""The history of a real server under load: what clients asked and were told, and what the log and the tree must be.

Knows every request before it is sent, every reply, and the transaction logs as a killed server leaves them, read here
by their format alone. From these it says, to the last field of every Stat, what a client must see after a restart.
Must not import coati: this is the judge. Where `tree_model.py` keeps every state of a few znodes, this keeps the last
state of thousands.
Invariant: nothing is raised for a server's mistake; each is a line in `faults`.
Sources: FileTxnLog and TxnHeader (layout), PrepRequestProcessor and DataTree (what a write does).
"""

from __future__ import annotations

import copy
import struct
import zlib
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from tests.interop import raw
from tools.storm_reads import Reads
from tools.tree_model import (
    BAD_VERSION,
    NO_NODE,
    NODE_EXISTS,
    NOT_EMPTY,
    OK,
    RUNTIME_INCONSISTENCY,
    SESSION_EXPIRED,
    Outcome,
    Refused,
    Stat,
    Write,
    parent_path,
)

# FileHeader: magic, version, dbid. Then each entry: Adler32 as a long, length, txn, 'B'; zeros are padding.
_FILE_HEADER: Final = struct.Struct(">4siq")
_ENTRY_HEAD: Final = struct.Struct(">qi")
_END_OF_ENTRY: Final = b"B"
_TXN_HEADER: Final = struct.Struct(">qiqqi")
_INT: Final = struct.Struct(">i")
# How many parts; of the first its op, its length, and the error code if it is one.
_MULTI_HEAD: Final = struct.Struct(">iiii")
_NEVER_SHOWN: Final = (b"/zookeeper", b"/zookeeper/quota", b"/zookeeper/config")
# So many lines say what is wrong; more would only hide the first.
MAX_FAULTS: Final = 20

Shown: TypeAlias = dict[bytes, tuple[bytes, Stat]]
Key: TypeAlias = tuple[int, int]


class Logged(NamedTuple):
    """One txn of a log; `end` is the position behind it in `file`.

    `number` is the timeout, or the error code; of a multi, that of its first part.
    """

    session_id: int
    xid: int
    zxid: int
    time_ms: int
    op: int
    number: int
    file: str
    end: int


class Answer(NamedTuple):
    """What a client was told."""

    zxid: int
    err: int
    body: object


class Znode(NamedTuple):
    """A znode; `creates` is the number of children it ever had, which names its next sequential one."""

    data: bytes
    czxid: int
    mzxid: int
    pzxid: int
    ctime: int
    mtime: int
    version: int = 0
    creates: int = 0
    children: int = 0
    owner: int = 0

    def stat(self) -> Stat:
        """As clients see it; each create and each delete of a child counts in cversion."""
        cversion = self.creates * 2 - self.children
        head = (self.czxid, self.mzxid, self.ctime, self.mtime, self.version, cversion, 0)
        return (*head, self.owner, len(self.data), self.children, self.pzxid)


def log_files(directory: Path) -> list[tuple[int, Path]]:
    """First zxid and path of each log, oldest first."""
    return sorted((int(path.name.partition(".")[2], 16), path) for path in directory.glob("log.*"))


def read_log(directory: Path, after_zxid: int) -> Iterator[Logged]:
    """The sound txns above `after_zxid`, as they lie in the files; each file up to its padding or its torn end."""
    files = log_files(directory)
    for index, (_, path) in enumerate(files):
        if index + 1 < len(files) and files[index + 1][0] <= after_zxid + 1:
            continue
        data = path.read_bytes()
        if len(data) < _FILE_HEADER.size or data[:4] != b"ZKLG":
            continue
        pos = _FILE_HEADER.size
        while pos + _ENTRY_HEAD.size < len(data):
            checksum, length = _ENTRY_HEAD.unpack_from(data, pos)
            start = pos + _ENTRY_HEAD.size
            txn = data[start : start + length]
            if length < _TXN_HEADER.size or data[start + length : start + length + 1] != _END_OF_ENTRY:
                break
            if zlib.adler32(txn) != checksum:
                break
            pos = start + length + 1
            entry = _logged(txn, path.name, pos)
            if entry.zxid > after_zxid:
                yield entry


def _logged(txn: bytes, file: str, end: int) -> Logged:
    session_id, xid, zxid, time_ms, op = _TXN_HEADER.unpack_from(txn)
    number = 0
    if op in (raw.CREATE_SESSION, raw.ERROR):
        number = _INT.unpack_from(txn, _TXN_HEADER.size)[0]
    elif op == raw.MULTI:
        _, first_op, _, err = _MULTI_HEAD.unpack_from(txn, _TXN_HEADER.size)
        number = err if first_op == raw.ERROR else 0
    return Logged(session_id, xid, zxid, time_ms, op, number, file, end)


class Tree:
    """The state after the last txn, changed in place; a multi that fails is taken back."""

    def __init__(self) -> None:
        empty = Znode(b"", 0, 0, 0, 0, 0)
        self.nodes: dict[bytes, Znode] = {b"/": empty._replace(children=1), **dict.fromkeys(_NEVER_SHOWN, empty)}
        self.sessions: dict[int, int] = {}
        self.zxid = 0
        self._time_ms = 0
        self._session_id = 0
        self._before: dict[bytes, Znode | None] = {}

    def apply(self, entry: Logged, write: Write) -> Outcome:
        """What must come of the next write."""
        self.zxid, self._time_ms, self._session_id = entry.zxid, entry.time_ms, entry.session_id
        self._before = {}
        if write.kind == "open":
            self.sessions[entry.session_id] = write.number
            return Outcome()
        if entry.session_id not in self.sessions:
            return Outcome(SESSION_EXPIRED)
        if write.kind == "close":
            self._close()
            return Outcome()
        if write.kind == "multi":
            return self._multi(write)
        try:
            return self._single(write)
        except Refused as refused:
            return Outcome(refused.err)

    def changed(self) -> list[bytes]:
        """The znodes that were there before the last write, and have other data now or are gone."""
        nodes, zxid = self.nodes, self.zxid
        there = [path for path, node in self._before.items() if node is not None]
        return [path for path in there if path not in nodes or nodes[path].mzxid == zxid]

    def show(self, path: bytes) -> tuple[bytes, Stat] | None:
        """What a client reads of a znode; None if it is not there."""
        node = self.nodes.get(path)
        return None if node is None else (node.data, node.stat())

    def _put(self, path: bytes, node: Znode | None) -> None:
        self._before.setdefault(path, self.nodes.get(path))
        if node is None:
            del self.nodes[path]
        else:
            self.nodes[path] = node

    def _close(self) -> None:
        del self.sessions[self._session_id]
        for path in [path for path, node in self.nodes.items() if node.owner == self._session_id]:
            self._remove(path)

    def _multi(self, write: Write) -> Outcome:
        outcome = Outcome()
        for index, part in enumerate(write.parts):
            try:
                outcome.parts.append(self._single(part))
            except Refused as refused:
                for path, node in self._before.items():
                    if node is None:
                        self.nodes.pop(path, None)
                    else:
                        self.nodes[path] = node
                rest = len(write.parts) - index - 1
                codes = [OK] * index + [refused.err] + [RUNTIME_INCONSISTENCY] * rest
                # The reply itself is fine; its parts say that nothing was done.
                return Outcome(OK, b"failed", parts=[Outcome(code) for code in codes])
        return outcome

    def _single(self, write: Write) -> Outcome:
        if write.kind == "create":
            return self._create(write)
        node = self.nodes.get(write.path)
        if node is None:
            raise Refused(NO_NODE)
        if write.version not in (-1, node.version):
            raise Refused(BAD_VERSION)
        if write.kind == "delete":
            if node.children:
                raise Refused(NOT_EMPTY)
            self._remove(write.path)
            return Outcome()
        if write.kind == "set":
            node = node._replace(data=write.data, version=node.version + 1, mzxid=self.zxid, mtime=self._time_ms)
            self._put(write.path, node)
        return Outcome(OK, write.path, node.stat())

    def _create(self, write: Write) -> Outcome:
        above = parent_path(write.path)
        parent = self.nodes.get(above)
        if parent is None:
            raise Refused(NO_NODE)
        path = write.path + (b"%010d" % parent.creates if write.sequential else b"")
        if path in self.nodes:
            raise Refused(NODE_EXISTS)
        zxid, time_ms = self.zxid, self._time_ms
        owner = self._session_id if write.owner else 0
        node = Znode(write.data, zxid, zxid, zxid, time_ms, time_ms, owner=owner)
        self._put(above, parent._replace(creates=parent.creates + 1, children=parent.children + 1, pzxid=zxid))
        self._put(path, node)
        return Outcome(OK, path, node.stat())

    def _remove(self, path: bytes) -> None:
        self._put(path, None)
        above = parent_path(path)
        parent = self.nodes[above]
        self._put(above, parent._replace(children=parent.children - 1, pzxid=self.zxid))


class History:
    """All of one run, over every restart of the server. The order of use: `sent`, `answered`, `consume`, `compare`."""

    def __init__(self) -> None:
        self.tree = Tree()
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()
        # What may still come, in the order of each session; and what was told but not yet looked up in the log.
        self._sent: dict[int, deque[tuple[int, Write]]] = {}
        self._answers: list[tuple[Key, Answer]] = []
        self._done: dict[Key, tuple[int, Write, Outcome]] = {}
        self._told: dict[int, tuple[int, int]] = {}
        self._sequence: dict[bytes, int] = {}
        self._multis: list[tuple[int, Outcome]] = []
        # Sessions of clients that are asked for and not yet known by their id; those that nobody pings any more.
        self.opening = 0
        self._known: dict[int, None] = {}
        self._abandoned: dict[int, None] = {}
        self.highest_acked = 0
        self.reads = Reads(self.fault, self.counts)

    def fault(self, text: str) -> None:
        """Notes a mistake of the server."""
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(text)

    # What clients do.

    def opened(self, session_id: int) -> None:
        """A client was told its new session."""
        if session_id in self._known:
            self.fault(f"session {session_id:#x} was given out twice")
        self._known[session_id] = None

    def sent(self, session_id: int, xid: int, write: Write) -> None:
        """A client is about to send a write."""
        self._sent.setdefault(session_id, deque()).append((xid, write))
        self.counts["writes"] += 1

    def answered(self, session_id: int, xid: int, answer: Answer) -> None:
        """A client was told what came of a write."""
        last_xid, last_zxid = self._told.get(session_id, (0, 0))
        if xid <= last_xid or answer.zxid <= last_zxid:
            self.fault(
                f"session {session_id:#x}: reply {xid} at zxid {answer.zxid:#x} behind {last_xid} at {last_zxid:#x}"
            )
        self._told[session_id] = (xid, answer.zxid)
        self._answers.append(((session_id, xid), answer))
        self.highest_acked = max(self.highest_acked, answer.zxid)
        self.counts["acknowledged"] += 1

    def abandoned(self, session_id: int) -> None:
        """From now on nobody speaks for this session: it must expire."""
        self._abandoned[session_id] = None

    def is_abandoned(self, session_id: int) -> bool:
        """Whether nobody speaks for it."""
        return session_id in self._abandoned

    def waiting_to_expire(self, most_ms: int) -> list[int]:
        """Sessions that are there, have nobody, and have a timeout of at most so much."""
        sessions = self.tree.sessions
        return [session_id for session_id in self._abandoned if sessions.get(session_id, most_ms + 1) <= most_ms]

    # What the log says.

    def consume(self, directory: Path, *, is_over: bool) -> None:
        """Takes what the logs hold by now. `is_over`: the server is dead, so what is not there will never be."""
        for entry in self.logged(directory):
            self.reads.judge_looks(self.tree.show, self.tree.zxid, entry.zxid - 1)
            self._take(entry)
        self.reads.judge_looks(self.tree.show, self.tree.zxid, self.tree.zxid)
        self.reads.judge_watches(self.tree.zxid)
        for key, answer in self._answers:
            self._judge(key, answer)
        self._answers = []
        if is_over:
            self.counts["never logged"] += sum(map(len, self._sent.values()))
            self._sent = {}
            self.opening = 0

    def logged(self, directory: Path) -> Iterator[Logged]:
        """What is new in the logs."""
        return read_log(directory, self.tree.zxid)

    def is_next(self, zxid: int) -> bool:
        """Whether nothing is missing before it."""
        return zxid == self.tree.zxid + 1

    def _take(self, entry: Logged) -> None:
        if not self.is_next(entry.zxid):
            self.fault(f"zxid {entry.zxid:#x} follows {self.tree.zxid:#x} in {entry.file}")
        write = self.write_of(entry)
        if write is None:
            self.fault(f"zxid {entry.zxid:#x}, op {entry.op}, session {entry.session_id:#x}: nobody sent {entry.xid}")
            self.tree.zxid = entry.zxid
            return
        outcome = self.tree.apply(entry, write)
        for path in self.tree.changed():
            self.reads.changed(path, entry.zxid)
        self.counts["txns"] += 1
        if entry.op == raw.ERROR and outcome.err != entry.number:
            self.fault(f"zxid {entry.zxid:#x}: {write} is logged as {entry.number} instead of {outcome}")
        elif entry.op != raw.ERROR and outcome.err:
            self.fault(f"zxid {entry.zxid:#x}: {write} is logged as done instead of {outcome}")
        if write.kind == "multi" and outcome.path != b"failed":
            self._multis.append((entry.zxid, outcome))
        self._note_sequence(entry.zxid, write, outcome)
        if entry.xid:
            self._done[entry.session_id, entry.xid] = (entry.zxid, write, outcome)

    def write_of(self, entry: Logged) -> Write | None:
        """What asked for it; None if nobody did."""
        sent = self.sent_of(entry)
        if sent and entry.xid == sent[0][0]:
            return sent.popleft()[1]
        if entry.op == raw.CREATE_SESSION:
            if entry.session_id not in self._known:
                # Whoever asked for it was not told.
                self._abandoned[entry.session_id] = None
            self._known[entry.session_id] = None
            self.opening -= 1
            return Write("open", number=entry.number) if self.opening >= 0 else None
        if entry.op == raw.CLOSE_SESSION and entry.xid == 0:
            if entry.session_id not in self._abandoned:
                self.fault(f"zxid {entry.zxid:#x}: session {entry.session_id:#x} expired, but had a client")
            self.counts["expired"] += 1
            return Write("close")
        return None

    def sent_of(self, entry: Logged) -> deque[tuple[int, Write]] | None:
        """What its session has sent that may be logged next."""
        return self._sent.get(entry.session_id)

    def _note_sequence(self, zxid: int, write: Write, outcome: Outcome) -> None:
        if write.kind == "multi" and not outcome.err:
            for part, result in zip(write.parts, outcome.parts, strict=True):
                self._note_sequence(zxid, part, result)
        elif write.sequential and outcome.stat is not None:
            self._sequence[outcome.path] = zxid

    def _judge(self, key: Key, answer: Answer) -> None:
        """Everything a client was told must be in the log, and what it was told must be so."""
        done = self._done.pop(key, None)
        what = f"session {key[0]:#x}, xid {key[1]}"
        if done is None:
            self.fault(f"{what}: acknowledged at zxid {answer.zxid:#x}, and lost")
            return
        zxid, write, outcome = done
        for path in _paths_told(write, answer.body):
            if write.kind == "multi" or write.sequential:
                at = self._sequence.get(path, zxid)
                if at != zxid:
                    self.fault(f"{what}: {path!r} of zxid {at:#x} was given out again: a sequence number reused")
        if answer.zxid != zxid:
            self.fault(f"{what}: acknowledged at zxid {answer.zxid:#x}, logged at {zxid:#x}")
        told = told_of(write, outcome)
        if (answer.err, answer.body) != told:
            self.fault(f"{what}: {write} was answered {answer.err} {answer.body} instead of {told}")

    # What the server shows.

    def fork(self) -> History:
        """A copy to go on with elsewhere, for another server on a copy of the files."""
        return copy.deepcopy(self)

    def compare(self, shown: Shown) -> None:
        """What a client read, with what must be there."""
        nodes = {path: node for path, node in self.tree.nodes.items() if path not in _NEVER_SHOWN}
        wrong = [
            path
            for path in {**nodes, **shown}
            if path not in _NEVER_SHOWN
            and (path not in shown or path not in nodes or shown[path] != (nodes[path].data, nodes[path].stat()))
        ]
        self.counts["znodes compared"] += len(nodes)
        self._compare_multis(shown, dict.fromkeys(wrong))
        for path in wrong:
            if path not in shown:
                self.fault(f"{path!r} of zxid {nodes[path].czxid:#x} is missing at zxid {self.tree.zxid:#x}")
            elif path not in nodes:
                self.fault(f"{path!r} is there and was never written: {shown[path]}")
            else:
                expected = (nodes[path].data[:40], nodes[path].stat())
                self.fault(f"{path!r} is {(shown[path][0][:40], shown[path][1])} instead of {expected}")
        self._multis = []

    def _compare_multis(self, shown: Shown, wrong: dict[bytes, None]) -> None:
        for zxid, outcome in self._multis:
            created = [part.path for part in outcome.parts if part.stat is not None and part.stat[0] == zxid]
            still = [path for path in created if path in self.tree.nodes and self.tree.nodes[path].czxid == zxid]
            lost = [path for path in still if path in wrong and path not in shown]
            if lost and len(lost) < len(still):
                self.fault(f"the multi of zxid {zxid:#x} is torn: of {still} the server lacks {lost}")


# Between `Write` and the wire.


def encode(write: Write) -> tuple[int, bytes]:
    """Op and body of the request."""
    path = write.path
    if write.kind == "multi":
        return raw.MULTI, raw.multi([encode(part) for part in write.parts])
    if write.kind == "create":
        flags = (1 if write.owner else 0) + (2 if write.sequential else 0)
        return raw.CREATE2, raw.create(path, write.data, flags=flags)
    if write.kind == "set":
        return raw.SET_DATA, raw.set_data(path, write.data, write.version)
    if write.kind == "close":
        return raw.CLOSE_SESSION, b""
    return {"delete": raw.DELETE, "check": raw.CHECK}[write.kind], raw.path_version(path, write.version)


def told_of(write: Write, outcome: Outcome) -> tuple[int, object]:
    """Error code and decoded body that a client must be told."""
    if outcome.err:
        return outcome.err, None
    if write.kind != "multi":
        return OK, _body_of(write, outcome)
    parts: list[tuple[object, ...]] = []
    for part, result in zip(write.parts, outcome.parts, strict=True):
        if outcome.path == b"failed":
            parts.append((raw.ERROR, result.err, result.err))
        else:
            parts.append((encode(part)[0], OK, _body_of(part, result)))
    return OK, [*parts, ("end", -1, -1)]


def _body_of(write: Write, outcome: Outcome) -> object:
    if outcome.stat is None or write.kind == "check":
        return None
    stat = raw.Stat(*outcome.stat)
    return (outcome.path.decode(), stat) if write.kind == "create" else stat


def _paths_told(write: Write, body: object) -> list[bytes]:
    """The names that the server has made up."""
    if isinstance(body, tuple) and isinstance(body[0], str):
        return [body[0].encode()] if write.sequential else []
    if isinstance(body, list):
        results = [result for part, result in zip(write.parts, body, strict=False) if part.sequential]
        return [str(result[2][0]).encode() for result in results if result[0] == raw.CREATE2]
    return []
