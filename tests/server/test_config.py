"""The configuration: Java's defaults, clamps and refusals (QuorumPeerConfig, ServerConfig of 3.9)."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import re
import tracemalloc
from pathlib import Path

import pytest

from coati.errors import ConfigError
from coati.server import config as config_module
from coati.server.config import Entry, ServerConfig, load_config
from coati.server.configkeys import (
    ENSEMBLE_KEYS,
    ENSEMBLE_REFUSED,
    ENSEMBLE_UNUSED,
    PROPERTIES,
    UNUSED,
    ZOO_KEYS,
    decoded_int,
    decoded_long,
    find_unused,
    is_ensemble_key,
    strict_int,
)

MINIMAL = "dataDir=data\nclientPort=2181\n"


def load(tmp_path: Path, text: str | bytes, **properties: str) -> ServerConfig:
    path = tmp_path / "zoo.cfg"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    given = {name.replace("__", "."): Entry(value, f"-D{name}") for name, value in properties.items()}
    return load_config(str(path), properties=given)


def refusal(tmp_path: Path, text: str | bytes, **properties: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, **properties)
    message = str(caught.value)
    assert "\n" not in message
    assert message.isprintable()
    assert len(message) < 400
    return message.replace(str(tmp_path), "TMP")


def test_config_of_the_sample_file(tmp_path: Path) -> None:
    """zoo_sample.cfg of the distribution, and no word of warning about it."""
    config = load(
        tmp_path,
        "# The number of milliseconds of each tick\ntickTime=2000\ninitLimit=10\nsyncLimit=5\n"
        "dataDir=/tmp/zookeeper\nclientPort=2181\n#maxClientCnxns=60\n",
    )
    assert (config.tick_time_ms, config.client_port, config.data_dir) == (2000, 2181, "/tmp/zookeeper")
    assert config.client_address == ""
    assert config.data_log_dir == "/tmp/zookeeper"
    assert (config.min_session_timeout_ms, config.max_session_timeout_ms) == (4000, 40000)
    assert config.max_client_cnxns == 60
    assert config.warnings == []


def test_config_without_a_tick_time_has_java_s_default(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL).tick_time_ms == 3000


def test_config_without_a_file_is_embedded() -> None:
    config = load_config(None)
    assert (config.client_address, config.client_port, config.data_dir) == ("127.0.0.1", 2181, "coati-data")
    assert config.tick_time_ms == 2000
    assert config.warnings == []


def test_flags_go_before_the_file(tmp_path: Path) -> None:
    path = tmp_path / "zoo.cfg"
    path.write_text(MINIMAL)
    config = load_config(
        str(path), overrides={"clientPort": Entry("0", "--client-port"), "tickTime": Entry("7", "--set")}
    )
    assert (config.client_port, config.tick_time_ms, config.data_dir) == (0, 7, "data")


def test_a_wrong_flag_is_named() -> None:
    with pytest.raises(ConfigError, match=r'^--client-port: clientPort: "x" is not a whole number$'):
        load_config(None, overrides={"clientPort": Entry("x", "--client-port")})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clientPort=2181", "dataDir is not set"),
        ("dataDir=\nclientPort=2181", "dataDir is not set"),
        ("dataDir=data", "clientPort is not set"),
        ("dataDir=data\nclientPortAddress=127.0.0.1", "clientPortAddress is set but clientPort is not set"),
        (
            MINIMAL + "secureClientPortAddress=127.0.0.1",
            "secureClientPortAddress is set but secureClientPort is not set",
        ),
        ("dataDir=data\nsecureClientPort=2281", "secureClientPort: TLS comes later; set clientPort"),
        (MINIMAL + "tickTime=0", "tickTime is not set"),
        (MINIMAL + "tickTime=-1", "tickTime: -1 is not between 1 and 107374182"),
        (MINIMAL + "tickTime=200000000", "tickTime: 200000000 is not between 1 and 107374182"),
        (MINIMAL + "tickTime=0x10", 'TMP/zoo.cfg line 3: tickTime: "0x10" is not a whole number'),
        (MINIMAL + "tickTime=1 000", 'TMP/zoo.cfg line 3: tickTime: "1 000" is not a whole number'),
        (MINIMAL + "tickTime=1_000", 'TMP/zoo.cfg line 3: tickTime: "1_000" is not a whole number'),
        (MINIMAL + "tickTime=", 'TMP/zoo.cfg line 3: tickTime: "" is not a whole number'),
        (
            MINIMAL + "tickTime=2147483648",
            'TMP/zoo.cfg line 3: tickTime: "2147483648" is not between -2147483648 and 2147483647',
        ),
        (MINIMAL + "maxClientCnxns=\\u0007", 'TMP/zoo.cfg line 3: maxClientCnxns: "" is not a whole number'),
        (MINIMAL + "maxClientCnxns=1\\n2", 'TMP/zoo.cfg line 3: maxClientCnxns: "1\\n2" is not a whole number'),
        ("dataDir=data\nclientPort=65536", "clientPort: 65536 is not between 0 and 65535"),
        ("dataDir=data\nclientPort=-2", "clientPort: -2 is not between 0 and 65535"),
        (MINIMAL + "minSessionTimeout=70000", "minSessionTimeout must not be larger than maxSessionTimeout"),
        (MINIMAL + "maxSessionTimeout=0", "minSessionTimeout must not be larger than maxSessionTimeout"),
        (MINIMAL + "reconfigEnabled=yes", 'TMP/zoo.cfg line 3: reconfigEnabled: "yes" is neither true nor false'),
        (MINIMAL + "electionAlg=0", "electionAlg: only 3 is supported"),
        (MINIMAL + "peerType=obsever", 'peerType: unrecognised peertype "obsever"'),
        (MINIMAL + "a=\\u12", "TMP/zoo.cfg: line 3: malformed \\uxxxx encoding"),
        ("dataDir=a\\u0000b\nclientPort=2181", "dataDir: a path cannot contain a zero byte"),
        (MINIMAL + "dataLogDir=a\\u0000b", "dataLogDir: a path cannot contain a zero byte"),
        (
            MINIMAL + "quorum.auth.learnerRequireSasl=true",
            "quorum.auth.enableSasl is disabled, so cannot enable quorum.auth.learnerRequireSasl",
        ),
        (
            MINIMAL + "quorum.auth.serverRequireSasl=true",
            "quorum.auth.enableSasl is disabled, so cannot enable quorum.auth.serverRequireSasl",
        ),
        (
            MINIMAL + "quorum.auth.enableSasl=true\nquorum.auth.serverRequireSasl=true",
            "quorum.auth.learnerRequireSasl is disabled, so cannot enable quorum.auth.serverRequireSasl",
        ),
    ],
)
def test_config_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(tmp_path, text) == message


def test_huge_number_is_refused_without_reading_it(tmp_path: Path) -> None:
    assert "is not between" in refusal(tmp_path, MINIMAL + "tickTime=" + "9" * 900_000)


def test_line_of_many_megabytes_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, MINIMAL + "#" * (10 << 20)) == (
        "TMP/zoo.cfg is larger than 1048576 bytes, so it is not a configuration"
    )


def test_file_of_a_hundred_megabytes_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "zoo.cfg"
    path.write_text(MINIMAL)
    os.truncate(path, 100 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match="is larger than 1048576 bytes, so it is not a configuration"):
            load_config(str(path))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_missing_file_and_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^cannot read .*none\.cfg: No such file or directory$"):
        load_config(str(tmp_path / "none.cfg"))
    with pytest.raises(ConfigError, match=r"is not a file$"):
        load_config(str(tmp_path))
    with pytest.raises(ConfigError, match=r"^cannot read a.x00b: not a path$"):
        load_config("a\0b")


def test_crlf_tabs_bom_and_continuation_are_fine(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbftickTime = 500\t\r\ndataDir=/a/\\\r\n  b\r\nclientPort : 1 \r\n"
    config = load(tmp_path, text)
    assert (config.tick_time_ms, config.data_dir, config.client_port) == (500, "/a/b", 1)


def test_last_of_two_equal_keys_counts(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL + "tickTime=1\ntickTime=2").tick_time_ms == 2


@pytest.mark.parametrize(
    ("text", "field", "value", "warning"),
    [
        ("autopurge.snapRetainCount=1", "snap_retain_count", 3, "autopurge.snapRetainCount: 1 is invalid; 3 is used"),
        ("autopurge.snapRetainCount=-5", "snap_retain_count", 3, "autopurge.snapRetainCount: -5 is invalid; 3 is used"),
        ("autopurge.snapRetainCount=4", "snap_retain_count", 4, None),
        ("autopurge.purgeInterval=-1", "purge_interval_h", -1, None),
        ("snapCount=0", "snap_count", 2, "snapCount: 0 is too small; 2 is used"),
        ("snapCount=1", "snap_count", 2, "snapCount: 1 is too small; 2 is used"),
        ("snapCount=0x10", "snap_count", 16, None),
        (
            "snapCount=many",
            "snap_count",
            100_000,
            (
                'TMP/zoo.cfg line 3: zookeeper.snapCount: "many" is not a whole number; the default 100000 is used, '
                "as Java does"
            ),
        ),
        ("preAllocSize=0", "pre_alloc_kb", 0, None),
        ("forceSync=no", "force_sync", False, None),
        ("forceSync=false", "force_sync", True, None),
        ("skipACL=yes", "skip_acl", True, None),
        ("skipACL=true", "skip_acl", False, None),
        ("enforceQuota=TRUE", "enforce_quota", True, None),
        ("digest.enabled=no", "digest_enabled", False, None),
        ("fsync.warningthresholdms=20", "fsync_warning_ms", 20, None),
        (
            "snapshot.compression.method=zip",
            "snapshot_compression",
            "",
            'snapshot.compression.method: "zip" is unknown, so snapshots stay plain',
        ),
        ("snapshot.compression.method=GZ", "snapshot_compression", "gz", None),
        (
            "nio.sessionlessCnxnTimeout=0",
            "sessionless_timeout_ms",
            10_000,
            "nio.sessionlessCnxnTimeout: 0 is not positive; the default 10000 is used",
        ),
        ("maxClientCnxns=0", "max_client_cnxns", 0, None),
        ("peerType=OBSERVER", "peer_type", "OBSERVER", "peerType: observer is ignored, the server runs standalone"),
        ("minSessionTimeout=-5", "min_session_timeout_ms", -5, None),
    ],
)
def test_values_are_clamped_as_java_does(
    tmp_path: Path, text: str, field: str, value: object, warning: str | None
) -> None:
    config = load(tmp_path, MINIMAL + text)
    assert getattr(config, field) == value
    assert [line.replace(str(tmp_path), "TMP") for line in config.warnings] == ([warning] if warning else [])


@pytest.mark.parametrize(
    ("buffer", "extra", "both"),
    [
        (None, None, (1048575, 1048575)),
        ("4194304", None, (4194304, 4194304)),
        ("10", None, (10, 1024)),
        ("2147483648", None, (1048575, 1048575)),  # no int, so Integer.getInteger takes the default
        ("2147483647", None, (2147483647, 0)),
        ("1000", "10", (1000, 1024)),
        ("1000", "5000", (1000, 5000)),
    ],
)
def test_frame_and_field_limits(tmp_path: Path, buffer: str | None, extra: str | None, both: tuple[int, int]) -> None:
    """BinaryInputArchive's static block."""
    properties = {"jute__maxbuffer": buffer, "zookeeper__jute__maxbuffer__extrasize": extra}
    config = load(tmp_path, MINIMAL, **{name: value for name, value in properties.items() if value is not None})
    assert (config.max_buffer_bytes, config.max_buffer_extra_bytes) == both


