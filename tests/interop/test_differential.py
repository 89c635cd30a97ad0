"""coati and Java 3.9.3 play the same random sequences in lockstep and must answer alike.

The sequences are sequences.py's, what "alike" means is lockstep.py's, with the one table of intended differences. The
seeds are fixed, so the test is the same every time; COATI_DIFF_SEED and COATI_DIFF_SEQUENCES move and lengthen it,
and `python tools/diff_long.py` is the long run. A failure shows the seed and the shortest sequence found.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from tests.interop import peers
from tests.interop.lockstep import Lockstep, hunt
from tests.interop.sequences import OPCODES

FIRST_SEED = int(os.environ.get("COATI_DIFF_SEED", "0"))
SEQUENCES = int(os.environ.get("COATI_DIFF_SEQUENCES", "300"))
MAX_SHOWN = 8


# Nothing but what keeps a server from doing things by itself: no TTL nodes, no superuser, no enforced quota.
DEFAULTS = {key: peers.LOCKSTEP_PROPS[key] for key in ("zookeeper.forceSync", "znode.container.checkIntervalMs")}


@contextmanager
def pair(props: Mapping[str, str]) -> Iterator[Lockstep]:
    """Java and coati, with the same properties."""
    with peers.running("3.9.3", props=props) as java, peers.running("coati", props=props) as coati:
        yield Lockstep(java, coati)


@pytest.mark.timeout(600)
def test_same_sequences_give_same_answers() -> None:
    with pair(peers.LOCKSTEP_PROPS) as both:
        found = hunt(both, range(FIRST_SEED, FIRST_SEED + SEQUENCES), MAX_SHOWN)
    assert not found, "\n\n".join(map(str, found))
    if SEQUENCES >= 300:
        asked = {kind for kind, _ in both.coverage}
        # deleteContainer is for servers; what a client gets for it is in test_bad_input_client.py.
        assert asked >= set(OPCODES) - {"deleteContainer"}, f"never answered: {set(OPCODES) - asked}"


@pytest.mark.timeout(600)
def test_same_sequences_give_same_answers_with_default_properties() -> None:
    with pair(DEFAULTS) as both:
        found = hunt(both, range(FIRST_SEED, FIRST_SEED + SEQUENCES // 3), MAX_SHOWN)
    assert not found, "\n\n".join(map(str, found))
    assert both.coverage["createTTL", -6] > 0
    assert both.coverage["create", -125] == 0
