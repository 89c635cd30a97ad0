"""Storms over a real ensemble: servers killed, frozen and cut off from each other, under load.

`coati serve` processes, three voters and an observer if nobody says otherwise, take pipelined writes of several
sessions, which go from server to server as they lose them. In each round a fault is drawn and then undone, and all must
serve again. In the end the logs of all servers, joined, must be one history: what was sent and answered is compared
with it as `storm_process.py` does it for a lone server, and what a client reads of each server with what must be there.
The network is `namespaces.Namespaces` where it can be, and `ensemble.Wires` elsewhere.

Command line: `python -m tools.storm_cluster --rounds 40` prints what it covered and adds a line to docs/ledger.md;
`--kills 40` adds so many rounds with a kill, of the leader and of a follower in turns.
"""

from __future__ import annotations

import argparse
import datetime
import os
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice, permutations, product
from pathlib import Path
from random import Random
from typing import Final

from tests.interop import peers, raw
from tools import namespaces
from tools.ensemble import Ensemble, EnsembleFailed, Network, Wires
from tools.namespaces import Namespaces
from tools.storm_history import History, Logged, read_log
from tools.storm_load import SHORT_TIMEOUT_MS, Client, foundations, observe
from tools.storm_process import LEDGER, scratch_directory
from tools.tree_model import Write

CLIENTS: Final = 4
BALLAST: Final = 500
# A client gives a server up that says nothing for so long.
PATIENCE_S: Final = 0.4
EPOCH_SHIFT: Final = 32
EXPIRY_S: Final = 20.0
# Longer than syncLimit ticks, so that the others have another leader meanwhile; and shorter.
LONG_S: Final = 3.0
SHORT_S: Final = 1.0
FAULTS: Final = (
    "kill leader", "kill follower", "kill two", "kill all", "stop leader", "stop follower", "roll", "freeze leader",
    "freeze follower", "part leader", "part follower", "mute leader", "deafen leader", "mute follower",
    "deafen follower", "part two", "halves", "one-way", "ring", "bridge",
)  # fmt: skip
# These need no network that can be cut.
UNCUT: Final = FAULTS[:9]
KILLS: Final = ("kill leader", "kill follower")
SESSION_MOVED: Final = -118
NO_LIMIT: Final = 1 << 63


class Failed(AssertionError):
    """What the storm found, with the seed."""


class ClusterHistory(History):
    """The same judge, for the joined logs of several servers."""

    def __init__(self) -> None:
        super().__init__()
        self.directories: list[Path] = []
        # Nothing above it is taken yet; it may still be given up.
        self.limit = NO_LIMIT
        # The last that each session sent before it went on elsewhere; what it sent and what was logged behind it.
        self._moved: dict[int, int] = {}
        self._skipped: dict[tuple[int, int], None] = {}

    def moved(self, session_id: int) -> None:
        """Its client has it back on another connection: what it sent before may be refused from now on."""
        sent = self._sent.get(session_id)
        if sent:
            self._moved[session_id] = sent[-1][0]

    def is_next(self, zxid: int) -> bool:
        """Within an epoch without a gap, and each begins with 1."""
        last = self.tree.zxid
        begins = zxid & 0xFFFFFFFF == 1 and zxid >> EPOCH_SHIFT > last >> EPOCH_SHIFT
        return begins or (zxid == last + 1 and last != 0)

    def logged(self, directory: Path) -> Iterator[Logged]:
        """All that any server has; `directory` is one of many."""
        joined: dict[int, Logged] = {}
        for one in self.directories:
            entries = list(read_log(one, self.tree.zxid))
            replaced = replaced_zxid(one, entries)
            for entry in entries:
                entry = entry._replace(file="", end=0)
                if not replaced < entry.zxid <= self.limit:
                    continue
                if joined.setdefault(entry.zxid, entry) != entry:
                    self.fault(f"two servers disagree: {entry} in {one}, {joined[entry.zxid]} elsewhere")
        return iter([joined[zxid] for zxid in sorted(joined)])

    def sent_of(self, entry: Logged) -> deque[tuple[int, Write]] | None:
        """What went into a connection that was lost may be lost; what was sent behind it on another may not."""
        sent = super().sent_of(entry)
        if sent is not None and entry.xid and any(xid == entry.xid for xid, _ in sent):
            while sent[0][0] != entry.xid:
                self._skipped[entry.session_id, sent.popleft()[0]] = None
                self.counts["never logged"] += 1
        return sent

    def _take(self, entry: Logged) -> None:
        """A request that comes late, by a server the session has left, is logged as an error that changes nothing.

        As in Java (PrepRequestProcessor, SessionTrackerImpl.checkSession). Nobody is told.
        """
        if entry.number != SESSION_MOVED:
            super()._take(entry)
            return
        key = (entry.session_id, entry.xid)
        if not self.is_next(entry.zxid):
            self.fault(f"zxid {entry.zxid:#x} follows {self.tree.zxid:#x}")
        self.tree.zxid = entry.zxid
        self.counts["txns"] += 1
        self.counts["refused behind a move"] += 1
        if entry.xid > self._moved.get(entry.session_id, 0):
            self.fault(f"zxid {entry.zxid:#x}: {key} is refused as of a session that has moved, and it has not")
        if key in self._skipped:
            del self._skipped[key]
            return
        sent = self._sent.get(entry.session_id, deque())
        found = [one for one in sent if one[0] == entry.xid]
        if not found:
            self.fault(f"zxid {entry.zxid:#x}, session {entry.session_id:#x}: nobody sent {entry.xid}, or twice logged")
            return
        sent.remove(found[0])


