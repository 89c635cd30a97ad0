"""The configuration of an ensemble: what QuorumPeerConfig and QuorumPeer of 3.9 make of it, and what comes later."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from coati.errors import ConfigError
from coati.server.config import Entry, ServerConfig, load_config
from coati.server.configkeys import strict_float
from coati.server.links import link_limits
from coati.server.main import peer_config
from tests.server.test_config import GUIDE

TWO = "server.1=127.0.0.1:1:2\nserver.2=127.0.0.1:3:4\n"
THREE = "server.1=127.0.0.1:1:2\nserver.2=127.0.0.1:3:4\nserver.3=127.0.0.1:5:6\n"
BASE = "clientPort=2181\ninitLimit=10\nsyncLimit=5\n"


def load(tmp_path: Path, text: str, myid: str | None = "1\n", base: str = BASE, **properties: str) -> ServerConfig:
    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    (data / "myid").unlink(missing_ok=True)
    if myid is not None:
        (data / "myid").write_text(myid)
    path = tmp_path / "zoo.cfg"
    path.write_text(f"dataDir={data}\n{base}{text}")
    given = {name.replace("__", "."): Entry(value, f"-D{name}") for name, value in properties.items()}
    return load_config(str(path), properties=given)


def refusal(tmp_path: Path, text: str, myid: str | None = "1\n", base: str = BASE) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, myid, base)
    message = str(caught.value)
    assert message.isprintable()
    return message.replace(str(tmp_path), "TMP")


def view_text(config: ServerConfig) -> str:
    assert config.ensemble is not None
    return config.ensemble.to_text().decode().replace("\n", " ")


# What QuorumPeerConfig of 3.9.3 said, asked with these lines behind dataDir and BASE, myid being 1: the text of its
# quorum verifier.
ACCEPTED = {
    TWO: "server.1=127.0.0.1:1:2:participant server.2=127.0.0.1:3:4:participant version=0",
    f"{TWO}server.3=127.0.0.1:5:6:observer": (
        "server.1=127.0.0.1:1:2:participant server.2=127.0.0.1:3:4:participant server.3=127.0.0.1:5:6:observer "
        "version=0"
    ),
    "standaloneEnabled=false\nserver.1=127.0.0.1:1:2": "server.1=127.0.0.1:1:2:participant version=0",
    f"{TWO}group.1=1:2": (
        "server.1=127.0.0.1:1:2:participant server.2=127.0.0.1:3:4:participant group.1=1:2 weight.1=1 weight.2=1 "
        "version=0"
    ),
    f"{TWO}group.1=1:2\nweight.1=0\nweight.2=0": (
        "server.1=127.0.0.1:1:2:participant server.2=127.0.0.1:3:4:participant group.1=1:2 weight.1=0 weight.2=0 "
        "version=0"
    ),
    "server.1=127.0.0.1:1:2;2181\nserver.2=127.0.0.1:3:4;127.0.0.1:2182": (
        "server.1=127.0.0.1:1:2:participant;0.0.0.0:2181 server.2=127.0.0.1:3:4:participant;127.0.0.1:2182 version=0"
    ),
    "clientPortAddress=localhost\nserver.1=127.0.0.1:1:2;127.0.0.1:2181\nserver.2=127.0.0.1:3:4": (
        "server.1=127.0.0.1:1:2:participant;127.0.0.1:2181 server.2=127.0.0.1:3:4:participant version=0"
    ),
    f"{TWO}version=100": "server.1=127.0.0.1:1:2:participant server.2=127.0.0.1:3:4:participant version=100",
}
REFUSED = {
    f"{TWO}initLimit=0": "initLimit is not set",
    f"{TWO}syncLimit=0": "syncLimit is not set",
    f"{TWO}group.1=1": "server 2 is not in a group",
    f"{TWO}group.1=1:2\nweight.1=x": "TMP/zoo.cfg line 8: weight.1: the weight is not a whole number",
    f"{TWO}group.1=1:2\ngroup.2=2": "server 2 is in multiple groups",
    f"{TWO}weight.1=2": "server 1 is not in a group",
    "server.1=127.0.0.1:1:2\ngroup.1=2": "server 1 is not in a group",
    f"{TWO}group.x=1:2": "TMP/zoo.cfg line 7: group.x: the group id is not a whole number",
    f"{TWO}grouping=1:2": "TMP/zoo.cfg line 7: grouping: the group id is not a whole number",
    f"{TWO}group.1=1:2:3": "server 3 is in a group, but it is no participant and has no weight",
    f"{TWO}group.1=1:2\ngroup.2=": "TMP/zoo.cfg line 8: group.2: a server id is not a whole number",
    f"{TWO}version=xyz": "TMP/zoo.cfg line 7: version: it is no hexadecimal number",
    "server.1=127.0.0.1:1:2;2182\nserver.2=127.0.0.1:3:4": (
        "clientPort: server.1 names another client address than the static keys"
    ),
    "clientPortAddress=127.0.0.1\nserver.1=127.0.0.1:1:2;2181\nserver.2=127.0.0.1:3:4": (
        "clientPort: server.1 names another client address than the static keys"
    ),
    f"{TWO}electionAlg=1": "electionAlg: only 3 is supported",
}
# Java starts with these, and fails later or does worse.
REFUSED_HERE = {
    f"{TWO}initLimit=-1": "initLimit: -1 ticks of 3000 ms are no time to wait",
    f"{TWO}syncLimit=1000000": "syncLimit: 1000000 ticks of 3000 ms are no time to wait",
    f"{TWO}connectToLearnerMasterLimit=-2": "connectToLearnerMasterLimit: -2 ticks of 3000 ms are no time to wait",
    "server.2=127.0.0.1:1:2\nserver.3=127.0.0.1:3:4": "myid: my id 1 is not in the peer list",
    "server.-7=127.0.0.1:1:2\nserver.1=127.0.0.1:3:4": "server.-7 has an id below zero",
    f"{TWO}group.1=1:2\nweight.1=-1": "server 1 has the weight -1, below zero",
    f"{TWO}group.1=1\ngroup.01=2": "TMP/zoo.cfg line 8: group.01: the group is there twice",
    f"{TWO}server.01=127.0.0.1:7:8": "server.1 is there twice",
}


@pytest.mark.parametrize(("text", "view"), ACCEPTED.items())
def test_what_java_accepts_is_the_same_view(tmp_path: Path, text: str, view: str) -> None:
    config = load(tmp_path, text)
    assert view_text(config) == view
    assert not any("without effect" in warning for warning in config.warnings)


@pytest.mark.parametrize(("text", "message"), [*REFUSED.items(), *REFUSED_HERE.items()])
def test_what_java_refuses_is_refused(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(tmp_path, text) == message


def test_an_ensemble_needs_its_limits_and_its_id(tmp_path: Path) -> None:
    assert refusal(tmp_path, TWO, base="clientPort=1\nsyncLimit=5\n") == "initLimit is not set"
    assert refusal(tmp_path, TWO, base="clientPort=1\ninitLimit=5\n") == "syncLimit is not set"
    assert refusal(tmp_path, TWO, myid=None) == "TMP/data/myid: myid file is missing"
    assert refusal(tmp_path, TWO, myid="one") == 'TMP/data/myid: serverid "one" is not a whole number'


def test_session_ids_must_not_look_like_times_to_live(tmp_path: Path) -> None:
    """EphemeralType.validateServerId: the sessions of server 255 begin as the owners of znodes with a TTL do.

    Java 3.9.3 starts, is elected and fails, again and again.
    """
    text = f"{THREE}server.254=127.0.0.1:7:8\nserver.255=127.0.0.1:9:10\n"
    assert load(tmp_path, text, myid="255").my_id == 255
    text += "extendedTypesEnabled=true\n"
    assert load(tmp_path, text, myid="254").my_id == 254
    assert refusal(tmp_path, text, myid="255") == "myid: 255 is above 254, too large for extendedTypesEnabled"


def test_the_sample_of_the_guide(tmp_path: Path) -> None:
    """The replicated ZooKeeper of "getting started", and no word of warning about it."""
    config = load(
        tmp_path,
        "server.1=zoo1:2888:3888\nserver.2=zoo2:2888:3888\nserver.3=zoo3:2888:3888\n",
        myid="2",
        base="tickTime=2000\nclientPort=2181\ninitLimit=5\nsyncLimit=2\n",
    )
    assert config.warnings == []
    assert (config.my_id, config.is_observer, config.init_limit, config.sync_limit) == (2, False, 5, 2)
    assert config.ensemble is not None
    assert config.ensemble.voters() == [1, 2, 3]


def test_client_port_of_the_own_line(tmp_path: Path) -> None:
    """The line of the own id only; a name of the static keys may be that address or not."""
    text = "server.1=127.0.0.1:1:2;127.0.0.1:2185\nserver.2=127.0.0.1:3:4;2186\n"
    config = load(tmp_path, text, base="initLimit=5\nsyncLimit=2\n")
    assert (config.client_address, config.client_port) == ("127.0.0.1", 2185)
    config = load(tmp_path, text, base="initLimit=5\nsyncLimit=2\nclientPort=2185\nclientPortAddress=0.0.0.0\n")
    assert (config.client_address, config.client_port) == ("127.0.0.1", 2185)
    assert "another client address" in refusal(
        tmp_path, text, base="initLimit=5\nsyncLimit=2\nclientPort=2185\nclientPortAddress=127.0.0.2\n"
    )
    assert refusal(tmp_path, TWO, base="initLimit=5\nsyncLimit=2\n") == "clientPort is not set"


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (TWO, "server.N: no server failure will be tolerated; at least 3 participants are needed for that"),
        (THREE, ""),
        (f"{THREE}server.4=127.0.0.1:7:8", "server.N: 4 participants tolerate no more failures than one less"),
        (f"{THREE}server.4=127.0.0.1:7:8:observer", ""),
        (f"{THREE}peerType=observer", "peerType: it does not match the server list, where server.1 is participant"),
        (
            f"{THREE}server.4=127.0.0.1:7:8\n".replace("1:2", "1:2:observer", 1),
            "peerType: it does not match the server list, where server.1 is observer",
        ),
        (f"{THREE}commitLogCount=499", "commitLogCount: 499 is less than 500, which is used"),
        (f"{THREE}snapshotSizeFactor=1.5", "snapshotSizeFactor: 1.5 is more than 1; the default 0.33 is used"),
        (f"{THREE}cnxTimeout=0", "cnxTimeout: 0 is not positive; the default 5000 is used"),
        (f"{THREE}electionPortBindRetry=-1", "electionPortBindRetry: -1 is negative; the default 3 is used"),
    ],
)
def test_warnings_of_an_ensemble(tmp_path: Path, text: str, warning: str) -> None:
    config = load(tmp_path, text)
    assert config.warnings == ([warning] if warning else [])
    assert config.commit_log_count == 500
    assert config.snapshot_size_factor == 0.33


def test_read_only_mode_is_switched_on_by_its_property(tmp_path: Path) -> None:
    config = load(tmp_path, THREE, readonlymode__enabled="true")
    assert config.warnings == []
    assert config.read_only_mode
    assert not load(tmp_path, THREE).read_only_mode


def test_the_role_is_that_of_the_server_list(tmp_path: Path) -> None:
    """ZOOKEEPER-2959: a peerType that contradicts the list must not make anybody vote."""
    text = f"{THREE}server.4=127.0.0.1:7:8:observer\npeerType=participant\n"
    assert load(tmp_path, text, myid="4").is_observer
    assert not load(tmp_path, f"{text}peerType=observer\n", myid="3").is_observer
    assert not load(tmp_path, "", myid=None).is_observer


def test_keys_of_an_ensemble_are_honoured(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        f"{THREE}connectToLearnerMasterLimit=3\nquorumListenOnAllIPs=true\nleaderServes=no\ntcpKeepAlive=true\n"
        "cnxTimeout=700\nquorumCnxnTimeoutMs=900\nelectionPortBindRetry=0\nfastleader.minNotificationInterval=100\n"
        "fastleader.maxNotificationInterval=2000\nleaderConnectDelayDuringRetryMs=50\n"
        "forceSnapshotSync=true\ncommitLogCount=900\nsnapshotSizeFactor=-1\nlinearizableSync=false\n",
    )
    assert config.warnings == []
    assert (config.connect_limit, config.leader_serves, config.force_snapshot_sync) == (3, False, True)
    assert (config.min_notification_ms, config.max_notification_ms) == (100, 2000)
    assert (config.leader_connect_delay_ms, config.commit_log_count) == (50, 900)
    assert config.snapshot_size_factor == -1.0
    assert config.ensemble is not None
    peer = peer_config(config, config.ensemble)
    assert (peer.limits.connect_ticks, peer.limits.redial_ms, peer.limits.init_ticks) == (3, 50, config.init_limit)
    assert (peer.forces_snapshot, peer.linearizable_sync, peer.commit_log_count) == (True, False, 900)
    default = load(tmp_path, THREE)
    assert (default.linearizable_sync, default.leader_serves, default.force_snapshot_sync) == (True, True, False)
    assert peer_config(default, peer.view).limits.connect_ticks == default.init_limit
    limits = link_limits(config)
    assert (limits.connect_ms, limits.hello_ms, limits.first_packet_ms) == (700, 900, 30_000)
    assert (limits.bind_retries, limits.listens_on_all, limits.is_kept_alive) == (0, True, True)
    assert limits.max_data_bytes == 2 * 0xFFFFF
    assert load(tmp_path, THREE).hello_timeout_ms == 15_000


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("quorum.auth.enableSasl=true", "SASL between servers comes later, and without it anybody could speak to"),
        ("sslQuorum=TRUE", "TLS between servers comes later, and without it anybody could speak to the ports"),
        ("oraclePath=/tmp/oracle", "the oracle of two servers comes later"),
    ],
)
def test_what_an_ensemble_cannot_do_without_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    name = text.partition("=")[0]
    assert refusal(tmp_path, THREE + text).startswith(f"TMP/zoo.cfg line 8: {name}: {reason}")
    if name != "oraclePath":
        assert load(tmp_path, f"{THREE}{name}=false").warnings == []
    # Alone, none of them has a meaning, in Java either.
    assert load(tmp_path, text).warnings == []


def test_what_an_ensemble_can_do_without_is_named_with_the_reason(tmp_path: Path) -> None:
    text = (
        "localSessionsEnabled=true\nobserverMasterPort=2191\nsyncEnabled=false\nmultiAddress.enabled=true\n"
        "leader.maxConcurrentSnapSyncs=3\nquorum.auth.learner.saslLoginContext=QuorumLearner\nleader.nonsense=1\n"
        "observer.reconnectDelayMs=4\nobserver.election.DelayMs=6\n"
        "portUnification=true\nssl.quorum.keyStore.password=hunter2\nlearner.asyncSending=true\n"
    )
    config = load(tmp_path, THREE + text)
    (warning,) = config.warnings
    assert "hunter2" not in warning
    assert warning == (
        "keys without effect: localSessionsEnabled (local sessions come later; all sessions are global); "
        "observerMasterPort (observer masters come later; observers follow the leader); "
        "syncEnabled (observers always keep log and snapshots); "
        "multiAddress.enabled (several addresses of one server come later); "
        "quorum.auth.learner.saslLoginContext (SASL comes later); "
        "portUnification, ssl.quorum.keyStore.password (TLS comes later); "
        "leader.maxConcurrentSnapSyncs (every learner is synchronised as soon as it comes); "
        "leader.nonsense (unknown); "
        "observer.reconnectDelayMs, observer.election.DelayMs (an observer looks for its leader at once)"
    )
    assert load(tmp_path, text).warnings == []


@pytest.mark.parametrize("name", GUIDE.split())
def test_key_of_the_guide_is_honoured_or_explained_in_an_ensemble(tmp_path: Path, name: str) -> None:
    """Nothing that Java documents is unknown or passed over in silence: a value of its own is never without a word."""
    if name in ("dynamicConfigFile", "secureClientPortAddress", "dataDir"):
        return
    for value in ("7", "true", "x"):
        try:
            config = load(tmp_path, f"{THREE}{name}={value}\n")
        except ConfigError:
            continue
        assert not any("(unknown)" in warning for warning in config.warnings), name


# Whatever else Java reads between servers: QuorumPeerConfig, and by -D the classes of its package `server.quorum`, each
# with a value that is not the default.
QUORUM_KEYS = {
    "initLimit": "11", "syncLimit": "6", "connectToLearnerMasterLimit": "7", "electionAlg": "1", "peerType": "observer",
    "quorumListenOnAllIPs": "true", "standaloneEnabled": "false", "reconfigEnabled": "true", "syncEnabled": "false",
    "localSessionsEnabled": "true", "localSessionsUpgradingEnabled": "true", "observerMasterPort": "7",
    "sslQuorum": "true", "portUnification": "true", "sslQuorumReloadCertFiles": "true", "oraclePath": "/x",
    "quorum.auth.enableSasl": "true", "quorum.auth.learnerRequireSasl": "true", "quorum.auth.serverRequireSasl": "true",
    "quorum.auth.learner.saslLoginContext": "x", "quorum.auth.server.saslLoginContext": "x",
    "quorum.auth.kerberos.servicePrincipal": "x", "quorum.cnxn.threads.size": "7", "multiAddress.enabled": "true",
    "multiAddress.reachabilityCheckTimeoutMs": "7", "multiAddress.reachabilityCheckEnabled": "true",
}  # fmt: skip
QUORUM_PROPERTIES = {
    "zookeeper.leaderServes": "no", "zookeeper.cnxTimeout": "7", "zookeeper.quorumCnxnTimeoutMs": "7",
    "zookeeper.electionPortBindRetry": "7", "zookeeper.fastleader.minNotificationInterval": "7",
    "zookeeper.fastleader.maxNotificationInterval": "7", "zookeeper.leaderConnectDelayDuringRetryMs": "7",
    "zookeeper.forceSnapshotSync": "true", "zookeeper.commitLogCount": "700", "zookeeper.snapshotSizeFactor": "0.5",
    "zookeeper.tcpKeepAlive": "true", "zookeeper.learner.asyncSending": "7", "zookeeper.leader.asyncSending": "7",
    "zookeeper.leader.maxConcurrentSnapSyncs": "7", "zookeeper.leader.maxConcurrentDiffSyncs": "7",
    "zookeeper.leader.maxTimeToWaitForEpoch": "7", "zookeeper.leader.ackLoggingFrequency": "7",
    "zookeeper.leader.closeSocketAsync": "false", "zookeeper.learner.closeSocketAsync": "false",
    "zookeeper.observer.syncEnabled": "false", "zookeeper.observer.reconnectDelayMs": "7",
    "zookeeper.observer.election.DelayMs": "7", "zookeeper.observerMaster.sizeLimit": "7",
    "zookeeper.commitProcessor.numWorkerThreads": "7", "zookeeper.commitProcessor.shutdownTimeout": "7",
    "zookeeper.commitProcessor.maxReadBatchSize": "7", "zookeeper.commitProcessor.maxCommitBatchSize": "7",
    "zookeeper.forward_learner_requests_to_commit_processor_disabled": "true",
    "zookeeper.follower.skipLearnerRequestToNextProcessor": "true", "zookeeper.multiAddress.enabled": "true",
    "zookeeper.multiAddress.reachabilityCheckTimeoutMs": "7", "zookeeper.messageTracker.Enabled": "true",
    "zookeeper.messageTracker.BufferSize": "7", "zookeeper.test.allowDiscontinuousProposals": "true",
    "zookeeper.ssl.quorum.keyStore.location": "x", "zookeeper.testingonly.initialZxid": "7", "leader.nodelay": "false",
    "follower.nodelay": "false", "readonlymode.enabled": "true", "zookeeper.enableEagerACLCheck": "7",
    "zookeeper.request_throttle_max_requests": "7", "zookeeper.closeSessionTxn.enabled": "false",
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [*QUORUM_KEYS.items(), *QUORUM_PROPERTIES.items()])
def test_no_key_between_servers_is_passed_over_in_silence(tmp_path: Path, name: str, value: str) -> None:
    """It is refused, or sets something, or is named with the reason why it does not."""
    properties = {name.replace(".", "__"): value} if name in QUORUM_PROPERTIES else {}
    refused, config, default = "", None, load(tmp_path, THREE)
    try:
        config = load(tmp_path, THREE if properties else f"{THREE}{name}={value}\n", **properties)
    except ConfigError as error:
        refused = str(error)
    if config is None:
        assert name in refused or "quorum.auth." in refused
        return
    named = [warning for warning in config.warnings if name.removeprefix("zookeeper.") in warning]
    assert not any("(unknown)" in warning for warning in named)
    assert named or replace(config, warnings=[]) != replace(default, warnings=[])


def test_a_stranger_s_key_is_named(tmp_path: Path) -> None:
    """Java makes a property of it without a word."""
    assert load(tmp_path, f"{THREE}leaderServe=no\n").warnings == ["keys without effect: leaderServe (unknown)"]


def test_dynamic_file_of_an_ensemble(tmp_path: Path) -> None:
    """Its version is in its name; what a reconfiguration left behind is read only where there are any."""
    dynamic = tmp_path / "zoo.cfg.dynamic.100000000"
    dynamic.write_text(f"{THREE}group.1=1:2:3\n")
    config = load(tmp_path, f"dynamicConfigFile={dynamic}\n")
    assert view_text(config).endswith("group.1=1:2:3 weight.1=1 weight.2=1 weight.3=1 version=100000000")
    assert config.warnings == []
    (tmp_path / "zoo.cfg.dynamic.next").write_text(THREE)
    (warning,) = load(tmp_path, f"dynamicConfigFile={dynamic}\n").warnings
    assert warning.endswith("zoo.cfg.dynamic.next is ignored without reconfigEnabled=true")
    enabled = f"dynamicConfigFile={dynamic}\nreconfigEnabled=true\n"
    (tmp_path / "zoo.cfg.dynamic.next").write_text("server.1=h:1:2:participant\nversion=200000001")
    config = load(tmp_path, enabled)
    assert config.warnings == []
    assert config.seen is not None
    assert (config.seen.version, config.seen.voters()) == (0x200000001, [1])
    # Without a dynamic file Java does not look for it either.
    assert load(tmp_path, f"{THREE}reconfigEnabled=true\n").seen is None
    (tmp_path / "zoo.cfg.dynamic.next").write_text("server.1=nonsense")
    config = load(tmp_path, enabled)
    assert config.seen is None
    assert "zoo.cfg.dynamic.next is ignored: server.1" in config.warnings[0]
    dynamic.write_text(f"{THREE}group.1=1:2:x\n")
    assert refusal(tmp_path, f"dynamicConfigFile={dynamic}\n") == (
        "TMP/zoo.cfg.dynamic.100000000 line 4: group.1: a server id is not a whole number"
    )


@pytest.mark.parametrize(("text", "value"), [("0.5", 0.5), ("-1", -1.0), ("+.5e1", 5.0), ("1.", 1.0), ("1E-2", 0.01)])
def test_decimals(text: str, value: float) -> None:
    assert strict_float(text) == value


@pytest.mark.parametrize("text", ["", "nan", "inf", "1_0", "0x1p3", " 1", "e5", ".", "1" * 99])
def test_what_is_no_decimal(text: str) -> None:
    with pytest.raises(ValueError):
        strict_float(text)
