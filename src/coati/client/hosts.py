"""HostList: which server to try next, and whether to move when the list of servers changes.

Pure: names are not resolved here (that is done at every dial, so a changed address is found), the dice come from the
caller. Rebalancing keeps the expected load of the servers even: ZOOKEEPER-1355, StaticHostProvider.updateServerList.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final, NamedTuple, Protocol, runtime_checkable

DEFAULT_PORT: Final = 2181


class Host(NamedTuple):
    """Where a server listens; `name` is a host name or an address."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


class HostProvider(Protocol):
    """Tells the servers whenever the client is about to go round them again: from a file, from DNS, from a cloud."""

    def hosts(self) -> Sequence[str]:
        """Each "name", "name:port" or "[v6 address]:port". Must not block."""
        ...


@runtime_checkable
class HostLookup(HostProvider, Protocol):
    """A HostProvider that has to ask somebody."""

    async def refresh(self) -> None:
        """Called before each dial: makes `hosts` tell what is true now. Raises OSError if nothing is known at all."""


def parse_connect_string(text: str) -> tuple[list[Host], str]:
    """`h1,h2:2182/chroot`: the hosts, and the chroot or "". Raises ValueError.

    The chroot begins at the first slash and belongs to all hosts (ConnectStringParser).
    """
    if "://" in text:
        raise ValueError(f"{text!r} is no list of servers; a connect string reads host:port,host:port/chroot")
    servers, slash, chroot = text.partition("/")
    hosts = [parse_host(part) for part in servers.split(",") if part.strip()]
    if not hosts:
        raise ValueError(f"no host in {text!r}; a connect string reads host:port,host:port/chroot")
    return hosts, slash + chroot if chroot else ""


def parse_host(text: str) -> Host:
    """`name`, `name:port`, `v6`, `[v6]:port`. Raises ValueError."""
    text = text.strip()
    if text.startswith("["):
        name, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is not [address]:port")
        port = rest[1:]
    elif text.count(":") > 1:
        name, port = text, ""
    else:
        name, _, port = text.partition(":")
    if not name or (port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536)):
        raise ValueError(f"{text!r} is not host:port with a port from 1 to 65535")
    return Host(name, int(port) if port else DEFAULT_PORT)


class HostList:
    """The servers in an order of their own, and which is next."""

    __slots__ = ("_dice", "_hosts", "_next", "_preferred")

    def __init__(self, hosts: Sequence[Host], dice: Random) -> None:
        """`hosts` must not be empty; each counts once."""
        self._dice = dice
        self._hosts = list(dict.fromkeys(hosts))
        dice.shuffle(self._hosts)
        self._next = 0
        # Tried before the order goes on: where a rebalanced client is to move.
        self._preferred: list[Host] = []

    def __len__(self) -> int:
        return len(self._hosts)

    def next(self) -> Host:
        """The one to try now."""
        if self._preferred:
            return self._preferred.pop()
        host = self._hosts[self._next]
        self._next = (self._next + 1) % len(self._hosts)
        return host

    def prefer(self, host: Host) -> None:
        """The next one to try is this."""
        self._preferred = [host]

    def after(self, host: Host) -> list[Host]:
        """All others, in the order in which they would be tried."""
        at = self._next
        return [other for other in self._hosts[at:] + self._hosts[:at] if other != host]

    def update(self, hosts: Sequence[Host], current: Host | None) -> bool:
        """The servers are these now; true if a client of `current` is to move, and `next` says where to."""
        old = list(self._hosts)
        new = list(dict.fromkeys(hosts))
        if set(old) == set(new):
            return False
        kept = [host for host in new if host in old]
        added = [host for host in new if host not in old]
        for group in (kept, added):
            self._dice.shuffle(group)
        self._hosts = kept + added
        self._dice.shuffle(self._hosts)
        self._next = 0
        self._preferred = []
        moves_to_old = self._share_of_old(old=len(old), kept=len(kept), added=len(added), stays=current in new)
        if current is None or moves_to_old is None:
            return False
        first, second = (kept, added) if self._dice.random() < moves_to_old else (added, kept)
        # Taken from the end.
        self._preferred = [*second, *first]
        return True

    def _share_of_old(self, *, old: int, kept: int, added: int, stays: bool) -> float | None:
        """With which probability a client moves to a server that was there before; None: it does not move."""
        new = kept + added
        if new > old:
            if stays and self._dice.random() > 1 - old / new:
                return None
            return 0.0
        if stays:
            return None
        if not added:
            return 1.0
        return kept * (old - new) / (new * (old - kept))
