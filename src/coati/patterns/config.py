"""Config: settings that live in a znode, read at the start, kept up to date, always of the right type.

    @dataclass(frozen=True)
    class Settings:
        rate: int = 10
        hosts: tuple[str, ...] = ()

    async with Config(zk, "/config/app", from_json(Settings), default=Settings()) as config:
        config.value.rate
        async for settings in config.changes(): ...

A new value that cannot be decoded does not replace the old one: `error` says what is wrong with it, the log says so
once. Session loss: the last value stays in use; when a server answers again, what was missed is read.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import types
import typing
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

from coati.client.client import BaseClient
from coati.client.types import Node
from coati.errors import ClientClosed, ZKError

T = TypeVar("T")
_LOG: Final = logging.getLogger(__name__)


class BadConfig(ValueError):
    """The data of a znode is not the configuration that it should be."""


class Config(Generic[T]):
    """The value of one znode, decoded. `default` holds while the znode is missing; without one, that is an error.

    `decode` raises ValueError or TypeError for what it does not take.
    """

    def __init__(
        self, client: BaseClient, path: str, decode: Callable[[bytes], T], *, default: T | None = None
    ) -> None:
        self._client = client
        self._path = path
        self._decode = decode
        self._default = default
        self._value: T | None = None
        self._version = -1
        self._serial = 0
        self._changed: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self.error: ValueError | None = None

    @property
    def value(self) -> T:
        """The newest that could be decoded."""
        if self._value is None:
            raise ClientClosed("a Config is read by `async with`; ask inside")
        return self._value

    @property
    def version(self) -> int:
        """Of the znode that `value` comes from; -1 for the default."""
        return self._version

    async def changes(self) -> AsyncIterator[T]:
        """The value now, then each new one; values that nobody waited for in time are left out."""
        seen = -1
        while True:
            if seen != self._serial:
                seen = self._serial
                yield self.value
            elif self._task is None or self._task.done():
                return
            else:
                if self._changed is None or self._changed.done():
                    self._changed = asyncio.get_running_loop().create_future()
                await asyncio.shield(self._changed)

    async def __aenter__(self) -> Self:
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = self._client.spawn(self._follow(first))
        try:
            await first
        except BaseException:
            self._task.cancel()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._wake()

    async def _follow(self, first: asyncio.Future[None]) -> None:
        try:
            async with self._client.values(self._path) as nodes:
                async for node in nodes:
                    self._take(node)
                    if not first.done():
                        self._tell_first(first)
                    self._wake()
        except ZKError as error:
            if first.done():
                _LOG.warning("%s is not followed any more: %s", self._path, error)
            else:
                first.set_exception(error)
        finally:
            self._wake()

    def _tell_first(self, first: asyncio.Future[None]) -> None:
        if self._value is None:
            first.set_exception(self.error or BadConfig(f"{self._path} is missing"))
        else:
            first.set_result(None)

    def _take(self, node: Node | None) -> None:
        try:
            value, version = self._read(node)
        except (ValueError, TypeError) as error:
            where = self._path if node is None else f"{self._path}, version {node.version}"
            self.error = BadConfig(f"{where}: {error}")
            _LOG.warning("kept the last good configuration: %s", self.error)
            return
        self.error = None
        self._version = version
        if value != self._value:
            self._value = value
            self._serial += 1

    def _read(self, node: Node | None) -> tuple[T, int]:
        if node is not None:
            return self._decode(node.data), node.version
        if self._default is None:
            raise BadConfig("it is missing")
        return self._default, -1

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)


def from_json(cls: type[T]) -> Callable[[bytes], T]:
    """A decoder of JSON objects into a dataclass, field by field: what is unknown or of another type is refused.

    Fields may be bool, int, float, str, tuples, lists and dicts of these, other dataclasses, and each of them or None.
    """
    if not dataclasses.is_dataclass(cls):
        raise TypeError(f"{cls!r} is no dataclass")

    def decode(data: bytes) -> T:
        found: object = json.loads(data)
        return _build(cls, found, "")

    return decode


def to_json(value: object) -> bytes:
    """A dataclass as the JSON that `from_json` reads."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        raise TypeError(f"{value!r} is no dataclass instance")
    return json.dumps(dataclasses.asdict(value), indent=2, sort_keys=True).encode()


def _build(cls: type[T], found: object, where: str) -> T:
    if not isinstance(found, dict):
        raise BadConfig(f"{where or 'it'} is no JSON object")
    hints = typing.get_type_hints(cls)
    known = {field.name for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]  # it is a dataclass
    unknown = sorted(str(name) for name in found if name not in known)
    if unknown:
        raise BadConfig(f"unknown: {', '.join(_at(where, name) for name in unknown)}")
    return cls(**{name: _fit(hints[name], value, _at(where, name)) for name, value in found.items()})


def _at(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _fit(hint: object, value: object, where: str) -> object:
    """The value as its field has it. Raises BadConfig."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _fit_union(arguments, value, where)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _build(hint, value, where)
    if origin in (list, tuple) and isinstance(value, list):
        # tuple[int, ...] and list[int] have one kind of item, tuple[int, str] has a kind for each place.
        kinds = [arguments[0]] * len(value) if origin is list or arguments[-1] is ... else list(arguments)
        if len(kinds) != len(value):
            raise BadConfig(f"{where} has {len(value)} items, not {len(kinds)}")
        items = [_fit(kind, item, f"{where}[{at}]") for at, (kind, item) in enumerate(zip(kinds, value, strict=True))]
        return items if origin is list else tuple(items)
    if origin is dict and isinstance(value, dict):
        return {key: _fit(arguments[1], item, _at(where, key)) for key, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    if hint is type(None) and value is None:
        return None
    raise BadConfig(f"{where} is {value!r}, which is no {getattr(hint, '__name__', hint)}")


def _fit_union(hints: tuple[object, ...], value: object, where: str) -> object:
    for hint in hints:
        try:
            return _fit(hint, value, where)
        except BadConfig:
            continue
    names = " or ".join(str(getattr(hint, "__name__", hint)) for hint in hints)
    raise BadConfig(f"{where} is {value!r}, which is no {names}")
