"""Games that clients play on a simulated ensemble while it is disturbed, each with rules that nobody may break.

A game has players, each a client on a host of its own, and a verdict when all is healed and every player is done. The
rules are those of the recipes' users: two holders never overlap, nothing is lost or taken twice, who follows arrives.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager
from random import Random
from typing import Final

import coati
from coati.errors import ZKError
from coati.recipes.election import ElectionLayout
from coati.recipes.line import Layout
from coati.testing.world import SimWorld

SESSION_S: Final = 4.0


class Foul(AssertionError):
    """A rule was broken."""


class Game(ABC):
    """One game of one run. `moves` counts what succeeded: a run in which nothing happens proves nothing."""

    def __init__(self, world: SimWorld, name: str) -> None:
        self.world = world
        self.name = name
        self.moves = 0
        self.ends_at = 0.0

    @asynccontextmanager
    async def client(self) -> AsyncIterator[coati.Client]:
        """A client with dice of the run, which starts whatever the weather."""
        client = coati.Client(self.world.hosts, session_timeout=SESSION_S, entropy=self.world.random())
        await client.start(timeout=None)
        try:
            yield client
        finally:
            await client.aclose()

    def dice(self) -> Random:
        """For one player."""
        return self.world.random()

    @property
    def is_over(self) -> bool:
        """Players come to an end."""
        return asyncio.get_running_loop().time() >= self.ends_at

    @abstractmethod
    async def setup(self, zk: coati.Client) -> None:
        """Before the faults begin."""

    @abstractmethod
    def players(self) -> list[Coroutine[object, object, None]]:
        """Each plays until `is_over`."""

    @abstractmethod
    async def verdict(self, zk: coati.Client) -> None:
        """After the last one is done. Raises Foul."""


class Counting(Game):
    """Everybody adds one by compare and set: what was acknowledged is in the sum, what was not may be, once."""

    def __init__(self, world: SimWorld) -> None:
        super().__init__(world, "counting")
        self.unclear = 0

    async def setup(self, zk: coati.Client) -> None:
        await zk.create("/count", b"0")

    def players(self) -> list[Coroutine[object, object, None]]:
        return [self._play() for _ in range(3)]

    async def _play(self) -> None:
        dice = self.dice()
        async with self.client() as zk:
            while not self.is_over:
                try:
                    await zk.update("/count", lambda data: b"%d" % (int(data) + 1))
                    self.moves += 1
                except ZKError as error:
                    self.unclear += error.maybe_applied
                await asyncio.sleep(dice.random() * 0.5)

    async def verdict(self, zk: coati.Client) -> None:
        total = int((await zk.get("/count")).data)
        if not self.moves <= total <= self.moves + self.unclear:
            raise Foul(f"{self.moves} were acknowledged and {self.unclear} are unclear, and the sum is {total}")


class Following(Game):
    """One writes growing numbers, others follow: nobody sees a smaller one after a larger one, all see the last one."""

    LAST: Final = b"1000000"

    def __init__(self, world: SimWorld) -> None:
        super().__init__(world, "following")

    async def setup(self, zk: coati.Client) -> None:
        await zk.create("/news", b"0")

    def players(self) -> list[Coroutine[object, object, None]]:
        return [self._write(), self._follow(), self._follow()]

    async def _write(self) -> None:
        dice = self.dice()
        number = 0
        async with self.client() as zk:
            while not self.is_over:
                number += 1
                try:
                    await zk.put("/news", b"%d" % number)
                    if dice.random() < 0.1:
                        await zk.delete("/news")
                except ZKError:
                    continue
                await asyncio.sleep(dice.random())
            await persist(zk.put, "/news", self.LAST)

    async def _follow(self) -> None:
        last = -1
        async with self.client() as zk, zk.values("/news") as nodes:
            async for node in nodes:
                if node is None:
                    continue
                if int(node.data) < last:
                    raise Foul(f"{node.data!r} was seen after {last}")
                last = int(node.data)
                self.moves += 1
                if node.data == self.LAST:
                    return

    async def verdict(self, zk: coati.Client) -> None:
        if (await zk.get("/news")).data != self.LAST:
            raise Foul("the last number was not written")


class Roll(Game):
    """Members come and go, others follow the list: in the end all see the same one."""

    END: Final = frozenset(f"p{number}-has-left" for number in range(3))

    def __init__(self, world: SimWorld) -> None:
        super().__init__(world, "roll")
        self.lists: list[frozenset[str]] = []

    async def setup(self, zk: coati.Client) -> None:
        await zk.create("/roll")

    def players(self) -> list[Coroutine[object, object, None]]:
        return [*(self._come_and_go(f"p{number}") for number in range(3)), self._follow(), self._follow()]

    async def _come_and_go(self, name: str) -> None:
        dice = self.dice()
        async with self.client() as zk:
            while not self.is_over:
                try:
                    await zk.create(f"/roll/{name}", mode=coati.Mode.EPHEMERAL)
                    self.moves += 1
                    await asyncio.sleep(dice.random() * 2)
                    await zk.delete(f"/roll/{name}", missing_ok=True)
                except ZKError:
                    await asyncio.sleep(dice.random())
            # Who leaves in good order leaves nothing; this one says that it is over.
            await persist(zk.ensure, f"/roll/{name}-has-left")

    async def _follow(self) -> None:
        async with self.client() as zk, zk.members("/roll") as rolls:
            async for names in rolls:
                if names == self.END:
                    self.lists.append(names)
                    return

    async def verdict(self, zk: coati.Client) -> None:
        if frozenset(await zk.children("/roll")) != self.END or len(self.lists) != 2:
            raise Foul(f"the lists are {self.lists}, on the server there is {await zk.children('/roll')}")


class Room:
    """Where at most `places` may be at a time. Who holds through a session that was ended before its time may not know.

    No client can know that before the server has told it; what protects then is the guard, which `Fenced` judges.
    """

    def __init__(self, world: SimWorld, places: int = 1) -> None:
        self._world = world
        self._places = places
        self.inside: dict[str, int] = {}

    @contextmanager
    def visit(self, name: str, session_id: int) -> Iterator[None]:
        """From the first to the last moment of a body. Raises Foul."""
        others = [other for other, session in self.inside.items() if session not in self._world.expired]
        if len(others) >= self._places:
            raise Foul(f"{name} is let in beside {', '.join(others)}")
        self.inside[name] = session_id
        try:
            yield
        finally:
            del self.inside[name]


class Fenced:
    """What holders write under their guard: in the order of the txns, tokens never become smaller."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._written: list[tuple[int, int]] = []

    async def write(self, zk: coati.Client, held: coati.Held) -> None:
        """One guarded write. Raises what the server says against it."""
        results = await zk.multi([held.guard(), coati.Set(self.path, b"%d" % held.token)])
        stat = results[1]
        assert isinstance(stat, coati.Stat)
        self._written.append((stat.mzxid, held.token))

    def verdict(self) -> None:
        """Raises Foul."""
        tokens = [token for _, token in sorted(self._written)]
        if tokens != sorted(tokens):
            raise Foul(f"{self.path}: a stale holder has written, the tokens are {tokens}")


