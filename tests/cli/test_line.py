"""Lines of the shell: what the Java shell splits (ZooKeeperMain.MyCommandOptions.parseCommand) is split as there."""

from __future__ import annotations

import pytest

from coati.cli.exits import CommandError
from coati.cli.line import Line, last_word, parsed, quoted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("  # a comment", []),
        ("get /a", ["get", "/a"]),
        ("  get\t/a  ", ["get", "/a"]),
        ('create /quoted "two words"', ["create", "/quoted", "two words"]),
        ("create /quoted 'two \"words'", ["create", "/quoted", 'two "words']),
        ('set /a {"x":1}', ["set", "/a", '{"x":1}']),
        ("set /a it's", ["set", "/a", "it's"]),
        (r"set /a C:\dir", ["set", "/a", r"C:\dir"]),
        ("set /a ''", ["set", "/a", ""]),
        ("set /a #1", ["set", "/a", "#1"]),
        ("set /a a|b>c&d", ["set", "/a", "a|b>c&d"]),
        ("set /a '|' \">\" '&'", ["set", "/a", "|", ">", "&"]),
        (r'set /a "say \"no\" \n"', ["set", "/a", r'say "no" \n']),
        ("create /a --acl='world:anyone:r' x", ["create", "/a", "--acl=world:anyone:r", "x"]),
        ("""set /a 'it'"'"'s'""", ["set", "/a", "it's"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert parsed(text) == Line(words)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("get x | jq . > out", Line(["get", "x"], pipe="jq . > out")),
        ("get x |jq '.a | .b'", Line(["get", "x"], pipe="jq '.a | .b'")),
        ("ls / > 'my file'", Line(["ls", "/"], file="my file")),
        ("ls / >file", Line(["ls", "/"], file="file")),
        ("ls / >> file", Line(["ls", "/"], file="file", appends=True)),
        ("watch /a &", Line(["watch", "/a"], is_background=True)),
    ],
)
def test_where_output_goes(text: str, line: Line) -> None:
    assert parsed(text) == line


@pytest.mark.parametrize("text", ["get 'x", 'get "x', "ls / >", "ls / > a b", "ls / |"])
def test_lines_that_are_none(text: str) -> None:
    with pytest.raises(CommandError):
        parsed(text)


@pytest.mark.parametrize(
    ("text", "word", "at"),
    [
        ("", "", 0), ("ge", "ge", 0), ("get ", "", 4), ("get /a", "/a", 4), ("get '/a b", "/a b", 4),
        ("get '/a b ", "/a b ", 4), ("get '/a b' ", "", 11),
    ],
)  # fmt: skip
def test_the_word_that_is_being_typed(text: str, word: str, at: int) -> None:
    last = last_word(text)
    assert (last.text, last.at) == (word, at)


@pytest.mark.parametrize(
    "word", ["/a", "", "a b", "it's", 'it\'s "a" \\', '"a"', "'", "#x", "|", ">x", "&", "a&", "\\"]
)
def test_a_quoted_word_is_read_as_it_was(word: str) -> None:
    assert parsed(f"get {quoted(word)} x").words == ["get", word, "x"]
