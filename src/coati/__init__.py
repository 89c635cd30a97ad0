"""coati: a byte-compatible Apache ZooKeeper in Python. The front door: names from inside.

A name is fetched when it is first asked for: the server, the command line and pytest come through this door too, and
need not wait for a client and its recipes. Type checkers see plain imports; a test holds both lists together.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coati.client.cache import (
        Change,
        TreeCache,
    )
    from coati.client.codecs import (
        BYTES,
        JSON,
        TEXT,
        Codec,
        json_codec,
        msgspec_codec,
        pydantic_codec,
    )
    from coati.client.dns import (
        DnsSrv,
    )
    from coati.client.hosts import (
        Host,
        HostLookup,
        HostProvider,
    )
    from coati.client.ops import (
        Check,
        Children,
        Create,
        Delete,
        Get,
        MultiError,
        Op,
        OpResult,
        ReadResult,
        Set,
    )
    from coati.client.quota import (
        Quota,
        QuotaView,
        Usage,
    )
    from coati.client.retry import (
        Retry,
    )
    from coati.client.sasl import (
        SaslDigest,
    )
    from coati.client.streams import (
        Stream,
    )
    from coati.client.tls import (
        TLS,
    )
    from coati.client.transaction import (
        Transaction,
    )
    from coati.client.typed import (
        TypedClient,
        TypedNode,
    )
    from coati.client.types import (
        ACL,
        ANY,
        CREATOR,
        KEEP,
        OPEN,
        READ_ONLY,
        USE_SESSION,
        AclInfo,
        ACLs,
        Auth,
        ClientInfo,
        Digest,
        EnsembleConfig,
        Event,
        EventType,
        Mode,
        Node,
        Perm,
        SessionToken,
        Stat,
        State,
        StateChange,
        WatchMode,
        acl,
        digest_id,
    )
    from coati.client.watching import (
        Trigger,
        Watch,
    )
    from coati.errors import (
        AuthFailed,
        BadArguments,
        BadVersion,
        ClientClosed,
        ConfigError,
        ConnectionLoss,
        DecodeError,
        EphemeralOnLocalSession,
        ForkedClient,
        InvalidACL,
        KeeperError,
        LeadershipLost,
        LockLost,
        LockTimeout,
        MarshallingError,
        NewConfigNoQuorum,
        NoAuth,
        NoChildrenForEphemerals,
        NodeExists,
        NoNode,
        NotEmpty,
        NotReadOnly,
        NoWatcher,
        OperationTimeout,
        ProtocolError,
        QuotaExceeded,
        ReconfigDisabled,
        ReconfigInProgress,
        SessionClosedRequireSaslAuth,
        SessionExpired,
        SessionMoved,
        StorageCorrupt,
        StorageFailed,
        Throttled,
        Unimplemented,
        ZKError,
    )
    from coati.recipes.client import (
        Client,
    )
    from coati.recipes.election import (
        Candidate,
        Term,
    )
    from coati.recipes.group import (
        Membership,
    )
    from coati.recipes.held import (
        Held,
    )
    from coati.recipes.lease import (
        Holder,
    )
    from coati.recipes.line import (
        Contender,
    )
    from coati.recipes.lock import (
        ExclusiveLock,
        Lock,
    )
    from coati.recipes.multilock import (
        MultiHeld,
        MultiLock,
    )
    from coati.recipes.once import (
        KeyState,
    )
    from coati.recipes.partition import (
        Assignment,
    )
    from coati.recipes.queue import (
        Item,
    )
    from coati.recipes.rwlock import (
        RWLock,
        UpgradableHeld,
        WriteHeld,
    )
    from coati.recipes.semaphore import (
        Semaphore,
    )
    from coati.recipes.value import (
        ValueCodec,
        Versioned,
    )

__version__ = "0.1.0"

if not TYPE_CHECKING:
    from coati.door import find

    __getattr__ = find

__all__ = [
    "ACL",
    "ANY",
    "BYTES",
    "CREATOR",
    "JSON",
    "KEEP",
    "OPEN",
    "READ_ONLY",
    "TEXT",
    "TLS",
    "USE_SESSION",
    "ACLs",
    "AclInfo",
    "Assignment",
    "Auth",
    "AuthFailed",
    "BadArguments",
    "BadVersion",
    "Candidate",
    "Change",
    "Check",
    "Children",
    "Client",
    "ClientClosed",
    "ClientInfo",
    "Codec",
    "ConfigError",
    "ConnectionLoss",
    "Contender",
    "Create",
    "DecodeError",
    "Delete",
    "Digest",
    "DnsSrv",
    "EnsembleConfig",
    "EphemeralOnLocalSession",
    "Event",
    "EventType",
    "ExclusiveLock",
    "ForkedClient",
    "Get",
    "Held",
    "Holder",
    "Host",
    "HostLookup",
    "HostProvider",
    "InvalidACL",
    "Item",
    "KeeperError",
    "KeyState",
    "LeadershipLost",
    "Lock",
    "LockLost",
    "LockTimeout",
    "MarshallingError",
    "Membership",
    "Mode",
    "MultiError",
    "MultiHeld",
    "MultiLock",
    "NewConfigNoQuorum",
    "NoAuth",
    "NoChildrenForEphemerals",
    "NoNode",
    "NoWatcher",
    "Node",
    "NodeExists",
    "NotEmpty",
    "NotReadOnly",
    "Op",
    "OpResult",
    "OperationTimeout",
    "Perm",
    "ProtocolError",
    "Quota",
    "QuotaExceeded",
    "QuotaView",
    "RWLock",
    "ReadResult",
    "ReconfigDisabled",
    "ReconfigInProgress",
    "Retry",
    "SaslDigest",
    "Semaphore",
    "SessionClosedRequireSaslAuth",
    "SessionExpired",
    "SessionMoved",
    "SessionToken",
    "Set",
    "Stat",
    "State",
    "StateChange",
    "StorageCorrupt",
    "StorageFailed",
    "Stream",
    "Term",
    "Throttled",
    "Transaction",
    "TreeCache",
    "Trigger",
    "TypedClient",
    "TypedNode",
    "Unimplemented",
    "UpgradableHeld",
    "Usage",
    "ValueCodec",
    "Versioned",
    "Watch",
    "WatchMode",
    "WriteHeld",
    "ZKError",
    "__version__",
    "acl",
    "digest_id",
    "json_codec",
    "msgspec_codec",
    "pydantic_codec",
]
