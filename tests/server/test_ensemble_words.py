"""What operators see of an ensemble: words as Java 3.9.3 says them in each role, the configuration, leaderServes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from coati.core.tree import CONFIG
from coati.server.config import load_config
from coati.server.fourletter import FULL_VERSION, NAMES, answer, parse_whitelist
from coati.server.metricnames import ROLE_GAUGES
from coati.server.view import LiveView
from coati.testing.cluster import ClusterConfig, SimCluster, SimMember
from coati.testing.server import SimLink, data_of
from coati.wire import codes
from coati.wire.quorum import LEADING, OBSERVING
from tests.core.kit import stat_of
from tests.server.clusterkit import joined, leader_of

RECORDED = Path(__file__).parent / "java393"
JAVA_VERSION = "3.9.3-c26634f34490bb0ea7a09cc51e05ede3b4e320ee, built on 2024-10-17 23:21 UTC"
ALL = parse_whitelist("*", is_read_only_enabled=False)
MEMBERS = "".join(f"server.{sid}=127.0.0.1:2428{sid}:2438{sid}\n" for sid in (1, 2, 3))
ZOO_CFG = f"""clientPort=2419SID
clientPortAddress=127.0.0.1
tickTime=2000
initLimit=10
syncLimit=5
maxClientCnxns=0
{MEMBERS}server.4=127.0.0.1:24284:24384:observer
"""
_SESSION = re.compile(r"0x[14][0-9a-f]{14}")


def java(name: str) -> str:
    return (RECORDED / f"ensemble_{name}.txt").read_text().replace(JAVA_VERSION, FULL_VERSION)


def view_of(member: SimMember, tmp_path: Path) -> LiveView:
    """What the words of a member would show if it were a process."""
    home = tmp_path / str(member.sid)
    home.mkdir(exist_ok=True)
    (home / "myid").write_text(str(member.sid))
    (home / "zoo.cfg").write_text(f"{ZOO_CFG.replace('SID', str(member.sid))}dataDir={home}\n")
    view = LiveView(load_config(str(home / "zoo.cfg")), member.driver, member.disk, member.clock)
    view.is_running = True
    return view


def ask(word: str, member: SimMember, tmp_path: Path) -> str:
    return b"".join(answer(word.encode(), ALL, view_of(member, tmp_path))).decode()


@pytest.fixture
def loaded() -> SimCluster:
    """The ensemble of the recordings (java393/README.txt), with the same clients and writes."""
    cluster = SimCluster(ClusterConfig(3, observers=1, tick_ms=2000)).start()
    cluster.run_until(cluster.all_serve)
    follower = cluster.followers()[0]
    first = joined(cluster, follower, 11_000)
    second = joined(cluster, cluster.members[4], 14_000)
    for client, xid in (
        (first, first.create(b"/a", b"x" * 10)),
        (first, first.set_data(b"/a", b"x" * 100)),
        (first, first.create(b"/a/e", flags=1)),
    ):
        cluster.run(200)
        assert client.reply(xid).err == 0
    xid = second.create(b"/b")
    cluster.run(200)
    assert second.reply(xid).err == 0
    return cluster


def test_srvr_of_a_leader_shows_the_sizes_of_its_proposals(loaded: SimCluster, tmp_path: Path) -> None:
    last = java("srvr").splitlines()[-1]
    assert last == "Proposal sizes last/min/max: 86/48/158"
    for word in ("srvr", "stat"):
        assert ask(word, leader_of(loaded), tmp_path).splitlines()[-1] == last


def test_words_name_the_role(loaded: SimCluster, tmp_path: Path) -> None:
    leader = leader_of(loaded)
    for member in loaded.members.values():
        role = "leader" if member is leader else "observer" if member.sid == 4 else "follower"
        lines = ask("srvr", member, tmp_path).splitlines()
        assert lines[7] == f"Mode: {role}"
        assert any("Proposal" in line for line in lines) == (role == "leader")
        assert ask("isro", member, tmp_path) == "rw"


def test_conf_is_java_s(loaded: SimCluster, tmp_path: Path) -> None:
    said = ask("conf", loaded.members[3], tmp_path)
    own = re.compile(r"(?<=Dir=).*|(?<=Size=).*")
    assert own.sub("*", said) == own.sub("*", java("conf"))
    assert "\npeerType=1\n" in ask("conf", loaded.members[4], tmp_path)


def test_dump_of_a_follower_is_java_s(loaded: SimCluster, tmp_path: Path) -> None:
    """It lists all sessions with their timeouts: only the leader knows when they expire."""
    said = ask("dump", loaded.followers()[0], tmp_path)
    expected = java("dump")
    end = "Connections dump:\n"
    assert _SESSION.sub("ID", said.partition(end)[0]) == _SESSION.sub("ID", expected.partition(end)[0])
    assert "\nSession Sets (2)/(2):\n" in ask("dump", leader_of(loaded), tmp_path)


def figures(text: str) -> dict[str, str]:
    pairs = (line.split("\t") for line in text.splitlines())
    # Java has some of a learner's and of a znode's name, which docs/divergences.md names.
    return {name: value for name, value in pairs if "per_namespace" not in name and "learner_handler_qp" not in name}


@pytest.mark.parametrize("role", ["leader", "follower", "observer"])
def test_mntr_is_java_s(loaded: SimCluster, tmp_path: Path, role: str) -> None:
    followers = loaded.followers()
    members = {"leader": leader_of(loaded), "follower": followers[0], "observer": loaded.members[4]}
    said, expected = figures(ask("mntr", members[role], tmp_path)), figures(java(f"mntr_{role}"))
    assert list(said) == list(expected)
    same = {f"zk_{name}" for name in ROLE_GAUGES} - {"zk_leader_uptime"}
    same |= {"zk_server_state", "zk_peer_state", "zk_znode_count", "zk_global_sessions"}
    same &= expected.keys()
    assert len(same) == (13 if role == "leader" else 5)
    assert {name: said[name] for name in same} == {name: expected[name] for name in same}
    if role == "observer":
        assert said["zk_observer_master_id"] == str(members["leader"].sid)


def test_uptime_counts_from_the_role(loaded: SimCluster, tmp_path: Path) -> None:
    leader = leader_of(loaded)
    before = int(figures(ask("mntr", leader, tmp_path))["zk_leader_uptime"])
    loaded.run(1000)
    after = figures(ask("mntr", leader, tmp_path))
    assert (int(after["zk_leader_uptime"]), after["zk_uptime"]) == (before + 1000, after["zk_leader_uptime"])


@pytest.mark.parametrize("sid", [1, 3, 4])
def test_writes_are_counted_when_they_are_answered(loaded: SimCluster, sid: int) -> None:
    """They used to wait for the next write, and were as slow as that was late."""
    member = loaded.members[sid]
    updates = member.driver.stats.update_latency
    before = updates.count
    client = joined(loaded, member, 20_000)
    for number in range(3):
        loaded.run(5000)
        assert updates.count == before + 1 + number
        xid = client.create(b"/counted%d" % number)
        loaded.run(50)
        assert client.reply(xid).err == 0
    assert updates.highest < 50


@pytest.mark.parametrize("voters", [1, 3])
def test_writes_that_the_own_disk_commits_are_counted_with_their_replies(voters: int) -> None:
    """The driver counts once a turn, and a turn that a sync brings is one: alone, or as the last of a quorum."""
    cluster = SimCluster(ClusterConfig(voters, disk_ms=(30, 30))).start()
    cluster.run_until(cluster.all_serve)
    leader = leader_of(cluster)
    client = joined(cluster, leader, 20_000)
    updates, stats = leader.driver.stats.update_latency, leader.driver.stats
    before, packets = updates.count, stats.packets_sent
    xids = [client.create(b"/own%d" % number) for number in range(5)]
    cluster.run_until(lambda: len(client.replies) == len(xids), step_ms=1)
    assert [client.reply(xid).err for xid in xids] == [0] * len(xids)
    assert (updates.count - before, stats.packets_sent - packets) == (len(xids), len(xids))


def test_nothing_is_shown_while_there_is_no_leader(tmp_path: Path) -> None:
    cluster = SimCluster(ClusterConfig(3))
    cluster.members[1].start()
    cluster.run(5000)
    member = cluster.members[1]
    for name in NAMES:
        word = name.decode("latin-1")
        if word in ("isro", "ruok", "envi", "gtmk", "stmk") or not word.isascii():
            continue
        assert ask(word, member, tmp_path).rstrip("\n") == "This ZooKeeper instance is not currently serving requests"
    assert ask("isro", member, tmp_path) == "null"


# The znode of the configuration.


def test_every_member_shows_the_configuration_in_its_znode(loaded: SimCluster) -> None:
    text = loaded.view.to_text()
    assert text.endswith(b"\nversion=0")
    for member in loaded.members.values():
        node = member.tree.nodes[CONFIG]
        assert node.data() == text
        stat = stat_of(node)
        # As kazoo saw it on each server of a Java ensemble; mtime is in docs/divergences.md.
        assert (stat.czxid, stat.mzxid, stat.ctime, stat.version, stat.cversion, stat.aversion) == (0, 0, 0, -1, 0, -1)
        assert (stat.data_length, stat.num_children, stat.pzxid) == (len(text), 0, 0)


def test_configuration_outlives_the_leader_s_snapshot_and_a_restart() -> None:
    """The text is each server's own (ZOOKEEPER-2819), and what a client reads does not depend on the way it came."""
    cluster = SimCluster(ClusterConfig(3, forces_snapshot=True)).start()
    cluster.run_until(cluster.all_serve)
    cluster.members[1].kill()
    writer = joined(cluster, leader_of(cluster), 10_000)
    xid = writer.create(b"/a")
    cluster.run(500)
    assert writer.reply(xid).err == 0
    cluster.members[1].start()
    cluster.run_until(cluster.all_serve)
    member = cluster.members[1]
    assert b"/a" in member.tree.nodes
    reader = joined(cluster, member, 10_000)
    xid = reader.get(CONFIG)
    cluster.run(200)
    assert data_of(reader.reply(xid)) == cluster.view.to_text()
    assert {m.tree.digest for m in cluster.members.values()} == {member.tree.digest}


