"""What a step leaves running is told, however many steps ran before it and whatever ends meanwhile."""

from __future__ import annotations

import pytest
from support.live_session import Lab

pytestmark = pytest.mark.engine


def test_a_job_that_is_left_after_quick_steps_is_told(fresh: Lab) -> None:
    for _ in range(20):
        fresh.run(":").check()
    assert len(fresh.run("sleep 300 >/dev/null 2>&1 &").left_behind) == 1


def test_a_job_that_takes_the_place_of_one_that_ended_is_told(fresh: Lab) -> None:
    first = fresh.run("sleep 300 >/dev/null 2>&1 &").left_behind
    second = fresh.run("kill -9 $!; wait; sleep 300 >/dev/null 2>&1 &").left_behind
    assert (len(first), len(second)) == (1, 1) and first != second


def test_a_job_is_told_once(fresh: Lab) -> None:
    fresh.run("sleep 300 >/dev/null 2>&1 &").check()
    assert [fresh.run(":").left_behind for _ in range(10)] == [()] * 10


def test_a_job_that_has_the_number_of_a_copy_that_has_ended_is_told(fresh: Lab) -> None:
    """Where the host may set the next number, numbers come round when the shell has its own back."""
    for _ in range(12):
        fresh.run(":").check()
    assert fresh.run("exit 3").exit.code == 3
    assert len(fresh.run("sleep 300 >/dev/null 2>&1 &").left_behind) == 1
