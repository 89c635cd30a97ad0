"""ZooKeeper's own shell (zkCli, ZooKeeperMain) of 3.8.0 and 3.9.3 says the same to coati as to Java 3.9.3.

To a coati server alone and to a follower of an ensemble; their zxids differ in the epoch only.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

import pytest

from tests.interop import peers, raw
from tests.interop.javaclient import comparable, finish, shell
from tests.interop.peers import Server
from tools.javapeer import why_missing

CLIENTS = ["3.8.0", "3.9.3"]
MARK = "printwatches"  # says "printwatches is on", which tells the commands' outputs apart
MARKED = "printwatches is on"
LIST = re.compile(r"^\[(.*)\]$")

SCRIPT = """
version
whoami
ls /
create /a data
create /a data
create /a/b
create -s /a/seq- one
create -s -e /a/eph- two
create -e /a/e mine
create -e /a/e/child no
create -c /box
create -t 60000 /ttl value
create -s -t 60000 /a/ttl- value
create /acl secret world:anyone:r
create /nope/deep x
create /bad/
create /ключ значение
create /quoted "two words"
ls /
ls -s /a
ls -R /
ls /nope
get /a
get -s /a
get /nope
get /ключ
get /quoted
set /a 1
set -s /a 2
set -v 2 /a 3
set -v 1 /a 4
set /nope x
stat /a
stat /nope
stat /box
stat /ttl
getAllChildrenNumber /a
getAllChildrenNumber /nope
getEphemerals
getEphemerals /a/eph
sync /a
getAcl /a
getAcl -s /acl
setAcl /a world:anyone:cdrw
setAcl /a world:anyone:cdrwa
setAcl -v 9 /a world:anyone:cdrwa
setAcl /box nonsense
setAcl /box auth::cdrwa
addauth digest alice:pw
whoami
setAcl -s /box auth::cdrwa
getAcl /box
create /hers x auth::cdrwa
create -s /hers/n- x world:anyone:r
setAcl -R /hers auth::cdrwa
getAcl /hers/n-0000000000
setquota -n 5 /a
listquota /a
setquota -b 1000 /a
listquota /a
setquota -n 6 /a/b
delquota -n /a
listquota /a
delquota /a
listquota /a
setquota -N 7 /a
setquota -B 70 /a
listquota /a
delquota -N /a
delquota -B /a
delquota /a
get -w /a
set /a watched
stat -w /a/b
delete /a/b
ls -w /a
create /a/new
addWatch /tree
create /tree
create /tree/x
set /tree/x 1
removewatches /tree
set /tree/x 2
addWatch -m PERSISTENT /tree
create /tree/y
set /tree 1
removewatches /tree
removewatches /tree
delete /tree
delete -v 7 /tree/x
delete -v 2 /tree/x
delete /tree/x
deleteall /tree
ls /tree
deleteall /a
ls /
reconfig -add server.9=h:1:2;3
reconfig
config
delete /zookeeper
unknown command
history
redo 3
deleteall /acl
deleteall /box
deleteall /hers
delete /quoted
delete /ttl
delete /ключ
ls /
"""


@pytest.fixture(scope="module", params=["coati", "follower"])
def both(request: pytest.FixtureRequest) -> Iterator[tuple[Server, Server]]:
    """Servers that do nothing by themselves, so that zxids tell what the shell did."""
    with (
        peers.running(request.param, props=peers.LOCKSTEP_PROPS) as coati,
        peers.running("3.9.3", props=peers.LOCKSTEP_PROPS) as java,
    ):
        yield coati, java


def need(version: str) -> None:
    reason = why_missing(version)
    if reason is not None:
        peers.missing(reason)


def make_root(server: Server, path: str) -> None:
    with peers.session(server) as session:
        assert session.call(raw.CREATE, raw.create(path))[0] == 0
        session.close()


Talk = list[tuple[str, list[str]]]


def conversation(output: str, server: Server, commands: list[str]) -> tuple[Talk, list[str]]:
    """What each command printed, and the watch events, which the shell prints when they come."""
    # setAcl -R prints its error without an end of line.
    text = comparable(output, server).replace(MARKED, f"\n{MARKED}")
    lines = [line for line in text.splitlines() if line and line != "WATCHER::"]
    events = [line for line in lines if line.startswith("WatchedEvent ")]
    talk: Talk = [("", [])]
    ahead = iter(commands)
    for line in lines:
        if line == MARKED:
            talk.append((next(ahead, "end"), []))
        elif not line.startswith("WatchedEvent "):
            names = LIST.match(line)
            talk[-1][1].append(f"{sorted(names[1].split(', '))}" if names else line)
    return talk, events


def run_script(version: str, *servers: Server) -> list[tuple[Talk, list[str]]]:
    commands = SCRIPT.strip().splitlines()
    script = "".join(f"{command}\n{MARK}\n" for command in ["", *commands])
    processes = [shell(version, server, script=script) for server in servers]
    ran = [finish(process) for process in processes]
    talks = [conversation(each.output, server, commands) for each, server in zip(ran, servers, strict=True)]
    for talk, _ in talks:
        assert talk[-1][0] == "end", f"the shell ended early, after {talk[-1]}"
    return talks


@pytest.mark.parametrize("version", CLIENTS)
def test_scripted_session_looks_the_same(both: tuple[Server, Server], version: str) -> None:
    need(version)
    (ours, our_events), (theirs, their_events) = run_script(version, *both)
    # Who the servers are is told by an ensemble only, and this Java runs alone.
    untold = () if peers.monitor(both[0])["server_state"] == "standalone" else ("config",)
    differences = [
        f"{a[0]}\n  coati: {a[1]}\n  java:  {b[1]}"
        for a, b in zip(ours, theirs, strict=True)
        if a != b and a[0] not in untold
    ]
    assert not differences, "\n".join(differences)
    assert our_events == their_events


@pytest.mark.parametrize("server", peers.KINDS, indirect=True)
@pytest.mark.parametrize("version", CLIENTS)
def test_scripted_session_means_something(server: Server, version: str) -> None:
    # The comparison above would be content with two servers that refuse everything.
    need(version)
    ((talk, events),) = run_script(version, server)
    said = dict(talk)
    assert said["create /a data"] == ["Node already exists: /a"]  # the second of two
    assert said["create -s /a/seq- one"] == ["Created /a/seq-0000000001"]
    assert said["create -e /a/e/child no"] == ["Ephemerals cannot have children: /a/e/child"]
    assert said["get /ключ"] == ["значение"]
    assert said["set -v 1 /a 4"] == ["version No is not valid : /a"]
    assert said["setquota -n 6 /a/b"] == ["/a/b has a parent /a which has a quota"]
    assert said["getAcl /box"][0].startswith("'digest,'alice:")
    assert any("byteHardLimit=70;countHardLimit=7" in line for line in said["listquota /a"])
    assert said["removewatches /tree"] == ["KeeperErrorCode = No such watcher for /tree"]  # the second of two
    assert any("type:NodeDataChanged path:/a" in event for event in events)
    assert any("type:NodeCreated path:/tree/x" in event for event in events)


@pytest.mark.parametrize("server", peers.KINDS, indirect=True)
@pytest.mark.parametrize("version", CLIENTS)
def test_one_shot_commands_and_exit_codes(server: Server, version: str) -> None:
    need(version)
    make_root(server, f"/once{version[2]}")
    once = functools.partial(shell, version, server, f"/once{version[2]}")
    made = finish(once(["create", "-s", "/n-", "data"]))
    assert (made.exit_code, "Created /n-0000000000" in made.output) == (0, True), made.output
    got, refused = map(finish, [once(["get", "-s", "/n-0000000000"]), once(["get", "/nope"])])
    assert got.exit_code == 0
    assert "\ndata\ncZxid = " in got.output
    assert refused.exit_code == 1
    assert "Node does not exist: /nope" in refused.output
