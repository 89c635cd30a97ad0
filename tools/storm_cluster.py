"""Storms over a real ensemble: servers killed, frozen and cut off from each other, under load.

Three `coati serve` processes and an observer take pipelined writes of several sessions, which go from server to server
as they lose them. In each round a fault is drawn and then undone, and all must serve again. In the end the logs of all
servers, joined, must be one history: what was sent and answered is compared with it as `storm_process.py` does it for a
lone server, and what a client reads of each server with what must be there. The network is `ensemble.Wires`.

Command line: `python -m tools.storm_cluster --rounds 40` prints what it covered and adds a line to docs/ledger.md.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Final

from tests.interop import peers, raw
from tests.interop.peers import HOST
from tools.ensemble import Ensemble, EnsembleFailed, Wires
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
    "deafen follower", "part two",
)  # fmt: skip


class Failed(AssertionError):
    """What the storm found, with the seed."""


class ClusterHistory(History):
    """The same judge, for the joined logs of several servers."""

    def __init__(self) -> None:
        super().__init__()
        self.directories: list[Path] = []

    def is_next(self, zxid: int) -> bool:
        """Within an epoch without a gap, and each begins with 1."""
        last = self.tree.zxid
        begins = zxid & 0xFFFFFFFF == 1 and zxid >> EPOCH_SHIFT > last >> EPOCH_SHIFT
        return begins or (zxid == last + 1 and last != 0)

    def logged(self, directory: Path) -> Iterator[Logged]:
        """All that any server has; `directory` is one of many."""
        joined: dict[int, Logged] = {}
        for one in self.directories:
            for entry in read_log(one, max(self.tree.zxid, replaced_zxid(one))):
                entry = entry._replace(file="", end=0)
                if joined.setdefault(entry.zxid, entry) != entry:
                    self.fault(f"two servers disagree: {entry} in {one}, {joined[entry.zxid]} elsewhere")
        return iter([joined[zxid] for zxid in sorted(joined)])

    def sent_of(self, entry: Logged) -> deque[tuple[int, Write]] | None:
        """What went into a connection that was lost may be lost; what was sent behind it on another may not."""
        sent = super().sent_of(entry)
        if sent is not None and entry.xid and any(xid == entry.xid for xid, _ in sent):
            while sent[0][0] != entry.xid:
                sent.popleft()
                self.counts["never logged"] += 1
        return sent


def replaced_zxid(directory: Path) -> int:
    """Up to where a leader's snapshot has replaced what a server had: its own log below is history nobody shares.

    Java leaves it there as well: recovery begins with the snapshot.
    """
    snapshots = [int(path.name.partition(".")[2], 16) for path in directory.glob("snapshot.*") if path.suffix != ".tmp"]
    own = {entry.zxid: None for entry in read_log(directory, 0)}
    return max((zxid for zxid in snapshots if zxid not in own), default=0)


class ClusterStorm:
    """One ensemble, the clients that write to it, and its history."""

    def __init__(self, seed: int, scratch: Path, ensemble: Ensemble, wires: Wires | None = None) -> None:
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
        self.ensemble.wait(lambda: first.connect(HOST, self._port()) or None, "a first client")
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
            if not client.is_connected and not client.connect(HOST, self._port()):
                return
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
            if visitor.connect(HOST, self._port()):
                self.history.abandoned(visitor.session_id)
                path = b"/w/%s-x" % visitor.name.encode()
                visitor.send(Write("create", path, b"here", owner="ephemeral"))
                visitor.read()
        except (raw.Closed, raw.Silent):
            self.counts["connections lost"] += 1
        visitor.drop()

    def _port(self) -> int:
        sid = self.dice.choice(list(self.ensemble.members))
        return self.ensemble.ports[sid][0]

    # Faults.

    def round(self, fault: str | None = None) -> None:
        """Load, a fault, load, its end, and all serve again. Raises Failed."""
        fault = fault or self.dice.choice(FAULTS if self.wires is not None else FAULTS[:9])
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
        else:
            self._cut_off(verb, one, followers[0] if whom == "two" else None)
        try:
            self.ensemble.wait_all()
        except EnsembleFailed as error:
            self.history.fault(f"they do not serve again: {error}")
        self.counts["rounds"] += 1
        self.counts[fault] += 1
        self.check(fault)

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
            self.ensemble.wait_all()

    def _freeze(self, sid: int) -> None:
        pid = self.ensemble.members[sid].pid
        os.kill(pid, signal.SIGSTOP)
        try:
            self.load_for(self._length_s())
        finally:
            os.kill(pid, signal.SIGCONT)
        self.load_for(0.5)

    def _cut_off(self, verb: str, one: int, other: int | None) -> None:
        """Mute: nobody hears it; deaf: it hears nobody; parted: both, from all or from one."""
        assert self.wires is not None, "only wires can be cut"
        others = [sid for sid in self.ensemble.members if sid != one] if other is None else [other]
        if other == one:
            others = [self.ensemble.leader]
        out = [(one, sid) for sid in others]
        back = [(sid, one) for sid in others]
        self.wires.block(*{"mute": out, "deafen": back, "part": out + back}[verb])
        self.load_for(self._length_s())
        self.wires.heal(cuts=self.dice.random() < 0.5)
        self.load_for(0.5)

    # The end.

    def finish(self) -> None:
        """All serve, and their logs, the answers and what they show are one history. Raises Failed."""
        self.ensemble.wait_all()
        for client in self.clients:
            client.deadline_s = 30.0
            if client.is_connected:
                with contextlib.suppress(raw.Closed):
                    client.read()
            client.drop()
        self._reconnect()
        self.history.consume(self.history.directories[0], is_over=False)
        self._wait_expired()
        for sid in self.ensemble.members:
            self._observe(sid)
        self.counts["epochs"] = self.history.tree.zxid >> EPOCH_SHIFT
        self.check("the end")

    def _reconnect(self) -> None:
        """Each session of a client that never left must still be there."""
        for client in self.clients:
            had = client.session_id
            if had and not client.connect(HOST, self._port()):
                self.history.fault(f"session {had:#x} is not taken back")
            client.drop()

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
        port = self.ensemble.ports[sid][0]
        with raw.Session(HOST, port, deadline_s=30.0) as session:
            self.history.opening += 1
            self.history.opened(session.session_id)
            self.history.abandoned(session.session_id)
            session.call(raw.SYNC, raw.ustring("/"))
        observe(self.history, HOST, port, self.history.directories[0])
        member = self.ensemble.members[sid]
        if peers.monitor(member).get("digest_mismatches_count", "0") != "0":
            self.history.fault(f"server {sid} counts digests that did not fit")
        if "Traceback" in member.log():
            self.history.fault(f"server {sid} has raised: {member.log()[member.log().index('Traceback') :][:3000]}")


def storm(seed: int, rounds: int, observers: int) -> Counter[str]:
    """One ensemble and its rounds. Raises Failed."""
    with (
        scratch_directory() as scratch,
        Wires() as wires,
        Ensemble(scratch, wires=wires, observers=observers) as ensemble,
    ):
        one = ClusterStorm(seed, scratch, ensemble, wires)
        one.begin()
        for number in range(1, rounds + 1):
            one.round()
            print(f"seed {seed}, round {number}: {dict(one.counts)}", file=sys.stderr, flush=True)
        one.finish()
        return one.counts


def summary(c: Counter[str]) -> str:
    """All of it in words."""
    faults = ", ".join(f"{fault} {c[fault]}" for fault in FAULTS)
    return (
        f"{c['ensembles']} ensembles, {c['rounds']} faults ({faults}), {c['epochs']} epochs; {c['writes']} writes, "
        f"{c['acknowledged']} acknowledged, {c['txns']} txns, {c['connections lost']} connections lost, "
        f"{c['resumed']} sessions resumed, {c['expired']} expired; {c['trees compared']} trees compared"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the storm and notes it down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--ensembles", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20, help="faults of each ensemble")
    parser.add_argument("--observers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ledger", type=Path, default=LEDGER)
    options = parser.parse_args(argv)
    started = time.monotonic()
    total: Counter[str] = Counter()
    for number in range(options.ensembles):
        total += storm(options.seed + number, options.rounds, options.observers)
        total["ensembles"] += 1
    amount = f"{(time.monotonic() - started) / 60:.0f} min: {summary(total)}"
    print(amount)
    command = f"python -m tools.storm_cluster --seed {options.seed} --ensembles {options.ensembles}"
    command = f"`{command} --rounds {options.rounds} --observers {options.observers}`"
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    with options.ledger.open("a") as ledger:
        ledger.write(f"| {date} | cluster storm | {command} | {amount} | nothing |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