def test_properties_come_with_prefix_and_without(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        MINIMAL + "globalOutstandingLimit=5",
        zookeeper__snapCount="77",
        zookeeper__globalOutstandingLimit="9",
        znode__container__maxPerMinute="3",
        readonlymode__enabled="true",
    )
    assert config.snap_count == 77
    assert config.global_outstanding_limit == 5  # the file is read later than the command line
    assert config.container_max_per_minute == 3
    assert config.read_only_mode
    assert config.warnings == []


# Keys without effect: one warning, no values.


def test_keys_without_effect_are_named_once_with_the_reason(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        MINIMAL
        + "secureClientPort=2281\nssl.keyStore.password=hunter2\nadmin.serverPort=8080\njute.maxbuffer=5\n"
        + "ticktime=7\nflushDelay=3\nmetricsProvider.httpPort=7000\n",
        zookeeper__nio__numWorkerThreads="4",
    )
    assert config.warnings == [
        (
            "keys without effect: secureClientPort, ssl.keyStore.password (TLS comes later); "
            "metricsProvider.httpPort (the Prometheus exporter comes later; see the four-letter word mntr); "
            "nio.numWorkerThreads (one event loop does this work, there is no thread pool to tune); "
            "admin.serverPort (the admin HTTP server comes later); "
            "jute.maxbuffer (Java reads it as a system property only; give it as -D); "
            "ticktime (unknown); "
            "flushDelay (a sync starts as soon as the disk is free and covers all that waits)"
        )
    ]


