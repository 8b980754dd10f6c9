"""Which tests run under cgroup v2 with systemd (`userlinux.py`), and the section of docs/engines.md that says how they ended."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from figures import SHOWN
from junitparser import Error as Broken
from junitparser import Failure, JUnitXml, Skipped

HEADING = "## cgroup v2 with systemd"
BEGIN, END = "<!-- of make engines V2=1 -->", "<!-- until here -->"
DOCS = Path(__file__).parents[2] / "docs" / "engines.md"

# Usage, limits, out of memory, refused processes, the watchdog's killing and the loss of a session, each with its real container.
CHOSEN: Mapping[str, Mapping[str, Sequence[str]]] = {
    "groups and counters": {"container/test_cgroup": ("",), "container/test_cgroup_lookup": ("",)},
    "limits": {
        "container/test_limits": (
            "test_the_limits_of_a_running_container_hold_from_outside_and_from_inside",
            "test_nothing_is_said_where_all_holds",
            "test_what_is_enforced_out_of_our_sight_is_only_not_measured",
            "test_a_run_that_requires_limits_runs_where_they_hold",
        )
    },
    "usage of steps": {
        "execution/test_session_usage": (
            "test_the_memory_of_a_step_is_sampled_while_it_runs",
            "test_page_cache_is_not_memory",
            "test_a_step_that_is_over_at_once_says_that_its_peak_is_the_kernels",
            "test_the_limit_of_cpus_holds_while_the_step_runs",
            "test_a_child_that_runs_out_of_memory_leaves_a_note_on_a_step_that_passes",
        )
    },
    "limits that end steps, and the watchdog": {
        "execution/test_session_limits": (
            "test_a_program_that_takes_all_memory_is_told_from_one_that_is_killed",
            "test_a_shell_that_takes_all_memory_is_restored",
            "test_a_fork_bomb_ends_and_the_session_goes_on",
            "test_too_many_processes_are_told",
            "test_too_many_files_end_the_step",
            "test_a_timeout_kills_all_that_the_step_started",
        ),
        "execution/test_watchdog": ("test_nothing_of_a_step_lives_after_its_end[all of it]",),
    },
    "loss": {
        "execution/test_session_loss": (
            "test_a_container_that_ends_mid_step_is_a_lost_session",
            "test_what_runs_in_a_session_ends_with_it_when_the_engine_does_not_answer",
            "test_a_lost_session_can_be_closed",
        )
    },
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one boot. `cells` are (what, passed, failed, skipped); `machine` are lines about what was booted."""

    machine: Sequence[str]
    cells: Sequence[tuple[str, int, int, int]]
    failed: Sequence[str]
    figures: Mapping[str, float]


def chosen() -> Iterator[str]:
    """The arguments of pytest, for a shell."""
    for modules in CHOSEN.values():
        for module, tests in modules.items():
            yield from (shlex.quote(f"tests/{module}.py" + (f"::{test}" if test else "")) for test in tests)


def read_outcome(share: Path) -> Outcome:
    ended: dict[str, list[str]] = {}
    failed: list[str] = []
    for suite in JUnitXml.fromfile(str(share / "junit.xml")):
        for test in suite:
            module = str(test.classname).removeprefix("tests.").replace(".", "/")
            kinds = {type(each) for each in test.result}
            how = "failed" if kinds & {Failure, Broken} else "skipped" if Skipped in kinds else "passed"
            ended.setdefault(module, []).append(how)
            failed += [f"{module}::{test.name}"] if how == "failed" else []
    hows = {what: [how for module in modules for how in ended.get(module, [])] for what, modules in CHOSEN.items()}
    cells = [(what, each.count("passed"), each.count("failed"), each.count("skipped")) for what, each in hows.items()]
    figures = json.loads((share / "figures.json").read_text())
    return Outcome((share / "machine").read_text().splitlines(), cells, failed, figures)


def section(outcome: Outcome) -> str:
    """The section of the docs, from its heading to its end."""
    kernel, systemd, docker, groups, controllers = outcome.machine
    version, driver = groups.split()
    lines = [
        f"User-Mode Linux {kernel}, {systemd}, Docker {docker}, driver {driver}, cgroup v{version} ({controllers}).",
        "One CPU, as root.",
        "Written by `make engines V2=1`.",
        "",
        "| tests | passed | failed | skipped |",
        "|---|---:|---:|---:|",
        *(f"| {what} | {passed} | {failed} | {skipped} |" for what, passed, failed, skipped in outcome.cells),
        "",
        *(f"Failed: `{test}`." for test in outcome.failed),
        *([""] if outcome.failed else []),
        "| figure, a median | |",
        "|---|---:|",
        *(f"| {said}, {unit} | {outcome.figures[name] * factor:.2f} |" for name, (said, factor, unit) in SHOWN.items()),
    ]
    return f"{HEADING}\n\n{BEGIN}\n" + "\n".join(lines) + f"\n{END}\n"


def write_section(text: str) -> None:
    """Put the section in the place of the one that is there, else at the end."""
    before = DOCS.read_text() if DOCS.exists() else "# Engines\n"
    head, _, rest = before.partition(HEADING)
    tail = rest.partition(f"{END}\n")[2]
    DOCS.write_text(f"{head.rstrip()}\n\n{text}{tail}")
