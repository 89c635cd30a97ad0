"""The keys of zoo.cfg and the Java system properties: which field of ServerConfig each sets, or why it sets none.

Knows names, types and reasons; must not know files or what a server does with a value.
Invariant: every key of QuorumPeerConfig and of the administrator's guide stands in exactly one of the tables below.
Sources: QuorumPeerConfig.parseProperties (strict keys), and for properties the class that reads each one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

DEFAULT_METRICS_PROVIDER: Final = "org.apache.zookeeper.metrics.impl.DefaultMetricsProvider"

Value = bool | int | float | str

_DECIMAL: Final = re.compile(r"[+-]?([0-9]{1,40}\.?[0-9]{0,40}|\.[0-9]{1,40})([eE][+-]?[0-9]{1,3})?")
_INT_MIN: Final = -(2**31)
_INT_MAX: Final = 2**31 - 1
_LONG_MIN: Final = -(2**63)
_LONG_MAX: Final = 2**63 - 1


def _parse(text: str, low: int, high: int) -> int:
    digits = text[1:] if text[:1] in ("+", "-") else text
    # Integer.parseInt: an optional sign and decimal digits, nothing else (int() would take blanks and underscores).
    if not digits.isdecimal():
        raise ValueError("not a whole number")
    # The length first: Python refuses to convert thousands of digits, and the range is clear without it.
    if len(digits) > 40 or not low <= int(text) <= high:
        raise ValueError(f"not between {low} and {high}")
    return int(text)


def strict_int(text: str) -> int:
    """Integer.parseInt. Raises ValueError."""
    return _parse(text, _INT_MIN, _INT_MAX)


def strict_long(text: str) -> int:
    """Long.parseLong. Raises ValueError."""
    return _parse(text, _LONG_MIN, _LONG_MAX)


def strict_bool(text: str) -> bool:
    """QuorumPeerConfig.parseBoolean. Raises ValueError."""
    word = text.lower()
    if word not in ("true", "false"):
        raise ValueError("neither true nor false")
    return word == "true"


def strict_text(text: str) -> str:
    return text


def _decode(text: str, low: int, high: int) -> int:
    sign = text[0] if text[:1] in ("+", "-") else ""
    digits = text[len(sign) :]
    for prefix, base in (("0x", 16), ("0X", 16), ("#", 16), ("0", 8)):
        if digits.startswith(prefix) and len(digits) > len(prefix):
            body = digits[len(prefix) :]
            if len(body) > 40 or not body.isalnum():
                raise ValueError("not a whole number")
            return _parse(sign + str(int(body, base)), low, high)
    return _parse(text, low, high)


def decoded_int(text: str) -> int:
    """Integer.getInteger, which also reads 0x10 and 010. Raises ValueError where Java takes the default."""
    return _decode(text, _INT_MIN, _INT_MAX)


def decoded_long(text: str) -> int:
    """Long.getLong. Raises ValueError where Java takes the default."""
    return _decode(text, _LONG_MIN, _LONG_MAX)


def strict_float(text: str) -> float:
    """Double.parseDouble, in plain decimals. Raises ValueError."""
    if not _DECIMAL.fullmatch(text):
        raise ValueError("not a decimal number")
    return float(text)


def is_true(text: str) -> bool:
    """Boolean.parseBoolean: what is not `true` is false."""
    return text.lower() == "true"


def is_yes(text: str) -> bool:
    """`zookeeper.skipACL`: only an exact `yes`."""
    return text == "yes"


def is_not_no(text: str) -> bool:
    """`zookeeper.forceSync`, `zookeeper.leaderServes`: all but an exact `no`."""
    return text != "no"


class Key(NamedTuple):
    """A name, the field of ServerConfig that it sets, and how its text is read."""

    name: str
    field: str
    read: Callable[[str], Value]


# Keys with a branch of their own in QuorumPeerConfig: a value that cannot be read stops the server.
ZOO_KEYS: Final = (
    Key("dataDir", "data_dir", strict_text),
    Key("dataLogDir", "data_log_dir", strict_text),
    Key("clientPort", "client_port", strict_int),
    Key("clientPortAddress", "client_address", strict_text),
    Key("secureClientPort", "secure_client_port", strict_int),
    Key("secureClientPortAddress", "secure_client_address", strict_text),
    Key("clientPortListenBacklog", "listen_backlog", strict_int),
    Key("tickTime", "tick_time_ms", strict_int),
    Key("maxClientCnxns", "max_client_cnxns", strict_int),
    Key("minSessionTimeout", "min_session_timeout_ms", strict_int),
    Key("maxSessionTimeout", "max_session_timeout_ms", strict_int),
    Key("autopurge.snapRetainCount", "snap_retain_count", strict_int),
    Key("autopurge.purgeInterval", "purge_interval_h", strict_int),
    Key("standaloneEnabled", "standalone_enabled", strict_bool),
    Key("reconfigEnabled", "reconfig_enabled", strict_bool),
    Key("dynamicConfigFile", "dynamic_config_file", strict_text),
    Key("initLimit", "init_limit", strict_int),
    Key("syncLimit", "sync_limit", strict_int),
    Key("connectToLearnerMasterLimit", "connect_limit", strict_int),
    Key("quorumListenOnAllIPs", "quorum_listen_on_all", strict_bool),
    Key("electionAlg", "election_alg", strict_int),
    Key("peerType", "peer_type", strict_text),
    Key("quorum.auth.enableSasl", "quorum_sasl", strict_bool),
    Key("quorum.auth.learnerRequireSasl", "quorum_learner_sasl", strict_bool),
    Key("quorum.auth.serverRequireSasl", "quorum_server_sasl", strict_bool),
    Key("metricsProvider.className", "metrics_provider", strict_text),
)

# The same for what only ensembles and JVMs use: without a field, yet a value that cannot be read stops the server too.
CHECKED_KEYS: Final = (
    *(
        Key(name, "", strict_bool)
        for name in (
            "localSessionsEnabled", "localSessionsUpgradingEnabled", "syncEnabled", "sslQuorum",
            "portUnification", "sslQuorumReloadCertFiles", "multiAddress.enabled",
            "multiAddress.reachabilityCheckEnabled", "jvm.pause.monitor",
        )
    ),
    *(
        Key(name, "", strict_int)
        for name in (
            "observerMasterPort", "quorum.cnxn.threads.size", "multiAddress.reachabilityCheckTimeoutMs",
        )
    ),
    *(
        Key(name, "", strict_long)
        for name in ("jvm.pause.info-threshold.ms", "jvm.pause.warn-threshold.ms", "jvm.pause.sleep.time.ms")
    ),
)  # fmt: skip

# System properties. A value that cannot be read leaves the default, as Integer.getInteger does; coati says so.
PROPERTIES: Final = (
    Key("jute.maxbuffer", "max_buffer_bytes", decoded_int),
    Key("zookeeper.jute.maxbuffer.extrasize", "max_buffer_extra_bytes", decoded_int),
    Key("zookeeper.globalOutstandingLimit", "global_outstanding_limit", decoded_int),
    Key("zookeeper.preAllocSize", "pre_alloc_kb", strict_long),
    Key("zookeeper.snapCount", "snap_count", decoded_int),
    Key("zookeeper.snapSizeLimitInKb", "snap_size_limit_kb", decoded_long),
    Key("zookeeper.txnLogSizeLimitInKb", "txn_log_size_limit_kb", decoded_long),
    Key("zookeeper.forceSync", "force_sync", is_not_no),
    Key("fsync.warningthresholdms", "fsync_warning_ms", decoded_long),
    Key("zookeeper.fsync.warningthresholdms", "fsync_warning_ms", decoded_long),
    Key("zookeeper.snapshot.compression.method", "snapshot_compression", strict_text),
    Key("zookeeper.snapshot.trust.empty", "snapshot_trust_empty", is_true),
    Key("zookeeper.datadir.autocreate", "data_dir_autocreate", is_true),
    Key("zookeeper.db.autocreate", "db_autocreate", is_true),
    Key("zookeeper.digest.enabled", "digest_enabled", is_true),
    Key("zookeeper.serializeLastProcessedZxid.enabled", "serialize_last_processed_zxid", is_true),
    Key("zookeeper.extendedTypesEnabled", "extended_types", is_true),
    Key("zookeeper.emulate353TTLNodes", "emulate_353_ttl", is_true),
    Key("znode.container.checkIntervalMs", "container_check_interval_ms", decoded_int),
    Key("znode.container.maxPerMinute", "container_max_per_minute", decoded_int),
    Key("znode.container.maxNeverUsedIntervalMs", "container_max_never_used_ms", decoded_long),
    Key("zookeeper.enforceQuota", "enforce_quota", is_true),
    Key("zookeeper.skipACL", "skip_acl", is_yes),
    Key("zookeeper.maxCnxns", "max_cnxns", decoded_int),
    Key("zookeeper.nio.sessionlessCnxnTimeout", "sessionless_timeout_ms", decoded_int),
    Key("zookeeper.clientTcpKeepAlive", "client_tcp_keepalive", is_true),
    Key("zookeeper.4lw.commands.whitelist", "four_letter_whitelist", strict_text),
    Key("readonlymode.enabled", "read_only_mode", is_true),
    Key("zookeeper.DigestAuthenticationProvider.superDigest", "super_digest", strict_text),
    Key("zookeeper.DigestAuthenticationProvider.digestAlg", "digest_algorithm", strict_text),
    Key("zookeeper.DigestAuthenticationProvider.enabled", "digest_auth_enabled", is_true),
    Key("zookeeper.enforce.auth.enabled", "enforce_auth", is_true),
    Key("zookeeper.enforce.auth.schemes", "enforce_auth_schemes", strict_text),
    Key("zookeeper.sessionRequireClientSASLAuth", "require_sasl", is_true),
    Key("zookeeper.leaderServes", "leader_serves", is_not_no),
    Key("zookeeper.cnxTimeout", "cnx_timeout_ms", strict_int),
    Key("zookeeper.quorumCnxnTimeoutMs", "quorum_cnxn_timeout_ms", decoded_int),
    Key("zookeeper.electionPortBindRetry", "election_bind_retries", decoded_int),
    Key("zookeeper.fastleader.minNotificationInterval", "min_notification_ms", decoded_int),
    Key("zookeeper.fastleader.maxNotificationInterval", "max_notification_ms", decoded_int),
    Key("zookeeper.leaderConnectDelayDuringRetryMs", "leader_connect_delay_ms", decoded_int),
    Key("zookeeper.forceSnapshotSync", "force_snapshot_sync", is_true),
    Key("zookeeper.commitLogCount", "commit_log_count", strict_int),
    Key("zookeeper.snapshotSizeFactor", "snapshot_size_factor", strict_float),
    Key("zookeeper.tcpKeepAlive", "quorum_tcp_keepalive", is_true),
    # Ours, unknown to Java: server/busypoll.py, zab/rounds.py.
    Key("zookeeper.busyPollMicros", "busy_poll_us", decoded_int),
    Key("zookeeper.linearizableSync", "linearizable_sync", is_true),
)


class Unused(NamedTuple):
    """Names (a trailing `*` stands for anything) that set nothing, why, and the values which lose nothing by it."""

    names: tuple[str, ...]
    reason: str
    harmless: tuple[str, ...] = ()

    def is_harmless(self, value: str) -> bool:
        return value in self.harmless or value.lower() in self.harmless


# Only an ensemble reads these, in Java too: a server that runs alone says no word of them. Names of zoo.cfg; the
# others become properties.
ENSEMBLE_KEYS: Final = (
    "server.*", "group*", "weight*", "connectToLearnerMasterLimit", "quorumListenOnAllIPs", "observerMasterPort",
    "syncEnabled", "localSessionsEnabled", "localSessionsUpgradingEnabled", "sslQuorum", "portUnification",
    "sslQuorumReloadCertFiles", "quorum.auth.*", "quorum.cnxn.threads.size", "multiAddress.*", "oraclePath",
    "zookeeper.leaderServes", "zookeeper.cnxTimeout", "zookeeper.quorumCnxnTimeoutMs",
    "zookeeper.electionPortBindRetry",
    "zookeeper.fastleader.*", "zookeeper.leader.*", "zookeeper.learner.*", "zookeeper.leaderConnectDelayDuringRetryMs",
    "zookeeper.forward_learner_requests_to_commit_processor_disabled", "zookeeper.observer.*",
    "zookeeper.follower.skipLearnerRequestToNextProcessor", "zookeeper.observerMaster.*", "zookeeper.forceSnapshotSync",
    "zookeeper.commitLogCount", "zookeeper.snapshotSizeFactor", "zookeeper.tcpKeepAlive", "zookeeper.messageTracker.*",
    "zookeeper.commitProcessor.*", "zookeeper.ssl.quorum.*", "zookeeper.multiAddress.*", "leader.nodelay",
    "follower.nodelay", "zookeeper.linearizableSync", "zookeeper.test.allowDiscontinuousProposals",
)  # fmt: skip

_TLS: Final = "TLS comes later"
_SASL: Final = "SASL comes later"
_ADMIN: Final = "the admin HTTP server comes later"
_LOOP: Final = "one event loop does this work, there is no thread pool to tune"
_BATCH: Final = "a sync starts as soon as the disk is free and covers all that waits"
_CACHE: Final = "the encoded reply is kept with each znode"
_WATCHES: Final = "there is one kind of watch table, which needs no cleaner"
_THROTTLE: Final = "globalOutstandingLimit and back-pressure per connection are the throttle"
_METRICS: Final = "the Prometheus exporter comes later; see the four-letter word mntr"
_JVM: Final = "there is no JVM"
_PATHS: Final = "the log of hot paths comes later"
_PROPERTY_ONLY: Final = "Java reads it as a system property only; give it as -D"

UNUSED: Final = (
    Unused(("secureClientPort", "secureClientPortAddress"), _TLS),
    Unused(("zookeeper.ssl.*", "zookeeper.fips-mode", "zookeeper.client.portUnification"), _TLS),
    Unused(("zookeeper.client.certReload", "zookeeper.netty.*"), _TLS, ("false",)),
    Unused(("zookeeper.X509AuthenticationProvider.*", "zookeeper.superUser*"), _TLS),
    Unused(("zookeeper.sasl.*", "zookeeper.kerberos.*", "zookeeper.requireKerberosConfig"), _SASL, ("false",)),
    Unused(("zookeeper.SASLAuthenticationProvider.*", "zookeeper.letAnySaslUserDoX"), _SASL),
    Unused(("zookeeper.allowSaslFailedClients", "zookeeper.security.*", "java.security.*"), _SASL, ("false",)),
    Unused(("zookeeper.authProvider.*", "zookeeper.ensembleAuthName"), "Java classes cannot be loaded"),
    Unused(("zookeeper.admin.enableServer",), _ADMIN, ("false",)),
    Unused(("zookeeper.admin.*", "zookeeper.IPAuthenticationProvider.usexforwardedfor"), _ADMIN, ("false",)),
    Unused(("zookeeper.audit.*",), "the audit log comes later", ("false",)),
    Unused(("metricsProvider.className",), _METRICS, (DEFAULT_METRICS_PROVIDER,)),
    Unused(("metricsProvider.*",), _METRICS),
    Unused(("zookeeper.serverCnxnFactory",), _LOOP, ("org.apache.zookeeper.server.NIOServerCnxnFactory",)),
    Unused(("zookeeper.nio.*", "zookeeper.intBufferStartingSizeBytes"), _LOOP),
    Unused(("zookeeper.flushDelay", "zookeeper.maxBatchSize", "zookeeper.maxWriteQueuePollTime"), _BATCH),
    Unused(("zookeeper.maxResponseCacheSize", "zookeeper.maxGetChildrenResponseCacheSize"), _CACHE),
    Unused(("zookeeper.watchManagerName",), _WATCHES, ("org.apache.zookeeper.server.watch.WatchManager",)),
    Unused(("zookeeper.watcherClean*", "zookeeper.bitHashCacheSize"), _WATCHES),
    Unused(("zookeeper.maxInProcessingDeadWatchers",), _WATCHES),
    Unused(("zookeeper.connection_throttle_*", "zookeeper.request_*", "zookeeper.throttled_op_wait_time"), _THROTTLE),
    Unused(("zookeeper.largeRequestMaxBytes", "zookeeper.largeRequestThreshold"), _THROTTLE),
    Unused(("zookeeper.closeSessionTxn.enabled",), "the txn that ends a session always lists its znodes", ("true",)),
    Unused(("zookeeper.pathStats.*",), _PATHS, ("false",)),
    Unused(("zookeeper.enableEagerACLCheck",), "a standalone server always checks before it logs", ("false", "true")),
    Unused(("jvm.pause.*", "zookeeper.jmx.*", "zookeeper.controllerPort", "java.*"), _JVM, ("false",)),
    Unused(("zookeeper.jute.maxbuffer", "zookeeper.readonlymode.enabled"), _PROPERTY_ONLY),
    Unused(("zookeeper.znode.container.*",), _PROPERTY_ONLY),
    Unused(("zookeeper.testingonly.initialZxid",), "it exists for Java's own tests only"),
    Unused(("zookeeper.server.*", "zookeeper.client.*", "zookeeper.clientCnxnSocket"), "only clients read it"),
    Unused(("zookeeper.request.timeout", "zookeeper.disableAutoWatchReset", "zookeeper.kinit"), "only clients read it"),
    Unused(("zookeeper.shuffleDnsResponse", "zookeeper.hostProvider.*"), "only clients read it"),
)  # fmt: skip


_OPEN_PORTS: Final = "without it anybody could speak to the ports between the servers"
# What an ensemble must not be run without by somebody who asked for it.
ENSEMBLE_REFUSED: Final = (
    Unused(("quorum.auth.enableSasl",), f"SASL between servers comes later, and {_OPEN_PORTS}", ("false",)),
    Unused(("sslQuorum",), f"TLS between servers comes later, and {_OPEN_PORTS}", ("false",)),
    Unused(("oraclePath",), "the oracle of two servers comes later, and they would not agree on what a quorum is"),
)

_LINKS: Final = "nothing waits for a link here"
_MASTER: Final = "observer masters come later; observers follow the leader"
_SOON: Final = "an observer looks for its leader at once"
_LOCAL: Final = "local sessions come later; all sessions are global"
_ADDRESSES: Final = "several addresses of one server come later"
_AT_ONCE: Final = "every learner is synchronised as soon as it comes"

# What an ensemble can do without, and why. The names that set a field stand in the tables above.
ENSEMBLE_UNUSED: Final = (
    Unused(("quorum.auth.*",), _SASL, ("false",)),
    Unused(("portUnification", "sslQuorumReloadCertFiles"), _TLS, ("false",)),
    Unused(("zookeeper.ssl.quorum.*",), _TLS),
    Unused(("localSessionsEnabled", "localSessionsUpgradingEnabled"), _LOCAL, ("false",)),
    Unused(("observerMasterPort",), _MASTER, ("0", "-1")),
    Unused(("zookeeper.observerMaster.*",), _MASTER),
    Unused(("syncEnabled", "zookeeper.observer.syncEnabled"), "observers always keep log and snapshots", ("true",)),
    Unused(("zookeeper.observer.reconnectDelayMs", "zookeeper.observer.election.DelayMs"), _SOON, ("0",)),
    Unused(("multiAddress.*", "zookeeper.multiAddress.*"), _ADDRESSES, ("false",)),
    Unused(("quorum.cnxn.threads.size", "zookeeper.commitProcessor.*"), _LOOP),
    Unused(("zookeeper.leader.maxConcurrentSnapSyncs", "zookeeper.leader.maxConcurrentDiffSyncs"), _AT_ONCE),
    Unused(("zookeeper.leader.maxTimeToWaitForEpoch",), "initLimit bounds this wait", ("-1",)),
    Unused(("zookeeper.leader.ackLoggingFrequency",), "delays of acks are not logged"),
    Unused(("zookeeper.leader.closeSocketAsync", "zookeeper.learner.closeSocketAsync"), _LINKS, ("true",)),
    Unused(("zookeeper.learner.asyncSending", "zookeeper.leader.asyncSending"), _LINKS, ("true",)),
    Unused(("leader.nodelay", "follower.nodelay"), "links never wait to fill a segment", ("true",)),
    Unused(("zookeeper.leader.nodelay", "zookeeper.follower.nodelay"), _PROPERTY_ONLY),
    Unused(
        (
            "zookeeper.forward_learner_requests_to_commit_processor_disabled",
            "zookeeper.follower.skipLearnerRequestToNextProcessor",
        ),
        "there is no chain of processors",
        ("false",),
    ),
    Unused(("zookeeper.messageTracker.*",), "learners' packets are not recorded", ("false",)),
    Unused(("zookeeper.test.allowDiscontinuousProposals",), "it exists for Java's own tests only", ("false",)),
)


def matches(pattern: str, name: str) -> bool:
    """Whether a name of the tables above, perhaps ending in `*`, means `name`."""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def find_unused(name: str, rows: tuple[Unused, ...] = UNUSED) -> Unused | None:
    """The row that explains why `name` sets nothing; an exact name goes before a pattern."""
    for wants_exact in (True, False):
        for row in rows:
            for pattern in row.names:
                if pattern.endswith("*") is not wants_exact and matches(pattern, name):
                    return row
    return None


def is_ensemble_key(name: str) -> bool:
    """Whether only ensembles read `name`."""
    return any(matches(pattern, name) for pattern in ENSEMBLE_KEYS)