def test_values_that_lose_nothing_are_not_mentioned(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        MINIMAL + "admin.enableServer=false\naudit.enable=false\nserverCnxnFactory="
        "org.apache.zookeeper.server.NIOServerCnxnFactory\nleaderServes=yes\nlocalSessionsEnabled=true\n"
        "metricsProvider.className=org.apache.zookeeper.metrics.impl.DefaultMetricsProvider\n",
    )
    assert config.warnings == []


def test_metrics_provider_is_mentioned(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL + "metricsProvider.className=org.apache.PrometheusMetricsProvider")
    assert [line.partition(" (")[0] for line in config.warnings] == ["keys without effect: metricsProvider.className"]


def test_many_unknown_keys_make_one_short_line(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL + "".join(f"key\\u0007{n}=x\n" for n in range(1000)))
    assert len(config.warnings) == 1
    assert config.warnings[0].endswith(" and 980 more (unknown)")
    assert config.warnings[0].isprintable()


@pytest.mark.parametrize("name", ["superDigest", "superUser", "ssl.keyStore.password", "SASL.superPassword"])
def test_secrets_are_never_shown(tmp_path: Path, name: str) -> None:
    config = load(tmp_path, MINIMAL + f"{name}=s3cret\nDigestAuthenticationProvider.superDigest=super:s3cret=\n")
    assert config.super_digest == "super:s3cret="
    assert "s3cret" not in repr(config)
    assert not any("s3cret" in line for line in config.warnings)


