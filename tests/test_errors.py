"""The error tree: a class for each code a client can meet, and every code keeps its number."""

from __future__ import annotations

import copy

import pytest

from coati import errors
from coati.errors import KeeperError, StorageCorrupt, ZKError, keeper_error

CODES = {name: value for name, value in vars(errors).items() if name.isupper() and type(value) is int}
CLASSES = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, KeeperError)]


def camel(name: str) -> str:
    return "".join(word if word in ("ACL",) else word.title() for word in name.split("_"))


@pytest.mark.parametrize("name", CODES)
def test_code_gives_the_error_of_its_name(name: str) -> None:
    error = keeper_error(CODES[name], b"/a")
    assert (error.code, error.path) == (CODES[name], "/a")
    if type(error) is not KeeperError:
        assert type(error).class_code == CODES[name]
        assert type(error).__name__ in (camel(name), camel(name).removesuffix("Op"), "MarshallingRefused")


def test_each_class_stands_for_one_code_and_is_found_by_it() -> None:
    derived = [cls for cls in CLASSES if cls is not KeeperError]
    assert len({cls.class_code for cls in derived}) == len(derived) > 15
    assert {type(keeper_error(cls.class_code)) for cls in derived} == {*derived}


def test_unknown_code_keeps_its_number() -> None:
    error = keeper_error(-4711)
    assert type(error) is KeeperError
    assert (error.code, error.path) == (-4711, "")
    assert str(error) == "KeeperError (-4711)"


def test_error_without_a_code_has_that_of_its_class() -> None:
    assert errors.NoNode(b"/a").code == errors.NO_NODE
    assert KeeperError().code == errors.SYSTEM_ERROR
    assert str(errors.NoNode(b"/a")) == "/a: NoNode (-101)"


def test_path_of_any_bytes_can_be_shown() -> None:
    assert str(keeper_error(errors.NO_NODE, b"/\xff")) == "/\\xff: NoNode (-101)"
    assert str(keeper_error(errors.NO_NODE, "/é".encode())) == "/é: NoNode (-101)"


def test_everything_is_a_zkerror() -> None:
    ours = [cls for cls in vars(errors).values() if isinstance(cls, type) and cls.__module__ == errors.__name__]
    assert len(ours) > 25
    assert all(issubclass(cls, ZKError) for cls in ours)


def test_every_class_says_when_it_happens() -> None:
    assert all(cls.__doc__ for cls in CLASSES)


def test_corruption_says_where_and_what_to_do() -> None:
    error = StorageCorrupt("/data/log.1", 42, "bad checksum")
    assert str(error) == "/data/log.1 at byte 42: bad checksum"
    assert (error.path, error.offset, error.reason, error.advice) == ("/data/log.1", 42, "bad checksum", "")
    assert str(StorageCorrupt("f", 1, "cut", "restore it")) == "f at byte 1: cut. restore it"


@pytest.mark.parametrize(
    "error", [keeper_error(-101, b"/a"), keeper_error(-4711, b""), StorageCorrupt("f", 1, "cut", "x")]
)
def test_errors_can_be_copied_as_is_done_between_processes(error: ZKError) -> None:
    twin = copy.copy(error)
    assert twin is not error
    assert type(twin) is type(error)
    assert str(twin) == str(error)
    assert vars(twin) == vars(error)
