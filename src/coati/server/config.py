"""The configuration of a server: zoo.cfg, system properties and flags in; one typed ServerConfig out.

Knows Java's rules for defaults, clamps and refusals, and the files that zoo.cfg names. Must not know what any room
does with a value. Sources: QuorumPeerConfig, ServerConfig, ZooKeeperServer, AuthenticationHelper (3.9.5).
Invariants: a refusal is a ConfigError of one line that names the key and where it stands; values of keys that may be
secret are never part of a message; nothing is logged here, `warnings` is for the caller to log.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from coati.errors import ConfigError
from coati.server.configkeys import (
    CHECKED_KEYS,
    DEFAULT_METRICS_PROVIDER,
    ENSEMBLE_REFUSED,
    ENSEMBLE_UNUSED,
    PROPERTIES,
    ZOO_KEYS,
    Key,
    find_unused,
    is_ensemble_key,
    strict_long,
)
from coati.server.members import Members, client_address, file_version, is_literal, is_member_key
from coati.server.properties import MAX_FILE_BYTES, java_trim, parse_properties
from coati.wire.addresses import canonical_host
from coati.zab.quorum import Server, View

DEFAULT_PORT: Final = 2181
NEXT_SUFFIX: Final = ".dynamic.next"
DEFAULT_DATA_DIR: Final = "coati-data"
# What `coati serve` without a file runs on: only this machine reaches it.
EMBEDDED: Final = {
    "clientPort": str(DEFAULT_PORT),
    "clientPortAddress": "127.0.0.1",
    "dataDir": DEFAULT_DATA_DIR,
    "tickTime": "2000",
}
MIN_SNAP_RETAIN_COUNT: Final = 3
MIN_COMMIT_LOG_COUNT: Final = 500
MIN_SNAP_COUNT: Final = 2
MIN_BUFFER_EXTRA_BYTES: Final = 1024
MAX_PORT: Final = 65535
MAX_EXTENDED_SERVER_ID: Final = 0xFE
SHOWN_VALUE_CHARS: Final = 60
SHOWN_PATH_CHARS: Final = 400
SHOWN_KEYS: Final = 20
_INT_MAX: Final = 2**31 - 1
# MessageDigest's names, which Java takes in any case, and hashlib's.
_HASHES: Final = {
    "MD5": "md5",
    "SHA": "sha1",
    "SHA1": "sha1",
    "SHA-1": "sha1",
    "SHA-224": "sha224",
    "SHA-256": "sha256",
    "SHA-384": "sha384",
    "SHA-512": "sha512",
    "SHA3-224": "sha3_224",
    "SHA3-256": "sha3_256",
    "SHA3-384": "sha3_384",
    "SHA3-512": "sha3_512",
}
_PROVIDERS: Final = "org.apache.zookeeper.server.auth"
_LATER_PROVIDERS: Final = {
    "sasl": f"{_PROVIDERS}.SASLAuthenticationProvider",
    "x509": f"{_PROVIDERS}.X509AuthenticationProvider",
}
_COMPRESSIONS: Final = ("", "gz", "snappy")


class Entry:
    """A value and where it comes from: `zoo.cfg line 3`, `--client-port`."""

    __slots__ = ("value", "where")

    def __init__(self, value: str, where: str) -> None:
        self.value = value
        self.where = where


@dataclass(slots=True)
class ServerConfig:
    """Everything a server can be told. Units are in the names; defaults are Java's."""

    data_dir: str = ""
    data_log_dir: str = ""
    client_port: int = -1
    client_address: str = ""  # empty: every address
    secure_client_port: int = -1
    secure_client_address: str = ""
    listen_backlog: int = -1
    tick_time_ms: int = 3000
    max_client_cnxns: int = 60
    max_cnxns: int = 0
    min_session_timeout_ms: int = -1
    max_session_timeout_ms: int = -1
    sessionless_timeout_ms: int = 10_000
    client_tcp_keepalive: bool = False
    snap_retain_count: int = MIN_SNAP_RETAIN_COUNT
    purge_interval_h: int = 0
    # Ensembles: who is in it (None: this server runs alone) and who of them this is. Limits are in ticks.
    ensemble: View | None = None
    my_id: int = -1
    # Where the members may change: the file this came from, and a later list that was seen there and may be no more.
    path: str = ""
    seen: View | None = None
    standalone_enabled: bool = True
    reconfig_enabled: bool = False
    dynamic_config_file: str = ""
    init_limit: int = 0
    sync_limit: int = 0
    connect_limit: int = 0  # 0: init_limit
    election_alg: int = 3
    peer_type: str = "participant"
    leader_serves: bool = True
    quorum_listen_on_all: bool = False
    quorum_tcp_keepalive: bool = False
    cnx_timeout_ms: int = 5000
    quorum_cnxn_timeout_ms: int = -1
    election_bind_retries: int = 3  # 0: for ever
    min_notification_ms: int = 200
    max_notification_ms: int = 60_000
    leader_connect_delay_ms: int = 100
    # What a leader sends to a learner that was away: txns it remembers, those of its log if they are at most so large a
    # part of its snapshot (below 0: never), else a snapshot.
    commit_log_count: int = MIN_COMMIT_LOG_COUNT
    snapshot_size_factor: float = 0.33
    force_snapshot_sync: bool = False
    # A sync waits until a quorum has shown that it still follows.
    linearizable_sync: bool = True
    quorum_sasl: bool = False
    quorum_learner_sasl: bool = False
    quorum_server_sasl: bool = False
    metrics_provider: str = DEFAULT_METRICS_PROVIDER
    # Requests.
    max_buffer_bytes: int = 0xFFFFF
    max_buffer_extra_bytes: int = -1
    global_outstanding_limit: int = 1000
    enforce_quota: bool = False
    skip_acl: bool = False
    extended_types: bool = False
    emulate_353_ttl: bool = False
    container_check_interval_ms: int = 60_000
    container_max_per_minute: int = 10_000
    container_max_never_used_ms: int = 0
    # Storage.
    pre_alloc_kb: int = 65536
    snap_count: int = 100_000
    snap_size_limit_kb: int = 4_194_304
    txn_log_size_limit_kb: int = -1
    force_sync: bool = True
    fsync_warning_ms: int = 1000
    # The longest time that the loop stays awake for one sync; 0: it does not.
    busy_poll_us: int = 300
    snapshot_compression: str = ""
    snapshot_trust_empty: bool = False
    data_dir_autocreate: bool = True
    db_autocreate: bool = True
    digest_enabled: bool = True
    serialize_last_processed_zxid: bool = True
    # Operations and security.
    four_letter_whitelist: str = ""
    read_only_mode: bool = False
    super_digest: str = field(default="", repr=False)
    digest_algorithm: str = "SHA1"  # Java's name; see `hash_name`
    digest_auth_enabled: bool = True
    enforce_auth: bool = False
    enforce_auth_schemes: str = ""
    require_sasl: bool = False
    # What the operator should read once, in order.
    warnings: list[str] = field(default_factory=list)

    @property
    def hash_name(self) -> str:
        """The digest algorithm as hashlib calls it."""
        return _HASHES[self.digest_algorithm.upper()]

    @property
    def is_observer(self) -> bool:
        """Whether this server follows without a vote: its line decides, not peerType."""
        return self.ensemble is not None and self.ensemble.servers[self.my_id].is_observer

    @property
    def hello_timeout_ms(self) -> int:
        """How long a server that connects may take to say who it is (QuorumPeer.createCnxnManager)."""
        given = self.quorum_cnxn_timeout_ms
        return given if given > 0 else self.tick_time_ms * self.sync_limit

    @property
    def required_schemes(self) -> tuple[str, ...]:
        """A client must have authenticated by one of these; empty: nobody has to."""
        # String.split drops empty parts at the end, and only there.
        parts = self.enforce_auth_schemes.rstrip(",").split(",") if self.enforce_auth else ()
        return tuple(java_trim(part) for part in parts)


