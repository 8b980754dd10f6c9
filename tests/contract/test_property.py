"""Random sequences of commands, thrown at both drivers: what either can do, both do alike, byte by byte."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from conftest import SOAK
from harness import Lab, open_lab
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from testronaut_lab.model.result import StepResult
from testronaut_lab.workbench import SessionSettings

pytestmark = pytest.mark.engine

SEQUENCES = 2000 if SOAK else 50

NAMES = st.sampled_from(["A", "B", "C"])
VALUES = st.text(st.sampled_from("ab '\"$\\*\n;&é"), max_size=6)
PLACES = st.sampled_from(["/tmp", "/workspace", "/", "d", "..", "nowhere", "-"])
FILES = st.sampled_from(["f", "g", "d/h"])


def quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


COMMANDS = st.one_of(
    st.builds("cd {}".format, PLACES),
    st.builds(lambda name, value: f"export {name}={quoted(value)}", NAMES, VALUES),
    st.builds("unset {}".format, NAMES),
    st.builds("set {}".format, st.sampled_from(["-e", "+e", "-u", "+u", "-f", "+f", "-C", "+C", "-a", "+a"])),
    st.builds("umask {}".format, st.sampled_from(["022", "077", "002"])),
    st.builds(lambda value, fd: f"printf %s {quoted(value)} >&{fd}", VALUES, st.sampled_from([1, 2])),
    st.builds(lambda value, file: f"printf %s {quoted(value)} >{file}", VALUES, FILES),
    st.builds("echo more >>{}".format, FILES),
    st.builds("exit {}".format, st.integers(0, 255)),
    st.builds("( exit {} )".format, st.integers(0, 255)),
    st.builds('printf "[%s]" "${{{}-unset}}"'.format, NAMES),
    st.sampled_from(
        ["true", "false", "mkdir d", "rm -f f", "rm -rf d", "mv f g", "echo *", "cat f", "no-such-program", "if then", "pwd",
         "ls", "f() { echo in f; }; f; unset -f f", "cat", "chmod 700 g", "umask", "trap 'echo bye' EXIT; exit 3", "exec true"]
    ),
)  # fmt: skip
SEQUENCE = st.lists(st.lists(COMMANDS, min_size=1, max_size=4).map("; ".join), min_size=1, max_size=5)
CLEAN = "set +efuCa; trap - EXIT; cd /workspace; rm -rf -- * ; umask 022; unset A B C; cd /; cd /workspace"


@pytest.fixture(scope="module", params=["dash", "bash"])
def both(request: pytest.FixtureRequest, base_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Lab]]:
    """The same session under the fast and under the plain driver."""
    with ExitStack() as stack:
        labs = []
        for driver in ("fast", "plain"):
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("TESTRONAUT_LAB_DRIVER", driver)
                blobs: Path = tmp_path_factory.mktemp("blobs")
                shell = SessionSettings(shell="bash" if request.param == "bash" else "sh")
                labs.append(stack.enter_context(open_lab(base_image, blobs, shell)))
        yield labs[0], labs[1]


def seen(lab: Lab, script: str) -> tuple[object, ...]:
    """All that the two drivers must agree about.

    The plain driver's shell is started with `-c` and reads the step from a file, which `$-` and messages tell.
    """
    result: StepResult = lab.run(script, stdin=b"in\n")
    exported = lab.run('printf "[%s]" "${A-u}" "${B-u}" "${C-u}"; env | grep -c "^[ABC]="; pwd; umask; echo "${-%c}"; :')
    said = result.stderr.replace(b"/run/lab/step: line", b"bash: line").replace(b"/run/lab/step: ", b"")
    changes = tuple((change.change, change.path, change.mode, change.sha256) for change in result.changes)
    return (
        (result.status, result.exit.kind, result.exit.code, result.state),
        (result.stdout, said, result.cwd),
        (changes, exported.stdout, exported.exit.code),
    )


@settings(
    max_examples=SEQUENCES // 2,
    deadline=None,
    derandomize=SEQUENCES == 50,
    database=None,
    phases=[Phase.generate, Phase.shrink] if SEQUENCES == 50 else [Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(sequence=SEQUENCE)
@pytest.mark.timeout(4 * 3600 if SEQUENCES > 50 else 180)
def test_both_drivers_do_the_same(both: tuple[Lab, Lab], sequence: list[str]) -> None:
    for lab in both:
        lab.run(CLEAN)
    for script in sequence:
        fast, plain = (seen(lab, script) for lab in both)
        assert fast == plain, f"after {sequence}, at {script!r}"
