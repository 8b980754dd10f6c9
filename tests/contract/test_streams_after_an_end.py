"""What a job writes is never the next step's, also where the step that started it ended its shell."""

from __future__ import annotations

import pytest
from conftest import SHELLS, MakeSession

from testronaut_lab.model.result import ShellState

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("shell", SHELLS)
def test_a_job_of_a_step_that_ended_its_shell_keeps_its_own_streams(
    make_session: MakeSession, busybox_image: str, base_image: str, shell: str
) -> None:
    image_id = busybox_image if shell == "busybox" else base_image
    lab = make_session(image_id=image_id, shell="bash" if shell == "bash" else "sh")
    ended = lab.run("( while [ ! -e go ]; do sleep 0.01; done; echo LATE; : >said ) & echo now; exit 3")
    assert (ended.out, ended.state, ended.stdout_stream.open) == ("now\n", ShellState.RESTORED, True)
    next_ = lab.run(": >go; while [ ! -e said ]; do sleep 0.01; done; echo on")
    assert (next_.out, next_.state) == ("on\n", ShellState.KEPT)
    assert lab.out("echo still") == "still\n"
    assert [lab.out(f"echo {number}") for number in range(20)] == [f"{number}\n" for number in range(20)]
