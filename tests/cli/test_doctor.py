"""doctor and check-config: what they gather of files, machines, servers and trees; the checks are tests/admin's."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from coati.admin.doctor import CHECKS
from coati.cli import configfacts, exits
from coati.cli.configfacts import Source, config_facts, port_holder, unresolved
from tests.cli import kit
from tests.cli.test_probe import answering
from tests.interop import peers, raw
from tests.interop.ensembles import COATI, Ensemble
from tests.interop.peers import Server

# What upstream's conf/zoo_sample.cfg sets.
SAMPLE = "tickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir=/tmp/zookeeper\nclientPort=2181\n"


def zoo_cfg(base: Path, text: str = "", *, myid: str | None = None, **keys: str) -> str:
    """A file with a data directory of its own."""
    data_dir = base / "data"
    data_dir.mkdir(parents=True, exist_ok=True)
    if myid is not None:
        (data_dir / "myid").write_text(f"{myid}\n")
    given = {"tickTime": "2000", "initLimit": "10", "syncLimit": "5", "dataDir": str(data_dir), "clientPort": "2181"}
    path = base / "zoo.cfg"
    path.write_text("".join(f"{key}={value}\n" for key, value in {**given, **keys}.items()) + text)
    return str(path)


def checks(done: kit.Done) -> list[str]:
    """The names of the checks that found something; `-o json`."""
    return [finding["check"] for finding in json.loads(done.out)]


# --- check-config -------------------------------------------------------------------------------


def test_the_sample_of_upstream(tmp_path: Path) -> None:
    path = tmp_path / "zoo.cfg"
    path.write_text(SAMPLE)
    done = kit.run("-o", "json", "check-config", "--elsewhere", str(path))
    assert done.code == exits.DONE
    assert checks(done) == ["no-autopurge", "temporary-dir", "one-server", "no-words"]
    assert done.err == "coati check-config: error: 0, warning: 2, info: 2\n"
    assert kit.run("check-config", "--elsewhere", "--strict", str(path)).code == exits.CHECK_FAILED
    lines = kit.run("check-config", "-q", "--elsewhere", "--level", "warning", str(path)).lines
    assert [line.split("\t")[:3] for line in lines] == [
        ["warning", "no-autopurge", str(path)], ["warning", "temporary-dir", str(path)],
    ]  # fmt: skip
    table = kit.run("-o", "table", "check-config", "--elsewhere", str(path)).lines
    assert table[0].split() == ["LEVEL", "CHECK", "WHERE", "SEEN", "FIX"]


def test_what_a_server_would_refuse_or_warn_of(tmp_path: Path) -> None:
    path = zoo_cfg(tmp_path, **{"clientPort": "none", "autopurge.purgeInterval": "1"})
    done = kit.run("check-config", path)
    assert done.code == exits.CHECK_FAILED
    assert done.lines[0].startswith(
        f'error\tconfig-refused\t{path}\t{path} line 5: clientPort: "none" is not a whole number'
    )
    path = zoo_cfg(tmp_path, "bad\\u00\n")
    assert "config-refused" in kit.run("check-config", path).text
    path = zoo_cfg(tmp_path, colour="blue")
    assert "\tkeys without effect: colour (unknown)\t" in kit.run("check-config", path).text
    assert kit.run("check-config", str(tmp_path / "nowhere")).code == exits.USAGE


def test_a_member_s_file_and_its_machine(tmp_path: Path) -> None:
    members = {f"server.{sid}": f"127.0.0.{sid}:2888:3888" for sid in (1, 2, 3)}
    path = zoo_cfg(tmp_path, **members)
    assert checks(kit.run("-o", "json", "check-config", path))[:2] == ["config-refused", "myid-missing"]
    path = zoo_cfg(tmp_path, myid="7", **members)
    assert "myid-not-listed" in checks(kit.run("-o", "json", "check-config", path))
    path = zoo_cfg(tmp_path, myid="2", **members)
    facts = config_facts(Source(path))
    assert (facts.refusal, facts.sid, facts.is_writable) == ("", 2, True)
    assert (facts.is_one_disk, facts.kept_files, facts.unresolved) == (True, 0, [])
    disk = os.statvfs(tmp_path)
    assert facts.total_bytes == disk.f_blocks * disk.f_frsize
    (tmp_path / "data" / "version-2").mkdir()
    for name in ("log.1", "snapshot.0", "acceptedEpoch"):
        (tmp_path / "data" / "version-2" / name).touch()
    assert config_facts(Source(path)).kept_files == 2


def test_a_file_for_another_machine_is_looked_at_alone(tmp_path: Path) -> None:
    members = {f"server.{sid}": f"zk{sid}.invalid:2888:3888" for sid in (3, 4, 5)}
    path = zoo_cfg(tmp_path, **{**members, "dataDir": "/srv/zookeeper", "dataLogDir": "/srv/log"})
    facts = config_facts(Source(path, is_elsewhere=True))
    assert (facts.refusal, facts.unresolved, facts.total_bytes, facts.myid) == ("", [], None, "")
    assert not [finding for finding in checks(kit.run("-o", "json", "check-config", "--elsewhere", path))
                if finding.startswith(("myid", "unknown"))]  # fmt: skip


def test_a_dynamic_file_and_properties_count(tmp_path: Path) -> None:
    dynamic = tmp_path / "zoo.cfg.dynamic"
    dynamic.write_text("".join(f"server.{sid}=127.0.0.{sid}:2888:3888:participant;2181\n" for sid in (1, 2)))
    path = zoo_cfg(tmp_path, myid="1", dynamicConfigFile=str(dynamic))
    facts = config_facts(Source(path, ["jute.maxbuffer=9", "zookeeper.skipACL=yes"]))
    assert [member.sid for member in facts.members] == [1, 2]
    assert (facts.max_buffer_bytes, facts.text("skipACL")) == (9, "yes")
    found = checks(kit.run("-o", "json", "check-config", "-D", "zookeeper.skipACL=yes", path))
    assert {"two-voters", "skip-acl"} <= set(found)


def test_files_of_members_are_compared(tmp_path: Path) -> None:
    members = {f"server.{sid}": f"127.0.0.{sid}:2888:3888" for sid in (1, 2, 3)}
    paths = [zoo_cfg(tmp_path / str(sid), myid=str(min(sid, 2)), **members) for sid in (1, 2, 3)]
    paths.append(zoo_cfg(tmp_path / "4", myid="3", **{**members, "server.3": "127.0.0.9:2888:3888"}))
    done = kit.run("-o", "json", "check-config", *paths)
    assert done.code == exits.CHECK_FAILED
    found = {(finding["check"], finding["where"]) for finding in json.loads(done.out)}
    assert {("myid-twice", paths[2]), ("members-differ", paths[3])} <= found


def test_a_disk_that_is_fuller_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Disk:
        def __init__(self, free: int) -> None:
            self.f_bavail, self.f_frsize, self.f_blocks = free, 1, 100

    logs = tmp_path / "logs"
    logs.mkdir()
    monkeypatch.setattr(os, "statvfs", lambda path: Disk(4 if path == str(logs) else 50))
    path = zoo_cfg(tmp_path, dataLogDir=str(logs))
    facts = config_facts(Source(path))
    assert (facts.free_bytes, facts.total_bytes) == (4, 100)
    assert "disk-full" in checks(kit.run("-o", "json", "check-config", path))


def test_who_has_the_port(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert port_holder(server.host, server.port) == "zookeeper"
    assert port_holder("0.0.0.0", server.port) == "zookeeper"
    assert port_holder("127.0.0.1", 1) == ""
    with answering(lambda asked: b"HTTP/1.1 400 Bad Request\r\n") as address:
        assert port_holder("127.0.0.1", int(address.rpartition(":")[2])) == "stranger"
    with answering(lambda asked: None) as address:
        assert port_holder("127.0.0.1", int(address.rpartition(":")[2])) == "stranger"
    # It accepts, and never says a word.
    monkeypatch.setattr(configfacts, "PORT_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert port_holder("127.0.0.1", silent.getsockname()[1]) == ""


def test_names_without_an_address() -> None:
    assert unresolved(["127.0.0.1", "x..y", "nobody.invalid"]) == ["x..y", "nobody.invalid"]


# --- doctor -------------------------------------------------------------------------------------


def test_a_server_alone(cli: kit.Cli, server: Server, hosts: str) -> None:
    done = cli("-o", "json", "doctor", "--write")
    found = checks(done)
    assert (done.code, found) == (exits.DONE, ["open-root"])
    assert cli("-q", "doctor").lines[0].split("\t")[:3] == ["info", "open-root", "/"]
    # The znode that compares clocks has gone.
    with peers.session(server) as control:
        below = control.call(raw.GET_CHILDREN, raw.path_watch(hosts[hosts.index("/") :]))
        assert below == (0, [])
        control.close()


def test_a_tree_that_is_too_large(cli: kit.Cli, server: Server, hosts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base = hosts[hosts.index("/") :]
    monkeypatch.setattr("coati.cli.doctor.CROWDED_CHILDREN", 3)
    with peers.session(server) as control:
        for path, data in (("/big", bytes(262_145)), ("/many", b""), *((f"/many/{n}", b"") for n in range(4))):
            assert control.call(raw.CREATE, raw.create(base + path, data))[0] == 0
        closed = [(16, "world", "anyone")]
        assert control.call(raw.CREATE, raw.create(f"{base}/closed", b"", closed))[0] == 0
        assert control.call(raw.CREATE, raw.create(f"{base}/many/0/deep", b""))[0] == 0
        control.close()
    rows = json.loads(cli("-o", "json", "doctor").out)
    assert {(row["check"], row["where"], row["seen"]) for row in rows if row["check"].endswith("znode")} == {
        ("large-znode", "/big", "262145 bytes"), ("crowded-znode", "/many", "4 children"),
    }  # fmt: skip
    assert "2 znodes were looked at" in cli("doctor", "--znodes", "2").err
    assert cli("doctor", "--znodes", "0").code == exits.DONE
    assert cli("doctor", "--znodes", "-1").code == exits.USAGE


def test_an_ensemble_that_is_well_and_one_that_is_not(tmp_path: Path) -> None:
    with Ensemble(tmp_path, [COATI] * 3) as ensemble:
        for one in ensemble.members.values():
            one.quorum_ports += f":participant;127.0.0.1:{one.port}"
        ensemble.start(1, 2, 3)
        # The configuration says where the others are.
        rows = kit.run("-s", f"localhost:{ensemble[2].port}", "status")
        assert (rows.code, rows.err) == (exits.DONE, "")
        assert sorted(line.split("\t")[1] for line in rows.lines) == ["follower", "follower", "leader"]
        hosts = ",".join(f"127.0.0.1:{member.port}" for member in ensemble.members.values())
        done = kit.run("-s", hosts, "-o", "json", "doctor")
        assert (done.code, checks(done)) == (exits.DONE, ["open-root"]), done.text
        leader = ensemble.leader()
        ensemble[next(sid for sid in (1, 2, 3) if sid != leader.sid)].kill()
        done = kit.run("-s", f"{hosts},{hosts.partition(',')[0]}", "-o", "json", "doctor", "--level", "warning")
        assert done.code == exits.CHECK_FAILED
        assert set(checks(done)) >= {"server-down", "host-twice"}
        leader.kill()
        done = kit.run("-s", hosts, "--timeout", "2", "-o", "json", "doctor")
        assert done.code == exits.CHECK_FAILED
        assert {"server-down", "no-leader"} <= set(checks(done))


@pytest.fixture(scope="module")
def stranger() -> Iterator[Server]:
    """Another server, which allows no word but srvr."""
    with peers.running("coati", cfg={"4lw.commands.whitelist": "srvr"}) as other:
        yield other


def test_strangers_in_one_list(server: Server, stranger: Server) -> None:
    done = kit.run("-s", f"{server.address},{stranger.address}", "-o", "json", "doctor")
    assert done.code == exits.CHECK_FAILED
    assert {"strangers", "words-refused"} <= set(checks(done))


def test_nobody_answers() -> None:
    done = kit.run("-s", "nobody.invalid:2181", "--timeout", "1", "-o", "json", "doctor")
    assert done.code == exits.CHECK_FAILED
    assert checks(done) == ["unknown-name", "server-down", "no-leader"]


def test_a_file_without_servers_asks_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zoo_cfg(tmp_path)
    done = kit.run("-o", "json", "doctor", "--config", path)
    assert done.code == exits.DONE
    assert "no server is asked" in done.err
    assert checks(done) == checks(kit.run("-o", "json", "check-config", path))
    monkeypatch.setenv("COATI_HOSTS", "127.0.0.1:1")
    assert "server-down" in checks(kit.run("-o", "json", "doctor", "--config", path, "--timeout", "1"))


def test_the_root_may_be_closed() -> None:
    with peers.running("coati", props=peers.QUICK_PROPS) as server:
        with peers.superuser(server) as owner:
            assert owner.call(raw.SET_ACL, raw.set_acl("/", [(31, "digest", "a:b")]))[0] == 0
            owner.close()
        done = kit.run("-s", server.address, "-o", "json", "doctor")
        assert (done.code, checks(done)) == (exits.DONE, [])
        assert "ACL of / may not be read" in done.err
        done = kit.run("-s", server.address, "doctor", "--write")
        assert "the tree was not looked at: " in done.err


def test_the_list_of_checks() -> None:
    rows = json.loads(kit.run("-o", "json", "doctor", "--list").out)
    assert [row["check"] for row in rows] == [check.name for check in CHECKS]
