"""Plan files as tests, in a pytest of its own: what is collected, what is run, how it is told, what is kept."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from testronaut_lab.model.events import ImageReady, PlanStarted
from testronaut_lab.planfile.load import SUFFIXES
from testronaut_lab.pytest_plugin.settings import PLAN_SUFFIXES
from testronaut_lab.store.database import Store

HEAD = "version: 1\nimage: debian:bookworm-slim\n"
TWO = f"""{HEAD}
cases:
  - {{id: good, tags: [smoke, 1.5-x, _under], steps: [{{id: greet, run: echo hi, expect: {{stdout: "hi\\n"}}}}]}}
  - {{id: bad, tags: [slow], steps: [{{id: red, run: "printf 'a\\\\033[31mb'", expect: {{stdout: "ho"}}}}]}}
"""


@pytest.fixture(autouse=True)
def _not_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)


def write(pytester: pytest.Pytester, text: str, name: str = "a.lab.yaml") -> Path:
    path = pytester.path / name
    path.write_text(text)
    return path


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", "no:asyncio", "-p", "no:cacheprovider", "--strict-markers", *arguments)


def collected(pytester: pytest.Pytester, *arguments: str) -> list[str]:
    return [line for line in run(pytester, "--collect-only", "-q", *arguments).outlines if "::" in line]


def test_every_case_is_an_item_under_its_own_node_id(pytester: pytest.Pytester) -> None:
    (pytester.path / "deep").mkdir()
    write(pytester, TWO, "deep/b.lab.yml")
    write(pytester, f"{HEAD}steps: ['true']\n")
    assert collected(pytester) == ["a.lab.yaml::main", "deep/b.lab.yml::good", "deep/b.lab.yml::bad"]
    assert collected(pytester, "deep/b.lab.yml::bad") == ["deep/b.lab.yml::bad"]


def test_the_names_of_plan_files_are_those_of_the_reader() -> None:
    assert PLAN_SUFFIXES == SUFFIXES


def test_tags_are_markers_and_words(pytester: pytest.Pytester) -> None:
    write(pytester, TWO)
    good, bad = ["a.lab.yaml::good"], ["a.lab.yaml::bad"]
    assert [collected(pytester, "-m", tag) for tag in ("smoke", "1.5-x", "under", "not slow")] == [good] * 4
    assert [collected(pytester, "-k", word) for word in ("slow", "red", "bad and not smoke")] == [bad] * 3
    assert collected(pytester, "-m", "lab") == good + bad


def test_a_tag_that_means_something_to_pytest_is_only_a_word(pytester: pytest.Pytester) -> None:
    write(pytester, f"{HEAD}cases: [{{id: a, tags: [skip, timeout, slow], steps: ['true']}}]\n")
    pytester.makeini("[pytest]\nmarkers = slow: of the project\n")
    assert collected(pytester, "-m", "skip or timeout") == []
    assert collected(pytester, "-k", "skip") == collected(pytester, "-m", "slow") == ["a.lab.yaml::a"]


def test_a_plan_that_is_wrong_is_a_collection_error_with_file_line_and_key(pytester: pytest.Pytester) -> None:
    path = write(pytester, f"{HEAD}stepz: []\n")
    result = run(pytester)
    assert result.ret is pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        ["*ERROR collecting a.lab.yaml*", f"{path}:3: stepz: unknown key 'stepz'; did you mean 'steps'?", "hint: *schema plan"]
    )


def test_a_project_may_keep_plans_to_itself_but_for_those_it_names(pytester: pytest.Pytester) -> None:
    write(pytester, TWO)
    pytester.makeini("[pytest]\ntestronaut_lab_collect = false\n")
    assert (collected(pytester), len(collected(pytester, "a.lab.yaml"))) == ([], 2)


@pytest.mark.engine
def test_a_failure_shows_steps_and_differences_and_how_to_run_it_again(pytester: pytest.Pytester) -> None:
    write(pytester, TWO)
    result = run(pytester, "--junit-xml=j.xml")
    result.assert_outcomes(passed=1, failed=1)
    assert result.ret is pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "*__ a.lab.yaml::bad __*",
            "*FAIL * bad::red *printf 'a*",
            "*stdout.equals",
            "*expected  ho",
            r"*actual    a\x1b[[]31mb",
            "*hint: testronaut-lab run a.lab.yaml::bad",
            "*hint: testronaut-lab show 20*",
            r"FAILED a.lab.yaml::bad - red: stdout.equals: expected ho, got a\x1b[[]31mb",
        ]
    )
    assert "\x1b" not in result.stdout.str()
    (suite,) = ElementTree.parse(pytester.path / "j.xml").getroot()
    failures = {case.get("name"): case.find("failure") for case in suite}
    assert failures["good"] is None and failures["bad"] is not None
    assert "stdout.equals" in (failures["bad"].text or "")


@pytest.mark.engine
def test_what_cannot_be_got_ready_is_an_error_of_every_case(pytester: pytest.Pytester) -> None:
    write(pytester, TWO.replace("image: debian:bookworm-slim", "image: {ref: 'no-such:none', pull: never}"))
    result = run(pytester)
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["getting image no-such:none: *", "hint: check the name*"])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*During handling*")


@pytest.mark.engine
def test_expected_failures_and_skips_are_pytests_own(pytester: pytest.Pytester) -> None:
    write(
        pytester,
        f"""{HEAD}
