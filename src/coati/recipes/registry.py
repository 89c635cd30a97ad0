"""Registry: who offers a service and where, and a provider that chooses one of them for each request.

Layouts: Curator's, `{path}/{service}/{id}` with JSON (curator-x-discovery), and Dubbo's, `{path}/{service}/providers/`
and `/consumers/` with a URL as the name of the znode (the mission's `/${service}/providers`). Session loss: what was
registered is made again in the next session; consumers go on with the list that they know, and read what they missed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Final, Literal, Self

from coati.client.cache import TreeCache
from coati.client.client import BaseClient
from coati.client.types import join_path
from coati.errors import NoNode, ZKError
from coati.recipes.balance import LeastLoaded, RoundRobin, Strategy
from coati.recipes.instances import DYNAMIC, BadInstance, Instance, from_curator, from_url, to_curator, url_name
from coati.recipes.keeper import EphemeralKeeper

RegistryLayout = Literal["curator", "dubbo"]
_LOG: Final = logging.getLogger(__name__)


class NoInstance(ZKError):
    """Nobody offers the service now, or everybody who does has failed too often of late."""


class Registry:
    """`async with registry.register(instance):` offers it; `registry.provider(service)` finds it."""

    def __init__(self, client: BaseClient, path: str, *, layout: RegistryLayout = "curator") -> None:
        self.path = path
        self._client = client
        self._layout = layout

    def directory(self, service: str) -> str:
        """Where the instances of a service are. Raises ValueError for a name that cannot be one of a znode."""
        if not service or "/" in service:
            raise ValueError(f"a service is named without slashes, not {service!r}")
        place = join_path(self.path, service)
        return place if self._layout == "curator" else f"{place}/providers"

    def register(self, instance: Instance) -> Registration:
        """Offers the instance while the block lasts; one that is not DYNAMIC stays there."""
        return Registration(self._client, self._znode(instance), instance, self._data)

    @asynccontextmanager
    async def consume(self, service: str, url: str) -> AsyncGenerator[None, None]:
        """Says, while the block lasts, that `url` uses the service. Raises ValueError in Curator's layout."""
        if self._layout != "dubbo":
            raise ValueError("only the layout dubbo has a place for consumers")
        where = f"{join_path(self.path, service)}/consumers"
        await self._client.ensure(where)
        async with EphemeralKeeper(self._client, join_path(where, url_name(url))):
            yield

    async def consumers(self, service: str) -> list[str]:
        """The URLs of those who use it, sorted."""
        if self._layout != "dubbo":
            raise ValueError("only the layout dubbo has a place for consumers")
        return await self._listed(f"{join_path(self.path, service)}/consumers", lambda name: from_url("", name).url)

    async def services(self) -> list[str]:
        """The names of all services, sorted; also of those that nobody offers now."""
        return await self._listed(self.path, str)

    async def instances(self, service: str) -> list[Instance]:
        """Who offers it now, in the order of their names. What cannot be read is left out, and logged."""
        directory = self.directory(service)
        names = await self._listed(directory, str)
        found = await asyncio.gather(*(self._read(service, join_path(directory, name)) for name in names))
        return [instance for instance in found if instance is not None]

    async def follow(self, service: str) -> AsyncGenerator[list[Instance], None]:
        """Who offers it now, then each time that this changes."""
        directory = self.directory(service)
        async with TreeCache(self._client, directory, depth=1) as cache, cache.changes() as changes:
            told = self.of_cache(service, cache)
            yield told
            async for _ in changes:
                now = self.of_cache(service, cache)
                if now != told:
                    told = now
                    yield now

    def provider(
        self, service: str, strategy: Strategy[Instance] | None = None, *, tolerates: int = 2, rests: float = 30.0
    ) -> Provider:
        """Chooses among those who offer it; see Provider. In turn, if no strategy is given."""
        return Provider(self, self._client, service, strategy, tolerates=tolerates, rests=rests)

    def of_cache(self, service: str, cache: TreeCache) -> list[Instance]:
        """The instances in a cache of their directory, the enabled ones."""
        found: list[Instance] = []
        for name in cache.children(cache.path):
            node = cache.get(join_path(cache.path, name))
            if node is not None:
                instance = self._parse(service, name, node.data)
                if instance is not None and instance.enabled:
                    found.append(instance)
        return found

    # --- layouts ----------------------------------------------------------------------------------

    def _znode(self, instance: Instance) -> str:
        name = instance.id if self._layout == "curator" else url_name(instance.url or instance.id)
        return join_path(self.directory(instance.service), name)

    def _data(self, instance: Instance) -> bytes:
        return to_curator(instance) if self._layout == "curator" else b""

    def _parse(self, service: str, name: str, data: bytes) -> Instance | None:
        try:
            return from_curator(data) if self._layout == "curator" else from_url(service, name)
        except BadInstance as error:
            _LOG.warning("%s has an instance %s that cannot be read: %s", service, name, error)
            return None

    async def _read(self, service: str, path: str) -> Instance | None:
        try:
            node = await self._client.get(path)
        except NoNode:
            return None
        return self._parse(service, node.name, node.data)

    async def _listed(self, path: str, show: Callable[[str], str]) -> list[str]:
        try:
            return sorted(show(name) for name in await self._client.children(path))
        except NoNode:
            return []


