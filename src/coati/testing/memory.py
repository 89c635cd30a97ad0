"""The members of an ensemble in this process: servers on the running loop, real sockets, data in memory.

Knows how to start, kill, freeze and cut them off. What they log goes into one tail that all share, and on to who wants
it as before.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from coati.core.tree import Tree
from coati.core.znode import unpack_stat
from coati.server.embed import Config, Server
from coati.testing.backends import LOOKING, SERVING, STOPPED, Ground, Plan
from coati.testing.probe import Seen
from coati.testing.wires import MemberLoop, Network

LOG_LINES: Final = 200
_LOGGERS: Final = ("coati.server", "coati.storage")


class LogTail(logging.Handler):
    """The last lines of the servers of this process, also those that nobody else wants to see."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: deque[str] = deque(maxlen=LOG_LINES)
        self.setFormatter(logging.Formatter("%(asctime)s.%(msecs)03d %(levelname)s %(name)s %(message)s", "%H:%M:%S"))
        self._before: list[tuple[logging.Logger, int, bool]] = []
        self._users = 0

    def attach(self) -> None:
        """Somebody wants the lines from now on."""
        self._users += 1
        if self._users > 1:
            return
        self.lines.clear()
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            self._before.append((logger, logger.level, logger.propagate))
            logger.setLevel(logging.INFO)
            logger.propagate = False
            logger.addHandler(self)

    def detach(self) -> None:
        self._users -= 1
        if self._users > 0:
            return
        for logger, level, propagate in self._before:
            logger.removeHandler(self)
            logger.setLevel(level)
            logger.propagate = propagate
        self._before = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))
        # As if the level of these loggers had not been lowered for the tail.
        outer = logging.getLogger("coati")
        if record.levelno >= outer.getEffectiveLevel():
            outer.callHandlers(record)


# Loggers belong to the process, and so does this.
TAIL: Final = LogTail()


class MemoryBackend:
    """coati.testing.backends.Backend."""

    name: Final = "memory"
    look_s: Final = 0.002

    def __init__(self, members: int, observers: int, config: Mapping[str, object]) -> None:
        self._ground = Ground(members, observers, config)
        self.plans: dict[int, Plan] = self._ground.plans
        self._network = Network()
        self._servers: dict[int, Server] = {}
        self._loops: dict[int, MemberLoop] = {}
        TAIL.attach()
        for plan in self.plans.values():
            self._network.give_port(plan.quorum_port, plan.sid)
            self._network.give_port(plan.election_port, plan.sid)

    async def launch(self, sid: int) -> None:
        def guard(loop: asyncio.AbstractEventLoop) -> MemberLoop:
            made = self._loops[sid] = MemberLoop(loop, sid, self._network)
            return made

        my_id = sid if len(self.plans) > 1 else None
        server = Server(Config(self._ground.keys(sid), my_id=my_id), guard=guard)
        await server.start()
        self._servers[sid] = server

    async def end(self, sid: int, *, is_clean: bool) -> None:
        server = self._servers[sid]
        if is_clean:
            await server.stop()
        else:
            await server.kill()

    def pause(self, sid: int) -> None:
        self._loops[sid].freeze()

    def resume(self, sid: int) -> None:
        self._loops[sid].thaw()

    def set_cuts(self, ways: Sequence[tuple[int, int]]) -> None:
        self._network.set_cuts(ways)

    def drop_clients(self, sid: int) -> int:
        return self._loops[sid].drop_clients()

    def role(self, sid: int) -> str:
        server = self._servers.get(sid)
        if server is None:
            return STOPPED
        role = server.role
        # It may follow already, and is still being told what it missed.
        return LOOKING if role in SERVING and not server.is_serving else role

    def server(self, sid: int) -> Server:
        """The server itself, to look inside."""
        return self._servers[sid]

    def tree(self, sid: int, limit: int) -> list[Seen]:
        tree = self._servers[sid].tree
        return [] if tree is None else seen_in(tree, limit)

    def watches_below(self, path: bytes) -> list[tuple[str, int]]:
        """What is watched at the path or below it, by which session, at any member."""
        found: list[tuple[str, int]] = []
        for sid, server in self._servers.items():
            if self.role(sid) in SERVING:
                for watched, owners in server.view.watches_by_path():
                    if watched == path or watched.startswith(path + b"/"):
                        found += [(watched.decode(errors="replace"), owner) for owner in owners]
        return found

    def log(self, sid: int) -> list[str]:
        return list(TAIL.lines)

    async def close(self) -> None:
        self._network.set_cuts([])
        for loop in self._loops.values():
            loop.thaw()
        try:
            for server in self._servers.values():
                await server.kill()
            # The ends of their connections are closed in the next turns.
            while any(loop.has_wires for loop in self._loops.values()):  # noqa: ASYNC110  # two turns, no event
                await asyncio.sleep(0)
        finally:
            TAIL.detach()
            self._ground.close()


def seen_in(tree: Tree, limit: int) -> list[Seen]:
    """Some of its znodes, in order of their paths, parents first."""
    found: list[Seen] = []
    waiting = [b"/"]
    while waiting and len(found) < limit:
        path = waiting.pop()
        znode = tree.find(path)
        if znode is None:
            continue
        stat = unpack_stat(znode.stat())
        found.append(Seen(path.decode(errors="replace"), stat[8], stat[4], stat[7]))
        if znode.children is not None:
            waiting += sorted(znode.children.paths, reverse=True)
    return found