def replaced_zxid(directory: Path, entries: Sequence[Logged]) -> int:
    """Up to where a leader's snapshot has replaced some of `entries`: its own log below is history nobody shares.

    Java leaves it there as well: recovery begins with the snapshot.
    """
    snapshots = [int(path.name.partition(".")[2], 16) for path in directory.glob("snapshot.*") if path.suffix != ".tmp"]
    own = {entry.zxid: None for entry in entries}
    return max((zxid for zxid in snapshots if zxid not in own), default=0)


def cut(shape: str, sids: Sequence[int], dice: Random) -> list[tuple[int, int]]:
    """Who is no longer heard by whom.

    Halves hear nothing of each other, or one hears the other and is not heard; with a bridge one server is of both; in
    a ring each hears its neighbours.
    """
    sids = dice.sample(sids, len(sids))
    if shape == "ring":
        place = {sid: number for number, sid in enumerate(sids)}
        pairs = permutations(sids, 2)
        return [(a, b) for a, b in pairs if (place[a] - place[b]) % len(sids) not in (1, len(sids) - 1)]
    half = len(sids) // 2
    there = list(product(sids[:half], sids[half + (shape == "bridge") :]))
    return there if shape == "one-way" else there + [(b, a) for a, b in there]


class ClusterStorm:
    """One ensemble, the clients that write to it, and its history."""

    def __init__(self, seed: int, scratch: Path, ensemble: Ensemble, wires: Network | None = None) -> None:
        self.seed = seed
        self.dice = Random(seed)
        self.ensemble = ensemble
        self.wires = wires
        self.history = ClusterHistory()
        self.history.directories = [scratch / str(sid) / "version-2" for sid in ensemble.members]
        self.clients = [Client(self.history, f"c{number}", self.dice) for number in range(CLIENTS)]
        for client in self.clients:
            client.deadline_s = PATIENCE_S
        self._visitors = 0
        self._epochs: dict[int, None] = {}

    @property
    def counts(self) -> Counter[str]:
        """What was covered."""
        return self.history.counts

    def check(self, what: str) -> None:
        """Raises Failed if anything was not right."""
        if self.history.faults:
            raise Failed(f"seed {self.seed}, {what}:\n" + "\n".join(self.history.faults))

    # Clients.

    def begin(self) -> None:
        """The first writes."""
        first = self.clients[0]
        first.deadline_s = 30.0
        self.ensemble.wait(lambda: first.connect(*self._server()) or None, "a first client")
        for write in foundations([client.name for client in self.clients], BALLAST, self.dice):
            first.send(write)
        first.read()
        first.drop()
        first.deadline_s = PATIENCE_S

    def load(self, until: Callable[[], bool]) -> None:
        """Writes until `until` says so, wherever a client gets in."""
        while not until():
            for client in self.clients:
                self._work(client)
            if self.dice.random() < 0.02:
                self._visit()

    def load_for(self, seconds: float) -> None:
        """Writes so long."""
        ends = time.monotonic() + seconds
        self.load(lambda: time.monotonic() > ends)

    def _work(self, client: Client) -> None:
        try:
            if not client.is_connected:
                if not client.connect(*self._server()):
                    return
                self.history.moved(client.session_id)
            client.burst(self.dice.randint(1, 20))
            client.read(self.dice.choice((0, 5, 20)))
            if self.dice.random() < 0.02:
                client.read()
                client.drop()
        except (raw.Closed, raw.Silent):
            self.counts["connections lost"] += 1
            client.drop()

    def _visit(self) -> None:
        """A session that writes and is left alone: it must expire, and nobody else."""
        self._visitors += 1
        visitor = Client(self.history, f"v{self._visitors}", self.dice, SHORT_TIMEOUT_MS)
        visitor.deadline_s = PATIENCE_S
        try:
            if visitor.connect(*self._server()):
                self.history.abandoned(visitor.session_id)
                path = b"/w/%s-x" % visitor.name.encode()
                visitor.send(Write("create", path, b"here", owner="ephemeral"))
                visitor.read()
        except (raw.Closed, raw.Silent):
            self.counts["connections lost"] += 1
        visitor.drop()

    def _server(self) -> tuple[str, int]:
        sid = self.dice.choice(list(self.ensemble.members))
        return self.ensemble.hosts[sid], self.ensemble.ports[sid][0]

    # Faults.

    def round(self, fault: str | None = None) -> None:
        """Load, a fault, load, its end, and all serve again. Raises Failed."""
        fault = fault or self.dice.choice(FAULTS if self.wires is not None else UNCUT)
        self.load_for(self.dice.uniform(0.1, 1.0))
        leader = self.ensemble.leader
        followers = [sid for sid in self.ensemble.voters if sid != leader]
        verb, _, whom = fault.partition(" ")
        one = leader if whom == "leader" else self.dice.choice(followers)
        if verb in ("kill", "stop"):
            which = {"all": list(self.ensemble.members), "two": [leader, one]}.get(whom, [one])
            self._end(which, is_killed=verb == "kill")
        elif verb == "roll":
            self._roll()
        elif verb == "freeze":
            self._freeze(one)
        elif verb in ("mute", "deafen", "part"):
            self._cut(self._cut_off(verb, one, followers[0] if whom == "two" else None))
        else:
            self._cut(cut(verb, list(self.ensemble.members), self.dice))
        try:
            self.settle()
        except EnsembleFailed as error:
            self.history.fault(f"they do not serve again: {error}")
        self.counts["rounds"] += 1
        self.counts[fault] += 1
        self.check(fault)

    def settle(self) -> None:
        """All serve, and what all have delivered is history. Raises EnsembleFailed.

        Later it cannot be read any more: a server that gets a snapshot of the leader has a log which proves nothing for
        what came before, and in time each gets one.
        """
        self.ensemble.wait_all()
        for client in self.clients:
            try:
                if client.is_connected:
                    client.read()
            except (raw.Closed, raw.Silent):
                client.drop()
        self.history.limit = self.ensemble.wait(self._common_zxid, "all at one zxid")
        self.history.consume(self.history.directories[0], is_over=False)
        self.history.limit = NO_LIMIT

    def _common_zxid(self) -> int | None:
        zxids = {sid: self.ensemble.zxid(sid) for sid in self.ensemble.members}
        first = next(iter(zxids.values()))
        return first if all(zxid == first for zxid in zxids.values()) else None

    def _length_s(self) -> float:
        return self.dice.choice((SHORT_S, LONG_S)) * self.dice.uniform(0.2, 1.0)

    def _end(self, sids: list[int], *, is_killed: bool) -> None:
        for sid in sids:
            member = self.ensemble.members[sid]
            if is_killed:
                os.kill(member.pid, signal.SIGKILL)
            else:
                member.stop()
        for sid in sids:
            # Waits, since it is dead.
            self.ensemble.members[sid].kill9()
        if len(sids) < len(self.ensemble.members):
            self.load_for(self._length_s())
        for sid in sids:
            self.ensemble.launch(sid)
        self.load_for(0.3)

    def _roll(self) -> None:
        """One after the other, as operators do."""
        for sid in self.ensemble.members:
            self.ensemble.members[sid].stop()
            self.load_for(0.2)
            self.ensemble.launch(sid)
            self.settle()

    def _freeze(self, sid: int) -> None:
        pid = self.ensemble.members[sid].pid
        os.kill(pid, signal.SIGSTOP)
        try:
            self.load_for(self._length_s())
        finally:
            os.kill(pid, signal.SIGCONT)
        self.load_for(0.5)

    def _cut_off(self, verb: str, one: int, other: int | None) -> list[tuple[int, int]]:
        """Mute: nobody hears it; deaf: it hears nobody; parted: both, from all or from one."""
        others = [sid for sid in self.ensemble.members if sid != one] if other is None else [other]
        if other == one:
            others = [self.ensemble.leader]
        out = [(one, sid) for sid in others]
        back = [(sid, one) for sid in others]
        return {"mute": out, "deafen": back, "part": out + back}[verb]

    def _cut(self, ways: list[tuple[int, int]]) -> None:
        assert self.wires is not None, "only wires can be cut"
        self.wires.block(*ways)
        self.load_for(self._length_s())
        if isinstance(self.wires, Wires):
            self.wires.heal(cuts=self.dice.random() < 0.5)
        else:
            self.wires.heal()
        self.load_for(0.5)

    # The end.

    def finish(self) -> None:
        """All serve, and their logs, the answers and what they show are one history. Raises Failed."""
        self.settle()
        self._close_sessions()
        self.history.consume(self.history.directories[0], is_over=False)
        self._wait_expired()
        for sid in self.ensemble.members:
            self._observe(sid)
        self.counts["epochs"] = self.history.tree.zxid >> EPOCH_SHIFT
        self.check("the end")

    def _close_sessions(self) -> None:
        """Each session of a client that never left must still be there. What follows takes longer than its timeout."""
        for client in self.clients:
            client.drop()
            client.deadline_s = 30.0
            had = client.session_id
            if not had:
                continue
            try:
                if client.connect(*self._server()):
                    self.history.moved(had)
                    client.close()
                    continue
            except (raw.Closed, raw.Silent):
                client.drop()
            self.history.fault(f"session {had:#x} is not taken back")

    def _wait_expired(self) -> None:
        """The sessions that were left alone."""
        never = threading.Event()
        ends = time.monotonic() + EXPIRY_S
        while self.history.waiting_to_expire(SHORT_TIMEOUT_MS):
            if time.monotonic() > ends:
                self.history.fault(f"do not expire: {self.history.waiting_to_expire(SHORT_TIMEOUT_MS)}")
                return
            never.wait(0.1)
            self.history.consume(self.history.directories[0], is_over=False)

    def _observe(self, sid: int) -> None:
        """What one server shows, up to date."""
        host, port = self.ensemble.hosts[sid], self.ensemble.ports[sid][0]
        with raw.Session(host, port, deadline_s=30.0) as session:
            self.history.opening += 1
            self.history.opened(session.session_id)
            self.history.abandoned(session.session_id)
            session.call(raw.SYNC, raw.ustring("/"))
        observe(self.history, host, port, self.history.directories[0])
        member = self.ensemble.members[sid]
        if peers.monitor(member).get("digest_mismatches_count", "0") != "0":
            self.history.fault(f"server {sid} counts digests that did not fit")
        if "Traceback" in member.log():
            self.history.fault(f"server {sid} has raised: {member.log()[member.log().index('Traceback') :][:3000]}")