@pytest.mark.parametrize("sid", [1, 3, 4])
def test_reconfig_is_refused_wherever_it_is_asked_for(loaded: SimCluster, sid: int) -> None:
    """ReconfigDisabled, as a Java ensemble with reconfigEnabled=false says."""
    client = joined(loaded, loaded.members[sid], 10_000)
    body = b"\0\0\0\x08server.9" + b"\xff\xff\xff\xff" * 2 + b"\xff" * 8
    xid = client.send(codes.OP_RECONFIG, body)
    loaded.run(500)
    assert client.reply(xid).err == -123


# leaderServes=no


def test_leader_that_does_not_serve_leads_and_turns_clients_away(tmp_path: Path) -> None:
    cluster = SimCluster(ClusterConfig(3, leader_serves=False)).start()
    cluster.run_until(cluster.all_serve)
    leader = leader_of(cluster)
    assert ask("srvr", leader, tmp_path) == "This ZooKeeper instance is not currently serving requests\n"
    turned_away = leader.client()
    cluster.run(500)
    assert turned_away.session_id == 0
    assert not turned_away.is_open
    # The others serve, and the leader writes and expires for them.
    follower = cluster.followers()[0]
    client = joined(cluster, follower, 4_000)
    other = joined(cluster, cluster.followers()[1], 40_000)
    xid = client.create(b"/mine", flags=1)
    cluster.run(500)
    assert client.reply(xid).err == 0
    client.link.drop()
    cluster.run_until(lambda: b"/mine" not in follower.tree.nodes)
    assert other.is_open
    # Without the leadership it serves as everybody does.
    leader.kill()
    cluster.run_until(lambda: cluster.leader() is not None)
    leader.start()
    cluster.run_until(cluster.all_serve)
    assert leader.state != LEADING
    assert joined(cluster, leader, 10_000).is_open
    assert cluster.members[1].state != OBSERVING


def test_client_of_a_leader_that_does_not_serve_leaves_without_a_trace() -> None:
    """Its connection is not one of the replica's."""
    cluster = SimCluster(ClusterConfig(3, leader_serves=False)).start()
    cluster.run_until(cluster.all_serve)
    SimLink(leader_of(cluster), ("127.0.0.1", 40001)).drop()
    cluster.run(500)
    assert cluster.all_serve()