class Registration:
    """One instance on offer. `async with`; `update` changes what it says of itself."""

    def __init__(self, client: BaseClient, path: str, instance: Instance, encode: Callable[[Instance], bytes]) -> None:
        self.path = path
        self.instance = instance
        self._client = client
        self._encode = encode
        self._keeper = EphemeralKeeper(client, path, encode(instance)) if instance.kind == DYNAMIC else None

    async def update(self, instance: Instance) -> None:
        """Replaces it by one of the same name. Raises ValueError for another name, or another kind."""
        old = self.instance
        if (instance.service, instance.id, instance.kind, instance.url) != (old.service, old.id, old.kind, old.url):
            raise ValueError("service, id, kind and URL of an instance stay as they are; register another one")
        self.instance = instance
        data = self._encode(instance)
        if self._keeper is not None:
            await self._keeper.set(data)
        else:
            await self._client.set(self.path, data)

    async def __aenter__(self) -> Self:
        await self._client.ensure(self.path.rpartition("/")[0])
        if self._keeper is not None:
            await self._keeper.__aenter__()
        else:
            await self._client.put(self.path, self._encode(self.instance))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._keeper is not None:
            await self._keeper.__aexit__(kind, error, trace)


class Provider:
    """`async with registry.provider("billing") as provider:`, then for each request `with provider.use() as instance`.

    An instance whose uses have raised more than `tolerates` times within `rests` seconds is left out for that long
    (Curator's DownInstancePolicy); if that leaves nobody, nobody is left out. What is not known any more is forgotten.
    """

    def __init__(
        self,
        registry: Registry,
        client: BaseClient,
        service: str,
        strategy: Strategy[Instance] | None,
        *,
        tolerates: int,
        rests: float,
    ) -> None:
        self.service = service
        self._registry = registry
        self._cache = TreeCache(client, registry.directory(service), depth=1)
        self._strategy = strategy or RoundRobin[Instance]()
        self._tolerates = tolerates
        self._rests = rests
        self._uses: dict[str, int] = {}
        self._faults: dict[str, list[float]] = {}

    def load(self, instance: Instance) -> int:
        """How many uses of it are under way here: what LeastLoaded asks."""
        return self._uses.get(instance.id, 0)

    def least_loaded(self) -> Self:
        """From now on the instance with the fewest uses under way is chosen."""
        self._strategy = LeastLoaded[Instance](self.load)
        return self

    @property
    def instances(self) -> list[Instance]:
        """All that are known and enabled, those that rest included."""
        return self._registry.of_cache(self.service, self._cache)

    def pick(self, key: str | None = None) -> Instance:
        """One of them; `key` is what the request is about, for strategies that care. Raises NoInstance."""
        known = self.instances
        if not known:
            error = NoInstance(f"nobody offers {self.service}")
            error.path = self._cache.path
            raise error
        now = asyncio.get_running_loop().time()
        rested = [instance for instance in known if not self._is_resting(instance, now)]
        return self._strategy.pick(rested or known, key)

    @contextmanager
    def use(self, key: str | None = None) -> Generator[Instance, None, None]:
        """Picks one and counts its use while the block lasts; an Exception in the block counts as its fault."""
        instance = self.pick(key)
        self._uses[instance.id] = self.load(instance) + 1
        try:
            yield instance
        except Exception:
            self.note_fault(instance)
            raise
        finally:
            left = self._uses[instance.id] - 1
            if left:
                self._uses[instance.id] = left
            else:
                del self._uses[instance.id]

    def note_fault(self, instance: Instance) -> None:
        """It has not done what it should."""
        self._faults.setdefault(instance.id, []).append(asyncio.get_running_loop().time())

    def _is_resting(self, instance: Instance, now: float) -> bool:
        faults = [at for at in self._faults.get(instance.id, ()) if now - at < self._rests]
        if faults:
            self._faults[instance.id] = faults
        else:
            self._faults.pop(instance.id, None)
        return len(faults) > self._tolerates

    async def __aenter__(self) -> Self:
        await self._cache.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._cache.__aexit__(kind, error, trace)
