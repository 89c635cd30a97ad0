"""A world in one process: an ensemble, a network, faults, and ordinary asyncio code that is a client of it.

`run(main, seed)` makes a SimWorld and runs `main(world)` on its loop. A seed is one execution: ensemble, network,
faults and clients have dice of their own, all made from it, so that a client that rolls once more changes no server's
luck.
When `main` is over nothing of it may be left: tasks, transports, timers and errors that nobody looked at are a Leak.
What is not simulated: TLS, IPv6, clocks of clients that drift, the loss of a name server. What a client must not do:
look at another clock than `loop.time()`, or roll other dice than those it was given.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from random import Random
from typing import Final, TypeVar

from coati.server.replica import Replica
from coati.testing.clientnet import CLIENT_PORT, HOST, ClientNet
from coati.testing.cluster import ClusterConfig, SimCluster, SimMember
from coati.testing.gate import SOON
from coati.testing.loop import SimLoop, show_error, show_task
from coati.wire.quorum import LEADING

_T = TypeVar("_T")

# How long an ensemble may take to serve that nothing keeps from it, in virtual ms.
SERVE_MS: Final = 60_000
# Virtual seconds that a run may take, if nobody says.
LIMIT_S: Final = 3600.0
# Turns of the loop, at one moment, in which what is over may end.
LAST_TURNS: Final = 100
FAULTS: Final = {
    "kill": 4,
    "crash": 2,
    "restart": 8,
    "pause": 4,
    "resume": 5,
    "part servers": 3,
    "isolate leader": 3,
    "cut client": 4,
    "cut client one way": 3,
    "heal": 8,
    "reset": 5,
    "lose connection": 2,
    "expire": 3,
}


class Leak(AssertionError):
    """The run has left something behind, and the text says what."""


class SimWorld:
    """What `main` is given. Members are named by their sids, clients' hosts by any name; times are virtual seconds."""

    def __init__(
        self, seed: int, config: ClusterConfig, make_cluster: Callable[[ClusterConfig, Random], SimCluster]
    ) -> None:
        self.seed = seed
        source = Random(seed)
        self.cluster = make_cluster(config, Random(source.getrandbits(64)))
        self.net = ClientNet(self.cluster, Random(source.getrandbits(64)))
        self.clock = self.cluster.clock
        self.dice = Random(source.getrandbits(64))
        self.faults: Counter[str] = Counter()
        # Sessions that the fault mix, or a test, has ended before their time.
        self.expired: dict[int, None] = {}
        self._source = source
        self.net.delay_ms = self.dice.choice(((0, 1), (1, 1), (1, 10), (5, 40)))
        self.net.split_share = self.dice.choice((0.0, 0.2, 0.5))
        self.cluster.net.delay_ms = self.dice.choice(((1, 1), (1, 10), (5, 40)))
        self.cluster.net.split_share = self.dice.choice((0.0, 0.0, 0.2))
        self.loop = SimLoop(self.clock, self.net)

    def __repr__(self) -> str:
        return f"SimWorld(seed={self.seed}, {self.cluster!r})"

    # Looking.

    @property
    def hosts(self) -> str:
        """The connect string: every member with its port."""
        return ",".join(f"m{sid}:{CLIENT_PORT}" for sid in self.cluster.members)

    def random(self) -> Random:
        """New dice, made from the seed: for a client's constructor."""
        return Random(self._source.getrandbits(64))

    def trace_hash(self) -> str:
        """Of all bytes that have passed the client ports until now, and when, in hexadecimal."""
        return self.net.digest()

    def sessions(self) -> list[int]:
        """The ids of the sessions that the leader knows; none if nobody leads."""
        leader = self.cluster.leader()
        replica = None if leader is None else leader.driver.replica
        return [] if replica is None else sorted(replica.sessions.timeouts)

    def member(self, sid: int) -> SimMember:
        """One server. Raises KeyError."""
        return self.cluster.members[sid]

    def all_serve(self) -> bool:
        """Whether every member that is up serves, under one leader: none has still to hear that its own is over."""
        members = [member for member in self.cluster.members.values() if member.is_up]
        epochs = {member.store.current_epoch for member in members}
        leaders = [member for member in members if member.state == LEADING]
        return all(member.is_serving for member in members) and len(leaders) == len(epochs) == 1

    def is_settled(self) -> bool:
        """Whether they all have the same tree besides. It may be long in coming while clients write."""
        trees = {(m.tree.last_zxid, m.tree.digest) for m in self.cluster.members.values() if m.is_up}
        return self.all_serve() and len(trees) == 1

    async def serving(self, *, limit_ms: int = SERVE_MS) -> None:
        """Waits until `all_serve`. AssertionError if that takes too long."""
        await self._until(self.all_serve, limit_ms)

    async def settled(self, *, limit_ms: int = SERVE_MS) -> None:
        """Waits until `is_settled`. AssertionError if that takes too long."""
        await self._until(self.is_settled, limit_ms)

    async def _until(self, holds: Callable[[], bool], limit_ms: int) -> None:
        due_ms = self.clock.now_ms + limit_ms
        while not holds():
            assert self.clock.now_ms < due_ms, f"seed {self.seed}: not within {limit_ms} ms: {self.cluster}"
            await asyncio.sleep(0.01)

    # Clients' hosts.

    @contextmanager
    def on_host(self, name: str) -> Iterator[None]:
        """What dials in here, and in tasks made in here, dials from that host; elsewhere it is `client`."""
        token = HOST.set(name)
        try:
            yield
        finally:
            HOST.reset(token)

    # Servers.

    def kill(self, sid: int) -> None:
        """SIGKILL: its connections end or are reset, and dials are refused. Nothing if it does not run."""
        self.member(sid).kill()

    def crash(self, sid: int) -> None:
        """Its power fails: connections hang half open, dials are not answered. Nothing if it does not run."""
        member = self.member(sid)
        if member.is_up:
            self.net.darken(f"m{sid}")
            member.crash()

    def restart(self, sid: int) -> None:
        """Its process begins on the disk as it is, with power if it had none. Nothing if it runs."""
        member = self.member(sid)
        if not member.is_up:
            self.net.light(f"m{sid}")
            member.start()

    def pause(self, sid: int) -> None:
        """SIGSTOP: the kernel takes connections and bytes, nobody answers. Nothing if it does not run."""
        member = self.member(sid)
        if member.is_up and not member.is_paused:
            member.pause()

    def resume(self, sid: int) -> None:
        """SIGCONT. Nothing if it is not stopped."""
        member = self.member(sid)
        if member.is_up and member.is_paused:
            member.go_on()

    def expire(self, session_id: int) -> None:
        """The leader ends the session as if it had expired; nothing if it has none. AssertionError if nobody leads."""
        leader = self.cluster.leader()
        assert leader is not None, f"nobody leads: {self.cluster}"
        self.expired[session_id] = None
        replica = leader.driver.replica

        def end() -> None:
            # Unless the role is over meanwhile.
            if isinstance(replica, Replica) and leader.driver.replica is replica:
                session = replica.sessions.sessions.get(session_id)
                if session is not None and not session.is_closing:
                    replica.begin_turn(self.clock.monotonic_ms(), self.clock.wall_ms())
                    replica.close_session(session_id)
                    leader.driver.post_turn()

        leader.gate.enter(SOON, None, end)

    # The network.

    def cut(self, one: int | str, other: int | str, *, both: bool = True) -> None:
        """Nothing gets from the one to the other, and back: members' sids or clients' hosts. Bytes wait, dials fail."""
        self._cut(one, other)
        if both:
            self._cut(other, one)

    def _cut(self, source: int | str, target: int | str) -> None:
        if isinstance(source, int) and isinstance(target, int):
            self.cluster.net.cut(source, target)
        else:
            self.net.cut(_name_of(source), _name_of(target))

    def client_cut(self, *hosts: str, both: bool = True) -> None:
        """Cuts these clients' hosts, or all that there were, from every member: both ways, or only what they hear."""
        for host in hosts or tuple(dict.fromkeys((HOST.get(), *self.net.hosts))):
            for sid in self.cluster.members:
                self.cut(sid, host, both=both)

    def heal(self, one: int | str | None = None, other: int | str | None = None) -> None:
        """Both ways between two are free again; without arguments all are. What waited goes on."""
        if one is None or other is None:
            self.cluster.net.heal_all()
            self.net.heal_all()
        elif isinstance(one, int) and isinstance(other, int):
            self.cluster.net.heal(one, other)
            self.cluster.net.heal(other, one)
        else:
            self.net.heal(_name_of(one), _name_of(other))
            self.net.heal(_name_of(other), _name_of(one))

    def heal_all(self) -> None:
        """Everything: the network, stopped servers, dead servers. What a connection has lost stays lost."""
        self.net.dial_loss = 0.0
        self.heal()
        for sid in self.cluster.members:
            self.resume(sid)
            self.restart(sid)

    # Faults as they come.

    async def storm(self, seconds: float) -> None:
        """Faults drawn from the seed, for so long; then all is healed, and every member serves. `faults` counts them.

        It heals too when it is cancelled, but does not wait.
        """
        end_ms = self.clock.now_ms + int(seconds * 1000)
        self.net.dial_loss = self.dice.choice((0.0, 0.0, 0.2))
        try:
            while self.clock.now_ms < end_ms:
                (fault,) = self.dice.choices(list(FAULTS), list(FAULTS.values()))
                self.inflict(fault)
                pause_ms = self.dice.choice((50, 300, 1000, 3000))
                await asyncio.sleep(min(self.dice.randint(1, pause_ms), end_ms - self.clock.now_ms) / 1000)
        finally:
            self.heal_all()
        await self.serving()
        self.check_servers()

    def inflict(self, fault: str) -> None:
        """One of FAULTS, on whom the dice choose; nothing if there is nobody."""
        self.faults[fault] += 1
        if fault in ("kill", "crash", "restart", "pause", "resume"):
            self._inflict_on_process(fault)
        elif fault in ("part servers", "isolate leader"):
            self._part(is_leader=fault == "isolate leader")
        elif fault in ("cut client", "cut client one way"):
            self._cut_client(is_one_way=fault == "cut client one way")
        elif fault == "heal":
            self.heal()
        elif fault == "expire":
            sessions = self.sessions()
            if sessions:
                self.expire(self.dice.choice(sessions))
        elif self.net.calls:
            call = self.dice.choice(list(self.net.calls))
            if fault == "reset":
                call.break_off()
            else:
                call.back.is_lost = True
                call.forward.is_lost = self.dice.random() < 0.5

    def _inflict_on_process(self, fault: str) -> None:
        members = list(self.cluster.members.values())
        leader = self.cluster.leader()
        if fault == "restart":
            members = [member for member in members if not member.is_up]
        elif fault == "resume":
            members = [member for member in members if member.is_up and member.is_paused]
        elif leader is not None and self.dice.random() < 0.4:
            members = [leader]
        if members:
            sid = self.dice.choice(members).sid
            {
                "kill": self.kill,
                "crash": self.crash,
                "restart": self.restart,
                "pause": self.pause,
                "resume": self.resume,
            }[fault](sid)

    def _part(self, *, is_leader: bool) -> None:
        sids = list(self.cluster.members)
        leader = self.cluster.leader()
        alone = leader.sid if is_leader and leader is not None else self.dice.choice(sids)
        ways = self.dice.choice((3, 3, 2, 1))
        for sid in sids:
            if sid != alone and ways & 1:
                self.cut(sid, alone, both=False)
            if sid != alone and ways & 2:
                self.cut(alone, sid, both=False)

    def _cut_client(self, *, is_one_way: bool) -> None:
        if not self.net.hosts:
            return
        host = self.dice.choice(self.net.hosts)
        sids = list(self.cluster.members)
        turned = self.dice.random() < 0.5
        for sid in self.dice.sample(sids, self.dice.randint(1, len(sids))):
            if turned:
                self.cut(host, sid, both=not is_one_way)
            else:
                self.cut(sid, host, both=not is_one_way)

    def check_servers(self) -> None:
        """AssertionError if a server has ended by itself."""
        for member in self.cluster.members.values():
            assert not member.fatal, f"seed {self.seed}: server {member.sid} ended: {member.fatal!r}"