def load_config(
    path: str | None, *, overrides: Mapping[str, Entry] | None = None, properties: Mapping[str, Entry] | None = None
) -> ServerConfig:
    """The configuration from a zoo.cfg (None: the embedded defaults), with flags over it.

    `overrides` are keys of zoo.cfg; `properties` are Java system properties, which a key of the file beats as in Java.
    Raises ConfigError.
    """
    if path is None:
        entries = {name: Entry(value, "the built-in defaults") for name, value in EMBEDDED.items()}
    else:
        entries = read_entries(path)
    entries.update(overrides or {})
    config = build_config(entries, dict(properties or {}))
    config.path = path or ""
    if config.ensemble is not None and os.path.exists(f"{path}{NEXT_SUFFIX}"):
        _read_next(config)
    return config


def _read_next(config: ServerConfig) -> None:
    """What a reconfig left behind that was not known to be committed (QuorumPeerConfig.parse)."""
    name = f"{config.path}{NEXT_SUFFIX}"
    if not config.reconfig_enabled:
        config.warnings.append(f"{shown(name, SHOWN_PATH_CHARS)} is ignored without reconfigEnabled=true")
    elif config.dynamic_config_file:
        try:
            config.seen = View.from_lines((key, entry.value) for key, entry in read_entries(name).items())
        except ConfigError as error:
            config.warnings.append(f"{shown(name, SHOWN_PATH_CHARS)} is ignored: {error}")


