"""A server process: builds what a configuration asks for, runs it on an event loop, and ends it in order.

Knows every part by its constructor and nothing of what they do. Exit codes are Java's (exitcodes.py).
Order of starting: lock and port first, since both may be taken; then recovery; the port is opened last, so whoever is
let in is served. Order of ending: no new clients, what is being written is made durable and answered, then the files.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import resource
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Final, TextIO

from coati import __version__
from coati.core.acl import Access, AccessConfig
from coati.core.answer import Answers
from coati.core.prepare import PrepareConfig, Preparer
from coati.core.sessions import SessionTable
from coati.core.tree import Tree, TreeConfig
from coati.core.watches import Watches
from coati.errors import ConfigError, StorageCorrupt, StorageFailed
from coati.server import logs
from coati.server.busypoll import BusyPoll
from coati.server.clock import SystemClock
from coati.server.collector import CycleCollector
from coati.server.config import ServerConfig, shown
from coati.server.driver import Driver
from coati.server.dynamicconfig import ViewKeeper
from coati.server.exitcodes import (
    FINISHED,
    INVALID_INVOCATION,
    QUORUM_PORT_BIND_ERROR,
    SEVERE_LOG_ERROR,
    UNABLE_TO_ACCESS_DATADIR,
    UNEXPECTED_ERROR,
)
from coati.server.fourletter import COMPATIBLE_VERSION, parse_whitelist
from coati.server.hub import Hub, HubParts
from coati.server.links import Links, link_limits
from coati.server.listeners import ClientListener, bind, java_address, java_host
from coati.server.listeners import Limits as ListenerLimits
from coati.server.readonly import GivenIds, ReadOnly, Retreat
from coati.server.reconfig import DynamicHub, planner_of
from coati.server.recovery import Collector, Loaded, load
from coati.server.replica import Replica, ReplicaConfig
from coati.server.stats import ServerStats
from coati.server.view import VERSION_DIR, LiveView
from coati.storage.disk import RealDisk
from coati.storage.recovery import newest_snapshot_bytes
from coati.storage.store import Store, StoreConfig
from coati.zab.broadcast import Broadcast
from coati.zab.broadcast import Limits as RoleLimits
from coati.zab.peer import PeerConfig
from coati.zab.quorum import View as QuorumView
from coati.zab.solo import Solo

# The `server` extra brings uvloop; without it asyncio's own loop does the same work, more slowly.
_new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
with contextlib.suppress(ImportError):
    import uvloop

    _new_loop = uvloop.new_event_loop

logger = logging.getLogger("coati.server.main")

# Descriptors that connections must leave for files, the loop and the server's own sockets.
RESERVED_FILES: Final = 32
# Java's standalone server gives ids as server 1 would.
STANDALONE_SERVER_ID: Final = 1
# How long the end may take: for the disk, then for the last bytes to clients.
DRAIN_S: Final = 2.0
GOODBYE_S: Final = 1.0
POLL_S: Final = 0.01
MAX_TICK_S: Final = 0.5
HOUR_S: Final = 3600
# When the disk's thread has synced it needs the interpreter's lock to say so, and a busy loop would keep it for the
# default of 5 ms, longer than the sync of a good disk takes. Measured with one write in ten requests, 8 x 16 in flight:
# 82,000 requests/s and a p99 of 10.3 ms with the default, 168,000 and 1.5 ms with this; less gains nothing more.
SWITCH_INTERVAL_S: Final = 0.0005
_CLOCK: Final = SystemClock()
_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """A signal came while the server was starting, so there is nothing to finish. Both loops let this base through."""


class Server:
    """One server on one event loop, alone or in an ensemble: `open`, then `wait`; `stop` or a fatal error ends it."""

    def __init__(
        self,
        config: ServerConfig,
        loop: asyncio.AbstractEventLoop,
        clock: SystemClock,
        *,
        disk: RealDisk | None = None,
        collector: Collector | None = None,
    ) -> None:
        """`collector` keeps Python's from the tree; without one it is the process's, for a server that has it alone.

        Raises ConfigError for a compression that is not installed.
        """
        self._config = config
        self._loop = loop
        self._clock = clock
        self._disk = disk or RealDisk(loop.call_soon_threadsafe)
        self._store = Store(self._disk, store_config(config))
        self._driver: Driver | None = None
        self._listener: ClientListener | None = None
        self._view: LiveView | None = None
        self._links: Links | None = None
        self._stats = ServerStats()
        self._collector = collector or CycleCollector()
        self._keeper = ViewKeeper(config, self._disk, self._move_clients)
        self._ended: asyncio.Future[int] = loop.create_future()
        self._stopping: asyncio.Task[None] | None = None
        # By what they do, so that each is there once.
        self._timers: dict[str, asyncio.TimerHandle] = {}

    # Starting.

    def open(self) -> tuple[str, int]:
        """Takes the port, recovers the data, lets clients in; the address it is reached at. Blocking.

        Raises OSError for the port, StorageCorrupt and StorageFailed for the data.
        """
        config = self._config
        bound = bind(config.client_address, config.client_port)
        try:
            loaded = self._load()
            driver = self._make_driver(loaded)
        except BaseException:
            bound.close()
            raise
        self._driver = driver
        view = LiveView(config, driver, self._disk, self._clock)
        words = parse_whitelist(config.four_letter_whitelist, is_read_only_enabled=config.read_only_mode)
        now_ms = self._clock.monotonic_ms
        self._listener = ClientListener(driver, view, words, listener_limits(config), self._loop, now_ms)
        host, port = bound.getsockname()[:2]
        view.listener = self._listener
        view.client_port = port
        view.is_running = True
        self._view = view
        self._listener.start(bound)
        self._tick()
        if config.purge_interval_h > 0:
            self._purge()
        return java_host(host), port

    def _make_driver(self, loaded: Loaded) -> Driver:
        """With a replica that serves at once, or with a hub that looks for a leader first."""
        config = self._config
        hub = replica = None
        if config.ensemble is None:
            replica = self._make_replica(Solo(loaded.tree.last_zxid), loaded.tree, loaded.timeouts)
        else:
            hub = self._make_hub(config.ensemble, loaded)
        driver = Driver(
            replica,
            self._store,
            self._clock,
            stats=self._stats,
            post=self._loop.call_soon,
            on_fatal=self._on_fatal,
            slow_sync_ms=config.fsync_warning_ms,
            busy_poll=self._busy_poll(),
            hub=hub,
        )
        if hub is not None:
            assert config.ensemble is not None, "a hub is for an ensemble"
            self._links = self._keeper.links = Links(
                config.my_id, config.ensemble, hub, self._loop, link_limits(config)
            )
            self._links.start()
            hub.start(driver, self._links)
        return driver

    def _make_hub(self, view: QuorumView, loaded: Loaded) -> Hub:
        config = self._config
        hub_type = partial(DynamicHub, keeper=self._keeper) if config.reconfig_enabled else Hub
        return hub_type(
            peer_config(config, view),
            loaded,
            self._store,
            self._clock,
            HubParts(
                tree_config=tree_config(config),
                make_replica=self._make_replica,
                call_at=self._call_at,
                diff_limit_bytes=self._diff_limit_bytes,
                on_bind_failed=self._on_bind_failed,
                leader_serves=config.leader_serves,
                collector=self._collector,
                retreat=self._retreat() if config.read_only_mode else None,
            ),
        )

    def _retreat(self) -> Retreat:
        """What clients have while nobody leads."""
        given = GivenIds()
        return Retreat(
            lambda tree, timeouts: self._make_read_only(tree, timeouts, given), tick_ms=self._config.tick_time_ms
        )

    def _call_at(self, when_ms: int, call: Callable[[], None]) -> None:
        delay_s = max(when_ms - self._clock.monotonic_ms(), 0) / 1000
        self._loop.call_later(delay_s, call)

    def _diff_limit_bytes(self) -> int:
        """How much of the log a learner gets in place of a snapshot (LearnerHandler.syncFollower)."""
        config = self._config
        factor = config.snapshot_size_factor
        if factor < 0:
            return -1
        return int(newest_snapshot_bytes(self._disk, f"{config.data_dir}/{VERSION_DIR}") * factor)

    def _move_clients(self, host: str, port: int) -> None:
        """A reconfig: clients connect elsewhere. Those that are connected stay (NIOServerCnxnFactory.reconfigure)."""
        config, listener, view = self._config, self._listener, self._view
        if listener is None or view is None or self._stopping is not None or self._ended.done():
            return
        try:
            bound = self._bound_beside(listener, host, port)
        except OSError as error:
            where = java_address(host or "*", port)
            logger.error("cannot listen address=%s reason=%s, clients stay where they were", where, error)
            return
        listener.stop()
        config.client_address, config.client_port = host, port
        listener.start(bound)
        view.client_port = bound.getsockname()[1]
        logger.info("clients connect to address=%s", java_address(host or "*", port))

    def _bound_beside(self, listener: ClientListener, host: str, port: int) -> socket.socket:
        """The new socket, while the old one listens on; only for the same port at another address it must go first.

        Raises OSError: then clients connect where they did.
        """
        config = self._config
        if port != config.client_port:
            return bind(host, port)
        listener.stop()
        try:
            return bind(host, port)
        except OSError:
            listener.start(bind(config.client_address, config.client_port))
            raise

    def _on_bind_failed(self, reason: str) -> None:
        logger.critical("a port between the servers cannot be taken, exiting: %s", reason)
        self._end_at_once(QUORUM_PORT_BIND_ERROR)

    def _busy_poll(self) -> BusyPoll | None:
        config, give_way = self._config, getattr(os, "sched_yield", None)
        if give_way is None or config.busy_poll_us <= 0:
            return None
        # Two disks one after the other, and the ways between: measured with three servers on two processors, a lone
        # write takes three quarters of what it takes if the loop sleeps behind its own sync.
        is_alone = config.ensemble is None
        limit_us = config.busy_poll_us if is_alone else 2 * config.busy_poll_us
        return BusyPoll(self._loop.call_soon, self._clock.monotonic_us, give_way, limit_us, outlasts=not is_alone)

    def _load(self) -> Loaded:
        config, clock = self._config, self._clock
        started_ms = clock.monotonic_ms()
        self._collector.rest()
        loaded = load(self._store, tree_config(config), is_alone=config.ensemble is None)
        self._collector.settle()
        tree = loaded.tree
        took_ms = clock.monotonic_ms() - started_ms
        self._stats.observe("dbinittime", took_ms)
        self._stats.observe("startup_txns_loaded", loaded.replayed)
        logger.info(
            "recovered zxid=%#x znodes=%d sessions=%d replayed=%d ms=%d dir=%s",
            tree.last_zxid,
            tree.node_count(),
            len(loaded.timeouts),
            loaded.replayed,
            took_ms,
            os.path.abspath(config.data_dir),
        )
        return loaded

    def _make_replica(self, role: Broadcast, tree: Tree, timeouts: dict[int, int]) -> Replica:
        """What serves clients in one role."""
        config = self._config
        sessions = self._make_sessions(timeouts)
        access = Access(access_config(config))
        watches = Watches()
        return Replica(
            tree=tree,
            sessions=sessions,
            watches=watches,
            preparer=Preparer(tree, sessions, access, prepare_config(config), planner_of(role)),
            answers=Answers(tree, watches, access),
            access=access,
            broadcast=role,
            stats=self._stats,
            entropy=random.Random(os.urandom(16)),
            config=replica_config(config),
        )

    def _make_read_only(self, tree: Tree, timeouts: dict[int, int], given: GivenIds) -> ReadOnly:
        """What serves clients that may be read-only."""
        return ReadOnly(
            tree=tree,
            sessions=self._make_sessions(timeouts),
            access=Access(access_config(self._config)),
            stats=self._stats,
            config=replica_config(self._config),
            given=given,
        )

    def _make_sessions(self, timeouts: dict[int, int]) -> SessionTable:
        config, clock = self._config, self._clock
        # Ids come from the time of day, so that a rebooted machine does not give old ones again; deadlines do not.
        sid = STANDALONE_SERVER_ID if config.ensemble is None else config.my_id
        sessions = SessionTable(config.tick_time_ms, sid, clock.wall_ms())
        sessions.restore(timeouts, clock.monotonic_ms())
        return sessions

    # Running.

    @property
    def has_ended(self) -> bool:
        """Whether there is nothing to serve with any more."""
        return self._ended.done()

    @property
    def driver(self) -> Driver:
        """What runs an open server."""
        assert self._driver is not None, "the server is not open"
        return self._driver

    @property
    def view(self) -> LiveView:
        """What four-letter words are answered from."""
        assert self._view is not None, "the server is not open"
        return self._view

    async def wait(self) -> int:
        """The exit code, once the server has ended and its connections are gone."""
        code = await self._ended
        if self._stopping is not None:
            await self._stopping
        listener = self._listener
        assert listener is not None, "only an open server is waited for"
        await self._until(lambda: listener.connection_count == 0, GOODBYE_S)
        return code

    def _tick(self) -> None:
        assert self._driver is not None, "a server ticks once it is open"
        self._driver.tick()
        period_s = min(self._config.tick_time_ms / 2000, MAX_TICK_S)
        self._timers["tick"] = self._loop.call_later(period_s, self._tick)

    def _purge(self) -> None:
        """Now and every so many hours (DatadirCleanupManager)."""
        assert self._driver is not None, "a server purges once it is open"
        self._driver.purge()
        self._timers["purge"] = self._loop.call_later(self._config.purge_interval_h * HOUR_S, self._purge)

    # Ending.

    def stop(self, reason: str) -> None:
        """Begins to end; again it does nothing."""
        if self._stopping is None and not self._ended.done():
            logger.info("stopping reason=%s", reason)
            self._stopping = self._loop.create_task(self._finish())

    def abandon(self) -> None:
        """Ends as a killed process does: nobody is told, nothing is made durable. Its files stay open."""
        self._end_at_once(UNEXPECTED_ERROR)
        self._stop_timers()

    def on_broken(self, error: BaseException | None, what: str) -> None:
        """A callback failed: the state may be half changed, so nothing is served from it any more."""
        logger.critical("internal error, please report it what=%s", shown(what), exc_info=error)
        self._end_at_once(UNEXPECTED_ERROR)

    def _on_fatal(self, error: BaseException) -> None:
        is_read = isinstance(error, StorageCorrupt)
        what = "the data cannot be gone on with" if is_read else "the transaction log cannot be written"
        logger.critical("%s, exiting: %s", what, error)
        self._end_at_once(SEVERE_LOG_ERROR)

    def _end_at_once(self, code: int) -> None:
        """Without a word to the clients: they are to find that their last requests were not answered."""
        if self._links is not None:
            self._links.stop()
        if self._listener is None:
            # The very first turn has failed; `open` has not returned yet.
            self._end(code)
            return
        self._listener.stop()
        self._listener.abort_connections()
        self._end(code)

    def _end(self, code: int) -> None:
        """The first reason to end is the one that counts."""
        if not self._ended.done():
            self._ended.set_result(code)

    async def _finish(self) -> None:
        """Ends in order: no new clients, what is under way is made durable and answered, then the connections."""
        driver, listener = self._driver, self._listener
        assert driver is not None, "only an open server is stopped"
        assert listener is not None, "only an open server is stopped"
        listener.stop()
        await self._until(lambda: driver.is_idle or self._ended.done(), DRAIN_S)
        listener.close_connections()
        await self._until(lambda: listener.connection_count == 0, GOODBYE_S)
        listener.abort_connections()
        self._end(FINISHED)

    async def _until(self, holds: Callable[[], bool], limit_s: float) -> None:
        deadline_s = self._loop.time() + limit_s
        while not holds() and self._loop.time() < deadline_s:
            turn = self._loop.create_future()
            self._loop.call_later(POLL_S, turn.set_result, None)
            await turn

    def close(self) -> None:
        """Releases port, timers, files and the lock. Blocking: what was appended is synced. Raises StorageFailed."""
        if self._links is not None:
            self._links.stop()
        if self._listener is not None:
            self._listener.stop()
            self._listener.abort_connections()
        self._stop_timers()
        try:
            self._store.close()
        finally:
            self._disk.close()

    def _stop_timers(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()


# What of the configuration goes where.


def store_config(config: ServerConfig) -> StoreConfig:
    return StoreConfig(
        data_dir=config.data_dir,
        log_dir=config.data_log_dir,
        prealloc_bytes=config.pre_alloc_kb * 1024,
        log_size_limit_bytes=config.txn_log_size_limit_kb * 1024 if config.txn_log_size_limit_kb > 0 else -1,
        force_sync=config.force_sync,
        compression=config.snapshot_compression,
        digest_enabled=config.digest_enabled,
        last_zxid_trailer=config.serialize_last_processed_zxid,
        trust_empty_snapshot=config.snapshot_trust_empty,
        autocreate_db=config.db_autocreate,
        autocreate_dirs=config.data_dir_autocreate,
        retain_count=config.snap_retain_count,
        max_payload_bytes=max_payload_bytes(config),
    )


def tree_config(config: ServerConfig) -> TreeConfig:
    return TreeConfig(
        digest_enabled=config.digest_enabled,
        extended_types=config.extended_types,
        emulate_353_ttl=config.emulate_353_ttl,
    )


def peer_config(config: ServerConfig, view: QuorumView) -> PeerConfig:
    return PeerConfig(
        config.my_id,
        view,
        limits=RoleLimits(
            config.tick_time_ms,
            config.init_limit,
            config.sync_limit,
            connect_ticks=config.connect_limit,
            redial_ms=config.leader_connect_delay_ms,
        ),
        commit_log_count=config.commit_log_count,
        linearizable_sync=config.linearizable_sync,
        forces_snapshot=config.force_snapshot_sync,
        min_notification_ms=config.min_notification_ms,
        max_notification_ms=config.max_notification_ms,
        is_dynamic=config.reconfig_enabled,
        is_standalone_enabled=config.standalone_enabled,
        seen=config.seen,
    )


def access_config(config: ServerConfig) -> AccessConfig:
    return AccessConfig(
        skip_acl=config.skip_acl,
        super_digest=config.super_digest or None,
        digest_algorithm=config.hash_name,
        digest_enabled=config.digest_auth_enabled,
    )


def prepare_config(config: ServerConfig) -> PrepareConfig:
    return PrepareConfig(
        enforce_quota=config.enforce_quota,
        reconfig_enabled=config.reconfig_enabled,
        max_payload_bytes=max_payload_bytes(config),
    )


def max_payload_bytes(config: ServerConfig) -> int:
    """The longest txn that can be read back: nothing longer may be logged."""
    return config.max_buffer_bytes + config.max_buffer_extra_bytes


def replica_config(config: ServerConfig) -> ReplicaConfig:
    return ReplicaConfig(
        tick_ms=config.tick_time_ms,
        min_session_timeout_ms=config.min_session_timeout_ms,
        max_session_timeout_ms=config.max_session_timeout_ms,
        max_frame_bytes=config.max_buffer_bytes,
        snap_count=config.snap_count,
        snap_size_limit_bytes=config.snap_size_limit_kb * 1024 if config.snap_size_limit_kb > 0 else 0,
        outstanding_limit=config.global_outstanding_limit,
        container_interval_ms=config.container_check_interval_ms,
        container_max_per_minute=config.container_max_per_minute,
        container_max_never_used_ms=config.container_max_never_used_ms,
        required_schemes=config.required_schemes,
    )


def listener_limits(config: ServerConfig) -> ListenerLimits:
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return ListenerLimits(
        per_address=max(config.max_client_cnxns, 0),
        total=max(config.max_cnxns, 0),
        open_files=max(descriptors - RESERVED_FILES, 1) if descriptors != resource.RLIM_INFINITY else 0,
        sessionless_ms=config.sessionless_timeout_ms,
        backlog=config.listen_backlog,
        is_kept_alive=config.client_tcp_keepalive,
    )


# The process.


def run(
    config: ServerConfig,
    stream: TextIO,
    *,
    log_level: str = "info",
    on_serving: Callable[[str], None] = lambda address: None,
    clock: SystemClock = _CLOCK,
) -> int:
    """Runs a server until a signal ends it; the process's exit code. Logs go to `stream`.

    `clock` is another one where the wall clock is to be wrong on purpose.
    """
    logs.set_up(stream, log_level)
    for number in _STOP_SIGNALS:
        signal.signal(number, _interrupt)
    for warning in config.warnings:
        logger.warning("%s", warning)
    raise_file_limit()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    loop = _new_loop()
    try:
        return _run_on(loop, config, on_serving, clock)
    finally:
        loop.close()


def _run_on(
    loop: asyncio.AbstractEventLoop, config: ServerConfig, on_serving: Callable[[str], None], clock: SystemClock
) -> int:
    try:
        server = Server(config, loop, clock)
    except ConfigError as error:
        logger.critical("%s", error)
        return INVALID_INVOCATION
    try:
        code = _open_and_wait(server, loop, config, on_serving)
    except Interrupted:
        logger.info("stopped before serving")
        code = FINISHED
    finally:
        is_closed = _close(server)
    if code == FINISHED and not is_closed:
        return SEVERE_LOG_ERROR
    return code


def _open_and_wait(
    server: Server, loop: asyncio.AbstractEventLoop, config: ServerConfig, on_serving: Callable[[str], None]
) -> int:
    try:
        host, port = server.open()
    except StorageCorrupt as error:
        logger.critical("the data is damaged, nothing was changed: %s", error)
        return SEVERE_LOG_ERROR
    except StorageFailed as error:
        logger.critical("the data directory cannot be used: %s", error)
        return UNABLE_TO_ACCESS_DATADIR
    except OSError as error:
        where = java_address(config.client_address or "*", config.client_port)
        logger.critical("cannot listen address=%s reason=%s", where, error.strerror or error)
        return UNEXPECTED_ERROR
    loop.set_exception_handler(lambda _, context: _on_exception(server, context))
    return loop.run_until_complete(_serve(server, loop, java_address(host, port), on_serving))


async def _serve(
    server: Server, loop: asyncio.AbstractEventLoop, address: str, on_serving: Callable[[str], None]
) -> int:
    # Only now, as uvloop loses signals that come before it runs.
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, server.stop, number.name)
    if server.has_ended:
        # A port between the servers is taken, and that is the last word.
        return await server.wait()
    logger.info(
        "serving address=%s port=%s version=%s compatible=%s loop=%s pid=%d",
        address,
        address.rpartition(":")[2],
        __version__,
        COMPATIBLE_VERSION,
        _new_loop.__module__.partition(".")[0],
        os.getpid(),
    )
    on_serving(address)
    code = await server.wait()
    if code == FINISHED:
        logger.info("stopped")
    return code


def _close(server: Server) -> bool:
    """Closes the server; False when its last writes could not be made durable."""
    try:
        server.close()
    except StorageFailed as error:
        logger.critical("the end could not be written: %s", error)
        return False
    return True


def _on_exception(server: Server, context: dict[str, object]) -> None:
    """What nobody caught: the end of the connection whose protocol or task it is, or else of the server."""
    error = context.get("exception")
    what = str(context.get("message", ""))
    raised = error if isinstance(error, BaseException) else None
    if "protocol" in context or "task" in context or "future" in context:
        logger.error("connection failed what=%s", shown(what), exc_info=raised)
    else:
        server.on_broken(raised, what)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted


def raise_file_limit() -> None:
    """As many descriptors as this user may have, which is what the JVM does too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