def _make_cluster(config: ClusterConfig, dice: Random) -> SimCluster:
    return SimCluster(config, dice=dice)


def run(
    main: Callable[[SimWorld], Coroutine[object, object, _T]],
    seed: int,
    *,
    voters: int = 3,
    observers: int = 0,
    config: ClusterConfig | None = None,
    make_cluster: Callable[[ClusterConfig, Random], SimCluster] = _make_cluster,
    limit_s: float = LIMIT_S,
) -> _T:
    """Runs `main(world)` once the ensemble serves, and gives what it returns. What it raises says the seed.

    Raises Deadlock if it comes to no end, Leak if it leaves something behind; AssertionError if a server has ended.
    `config` stands for `voters` and `observers`; `make_cluster` is given its dice too. `limit_s`: of virtual time, for
    `main`.
    """
    with opened(
        seed, voters=voters, observers=observers, config=config, make_cluster=make_cluster, limit_s=limit_s
    ) as world:
        return world.loop.run_until_complete(main(world))


@contextmanager
def opened(
    seed: int,
    *,
    voters: int = 3,
    observers: int = 0,
    config: ClusterConfig | None = None,
    make_cluster: Callable[[ClusterConfig, Random], SimCluster] = _make_cluster,
    limit_s: float = LIMIT_S,
) -> Iterator[SimWorld]:
    """A world as `run` makes it, for who runs several coroutines on `world.loop`, one after the other."""
    world = SimWorld(seed, config or ClusterConfig(voters, observers=observers), make_cluster)
    world.cluster.start()
    world.cluster.run_until(world.all_serve, SERVE_MS)
    world.loop.set_limit(limit_s)
    was_collecting = gc.isenabled()
    # When an object is collected is part of the run: by the loop, after so many turns, and of the run's own ones only.
    gc.disable()
    gc.freeze()
    try:
        with _judged(world):
            yield world
    except BaseException as error:
        error.add_note(f"seed {seed}, at {world.loop.time():.3f} s, {world.cluster}")
        for context in world.loop.errors:
            error.add_note(f"before: {show_error(context)}")
        raise
    finally:
        world.loop.close()
        gc.unfreeze()
        if was_collecting:
            gc.enable()


