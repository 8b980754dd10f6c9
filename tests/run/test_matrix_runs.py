"""Plans with a matrix, really run: cells in ids and results, goldens that they share or have each, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.command_line import Project
from support.live_session import Listener

from testronaut_lab import run_plan
from testronaut_lab.errors import ExitStatus
from testronaut_lab.model.events import OutputChunk, Problem, StepOverruled
from testronaut_lab.model.result import RunResult, Status, StepResult
from testronaut_lab.planfile import parse_plans
from testronaut_lab.report.html.results import run_html
from testronaut_lab.run.plan_run import Run, RunOptions

pytestmark = pytest.mark.engine

IMAGE = "debian:bookworm-slim"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


class Matrix:
    """Runs plans with the values of `v`; the project is `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.listener = Listener()

    def run(self, values: list[object], *steps: object, update: bool = False, **keys: object) -> RunResult:
        tree = {"image": IMAGE, "matrix": {"v": values}, "steps": list(steps), **keys}
        plans = parse_plans(tree, root=self.root, name="m")
        self.listener = Listener()
        return Run(plans, RunOptions(update=update)).run([self.listener])

    @property
    def goldens(self) -> dict[str, str]:
        """The stdout of each golden, by its folder."""
        folder = self.root / "snapshots" / "m" / "main"
        return {path.parent.name: path.read_text() for path in sorted(folder.glob("*/stdout.txt"))}

    @property
    def problems(self) -> list[str]:
        return [event.body.message for event in self.listener.events if isinstance(event.body, Problem)]


@pytest.fixture
def matrix(tmp_path: Path) -> Matrix:
    (tmp_path / ".git").mkdir()
    return Matrix(tmp_path)


def steps_of(result: RunResult) -> dict[str, StepResult]:
    return {step.nodeid.partition("[")[2].partition("]")[0]: step for plan in result.plans for step in plan.cases[0].steps}


def statuses(result: RunResult) -> dict[str, Status]:
    return {cell: step.status for cell, step in steps_of(result).items()}


SAME = {"id": "s", "run": "echo same; : $MATRIX_V", "golden": True}
OWN = {"id": "s", "run": "echo $MATRIX_V; echo same", "golden": True}


def test_each_cell_has_its_values_its_session_and_its_place_in_the_result(matrix: Matrix) -> None:
    result = matrix.run(["a b", "$(c)"], {"id": "s", "run": 'printf %s "$MATRIX_V"; ls; touch "$MATRIX_V"'})
    assert ["a b", "$(c)"] == [step.out for step in steps_of(result).values()]
    assert [(("v", "a b"),), (("v", "$(c)"),)] == [plan.cell for plan in result.plans]
    assert {"passed": 2} == {status: count for status, count in result.totals.items() if count}


def test_one_golden_is_written_when_all_cells_agree_on_it(matrix: Matrix) -> None:
    result = matrix.run([1, 2], SAME, update=True)
    assert ExitStatus.OK == result.exit_status
    assert {"s": "same\n"} == matrix.goldens
    assert ("golden to be written if the other cells agree: snapshots/m/main/s",) == steps_of(result)["v=1"].notes
    assert ("golden written: snapshots/m/main/s, 2 cells agree",) == steps_of(result)["v=2"].notes
    assert ExitStatus.OK == matrix.run([1, 2], SAME).exit_status


@pytest.mark.parametrize("values", [[1, 2], [2, 1]])
def test_an_update_that_cells_do_not_agree_on_writes_nothing_and_fails_all_of_them(matrix: Matrix, values: list[object]) -> None:
    result = matrix.run(values, OWN, update=True)
    assert (ExitStatus.FAILED, Status.FAILED) == (result.exit_status, result.status)
    assert {"v=1": Status.FAILED, "v=2": Status.FAILED} == statuses(result)
    assert [Status.FAILED] * 4 == [each.status for plan in result.plans for each in (plan, *plan.cases)]
    assert {} == matrix.goldens
    first, second = steps_of(result).values()
    assert "differ; `golden: {per: [v]}` keeps one for each" in first.notes[-1]
    assert f"[v={values[0]}] and [v={values[1]}] differ" in second.notes[-1]


def test_a_clash_leaves_the_golden_as_it_was(matrix: Matrix) -> None:
    matrix.run([1, 2], SAME, update=True)
    changed = {**SAME, "run": 'if [ "$MATRIX_V" = 2 ]; then echo new; else echo same; fi'}
    before = {path: path.read_bytes() for path in (matrix.root / "snapshots").rglob("*.txt")}
    result = matrix.run([1, 2], changed, update=True)
    assert (ExitStatus.FAILED, {"v=1": Status.FAILED, "v=2": Status.FAILED}) == (result.exit_status, statuses(result))
    assert before == {path: path.read_bytes() for path in (matrix.root / "snapshots").rglob("*.txt")}


def test_a_cell_that_differs_from_the_shared_golden_fails_alone(matrix: Matrix) -> None:
    matrix.run(["x"], {**OWN, "run": "echo $MATRIX_V"}, update=True)
    result = matrix.run(["x", "y"], {**OWN, "run": "echo $MATRIX_V"})
    assert {"v=x": Status.PASSED, "v=y": Status.FAILED} == statuses(result)


HOSTILE = ["../x", "a/b", "a\nb", "@=%", "..", "é"]


def test_per_keeps_a_golden_for_each_value_whatever_it_is(matrix: Matrix) -> None:
    step = {"id": "s", "argv": ["printf", "%s", "${{matrix.v}}"], "golden": {"per": ["v"]}}
    result = matrix.run(HOSTILE, step, update=True)
    assert [Status.PASSED] * len(HOSTILE) == [step.status for step in steps_of(result).values()]
    assert sorted(HOSTILE) == sorted(matrix.goldens.values())
    assert {"s@v=..%2Fx", "s@v=a%2Fb", "s@v=a%0Ab", "s@v=%40%3D%25", "s@v=..", "s@v=%C3%A9"} == matrix.goldens.keys()
    assert ExitStatus.OK == matrix.run(HOSTILE, step).exit_status


def test_a_cell_that_fails_otherwise_has_no_part_in_the_golden(matrix: Matrix) -> None:
    step = {**OWN, "run": "echo same; test $MATRIX_V != 2"}
    result = matrix.run([1, 2, 3], step, update=True)
    assert {"v=1": Status.PASSED, "v=2": Status.FAILED, "v=3": Status.PASSED} == statuses(result)
    assert {"s": "same\n"} == matrix.goldens
    assert ["golden written: snapshots/m/main/s, by [v=1], [v=3]; [v=2] did not get that far"] == matrix.problems


def test_with_retries_an_attempt_that_failed_has_no_part_in_the_golden(matrix: Matrix) -> None:
    steps = [SAME, {"id": "f", "run": "test $MATRIX_V != 2"}]
    tree = {"image": IMAGE, "matrix": {"v": [1, 2]}, "steps": steps}
    plans = parse_plans(tree, root=matrix.root, name="m")
    result = Run(plans, RunOptions(update=True, retries=1)).run([matrix.listener])
    assert ExitStatus.FAILED == result.exit_status
    assert {"s": "same\n"} == matrix.goldens
    assert ["golden written: snapshots/m/main/s, by [v=1]; [v=2] did not get that far"] == matrix.problems


def test_an_interrupted_update_of_a_shared_golden_writes_nothing(matrix: Matrix) -> None:
    step = {**SAME, "run": "echo same; test $MATRIX_V = 1 || sleep 60"}
    plans = parse_plans({"image": IMAGE, "matrix": {"v": [1, 2]}, "steps": [step]}, root=matrix.root, name="m")
    going = Run(plans, RunOptions(update=True))
    matrix.listener = Listener(lambda event: isinstance(event.body, OutputChunk) and "v=2" in event.body.nodeid, going.stop)
    assert ExitStatus.INTERRUPTED == going.run([matrix.listener]).exit_status
    assert {} == matrix.goldens
    why = "the run ended before all cells that share it were run"
    assert [f"golden not written: snapshots/m/main/s: {why}"] == matrix.problems


def test_a_step_that_is_overruled_fails_in_what_is_stored_too(project: Project) -> None:
    plan = "image: debian:bookworm-slim\nmatrix: {v: [1, 2]}\nsteps: [{id: s, run: 'echo $MATRIX_V', golden: true}]\n"
    project.write(plan, "sub/m.lab.yaml")
    said = project("run", "sub", "-u")
    assert ExitStatus.FAILED == said.status
    assert "    FAIL  sub/m.lab.yaml::main[v=1]::s  after all\n" in said.out
    assert "the cells [v=2] and [v=1] differ; `golden: {per: [v]}` keeps one for each" in said.out
    shown = project.here("show", "last", "--json").json
    assert {"passed": 0, "failed": 2} == {key: shown["totals"][key] for key in ("passed", "failed")}  # type: ignore[index,call-overload]
    [run] = project.here("runs", "--json").json  # type: ignore[misc]
    assert (["sub/m.lab.yaml"], 2, 0) == (run["plans"], run["totals"]["failed"], run["totals"]["passed"])  # type: ignore[index,call-overload]


def test_the_command_line_chooses_cells_and_says_which_they_are(project: Project) -> None:
    project.write("""
image: debian:bookworm-slim
matrix: {os: ["a,b", c], v: [1, 2]}
cases:
  - {id: one, steps: [{id: s, run: 'echo $MATRIX_OS'}]}
  - {id: two, when: {v: [2]}, expect_fail: {reason: not in c, when: {os: [c]}}, steps: ['test $MATRIX_OS != c']}
""")
    said = project("run", "--matrix", "os=c", "--json", "r.json")
    assert ExitStatus.OK == said.status, said.out
    assert "a [os=c,v=1]  a.lab.yaml" in said.out
    plans = json.loads((project.root / "r.json").read_text())["plans"]
    assert [{"os": "c", "v": "1"}, {"os": "c", "v": "2"}] == [plan["cell"] for plan in plans]
    assert [["a.lab.yaml::one[os=c,v=1]"], ["a.lab.yaml::one[os=c,v=2]", "a.lab.yaml::two[os=c,v=2]"]] == [
        [case["nodeid"] for case in plan["cases"]] for plan in plans
    ]
    assert "xfailed" == plans[1]["cases"][1]["status"]
    again = project("run", "a.lab.yaml::one[os=a%2Cb,v=2]::s")
    assert "1 passed" in again.out and "a [os=a%2Cb,v=2]" in again.out
    assert "a [os=a%2Cb,v=2]" in project.here("show").out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--matrix", "vv=1"], "--matrix vv=1: no matrix has the key 'vv'; did you mean 'v'?"),
        (["--matrix", "v=3"], "--matrix v=3: no cell has the v '3'; known are 1, 2"),
        (["--image", "debian:sid"], "using the image debian:sid in a.lab.yaml: the image comes from its matrix"),
        (["a.lab.yaml::main[v=3]"], "no case or step is called a.lab.yaml::main[v=3]; there are: a.lab.yaml::main[v=1]"),
    ],
)
def test_a_wrong_choice_is_a_wrong_command_line(project: Project, words: list[str], message: str) -> None:
    project.write("image: 'i:${{matrix.v}}'\nmatrix: {v: [1, 2]}\nsteps: [x]\n")
    said = project.here("run", *words)
    assert ExitStatus.USAGE == said.status
    assert message in said.err


def test_each_cell_has_its_place_in_an_evidence_bundle(project: Project) -> None:
    project.write("image: debian:bookworm-slim\nmatrix: {v: ['../x', y]}\nsteps: [{id: s, run: 'echo $MATRIX_V'}]\n")
    assert ExitStatus.OK == project("run").status
    assert ExitStatus.OK == project.here("export", "last", "-o", "out").status
    out = project.root / "out"
    assert ["../x\n", "y\n"] == [(out / f"steps/{number}/main/s/stdout.raw").read_text() for number in (0, 1)]
    manifest = json.loads((out / "manifest.json").read_text())
    assert [{"v": "../x"}, {"v": "y"}] == [plan["cell"] for plan in manifest["plans"]]
    assert manifest["plans"][0]["digest"] != manifest["plans"][1]["digest"]


def test_from_python_a_plan_runs_in_its_cells_or_in_some(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    file = tmp_path / "p.lab.yaml"
    file.write_text("image: debian:bookworm-slim\nmatrix: {v: [1, 2, 3]}\nsteps: ['echo $MATRIX_V']\n")
    chosen: list[Mapping[str, object]] = [{"v": "2"}, {"v": ["1", "3"]}]
    cells = [[plan.cell[0][1] for plan in run_plan(file, store=False, matrix=each).plans] for each in chosen]  # type: ignore[arg-type]
    assert [["2"], ["1", "3"]] == cells


def test_an_overruled_step_is_told_of_once_for_each(matrix: Matrix) -> None:
    matrix.run([1, 2], OWN, update=True)
    assert ["m::main[v=1]::s"] == [e.body.nodeid for e in matrix.listener.events if isinstance(e.body, StepOverruled)]


@pytest.mark.engine
def test_what_a_plan_ignores_differs_in_no_view_and_what_names_nothing_is_said(tmp_path: Path) -> None:
    tree = {
        "image": "debian:bookworm-slim",
        "matrix": {"word": ["a", "b"]},
        "ignore": ["*.log", ".cache/", "never"],
        "steps": [{"run": "mkdir .cache; echo $MATRIX_WORD >.cache/x; echo $MATRIX_WORD >y.log; echo same >z"}],
    }
    result = Run(list(parse_plans(tree, root=tmp_path)), RunOptions()).run([])
    (beside,) = result.side_by_side()
    assert beside.differences == ()
    page = run_html(result)
    assert " 644 z" in page and " 644 y.log" not in page
    assert all("ignore 'never' matched no change in this plan" in plan.notes for plan in result.plans)
    assert "y.log" in [change.path for change in result.plans[0].cases[0].steps[0].changes]