# Security: what cannot be enforced is refused, not ignored.

SASL = "authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "sessionRequireClientSASLAuth=true",
            "sessionRequireClientSASLAuth: SASL comes later, so no client could authenticate",
        ),
        (
            f"sessionRequireClientSASLAuth=true\n{SASL}\nenforce.auth.enabled=true\nenforce.auth.schemes=digest",
            "sessionRequireClientSASLAuth: SASL comes later, so no client could authenticate",
        ),
        ("enforce.auth.enabled=true", "enforce.auth.enabled: enforce.auth.schemes must be set as well"),
        (
            "enforce.auth.enabled=true\nenforce.auth.schemes=,digest",
            'enforce.auth.schemes: authentication scheme "" is not available',
        ),
        (
            "enforce.auth.enabled=true\nenforce.auth.schemes=digest,sasl",
            'enforce.auth.schemes: authentication scheme "sasl" is not available',
        ),
        (
            "enforce.auth.enabled=true\nenforce.auth.schemes=digest\nDigestAuthenticationProvider.enabled=false",
            'enforce.auth.schemes: authentication scheme "digest" is not available',
        ),
        (
            f"enforce.auth.enabled=true\nenforce.auth.schemes=sasl\n{SASL}",
            "enforce.auth.schemes: sasl comes later, so no client could authenticate",
        ),
    ],
)
def test_control_that_cannot_be_enforced_is_refused(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(tmp_path, MINIMAL + text) == message


@pytest.mark.parametrize(
    ("text", "schemes", "warning"),
    [
        ("enforce.auth.schemes=digest", (), "no client has to authenticate without enforce.auth.enabled"),
        ("enforce.auth.enabled=true\nenforce.auth.schemes= digest ,", ("digest",), ""),
        (
            "enforce.auth.enabled=TRUE\nenforce.auth.schemes=ip,digest",
            ("ip", "digest"),
            "with ip every client counts as authenticated",
        ),
        (
            f"enforce.auth.enabled=true\nenforce.auth.schemes=sasl,digest\n{SASL}",
            ("sasl", "digest"),
            "sasl comes later; clients must use another of the schemes",
        ),
    ],
)
def test_required_authentication(tmp_path: Path, text: str, schemes: tuple[str, ...], warning: str) -> None:
    """AuthenticationHelper.initConfigurations; the warnings are for doors that stand less closed than they look."""
    config = load(tmp_path, MINIMAL + text)
    assert config.required_schemes == schemes
    warnings = [line for line in config.warnings if line.startswith("enforce.auth.schemes: ")]
    assert warnings == ([f"enforce.auth.schemes: {warning}"] if warning else [])


@pytest.mark.parametrize(
    ("name", "hashed"), [("SHA1", "sha1"), ("sha-256", "sha256"), ("SHA3-512", "sha3_512"), ("MD5", "md5")]
)
def test_digest_algorithm_has_java_s_names(tmp_path: Path, name: str, hashed: str) -> None:
    config = load(tmp_path, f"{MINIMAL}DigestAuthenticationProvider.digestAlg={name}")
    assert config.hash_name == hashed
    assert hashed in hashlib.algorithms_guaranteed


def test_unknown_digest_algorithm_is_refused(tmp_path: Path) -> None:
    """Java finds out at the first authentication, and then refuses every one."""
    message = refusal(tmp_path, f"{MINIMAL}DigestAuthenticationProvider.digestAlg=ROT13")
    assert message.startswith('DigestAuthenticationProvider.digestAlg: "ROT13" is none of MD5, SHA, SHA1, SHA-1,')


# Server lists.

ONE = "server.1=127.0.0.1:2888:3888"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("standaloneEnabled=false", "standaloneEnabled=false needs at least one participant in the server list"),
        (
            "server.1=a:2888:3888:observer",
            "server.N: observers without participants are an invalid configuration",
        ),
        (
            f"{ONE}\nserver.2=b:2888:3888:observer",
            "server.N: observers without a quorum are an invalid configuration",
        ),
        ("server.x=a:2888:3888", "TMP/zoo.cfg line 3: server.x: the server id is not a whole number"),
    ],
)
def test_server_lists_are_refused(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(tmp_path, MINIMAL + text) == message


def test_list_of_one_server_runs_standalone(tmp_path: Path) -> None:
    config = load(tmp_path, f"{MINIMAL}{ONE}\nweight.1=1\ngroup.1=1")
    assert config.warnings == ["server.N: only one server specified; it is ignored and the server runs standalone"]


def with_myid(tmp_path: Path, content: bytes) -> str:
    data = tmp_path / "data"
    data.mkdir()
    (data / "myid").write_bytes(content)
    return f"dataDir={data}\n"


def test_client_port_may_come_from_the_server_list(tmp_path: Path) -> None:
    base = with_myid(tmp_path, b"1\n")
    config = load(tmp_path, base + f"{ONE};127.0.0.1:2185")
    assert (config.client_address, config.client_port) == ("127.0.0.1", 2185)
    config = load(tmp_path, base + f"clientPort=2185\n{ONE};2185")
    assert (config.client_address, config.client_port) == ("", 2185)
    assert refusal(tmp_path, base + f"clientPort=2181\n{ONE};2185") == (
        "clientPort: server.1 names another client address than the static keys"
    )


@pytest.mark.parametrize(
    ("content", "shown"), [(b"abc\n", "abc"), (b"", ""), (b"\n1", ""), (b"1 \n", "1 "), (b"\x00\xff", "\\x00\\xff")]
)
def test_myid_without_a_number_is_refused_with_its_path(tmp_path: Path, content: bytes, shown: str) -> None:
    base = with_myid(tmp_path, content)
    message = refusal(tmp_path, base + "clientPort=1")
    assert message.endswith(f'myid: serverid "{shown}" is not a whole number')
    assert "data" in message


@pytest.mark.parametrize("content", [b"1\n ", b"300", b"-1\r\n"])
def test_myid_is_of_no_interest_otherwise(tmp_path: Path, content: bytes) -> None:
    assert load(tmp_path, with_myid(tmp_path, content) + "clientPort=1").client_port == 1


def test_myid_that_is_a_directory_or_a_loop_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "myid").symlink_to("myid")
    assert load(tmp_path, f"dataDir={tmp_path / 'data'}\nclientPort=1").client_port == 1


