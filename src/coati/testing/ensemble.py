"""An ensemble for tests: `async with Ensemble(3) as e` starts one in a fraction of a second, and breaks it on demand.

Knows who is up, paused and cut off, and whom a fault may be asked of. How servers run is a backend's affair:
`memory` (in this process, on real sockets), `process` (`coati serve`), `java` (Apache ZooKeeper) or `external`.
Invariants: when the block is left every server is gone, with its directory and ports; a fault that a backend does not
have is refused with the name of one that has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Final, Literal, Protocol, Self, TypeAlias

from coati.errors import ZKError
from coati.testing.backends import LEADING, PAUSED, SERVING, STOPPED, Backend, EnsembleError, FaultRefused, Plan
from coati.testing.children import ExternalBackend, ProcessBackend, java_backend
from coati.testing.memory import MemoryBackend
from coati.testing.probe import Seen, end_session

__all__ = ["BACKENDS", "BackendName", "Ensemble", "EnsembleError", "FaultRefused", "Member"]

BackendName: TypeAlias = Literal["memory", "process", "java", "external"]
BACKENDS: Final[tuple[BackendName, ...]] = ("memory", "process", "java", "external")
# How long servers may take to serve. The first start of a JVM on a loaded machine is the slowest.
READY_S: Final = 60.0
SEED_BITS: Final = 32
DUMPED_ZNODES: Final = 100
DUMPED_LINES: Final = 40


class Token(Protocol):
    """What identifies a session: `coati.SessionToken` is one."""

    @property
    def id(self) -> int: ...

    @property
    def password(self) -> bytes: ...


class _Session(Protocol):
    @property
    def token(self) -> Token: ...


class HasSession(Protocol):
    """A client: `coati.Client` is one."""

    @property
    def session(self) -> _Session: ...


@dataclass(frozen=True, slots=True)
class Member:
    """One look at a server of the ensemble. `role`: one that serves (`leader`, `follower`, `observer`, `standalone`),
    or `looking`, `read-only`, `paused`, `stopped`."""

    sid: int
    hosts: str
    role: str
    is_observer: bool


class Ensemble:
    """So many voters, numbered from 1, and observers behind them. One voter alone is a standalone server.

    `config`: keys of zoo.cfg over those for tests (`coati.testing.backends.DEFAULTS`): short ticks, and no fsync.
    `hosts`: the running ensemble of the backend `external`. `seed`: of `dice`, for tests that choose by chance.
    `classpath`: the jars of the backend `java`. Raises EnsembleError where a backend is not to be had.
    """

    def __init__(
        self,
        members: int = 3,
        observers: int = 0,
        *,
        backend: BackendName = "memory",
        hosts: str | None = None,
        config: Mapping[str, object] | None = None,
        seed: int | None = None,
        classpath: str | None = None,
    ) -> None:
        if members < 1 or observers < 0:
            raise ValueError("an ensemble has one member at least")
        if backend not in BACKENDS:
            raise ValueError(f"the backend {backend!r} is none of {', '.join(BACKENDS)}")
        if (backend == "external") != (hosts is not None):
            raise ValueError("hosts are given for the backend external, and only there")
        self.seed = Random().getrandbits(SEED_BITS) if seed is None else seed
        self.dice = Random(self.seed)
        self._shape = (members, observers, dict(config or {}))
        self._backend_name: BackendName = backend
        self._external_hosts = hosts
        self._classpath = classpath
        self._made: Backend | None = None
        self._running: dict[int, None] = {}
        self._paused: dict[int, None] = {}
        # A partition, or single ways that are cut.
        self._groups: list[list[int]] = []
        self._cuts: dict[tuple[int, int], None] = {}

    def __repr__(self) -> str:
        members, observers, _ = self._shape
        return f"Ensemble({members}, {observers}, backend={self._backend_name!r}, seed={self.seed})"

    async def __aenter__(self) -> Self:
        backend = self._made = self._make()
        try:
            # All at once: none of them serves before others are there.
            await asyncio.gather(*(self._launch(sid) for sid in backend.plans))
            await self.settled()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        self._running.clear()
        self._paused.clear()
        if self._made is not None:
            await self._made.close()

    def _make(self) -> Backend:
        members, observers, config = self._shape
        if self._external_hosts is not None:
            return ExternalBackend(self._external_hosts)
        if self._backend_name == "memory":
            return MemoryBackend(members, observers, config)
        if self._backend_name == "java":
            return java_backend(members, observers, config, self._classpath)
        return ProcessBackend(members, observers, config)

    # What there is.

    @property
    def backend(self) -> Backend:
        """What runs the servers."""
        assert self._made is not None, "the ensemble is not started"
        return self._made

    @property
    def hosts(self) -> str:
        """Where clients connect: all members, running or not."""
        return ",".join(plan.hosts for plan in self.backend.plans.values())

    def hosts_of(self, sid: int) -> str:
        """Where clients connect to reach this one."""
        return self._plan(sid).hosts

    @property
    def sids(self) -> list[int]:
        """The members' numbers."""
        return list(self.backend.plans)

    @property
    def voters(self) -> list[int]:
        """Those that are no observers."""
        return [plan.sid for plan in self.backend.plans.values() if not plan.is_observer]

    @property
    def members(self) -> dict[int, Member]:
        """All of them as they are now, by number."""
        return {
            plan.sid: Member(plan.sid, plan.hosts, self.role(plan.sid), plan.is_observer)
            for plan in self.backend.plans.values()
        }

    @property
    def leader(self) -> int:
        """Who leads now; of two, as a partition may leave behind for a while, the one with more around it.

        Raises EnsembleError while nobody does: see `wait_leader`.
        """
        found = self._leaders()
        if not found:
            raise EnsembleError(f"nobody leads: {self._roles()}")
        return found[0]

    @property
    def followers(self) -> list[int]:
        """Voters that serve and do not lead."""
        return [sid for sid in self.voters if self.role(sid) == "follower"]

    def role(self, sid: int) -> str:
        """As in `Member`."""
        self._plan(sid)
        if sid in self._paused:
            return PAUSED
        return self.backend.role(sid) if sid in self._running else STOPPED

    @property
    def is_whole(self) -> bool:
        """Whether there is nothing for `repair` to do."""
        is_cut = bool(self._groups or self._cuts)
        return not is_cut and not self._paused and len(self._running) == len(self.backend.plans)

    # Faults, and what mends them.

    async def kill(self, sid: int) -> None:
        """As SIGKILL: what was not answered may be lost, what was written to its files stays there."""
        await self._end(sid, is_clean=False)

    async def stop(self, sid: int) -> None:
        """As SIGTERM."""
        self.resume_now(sid)
        await self._end(sid, is_clean=True)

    async def start(self, sid: int, *, timeout: float = READY_S) -> None:
        """Starts one that was killed or stopped, on its old data; returns as `settled` does.

        Without a quorum there is nobody to wait for. Raises EnsembleError when it does not serve in time.
        """
        self._plan(sid)
        if sid in self._running:
            raise EnsembleError(f"member {sid} runs already")
        await self._launch(sid)
        await self.settled(timeout=timeout)

    async def restart(self, sid: int, *, timeout: float = READY_S) -> None:
        """Stops it in order, and starts it again."""
        await self.stop(sid)
        await self.start(sid, timeout=timeout)

    async def pause(self, sid: int) -> None:
        """As SIGSTOP: its connections stand, and nothing is answered."""
        self._must_run(sid)
        self.backend.pause(sid)
        self._paused[sid] = None

    async def resume(self, sid: int) -> None:
        """As SIGCONT."""
        self.resume_now(sid)

    def resume_now(self, sid: int) -> None:
        """The same without a wait; nothing for one that is not paused."""
        self._plan(sid)
        if sid in self._paused:
            del self._paused[sid]
            self.backend.resume(sid)

    async def partition(self, *groups: Iterable[int]) -> None:
        """Servers hear those of their own group only. Who is in no group is alone. Clients reach all of them.

        It takes the place of what was cut before.
        """
        listed = [sorted(group) for group in groups]
        named = [sid for group in listed for sid in group]
        for sid in named:
            self._plan(sid)
        if len(set(named)) < len(named):
            raise ValueError("the groups of a partition have nobody in common")
        listed += [[sid] for sid in self.sids if sid not in named]
        self.backend.set_cuts(
            [(one, other) for group in listed for one in group for other in self.sids if other not in group]
        )
        self._groups = listed
        self._cuts = {}

    async def isolate(self, sid: int) -> None:
        """A partition with one server on its own and the others together."""
        await self.partition({sid}, [other for other in self.sids if other != sid])

    async def cut(self, sender: int, receiver: int) -> None:
        """Nothing gets from one to the other any more; the way back is open. A partition ends with it."""
        self._plan(sender)
        self._plan(receiver)
        cuts = {**self._cuts, (sender, receiver): None}
        self.backend.set_cuts(list(cuts))
        self._cuts = cuts
        self._groups = []

    async def heal(self) -> None:
        """All hear each other again."""
        self._groups = []
        self._cuts = {}
        self.backend.set_cuts([])

    async def drop_connections(self, sid: int | None = None) -> int:
        """Ends the connections of the clients of one or all members without a word; how many there were."""
        running = [one for one in self._running if sid in (None, one)]
        return sum(self.backend.drop_clients(one) for one in running)

    async def expire(self, who: HasSession | Token | tuple[int, bytes]) -> bool:
        """Ends a session at the server, so that its client finds it expired; False if it was no more.

        `who` is a client, its token, or the session's id and password. A second connection takes the session over and
        closes it, as test tools for ZooKeeper do. Raises EnsembleError where nobody serves.
        """
        session_id, password = credentials(who)
        address = self._reachable()
        return await asyncio.to_thread(end_session, address, session_id, password)

    async def repair(self, *, timeout: float = READY_S) -> None:
        """Undoes all faults: heals, resumes, starts who is stopped, and waits until all serve."""
        await self.heal()
        for sid in list(self._paused):
            await self.resume(sid)
        for sid in self.sids:
            if sid not in self._running:
                await self._launch(sid)
        await self.settled(timeout=timeout)

    # Waiting.

    async def settled(self, *, timeout: float = READY_S) -> None:
        """Returns once all members that run, and are not paused, serve: those with a quorum around them, and one leads.

        Raises EnsembleError when they do not in time.
        """
        waited = [sid for sid in self._running if sid not in self._paused and self._has_quorum(sid)]
        await self._until(lambda: self._is_settled(waited), "all members serve", timeout)

    def _is_settled(self, waited: list[int]) -> bool:
        roles = [self.role(sid) for sid in waited]
        # A leader that was paused does not know for a moment that there is another one.
        leaders = sum(role in LEADING for role in roles)
        return all(role in SERVING for role in roles) and (leaders == 1 or not waited)

    async def wait_leader(self, *, but: int | None = None, timeout: float = READY_S) -> int:
        """Who leads, once somebody does who is not `but`. Raises EnsembleError when nobody does in time."""
        await self._until(lambda: any(sid != but for sid in self._leaders()), "a leader", timeout)
        return next(sid for sid in self._leaders() if sid != but)

    async def _until(self, holds: Callable[[], bool], what: str, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                while not holds():  # noqa: ASYNC110  # servers in other processes set no event
                    await asyncio.sleep(self.backend.look_s)
        except TimeoutError:
            raise EnsembleError(f"not within {timeout:g} s: {what}\n{self.dump()}") from None

    # For the report of a failure.

    def dump(self) -> str:
        """The state of each member, the tree of one that serves, and the last lines of the log."""
        if self._made is None:
            return f"{self!r}: not started"
        lines = [f"{self!r} hosts={self.hosts}"]
        for member in self.members.values():
            observer = " (observer)" if member.is_observer else ""
            lines.append(f"  member {member.sid}{observer} {member.hosts} {member.role}")
        if self._groups:
            lines.append(f"  partition: {' | '.join(str(group) for group in self._groups)}")
        lines += [f"  cut: {sender} -> {receiver}" for sender, receiver in self._cuts]
        lines += self._dump_tree()
        seen: list[str] = []
        for sid in self.sids:
            tail = self._made.log(sid)[-DUMPED_LINES:]
            # Members in one process share their log.
            if tail and tail != seen:
                lines.append(f"log of member {sid}:" if self._backend_name != "memory" else "log:")
                lines += [f"  {line}" for line in tail]
            seen = tail
        return "\n".join(lines)

    def _dump_tree(self) -> list[str]:
        sid = next((sid for sid in self._running if self.role(sid) in SERVING), None)
        if sid is None:
            return ["  nobody serves, so there is no tree to show"]
        try:
            found = self.backend.tree(sid, DUMPED_ZNODES + 1)
        except ZKError as error:
            return [f"  the tree of member {sid} cannot be read: {error}"]
        return dump_of_tree(sid, found)

    # Helpers.

    def _plan(self, sid: int) -> Plan:
        plan = self.backend.plans.get(sid)
        if plan is None:
            raise ValueError(f"no member {sid}: there are {', '.join(map(str, self.sids))}")
        return plan

    def _must_run(self, sid: int) -> None:
        self._plan(sid)
        if sid not in self._running:
            raise EnsembleError(f"member {sid} does not run")

    async def _launch(self, sid: int) -> None:
        await self.backend.launch(sid)
        self._running[sid] = None

    async def _end(self, sid: int, *, is_clean: bool) -> None:
        self._must_run(sid)
        await self.backend.end(sid, is_clean=is_clean)
        del self._running[sid]
        self._paused.pop(sid, None)

    def _leaders(self) -> list[int]:
        found = [sid for sid in self._running if self.role(sid) in LEADING]
        # A leader that is cut off does not know it for a while.
        return sorted(found, key=lambda sid: not self._has_quorum(sid))

    def _roles(self) -> str:
        return ", ".join(f"{sid} {self.role(sid)}" for sid in self.sids)

    def _has_quorum(self, sid: int) -> bool:
        """Whether it has a majority of all voters around it that run."""
        around: Sequence[int] = next((group for group in self._groups if sid in group), self.sids)
        able = [one for one in self.voters if one in around and one in self._running and one not in self._paused]
        return len(able) * 2 > len(self.voters)

    def _reachable(self) -> tuple[str, int]:
        for sid in sorted(self._running, key=lambda sid: not self._has_quorum(sid)):
            if self.role(sid) in SERVING:
                plan = self._plan(sid)
                return plan.host, plan.port
        raise EnsembleError(f"nobody serves: {self._roles()}")


def credentials(who: HasSession | Token | tuple[int, bytes]) -> tuple[int, bytes]:
    """The id and the password of a session."""
    if isinstance(who, tuple):
        return who[0], who[1]
    if hasattr(who, "session"):
        token = who.session.token
        return token.id, token.password
    return who.id, who.password


def dump_of_tree(sid: int, found: Sequence[Seen]) -> list[str]:
    """Lines of a dump, of DUMPED_ZNODES znodes at most."""
    lines = [f"tree of member {sid}:"]
    for seen in found[:DUMPED_ZNODES]:
        owner = f" owner={seen.owner:#x}" if seen.owner else ""
        lines.append(f"  {seen.path} bytes={seen.data_bytes} version={seen.version}{owner}")
    if len(found) > DUMPED_ZNODES:
        lines.append("  and more")
    return lines