def read_entries(path: str) -> dict[str, Entry]:
    """The keys of a properties file. Raises ConfigError when it cannot be read or is malformed."""
    name = shown(path, SHOWN_PATH_CHARS)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ConfigError(f"{name} is not a file")
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise ConfigError(f"cannot read {name}: {reason}") from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{name} is larger than {MAX_FILE_BYTES} bytes, so it is not a configuration")
    try:
        found = parse_properties(data)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    return {key: Entry(item.value, f"{name} line {item.line}") for key, item in found.items()}


def build_config(entries: dict[str, Entry], properties: dict[str, Entry]) -> ServerConfig:
    """ServerConfig from keys of zoo.cfg and system properties. Raises ConfigError."""
    config = ServerConfig()
    known = {key.name: key for key in (*ZOO_KEYS, *CHECKED_KEYS)}
    for name, entry in entries.items():
        if name in known:
            _set_strictly(config, known[name], entry)
        elif not _is_parser_key(name):
            # QuorumPeerConfig: every key the parser does not know becomes a system property.
            properties[f"zookeeper.{name}"] = entry
    _set_properties(config, properties)
    _settle_times(config)
    _settle_storage(config)
    _settle_members(config, entries)
    _settle_addresses(config)
    _settle_security(config)
    _settle_required_schemes(config, properties)
    _warn_unused(config, entries, properties)
    return config


def shown(text: str, limit: int = SHOWN_VALUE_CHARS) -> str:
    """Text fit for a message: one line, no control characters, of bounded length."""
    safe = text.encode("unicode_escape").decode("ascii")
    return safe if len(safe) <= limit else safe[: limit - 3] + "..."


def _is_parser_key(name: str) -> bool:
    """Keys that QuorumPeerConfig reads itself though they set nothing here."""
    return is_ensemble_key(name) or name.startswith(("metricsProvider.", "jvm.pause."))


def _set_strictly(config: ServerConfig, key: Key, entry: Entry) -> None:
    try:
        value = key.read(entry.value)
        if key.field:
            setattr(config, key.field, value)
    except ValueError as error:
        raise ConfigError(f'{entry.where}: {key.name}: "{shown(entry.value)}" is {error}') from None


