"""The doctor's checks of configurations: what a zoo.cfg, or several of one ensemble, have wrong.

Each check yields (where, what was seen) and knows facts alone. Thresholds are named; docs/cli/doctor.md shows them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from coati.admin.ensemble import ANY_HOSTS, MemberLine, parse_members
from coati.admin.facts import ConfigFacts, Facts

Seen = Iterator[tuple[str, str]]
Find = Callable[[Facts], Seen]
T = TypeVar("T")
D = TypeVar("D")

MIN_TICK_MS: Final = 500
MAX_TICK_MS: Final = 10_000
MIN_INIT_MS: Final = 5_000
MIN_SYNC_MS: Final = 2_000
MIN_SNAP_COUNT: Final = 10_000
MAX_SNAP_COUNT: Final = 2_000_000
LARGE_BUFFER_BYTES: Final = 4 * 1024 * 1024
MIN_SESSION_MS: Final = 1_000
FULL_PART: Final = 0.05
NEARLY_FULL_PART: Final = 0.15
MANY_FILES: Final = 100
TEMPORARY: Final = ("/tmp", "/var/tmp", "/dev/shm", "/run")
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


def _each(look: Callable[[ConfigFacts], Iterator[str]]) -> Find:
    """A check of one file, made one of all."""

    def find(facts: Facts) -> Seen:
        for config in facts.configs:
            for seen in look(config):
                yield config.path, seen

    return find


@_each
def refused(config: ConfigFacts) -> Iterator[str]:
    if config.refusal:
        yield config.refusal


@_each
def warned(config: ConfigFacts) -> Iterator[str]:
    yield from config.warnings


def _voters(config: ConfigFacts) -> int:
    return sum(not member.is_observer for member in config.members)


@_each
def even_voters(config: ConfigFacts) -> Iterator[str]:
    voters = _voters(config)
    if voters > 2 and voters % 2 == 0:
        yield f"{voters} voters tolerate {(voters - 1) // 2} failures, as {voters - 1} do"


@_each
def no_tolerance(config: ConfigFacts) -> Iterator[str]:
    voters = _voters(config)
    if voters == 2:
        yield "2 voters: when one fails, nobody is served"


@_each
def alone(config: ConfigFacts) -> Iterator[str]:
    if _voters(config) <= 1:
        yield "one server: when it is down, nobody is served"


@_each
def tick(config: ConfigFacts) -> Iterator[str]:
    if not MIN_TICK_MS <= config.tick_ms <= MAX_TICK_MS:
        yield f"tickTime={config.tick_ms}"


@_each
def init_limit(config: ConfigFacts) -> Iterator[str]:
    limit = config.number("initLimit", 0)
    if config.members and 0 < limit * config.tick_ms < MIN_INIT_MS:
        yield f"initLimit={limit} is {limit * config.tick_ms} ms for a whole snapshot"


@_each
def sync_limit(config: ConfigFacts) -> Iterator[str]:
    limit = config.number("syncLimit", 0)
    if config.members and 0 < limit * config.tick_ms < MIN_SYNC_MS:
        yield f"syncLimit={limit} is {limit * config.tick_ms} ms: a pause of that length costs a member its place"


@_each
def session_bounds(config: ConfigFacts) -> Iterator[str]:
    low = config.number("minSessionTimeout", 2 * config.tick_ms)
    high = config.number("maxSessionTimeout", 20 * config.tick_ms)
    if 0 < high < 4 * config.tick_ms:
        yield f"maxSessionTimeout={high} is less than four ticks of {config.tick_ms} ms"
    if 0 < low < MIN_SESSION_MS:
        yield f"minSessionTimeout={low} ms"


@_each
def no_autopurge(config: ConfigFacts) -> Iterator[str]:
    if config.number("autopurge.purgeInterval", 0) <= 0:
        yield "autopurge.purgeInterval is not set: logs and snapshots stay for ever"


@_each
def many_files(config: ConfigFacts) -> Iterator[str]:
    if config.kept_files > MANY_FILES:
        yield f"{config.kept_files} snapshots and logs are kept"


@_each
def one_disk(config: ConfigFacts) -> Iterator[str]:
    if config.is_one_disk:
        yield "snapshots and the log are on one disk, and wait for each other"


@_each
def full(config: ConfigFacts) -> Iterator[str]:
    part = _free_part(config)
    if part is not None and part < FULL_PART:
        yield f"{part:.1%} of the disk is free"


@_each
def nearly_full(config: ConfigFacts) -> Iterator[str]:
    part = _free_part(config)
    if part is not None and FULL_PART <= part < NEARLY_FULL_PART:
        yield f"{part:.1%} of the disk is free"


def _free_part(config: ConfigFacts) -> float | None:
    if config.free_bytes is None or not config.total_bytes:
        return None
    return config.free_bytes / config.total_bytes


@_each
def temporary(config: ConfigFacts) -> Iterator[str]:
    for key in ("dataDir", "dataLogDir"):
        path = config.text(key)
        if any(path == place or path.startswith(f"{place}/") for place in TEMPORARY):
            yield f"{key}={path} is emptied at the next start of the machine"


@_each
def unwritable(config: ConfigFacts) -> Iterator[str]:
    if not config.is_writable:
        yield f"dataDir={config.text('dataDir')} cannot be written to by this user"


@_each
def all_words(config: ConfigFacts) -> Iterator[str]:
    if "*" in [word.strip() for word in config.text("4lw.commands.whitelist").split(",")]:
        yield "everybody who reaches the port may ask wchp and dump, which stop a large server, and stmk"


@_each
def no_words(config: ConfigFacts) -> Iterator[str]:
    words = {word.strip() for word in config.text("4lw.commands.whitelist").split(",")}
    if not words & {"*", "mntr"}:
        yield "mntr is not allowed, so most of the metrics stay unseen"


@_each
def skip_acl(config: ConfigFacts) -> Iterator[str]:
    if config.text("skipACL") == "yes":
        yield "skipACL=yes: everybody may read and write everything"


@_each
def open_reconfig(config: ConfigFacts) -> Iterator[str]:
    if config.is_on("reconfigEnabled") and config.text("skipACL") == "yes":
        yield "reconfigEnabled=true with skipACL=yes: everybody may put servers into the ensemble"


@_each
def snap_count(config: ConfigFacts) -> Iterator[str]:
    count = config.number("snapCount", 100_000)
    if not MIN_SNAP_COUNT <= count <= MAX_SNAP_COUNT:
        yield f"snapCount={count}"


@_each
def force_sync(config: ConfigFacts) -> Iterator[str]:
    if config.text("forceSync") == "no":
        yield "forceSync=no: writes that were acknowledged can be lost with the machine"


@_each
def large_buffer(config: ConfigFacts) -> Iterator[str]:
    if config.max_buffer_bytes > LARGE_BUFFER_BYTES:
        yield f"jute.maxbuffer={config.max_buffer_bytes}"


@_each
def unlimited(config: ConfigFacts) -> Iterator[str]:
    if config.number("maxClientCnxns", 60) == 0 and config.number("maxCnxns", 0) == 0:
        yield "maxClientCnxns=0: one client that leaks connections takes all descriptors"


@_each
def myid_missing(config: ConfigFacts) -> Iterator[str]:
    if _is_ensemble(config) and config.myid is None:
        yield f"{config.text('dataDir')}/myid is not there"


@_each
def myid_unlisted(config: ConfigFacts) -> Iterator[str]:
    if not _is_ensemble(config) or not config.myid:
        return
    if config.sid not in [member.sid for member in config.members]:
        yield f"myid is {config.myid!r}, and there is no such server.N"


def _is_ensemble(config: ConfigFacts) -> bool:
    return len(config.members) > 1


@_each
def role_differs(config: ConfigFacts) -> Iterator[str]:
    peer_type = config.text("peerType").lower()
    for member in config.members:
        if member.sid != config.sid:
            continue
        if member.is_observer and peer_type == "participant":
            yield f"server.{member.sid} is an observer, and peerType=participant"
        if not member.is_observer and peer_type == "observer":
            yield f"peerType=observer, and server.{member.sid} does not say :observer, so the others count its vote"


@_each
def ports_collide(config: ConfigFacts) -> Iterator[str]:
    taken: dict[tuple[str, int], str] = {}
    for member in config.members:
        own = [("quorum port", member.host, member.quorum_port), ("election port", member.host, member.election_port)]
        if member.client is not None:
            own.append(("clients' port", member.host, member.client.port))
        elif member.sid == config.sid:
            own.append(("clients' port", member.host, config.number("clientPort", -1)))
        for what, host, port in own:
            name = f"the {what} of server.{member.sid}"
            other = taken.setdefault((host, port), name)
            if other != name:
                yield f"{name} is {other} too: {host}:{port}"


@_each
def loopback(config: ConfigFacts) -> Iterator[str]:
    near = [member for member in config.members if member.host in LOOPBACK]
    if near and len(near) < len(config.members):
        yield ", ".join(
            f"server.{member.sid} is at {member.host}, which is another machine for each" for member in near
        )


@_each
def port_taken(config: ConfigFacts) -> Iterator[str]:
    if config.port_holder == "stranger":
        yield f"clientPort={config.text('clientPort')} is in use, and not by ZooKeeper"


def unresolved(facts: Facts) -> Seen:
    for config in facts.configs:
        for name in config.unresolved:
            yield config.path, f"no address is known for {name}"
    for name in facts.unresolved:
        yield "the connect string", f"no address is known for {name}"


def duplicate_hosts(facts: Facts) -> Seen:
    for name in dict.fromkeys(facts.named):
        if facts.named.count(name) > 1:
            yield "the connect string", f"{name} is there {facts.named.count(name)} times, and gets as much more load"


def myid_twice(facts: Facts) -> Seen:
    owners: dict[int, str] = {}
    for config in facts.configs:
        if config.sid is not None:
            other = owners.setdefault(config.sid, config.path)
            if other != config.path:
                yield config.path, f"myid is {config.sid}, as that of {other}"
    numbers: dict[str, str] = {}
    for report in facts.servers:
        if report.conf is not None and report.conf.members:
            number = report.conf.values.get("serverId", "")
            if number in numbers:
                yield str(report.host), f"its id is {number}, as that of {numbers[number]}"
            numbers.setdefault(number, str(report.host))


def members_differ(facts: Facts) -> Seen:
    """Of files and of servers that run."""
    known = [(config.path, config.members) for config in facts.configs]
    for report in facts.servers:
        if report.conf is not None and report.conf.members:
            known.append((str(report.host), parse_members(report.conf.members)))
    for where, first_where, differing in _odd(known, _unlike):
        yield where, f"{', '.join(f'server.{sid}' for sid in differing)} differ from {first_where}"


def _odd(
    known: Sequence[tuple[str, T]], unlike: Callable[[T, T], Sequence[D]]
) -> Iterator[tuple[str, str, Sequence[D]]]:
    """Those that differ from the one that most agree with: where, from whom, and in what."""
    if known:
        agreeing = [sum(not unlike(one, other) for _, other in known) for _, one in known]
        reference_where, reference = known[agreeing.index(max(agreeing))]
        for where, one in known:
            if differing := unlike(reference, one):
                yield where, reference_where, differing


def _unlike(some: list[MemberLine], others: list[MemberLine]) -> list[int]:
    """The sids whose lines do not say the same. A server may call itself 0.0.0.0, whatever the others call it."""
    left, right = {one.sid: one for one in some}, {one.sid: one for one in others}
    found = left.keys() ^ right.keys()
    for sid in left.keys() & right.keys():
        one, other = left[sid], right[sid]
        is_any = one.host in ANY_HOSTS or other.host in ANY_HOSTS
        if one.identity[1:] != other.identity[1:] or (one.host != other.host and not is_any):
            found.add(sid)
    return sorted(found)


def limits_differ(facts: Facts) -> Seen:
    known: list[tuple[str, Mapping[str, str]]] = [(config.path, config.keys) for config in facts.configs]
    known += [(str(report.host), report.conf.values) for report in facts.servers if report.conf is not None]
    for where, first_where, differing in _odd(known, _unlike_limits):
        yield where, f"not as at {first_where}: {', '.join(differing)}"


def _unlike_limits(some: Mapping[str, str], others: Mapping[str, str]) -> list[str]:
    return [
        f"{name}={others[name]} ({some[name]} there)"
        for name in ("tickTime", "initLimit", "syncLimit")
        if name in some and name in others and some[name] != others[name]
    ]


def buffers_differ(facts: Facts) -> Seen:
    known = [(config.path, config.max_buffer_bytes) for config in facts.configs]
    for where, first_where, differing in _odd(known, lambda some, other: [other] if some != other else []):
        yield where, f"jute.maxbuffer is {differing[0]}, which it is not at {first_where}"