cases:
  - {{id: fails, expect_fail: not yet, steps: ["false"]}}
  - {{id: passes, expect_fail: not yet, steps: ["true"]}}
  - {{id: breaks, expect_fail: not yet, steps: [{{run: "true", cwd: nowhere}}]}}
  - {{id: skips, steps: [{{run: "true", skip_if: "true"}}]}}
""",
    )
    result = run(pytester, "-rA")
    result.stdout.fnmatch_lines(
        [
            "SKIPPED [[]1] a.lab.yaml:1: `true` held",
            "XFAIL a.lab.yaml::fails - not yet",
            "FAILED a.lab.yaml::passes - *XPASS(strict)*",
        ]
    )
    outcomes = result.parseoutcomes()
    assert {name: outcomes.get(name, 0) for name in ("xfailed", "failed", "skipped")} == {"xfailed": 2, "failed": 1, "skipped": 1}


@pytest.mark.engine
def test_the_run_is_stored_as_one_and_its_plan_is_got_ready_once(pytester: pytest.Pytester) -> None:
    write(pytester, TWO)
    run(pytester)
    store = Store.open(pytester.path / ".testronaut" / "results.db")
    (stored,) = store.runs()
    assert (stored.status, stored.totals["passed"], stored.totals["failed"]) == ("failed", 1, 1)
    bodies = [event.body for event in store.events(stored.id)]
    assert [sum(isinstance(body, kind) for body in bodies) for kind in (PlanStarted, ImageReady)] == [1, 1]


SHARED = f"""{HEAD}
isolation: plan
setup: [{{id: up, run: y=7}}]
cases:
  - {{id: one, steps: [x=$y]}}
  - {{id: two, steps: [{{run: 'echo "$x" $y', expect: {{stdout: "7 7\\n"}}}}]}}
  - {{id: three, steps: ['test $y = 7']}}
"""


@pytest.mark.engine
def test_cases_with_one_session_run_in_their_order_whatever_pytests_is(pytester: pytest.Pytester) -> None:
    write(pytester, SHARED)
    run(pytester).assert_outcomes(passed=3)
    run(pytester, "a.lab.yaml::two", "a.lab.yaml::one").assert_outcomes(passed=2)
    run(pytester, "-n2").assert_outcomes(passed=3)


@pytest.mark.engine
def test_a_case_alone_of_a_plan_with_one_session_has_its_setup_and_no_other_case(pytester: pytest.Pytester) -> None:
    write(pytester, SHARED)
    run(pytester, "-k", "three").assert_outcomes(passed=1, deselected=2)
    run(pytester, "-k", "two").assert_outcomes(failed=1, deselected=2)


@pytest.mark.engine
def test_workers_of_xdist_share_the_cases_of_a_plan(pytester: pytest.Pytester) -> None:
    write(pytester, HEAD + "cases:\n" + "".join(f"  - {{id: c{i}, steps: ['true']}}\n" for i in range(4)))
    result = run(pytester, "-n2")
    result.assert_outcomes(passed=4)
    assert [run.status for run in Store.open(pytester.path / ".testronaut" / "results.db").runs()] == ["passed", "passed"]


GOLDEN = f"{HEAD}steps: [{{id: say, run: 'printf \"a\\\\r\\\\n\\\\0\\\\377\"', golden: true}}]\n"


@pytest.mark.engine
def test_updating_writes_the_goldens_of_plans(pytester: pytest.Pytester) -> None:
    write(pytester, GOLDEN)
    run(pytester).assert_outcomes(failed=1)
    run(pytester, "--snapshot-update").assert_outcomes(passed=1)
    assert (pytester.path / "snapshots/a/main/say/stdout.txt").read_bytes() == b"a\r\n\0\xff"
    run(pytester).assert_outcomes(passed=1)


@pytest.mark.engine
def test_only_goldens_that_are_missing_are_written_where_syrupys_option_says_so(pytester: pytest.Pytester) -> None:
    write(pytester, GOLDEN)
    run(pytester, "--snapshot-update-new-only").assert_outcomes(passed=1)
    kept = pytester.path / "snapshots/a/main/say/stdout.txt"
    kept.write_bytes(b"edited\n")
    run(pytester, "--snapshot-update-new-only").assert_outcomes(failed=1)
    assert kept.read_bytes() == b"edited\n"


@pytest.mark.engine
def test_nothing_is_written_under_ci(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    write(pytester, GOLDEN)
    run(pytester, "--snapshot-update").assert_outcomes(failed=1)
    assert not (pytester.path / "snapshots").exists()


@pytest.mark.engine
def test_what_failed_last_is_run_alone_and_first_failures_end_it(pytester: pytest.Pytester) -> None:
    write(pytester, TWO.replace("id: good", "id: zgood").replace("- {id: bad", "- {id: abad"))
    arguments = ("-p", "no:asyncio", "--strict-markers")
    pytester.runpytest_inprocess(*arguments).assert_outcomes(passed=1, failed=1)
    pytester.runpytest_inprocess(*arguments, "--lf").assert_outcomes(failed=1)
    pytester.runpytest_inprocess(*arguments, "--ff", "-x").assert_outcomes(failed=1)


INTERRUPTING = """
import os, signal
from testronaut_lab.eventlog import EventLog