def _set_properties(config: ServerConfig, properties: Mapping[str, Entry]) -> None:
    for key in PROPERTIES:
        entry = properties.get(key.name)
        if entry is None:
            continue
        try:
            setattr(config, key.field, key.read(entry.value))
        except ValueError as error:
            # Integer.getInteger falls back to the default without a word; an operator wants to know.
            config.warnings.append(
                f'{entry.where}: {key.name}: "{shown(entry.value)}" is {error}; the default '
                f"{getattr(config, key.field)} is used, as Java does"
            )


def _settle_members(config: ServerConfig, entries: Mapping[str, Entry]) -> None:
    """Who is in the ensemble, and who this is; a list of one server runs alone. Source: setupQuorumPeerConfig."""
    version = 0
    static = entries
    if config.dynamic_config_file:
        entries = _read_dynamic(config, entries)
        version = file_version(config.dynamic_config_file)
    members = Members(version)
    for name, entry in entries.items():
        if is_member_key(name) or name == "version":
            try:
                members.read(name, entry.value)
            except ConfigError as error:
                raise ConfigError(f"{entry.where}: {shown(name)}: {error}") from None
    is_distributed = members.is_distributed(standalone_enabled=config.standalone_enabled)
    view = members.view() if members.participants else None
    config.my_id = _read_myid(config)
    for server in members.servers:
        if server.sid == config.my_id:
            _take_client_port(config, server)
    if is_distributed and view is not None:
        config.ensemble = view
        _settle_ensemble(config, members, static)
    else:
        _warn_alone(config, members)


