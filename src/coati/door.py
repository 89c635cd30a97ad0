"""Where the names of the front door live. Each room is entered when somebody asks for a name of it."""

from __future__ import annotations

from importlib import import_module
from typing import Final

# A room, and what of it the door leads to.
_ROOMS: Final = """
coati.client.cache Change TreeCache
coati.client.codecs BYTES Codec JSON TEXT json_codec msgspec_codec pydantic_codec
coati.client.dns DnsSrv
coati.client.hosts Host HostLookup HostProvider
coati.client.ops Check Children Create Delete Get MultiError Op OpResult ReadResult Set
coati.client.quota Quota QuotaView Usage
coati.client.retry Retry
coati.client.sasl SaslDigest
coati.client.streams Stream
coati.client.tls TLS
coati.client.transaction Transaction
coati.client.typed TypedClient TypedNode
coati.client.types ACL ACLs ANY AclInfo Auth CREATOR ClientInfo Digest EnsembleConfig Event EventType KEEP Mode Node
coati.client.types OPEN Perm READ_ONLY SessionToken Stat State StateChange USE_SESSION WatchMode acl digest_id
coati.client.watching Trigger Watch
coati.errors AuthFailed BadArguments BadVersion ClientClosed ConfigError ConnectionLoss DecodeError
coati.errors EphemeralOnLocalSession ForkedClient InvalidACL KeeperError LeadershipLost LockLost LockTimeout
coati.errors MarshallingError NewConfigNoQuorum NoAuth NoChildrenForEphemerals NoNode NoWatcher NodeExists NotEmpty
coati.errors NotReadOnly OperationTimeout ProtocolError QuotaExceeded ReconfigDisabled ReconfigInProgress
coati.errors SessionClosedRequireSaslAuth SessionExpired SessionMoved StorageCorrupt StorageFailed Throttled
coati.errors Unimplemented ZKError
coati.recipes.client Client
coati.recipes.election Candidate Term
coati.recipes.group Membership
coati.recipes.held Held
coati.recipes.lease Holder
coati.recipes.line Contender
coati.recipes.lock ExclusiveLock Lock
coati.recipes.multilock MultiHeld MultiLock
coati.recipes.once KeyState
coati.recipes.partition Assignment
coati.recipes.queue Item
coati.recipes.rwlock RWLock UpgradableHeld WriteHeld
coati.recipes.semaphore Semaphore
coati.recipes.value ValueCodec Versioned
"""
_HOMES: Final = {name: room for room, *names in map(str.split, _ROOMS.strip().splitlines()) for name in names}
_found: dict[str, object] = {}


def find(name: str) -> object:
    """What `coati.<name>` is. Raises AttributeError."""
    if name not in _found:
        if name not in _HOMES:
            raise AttributeError(f"module 'coati' has no attribute {name!r}")
        _found[name] = getattr(import_module(_HOMES[name]), name)
    return _found[name]