emit = EventLog.emit

def interrupting(self, body):
    event = emit(self, body)
    if getattr(body, "data", b"") == b"on\\n" or body.kind == "install_logged":
        os.kill(os.getpid(), signal.SIGINT)
    return event

EventLog.emit = interrupting
"""


@pytest.mark.engine
def test_an_interruption_ends_the_step_and_tears_its_case_down(pytester: pytest.Pytester) -> None:
    steps = "[{id: slow, run: 'echo on; sleep 100'}, {id: after, run: 'true'}]"
    write(
        pytester, f"{HEAD}teardown: [{{id: tidy, run: 'true'}}]\ncases: [{{id: a, steps: {steps}}}, {{id: b, steps: ['true']}}]\n"
    )
    pytester.makeconftest(INTERRUPTING)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    assert result.ret is pytest.ExitCode.INTERRUPTED
    store = Store.open(pytester.path / ".testronaut" / "results.db")
    (stored,) = store.runs()
    judged = [
        (body.nodeid.rpartition("::")[2], body.status)
        for event in store.events(stored.id)
        if (body := event.body).kind == "step_judged"
    ]
    assert (stored.status, judged) == ("error", [("slow", "error"), ("after", "skipped"), ("tidy", "passed")])


def test_plans_whose_goldens_would_lie_in_one_folder_are_refused_in_words(pytester: pytest.Pytester) -> None:
    for name in ("a.lab.yaml", "a.lab.yml"):
        write(pytester, GOLDEN, name)
    result = run(pytester)
    assert result.ret is pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: the goldens of a.lab.yaml::main::say and a.lab.yml::main::say *", "hint: rename *"])


MATRIX = """version: 1
matrix: {shell: [sh, bash]}
image: debian:bookworm-slim
shell: ${{matrix.shell}}
cases:
  - {id: a, steps: [{id: say, run: 'echo "${BASH_VERSION:+bash}"', golden: {per: [shell]}}]}
  - {id: b, when: {shell: [bash]}, steps: ['test "$BASH_VERSION"']}
"""


@pytest.mark.engine
def test_every_cell_of_a_matrix_is_an_item_of_its_own(pytester: pytest.Pytester) -> None:
    write(pytester, MATRIX)
    ids = ["a.lab.yaml::a[shell=sh]", "a.lab.yaml::a[shell=bash]", "a.lab.yaml::b[shell=bash]"]
    assert collected(pytester) == ids
    assert (collected(pytester, ids[1]), collected(pytester, "-k", "bash")) == ([ids[1]], ids[1:])
    run(pytester, "--snapshot-update").assert_outcomes(passed=3)
    run(pytester).assert_outcomes(passed=3)
    assert sorted(path.name for path in (pytester.path / "snapshots/a/a").iterdir()) == ["say@shell=bash", "say@shell=sh"]


@pytest.mark.engine
def test_an_interruption_while_tools_are_installed_ends_the_whole(pytester: pytest.Pytester) -> None:
    write(pytester, TWO.replace("cases:", "tools: [apt:no-such-package-of-ours]\ncases:"))
    pytester.makeconftest(INTERRUPTING)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    assert result.ret is pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*no tests ran in*"])
