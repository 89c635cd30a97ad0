"""Each check of the doctor, provoked and left in peace; and the page that lists them."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from coati.admin.doctor import CHECKS, ERROR, INFO, LEVELS, diagnose
from coati.admin.ensemble import Report
from coati.admin.facts import ConfigFacts, Facts, TreeFacts
from coati.admin.words import Configuration, Connection, ServerInfo
from coati.client.hosts import Host

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli" / "doctor.md"

# What upstream's administrator's guide asks for.
KEYS = {
    "tickTime": "2000", "initLimit": "10", "syncLimit": "5", "dataDir": "/var/lib/zookeeper",
    "dataLogDir": "/var/log/zookeeper", "clientPort": "2181", "autopurge.purgeInterval": "24",
    "4lw.commands.whitelist": "srvr, ruok, mntr",
    "server.1": "zk1:2888:3888", "server.2": "zk2:2888:3888", "server.3": "zk3:2888:3888",
}  # fmt: skip
MEMBERS = {sid: f"zk{sid}:2888:3888:participant" for sid in (1, 2, 3)}
GIB = 1024**3


def member(sid: int, **keys: str | None) -> ConfigFacts:
    """A zoo.cfg without a fault; a key that is None is left out."""
    changed = {name.replace("__", "."): value for name, value in keys.items()}
    left = {name: value for name, value in {**KEYS, **changed}.items() if value is not None}
    return ConfigFacts(
        f"zk{sid}.cfg", left, myid=str(sid), free_bytes=50 * GIB, total_bytes=100 * GIB, is_one_disk=False, kept_files=8
    )


def server(sid: int, mode: str = "follower") -> Report:
    """One that is well, in an ensemble of three."""
    info = ServerInfo(version="3.9.3-x, built on 1", mode=mode, zxid=0x500010000, connections=10, latency_avg_ms=1.5)
    monitor = {"watch_count": "10", "avg_fsynctime": "1.5", "max_fsynctime": "90", "digest_mismatches_count": "0",
               "open_file_descriptor_count": "80", "max_file_descriptor_count": "1000",
               "approximate_data_size": "1000", "connection_rejected": "0"}  # fmt: skip
    if mode == "leader":
        monitor |= {"learners": "2", "synced_followers": "2", "pending_syncs": "0", "synced_observers": "0"}
    values = {"tickTime": "2000", "initLimit": "10", "syncLimit": "5", "maxClientCnxns": "60", "serverId": str(sid)}
    connections = [Connection(f"10.0.0.{number}:{port}") for number in (1, 2) for port in range(5)]
    return Report(Host(f"zk{sid}", 2181), info, monitor, Configuration(values, dict(MEMBERS)), connections)


def well() -> Facts:
    """The reference: three members on machines of their own."""
    return Facts(
        [member(1), member(2), member(3)],
        ["zk1:2181", "zk2:2181", "zk3:2181"],
        [],
        [server(1), server(2, "leader"), server(3)],
        TreeFacts(root_acl="world:anyone:r,auth::cdrwa", skew_s=0.1),
    )


def with_keys(**keys: str | None) -> Facts:
    """The reference, with these in the first file."""
    facts = well()
    facts.configs[0] = member(1, **keys)
    return facts


def changed(change: Callable[[Facts], object]) -> Facts:
    facts = well()
    change(facts)
    return facts


def with_config(**fields: object) -> Facts:
    facts = well()
    for name, value in fields.items():
        setattr(facts.configs[0], name, value)
    return facts


def with_info(index: int = 0, **fields: object) -> Facts:
    """What the first server says of itself; index 1 is the leader."""
    facts = well()
    for name, value in fields.items():
        setattr(facts.servers[index].info, name, value)
    return facts


def with_monitor(index: int = 0, **figures: str) -> Facts:
    facts = well()
    facts.servers[index].monitor.update(figures)
    return facts


def with_conf(**values: str) -> Facts:
    """What the last server's `conf` says."""
    facts = well()
    conf = facts.servers[2].conf
    assert conf is not None
    for name, value in values.items():
        if name[-1].isdigit():
            conf.members[int(name[6:])] = value
        else:
            conf.values[name] = value
    return facts


def silent(facts: Facts, index: int) -> None:
    facts.servers[index] = Report(Host(f"zk{index + 1}", 2181), error="connection refused")


def fresh_leader(facts: Facts) -> None:
    """It has been elected a moment ago."""
    info = facts.servers[1].info
    assert info is not None
    info.zxid = 0x600000002


def popular(facts: Facts) -> None:
    """Its followers have as many clients."""
    for report in facts.servers:
        assert report.info is not None
        report.info.connections = 150


def tree(**fields: object) -> Facts:
    facts = well()
    for name, value in fields.items():
        setattr(facts.tree, name, value)
    return facts


NO_MEMBERS: dict[str, str | None] = {"server__1": None, "server__2": None, "server__3": None}
CROWD = [Connection(f"10.0.0.9:{port}") for port in range(49)]

