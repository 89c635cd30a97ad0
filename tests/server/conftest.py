"""The parts of a simulated server: the real ones, for all tests but those of test_mutants.py."""

from __future__ import annotations

import pytest

from coati.testing.server import Parts


@pytest.fixture
def parts() -> Parts:
    return Parts()
