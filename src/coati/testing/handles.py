"""What tests hold in their hands, wherever their servers run: an ensemble, its faults, and verbs that are under way.

Knows no server and no loop. Verbs begin at once and return a Done: `await e.kill(1)` in a coroutine, anywhere else
`e.kill(1).result()`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol, TypeVar

from coati.client.client import BaseClient
from coati.errors import ConnectionLoss, NoNode
from coati.testing.ensemble import HasSession, Member, Token

T_co = TypeVar("T_co", covariant=True)
# How often a root is emptied anew because a connection was lost meanwhile.
ATTEMPTS: Final = 10
# A test may have made a large tree.
EMPTY_S: Final = 60.0


class Done(Protocol[T_co]):
    """A verb that is under way: `await` it, or ask for its `result()`."""

    def __await__(self) -> Generator[object, None, T_co]: ...

    def result(self, timeout: float | None = None) -> T_co:
        """Waits for it, blocking, so many seconds. Raises what the verb raises, and TimeoutError."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a test asks for: how many members, and keys of zoo.cfg. Equal shapes share an ensemble."""

    members: int = 3
    observers: int = 0
    config: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, members: int, observers: int, config: Mapping[str, object]) -> Shape:
        return cls(members, observers, tuple(sorted((name, str(value)) for name, value in config.items())))


class AnyEnsemble(Protocol):
    """The verbs and attributes of `coati.testing.ensemble.Ensemble`, which says what they do; each verb gives a Done.

    Those that are done to one member give its number.
    """

    @property
    def hosts(self) -> str: ...

    def hosts_of(self, sid: int) -> str: ...

    @property
    def seed(self) -> int: ...

    @property
    def sids(self) -> list[int]: ...

    @property
    def leader(self) -> int: ...

    @property
    def followers(self) -> list[int]: ...

    @property
    def members(self) -> dict[int, Member]: ...

    def role(self, sid: int) -> str: ...

    def dump(self) -> str: ...

    @property
    def is_whole(self) -> bool: ...

    def kill(self, sid: int) -> Done[int]: ...

    def stop(self, sid: int) -> Done[int]: ...

    def start(self, sid: int) -> Done[None]: ...

    def restart(self, sid: int) -> Done[int]: ...

    def pause(self, sid: int) -> Done[int]: ...

    def resume(self, sid: int) -> Done[None]: ...

    def partition(self, *groups: Iterable[int]) -> Done[None]: ...

    def isolate(self, sid: int) -> Done[None]: ...

    def cut(self, sender: int, receiver: int) -> Done[None]: ...

    def heal(self) -> Done[None]: ...

    def expire(self, who: HasSession | Token | tuple[int, bytes]) -> Done[bool]: ...

    def drop_connections(self, sid: int | None = None) -> Done[int]: ...

    def repair(self) -> Done[None]: ...

    def settled(self) -> Done[None]: ...

    def wait_leader(self, *, but: int | None = None) -> Done[int]: ...


class Bed(AnyEnsemble, Protocol):
    """What fixtures need besides."""

    def entropy(self) -> Random | None:
        """Dice for a client, where they are part of the run."""

    def make_root(self, path: str) -> Done[None]:
        """A znode for one test."""

    def empty_root(self, path: str) -> Done[list[str]]:
        """Deletes it with all below; what a test should not have left behind, in words."""

    def watched_below(self, path: str) -> list[str]:
        """Paths there that a session still watches; nothing where a backend cannot tell."""


async def emptied(keeper: BaseClient, path: str) -> list[str]:
    """`Bed.empty_root` by a client. Connections may be lost in it: a test's faults have only just been repaired."""
    found: dict[str, None] = {}
    for _ in range(ATTEMPTS):
        try:
            await _empty(keeper, path, found)
        except ConnectionLoss:
            continue
        return list(found)
    raise ConnectionLoss(f"{path} could not be emptied")


async def _empty(keeper: BaseClient, path: str, found: dict[str, None]) -> None:
    try:
        await keeper.sync(path)
        async for node in keeper.walk(path):
            if node.stat.ephemeral_owner:
                owner = f"session {node.stat.ephemeral_owner:#x}"
                found[f"ephemeral {node.path} of {owner}, which is still open"] = None
    except NoNode:
        return
    await keeper.with_options(timeout=EMPTY_S).delete_tree(path)


class Faults:
    """What can go wrong with a test's ensemble, a line each; all is repaired when the test is over.

    Verbs return a Done, as those of the ensemble do. Where a member is not named it is the leader, and the verb
    gives its number: `old = await zk_faults.kill()`. `dice` are the test's own, made from the seed of the run.
    """

    def __init__(self, ensemble: AnyEnsemble, dice: Random) -> None:
        self.ensemble = ensemble
        self.dice = dice

    @property
    def leader(self) -> int:
        """Who leads now. Raises EnsembleError while nobody does."""
        return self.ensemble.leader

    @property
    def followers(self) -> list[int]:
        return self.ensemble.followers

    def kill(self, sid: int | None = None) -> Done[int]:
        """As SIGKILL."""
        return self.ensemble.kill(self._at(sid))

    def stop(self, sid: int | None = None) -> Done[int]:
        """As SIGTERM."""
        return self.ensemble.stop(self._at(sid))

    def start(self, sid: int) -> Done[None]:
        """One that was killed or stopped, until it serves."""
        return self.ensemble.start(sid)

    def restart(self, sid: int | None = None) -> Done[int]:
        """Stops it and starts it again."""
        return self.ensemble.restart(self._at(sid))

    def pause(self, sid: int | None = None) -> Done[int]:
        """As SIGSTOP."""
        return self.ensemble.pause(self._at(sid))

    def resume(self, sid: int) -> Done[None]:
        """As SIGCONT."""
        return self.ensemble.resume(sid)

    def partition(self, *groups: Iterable[int]) -> Done[None]:
        """Servers hear those of their own group only. Without groups the leader is alone."""
        return self.ensemble.partition(*groups) if groups else self.ensemble.isolate(self.leader)

    def cut(self, sender: int, receiver: int) -> Done[None]:
        """One way only."""
        return self.ensemble.cut(sender, receiver)

    def heal(self) -> Done[None]:
        """All servers hear each other again."""
        return self.ensemble.heal()

    def expire(self, who: HasSession | Token | tuple[int, bytes]) -> Done[bool]:
        """Ends a client's session at the server."""
        return self.ensemble.expire(who)

    def drop_connections(self, sid: int | None = None) -> Done[int]:
        """Ends the connections of the clients of one or all members, whose sessions live on."""
        return self.ensemble.drop_connections(sid)

    def repair(self) -> Done[None]:
        """Undoes all of it, and waits until everybody serves."""
        return self.ensemble.repair()

    def wait_leader(self, *, but: int | None = None) -> Done[int]:
        """Until somebody leads who is not `but`."""
        return self.ensemble.wait_leader(but=but)

    def _at(self, sid: int | None) -> int:
        return self.leader if sid is None else sid
