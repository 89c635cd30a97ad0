"""A server process: builds what a configuration asks for, runs it on an event loop, and ends it in order.

Knows every part by its constructor and nothing of what they do. Exit codes are Java's (exitcodes.py).
Order of starting: lock and port first, since both may be taken; then recovery; the port is opened last, so whoever is
let in is served. Order of ending: no new clients, what is being written is made durable and answered, then the files.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import resource
import signal
from typing import Final, TextIO

from coati import __version__
from coati.core.acl import Access, AccessConfig
from coati.core.answer import Answers
from coati.core.prepare import PrepareConfig, Preparer
from coati.core.sessions import SessionTable
from coati.core.tree import TreeConfig
from coati.core.watches import Watches
from coati.errors import StorageCorrupt, StorageFailed
from coati.server import logs
from coati.server.clock import SystemClock
from coati.server.config import ServerConfig, shown
from coati.server.driver import Driver
from coati.server.exitcodes import FINISHED, SEVERE_LOG_ERROR, UNABLE_TO_ACCESS_DATADIR, UNEXPECTED_ERROR
from coati.server.fourletter import COMPATIBLE_VERSION, parse_whitelist
from coati.server.listeners import ClientListener, Limits, java_address
from coati.server.recovery import load
from coati.server.replica import Replica, ReplicaConfig
from coati.server.stats import ServerStats
from coati.server.view import LiveView
from coati.storage.disk import RealDisk
from coati.storage.store import Store, StoreConfig
from coati.zab.solo import Solo

try:
    import uvloop
except ImportError:  # the `server` extra brings it; without it asyncio's own loop does the same work, more slowly
    uvloop = None

logger = logging.getLogger("coati.server.main")

# Descriptors that connections must leave for files, sockets of the server itself and the loop.
RESERVED_FILES: Final = 32
# A standalone Java server numbers its sessions as server 1 would.
STANDALONE_SERVER_ID: Final = 1
# How long the end may take: for the disk, then for the last bytes to clients.
DRAIN_S: Final = 2.0
GOODBYE_S: Final = 1.0
POLL_S: Final = 0.01
MAX_TICK_S: Final = 0.5
HOUR_S: Final = 3600
# A znode is a container that the collector would look at; with a million of them a full collection takes a second, and
# there is nothing for it to find, since nothing of ours makes cycles in steady state. So: what recovery has built is
# frozen out of its sight, and young objects are looked at rarely.
GC_THRESHOLDS: Final = (100_000, 50, 1000)


class Server:
    """One standalone server on one event loop."""

    def __init__(self, config: ServerConfig, loop: asyncio.AbstractEventLoop) -> None:
        self._config = config
        self._loop = loop
        self._clock = SystemClock()
        self._disk = RealDisk(loop.call_soon_threadsafe)
        self._store = Store(self._disk, store_config(config))
        self._ended: asyncio.Future[int] = loop.create_future()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._driver: Driver | None = None
        self._listener: ClientListener | None = None
        self._view: LiveView | None = None
        self.address = ("", 0)

    def start(self) -> None:
        """Recovers and begins to serve. Raises OSError for the port, StorageCorrupt, StorageFailed."""
        config, clock = self._config, self._clock
        loaded = load(self._store, tree_config(config))
        sessions = SessionTable(config.tick_time_ms, STANDALONE_SERVER_ID, clock.wall_ms())
        sessions.restore(loaded.timeouts, clock.monotonic_ms())
        access = Access(access_config(config))
        watches = Watches()
        replica = Replica(
            tree=loaded.tree,
            sessions=sessions,
            watches=watches,
            preparer=Preparer(loaded.tree, sessions, access, prepare_config(config)),
            answers=Answers(loaded.tree, watches, access, sessions),
            access=access,
            solo=Solo(loaded.tree.last_zxid),
            stats=ServerStats(),
            entropy=random.Random(os.urandom(16)),
            config=replica_config(config),
        )
        self._driver = Driver(
            replica, self._store, clock, post=self._loop.call_soon, on_fatal=self._on_fatal
        )
        self._view = LiveView(config, replica, self._disk, clock)
