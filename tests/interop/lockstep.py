"""Runs one sequence of steps on two servers in lockstep and says where they differ.

Knows what may differ between two correct servers and how it is taken out: session ids become ordinals, zxids become
distances from the start of the run, wall-clock times become "now", children are sorted (raw.py), and so are the
events of one closeSession, whose order is that of a Java HashSet. Everything else must be equal: error codes, Stats,
data, events, their order, header zxids.
What differs on purpose is in INTENDED, each row with its paragraph in docs/divergences.md.
Invariant: requests of different sessions are never in flight together, so what a correct server answers is determined.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.interop import raw
from tests.interop.peers import Server, session, superuser
from tests.interop.sequences import OPCODES, SESSIONS, SOLO, XIDS, Step, encode, generate

SHRINK_RUNS: Final = 200
DEADLINE_S: Final = 5.0
BEFORE: Final = -1000
CLOCK_SLACK_MS: Final = 3_600_000
Item = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Intended:
    """What coati does differently on purpose, or Java 3.9.3 differently from 3.9.5, which coati follows.

    `reference` names the section and row of docs/divergences.md.
    """

    reference: str
    involved: Callable[[Step], bool]


def _has_null(step: Step) -> bool:
    """An ACL with a null id, a null ACL in a multi, a null path in setWatches."""
    if step.kind.startswith("setWatches"):
        return "None" in repr(step.args)
    if step.kind == "multi":
        return any("None" in repr(op) for op in step.args)
    return ", None)" in repr(step.args)


# The one table of them. Sequences are played without the steps involved; tests of their own say what coati does
# instead.
INTENDED: Final = (
    Intended("Client protocol: deleteContainer from a client", lambda step: step.kind == "deleteContainer"),
    Intended("Client protocol: IPv6 addresses in ACLs", lambda step: "'ip', ':" in repr(step.args)),
    Intended("Client protocol: null where a value belongs", _has_null),
)


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two servers parted: the steps of that turn and what each side made of them."""

    who: int
    steps: tuple[Step, ...]
    left: tuple[Item, ...]
    right: tuple[Item, ...]

    def first(self) -> tuple[Item | None, Item | None]:
        """The first unequal pair."""
        for left, right in zip(self.left, self.right, strict=False):
            if left != right:
                return left, right
        shorter = min(len(self.left), len(self.right))
        return next(iter(self.left[shorter:]), None), next(iter(self.right[shorter:]), None)

    def signature(self) -> tuple[object, ...]:
        """Equal for differences that look like one cause."""
        left, right = self.first()
        return _shape(left), _shape(right)

    def __str__(self) -> str:
        left, right = self.first()
        pairs = zip(self.left, self.right, strict=False)
        answered = sum(a[0] == "reply" for a, b in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        asked = self.steps[answered : answered + 1] or self.steps[-1:]
        where = f"session {self.who}, after {answered} equal answers of this turn, asked"
        return f"{where}\n{show(asked)}  left:  {left}\n  right: {right}"


def _shape(item: Item | None) -> tuple[object, ...]:
    return (
        ()
        if item is None
        else item[:3]
        if item[0] == "reply"
        else (item[0], item[2])
        if item[0] == "event"
        else item[:2]
    )


class ServerDied(Exception):
    """A server no longer takes connections; the message has the sequence and the logs."""


def show(steps: Sequence[Step]) -> str:
    """The steps as Python, one a line."""
    return "".join(f"    {step!r},\n" for step in steps)


@dataclass(slots=True)
class Slot:
    """One client of the run on one side: its session, and whether its connection still stands."""

    session: raw.Session
    open: bool = True
    pending: list[tuple[int, int]] = field(default_factory=list)


class Side:
    """One server's half of a run."""

    def __init__(self, server: Server, prefix: str) -> None:
        self.prefix = prefix
        self.server = server
        self.slots: dict[int, Slot] = {}
        self.ids: dict[int, str] = {}
        self.closes: set[int] = set()
        with session(server) as control:
            error, _ = control.call(raw.CREATE, raw.create(prefix))
            assert error == 0, f"cannot create {prefix}: {error}"
            control.close()
            self.base = control.last_zxid

    # Doors: one turn is `begin`, `send`, `receive`.

    def begin(self, who: int) -> list[Item]:
        """Make sure that client `who` is connected: by resuming its session, else with a new one."""
        slot = self.slots.get(who)
        if slot is not None and slot.open:
            return []
        items: list[Item] = []
        if slot is not None:
            items += self._resume(slot)
            if slot.open:
                return items
        opened = raw.Session(self.server.host, self.server.port, deadline_s=DEADLINE_S)
        self.ids.setdefault(opened.session_id, f"S{len(self.ids)}")
        self.slots[who] = Slot(opened)
        return [*items, self._opened(opened)]

    def send(self, slot: Slot, steps: Sequence[Step]) -> None:
        """Send the requests of `steps` in one go."""
        chunks = []
        for step in steps:
            if step.kind == "reconnect":
                continue
            op, body = encode(step, self.prefix, slot.session.last_zxid)
            xid = XIDS.get(step.kind) or slot.session.next_xid()
            chunks.append(raw.request(xid, op, body))
            slot.pending.append((op, xid))
        slot.session.wire.send(b"".join(chunks))

    def receive(self, who: int, steps: Sequence[Step]) -> list[Item]:
        """What came back for `steps`, events in their places."""
        slot = self.slots[who]
        items: list[Item] = []
        if steps and steps[0].kind == "reconnect":
            items += self._reconnect(slot, str(steps[0].args[0]))
        try:
            while slot.pending:
                items.append(self.read(slot, slot.session.receive()))
            if steps and _ends_connection(steps[-1], items):
                slot.session.receive()
        except (raw.Closed, raw.Silent) as end:
            items.append((type(end).__name__.lower(),))
            slot.session.wire.close()
            slot.open = False
            slot.pending.clear()
        if steps and steps[-1].kind == "close" and not slot.open:
            del self.slots[who]
        return self._unordered_closes(items)

    def finish(self, who: int) -> list[Item]:
        """End client `who`: everything that was fired at it, then its session."""
        if who not in self.slots:
            return []
        farewell = (Step(who, "ping"), Step(who, "close"))
        items: list[Item] = []
        for step in farewell:
            items += self.begin(who)
            self.send(self.slots[who], [step])
            items += self.receive(who, [step])
        return items

    def clean(self) -> None:
        """Remove what the run left, so that a difference does not echo in later runs."""
        with superuser(self.server) as control:
            for root in (self.prefix, f"/zookeeper/quota{self.prefix}", "/zookeeper/nope"):
                for path in reversed(_subtree(control, root)):
                    control.call(raw.DELETE, raw.path_version(path))
            control.close()

    # Helpers.

    def _opened(self, opened: raw.Session) -> Item:
        who = self.ids.get(opened.session_id, "unknown session")
        return "open", who, opened.protocol, opened.timeout_ms, len(opened.password), opened.read_only

    def _resume(self, slot: Slot, *, ahead: int = 0, password: bytes | None = None) -> list[Item]:
        old = slot.session
        old.wire.close()
        slot.open = False
        try:
            slot.session = raw.Session(
                self.server.host,
                self.server.port,
                session_id=old.session_id,
                password=old.password if password is None else password,
                last_zxid=old.last_zxid + ahead,
                deadline_s=DEADLINE_S,
            )
        except raw.Expired:
            return [("expired",)]
        except raw.Closed:
            return [("refused",)]
        slot.open = True
        return [self._opened(slot.session)]

    def _reconnect(self, slot: Slot, how: str) -> list[Item]:
        items: list[Item] = []
        if how == "ahead":
            items += self._resume(slot, ahead=1_000_000)
        elif how == "wrong password":
            items += self._resume(slot, password=b"0123456789abcdef")
        return items if slot.open and items else items + self._resume(slot)

    def read(self, slot: Slot, got: raw.Event | raw.Reply) -> Item:
        if isinstance(got, raw.Event):
            return "event", self._zxid(got.zxid), got.type, got.state, got.path
        op, sent = slot.pending.pop(0)
        if op == raw.CLOSE_SESSION:
            self.closes.add(self._zxid(got.zxid))
        try:
            body = self._plain(raw.decode(op, got.body))
        except raw.Malformed as error:
            body = f"malformed ({error}): {got.body.hex()}"
        return "reply", op, got.err, "own xid" if got.xid == sent else got.xid, self._zxid(got.zxid), body

    def _zxid(self, zxid: int) -> int:
        """Distance from the start of the run; what was before it is all one, special values stay."""
        return zxid if zxid <= 0 else zxid - self.base if zxid > self.base else BEFORE

    def _plain(self, value: object) -> object:
        if isinstance(value, raw.Stat):
            return self._stat(value)
        if isinstance(value, (tuple, list)):
            return tuple(self._plain(each) for each in value)
        return value

    def _stat(self, stat: raw.Stat) -> Item:
        owner = self.ids.get(stat.ephemeral_owner, stat.ephemeral_owner)
        zxids = self._zxid(stat.czxid), self._zxid(stat.mzxid), self._zxid(stat.pzxid)
        versions = stat.version, stat.cversion, stat.aversion
        return (
            "stat",
            *zxids,
            _when(stat.ctime),
            _when(stat.mtime),
            *versions,
            owner,
            stat.data_length,
            stat.num_children,
        )

    def _unordered_closes(self, items: list[Item]) -> list[Item]:
        """DataTree.killSession walks a HashSet, so the events of one closeSession come in no promised order."""
        result: list[Item] = []
        for zxid, group in itertools.groupby(items, key=lambda item: item[1] if item[0] == "event" else None):
            together = list(group)
            result += sorted(together, key=str) if zxid in self.closes else together
        return result


def _when(time_ms: int) -> object:
    return "now" if abs(time_ms - time.time() * 1000) < CLOCK_SLACK_MS else time_ms


def _ends_connection(step: Step, items: Sequence[Item]) -> bool:
    if not items or items[-1][0] != "reply":
        return False
    # UnimplementedRequestProcessor answers -6 and closes the connection, ZooKeeperServer.processPacket does after a
    # failed auth.
    refused = items[-1][2] == -6 if step.kind in ("raw", "check") else items[-1][2] != 0
    return step.kind == "close" or (step.kind in ("raw", "check", "auth") and refused)


def _subtree(control: raw.Session, root: str) -> list[str]:
    found = [root]
    for path in found:
        error, names = control.call(raw.GET_CHILDREN, raw.path_watch(path))
        if error == 0 and isinstance(names, list):
            found += [f"{path}/{name}" for name in names]
    return found


class Lockstep:
    """Two servers that are to behave alike. `left` is the judge's measure, Java."""

    def __init__(self, left: Server, right: Server, name: str = "d") -> None:
        self.servers = (left, right)
        self.coverage: Counter[tuple[str, int]] = Counter()
        self._name = name
        self._runs = 0

    def run(self, steps: Sequence[Step]) -> Difference | None:
        """Play `steps` on both; None when they behaved alike."""
        self._runs += 1
        prefix = f"/{self._name}{self._runs:06d}"
        try:
            return self._run(prefix, steps)
        except OSError as error:
            logs = "\n".join(
                f"{server.address} is running: {server.is_running}\n{server.log()[-2000:]}" for server in self.servers
            )
            raise ServerDied(f"{error} in\n{show(steps)}\n{logs}") from error

    def _run(self, prefix: str, steps: Sequence[Step]) -> Difference | None:
        sides = [Side(server, prefix) for server in self.servers]
        difference = self._play(sides, steps)
        for who in range(SESSIONS):
            left, right = (side.finish(who) for side in sides)
            if difference is None and left != right:
                difference = Difference(who, (Step(who, "ping"), Step(who, "close")), tuple(left), tuple(right))
        if difference is not None:
            for side in sides:
                side.clean()
        return difference

    def shrink(self, steps: Sequence[Step], difference: Difference) -> tuple[list[Step], Difference]:
        """Leave out steps as long as the servers still differ (delta debugging with halving chunks)."""
        best, found = list(steps), difference
        size = len(best) // 2
        runs = 0
        while size >= 1 and runs < SHRINK_RUNS:
            start = 0
            while start < len(best) and runs < SHRINK_RUNS:
                fewer = best[:start] + best[start + size :]
                runs += 1
                again = self.run(fewer)
                if again is None:
                    start += size
                else:
                    best, found = fewer, again
            size //= 2
        return best, found

    def _play(self, sides: Sequence[Side], steps: Sequence[Step]) -> Difference | None:
        for turn in turns(steps):
            who = turn[0].who
            items: list[list[Item]] = [side.begin(who) for side in sides]
            for side in sides:
                side.send(side.slots[who], turn)
            for side, made in zip(sides, items, strict=True):
                made += side.receive(who, turn)
            self._cover(turn, items[0])
            left, right = items
            if left != right:
                return Difference(who, tuple(turn), tuple(left), tuple(right))
        return None

    def _cover(self, turn: Sequence[Step], items: Sequence[Item]) -> None:
        kinds = {op: kind for kind, op in OPCODES.items()}
        for item in items:
            if item[0] == "event":
                self.coverage["event", int(str(item[2]))] += 1
            elif item[0] == "reply":
                op = int(str(item[1]))
                name = kinds.get(op, f"op {op}")
                self.coverage[name, int(str(item[2]))] += 1
                if op in (raw.MULTI, raw.MULTI_READ) and isinstance(item[5], tuple):
                    for part in item[5][:-1]:
                        self.coverage[f"{name} part", part[2] if part[0] == raw.ERROR else 0] += 1
            else:
                self.coverage[str(item[0]), 0] += 1


def turns(steps: Sequence[Step]) -> list[list[Step]]:
    """Cut a sequence into runs of one session that may be pipelined."""
    # Quota is checked against the committed statistics, not the outstanding ones (ZooKeeperServer.checkQuota), so
    # what a pipelined write meets depends on the speed of Java's threads: with a quota every step waits for its
    # answer.
    has_quota = any("zookeeper_limits" in repr(step.args) for step in steps)
    cut: list[list[Step]] = []
    for step in steps:
        joins = cut and cut[-1][0].who == step.who and step.kind not in SOLO and cut[-1][-1].kind not in SOLO
        if joins and not has_quota:
            cut[-1].append(step)
        else:
            cut.append([step])
    return cut


@dataclass(frozen=True, slots=True)
class Finding:
    """A sequence on which the servers differ."""

    seed: int
    steps: tuple[Step, ...]
    difference: Difference
    count: int

    def __str__(self) -> str:
        return f"seed {self.seed} ({self.count} like it), shortest sequence\n[\n{show(self.steps)}]\n{self.difference}"


def hunt(pair: Lockstep, seeds: Iterable[int], max_kinds: int) -> list[Finding]:
    """Play the sequences of `seeds` and shrink the first of each kind of difference; stops at `max_kinds` kinds."""
    shrunk_kind: dict[tuple[object, ...], tuple[object, ...]] = {}
    first: dict[tuple[object, ...], tuple[int, list[Step], Difference]] = {}
    counts: Counter[tuple[object, ...]] = Counter()
    for seed in seeds:
        steps = [step for step in generate(seed) if not any(known.involved(step) for known in INTENDED)]
        difference = pair.run(steps)
        if difference is None:
            continue
        seen = difference.signature()
        if seen not in shrunk_kind:
            # What looks different at first often shrinks to the same.
            steps, difference = pair.shrink(steps, difference)
            shrunk_kind[seen] = difference.signature()
            first.setdefault(shrunk_kind[seen], (seed, steps, difference))
        counts[shrunk_kind[seen]] += 1
        if len(first) == max_kinds:
            break
    return [Finding(seed, tuple(steps), shrunk, counts[kind]) for kind, (seed, steps, shrunk) in first.items()]
