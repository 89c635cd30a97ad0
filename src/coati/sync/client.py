"""Client: the async client's verbs, recipes and streams for threads, each of which waits.

Written by tools/gen_sync.py: do not edit.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Self, overload

from coati.client.codecs import Codec
from coati.client.core import OnExpired
from coati.client.hosts import HostProvider
from coati.client.ops import Op, OpResult, Read, ReadResult
from coati.client.retry import Retry
from coati.client.tls import TLS
from coati.client.types import (
    ANY,
    KEEP,
    OPEN,
    USE_SESSION,
    AclInfo,
    ACLs,
    Auth,
    ClientInfo,
    EnsembleConfig,
    Keep,
    Mode,
    Node,
    SessionToken,
    Stat,
    State,
    StateChange,
    Timeout,
    WatchMode,
)
from coati.recipes.client import Client as AsyncClient
from coati.recipes.counter import CounterLayout
from coati.recipes.election import ElectionLayout
from coati.recipes.group import GroupLayout
from coati.recipes.line import Layout
from coati.recipes.partition import SETTLE_S, Share, every_nth
from coati.recipes.queuelayout import QueueLayout
from coati.recipes.registry import RegistryLayout
from coati.recipes.value import ValueCodec
from coati.sync.bridge import Bridge, Mirror, OnLoss, Opened, Steps, T, asking
from coati.sync.recipes import (
    Barrier,
    Counter,
    DoubleBarrier,
    Election,
    EphemeralKeeper,
    ExclusiveLock,
    Group,
    IdSequence,
    LeaderScheduler,
    Lease,
    Lock,
    MultiLock,
    Once,
    Partition,
    Queue,
    Registry,
    RWLock,
    Semaphore,
    TtlKeeper,
    Value,
)
from coati.sync.views import QuotaView, SessionView, Stream, Transaction, TreeCache, Trigger, TypedClient, Watch


class Client(Opened[AsyncClient]):
    """A ZooKeeper session for threads, any number of them: `with coati.sync.Client("h1,h2/app") as zk:`.

    All arguments are those of coati.Client, and so are the verbs: each waits. Interrupted, by KeyboardInterrupt say, it
    is cancelled first. Functions that are given to the client run on the thread that calls, but for `on_loss`.
    """

    def __init__(
        self,
        hosts: str | Sequence[str] | HostProvider = "127.0.0.1:2181",
        *,
        session_timeout: float = 10.0,
        timeout: Timeout = USE_SESSION,
        retry: Retry = Retry.DEFAULT,
        auth: Sequence[Auth] = (),
        tls: TLS | ssl.SSLContext | None = None,
        read_only: bool = False,
        resume: SessionToken | None = None,
        on_expired: OnExpired = "renew",
        default_acl: ACLs = OPEN,
        max_inflight: int = 1024,
        max_frame: int = 1048575,
        name: str | None = None,
        entropy: Random | None = None,
    ) -> None:
        it = AsyncClient(
            hosts,
            session_timeout=session_timeout,
            timeout=timeout,
            retry=retry,
            auth=auth,
            tls=tls,
            read_only=read_only,
            resume=resume,
            on_expired=on_expired,
            default_acl=default_acl,
            max_inflight=max_inflight,
            max_frame=max_frame,
            name=name,
            entropy=entropy,
        )
        super().__init__(it, Bridge(it))

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return self._it.name

    @property
    def session(self) -> SessionView:
        """What the client knows of its session."""
        return SessionView(self._it.session, self._on)

    def states(self) -> Steps[StateChange]:
        """The state now, then each change; ends with the client."""
        return Steps(self._it.states(), self._on)

    @property
    def is_closed(self) -> bool:
        """It takes no more calls: closed, refused, or expired for good."""
        return self._it.is_closed

    def wait_for(self, *states: State, timeout: float | None = None) -> State:
        """Until the session is in one of these states; raises TimeoutError after so many seconds."""
        return self._on.call(self._it.wait_for(*states, timeout=timeout))

    def authenticate(self, auth: Auth) -> None:
        """Adds an identity, also for later connections. Raises AuthFailed, which ends the client, as servers do."""
        self._on.call(self._it.authenticate(auth))

    def set_hosts(self, hosts: str | Sequence[str]) -> None:
        """The servers are these now. The client moves if that keeps the load of the servers even."""
        self._on.do(lambda: self._it.set_hosts(hosts))

    def chroot(self, prefix: str) -> Self:
        """A view in which `prefix` is the root; the same session. The znode is not created."""
        return self._view(self._it.chroot(prefix))

    def typed(self, codec: Codec[T]) -> TypedClient[T]:
        """A view whose data are values of a type: `coati.TEXT`, `coati.json_codec()` or any other codec says how."""
        return TypedClient(self._it.typed(codec), self._on)

    @property
    def quota(self) -> QuotaView:
        """The quotas of subtrees."""
        return QuotaView(self._it.quota, self._on)

    def with_options(
        self, *, timeout: Timeout | Keep = KEEP, retry: Retry | None = None, default_acl: ACLs | None = None
    ) -> Self:
        """A view with other defaults; the same session."""
        return self._view(self._it.with_options(timeout=timeout, retry=retry, default_acl=default_acl))

    def get(self, path: str, *, watch: Trigger | None = None) -> Node:
        """A znode. `watch` fires when its data changes or it goes. Raises NoNode, NoAuth."""
        return self._on.ask(self._it.get(path, watch=None if watch is None else Mirror.original(watch)))

    def exists(self, path: str, *, watch: Trigger | None = None) -> Stat | None:
        """Its Stat, or None. `watch` fires when it is created, changes or goes. Raises NoAuth."""
        return self._on.ask(self._it.exists(path, watch=None if watch is None else Mirror.original(watch)))

    def children(self, path: str, *, watch: Trigger | None = None) -> list[str]:
        """The names of its children, sorted. `watch` fires when one comes or goes, or the znode goes. Raises NoNode."""
        return self._on.ask(self._it.children(path, watch=None if watch is None else Mirror.original(watch)))

    def get_acl(self, path: str) -> AclInfo:
        """Its ACL; without ADMIN, hashes of passwords are hidden. Raises NoNode, NoAuth."""
        return self._on.ask(self._it.get_acl(path))

    def sync(self, path: str = "/") -> int:
        """The server has caught up with the leader: later reads see all writes done before. The zxid of now."""
        return self._on.ask(self._it.sync(path))

    def count(self, path: str) -> int:
        """How many znodes are below it. Raises NoNode."""
        return self._on.ask(self._it.count(path))

    def ephemerals(self, prefix: str = "/") -> list[str]:
        """The paths of this session's ephemerals that begin with `prefix`, sorted."""
        return self._on.call(self._it.ephemerals(prefix))

    def whoami(self) -> list[ClientInfo]:
        """The identities the server knows this connection by."""
        return self._on.call(self._it.whoami())

    def config(self) -> EnsembleConfig:
        """The ensemble's servers, as `/zookeeper/config` tells them."""
        return self._on.call(self._it.config())

    def chroot_free(self) -> Self:
        """A view of the whole tree."""
        return self._view(self._it.chroot_free())

    def walk(self, path: str = "/", *, concurrency: int = 64) -> Steps[Node]:
        """The znode and all below it, parents first, so many requests at a time. What goes meanwhile is left out."""
        return Steps(self._it.walk(path, concurrency=concurrency), self._on)

    def create(
        self,
        path: str,
        data: bytes = b"",
        *,
        mode: Mode = Mode.PERSISTENT,
        ttl: float | None = None,
        acl: ACLs | None = None,
        parents: bool = False,
    ) -> Node:
        """Makes a znode; `ttl` in seconds. The Node has the real path: a sequential one has ten digits more.

        Raises NodeExists, NoNode (no parent, unless `parents`), NoChildrenForEphemerals, InvalidACL, NoAuth; and
        ConnectionLoss with `maybe_applied` where it cannot be found out whether it was made.
        """
        return self._on.ask(self._it.create(path, data, mode=mode, ttl=ttl, acl=acl, parents=parents))

    def ensure(self, path: str, data: bytes = b"", *, acl: ACLs | None = None) -> bool:
        """Makes a persistent znode, and its parents, unless it is there; whether it was made."""
        return self._on.call(self._it.ensure(path, data, acl=acl))

    def set(self, path: str, data: bytes, *, version: int = ANY) -> Stat:
        """Sets the data. Raises NoNode, BadVersion, NoAuth.

        With a version it is repeated after a lost connection; BadVersion then has `maybe_applied` if it may be
        our own doing that the version is another one.
        """
        return self._on.ask(self._it.set(path, data, version=version))

    def put(self, path: str, data: bytes, *, parents: bool = True) -> Stat:
        """Sets the data of a znode, and makes it if it is not there."""
        return self._on.call(self._it.put(path, data, parents=parents))

    def update(self, path: str, fn: Callable[[bytes], bytes]) -> Node:
        """Replaces the data by `fn` of it, and again if somebody else was faster. Raises NoNode, NoAuth."""
        return asking(self._on, fn, lambda asked: self._it.update(path, asked))

    def delete(self, path: str, *, version: int = ANY, missing_ok: bool = False) -> None:
        """Deletes a znode without children. Raises NoNode (unless `missing_ok`), NotEmpty, BadVersion, NoAuth.

        With a version it is repeated after a lost connection; NoNode then has `maybe_applied`: we may have
        deleted it.
        """
        self._on.ask(self._it.delete(path, version=version, missing_ok=missing_ok))

    def delete_tree(self, path: str, *, keep_root: bool = False, batch: int = 200) -> int:
        """Deletes a znode and all below it but what is the servers' own; how many there were. None is no error.

        A tree may need a longer `timeout` than other calls. OperationTimeout has `maybe_applied` if some of it is
        gone.
        """
        return self._on.call(self._it.delete_tree(path, keep_root=keep_root, batch=batch))

    def set_acl(self, path: str, acl: ACLs, *, version: int = ANY) -> Stat:
        """Sets the ACL; `version` is `stat.aversion`. Raises NoNode, BadVersion, InvalidACL, NoAuth."""
        return self._on.ask(self._it.set_acl(path, acl, version=version))

    def multi(self, ops: Iterable[Op]) -> list[OpResult]:
        """All of them or none, in one transaction. Raises MultiError, whose `index` and `results` tell what failed."""
        return self._on.ask(self._it.multi(list(ops)))

    def transaction(self) -> Transaction:
        """`with client.transaction() as t:` gathers operations; the end of the block sends them as one multi."""
        return Transaction(self._it.transaction(), self._on)

    def multi_read(self, ops: Iterable[Read]) -> list[ReadResult]:
        """Several reads in one request, of one state of the tree; an error takes the place of what failed."""
        return self._on.ask(self._it.multi_read(list(ops)))

    def reconfig(
        self,
        *,
        join: Sequence[str] = (),
        leave: Sequence[int | str] = (),
        members: Sequence[str] | None = None,
        from_version: int = -1,
    ) -> EnsembleConfig:
        """Changes the ensemble: server lines to `join`, sids to `leave`, or all `members`, if `from_version` is
        now's.

        Raises ReconfigDisabled, ReconfigInProgress, NewConfigNoQuorum, BadVersion, BadArguments, NoAuth,
        Unimplemented.
        """
        return self._on.call(self._it.reconfig(join=join, leave=leave, members=members, from_version=from_version))

    def watch(
        self, path: str, *, recursive: bool = False, mode: WatchMode = WatchMode.PERSISTENT, buffer: int = 1024
    ) -> Watch:
        """Events of a path, or with `recursive` of all below it too; see Watch. Needs a server of 3.6 or newer."""
        return Watch(self._it.watch(path, recursive=recursive, mode=mode, buffer=buffer), self._on)

    def values(self, path: str) -> Stream[Node | None]:
        """The znode now, then every newer one, None while it is missing; bursts come as one. Needs no block to
        start.

        It goes on over lost connections and new sessions, and ends with the client. Raises NoAuth.
        """
        return Stream(self._it.values(path), self._on)

    def members(self, path: str) -> Stream[frozenset[str]]:
        """The names of the children now, then every newer set; empty while the znode is missing. Else as `values`."""
        return Stream(self._it.members(path), self._on)

    def cache(self, path: str, *, recursive: bool = True, depth: int | None = None, data: bool = True) -> TreeCache:
        """A copy of a tree, or of so many levels of it below `path`, or of one znode, that follows the servers."""
        return TreeCache(self._it.cache(path, recursive=recursive, depth=depth, data=data), self._on)

    def election(
        self, path: str, *, id: bytes, layout: ElectionLayout = "native", on_loss: OnLoss | None = None
    ) -> Election:
        """An office that one of all who stand for it holds: `with` it, `.terms()`, `.observe()`."""
        return Election(self._it.election(path, id=id, layout=layout, on_loss="flag"), self._on, on_loss)

    def group(self, path: str, *, layout: GroupLayout = "native") -> Group:
        """Who is there: `with group.join(data):`, `.members()`."""
        return Group(self._it.group(path, layout=layout), self._on)

    def ephemeral(self, path: str, data: bytes = b"") -> EphemeralKeeper:
        """An ephemeral znode that is kept across sessions while the block lasts."""
        return EphemeralKeeper(self._it.ephemeral(path, data), self._on)

    def ttl_node(self, path: str, data: bytes = b"", *, ttl: float) -> TtlKeeper:
        """A znode with a TTL in seconds, touched in time while the block lasts."""
        return TtlKeeper(self._it.ttl_node(path, data, ttl=ttl), self._on)

    def registry(self, path: str, *, layout: RegistryLayout = "curator") -> Registry:
        """Services and who offers them: `.register(instance)`, `.provider(service)`."""
        return Registry(self._it.registry(path, layout=layout), self._on)

    def barrier(self, path: str) -> Barrier:
        """Holds everybody back who waits, while it is up."""
        return Barrier(self._it.barrier(path), self._on)

    def double_barrier(self, path: str, n: int, *, id: bytes = b"") -> DoubleBarrier:
        """Lets members in when `n` are there, and out together."""
        return DoubleBarrier(self._it.double_barrier(path, n, id=id), self._on)

    @overload
    def counter(
        self, path: str, *, layout: CounterLayout = "native", default: int = 0, lock_path: str | None = None
    ) -> Counter[int]: ...

    @overload
    def counter(
        self, path: str, *, layout: CounterLayout = "native", default: float, lock_path: str | None = None
    ) -> Counter[float]: ...

    def counter(
        self, path: str, *, layout: CounterLayout = "native", default: float = 0, lock_path: str | None = None
    ) -> Counter[int] | Counter[float]:
        """A number that many add to; a float if `default` is one. With `lock_path` the unlucky take turns there."""
        return Counter(
            self._on.do(lambda: self._it.counter(path, layout=layout, default=default, lock_path=lock_path)), self._on
        )

    def sequence(self, path: str, *, cache: int = 1) -> IdSequence:
        """Numbers that nobody gets twice, `cache` of them at a time."""
        return IdSequence(self._it.sequence(path, cache=cache), self._on)

    def queue(self, path: str, *, layout: QueueLayout = "native", lock_path: str | None = None) -> Queue:
        """Items that wait for consumers: `.put(data)`, `.take()`."""
        return Queue(self._it.queue(path, layout=layout, lock_path=lock_path, on_loss="flag"), self._on)

    def lease(self, path: str, duration: float, *, id: str | None = None, count: int | None = None) -> Lease:
        """A right for so many seconds, without waiting. Without an `id` only this object can renew it."""
        return Lease(self._it.lease(path, duration, id=id, count=count), self._on)

    def partition(
        self, path: str, items: Iterable[str], *, id: str, settle: float = SETTLE_S, share: Share = every_nth
    ) -> Partition:
        """Items shared out among members: `.assignments()`."""
        return Partition(self._it.partition(path, list(items), id=id, settle=settle, share=share), self._on)

    def once(self, path: str) -> Once:
        """Jobs by key, each run by one member and at most once."""
        return Once(self._it.once(path), self._on)

    def leader_scheduler(self, path: str, *, id: bytes) -> LeaderScheduler:
        """Jobs at regular times, run by whoever leads."""
        return LeaderScheduler(self._it.leader_scheduler(path, id=id), self._on)

    def lock(
        self,
        path: str,
        *,
        id: bytes = b"",
        timeout: float | None = None,
        on_loss: OnLoss | None = None,
        layout: Layout = "native",
        reentrant: bool = False,
    ) -> Lock:
        """A fair lock: `with zk.lock("/locks/job", timeout=5) as held:`. See Lock."""
        return Lock(
            self._it.lock(path, id=id, timeout=timeout, on_loss="flag", layout=layout, reentrant=reentrant),
            self._on,
            on_loss,
        )

    def exclusive_lock(
        self,
        path: str,
        *,
        id: bytes = b"",
        timeout: float | None = None,
        on_loss: OnLoss | None = None,
        reentrant: bool = False,
    ) -> ExclusiveLock:
        """A lock that is one znode, `path` itself: whoever creates it first. Not fair; see ExclusiveLock."""
        return ExclusiveLock(
            self._it.exclusive_lock(path, id=id, timeout=timeout, on_loss="flag", reentrant=reentrant),
            self._on,
            on_loss,
        )

    def rwlock(
        self,
        path: str,
        *,
        id: bytes = b"",
        timeout: float | None = None,
        on_loss: OnLoss | None = None,
        layout: Layout = "native",
        reentrant: bool = False,
    ) -> RWLock:
        """Readers together, writers alone: `with zk.rwlock("/conf").read():`. See RWLock."""
        return RWLock(
            self._it.rwlock(path, id=id, timeout=timeout, on_loss="flag", layout=layout, reentrant=reentrant),
            self._on,
            on_loss,
        )

    def semaphore(
        self,
        path: str,
        permits: int,
        *,
        id: bytes = b"",
        timeout: float | None = None,
        on_loss: OnLoss | None = None,
        layout: Layout = "native",
    ) -> Semaphore:
        """At most so many holders: `with zk.semaphore("/pool", 3) as held:`. See Semaphore."""
        return Semaphore(
            self._it.semaphore(path, permits, id=id, timeout=timeout, on_loss="flag", layout=layout), self._on, on_loss
        )

    def semaphore_mutex(
        self, path: str, *, id: bytes = b"", timeout: float | None = None, on_loss: OnLoss | None = None
    ) -> Semaphore:
        """A lock in the layout of Curator's InterProcessSemaphoreMutex: a semaphore with one permit."""
        return Semaphore(self._it.semaphore_mutex(path, id=id, timeout=timeout, on_loss="flag"), self._on, on_loss)

    def multilock(
        self,
        paths: Sequence[str],
        *,
        id: bytes = b"",
        timeout: float | None = None,
        on_loss: OnLoss | None = None,
        layout: Layout = "native",
        reentrant: bool = False,
    ) -> MultiLock:
        """All of these locks or none: `with zk.multilock(["/a", "/b"]) as held:`. See MultiLock."""
        return MultiLock(
            self._it.multilock(paths, id=id, timeout=timeout, on_loss="flag", layout=layout, reentrant=reentrant),
            self._on,
            on_loss,
        )

    @overload
    def value(self, path: str) -> Value[bytes]: ...

    @overload
    def value(self, path: str, codec: ValueCodec[T]) -> Value[T]: ...

    def value(self, path: str, codec: ValueCodec[T] | None = None) -> Value[T] | Value[bytes]:
        """A value that is changed by comparing, and watched; bytes without a codec."""
        if codec is None:
            return Value(self._it.value(path), self._on)
        return Value(self._it.value(path, codec), self._on)
