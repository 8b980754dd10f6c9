"""The standing guard: a session does with a sequence of steps what one plain shell does, whatever the steps are.

Hypothesis draws sequences and shrinks one that differs. So far for dash; `drawn.py` and `sequences.py` have words for bash too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from conftest import SOAK
from drawn import drawn
from harness import Lab, open_lab
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from pair import Pair
from plain_shell import open_plain_shell
from sequences import Sequence

from testronaut_lab.container.engine import Engine
from testronaut_lab.workbench import SessionSettings

pytestmark = pytest.mark.engine

BATCH = 10
# another one draws other sequences
SEED = int(os.environ.get("TESTRONAUT_LAB_SEED", "1"))
SEQUENCES = 20_000 if SOAK else 80
# A session that can undo keeps copies of its shell and is used again, restored, for the next sequence.
KINDS = [("dash", 4)]


def name_of(kind: tuple[str, int]) -> str:
    return f"{kind[0]}-undoes-{kind[1]}"


@pytest.fixture(scope="module")
def pair(request: pytest.FixtureRequest, engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    shell, undoes = request.param
    image_id: str = request.getfixturevalue("busybox_image" if shell == "busybox" else "base_image")
    program = "bash" if shell == "bash" else "sh"
    blobs = tmp_path_factory.mktemp("blobs")
    session = SessionSettings(shell=program, undo=undoes or None, watch=False)

    def open_session(stack: ExitStack) -> Lab:
        return stack.enter_context(open_lab(image_id, blobs, session))

    with open_plain_shell(engine, image_id, tmp_path_factory.mktemp("plain"), program) as plain:
        made = Pair(plain, open_session, undoes)
        try:
            yield made
        finally:
            made.close()


@pytest.mark.timeout(6 * 3600 if SOAK else 900)
@pytest.mark.parametrize("pair", KINDS, indirect=True, ids=name_of)
def test_drawn_sequences(pair: Pair) -> None:
    """Each example is a batch, so that the plain shell costs one exec for all of it; a sequence that differs is shrunk."""

    @seed(SEED)
    @settings(
        max_examples=1 + SEQUENCES // len(KINDS) // BATCH,  # the first is of the simplest only
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(drawn(pair.shell), min_size=BATCH, max_size=BATCH))
    def agrees(sequences: list[Sequence]) -> None:
        # a restored shell has its number back where root may write the next one
        told = [each for each in sequences if os.geteuid() == 0 or "$$" not in "".join(each.steps)]
        assert pair.disagreements(told) == {}

    agrees()
