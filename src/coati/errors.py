"""The whole error tree and the table of ZooKeeper's error codes.

Knows the numbers of `KeeperException.Code` and which class stands for each. Must not know anything else of ours.
Every class says whether repeating the request is safe.
"""

from __future__ import annotations

from typing import ClassVar, Final

# KeeperException.Code; the names are Java's, without underscores inside compound words where Java has none.
OK: Final = 0
SYSTEM_ERROR: Final = -1
RUNTIME_INCONSISTENCY: Final = -2
DATA_INCONSISTENCY: Final = -3
CONNECTION_LOSS: Final = -4
MARSHALLING_ERROR: Final = -5
UNIMPLEMENTED: Final = -6
OPERATION_TIMEOUT: Final = -7
BAD_ARGUMENTS: Final = -8
UNKNOWN_SESSION: Final = -12
NEW_CONFIG_NO_QUORUM: Final = -13
RECONFIG_IN_PROGRESS: Final = -14
API_ERROR: Final = -100
NO_NODE: Final = -101
NO_AUTH: Final = -102
BAD_VERSION: Final = -103
NO_CHILDREN_FOR_EPHEMERALS: Final = -108
NODE_EXISTS: Final = -110
NOT_EMPTY: Final = -111
SESSION_EXPIRED: Final = -112
INVALID_CALLBACK: Final = -113
INVALID_ACL: Final = -114
AUTH_FAILED: Final = -115
SESSION_MOVED: Final = -118
NOT_READ_ONLY: Final = -119
EPHEMERAL_ON_LOCAL_SESSION: Final = -120
NO_WATCHER: Final = -121
REQUEST_TIMEOUT: Final = -122
RECONFIG_DISABLED: Final = -123
SESSION_CLOSED_REQUIRE_SASL_AUTH: Final = -124
QUOTA_EXCEEDED: Final = -125
THROTTLED_OP: Final = -127


class ZKError(Exception):
    """Root of every error coati raises on purpose.

    What the client adds when it knows: `path` of the znode, `op` (the verb that was called), `server` ("host:port"),
    `session_id`, and `hint`, what to do about it. `maybe_applied`: a write was sent and its fate is unknown.
    """

    path: str = ""
    op: str = ""
    server: str = ""
    session_id: int = 0
    hint: str = ""
    maybe_applied: bool = False

    def __str__(self) -> str:
        where = " ".join(part for part in (self.op, self.path) if part)
        told = " ".join(part for part in (f"{where}:" if where else "", self.what()) if part)
        if self.maybe_applied:
            told += "; the write may have been applied"
        if self.hint:
            told += f" ({self.hint})"
        if self.server or self.session_id:
            told += f" [server {self.server or 'none'}, session {self.session_id:#x}]"
        return told

    def what(self) -> str:
        """What happened, without where."""
        return super().__str__() or type(self).__name__


class KeeperError(ZKError):
    """The server said no. `code` is the number on the wire, `path` the znode it speaks of (or empty).

    Not safe to repeat blindly: the answer will be the same until the tree changes.
    """

    code: int = SYSTEM_ERROR
    class_code: ClassVar[int] = SYSTEM_ERROR

    def __init__(self, path: bytes | str = b"", code: int | None = None) -> None:
        super().__init__()
        self.path = path if isinstance(path, str) else path.decode("utf-8", "backslashreplace")
        self.code = self.class_code if code is None else code

    def what(self) -> str:
        return f"{type(self).__name__} ({self.code})"

    def __reduce__(self) -> tuple[type[KeeperError], tuple[str, int], dict[str, object]]:
        # Copied, or sent to another process, it is built again; the message alone would not do.
        return type(self), (self.path, self.code), dict(vars(self))


class RuntimeInconsistency(KeeperError):
    """An operation of a multi that was not reached, because another one failed."""

    class_code = RUNTIME_INCONSISTENCY


class MarshallingRefused(KeeperError):
    """The server could not read the request."""

    class_code = MARSHALLING_ERROR


class Unimplemented(KeeperError):
    """The server does not have this operation."""

    class_code = UNIMPLEMENTED


class BadArguments(KeeperError):
    """A path, flag or value breaks the rules."""

    class_code = BAD_ARGUMENTS


class NoNode(KeeperError):
    """The znode, or the parent of the one to create, is not there."""

    class_code = NO_NODE


class NoAuth(KeeperError):
    """The ACL does not permit it."""

    class_code = NO_AUTH


class BadVersion(KeeperError):
    """The expected version is not the current one."""

    class_code = BAD_VERSION


class NoChildrenForEphemerals(KeeperError):
    """An ephemeral znode cannot be a parent."""

    class_code = NO_CHILDREN_FOR_EPHEMERALS


class NodeExists(KeeperError):
    """The znode is there already."""

    class_code = NODE_EXISTS


class NotEmpty(KeeperError):
    """The znode to delete has children."""

    class_code = NOT_EMPTY


class SessionExpired(KeeperError):
    """The session is over; nothing of it will be executed any more. A new session is needed."""

    class_code = SESSION_EXPIRED


class InvalidACL(KeeperError):
    """The ACL is empty, malformed or names nobody."""

    class_code = INVALID_ACL


