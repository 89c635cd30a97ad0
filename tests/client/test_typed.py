"""Typed views: values in, the same values out; what is no value is named by path and version."""

from __future__ import annotations

import builtins
import sys
from types import ModuleType, SimpleNamespace

import pytest

import coati
from coati.client.codecs import BYTES, JSON, TEXT, Codec, json_codec, msgspec_codec, pydantic_codec
from tests.client.livekit import client, run


def test_typed_verbs_read_and_write_values(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk:
            plans = zk.typed(json_codec())
            made = await plans.create(f"{top}/a", {"b": [1, None], "a": "é"}, parents=True)
            assert (made.path, made.name, made.value, made.version) == (f"{top}/a", "a", {"b": [1, None], "a": "é"}, 0)
            assert (await zk.get(f"{top}/a")).data == '{"a":"é","b":[1,null]}'.encode()
            read = await plans.get(f"{top}/a")
            assert (read.value, read.zxid) == (made.value, made.stat.czxid)
            stat = await plans.set(f"{top}/a", 1, version=0)
            assert stat.version == 1
            with pytest.raises(coati.BadVersion):
                await plans.set(f"{top}/a", 2, version=0)
            assert (await plans.put(f"{top}/x/y", "new")).version == 0
            assert not await plans.ensure(f"{top}/a", "other")
            serial = await plans.create(f"{top}/q-", True, mode=coati.Mode.SEQUENTIAL)
            assert serial.path == f"{top}/q-0000000002"

    run(scene)


def test_typed_update_begins_again_when_somebody_else_was_faster(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk:
            names = zk.typed(TEXT)
            await names.create(top, "a")
            rivals = ["b"]

            class Rival:
                """Sets the data whenever it is about to be set."""

                def __getattr__(self, name: str) -> object:
                    return getattr(zk, name)

                def bounded(self, verb: str, path: str) -> Rival:
                    return self

                async def set(self, path: str, data: bytes, *, version: int = -1) -> coati.Stat:
                    if rivals:
                        await zk.set(path, rivals.pop().encode())
                    return await zk.set(path, data, version=version)

            contested = coati.TypedClient(Rival(), TEXT, streams=zk)  # type: ignore[arg-type]  # it has what zk has
            node = await contested.update(top, lambda name: name + "!")
            assert (node.value, node.version) == ("b!", 2)
            assert (await names.get(top)).value == "b!"

    run(scene)


def test_typed_values_go_on_after_data_that_is_none(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk, zk.typed(json_codec()).values(top) as values:
            assert await values.poll(10) is None
            await zk.create(top, b"{")
            with pytest.raises(coati.DecodeError, match=f"{top}: version 0 cannot be decoded: JSONDecodeError"):
                await values.poll(10)
            with pytest.raises(TimeoutError):
                await values.poll(0.02)
            await zk.set(top, b"[1]")
            node = await values.poll(10)
            assert node is not None
            assert (node.value, node.version) == ([1], 1)

    run(scene)


def test_data_that_is_none_raises_with_path_and_version(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk:
            await zk.create(top, b"\xff")
            with pytest.raises(coati.DecodeError) as caught:
                await zk.typed(TEXT).get(top)
            assert (caught.value.path, caught.value.version) == (top, 0)
            assert isinstance(caught.value, ValueError)
            assert isinstance(caught.value.__cause__, UnicodeDecodeError)
            assert (await zk.typed(BYTES).get(top)).value == b"\xff"

    run(scene)


def test_what_json_cannot_say_is_not_sent(port: int, top: str) -> None:
    async def scene() -> None:
        async with client(port) as zk:
            with pytest.raises(ValueError, match="JSON"):
                await zk.typed(json_codec()).create(top, float("nan"))
            assert await zk.exists(top) is None

    run(scene)


def round_trip(codec: Codec[JSON], value: JSON) -> tuple[bytes, JSON]:
    data = codec.encode(value)
    return data, codec.decode(data)


def test_json_can_be_made_for_people() -> None:
    assert round_trip(json_codec(indent=1), {"a": 1}) == (b'{\n "a": 1\n}', {"a": 1})


@pytest.mark.parametrize("package", ["msgspec", "pydantic"])
def test_missing_packages_are_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: object) -> ModuleType:
        if name == package:
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *args)  # type: ignore[arg-type]  # handed on as it came

    monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    make = {"msgspec": msgspec_codec, "pydantic": pydantic_codec}[package]
    with pytest.raises(ImportError, match=f"pip install {package}"):
        make(dict)


class Marked:
    """Stands for both packages: marks what passes, so that it can be seen who was asked."""

    def __init__(self, *args: object) -> None:
        self.args = args

    def encode(self, value: object) -> bytes:
        return f"<{value}>".encode()

    def decode(self, data: bytes) -> object:
        return (self.args, data)

    dump_json = encode
    validate_json = decode


def test_adapters_ask_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    format = SimpleNamespace(Encoder=Marked, Decoder=Marked)
    monkeypatch.setitem(sys.modules, "msgspec", SimpleNamespace(json=None, msgpack=format))
    monkeypatch.setitem(sys.modules, "pydantic", SimpleNamespace(TypeAdapter=Marked))
    codecs: list[Codec[object]] = [msgspec_codec(object, format="msgpack"), pydantic_codec(object)]
    for codec in codecs:
        assert codec.encode(1) == b"<1>"
        assert codec.decode(b"x") == ((object,), b"x")


@pytest.mark.parametrize("name", ["msgspec", "msgpack", "pydantic"])
def test_adapters_of_the_real_packages(name: str) -> None:
    pytest.importorskip("pydantic" if name == "pydantic" else "msgspec", reason="an optional package")
    codec: Codec[list[int]] = {
        "msgspec": lambda: msgspec_codec(list[int]),
        "msgpack": lambda: msgspec_codec(list[int], format="msgpack"),
        "pydantic": lambda: pydantic_codec(list[int]),
    }[name]()
    assert codec.decode(codec.encode([1, 2])) == [1, 2]
    with pytest.raises(ValueError):
        codec.decode(b"\xc1")
