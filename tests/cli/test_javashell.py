"""The Java shell's commands in `coati sh` say what Java's own shell says, on the same kinds of server."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from coati import errors
from coati.cli.javashell import client_line, members_in, words_for
from coati.client.ops import MultiError
from tests.cli import kit
from tests.interop import peers
from tests.interop.javaclient import finish, shell
from tests.interop.peers import Server
from tests.interop.test_java_shell import MARK, SCRIPT, conversation, need

# What says whose shell it is, and what only Java's shell can be wrong in.
UNLIKE = ("version", "unknown command")
# What runbooks rarely hold, and what Java refuses.
RARE = """
create /a "0123456789abcdef and more"
get -b /a
get -x /a
set -b /a AAEC/w==
get -x -s /a
set /a it's
get /a
set /a {"x":1}
get /a
create -c -e /x
create -c -s /x
create -t 10 -e /x
create -t 10 -c /x
create -t ten /x
create -t 0 /x
create /x data nonsense
create /x data world:anyone:rz
getAcl /x
create /y data ip:999:r
create /a//b
create /a/./b
create /a/../b
create /a/b
create -es /a/n- x
create -s /a/
ls -sR /a
ls /a watch
get /a watch
stat /a watch
ls -R -w /a
set /a seen
delete -v 9 /a/b
delete /a
deleteall -b x /a
deleteall -b 10 /nope
setAcl -v 9 /a world:anyone:r
setAcl -s -v 0 /x world:anyone:cdrwa
setAcl -R /nope world:anyone:r
setAcl /y digest:nobody
setquota -n 0 /a
setquota -b -1 /a
setquota -n many /a
setquota -b 5 /nope
setquota -n 3 /zookeeper/quota/a
setquota -n 3 /a/b
setquota -n 3 /a
setquota -B 1 /x
listquota /x
delquota -N /x
delquota -b /nope
listquota /nope
addWatch -m PERSISTENT /a
addWatch -m PERSISTENT /a
removewatches /a
removewatches -d /a
config
config -c
config -s -w
reconfig -add server.1=a:1:2;3 -members x
reconfig -file a -members x
reconfig -remove 3 -v zz
reconfig -s -remove 3
getEphemerals /a/n
sync /nope
whoami
"""


def ours(server: Server, commands: list[str]) -> kit.Done:
    script = "".join(f"{command}\n{MARK}\n" for command in ["", *commands])
    return kit.run("-s", server.address, "sh", "--java", "--keep-going", stdin=script.encode(), merged=True)


@pytest.mark.parametrize("script", [SCRIPT, RARE], ids=["common", "rare"])
def test_what_the_java_shell_says(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    need("3.9.3")
    monkeypatch.setenv("TZ", "UTC")
    commands = [line for line in script.strip().splitlines() if line not in UNLIKE]
    lines = "".join(f"{command}\n{MARK}\n" for command in ["", *commands])
    with (
        peers.running("coati", props=peers.LOCKSTEP_PROPS) as one,
        peers.running("coati", props=peers.LOCKSTEP_PROPS) as other,
    ):
        java = finish(shell("3.9.3", one, script=lines))
        said = ours(other, commands)
        theirs, their_events = conversation(java.output, one, commands)
        mine, my_events = conversation(said.text, other, commands)
    assert mine[-1][0] == "end", said.text
    pairs = zip(mine, theirs, strict=True)
    # Before the first command only Java says something.
    differences = [f"{a[0]}\n  ours: {a[1]}\n  java: {b[1]}" for a, b in pairs if a != b and a[0]]
    assert not differences, "\n".join(differences)
    # The connection's own events are told in other words; a quota is one txn for us and several for Java.
    assert without_zxids(my_events) == without_zxids(event for event in their_events if "type:None" not in event)


def without_zxids(events: Iterable[str]) -> list[str]:
    # Java removes several watches of a path in no order.
    return sorted(event.partition(" zxid")[0] for event in events)


def said(hosts: str, *lines: str) -> list[str]:
    stdin = "".join(f"{line}\n" for line in lines).encode()
    return kit.run("-s", hosts, "sh", "--java", "--keep-going", stdin=stdin, merged=True).lines


def test_relative_paths_are_from_where_the_shell_stands(hosts: str) -> None:
    assert said(hosts, "create /a", "cd /a", "create b x", "get b", "ls .", "get ../a/b") == [
        "Created /a", "Created /a/b", "x", "[b]", "x",
    ]  # fmt: skip


def test_base64_that_is_none(hosts: str) -> None:
    # Java's shell ends with an exception.
    assert said(hosts, "create /a", "set -b /a ===", "set -b")[1].startswith("'===' is not base64")


def test_all_is_not_deleted(hosts: str) -> None:
    # Java's tries to.
    assert said(hosts, "create /a", "deleteall /", "ls /")[1:] == [
        "deleteall / is refused: name the subtrees that shall go", "[a]",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("getAcl", "getAcl [-s] path"),
        ("get -q /", "Unrecognized option: -q"),
        ("get - /", "'get path [watch]' has been deprecated."),
        ("create -t", "Missing argument for option: t"),
        ("create -t60000 -- /-a", ""),
        ("setquota /a", "setquota -n|-b|-N|-B val path"),
        ("setquota -n 1 -b 1 /a", "setquota -n|-b|-N|-B val path"),
        ("addWatch -m SOME /a", "addWatch [-m mode] path"),
        ("reconfig -s", "reconfig [-s] [-v version]"),
        ("reconfig -file /nowhere", "/nowhere cannot be read"),
        ("reconfig -members server.1=h:1:2;3", "KeeperErrorCode = "),
        ("removewatches /a", "KeeperErrorCode = No such watcher for /a"),
        ("set -v x / y", "-v is followed by a number, not 'x'"),
        ("version", "ZooKeeper CLI version: coati "),
        ("printwatches", "printwatches is on"),
        ("setAcl -R / world:anyone:cdrwa", ""),
        ("ls -R /", "/"),
        ("getAllChildrenNumber /", "0"),
        ("getEphemerals", "[]"),
    ],
)
def test_one_line(line: str, says: str, hosts: str) -> None:
    # What Java's grammar refuses is said as every usage is.
    told = "".join(said(hosts, line)[:1])
    assert told.removeprefix(f"coati {line.split()[0]}: ").startswith(says)


def test_events_are_shown_unless_they_are_not_wanted(hosts: str) -> None:
    lines = ["create /a", "get -w /a", "printwatches off", "set /a x", "printwatches", "printwatches on", "get -w /a"]
    shown = said(hosts, *lines, "set /a y", "getEphemerals")
    assert shown[:4] == ["Created /a", "", "printwatches is off", "x"]
    assert [line.partition(" zxid")[0] for line in shown[4:] if line] == [
        "WATCHER::", "WatchedEvent state:SyncConnected type:NodeDataChanged path:/a", "[]",
    ]  # fmt: skip


def test_a_dynamic_configuration_and_where_clients_connect() -> None:
    config = "server.1=a:1:2:participant;0.0.0.0:2181\nserver.2=b:1:2:observer;2182\nserver.3=c:1:2\nversion=1a\n"
    assert client_line(config) == "1a 0.0.0.0:2181,0.0.0.0:2182"
    assert members_in("# mine\n server.1=a:1:2;3 \nclientPort=1\nserver.2=b:1:2;3") == [
        "server.1=a:1:2;3", "server.2=b:1:2;3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.NoNode("/a"), "Node does not exist: /a"),
        (MultiError(1, [None, errors.NotEmpty("/b")]), "Node not empty: /b"),
        (errors.ConnectionLoss(), "KeeperErrorCode = ConnectionLoss for /x"),
        (errors.SessionExpired(), "KeeperErrorCode = Session expired for /x"),
        (errors.NewConfigNoQuorum(), "No quorum of new config is connected and up-to-date"),
    ],
)
def test_words_for_errors(error: errors.ZKError, words: str) -> None:
    # KeeperException.getMessage and CliWrapperException.
    assert words_for(error, "/x").startswith(words)
    assert words_for(errors.SessionExpired(), "") == "KeeperErrorCode = Session expired"
