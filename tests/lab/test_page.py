"""docs/lab.md says what the commands say: its stories and its drawings are made anew and compared."""

from __future__ import annotations

from pathlib import Path

from tools.lab_page import BLOCK, DOCS, PAGE, page


def test_the_page_is_what_the_commands_say(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page(text, tmp_path) == text, "run: python tools/lab_page.py"
    drawings = sorted(file.name for file in tmp_path.glob("*.svg"))
    assert drawings == sorted(file.name for file in DOCS.glob("lab-*.svg"))
    for name in drawings:
        assert (tmp_path / name).read_text() == (DOCS / name).read_text(), f"{name}: run python tools/lab_page.py"


def test_the_books_examples_are_in_it_with_their_leaders() -> None:
    blocks = {arguments: told for _, _, arguments, told, _ in BLOCK.findall(PAGE.read_text(encoding="utf-8"))}
    for arguments, leader in (
        ('election --votes "1,0,1 2,0,1 3,0,1" --svg lab-election.svg', 3),
        ('election --votes "1,0 2,0" --down 3 --start "1 2"', 2),
        ('election --votes "1,123 3,122" --down 2 --led-by 2', 1),
    ):
        assert f"\nServer {leader} leads, elected at " in blocks[arguments]


def test_a_page_that_is_wrong_is_seen(tmp_path: Path) -> None:
    text = '<!-- last 1 lines of: coati lab election --votes "1,0" -->\n\n```text\nServer 9 leads.\n```\n'
    assert page(text, tmp_path).endswith("```text\nMessages: 0. Rounds: 1.\n```\n")
