"""Core: what all views of one client share, and the way a request takes: sent, waited for, repeated where that is safe.

Knows which failures may be repeated. Must not know verbs: those are client.py's.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

from coati.client.dns import SCHEME, DnsSrv
from coati.client.hosts import Host, HostList, HostProvider, parse_connect_string, parse_host
from coati.client.pump import Pump
from coati.client.retry import Retry
from coati.client.session import FOREVER_MS, Call, Session, SessionConfig
from coati.client.tls import TLS
from coati.client.types import USE_SESSION, Auth, SessionToken, Timeout, UseSession
from coati.errors import (
    NO_NODE,
    NODE_EXISTS,
    NOT_EMPTY,
    SESSION_MOVED,
    THROTTLED_OP,
    ConnectionLoss,
    OperationTimeout,
    ZKError,
    keeper_error,
)

OnExpired = Literal["renew", "raise"]

_HINTS: Final = {
    (NO_NODE, "create"): "its parent is missing; parents=True makes it",
    (NODE_EXISTS, "create"): "`put` sets it if it is there, `ensure` leaves it",
    (NOT_EMPTY, "delete"): "it has children; `delete_tree` takes them with it",
}


@dataclass(frozen=True, slots=True)
class Until:
    """In place of a timeout: one deadline for all requests that the call `verb` of `path` is made of."""

    deadline_ms: int
    verb: str
    path: str


@dataclass(slots=True)
class Options:
    """What a view may set for itself."""

    timeout: Timeout | Until = USE_SESSION
    retry: Retry = Retry.DEFAULT
    joins: bool = False


class Core:
    """One session and its pump."""

    def __init__(
        self,
        hosts: str | Sequence[str] | HostProvider,
        *,
        config: SessionConfig,
        auth: Sequence[Auth],
        tls: TLS | ssl.SSLContext | None,
        resume: SessionToken | None,
        entropy: Random | None,
    ) -> None:
        self.dice = entropy or Random()
        found, self.chroot, provider = _hosts_of(hosts)
        self.machine = Session(config, HostList(found, self.dice), self.dice)
        if resume is not None:
            self.machine.resume(resume.id, resume.password, int(resume.timeout * 1000), resume.last_zxid)
        for one in auth:
            self.machine.authenticate(one.scheme, one.credentials, 0)
        self.pump = Pump(self.machine, tls=tls.context() if isinstance(tls, TLS) else tls, provider=provider)

    def deadline_ms(self, timeout: Timeout | Until) -> int:
        """When a call that begins now has to be over. Raises OperationTimeout if that was before."""
        now_ms = int(self.pump.loop().time() * 1000)
        if timeout is None:
            return FOREVER_MS
        if isinstance(timeout, UseSession):
            return now_ms + self.machine.timeout_ms
        if isinstance(timeout, Until):
            if now_ms >= timeout.deadline_ms:
                # Sent now, a write would be one whose fate nobody knows.
                raise self.explained(OperationTimeout("not done in time"), timeout.verb, timeout.path)
            return timeout.deadline_ms
        return now_ms + int(timeout * 1000)

    def set_hosts(self, hosts: str | Sequence[str]) -> None:
        """The servers are these now. Moves if that keeps the load of the servers even."""
        found = parse_connect_string(hosts)[0] if isinstance(hosts, str) else [parse_host(host) for host in hosts]
        if self.machine.hosts.update(found, self.machine.host):
            self.machine.move(self.pump.now_ms())
            self.pump.flush()

    async def ask(self, call: Call, options: Options, *, verb: str, path: str, repeats: bool) -> Call:
        """The answered call, or raises what went wrong, with what the client knows of it.

        `repeats`: doing it twice is the same as doing it once. A NoNode that sets a watch is an answer.
        """
        failures = 0
        unclear = False
        while True:
            await self.pump.ask(call, joins=options.joins)
            failure = call.failure
            if failure is None:
                if call.err == 0 or (call.err == NO_NODE and call.missing_kind >= 0):
                    return call
                failure = keeper_error(call.err, path)
                again = call.err == THROTTLED_OP or (call.err == SESSION_MOVED and repeats)
            else:
                again = isinstance(failure, ConnectionLoss) and (repeats or not failure.maybe_applied)
                unclear = unclear or failure.maybe_applied
            failures += 1
            if not again or failures >= options.retry.attempts or self.pump.is_over:
                failure.maybe_applied = unclear
                raise self.explained(failure, verb, path)
            if call.failure is None:
                pause_s = options.retry.pause_s(failures, self.dice.random)
                if self.pump.now_ms() + pause_s * 1000 >= call.deadline_ms:
                    raise self.explained(failure, verb, path)
                await asyncio.sleep(pause_s)
            call = call.again()

    def explained(self, failure: ZKError, verb: str, path: str) -> ZKError:
        """The failure with its circumstances."""
        machine = self.machine
        failure.op = verb
        failure.path = failure.path or path
        failure.server = str(machine.host or "")
        failure.session_id = machine.session_id
        code = getattr(failure, "code", 0)
        failure.hint = failure.hint or _HINTS.get((code, verb), "")
        return failure


def _hosts_of(hosts: str | Sequence[str] | HostProvider) -> tuple[list[Host], str, HostProvider | None]:
    if isinstance(hosts, str) and hosts.startswith(SCHEME):
        name, slash, chroot = hosts.removeprefix(SCHEME).partition("/")
        found, _, provider = _hosts_of(DnsSrv(name))
        return found, slash + chroot if chroot else "", provider
    if isinstance(hosts, str):
        found, chroot = parse_connect_string(hosts)
        return found, chroot, None
    provider = None if isinstance(hosts, Sequence) else hosts
    names = hosts if isinstance(hosts, Sequence) else hosts.hosts()
    found = [parse_host(name) for name in names]
    if not found:
        raise ValueError("a client needs at least one host")
    return found, "", provider