# The name of each check, and facts that provoke it, one after the other.
PROVOKED: dict[str, list[Facts]] = {
    "config-refused": [with_config(refusal="clientPort is not set")],
    "config-warning": [with_config(warnings=["keys without effect: x (unknown)"])],
    "one-server": [with_keys(**NO_MEMBERS), with_keys(server__2="zk2:2888:3888:observer", server__3=None)],
    "two-voters": [with_keys(server__3=None)],
    "even-voters": [with_keys(server__4="zk4:2888:3888")],
    "tick-time": [with_keys(tickTime="499"), with_keys(tickTime="10001")],
    "init-limit": [with_keys(initLimit="2")],
    "sync-limit": [with_keys(tickTime="900", syncLimit="2")],
    "session-bounds": [with_keys(maxSessionTimeout="7999"), with_keys(minSessionTimeout="999")],
    "no-autopurge": [with_keys(autopurge__purgeInterval="0"), with_keys(autopurge__purgeInterval=None)],
    "many-files": [with_config(kept_files=101)],
    "one-disk": [with_config(is_one_disk=True)],
    "disk-full": [with_config(free_bytes=4 * GIB)],
    "disk-nearly-full": [with_config(free_bytes=5 * GIB), with_config(free_bytes=14 * GIB)],
    "temporary-dir": [with_keys(dataDir="/tmp/zookeeper"), with_keys(dataLogDir="/dev/shm")],
    "data-dir-unwritable": [with_config(is_writable=False)],
    "all-words": [with_keys(**{"4lw__commands__whitelist": "*"}), with_keys(**{"4lw__commands__whitelist": "srvr, *"})],
    "no-words": [with_keys(**{"4lw__commands__whitelist": None}), with_keys(**{"4lw__commands__whitelist": "srvr"})],
    "skip-acl": [with_keys(skipACL="yes")],
    "open-reconfig": [with_keys(skipACL="yes", reconfigEnabled="true")],
    "snap-count": [with_keys(snapCount="9999"), with_keys(snapCount="2000001")],
    "force-sync": [with_keys(forceSync="no")],
    "large-buffer": [with_keys(jute__maxbuffer="4194305")],
    "buffers-differ": [with_keys(jute__maxbuffer="4194304")],
    "no-connection-limit": [with_keys(maxClientCnxns="0")],
    "myid-missing": [with_config(myid=None)],
    "myid-not-listed": [with_config(myid="4"), with_config(myid="one")],
    "myid-twice": [with_config(myid="2"), with_conf(serverId="1")],
    "members-differ": [
        with_keys(server__2="zk9:2888:3888"), with_keys(server__4="zk4:2888:3888"), with_conf(server2="zk2:2889:3888"),
        with_conf(server1="zk1:2888:3888:observer"),
    ],
    "limits-differ": [with_keys(syncLimit="6"), with_conf(tickTime="3000")],
    "peer-type": [
        with_keys(peerType="observer"), with_keys(peerType="participant", server__1="zk1:2888:3888:observer"),
    ],
    "ports-collide": [
        with_keys(server__2="zk2:2888:2888"), with_keys(server__2="zk1:2888:3889"), with_keys(clientPort="3888"),
        with_keys(server__2="zk2:2888:3888;2888"),
    ],
    "loopback-member": [with_keys(server__1="localhost:2888:3888")],
    "port-taken": [with_config(port_holder="stranger")],
    "unknown-name": [with_config(unresolved=["zk2"]), changed(lambda facts: facts.unresolved.append("zk2"))],
    "host-twice": [changed(lambda facts: facts.named.append("zk1:2181"))],
    "server-down": [changed(lambda facts: silent(facts, 0))],
    "no-leader": [changed(lambda facts: silent(facts, 1))],
    "two-leaders": [with_info(mode="leader", zxid=0x400000000)],
    "strangers": [with_info(mode="standalone")],
    "read-only": [with_info(mode="read-only", is_read_only=True)],
    "lagging": [with_info(zxid=0x500010000 - 1001)],
    "epochs-differ": [with_info(zxid=0x400000100)],
    "not-synced": [with_monitor(1, pending_syncs="3"), with_monitor(1, synced_followers="1")],
    "versions-differ": [with_info(version="3.8.0-x, built on 1")],
    "zxid-rollover": [with_info(zxid=0x5F0000000)],
    "outstanding": [with_info(outstanding=101)],
    "slow-requests": [with_info(latency_avg_ms=50.1)],
    "slow-disk": [with_monitor(avg_fsynctime="50.1"), with_monitor(max_fsynctime="1001")],
    "digest-mismatch": [with_monitor(digest_mismatches_count="1")],
    "unrecoverable-errors": [with_monitor(unrecoverable_error_count="1")],
    "rejected-connections": [with_monitor(connection_rejected="1")],
    "large-requests": [with_monitor(large_requests_rejected="1")],
    "throttled": [with_monitor(throttled_ops="1")],
    "file-descriptors": [with_monitor(open_file_descriptor_count="801")],
    "client-near-limit": [changed(lambda facts: facts.servers[0].connections.extend(CROWD))],
    "many-watches": [with_monitor(watch_count="500001")],
    "much-data": [with_monitor(approximate_data_size=str(GIB + 1))],
    "burdened-leader": [with_info(1, connections=101)],
    "words-refused": [changed(lambda facts: facts.servers[0].refused.append("mntr"))],
    "open-root": [tree(root_acl="world:anyone:cdrwa")],
    "large-znode": [tree(large=[("/big", 300_000)])],
    "crowded-znode": [tree(crowded=[("/many", 10_001)])],
    "clock-skew": [tree(skew_s=1.1), tree(skew_s=-1.1)],
}  # fmt: skip

