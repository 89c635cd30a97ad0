"""Codecs: how a value becomes the data of a znode, and comes back. For typed views (`client.typed`).

Knows text and JSON; msgspec and pydantic only when a codec of theirs is made, since neither is needed to import coati.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final, Generic, Literal, Protocol, TypeVar

T = TypeVar("T")

JSON = None | bool | int | float | str | Sequence["JSON"] | Mapping[str, "JSON"]
"""What JSON can say."""


class Codec(Protocol[T]):
    """Two functions; `decode` raises any error where data is not what `encode` makes."""

    def encode(self, value: T) -> bytes: ...

    def decode(self, data: bytes) -> T: ...


class _Bytes:
    def encode(self, value: bytes) -> bytes:
        return value

    def decode(self, data: bytes) -> bytes:
        return data


class _Text:
    def encode(self, value: str) -> bytes:
        return value.encode()

    def decode(self, data: bytes) -> str:
        return data.decode()


class _Json:
    def __init__(self, indent: int | None) -> None:
        self._indent = indent

    def encode(self, value: JSON) -> bytes:
        separators = (",", ":") if self._indent is None else (",", ": ")
        # Sorted, so that equal values are equal data; NaN and infinity are no JSON, other readers would choke on them.
        return json.dumps(
            value, ensure_ascii=False, allow_nan=False, sort_keys=True, indent=self._indent, separators=separators
        ).encode()

    def decode(self, data: bytes) -> JSON:
        value: JSON = json.loads(data)
        return value


BYTES: Final[Codec[bytes]] = _Bytes()
"""As it is."""

TEXT: Final[Codec[str]] = _Text()
"""UTF-8."""


def json_codec(*, indent: int | None = None) -> Codec[JSON]:
    """JSON by the standard library, keys sorted, in one line unless `indent` says otherwise."""
    return _Json(indent)


class _Msgspec(Generic[T]):
    def __init__(self, type: type[T], format: Literal["json", "msgpack"]) -> None:
        import msgspec

        module = msgspec.json if format == "json" else msgspec.msgpack
        self._encoder = module.Encoder()
        self._decoder = module.Decoder(type)

    def encode(self, value: T) -> bytes:
        data: bytes = self._encoder.encode(value)
        return data

    def decode(self, data: bytes) -> T:
        value: T = self._decoder.decode(data)
        return value


class _Pydantic(Generic[T]):
    def __init__(self, type: type[T]) -> None:
        import pydantic

        self._adapter = pydantic.TypeAdapter(type)

    def encode(self, value: T) -> bytes:
        data: bytes = self._adapter.dump_json(value)
        return data

    def decode(self, data: bytes) -> T:
        value: T = self._adapter.validate_json(data)
        return value


def msgspec_codec(type: type[T], *, format: Literal["json", "msgpack"] = "json") -> Codec[T]:
    """Values of a type that msgspec knows: a Struct, a dataclass, a TypedDict. Raises ImportError without msgspec."""
    try:
        return _Msgspec(type, format)
    except ModuleNotFoundError as error:
        raise _missing("msgspec", error) from error


def pydantic_codec(type: type[T]) -> Codec[T]:
    """Values of a pydantic model, or another type that it validates, as JSON. Raises ImportError without pydantic."""
    try:
        return _Pydantic(type)
    except ModuleNotFoundError as error:
        raise _missing("pydantic", error) from error


def _missing(package: str, error: ModuleNotFoundError) -> ImportError:
    return ImportError(f"{package}_codec needs the package {package} (pip install {package}): {error}", name=package)