def test_unreadable_myid_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = with_myid(tmp_path, b"1")

    def read_only_the_file(path: str, mode: str) -> object:
        if path.endswith("myid"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return open(path, mode)

    monkeypatch.setattr(config_module, "open", read_only_the_file, raising=False)
    assert refusal(tmp_path, base + "clientPort=1") == "cannot read TMP/data/myid: Permission denied"


def test_dynamic_file(tmp_path: Path) -> None:
    dynamic = tmp_path / "zoo.cfg.dynamic"
    text = f"{MINIMAL}dynamicConfigFile={dynamic}\n"
    assert "cannot read" in refusal(tmp_path, text)
    dynamic.write_text(ONE)
    assert "only one server" in load(tmp_path, text).warnings[0]
    assert refusal(tmp_path, text + ONE).endswith("server.1 must be in a separate dynamic config file")
    dynamic.write_text("version=100")
    assert refusal(tmp_path, text).endswith("line 1: dynamic file shouldn't have version inside")
    dynamic.write_text("tickTime=5")
    assert refusal(tmp_path, text).endswith("line 1: unrecognised parameter: tickTime")


# What QuorumPeerConfig.parse of 3.9.3 said to a file with dataDir, clientPort and these lines, when it was asked.

ACCEPTED = (
    "tickTime=+5", "tickTime= 7\t", "tickTime=107374182", "tickTime=\\u0033", "maxClientCnxns=-1",
    "minSessionTimeout=-5", "minSessionTimeout=-1", "clientPort=0", "clientPortAddress=127.0.0.1", "electionAlg=3",
    "peerType=observer", "peerType=Participant", "autopurge.snapRetainCount=0", "autopurge.purgeInterval=-1",
    "standaloneEnabled=TRUE", "server.1=127.0.0.1:1:2", "server.256=127.0.0.1:1:2", "server.1=[::1]:1:2",
    "server.1=127.0.0.1:1:2;2181", "snapCount=abc", "server.1=127.0.0.1:1:2\nweight.1=1\ngroup.1=1",
)  # fmt: skip
REFUSED = (
    "tickTime=0", "tickTime=-1", "tickTime=-3000", "tickTime=0x10", "tickTime=2147483647", "tickTime=107374183",
    "tickTime=1.5", "maxClientCnxns=a", "maxSessionTimeout=-2", "minSessionTimeout=70000",
    "minSessionTimeout=100\nmaxSessionTimeout=99", "clientPort=65536", "clientPort=-1", "clientPort=-2", "clientPort=",
    "electionAlg=1", "peerType=x", "autopurge.snapRetainCount=x", "standaloneEnabled=yes", "standaloneEnabled=false",
    "reconfigEnabled=1", "server.1=127.0.0.1:1:2:observer", "server.1=127.0.0.1:1:2\nserver.2=127.0.0.1:3:4:observer",
    "server.1=127.0.0.1:1", "server.1=127.0.0.1", "server.1=127.0.0.1:1:1", "server.x=127.0.0.1:1:2",
    "server.=127.0.0.1:1:2", "server.1=::1:1:2", "server.1=[::1:1:2", "server.1=127.0.0.1:1:2;2181;3",
    "server.1=127.0.0.1:1:2;x", "server.1=127.0.0.1:1:2:foo", "server.1=127.0.0.1:1:2|127.0.0.1:3:4", "server.1=",
    "server.1=127.0.0.1:70000:2", "quorum.auth.learnerRequireSasl=true", "quorum.auth.serverRequireSasl=true",
    "quorum.auth.enableSasl=true\nquorum.auth.serverRequireSasl=true", "dynamicConfigFile=/nonexistent",
    "secureClientPortAddress=127.0.0.1", "initLimit=abc", "syncLimit=", "connectToLearnerMasterLimit=x",
    "syncEnabled=x", "quorumListenOnAllIPs=x", "sslQuorum=x", "portUnification=7", "localSessionsEnabled=x",
    "quorum.cnxn.threads.size=x", "jvm.pause.monitor=x", "jvm.pause.warn-threshold.ms=x", "multiAddress.enabled=x",
    "observerMasterPort=x", "clientPortListenBacklog=x", "server.1=127.0.0.1:1:2\ndynamicConfigFile=/x",
)  # fmt: skip


@pytest.mark.parametrize("text", ACCEPTED)
def test_what_java_accepts_is_accepted(tmp_path: Path, text: str) -> None:
    load(tmp_path, f"{MINIMAL}{text}\n")


@pytest.mark.parametrize("text", REFUSED)
def test_what_java_refuses_is_refused(tmp_path: Path, text: str) -> None:
    refusal(tmp_path, f"{MINIMAL}{text}\n")


# The tables.


def test_every_key_sets_a_field_of_its_type() -> None:
    fields = {field.name: field.type for field in dataclasses.fields(ServerConfig)}
    kinds = {"int": int, "bool": bool, "str": str, "float": float}
    for key in (*ZOO_KEYS, *PROPERTIES):
        sample = "7" if fields[key.field] in ("int", "float") else "true"
        assert type(key.read(sample)) is kinds[str(fields[key.field])], key.name


def test_every_field_is_set_by_a_key() -> None:
    fields = {field.name for field in dataclasses.fields(ServerConfig)} - {
        "warnings",
        "ensemble",
        "my_id",
        "path",
        "seen",
    }
    assert {key.field for key in (*ZOO_KEYS, *PROPERTIES)} == fields


# Read so that they can be checked or refused; their effect comes with the roles of an ensemble and TLS.
CHECKED_ONLY = {
    "secure_client_port", "secure_client_address", "dynamic_config_file",
    "peer_type", "quorum_sasl", "quorum_learner_sasl", "quorum_server_sasl", "metrics_provider",
    "require_sasl",
}  # fmt: skip


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(ServerConfig)])
def test_every_field_has_an_effect_somewhere(field: str) -> None:
    """Honoured means that somebody outside of the configuration looks at it."""
    source = Path(config_module.__file__).parent
    property_of = {
        "digest_algorithm": "hash_name",
        "enforce_auth": "required_schemes",
        "enforce_auth_schemes": "required_schemes",
        "quorum_cnxn_timeout_ms": "hello_timeout_ms",
    }
    pattern = re.compile(rf"\bconfig\.{property_of.get(field, field)}\b")
    users = [path.name for path in source.glob("*.py") if path.name != "config.py" and pattern.search(path.read_text())]
    assert bool(users) != (field in CHECKED_ONLY)