# Facts in which something is unusual, and nothing wrong.
PEACEFUL: list[Facts] = [
    Facts(),
    well(),
    Facts(servers=[Report(Host("h", 1), server(1, "standalone").info)]),
    with_keys(tickTime="500", initLimit="20", syncLimit="10"),
    with_keys(snapCount="10000"),
    with_keys(snapCount="many"),
    with_keys(skipACL="no"),
    with_keys(forceSync="yes"),
    with_keys(reconfigEnabled="true"),
    with_keys(server__1="0.0.0.0:2888:3888"),
    with_keys(server__4="zk4:2888:3888:observer", peerType="participant"),
    with_keys(maxClientCnxns="0", maxCnxns="1000"),
    with_keys(dataDir="/tmpfiles"),
    with_keys(server__zk4="zk4:2888:3888", server__04="zk4"),
    changed(popular),
    with_config(port_holder="zookeeper"),
    with_config(free_bytes=15 * GIB, kept_files=100),
    with_config(free_bytes=None, is_one_disk=None),
    with_info(zxid=0x500010000 - 1000),
    changed(fresh_leader),
    with_info(outstanding=100, latency_avg_ms=50.0),
    with_info(0, zxid=0x5EFFFFFFF),
    with_monitor(avg_fsynctime="50.0", max_fsynctime="1000", watch_count="500000", open_file_descriptor_count="800"),
    with_monitor(open_file_descriptor_count="-1", max_file_descriptor_count="-1"),
    with_monitor(digest_mismatches_count="none"),
    with_monitor(1, learners="3", synced_observers="1"),
    changed(lambda facts: facts.servers[0].connections.extend(CROWD[:43])),
    tree(root_acl="world:anyone:r", skew_s=None),
    tree(skew_s=-0.9),
]
# Of what the unusual ones change, what others have to say.
ALLOWED = {"limits-differ", "members-differ"}


@pytest.mark.parametrize("name", [check.name for check in CHECKS])
def test_what_provokes_a_check(name: str) -> None:
    (check,) = (check for check in CHECKS if check.name == name)
    for facts in PROVOKED[name]:
        (finding,) = (finding for finding in diagnose(facts) if finding.check == name)
        assert finding.level == check.level
        assert finding.where
        assert finding.seen
        assert finding.fix == check.fix


@pytest.mark.parametrize("name", [check.name for check in CHECKS])
def test_what_leaves_a_check_in_peace(name: str) -> None:
    (check,) = (check for check in CHECKS if check.name == name)
    assert list(check.find(well())) == []
    if name not in ALLOWED:
        assert [list(check.find(facts)) for facts in PEACEFUL] == [[] for _ in PEACEFUL]


def test_the_reference_has_no_finding_at_all() -> None:
    assert diagnose(well()) == []
    assert diagnose(Facts()) == []


def test_a_check_is_provoked_alone_or_with_its_kin() -> None:
    """A fault is told once: what else is said of it is another fault, or a graver name of the same."""
    kin = {
        "one-server": {"members-differ", "myid-not-listed"},
        "two-voters": {"members-differ"},
        "even-voters": {"members-differ"},
        "tick-time": {"limits-differ", "init-limit", "sync-limit", "session-bounds"},
        "init-limit": {"limits-differ"},
        "sync-limit": {"limits-differ"},
        "open-reconfig": {"skip-acl"},
        "large-buffer": {"buffers-differ"},
        "members-differ": {"even-voters"},
        "peer-type": {"members-differ", "two-voters"},
        "ports-collide": {"members-differ"},
        "loopback-member": {"members-differ"},
        "no-leader": {"server-down"},
        "two-leaders": {"epochs-differ"},
        "zxid-rollover": {"lagging"},
    }
    for name, several in PROVOKED.items():
        for facts in several:
            others = {finding.check for finding in diagnose(facts)} - {name}
            assert others <= kin.get(name, set()), name


def test_the_gravest_come_first() -> None:
    facts = copy.deepcopy(well())
    facts.configs[0].keys.update({"skipACL": "yes", "maxClientCnxns": "0", "server.4": "zk4:2888:3888"})
    levels = [finding.level for finding in diagnose(facts)]
    assert levels == sorted(levels, key=LEVELS.index)
    assert (levels[0], levels[-1]) == (ERROR, INFO)


def test_names_are_there_once() -> None:
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    assert set(names) == set(PROVOKED)
    assert all(check.level in LEVELS for check in CHECKS)


def test_the_page_lists_the_checks_as_they_are() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (\w+) \| (.+?) \| (.+?) \|$", PAGE.read_text(), re.MULTILINE)
    assert rows == [(check.name, check.level, check.about, check.fix) for check in CHECKS]
