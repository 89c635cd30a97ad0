"""A whole ensemble at once: who is in it, and what each member says of itself.

Knows words and how members name each other's addresses; must not know sessions or output.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from coati.admin.ask import ask, why
from coati.admin.words import (
    Configuration,
    Connection,
    NotServing,
    ServerInfo,
    WordError,
    WordRefused,
    parse_conf,
    parse_cons,
    parse_mntr,
    parse_srvr,
)
from coati.client.hosts import Host, parse_host

ANY_HOSTS: Final = ("0.0.0.0", "::", "[::]", "")


@dataclass(frozen=True, slots=True)
class MemberLine:
    """The right side of `server.N=`: where its peers and its clients find it. `client` is None if it does not say."""

    sid: int
    host: str
    quorum_port: int
    election_port: int
    is_observer: bool
    client: Host | None

    @property
    def identity(self) -> tuple[str, int, int, bool]:
        """What all members must agree on."""
        return self.host, self.quorum_port, self.election_port, self.is_observer


@dataclass(slots=True)
class Report:
    """What one server said; without `info`, `error` says why."""

    host: Host
    info: ServerInfo | None = None
    monitor: dict[str, str] = field(default_factory=dict)
    conf: Configuration | None = None
    connections: list[Connection] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    error: str = ""

    @property
    def is_serving(self) -> bool:
        return self.info is not None and self.info.is_serving

    def number(self, name: str) -> float | None:
        """A figure of `mntr`; None if it is not there."""
        try:
            return float(self.monitor[name])
        except (KeyError, ValueError):
            return None


def parse_member(sid: int, text: str) -> MemberLine:
    """`host:2888:3888:observer;host:2181`, of several addresses the first. Raises ValueError."""
    first, _, client = text.strip().partition(";")
    parts = _split(first.partition("|")[0])
    role = parts[3].lower() if len(parts) > 3 else "participant"
    if len(parts) not in (3, 4) or role not in ("participant", "observer"):
        raise ValueError(f"server.{sid}={text} is not host:port:port")
    host, quorum, election = parts[0], int(parts[1]), int(parts[2])
    return MemberLine(sid, host, quorum, election, role == "observer", _client_host(client.strip(), host))


def _split(text: str) -> list[str]:
    """At colons, but for those within brackets."""
    if not text.startswith("["):
        return text.split(":")
    host, _, rest = text[1:].partition("]")
    return [host, *rest.removeprefix(":").split(":")]


def _client_host(text: str, host: str) -> Host | None:
    if not text:
        return None
    found = Host(host, int(text)) if text.isdigit() else parse_host(text)
    return Host(host, found.port) if found.name in ANY_HOSTS else found


def parse_members(lines: Mapping[int, str] | Iterable[tuple[int, str]]) -> list[MemberLine]:
    """Those lines that can be read."""
    found: list[MemberLine] = []
    for sid, text in sorted(lines.items() if isinstance(lines, Mapping) else lines):
        try:
            found.append(parse_member(sid, text))
        except ValueError:
            continue
    return found


async def distinct(hosts: Iterable[Host]) -> list[Host]:
    """Without those that are the same port of the same machine under another name; what has no address stays."""
    loop = asyncio.get_running_loop()
    found: dict[object, Host] = {}
    for host in hosts:
        try:
            (first, *_) = await loop.getaddrinfo(host.name, host.port, type=socket.SOCK_STREAM)
            key: object = first[4][:2]
        except OSError:
            key = host
        found.setdefault(key, host)
    return list(found.values())


async def survey(
    hosts: Sequence[Host], *, timeout_s: float, tls: ssl.SSLContext | None = None, more: Sequence[str] = ()
) -> list[Report]:
    """Asks all at once `srvr`, and `more` of mntr, conf, cons as far as each allows it."""
    return list(await asyncio.gather(*(_report(host, timeout_s, tls, more) for host in hosts)))


async def _report(host: Host, timeout_s: float, tls: ssl.SSLContext | None, more: Sequence[str]) -> Report:
    report = Report(host)
    try:
        report.info = parse_srvr(await ask(host, "srvr", timeout_s=timeout_s, tls=tls))
    except NotServing:
        report.error = "not serving: no quorum, or starting"
    except (WordError, OSError) as error:
        report.error = why(error)
    if report.info is None:
        return report
    for word in more:
        try:
            text = await ask(host, word, timeout_s=timeout_s, tls=tls)
            if word == "mntr":
                report.monitor = parse_mntr(text)
            elif word == "conf":
                report.conf = parse_conf(text)
            else:
                report.connections = parse_cons(text)
        except WordRefused:
            report.refused.append(word)
        except (WordError, OSError) as error:
            report.error = why(error)
    return report


def leader_of(reports: Iterable[Report]) -> Report | None:
    """The one that leads, or a server that runs alone."""
    for report in reports:
        if report.info is not None and report.info.mode in ("leader", "standalone"):
            return report
    return None


def lag_of(report: Report, leader: Report | None) -> int | None:
    """How many txns it is behind; None if the epochs differ, so that nobody can say, or one of the two is silent."""
    if leader is None or leader.info is None or report.info is None or leader.info.epoch != report.info.epoch:
        return None
    return max(0, leader.info.counter - report.info.counter)


def unnamed(members: Sequence[MemberLine], known: Sequence[Host]) -> tuple[list[Host], list[MemberLine]]:
    """Members that nobody asked yet: where to ask them, and those of which only the others' ports are known.

    An address without a client's port stands for one of `known` with its name, each for one.
    """
    new: list[Host] = []
    lost: list[MemberLine] = []
    left = [host for host in known if host not in [member.client for member in members]]
    for member in members:
        if member.client is not None:
            if member.client not in known:
                new.append(member.client)
            continue
        match = next((host for host in left if host.name == member.host), None)
        if match is None:
            lost.append(member)
        else:
            left.remove(match)
    return new, lost
