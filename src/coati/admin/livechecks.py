"""The doctor's checks of servers that run, and of their tree: each yields (where, what was seen), from facts alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from coati.admin.ensemble import Report, lag_of, leader_of
from coati.admin.facts import Facts
from coati.admin.words import ServerInfo

Seen = Iterator[tuple[str, str]]

LAG_TXNS: Final = 1_000
ROLLOVER_COUNTER: Final = 0xF000_0000
OUTSTANDING: Final = 100
AVERAGE_LATENCY_MS: Final = 50.0
AVERAGE_SYNC_MS: Final = 50.0
LONGEST_SYNC_MS: Final = 1_000.0
NEAR_LIMIT_PART: Final = 0.8
MANY_WATCHES: Final = 500_000
LARGE_DATA_BYTES: Final = 1024**3
LEADERS_SHARE: Final = 1.5
LEADERS_CONNECTIONS: Final = 100
LARGE_ZNODE_BYTES: Final = 256 * 1024
CROWDED_CHILDREN: Final = 10_000
SKEW_S: Final = 1.0


def _answering(facts: Facts) -> Iterator[tuple[str, Report, ServerInfo]]:
    for report in facts.servers:
        if report.info is not None:
            yield str(report.host), report, report.info


def down(facts: Facts) -> Seen:
    for report in facts.servers:
        if report.info is None:
            yield str(report.host), report.error


def no_leader(facts: Facts) -> Seen:
    if facts.servers and leader_of(facts.servers) is None:
        yield "the ensemble", "no server leads, or it is not among the servers asked"


def two_leaders(facts: Facts) -> Seen:
    leaders = [f"{where} (epoch {info.epoch})" for where, _, info in _answering(facts) if info.mode == "leader"]
    if len(leaders) > 1:
        yield "the ensemble", f"they lead: {', '.join(leaders)}"


def strangers(facts: Facts) -> Seen:
    alone = [where for where, _, info in _answering(facts) if info.mode == "standalone"]
    if alone and len(facts.servers) > 1:
        yield ", ".join(alone), "it runs alone, so clients of this list see one tree or another"


def read_only(facts: Facts) -> Seen:
    for where, _, info in _answering(facts):
        if info.is_read_only:
            yield where, "it has lost its quorum, and serves reads only"


def lagging(facts: Facts) -> Seen:
    leader = leader_of(facts.servers)
    for where, report, _ in _answering(facts):
        behind = lag_of(report, leader)
        if behind is not None and behind > LAG_TXNS:
            yield where, f"{behind} txns behind the leader"


def epochs_differ(facts: Facts) -> Seen:
    leader = leader_of(facts.servers)
    # Before a leader's first txns come the others still show the last one of the epoch before.
    if leader is None or leader.info is None or leader.info.mode != "leader" or leader.info.counter <= LAG_TXNS:
        return
    for where, _, info in _answering(facts):
        if info.epoch != leader.info.epoch and info.mode != "standalone":
            yield where, f"epoch {info.epoch}, and {leader.info.epoch} at the leader {leader.host}"


def not_synced(facts: Facts) -> Seen:
    for where, report, info in _answering(facts):
        waiting = report.number("pending_syncs")
        if info.mode == "leader" and waiting:
            yield where, f"{waiting:.0f} clients wait for a sync"
        learners, synced = report.number("learners"), report.number("synced_followers")
        observers = (report.number("synced_observers") or 0) + (report.number("synced_non_voting_followers") or 0)
        if learners is not None and synced is not None and synced + observers < learners:
            yield where, f"{learners - synced - observers:.0f} of {learners:.0f} learners are not synchronised"


def versions_differ(facts: Facts) -> Seen:
    releases = {where: info.release for where, _, info in _answering(facts)}
    if len(set(releases.values())) > 1:
        yield "the ensemble", ", ".join(f"{where}: {release}" for where, release in releases.items())


def rollover(facts: Facts) -> Seen:
    for where, _, info in _answering(facts):
        if info.counter >= ROLLOVER_COUNTER:
            yield where, f"the zxid's counter is 0x{info.counter:x} of 0xffffffff"


def outstanding(facts: Facts) -> Seen:
    for where, _, info in _answering(facts):
        if info.outstanding > OUTSTANDING:
            yield where, f"{info.outstanding} requests wait"


def slow(facts: Facts) -> Seen:
    for where, _, info in _answering(facts):
        if info.latency_avg_ms > AVERAGE_LATENCY_MS:
            yield where, f"requests take {info.latency_avg_ms:g} ms on average"


def slow_disk(facts: Facts) -> Seen:
    for where, report, _ in _answering(facts):
        average, longest = report.number("avg_fsynctime") or 0.0, report.number("max_fsynctime") or 0.0
        if average > AVERAGE_SYNC_MS or longest > LONGEST_SYNC_MS:
            yield where, f"syncs of the log take {average:g} ms on average, {longest:g} ms at most"


def digests_differ(facts: Facts) -> Seen:
    yield from _counted(facts, "digest_mismatches_count", "{} times the tree was not the leader's")


def unrecoverable(facts: Facts) -> Seen:
    yield from _counted(facts, "unrecoverable_error_count", "{} errors that it did not recover from")


def rejected(facts: Facts) -> Seen:
    yield from _counted(facts, "connection_rejected", "{} connections were turned away")


def large_requests(facts: Facts) -> Seen:
    yield from _counted(facts, "large_requests_rejected", "{} requests were too large")


def throttled(facts: Facts) -> Seen:
    yield from _counted(facts, "throttled_ops", "{} requests were throttled")


def _counted(facts: Facts, name: str, text: str) -> Seen:
    for where, report, _ in _answering(facts):
        count = report.number(name)
        if count:
            yield where, text.format(f"{count:.0f}")


def descriptors(facts: Facts) -> Seen:
    for where, report, _ in _answering(facts):
        taken, limit = report.number("open_file_descriptor_count"), report.number("max_file_descriptor_count")
        if taken is not None and limit and limit > 0 and taken > NEAR_LIMIT_PART * limit:
            yield where, f"{taken:.0f} of {limit:.0f} file descriptors are open"


def busy_clients(facts: Facts) -> Seen:
    for where, report, _ in _answering(facts):
        text = "" if report.conf is None else report.conf.values.get("maxClientCnxns", "")
        limit = int(text) if text.isdecimal() else 0
        clients = Counter(one.address.rpartition(":")[0] for one in report.connections)
        for client, count in clients.most_common():
            if limit and count > NEAR_LIMIT_PART * limit:
                yield where, f"{client} has {count} connections of maxClientCnxns={limit}"


def many_watches(facts: Facts) -> Seen:
    for where, report, _ in _answering(facts):
        count = report.number("watch_count") or 0
        if count > MANY_WATCHES:
            yield where, f"{count:.0f} watches"


def much_data(facts: Facts) -> Seen:
    for where, report, _ in _answering(facts):
        size = report.number("approximate_data_size") or 0
        if size > LARGE_DATA_BYTES:
            yield where, f"{size / 2**30:.1f} GiB of data, all of it in memory and in each snapshot"


def burdened_leader(facts: Facts) -> Seen:
    others = [info.connections for _, _, info in _answering(facts) if info.mode == "follower"]
    for where, _, info in _answering(facts):
        if info.mode == "leader" and others and info.connections > LEADERS_CONNECTIONS:
            average = sum(others) / len(others)
            if info.connections > LEADERS_SHARE * average:
                yield where, f"the leader has {info.connections} connections, a follower {average:.0f}"


def unasked(facts: Facts) -> Seen:
    for report in facts.servers:
        if report.refused:
            yield str(report.host), f"not allowed: {', '.join(report.refused)}"


def open_root(facts: Facts) -> Seen:
    if facts.tree is None:
        return
    for line in facts.tree.root_acl.split(","):
        scheme, _, perms = line.rpartition(":")
        if scheme == "world:anyone" and set(perms) & set("cdwa"):
            yield "/", f"its ACL is {facts.tree.root_acl}"


def large_znodes(facts: Facts) -> Seen:
    for path, size in [] if facts.tree is None else facts.tree.large:
        yield path, f"{size} bytes"


def crowded_znodes(facts: Facts) -> Seen:
    for path, count in [] if facts.tree is None else facts.tree.crowded:
        yield path, f"{count} children"


def clock_skew(facts: Facts) -> Seen:
    skew_s = None if facts.tree is None else facts.tree.skew_s
    if skew_s is not None and abs(skew_s) > SKEW_S:
        yield "the leader", f"its clock is {abs(skew_s):.1f} s {'before' if skew_s > 0 else 'behind'} ours"
