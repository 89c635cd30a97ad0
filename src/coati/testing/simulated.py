"""The ensemble of a test in a simulated world: virtual time, one seed one execution, and the verbs of all others.

Knows worlds, and how a test runs code on their loop. A world is one test's own. Where a simulated server cannot do what
a real one can, the verb says so: it ends only as by SIGKILL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Iterable
from random import Random
from typing import Final, Generic, TypeVar

from coati.client.client import BaseClient
from coati.server.hub import MODES
from coati.testing.backends import LOOKING, PAUSED, STOPPED, EnsembleError
from coati.testing.cluster import ClusterConfig
from coati.testing.ensemble import HasSession, Member, Token, credentials, dump_of_tree
from coati.testing.handles import Done, Shape, emptied
from coati.testing.memory import seen_in
from coati.testing.world import SimWorld

T = TypeVar("T")

# Virtual seconds, and far more than an election takes.
LIMIT_S: Final = 60.0
LOOK_S: Final = 0.01
# Keys of zoo.cfg that a simulated member has.
_KEYS: Final = (
    "tickTime",
    "initLimit",
    "syncLimit",
    "snapCount",
    "leaderServes",
    "minSessionTimeout",
    "commitLogCount",
)


def cluster_config(shape: Shape) -> ClusterConfig:
    """What the members of such an ensemble are. Raises ValueError for keys that there are not in a simulation."""
    keys = dict(shape.config)
    unknown = [name for name in keys if name not in _KEYS]
    if unknown:
        raise ValueError(f"the backend sim has no key {unknown[0]}: it has {', '.join(_KEYS)}")
    tick_ms = int(keys.get("tickTime", "200"))
    return ClusterConfig(
        shape.members,
        observers=shape.observers,
        tick_ms=tick_ms,
        init_ticks=int(keys.get("initLimit", "50")),
        sync_ticks=int(keys.get("syncLimit", "10")),
        snap_count=int(keys.get("snapCount", "100000")),
        commit_log_count=int(keys.get("commitLogCount", "500")),
        leader_serves=keys.get("leaderServes", "yes") == "yes",
        min_session_timeout_ms=int(keys.get("minSessionTimeout", str(2 * tick_ms))),
    )


class SimDone(Generic[T]):
    """A Done of the loop of a world."""

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Coroutine[object, object, T]) -> None:
        self._loop = loop
        self._task = loop.create_task(work)

    def __await__(self) -> Generator[object, None, T]:
        return self._task.__await__()

    def result(self, timeout: float | None = None) -> T:
        """Runs the loop until it is done; not from a coroutine on it, which awaits."""
        return self._loop.run_until_complete(asyncio.wait_for(self._task, timeout))


class SimTime:
    """Virtual time, for tests: nothing waits."""

    def __init__(self, world: SimWorld) -> None:
        self._world = world

    @property
    def now(self) -> float:
        """Seconds since some moment."""
        return self._world.loop.time()

    def advance(self, seconds: float) -> Done[None]:
        """Lets so much time pass, and all that happens in it."""
        return SimDone(self._world.loop, asyncio.sleep(seconds))


class SimEnsemble:
    """coati.testing.handles.Bed of a world."""

    def __init__(self, world: SimWorld) -> None:
        self.world = world
        self._groups: list[list[int]] = []
        self._is_cut = False

    def __repr__(self) -> str:
        return f"SimEnsemble({len(self.sids)} members, seed={self.seed}, at {self.world.loop.time():.3f} s)"

    @property
    def hosts(self) -> str:
        return self.world.hosts

    def hosts_of(self, sid: int) -> str:
        return self.world.hosts.split(",")[self.sids.index(sid)]

    @property
    def seed(self) -> int:
        """Of the world: that of the run and the test's name."""
        return self.world.seed

    @property
    def sids(self) -> list[int]:
        return list(self.world.cluster.members)

    @property
    def leader(self) -> int:
        leader = self.world.cluster.leader()
        if leader is None:
            raise EnsembleError(f"nobody leads: {self.world.cluster}")
        return leader.sid

    @property
    def followers(self) -> list[int]:
        return [member.sid for member in self.world.cluster.followers()]

    @property
    def members(self) -> dict[int, Member]:
        voters = self.world.cluster.config.voters
        return {sid: Member(sid, self.hosts_of(sid), self.role(sid), sid > voters) for sid in self.sids}

    def role(self, sid: int) -> str:
        member = self.world.member(sid)
        if not member.is_up:
            return STOPPED
        if member.is_paused:
            return PAUSED
        return MODES[member.state] if member.is_serving else LOOKING

    @property
    def is_whole(self) -> bool:
        roles = [self.role(sid) for sid in self.sids]
        return not self._is_cut and PAUSED not in roles and STOPPED not in roles

    def dump(self) -> str:
        lines = [repr(self)]
        lines += [f"  member {sid} {self.hosts_of(sid)} {self.role(sid)}" for sid in self.sids]
        if self._groups:
            lines.append(f"  partition: {' | '.join(str(group) for group in self._groups)}")
        leader = self.world.cluster.leader()
        if leader is not None:
            lines += dump_of_tree(leader.sid, seen_in(leader.tree, 101))
        return "\n".join(lines)

    # Verbs.

    def kill(self, sid: int) -> Done[int]:
        return self._done(sid, lambda: self.world.kill(sid))

    def stop(self, sid: int) -> Done[int]:
        """As SIGKILL: a simulated server has no other end."""
        return self.kill(sid)

    def start(self, sid: int) -> Done[None]:
        self.world.restart(sid)
        return self.settled()

    def restart(self, sid: int) -> Done[int]:
        async def restarted() -> int:
            self.world.kill(sid)
            self.world.restart(sid)
            await self.world.serving()
            return sid

        return self._run(restarted())

    def pause(self, sid: int) -> Done[int]:
        return self._done(sid, lambda: self.world.pause(sid))

    def resume(self, sid: int) -> Done[None]:
        return self._done(None, lambda: self.world.resume(sid))

    def partition(self, *groups: Iterable[int]) -> Done[None]:
        listed = [sorted(group) for group in groups]
        named = [sid for group in listed for sid in group]
        if len(set(named)) < len(named):
            raise ValueError("the groups of a partition have nobody in common")
        listed += [[sid] for sid in self.sids if sid not in named]
        self.world.heal()
        for group in listed:
            for one in group:
                for other in self.sids:
                    if other not in group:
                        self.world.cut(one, other, both=False)
        self._groups = listed
        self._is_cut = True
        return self._done(None, _nothing)

    def isolate(self, sid: int) -> Done[None]:
        return self.partition([sid], [other for other in self.sids if other != sid])

    def cut(self, sender: int, receiver: int) -> Done[None]:
        self._is_cut = True
        return self._done(None, lambda: self.world.cut(sender, receiver, both=False))

    def heal(self) -> Done[None]:
        self._groups = []
        self._is_cut = False
        return self._done(None, self.world.heal)

    def expire(self, who: HasSession | Token | tuple[int, bytes]) -> Done[bool]:
        session_id, _ = credentials(who)

        async def expired() -> bool:
            if session_id not in self.world.sessions():
                return False
            self.world.expire(session_id)
            await self._until(lambda: session_id not in self.world.sessions(), "the session ends")
            return True

        return self._run(expired())

    def drop_connections(self, sid: int | None = None) -> Done[int]:
        calls = [call for call in self.world.net.calls if sid in (None, call.sid)]
        for call in calls:
            call.break_off()
        return self._done(len(calls), _nothing)

    def repair(self) -> Done[None]:
        self._groups = []
        self._is_cut = False
        self.world.heal_all()
        return self.settled()

    def settled(self) -> Done[None]:
        return self._run(self.world.serving())

    def wait_leader(self, *, but: int | None = None) -> Done[int]:
        def found() -> bool:
            leader = self.world.cluster.leader()
            return leader is not None and leader.sid != but

        async def led() -> int:
            await self._until(found, "a leader")
            return self.leader

        return self._run(led())

    # For the fixtures.

    def entropy(self) -> Random | None:
        """Made from the seed."""
        return self.world.random()

    def make_root(self, path: str) -> Done[None]:
        async def made() -> None:
            async with self._keeper() as keeper:
                await keeper.ensure(path)

        return self._run(made())

    def empty_root(self, path: str) -> Done[list[str]]:
        async def empty() -> list[str]:
            async with self._keeper() as keeper:
                return await emptied(keeper, path)

        return self._run(empty())

    def watched_below(self, path: str) -> list[str]:
        """Whoever watches has a connection that the world finds open."""
        return []

    def _keeper(self) -> BaseClient:
        return BaseClient(self.hosts, name="keeper", entropy=self.world.random())

    async def _until(self, holds: Callable[[], bool], what: str) -> None:
        due = self.world.loop.time() + LIMIT_S
        while not holds():
            if self.world.loop.time() > due:
                raise EnsembleError(f"not within {LIMIT_S:g} virtual seconds: {what}\n{self.dump()}")
            await asyncio.sleep(LOOK_S)

    def _run(self, work: Coroutine[object, object, T]) -> SimDone[T]:
        return SimDone(self.world.loop, work)

    def _done(self, value: T, act: Callable[[], None]) -> SimDone[T]:
        """What has happened when this returns."""
        act()

        async def done() -> T:
            return value

        return self._run(done())


def _nothing() -> None:
    """It has happened already."""
