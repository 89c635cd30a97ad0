"""DnsSrv: the servers as a DNS name lists them in SRV records: the connect string `dns-srv://name/chroot`.

Knows when to ask again. Must not know connections. The package dnspython is needed only by whoever uses it.
Priorities and weights are not looked at, as all servers of an ensemble are as good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from coati.client.hosts import Host

SCHEME: Final = "dns-srv://"
# Not more often than upstream (hostProvider.dnsSrvRefreshIntervalSeconds).
REFRESH_S: Final = 60.0

Resolve = Callable[[str], Awaitable[Sequence[Host]]]
"""Asks for the SRV records of a name. Raises OSError where there is no answer."""


class DnsSrv:
    """A HostProvider: asks DNS before the first connection, and before later ones if the last answer is a minute old.

    An answer without servers, or none at all, leaves those that are known. Raises ImportError without dnspython, unless
    another `resolve` is given.
    """

    def __init__(self, name: str, *, resolve: Resolve | None = None, refresh: float = REFRESH_S) -> None:
        """`refresh`: seconds."""
        if not name:
            raise ValueError(f"no name in {SCHEME!r}; it reads {SCHEME}name/chroot")
        self.name = name
        self._resolve = resolve or _dnspython()
        self._refresh_s = refresh
        self._hosts: list[str] = []
        self._asked_at: float | None = None

    def hosts(self) -> Sequence[str]:
        """What the last answer said; before it, the name itself, which nobody dials."""
        return self._hosts or [self.name]

    async def refresh(self) -> None:
        """Asks if it is time. Raises OSError if there is no answer and none was there before."""
        now = asyncio.get_running_loop().time()
        if self._hosts and self._asked_at is not None and now < self._asked_at + self._refresh_s:
            return
        self._asked_at = now
        try:
            found = sorted(str(host) for host in await self._resolve(self.name))
        except OSError:
            if not self._hosts:
                raise
            return
        if found:
            self._hosts = found
        elif not self._hosts:
            raise OSError(f"{self.name} has no SRV records")


def _dnspython() -> Resolve:
    try:
        import dns.asyncresolver
    except ModuleNotFoundError as error:
        raise ImportError(f"{SCHEME} needs the package dnspython (pip install 'coati[dns]')", name="dns") from error
    ask = dns.asyncresolver.resolve
    failures = (dns.exception.DNSException,)

    async def resolve(name: str) -> list[Host]:
        try:
            answer = await ask(name, "SRV")
        except failures as error:
            raise OSError(f"no SRV records of {name}: {error}") from error
        return [Host(str(record.target).rstrip("."), int(record.port)) for record in answer]

    return resolve