def storm(seed: int, options: argparse.Namespace) -> Counter[str]:
    """One ensemble and its rounds. Raises Failed."""
    network = Wires() if options.network == "proxies" else Namespaces()
    with (
        scratch_directory() as scratch,
        network,
        Ensemble(scratch, wires=network, voters=options.voters, observers=options.observers) as ensemble,
    ):
        one = ClusterStorm(seed, scratch, ensemble, network)
        one.begin()
        for number, fault in enumerate([*[None] * options.rounds, *islice(cycle(KILLS), options.kills)], 1):
            one.round(fault)
            print(f"seed {seed}, round {number}: {dict(one.counts)}", file=sys.stderr, flush=True)
        one.finish()
        return one.counts


def summary(c: Counter[str]) -> str:
    """All of it in words."""
    faults = ", ".join(f"{fault} {c[fault]}" for fault in FAULTS if c[fault])
    return (
        f"{c['ensembles']} ensembles, {c['rounds']} faults ({faults}), {c['epochs']} epochs; {c['writes']} writes, "
        f"{c['acknowledged']} acknowledged, {c['txns']} txns, {c['connections lost']} connections lost, "
        f"{c['refused behind a move']} writes refused since their session had moved, "
        f"{c['resumed']} sessions resumed, {c['expired']} expired; {c['trees compared']} trees compared"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the storm and notes it down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--ensembles", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20, help="drawn faults of each ensemble")
    parser.add_argument("--kills", type=int, default=0, help="and behind them kill -9, of leader and follower in turns")
    parser.add_argument("--voters", type=int, default=3)
    parser.add_argument("--observers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--network", choices=("namespaces", "proxies"), help="the first that can be had here")
    parser.add_argument("--ledger", type=Path, default=LEDGER)
    options = parser.parse_args(argv)
    if options.network is None:
        reason = namespaces.why_missing()
        options.network = "namespaces" if reason is None else "proxies"
        print(f"network: {options.network}{f', since {reason}' if reason else ''}", file=sys.stderr)
    started = time.monotonic()
    total: Counter[str] = Counter()
    for number in range(options.ensembles):
        total += storm(options.seed + number, options)
        total["ensembles"] += 1
    amount = f"{(time.monotonic() - started) / 60:.0f} min: {summary(total)}"
    print(amount)
    names = ("seed", "ensembles", "rounds", "kills", "voters", "observers", "network")
    words = " ".join(f"--{name} {getattr(options, name)}" for name in names)
    command = f"`python -m tools.storm_cluster {words}`"
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    with options.ledger.open("a") as ledger:
        ledger.write(f"| {date} | cluster storm | {command} | {amount} | nothing |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