@contextmanager
def _judged(world: SimWorld) -> Iterator[None]:
    loop = world.loop
    try:
        yield
        _let_end(loop)
        complaints = leaks(loop)
    finally:
        _clear(loop)
    world.check_servers()
    if complaints:
        raise Leak("\n".join(complaints))


def leaks(loop: SimLoop) -> list[str]:
    """What is left on a loop that has nothing to do any more, in words."""
    gc.collect()
    found = [f"not done: {show_task(task)}" for task in loop.all_tasks()]
    found += [f"not closed: {transport!r}" for transport in loop.transports]
    found += [f"not cancelled: {timer!r}" for timer in loop.live_timers()]
    found += [show_error(context) for context in loop.errors]
    return found


def _let_end(loop: SimLoop) -> None:
    """What was called soon is called, and time stands still."""

    async def turns() -> None:
        for _ in range(LAST_TURNS):
            await asyncio.sleep(0)

    loop.run_until_complete(turns())


def _clear(loop: SimLoop) -> None:
    """Nothing of a run that failed comes to life when its objects die."""
    tasks = loop.all_tasks()
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=60))
    for transport in list(loop.transports):
        transport.abort()
    _let_end(loop)
    loop.run_until_complete(loop.shutdown_asyncgens())


def _name_of(host: int | str) -> str:
    return f"m{host}" if isinstance(host, int) else host