class AuthFailed(KeeperError):
    """The credentials were refused."""

    class_code = AUTH_FAILED


class SessionMoved(KeeperError):
    """The session lives on another connection now."""

    class_code = SESSION_MOVED


class NotReadOnly(KeeperError):
    """A write was sent to a read-only server. Safe to repeat elsewhere."""

    class_code = NOT_READ_ONLY


class EphemeralOnLocalSession(KeeperError):
    """A local session cannot own ephemerals."""

    class_code = EPHEMERAL_ON_LOCAL_SESSION


class NoWatcher(KeeperError):
    """There is no such watch to remove or check."""

    class_code = NO_WATCHER


class NewConfigNoQuorum(KeeperError):
    """No quorum of the new configuration is in sync with the leader. Safe to repeat when it is."""

    class_code = NEW_CONFIG_NO_QUORUM


class ReconfigInProgress(KeeperError):
    """Another reconfiguration is under way. Safe to repeat when it is done."""

    class_code = RECONFIG_IN_PROGRESS


class ReconfigDisabled(KeeperError):
    """Dynamic reconfiguration is switched off."""

    class_code = RECONFIG_DISABLED


class SessionClosedRequireSaslAuth(KeeperError):
    """The server demands authentication before anything else."""

    class_code = SESSION_CLOSED_REQUIRE_SASL_AUTH


class QuotaExceeded(KeeperError):
    """A hard quota forbids it."""

    class_code = QUOTA_EXCEEDED


class Throttled(KeeperError):
    """The server is overloaded and dropped the request unexecuted. Safe to repeat later."""

    class_code = THROTTLED_OP


_CLASSES: Final[tuple[type[KeeperError], ...]] = (
    RuntimeInconsistency,
    MarshallingRefused,
    Unimplemented,
    BadArguments,
    NoNode,
    NoAuth,
    BadVersion,
    NoChildrenForEphemerals,
    NodeExists,
    NotEmpty,
    SessionExpired,
    InvalidACL,
    AuthFailed,
    SessionMoved,
    NotReadOnly,
    EphemeralOnLocalSession,
    NoWatcher,
    NewConfigNoQuorum,
    ReconfigInProgress,
    ReconfigDisabled,
    SessionClosedRequireSaslAuth,
    QuotaExceeded,
    Throttled,
)
_BY_CODE: Final[dict[int, type[KeeperError]]] = {cls.class_code: cls for cls in _CLASSES}


def keeper_error(code: int, path: bytes | str = b"") -> KeeperError:
    """The error for a code of the wire; an unknown code keeps its number."""
    return _BY_CODE.get(code, KeeperError)(path, code)


class ConnectionLoss(ZKError):
    """The connection went before the answer came.

    With `maybe_applied` a write may or may not have happened: read before you repeat it. Without, repeating is safe.
    """


class OperationTimeout(ZKError, TimeoutError):
    """The call's time is up. With `maybe_applied` a write may or may not have happened."""


class ClientClosed(ZKError):
    """The client is closed, or was never started. Nothing was sent."""


class ForkedClient(ZKError):
    """This process is a fork of the one that opened the client; a session cannot be shared. Nothing was sent."""


class LockTimeout(ZKError, TimeoutError):
    """The lock was not free within the given time. Nothing of the attempt is left on the server."""


class LockLost(ZKError):
    """The lock is no longer certainly held: the session's time ran out, or its znode is gone.

    What the body did since then may overlap with the next holder; guard writes with `held.guard()`.
    """


class LeadershipLost(LockLost):
    """The office is no longer certainly held, for one of the reasons of LockLost."""


class DecodeError(ZKError, ValueError):
    """The data of a znode is not what the codec of a typed view expects; `path` and `version` say which data."""

    def __init__(self, path: str, version: int, reason: str) -> None:
        super().__init__(path, version, reason)
        self.path = path
        self.version = version
        self.reason = reason

    def what(self) -> str:
        return f"version {self.version} cannot be decoded: {self.reason}"


class MarshallingError(ZKError):
    """Bytes that are not the record they should be: short, or with an impossible length. Never safe to repeat."""


class ProtocolError(ZKError):
    """The peer broke the protocol; its connection is closed."""


class StorageCorrupt(ZKError):
    """A file on disk is damaged before its tail. The server does not start; nothing was changed.

    `path` and `offset` (bytes) say where, `reason` what is wrong, `advice` what the operator can do.
    """

    def __init__(self, path: str, offset: int, reason: str, advice: str = "") -> None:
        self.path = path
        self.offset = offset
        self.reason = reason
        self.advice = advice
        super().__init__(f"{path} at byte {offset}: {reason}" + (f". {advice}" if advice else ""))

    def __str__(self) -> str:
        return self.what()

    def __reduce__(self) -> tuple[type[StorageCorrupt], tuple[str, int, str, str]]:
        return type(self), (self.path, self.offset, self.reason, self.advice)


class StorageFailed(ZKError):
    """A write or fsync failed. Nothing after the last durable zxid was acknowledged; the server ends."""


class ConfigError(ZKError):
    """The configuration cannot be used. The message is one line and names key and line."""
