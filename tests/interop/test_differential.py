"""coati and Java 3.9.3 play the same random sequences in lockstep and must answer alike.

The sequences are sequences.py's, what "alike" means is lockstep.py's, with the one table of intended differences. The
seeds are fixed, so the test is the same every time; COATI_DIFF_SEED and COATI_DIFF_SEQUENCES move and lengthen it,
and `python -m tools.diff_long` is the long run. A failure shows the seed and the shortest sequence found.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.interop import peers
from tests.interop.lockstep import Lockstep, hunt
from tests.interop.sequences import OPCODES

FIRST_SEED = int(os.environ.get("COATI_DIFF_SEED", "0"))
SEQUENCES = int(os.environ.get("COATI_DIFF_SEQUENCES", "300"))
MAX_SHOWN = 8


@pytest.fixture(scope="module")
def pair() -> Iterator[Lockstep]:
    """Java and coati, with the same properties."""
    with (
        peers.running("3.9.3", props=peers.LOCKSTEP_PROPS) as java,
        peers.running("coati", props=peers.LOCKSTEP_PROPS) as coati,
    ):
        yield Lockstep(java, coati)


@pytest.mark.timeout(600)
def test_same_sequences_give_same_answers(pair: Lockstep) -> None:
    found = hunt(pair, range(FIRST_SEED, FIRST_SEED + SEQUENCES), MAX_SHOWN)
    assert not found, "\n\n".join(map(str, found))
    if SEQUENCES >= 300:
        asked = {kind for kind, _ in pair.coverage}
        # deleteContainer is for servers; what a client gets for it is in test_bad_input_client.py.
        assert asked >= set(OPCODES) - {"deleteContainer"}, f"never answered: {set(OPCODES) - asked}"
