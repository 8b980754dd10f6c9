"""The standing guard: a session does with a sequence of steps what one plain shell does, whatever the steps are.

Sequences that somebody thought of are in `sequences.py`; Hypothesis draws others (`drawn.py`) and shrinks one that differs. What
is compared, and what rightly differs, is in `agreement.py`.
`TESTRONAUT_LAB_SEED=2` draws other sequences, `TESTRONAUT_LAB_DRAWN=60` fewer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from conftest import SHELLS, SOAK
from drawn import drawn
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from pair import Pair
from plain_shell import open_plain_shell
from sequences import Sequence, by_hand
from support.live_session import Lab, open_lab

from testronaut_lab.container.engine.connect import Engine
from testronaut_lab.execution.factory import SessionSettings

pytestmark = pytest.mark.engine

SEED = int(os.environ.get("TESTRONAUT_LAB_SEED", "1"))
KINDS = [f"{shell}-{copies}" for shell in SHELLS for copies in ("copied", "bare")]
DRAWN = int(os.environ.get("TESTRONAUT_LAB_DRAWN", "20000" if SOAK else "300")) // len(KINDS)
BATCH = 10  # an example: hypothesis draws many that are alike, and few that are alike in all of ten sequences
_NOT_CARRIED = ("_=", "PWD=", "OLDPWD=", "SHLVL=")


@pytest.fixture(scope="module")
def pair(request: pytest.FixtureRequest, engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Of one kind: copied, the shell is copied behind each step; bare, it is not."""
    shell, _, copies = request.param.partition("-")
    image_id: str = request.getfixturevalue("busybox_image" if shell == "busybox" else "base_image")
    program = "bash" if shell == "bash" else "sh"
    blobs = tmp_path_factory.mktemp("blobs")
    session = SessionSettings(shell=program, watch=False)

    def open_session(stack: ExitStack) -> Lab:
        return stack.enter_context(open_lab(image_id, blobs, session))

    with ExitStack() as stack:
        lines = open_session(stack).out("env").splitlines()
    env = dict(line.split("=", 1) for line in lines if not line.startswith(_NOT_CARRIED))
    with open_plain_shell(engine, image_id, tmp_path_factory.mktemp("plain"), program, env) as plain:
        made = Pair(plain, open_session, copies=copies == "copied")
        try:
            yield made
        finally:
            made.close()


@pytest.mark.parametrize("pair", [f"{shell}-copied" for shell in SHELLS], indirect=True)
def test_a_session_is_like_a_shell_in_sequences_by_hand(pair: Pair) -> None:
    found = {sequence.steps: pair.disagreement(sequence) for sequence in by_hand(pair.plain.shell)}
    assert {steps: wrong for steps, wrong in found.items() if wrong} == {}


@pytest.mark.timeout(6 * 3600 if SOAK else 900)  # to shrink a sequence takes minutes
@pytest.mark.parametrize("pair", KINDS, indirect=True)
def test_a_session_is_like_a_shell_in_drawn_sequences(pair: Pair) -> None:
    @seed(SEED)
    @settings(
        max_examples=DRAWN // BATCH, deadline=None, database=None, report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.lists(drawn(pair.plain.shell), min_size=BATCH, max_size=BATCH))
    def agrees(sequences: list[Sequence]) -> None:
        assert pair.first_disagreement(sequences) is None

    agrees()