def test_tables_do_not_overlap() -> None:
    # Keys that are read so that they can be refused or reported.
    both = {"secureClientPort", "secureClientPortAddress", "metricsProvider.className"}
    unused = {name for row in UNUSED for name in row.names}
    assert {key.name for key in (*ZOO_KEYS, *PROPERTIES)} & unused == both
    assert not unused & {*ENSEMBLE_KEYS}
    ensemble = [name for row in (*ENSEMBLE_REFUSED, *ENSEMBLE_UNUSED) for name in row.names]
    assert len(set(ensemble)) == len(ensemble)
    assert {key.name for key in (*ZOO_KEYS, *PROPERTIES)} & {*ensemble} == {"quorum.auth.enableSasl"}
    assert len({name for row in UNUSED for name in row.names}) == sum(len(row.names) for row in UNUSED)


# Names of the administrator's guide and of QuorumPeerConfig, as they stand in zoo.cfg.
GUIDE = """
dataDir dataLogDir clientPort clientPortAddress secureClientPort secureClientPortAddress observerMasterPort
clientPortListenBacklog tickTime initLimit syncLimit connectToLearnerMasterLimit minSessionTimeout maxSessionTimeout
maxClientCnxns electionAlg quorumListenOnAllIPs peerType syncEnabled dynamicConfigFile autopurge.snapRetainCount
autopurge.purgeInterval standaloneEnabled reconfigEnabled localSessionsEnabled localSessionsUpgradingEnabled sslQuorum
portUnification sslQuorumReloadCertFiles quorum.auth.enableSasl quorum.auth.kerberos.servicePrincipal
quorum.cnxn.threads.size jvm.pause.monitor jvm.pause.info-threshold.ms metricsProvider.className
metricsProvider.httpPort multiAddress.enabled oraclePath jute.maxbuffer jute.maxbuffer.extrasize
globalOutstandingLimit preAllocSize snapCount snapSizeLimitInKb txnLogSizeLimitInKb commitLogCount snapshotSizeFactor
forceSync fsync.warningthresholdms flushDelay maxBatchSize maxWriteQueuePollTime maxResponseCacheSize
maxGetChildrenResponseCacheSize maxCnxns snapshot.compression.method snapshot.trust.empty datadir.autocreate
db.autocreate digest.enabled serializeLastProcessedZxid.enabled closeSessionTxn.enabled extendedTypesEnabled
emulate353TTLNodes znode.container.checkIntervalMs enforceQuota intBufferStartingSizeBytes
commitProcessor.numWorkerThreads watchManagerName watcherCleanThreadsNum maxInProcessingDeadWatchers bitHashCacheSize
pathStats.enabled messageTracker.BufferSize enableEagerACLCheck skipACL serverCnxnFactory nio.numSelectorThreads
nio.sessionlessCnxnTimeout netty.advancedFlowControl.enabled client.portUnification client.certReload tcpKeepAlive
clientTcpKeepAlive connection_throttle_tokens request_throttle_max_requests request_stale_latency_check
request_throttler.shutdownTimeout throttled_op_wait_time largeRequestMaxBytes largeRequestThreshold leaderServes
cnxTimeout quorumCnxnTimeoutMs electionPortBindRetry fastleader.minNotificationInterval leader.maxConcurrentSnapSyncs
learner.asyncSending leaderConnectDelayDuringRetryMs forward_learner_requests_to_commit_processor_disabled
follower.skipLearnerRequestToNextProcessor observer.reconnectDelayMs observerMaster.sizeLimit forceSnapshotSync
readonlymode.enabled 4lw.commands.whitelist admin.enableServer admin.serverPort audit.enable
DigestAuthenticationProvider.superDigest DigestAuthenticationProvider.digestAlg DigestAuthenticationProvider.enabled
X509AuthenticationProvider.superUser superUser SASLAuthenticationProvider.superPassword authProvider.1
ssl.authProvider enforce.auth.enabled enforce.auth.schemes sessionRequireClientSASLAuth allowSaslFailedClients
letAnySaslUserDoX ensembleAuthName IPAuthenticationProvider.usexforwardedfor ssl.keyStore.location
ssl.quorum.keyStore.location fips-mode sasl.serverconfig kerberos.removeHostFromPrincipal requireKerberosConfig
security.auth_to_local jmx.log4j.disable controllerPort client.secure clientCnxnSocket request.timeout
disableAutoWatchReset shuffleDnsResponse testingonly.initialZxid test.allowDiscontinuousProposals
"""


