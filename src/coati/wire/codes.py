"""Numbers of the protocol: opcodes, create flags, permissions, watcher enums, special xids.

Sources: ZooDefs.OpCode, CreateMode, ZooDefs.Perms, Watcher.Event, Watcher.WatcherType, AddWatchMode, ClientCnxn.
"""

from __future__ import annotations

from typing import Final

OP_NOTIFICATION: Final = 0
OP_CREATE: Final = 1
OP_DELETE: Final = 2
OP_EXISTS: Final = 3
OP_GET_DATA: Final = 4
OP_SET_DATA: Final = 5
OP_GET_ACL: Final = 6
OP_SET_ACL: Final = 7
OP_GET_CHILDREN: Final = 8
OP_SYNC: Final = 9
OP_PING: Final = 11
OP_GET_CHILDREN2: Final = 12
OP_CHECK: Final = 13
OP_MULTI: Final = 14
OP_CREATE2: Final = 15
OP_RECONFIG: Final = 16
OP_CHECK_WATCHES: Final = 17
OP_REMOVE_WATCHES: Final = 18
OP_CREATE_CONTAINER: Final = 19
OP_DELETE_CONTAINER: Final = 20
OP_CREATE_TTL: Final = 21
OP_MULTI_READ: Final = 22
OP_AUTH: Final = 100
OP_SET_WATCHES: Final = 101
OP_SASL: Final = 102
OP_GET_EPHEMERALS: Final = 103
OP_GET_ALL_CHILDREN_NUMBER: Final = 104
OP_SET_WATCHES2: Final = 105
OP_ADD_WATCH: Final = 106
OP_WHO_AM_I: Final = 107
OP_CREATE_SESSION: Final = -10
OP_CLOSE_SESSION: Final = -11
OP_ERROR: Final = -1

OP_NAMES: Final[dict[int, str]] = {
    OP_NOTIFICATION: "notification",
    OP_CREATE: "create",
    OP_DELETE: "delete",
    OP_EXISTS: "exists",
    OP_GET_DATA: "getData",
    OP_SET_DATA: "setData",
    OP_GET_ACL: "getACL",
    OP_SET_ACL: "setACL",
    OP_GET_CHILDREN: "getChildren",
    OP_SYNC: "sync",
    OP_PING: "ping",
    OP_GET_CHILDREN2: "getChildren2",
    OP_CHECK: "check",
    OP_MULTI: "multi",
    OP_CREATE2: "create2",
    OP_RECONFIG: "reconfig",
    OP_CHECK_WATCHES: "checkWatches",
    OP_REMOVE_WATCHES: "removeWatches",
    OP_CREATE_CONTAINER: "createContainer",
    OP_DELETE_CONTAINER: "deleteContainer",
    OP_CREATE_TTL: "createTTL",
    OP_MULTI_READ: "multiRead",
    OP_AUTH: "auth",
    OP_SET_WATCHES: "setWatches",
    OP_SASL: "sasl",
    OP_GET_EPHEMERALS: "getEphemerals",
    OP_GET_ALL_CHILDREN_NUMBER: "getAllChildrenNumber",
    OP_SET_WATCHES2: "setWatches2",
    OP_ADD_WATCH: "addWatch",
    OP_WHO_AM_I: "whoAmI",
    OP_CREATE_SESSION: "createSession",
    OP_CLOSE_SESSION: "closeSession",
    OP_ERROR: "error",
}

FLAG_PERSISTENT: Final = 0
FLAG_EPHEMERAL: Final = 1
FLAG_PERSISTENT_SEQUENTIAL: Final = 2
FLAG_EPHEMERAL_SEQUENTIAL: Final = 3
FLAG_CONTAINER: Final = 4
FLAG_PERSISTENT_WITH_TTL: Final = 5
FLAG_PERSISTENT_SEQUENTIAL_WITH_TTL: Final = 6

PERM_READ: Final = 1
PERM_WRITE: Final = 2
PERM_CREATE: Final = 4
PERM_DELETE: Final = 8
PERM_ADMIN: Final = 16
PERM_ALL: Final = 31

STATE_DISCONNECTED: Final = 0
STATE_SYNC_CONNECTED: Final = 3
STATE_AUTH_FAILED: Final = 4
STATE_CONNECTED_READ_ONLY: Final = 5
STATE_SASL_AUTHENTICATED: Final = 6
STATE_CLOSED: Final = 7
STATE_EXPIRED: Final = -112

EVENT_NONE: Final = -1
EVENT_CREATED: Final = 1
EVENT_DELETED: Final = 2
EVENT_DATA_CHANGED: Final = 3
EVENT_CHILDREN_CHANGED: Final = 4
EVENT_DATA_WATCH_REMOVED: Final = 5
EVENT_CHILD_WATCH_REMOVED: Final = 6
EVENT_PERSISTENT_WATCH_REMOVED: Final = 7

WATCHER_CHILDREN: Final = 1
WATCHER_DATA: Final = 2
WATCHER_ANY: Final = 3
WATCHER_PERSISTENT: Final = 4
WATCHER_PERSISTENT_RECURSIVE: Final = 5

WATCH_MODE_PERSISTENT: Final = 0
WATCH_MODE_PERSISTENT_RECURSIVE: Final = 1

XID_NOTIFICATION: Final = -1
XID_PING: Final = -2
XID_AUTH: Final = -4
XID_SET_WATCHES: Final = -8

# EphemeralType.java: the stored owner of a znode that no session owns but that is not plainly persistent.
OWNER_CONTAINER: Final = -(1 << 63)
OWNER_TTL_MASK: Final = -(1 << 56)  # 0xff00000000000000 as a signed long
TTL_MAX_MS: Final = (1 << 40) - 1

# BinaryInputArchive.maxBuffer and the slack of ZOOKEEPER-2101: bytes.
MAX_BUFFER_BYTES: Final = 0xFFFFF
