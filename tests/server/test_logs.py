"""One line an event, whatever is in it; repeats counted; a broken stream never in the way."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator

import pytest

from coati.server import logs
from coati.server.logs import MAX_LINE_CHARS, MAX_TEMPLATES, REPEATS_PER_WINDOW, WINDOW_S, RepeatFilter, escape


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """The log of a server; what pytest has set up is put back afterwards."""
    names = ("coati", "asyncio")
    before = {name: (logging.getLogger(name).handlers[:], logging.getLogger(name).propagate) for name in names}
    made = io.StringIO()
    logs.set_up(made)
    yield made
    for name, (handlers, propagate) in before.items():
        logging.getLogger(name).handlers[:] = handlers
        logging.getLogger(name).propagate = propagate


def record(message: str, *args: object, at: float = 0.0, level: int = logging.INFO) -> logging.LogRecord:
    made = logging.LogRecord("coati.test", level, __file__, 1, message, args, None)
    made.created = at
    return made


def test_line_has_time_level_name_and_pairs(stream: io.StringIO) -> None:
    logging.getLogger("coati.server").warning("slow fsync ms=%d file=%s", 1234, "log.1")
    pattern = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z warn coati\.server slow fsync ms=1234 file=log\.1\n"
    assert re.fullmatch(pattern, stream.getvalue())


@pytest.mark.parametrize(
    ("level", "name"),
    [(logging.DEBUG, "debug"), (logging.INFO, "info"), (logging.ERROR, "error"), (logging.CRITICAL, "fatal")],
)
def test_levels(stream: io.StringIO, level: int, name: str) -> None:
    logging.getLogger("coati").setLevel(logging.DEBUG)
    logging.getLogger("coati.x").log(level, "hello")
    assert f"Z {name} coati.x hello\n" in stream.getvalue()


def test_level_is_that_of_the_set_up(stream: io.StringIO) -> None:
    logs.set_up(stream, "warning")
    logging.getLogger("coati.x").info("quiet")
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain text", "plain text"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x00\x7f\x9b", "\\x00\\x7f\\x9b"),
        ("é\u2028\U0001f600", "\\xe9\\u2028\\U0001f600"),
        ("\udc80", "\\udc80"),
    ],
)
def test_what_is_not_plain_is_escaped(text: str, safe: str) -> None:
    assert escape(text) == safe
    assert escape(safe) == safe


def test_line_has_an_end() -> None:
    assert len(escape("x" * 1_000_000)) == MAX_LINE_CHARS + 3


def test_clients_cannot_forge_lines(stream: io.StringIO) -> None:
    logging.getLogger("coati.x").info("path=%s", "/a\n2026-01-01T00:00:00.000Z info coati.x all is well")
    assert stream.getvalue().count("\n") == 1


def test_traceback_stays_on_its_line(stream: io.StringIO) -> None:
    try:
        raise ValueError("what\nnow")
    except ValueError:
        logging.getLogger("coati.x").exception("failed")
    assert stream.getvalue().count("\n") == 1
    assert " failed traceback: Traceback (most recent call last): | " in stream.getvalue()
    assert stream.getvalue().endswith("ValueError: what | now\n")


def test_repeats_are_counted() -> None:
    repeats = RepeatFilter()
    shown = [repeats.filter(record("refused peer=%s", n, at=1.0)) for n in range(100)]
    assert sum(shown) == REPEATS_PER_WINDOW
    assert repeats.filter(record("another message", at=1.0))
    late = record("refused peer=%s", 100, at=1.0 + WINDOW_S)
    assert repeats.filter(late)
    assert logs.LineFormatter().format(late).endswith(f"refused peer=100 repeated={100 - REPEATS_PER_WINDOW}")
    quiet = record("refused peer=%s", 101, at=1.0 + 2 * WINDOW_S)
    assert repeats.filter(quiet)
    assert logs.LineFormatter().format(quiet).endswith("refused peer=101")


def test_clock_that_goes_back_does_not_silence_for_ever() -> None:
    repeats = RepeatFilter()
    for _ in range(10):
        repeats.filter(record("x", at=1e9))
    assert repeats.filter(record("x", at=1e6))


def test_the_last_words_are_never_left_out() -> None:
    repeats = RepeatFilter()
    assert all(repeats.filter(record("the end", level=logging.CRITICAL)) for _ in range(100))


def test_memory_of_templates_is_bounded() -> None:
    repeats = RepeatFilter()
    for n in range(MAX_TEMPLATES * 3):
        assert repeats.filter(record(f"message {n}"))
    assert len(repeats._seen) <= MAX_TEMPLATES


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError("nobody reads this")


def test_broken_stream_is_nobody_s_problem(stream: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(Broken())
    logging.getLogger("coati.x").info("hello")
    logging.getLogger("coati.x").info("wrong number of values %d")
    logging.getLogger("coati.x").info("wrong type %d", "x")
    assert capsys.readouterr().err == ""


def test_asyncio_s_warnings_look_the_same(stream: io.StringIO) -> None:
    logging.getLogger("asyncio").info("not this")
    logging.getLogger("asyncio").warning("socket.send() raised exception.")
    assert stream.getvalue().endswith("Z warn asyncio socket.send() raised exception.\n")