def _read_dynamic(config: ServerConfig, entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """The keys of dynamicConfigFile, which must be the only place for such keys. Raises ConfigError."""
    for name, entry in entries.items():
        if is_member_key(name):
            raise ConfigError(f"{entry.where}: {shown(name)} must be in a separate dynamic config file")
    dynamic = read_entries(config.dynamic_config_file)
    for name, entry in dynamic.items():
        if name == "version":
            raise ConfigError(f"{entry.where}: dynamic file shouldn't have version inside")
        if not is_member_key(name):
            raise ConfigError(f"{entry.where}: unrecognised parameter: {shown(name)}")
    return dynamic


def _warn_alone(config: ServerConfig, members: Members) -> None:
    if members.servers:
        # HBase writes such a line; QuorumPeerMain then starts a standalone server.
        config.warnings.append("server.N: only one server specified; it is ignored and the server runs standalone")
    if config.peer_type.lower() == "observer":
        config.warnings.append("peerType: observer is ignored, the server runs standalone")


def _settle_ensemble(config: ServerConfig, members: Members, entries: Mapping[str, Entry]) -> None:
    """What an ensemble needs, and what it must not be asked for yet. Sources: checkValidity, QuorumPeer.start."""
    for name, entry in entries.items():
        row = find_unused(name, ENSEMBLE_REFUSED)
        if row is not None and not row.is_harmless(entry.value):
            raise ConfigError(f"{entry.where}: {name}: {row.reason}")
    for key, limit in (
        ("initLimit", config.init_limit),
        ("syncLimit", config.sync_limit),
        ("connectToLearnerMasterLimit", config.connect_limit or config.init_limit),
    ):
        if limit == 0:
            raise ConfigError(f"{key} is not set")
        # Java takes what is negative, or too much for an int, and then every wait is over at once.
        if not 0 < limit * config.tick_time_ms <= _INT_MAX:
            raise ConfigError(f"{key}: {limit} ticks of {config.tick_time_ms} ms are no time to wait")
    if config.my_id == -1:
        raise ConfigError(f"{shown(os.path.join(config.data_dir, 'myid'), SHOWN_PATH_CHARS)}: myid file is missing")
    if all(server.sid != config.my_id for server in members.servers):
        raise ConfigError(f"myid: my id {config.my_id} is not in the peer list")
    if config.extended_types and config.my_id > MAX_EXTENDED_SERVER_ID:
        # Its sessions would be taken for times to live (ZOOKEEPER-3113). Java finds out when it is about to serve
        # (EphemeralType.validateServerId), and looks again.
        raise ConfigError(f"myid: {config.my_id} is above {MAX_EXTENDED_SERVER_ID}, too large for extendedTypesEnabled")
    role = "observer" if config.is_observer else "participant"
    if config.peer_type.lower() != role:
        config.warnings.append(f"peerType: it does not match the server list, where server.{config.my_id} is {role}")
    warning = members.warning()
    if warning:
        config.warnings.append(warning)


def _read_myid(config: ServerConfig) -> int:
    """The number in dataDir/myid, or -1. Java refuses a file that holds none even where nobody needs it."""
    path = os.path.join(config.data_dir, "myid")
    if not os.path.isfile(path):
        return -1
    try:
        with open(path, "rb") as file:
            lines = file.read(SHOWN_VALUE_CHARS).splitlines()
    except OSError as error:
        raise ConfigError(f"cannot read {shown(path, SHOWN_PATH_CHARS)}: {error.strerror}") from None
    text = lines[0].decode("latin-1") if lines else ""
    try:
        return strict_long(text)
    except ValueError as error:
        raise ConfigError(f'{shown(path, SHOWN_PATH_CHARS)}: serverid "{shown(text)}" is {error}') from None


def _take_client_port(config: ServerConfig, server: Server) -> None:
    """The client port of the server list goes before the static one, which must not contradict it (setupClientPort)."""
    address, port = client_address(server)
    if port < 0:
        return
    static = canonical_host(config.client_address) if config.client_address else ""
    # Of a name nobody knows here whether it is that address.
    is_other = is_literal(static) and static not in (address, "0.0.0.0") and (is_literal(address) or not address)
    if config.client_port >= 0 and (config.client_port != port or is_other):
        raise ConfigError(f"clientPort: server.{server.sid} names another client address than the static keys")
    config.client_port = port
    config.client_address = address


def _settle_addresses(config: ServerConfig) -> None:
    for key, address, port in (
        ("clientPort", config.client_address, config.client_port),
        ("secureClientPort", config.secure_client_address, config.secure_client_port),
    ):
        if address and port == -1:
            raise ConfigError(f"{key}Address is set but {key} is not set")
        if not -1 <= port <= MAX_PORT:
            raise ConfigError(f"{key}: {port} is not between 0 and {MAX_PORT}")
    if config.client_port == -1 and config.secure_client_port != -1:
        raise ConfigError("secureClientPort: TLS comes later; set clientPort")
    if config.client_port == -1:
        raise ConfigError("clientPort is not set")


def _settle_times(config: ServerConfig) -> None:
    if config.tick_time_ms == 0:
        raise ConfigError("tickTime is not set")
    # Java's int overflows here and ends in the same refusal, with a less clear message.
    if config.tick_time_ms < 0 or config.tick_time_ms * 20 > _INT_MAX:
        raise ConfigError(f"tickTime: {config.tick_time_ms} is not between 1 and {_INT_MAX // 20}")
    if config.min_session_timeout_ms == -1:
        config.min_session_timeout_ms = config.tick_time_ms * 2
    if config.max_session_timeout_ms == -1:
        config.max_session_timeout_ms = config.tick_time_ms * 20
    if config.min_session_timeout_ms > config.max_session_timeout_ms:
        raise ConfigError("minSessionTimeout must not be larger than maxSessionTimeout")
    _replace_unless_positive(config, "sessionless_timeout_ms", "nio.sessionlessCnxnTimeout")
    _replace_unless_positive(config, "container_check_interval_ms", "znode.container.checkIntervalMs")
    _replace_unless_positive(config, "container_max_per_minute", "znode.container.maxPerMinute")
    if config.election_alg != 3:
        raise ConfigError("electionAlg: only 3 is supported")
    if config.peer_type.lower() not in ("participant", "observer"):
        raise ConfigError(f'peerType: unrecognised peertype "{shown(config.peer_type)}"')
    _settle_ensemble_times(config)


def _settle_ensemble_times(config: ServerConfig) -> None:
    for name, key in (
        ("cnx_timeout_ms", "cnxTimeout"),
        ("min_notification_ms", "fastleader.minNotificationInterval"),
        ("max_notification_ms", "fastleader.maxNotificationInterval"),
    ):
        _replace_unless_positive(config, name, key)
    for name, key in (
        ("election_bind_retries", "electionPortBindRetry"),
        ("leader_connect_delay_ms", "leaderConnectDelayDuringRetryMs"),
    ):
        _replace_unless_positive(config, name, key, lowest=0)
    if config.commit_log_count < MIN_COMMIT_LOG_COUNT:
        config.warnings.append(
            f"commitLogCount: {config.commit_log_count} is less than {MIN_COMMIT_LOG_COUNT}, which is used"
        )
        config.commit_log_count = MIN_COMMIT_LOG_COUNT
    if config.snapshot_size_factor > 1:
        default = ServerConfig().snapshot_size_factor
        config.warnings.append(
            f"snapshotSizeFactor: {config.snapshot_size_factor} is more than 1; the default {default} is used"
        )
        config.snapshot_size_factor = default


def _replace_unless_positive(config: ServerConfig, name: str, key: str, *, lowest: int = 1) -> None:
    """Java divides by these, or dies in a thread; here the default takes the place of such a value."""
    value = getattr(config, name)
    if value < lowest:
        default = getattr(ServerConfig(), name)
        setattr(config, name, default)
        reason = "not positive" if lowest else "negative"
        config.warnings.append(f"{key}: {value} is {reason}; the default {default} is used")


def _settle_storage(config: ServerConfig) -> None:
    if not config.data_dir:
        raise ConfigError("dataDir is not set")
    config.data_log_dir = config.data_log_dir or config.data_dir
    for key, path in (("dataDir", config.data_dir), ("dataLogDir", config.data_log_dir)):
        if "\0" in path:
            raise ConfigError(f"{key}: a path cannot contain a zero byte")
    if config.snap_retain_count < MIN_SNAP_RETAIN_COUNT:
        config.warnings.append(
            f"autopurge.snapRetainCount: {config.snap_retain_count} is invalid; {MIN_SNAP_RETAIN_COUNT} is used"
        )
        config.snap_retain_count = MIN_SNAP_RETAIN_COUNT
    if config.snap_count < MIN_SNAP_COUNT:
        config.warnings.append(f"snapCount: {config.snap_count} is too small; {MIN_SNAP_COUNT} is used")
        config.snap_count = MIN_SNAP_COUNT
    if config.max_buffer_extra_bytes == -1:
        config.max_buffer_extra_bytes = config.max_buffer_bytes
    # BinaryInputArchive: a floor for the slack, and none of the sum beyond an int.
    config.max_buffer_extra_bytes = max(config.max_buffer_extra_bytes, MIN_BUFFER_EXTRA_BYTES)
    config.max_buffer_extra_bytes = min(config.max_buffer_extra_bytes, _INT_MAX - max(config.max_buffer_bytes, 0))
    method = config.snapshot_compression.lower()
    if method not in _COMPRESSIONS:
        config.warnings.append(f'snapshot.compression.method: "{shown(method)}" is unknown, so snapshots stay plain')
        method = ""
    config.snapshot_compression = method


def _settle_security(config: ServerConfig) -> None:
    """Refuses what would leave a door open that the operator believes closed."""
    if config.quorum_server_sasl and not config.quorum_sasl:
        raise ConfigError("quorum.auth.enableSasl is disabled, so cannot enable quorum.auth.serverRequireSasl")
    if config.quorum_learner_sasl and not config.quorum_sasl:
        raise ConfigError("quorum.auth.enableSasl is disabled, so cannot enable quorum.auth.learnerRequireSasl")
    if config.quorum_server_sasl and not config.quorum_learner_sasl:
        raise ConfigError("quorum.auth.learnerRequireSasl is disabled, so cannot enable quorum.auth.serverRequireSasl")
    if config.digest_algorithm.upper() not in _HASHES:
        name = shown(config.digest_algorithm)
        raise ConfigError(f'DigestAuthenticationProvider.digestAlg: "{name}" is none of {", ".join(_HASHES)}')


def _settle_required_schemes(config: ServerConfig, properties: Mapping[str, Entry]) -> None:
    """By what clients must authenticate: refuses what nobody could do (AuthenticationHelper).

    Java goes on with a scheme whose provider it can load. The schemes of Java's own providers that come later here are
    named in a warning then, if clients have another one left.
    """
    if config.require_sasl:
        # It stands above enforce.auth.*, whatever these say.
        raise ConfigError("sessionRequireClientSASLAuth: SASL comes later, so no client could authenticate")
    if not config.enforce_auth:
        if config.enforce_auth_schemes:
            config.warnings.append("enforce.auth.schemes: no client has to authenticate without enforce.auth.enabled")
        return
    if not config.enforce_auth_schemes:
        raise ConfigError("enforce.auth.enabled: enforce.auth.schemes must be set as well")
    here = ("ip", "digest") if config.digest_auth_enabled else ("ip",)
    classes = [entry.value for name, entry in properties.items() if name.startswith("zookeeper.authProvider.")]
    later: list[str] = []
    for scheme in config.required_schemes:
        if scheme in here:
            continue
        if _LATER_PROVIDERS.get(scheme) not in classes:
            raise ConfigError(f'enforce.auth.schemes: authentication scheme "{shown(scheme)}" is not available')
        later.append(scheme)
    if later:
        names = ", ".join(later)
        if len(later) == len(config.required_schemes):
            raise ConfigError(f"enforce.auth.schemes: {names} comes later, so no client could authenticate")
        config.warnings.append(f"enforce.auth.schemes: {names} comes later; clients must use another of the schemes")
    if "ip" in config.required_schemes:
        config.warnings.append("enforce.auth.schemes: with ip every client counts as authenticated")


def _warn_unused(config: ServerConfig, entries: Mapping[str, Entry], properties: Mapping[str, Entry]) -> None:
    """One warning that names every key without effect and why; values are not shown, they may be secrets."""
    read_here = {key.name for key in ZOO_KEYS if find_unused(key.name) is None} | {key.name for key in PROPERTIES}
    reasons: dict[str, list[str]] = {}
    for name, value in _names_given(entries, properties):
        is_alone = config.ensemble is None
        if name in read_here or (is_ensemble_key(name) and (is_alone or is_member_key(name))):
            continue
        if name == "zookeeper.version" and not is_alone:
            continue
        row = (None if is_alone else find_unused(name, (*ENSEMBLE_UNUSED, *ENSEMBLE_REFUSED))) or find_unused(name)
        if row is not None and row.is_harmless(value):
            continue
        reason = "unknown" if row is None else row.reason
        reasons.setdefault(reason, []).append(shown(name.removeprefix("zookeeper.")))
    if reasons:
        parts = [f"{_join_names(names)} ({reason})" for reason, names in reasons.items()]
        config.warnings.append(f"keys without effect: {'; '.join(parts)}")


def _names_given(entries: Mapping[str, Entry], properties: Mapping[str, Entry]) -> list[tuple[str, str]]:
    given = [(name, entry.value) for name, entry in entries.items() if f"zookeeper.{name}" not in properties]
    return given + [(name, entry.value) for name, entry in properties.items()]


def _join_names(names: list[str]) -> str:
    more = len(names) - SHOWN_KEYS
    return ", ".join(names[:SHOWN_KEYS]) + (f" and {more} more" if more > 0 else "")
