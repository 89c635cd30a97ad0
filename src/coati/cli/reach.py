"""Which servers a command asks by words: those of the connect string, and the other members of their ensemble.

Knows the flags of `online` and the room `admin`. A word that a server does not allow ends a command with the line of
zoo.cfg that would allow it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from coati.admin.ask import ask, why
from coati.admin.ensemble import distinct, parse_members, unnamed
from coati.admin.words import WordError, WordRefused
from coati.cli.exits import NO_CONNECTION, REFUSED, USAGE, CommandError
from coati.cli.online import OnlineCall
from coati.client.hosts import Host, parse_connect_string
from coati.errors import ZKError

T = TypeVar("T")

# How long a session for /zookeeper/config may take, when all but the members is known already.
CONFIG_TIMEOUT_S: Final = 3.0


@dataclass(slots=True)
class Reach:
    """The servers that the connect string names, its chroot, and how to talk to them."""

    hosts: list[Host]
    chroot: str
    tls: ssl.SSLContext | None
    timeout_s: float

    def absolute(self, path: str) -> str:
        """As the server calls it."""
        return f"{self.chroot}{path}" if path != "/" else self.chroot or "/"

    def shown(self, path: str) -> str | None:
        """As it is seen below the chroot; None for what is not there."""
        if not self.chroot or path == self.chroot:
            return path if not self.chroot else "/"
        return path.removeprefix(self.chroot) if path.startswith(f"{self.chroot}/") else None


def reach_of(call: OnlineCall) -> Reach:
    """From the flags. Raises CommandError."""
    target = call.target()
    try:
        hosts, chroot = parse_connect_string(target.hosts)
    except ValueError as error:
        raise CommandError(str(error), USAGE) from None
    return Reach(hosts, chroot.rstrip("/"), target.tls.context() if target.tls else None, target.timeout)


async def members_of(call: OnlineCall, reach: Reach, *, is_ensemble: bool = True) -> list[Host]:
    """The servers named, and those that /zookeeper/config adds, if it can be read. What is not found is noted."""
    hosts = await distinct(reach.hosts)
    if not is_ensemble:
        return hosts
    try:
        async with asyncio.timeout(min(CONFIG_TIMEOUT_S, reach.timeout_s)), call.connect() as zk:
            config = await zk.config()
    except (ZKError, OSError) as error:
        call.note(f"/zookeeper/config cannot be read ({why(error)}), so only the servers named are asked")
        return hosts
    new, lost = unnamed(parse_members(config.servers), hosts)
    # Names for one address are many: whoever stands in for a member by number is as good.
    spare = max(0, len(hosts) - (len(config.servers) - len(new) - len(lost)))
    for member in lost[spare:]:
        call.note(f"server.{member.sid} at {member.host} is not asked: its clients' port is not known; name it with -s")
    return await distinct([*hosts, *new])


async def from_all(
    hosts: Sequence[Host], word: str, parse: Callable[[str], T], reach: Reach
) -> tuple[list[tuple[Host, T]], list[tuple[Host, Exception]]]:
    """What each server answers to a word, and why others do not."""

    async def one(host: Host) -> T | Exception:
        try:
            return parse(await ask(host, word, timeout_s=reach.timeout_s, tls=reach.tls))
        except (WordError, OSError) as error:
            return error

    answers = await asyncio.gather(*(one(host) for host in hosts))
    good = [(host, said) for host, said in zip(hosts, answers, strict=True) if not isinstance(said, Exception)]
    bad = [(host, said) for host, said in zip(hosts, answers, strict=True) if isinstance(said, Exception)]
    return good, bad


def must_answer(call: OnlineCall, good: Sequence[object], bad: Sequence[tuple[Host, Exception]]) -> None:
    """Notes who did not answer. Raises CommandError if nobody did."""
    if not good and bad:
        refused = [error for _, error in bad if isinstance(error, WordRefused)]
        host, first = bad[0]
        code = REFUSED if refused else NO_CONNECTION
        raise CommandError(f"{host}: {why(refused[0] if refused else first)}", code)
    for host, error in bad:
        call.note(f"{host}: {why(error)}")


def session_text(session_id: int) -> str:
    """As Java writes it."""
    return f"0x{session_id & 0xFFFFFFFFFFFFFFFF:x}"
