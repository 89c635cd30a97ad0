"""Fragments have names and words, and become a chapter."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import changelog


def test_the_fragments_of_the_project_are_well_formed() -> None:
    changelog.fragments(changelog.FRAGMENTS)


@pytest.mark.parametrize("name", ["x.md", "x.other.md", "Two Words.added.md", "x.added.txt", "x.added"])
def test_a_fragment_with_a_wrong_name_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("Something.")
    with pytest.raises(ValueError, match="not <topic>"):
        changelog.fragments(tmp_path)


def test_a_fragment_without_words_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.added.md").write_text("\n")
    with pytest.raises(ValueError, match="says nothing"):
        changelog.fragments(tmp_path)


def test_a_release_gathers_the_fragments_on_top(tmp_path: Path) -> None:
    directory = tmp_path / "changelog.d"
    directory.mkdir()
    (directory / "README.md").write_text("How to.")
    (directory / "b.fixed.md").write_text("B works.\n")
    (directory / "a.added.md").write_text("A is new,\nand long.\n")
    target = tmp_path / "CHANGELOG.md"
    target.write_text("# Changelog\n\n## 0.0.1\n\n### Added\n\n- First.\n")
    changelog.release("0.1.0", directory, target)
    assert target.read_text() == (
        "# Changelog\n\n## 0.1.0\n\n### Added\n\n- A is new,\n  and long.\n\n### Fixed\n\n- B works.\n"
        "\n## 0.0.1\n\n### Added\n\n- First.\n"
    )
    assert [path.name for path in directory.iterdir()] == ["README.md"]