@pytest.mark.parametrize("name", GUIDE.split())
def test_key_of_the_guide_is_honoured_or_explained(name: str) -> None:
    """Nothing that Java documents is called unknown."""
    read = {key.name for key in (*ZOO_KEYS, *PROPERTIES)}
    assert any(
        candidate in read or find_unused(candidate) is not None or is_ensemble_key(candidate)
        for candidate in (name, f"zookeeper.{name}")
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10),
        ("+10", 10),
        ("-10", -10),
        ("0x1F", 31),
        ("0X1f", 31),
        ("#1f", 31),
        ("017", 15),
        ("0", 0),
        ("-0x2", -2),
    ],
)
def test_decoded_int_reads_as_integer_decode(text: str, value: int) -> None:
    assert decoded_int(text) == decoded_long(text) == value


@pytest.mark.parametrize("text", ["", "-", "0x", "x", "1.0", "08", "0xg", "1e3", "--1", "0x-1", "0x1_0", "1 "])
def test_decoded_int_refuses_what_integer_decode_refuses(text: str) -> None:
    with pytest.raises(ValueError):
        decoded_int(text)


@pytest.mark.parametrize(("text", "value"), [("+7", 7), ("-7", -7), ("007", 7), ("\u0663", 3)])
def test_strict_int_reads_as_integer_parse_int(text: str, value: int) -> None:
    """Character.isDigit includes other scripts' digits, in Java as here."""
    assert strict_int(text) == value