class Holding(Game):
    """Players compete for something that one of them, or a few, may hold."""

    PLACES = 1

    def __init__(self, world: SimWorld, name: str) -> None:
        super().__init__(world, name)
        self.room = Room(world, self.PLACES)
        self.fenced = Fenced(f"/{name}-log")

    async def setup(self, zk: coati.Client) -> None:
        await zk.create(self.fenced.path)

    def players(self) -> list[Coroutine[object, object, None]]:
        return [*(self._play(f"{self.name}-{number}") for number in range(4)), self._cut_off_somebody()]

    async def _cut_off_somebody(self) -> None:
        """Now and then a player, often one who holds, reaches no server for longer than its session lives."""
        dice = self.dice()
        while not self.is_over:
            await asyncio.sleep(4 * dice.random())
            host = dice.choice([f"{self.name}-{dice.randrange(4)}", *self.room.inside])
            for _ in range(dice.randrange(60)):
                self.world.client_cut(host)
                await asyncio.sleep(0.2)
            for sid in self.world.cluster.members:
                self.world.heal(host, sid)

    @abstractmethod
    def hold(self, zk: coati.Client, name: str) -> AbstractAsyncContextManager[coati.Held]:
        """The recipe's block."""

    async def _play(self, name: str) -> None:
        dice = self.dice()
        async with self.client() as zk:
            while not self.is_over:
                try:
                    async with self.hold(zk, name) as held:
                        with self.room.visit(name, zk.session.id):
                            await self._work(zk, held, dice)
                    self.moves += 1
                except ZKError:
                    pass
                await asyncio.sleep(dice.random())

    async def _work(self, zk: coati.Client, held: coati.Held, dice: Random) -> None:
        """Sometimes for longer than a session lives without an answer; some look at nothing but their own watch."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + dice.choice((0.01, 0.5, 4.0, 16.0)) * dice.random()
        writes = dice.random() < 0.7
        while loop.time() < ends_at:
            await asyncio.sleep(min(dice.random(), ends_at - loop.time()))
            if writes:
                await self.write(zk, held)
        held.check()

    async def write(self, zk: coati.Client, held: coati.Held) -> None:
        """Where one holder at a time is the rule, under its guard."""
        await self.fenced.write(zk, held)

    async def verdict(self, zk: coati.Client) -> None:
        self.fenced.verdict()
        # Nobody may have come so far as to make it, or the server has taken an empty container away.
        stat = await zk.exists(f"/{self.name}")
        if stat is not None and stat.num_children:
            raise Foul(f"left behind: {await zk.children(f'/{self.name}')}")


class Locking(Holding):
    """The ordered lock."""

    def __init__(self, world: SimWorld) -> None:
        super().__init__(world, "locking")
        self.layout: Layout = world.dice.choice(("native", "curator", "kazoo"))

    def hold(self, zk: coati.Client, name: str) -> AbstractAsyncContextManager[coati.Held]:
        return zk.lock("/locking", id=name.encode(), timeout=20.0, layout=self.layout)


class Electing(Holding):
    """The office."""

    def __init__(self, world: SimWorld) -> None:
        super().__init__(world, "electing")
        self.layout: ElectionLayout = world.dice.choice(("native", "curator", "kazoo"))

    def hold(self, zk: coati.Client, name: str) -> AbstractAsyncContextManager[coati.Held]:
        return zk.election("/electing", id=name.encode(), layout=self.layout)


class Permitting(Holding):
    """A semaphore with two permits."""

    PLACES = 2

    def __init__(self, world: SimWorld) -> None:
        super().__init__(world, "permitting")
        self.layout: Layout = world.dice.choice(("native", "curator", "kazoo"))

    def hold(self, zk: coati.Client, name: str) -> AbstractAsyncContextManager[coati.Held]:
        return zk.semaphore("/permitting", 2, id=name.encode(), timeout=20.0, layout=self.layout)

    async def write(self, zk: coati.Client, held: coati.Held) -> None:
        """Two holders may write in any order."""

    async def verdict(self, zk: coati.Client) -> None:
        """The room has judged."""


class Reading(Game):
    """A read/write lock: who writes is alone, who reads is among readers."""

    def __init__(self, world: SimWorld) -> None:
        super().__init__(world, "reading")
        self.layout: Layout = world.dice.choice(("native", "curator", "kazoo"))
        self.writers = Room(world)
        self.readers: dict[str, int] = {}

    async def setup(self, zk: coati.Client) -> None:
        await zk.create("/reading")

    def players(self) -> list[Coroutine[object, object, None]]:
        return [self._play(f"reading-{number}", writes=number < 2) for number in range(5)]

    async def _play(self, name: str, *, writes: bool) -> None:
        dice = self.dice()
        async with self.client() as zk:
            lock = zk.rwlock("/reading", id=name.encode(), timeout=20.0, layout=self.layout)
            while not self.is_over:
                try:
                    if writes:
                        async with lock.write():
                            await self._write(zk, name, dice)
                    else:
                        async with lock.read():
                            await self._read(zk, name, dice)
                    self.moves += 1
                except ZKError:
                    pass
                await asyncio.sleep(dice.random())

    async def _write(self, zk: coati.Client, name: str, dice: Random) -> None:
        with self.writers.visit(name, zk.session.id):
            if readers := self._sure(self.readers):
                raise Foul(f"{name} writes beside {readers}")
            await asyncio.sleep(dice.random())

    async def _read(self, zk: coati.Client, name: str, dice: Random) -> None:
        if writers := self._sure(self.writers.inside):
            raise Foul(f"{name} reads beside {writers}")
        self.readers[name] = zk.session.id
        try:
            await asyncio.sleep(dice.random())
        finally:
            del self.readers[name]

    def _sure(self, inside: dict[str, int]) -> list[str]:
        return [name for name, session in inside.items() if session not in self.world.expired]

    async def verdict(self, zk: coati.Client) -> None:
        """The players have judged."""


class Sharing(Game):
    """Items are shared out among those who are there: none has two owners."""

    ITEMS: Final = ("a", "b", "c", "d")

    def __init__(self, world: SimWorld) -> None:
        super().__init__(world, "sharing")
        self.owners: dict[str, tuple[str, int]] = {}

    async def setup(self, zk: coati.Client) -> None:
        await zk.create("/sharing")

    def players(self) -> list[Coroutine[object, object, None]]:
        return [self._play(f"sharing-{number}") for number in range(3)]

    async def _play(self, name: str) -> None:
        dice = self.dice()
        async with self.client() as zk:
            while not self.is_over:
                try:
                    async with asyncio.timeout(dice.choice((3.0, 15.0))):
                        await self._own(zk, name)
                except (TimeoutError, ZKError):
                    await asyncio.sleep(dice.random())

    async def _own(self, zk: coati.Client, name: str) -> None:
        partition = zk.partition("/sharing", self.ITEMS, id=name, settle=0.5)
        async with aclosing(partition.assignments()) as assignments:
            async for mine in assignments:
                async with mine:
                    session = zk.session.id
                    try:
                        for item in mine:
                            owner, other = self.owners.get(item, ("", 0))
                            if owner and other not in self.world.expired:
                                raise Foul(f"{item} is {owner}'s, and {name} is given it")
                            self.owners[item] = (name, session)
                        self.moves += bool(len(mine))
                        await mine.ended()
                    finally:
                        for item in mine:
                            if self.owners.get(item) == (name, session):
                                del self.owners[item]

    async def verdict(self, zk: coati.Client) -> None:
        """The players have judged."""


class Queueing(Game):
    """Each item is done once: not lost, not done twice, whoever dies on the way."""

    def __init__(self, world: SimWorld) -> None:
        super().__init__(world, "queueing")
        self.put: dict[bytes, None] = {}
        self.maybe_put: dict[bytes, None] = {}
        self.done: Counter[bytes] = Counter()
        self.maybe_done: dict[bytes, None] = {}
        self.producing = 2

    async def setup(self, zk: coati.Client) -> None:
        await zk.queue("/queueing").put(b"first")
        self.put[b"first"] = None

    def players(self) -> list[Coroutine[object, object, None]]:
        return [*(self._produce(f"{number}") for number in range(2)), *(self._consume() for _ in range(3))]

    async def _produce(self, name: str) -> None:
        dice = self.dice()
        async with self.client() as zk:
            queue = zk.queue("/queueing")
            number = 0
            while not self.is_over:
                number += 1
                data = f"{name}-{number}".encode()
                try:
                    await queue.put(data, priority=dice.choice((50, 100)))
                    self.put[data] = None
                except ZKError as error:
                    if error.maybe_applied:
                        self.maybe_put[data] = None
                await asyncio.sleep(dice.random())
        self.producing -= 1

    async def _consume(self) -> None:
        dice = self.dice()
        async with self.client() as zk:
            queue = zk.queue("/queueing")
            while self.producing or await self._size(zk):
                try:
                    async with await queue.get(timeout=2.0) as item:
                        data = item.data
                        self.maybe_done[data] = None
                        await asyncio.sleep(dice.choice((0.0, 0.1, 2.0)) * dice.random())
                    self.done[data] += 1
                    self.moves += 1
                except TimeoutError:
                    continue
                except ZKError:
                    await asyncio.sleep(dice.random())

    async def _size(self, zk: coati.Client) -> int:
        try:
            return await zk.queue("/queueing").size()
        except ZKError:
            return 1

    async def verdict(self, zk: coati.Client) -> None:
        twice = [data for data, count in self.done.items() if count > 1]
        lost = [data for data in self.put if data not in self.maybe_done]
        unknown = [data for data in self.done if data not in self.put and data not in self.maybe_put]
        if twice or lost or unknown:
            raise Foul(f"done twice: {twice}, lost: {lost}, never put: {unknown}")


class Caching(Game):
    """Others change a tree; whoever keeps a copy of it has the same one in the end, and never an older znode again."""

    def __init__(self, world: SimWorld) -> None:
        super().__init__(world, "caching")

    async def setup(self, zk: coati.Client) -> None:
        await zk.create("/caching")

    def players(self) -> list[Coroutine[object, object, None]]:
        return [self._change(0), self._change(1), self._keep(), self._keep()]

    async def _change(self, number: int) -> None:
        dice = self.dice()
        async with self.client() as zk:
            while not self.is_over:
                path = f"/caching/{dice.randrange(4)}"
                path += f"/{dice.randrange(3)}" * (dice.random() < 0.5)
                try:
                    if dice.random() < 0.3:
                        await zk.delete_tree(path)
                    else:
                        await zk.put(path, b"%d" % dice.randrange(1000))
                    self.moves += 1
                except ZKError:
                    pass
                await asyncio.sleep(dice.random() * dice.choice((0.05, 1.0)))
            await persist(zk.ensure, f"/caching/end-{number}")

    async def _keep(self) -> None:
        async with self.client() as zk:
            cache = zk.cache("/caching")
            while True:
                try:
                    await cache.__aenter__()
                    break
                except ZKError:
                    cache = zk.cache("/caching")
            try:
                newest: dict[str, int] = {}
                while not {"end-0", "end-1"} <= {*cache.children("/caching")}:
                    for path in cache.paths():
                        node = cache.get(path)
                        if node is not None and node.zxid < newest.get(path, 0):
                            raise Foul(f"{path} was of {newest[path]:#x}, and is of {node.zxid:#x} now")
                        newest[path] = 0 if node is None else node.zxid
                    await asyncio.sleep(0.2)
                await persist(cache.sync)
                real = {node.path: (node.data, node.zxid) async for node in zk.walk("/caching")}
                kept = {path: (node.data, node.zxid) for path in cache.paths() if (node := cache.get(path)) is not None}
                if kept != real:
                    raise Foul(f"the copy is {kept}, the tree {real}")
            finally:
                await cache.aclose()

    async def verdict(self, zk: coati.Client) -> None:
        """The players have judged."""


async def persist(verb: object, *arguments: object) -> None:
    """Calls until it succeeds: everything is healed by then."""
    assert callable(verb)
    while True:
        try:
            await verb(*arguments)
            return
        except ZKError:
            continue


GAMES: Final = (
    Counting, Following, Roll, Locking, Electing, Permitting, Reading, Sharing, Queueing, Caching,
)  # fmt: skip
