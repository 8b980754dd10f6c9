"""Cells of a matrix beside each other: what is found to differ, and how that looks in text and HTML, wide and narrow."""

from __future__ import annotations

from dataclasses import replace

import pytest

from testronaut_lab.model.cells import Cell
from testronaut_lab.model.comparison import Difference, SideBySide, Variant
from testronaut_lab.model.files import ChangeKind, FileChange, FileType
from testronaut_lab.model.normalizing import Facts, Normalized
from testronaut_lab.model.result import (
    Captured,
    CaseResult,
    Exit,
    ExitKind,
    PlanResult,
    RunResult,
    Status,
    StepResult,
    ToolInfo,
)
from testronaut_lab.report.html.results import run_html
from testronaut_lab.report.sidebyside import side_by_side
from testronaut_lab.report.text.cell_lines import side_by_side_lines

A: Cell = (("image", "a"),)
B: Cell = (("image", "b"),)
C: Cell = (("image", "c"),)


def stream(data: bytes) -> Captured:
    import hashlib

    return Captured(len(data), hashlib.sha256(data).hexdigest(), data)


def step(out: bytes = b"", err: bytes = b"", code: int = 0, name: str = "s", **fields: object) -> StepResult:
    done = StepResult(name, f"p::main::{name}", Exit(ExitKind.EXITED, code), Status.PASSED, run="x")
    return replace(done, stdout_stream=stream(out), stderr_stream=stream(err), **fields)  # type: ignore[arg-type]


def plan(cell: Cell, *steps: StepResult, case: str = "main", status: Status = Status.PASSED, **fields: object) -> PlanResult:
    made = PlanResult("p", "p.lab.yaml", status, (CaseResult(case, f"p::{case}", status, steps),), cell=cell)
    return replace(made, **fields)  # type: ignore[arg-type]


def run(*plans: PlanResult) -> RunResult:
    return RunResult("r", "now", "then", Status.PASSED, None, plans)


def beside(*plans: PlanResult) -> SideBySide:
    [found] = run(*plans).side_by_side()
    return found


def told(*plans: PlanResult) -> list[tuple[str, int | None, list[str]]]:
    return [(each.aspect, each.line, [variant.text for variant in each.variants]) for each in beside(*plans).differences]


def test_plans_without_a_matrix_or_with_one_cell_are_not_compared() -> None:
    assert () == side_by_side(run(plan((), step(b"x")), plan((), step(b"y"))))
    assert () == side_by_side(run(plan(A, step(b"x"))))


def test_what_is_the_same_everywhere_is_no_difference() -> None:
    found = beside(plan(A, step(b"x\n")), plan(B, step(b"x\n")))
    assert ((), 1) == (found.differences, found.compared)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (step(b"a\nb\n"), step(b"a\nc\n"), ("stdout", 2, ["b", "c"])),
        (step(b"a\n"), step(b"a\nb\n"), ("stdout", 2, ["nothing more", "b"])),
        (step(b""), step(b"b\n"), ("stdout", 1, ["nothing", "b"])),
        (step(b"a"), step(b"a\n"), ("stdout", 1, ["a  (without a newline)", "a"])),
        (step(b"\n"), step(b"a\n"), ("stdout", 1, ["an empty line", "a"])),
        (step(err=b"a\n"), step(err=b"b\n"), ("stderr", 1, ["a", "b"])),
        (step(code=1), step(code=2), ("exit", None, ["exit status 1", "exit status 2"])),
        (step(screen="one"), step(screen="two"), ("screen", 1, ["one  (without a newline)", "two  (without a newline)"])),
    ],
)
def test_the_first_line_that_differs_is_told(one: StepResult, other: StepResult, expected: object) -> None:
    assert [expected] == told(plan(A, one), plan(B, other))


def change(path: str, sha256: str) -> FileChange:
    return FileChange(ChangeKind.ADDED, path, FileType.FILE, 0o644, 5, sha256=sha256)


def test_changes_and_the_content_of_files_are_compared() -> None:
    one = step(changes=(change("x", "1" * 64), change("y", "2" * 64)))
    other = step(changes=(change("x", "3" * 64),))
    assert [
        ("changes", 2, ["A 644 y", "nothing more"]),
        ("content of x", None, ["5 bytes, sha256 111111111111…", "5 bytes, sha256 333333333333…"]),
    ] == told(plan(A, one), plan(B, other))


def test_what_is_compared_is_normalised_by_the_steps_own_rules() -> None:
    rules = Normalized(("uuid",), Facts())
    ids = (b"id 0e984725-c51c-4bf4-9960-e1c80e27aba0\n", b"id 9fa1b2c3-c51c-4bf4-9960-e1c80e27aba0\n")
    assert 1 == len(told(plan(A, step(ids[0])), plan(B, step(ids[1]))))
    assert [] == told(plan(A, step(ids[0], normalized=rules)), plan(B, step(ids[1], normalized=rules)))


def test_large_output_is_compared_by_its_hash_alone() -> None:
    big = [b"x" * 2_000_000, b"y" * 2_000_000]
    [(aspect, line, texts)] = told(plan(A, step(big[0])), plan(B, step(big[1])))
    assert ("stdout", None) == (aspect, line)
    assert all(text.startswith("2000000 bytes, sha256 ") for text in texts)


def test_output_that_is_gone_from_the_disk_is_compared_by_its_hash() -> None:
    gone = replace(step(), stdout_stream=Captured(3, "f" * 64, None, path="/nonexistent/x"))
    assert [("stdout", None, ["3 bytes, sha256 ffffffffffff…", "x"])] == told(plan(A, gone), plan(B, step(b"x")))


def test_cells_that_did_the_same_are_one_variant() -> None:
    [difference] = beside(plan(A, step(b"x")), plan(B, step(b"y")), plan(C, step(b"x"))).differences
    assert [(A, C), (B,)] == [variant.cells for variant in difference.variants]


def test_steps_that_did_not_run_to_their_end_are_not_compared() -> None:
    skipped = replace(step(b"other"), status=Status.SKIPPED)
    cancelled = replace(step(b"half"), exit=Exit(ExitKind.CANCELLED), status=Status.ERROR)
    assert [] == told(plan(A, step(b"x")), plan(B, skipped), plan(C, cancelled))


def test_cases_and_steps_of_some_cells_have_their_place_among_the_others() -> None:
    one = plan(A, case="x")
    two = replace(
        one, cell=B, cases=(CaseResult("w", "w", Status.FAILED, ()), *one.cases, CaseResult("y", "y", Status.PASSED, ()))
    )
    assert ("w", "x", "y") == tuple(name for name, _ in beside(one, two).cases)
    assert (None, Status.FAILED) == beside(one, two).cases[0][1]


JQ = (ToolInfo("jq", "1.6-2.1+deb12u3", "apt"),)
NEW_JQ = (ToolInfo("jq", "1.7.1-6", "apt"),)


def text(found: SideBySide, width: int) -> str:
    lines = [line.plain.rstrip() for line in side_by_side_lines(found, width)]
    assert all(len(line) <= width for line in lines), max(map(len, lines))
    return "\n".join(lines)


def images(*steps: StepResult) -> list[PlanResult]:
    names = ("debian:bookworm-slim", "debian:trixie-slim")
    tools = (JQ, NEW_JQ)
    statuses = (Status.PASSED, Status.FAILED)
    return [
        plan((("image", name),), each, case="select", status=status, tools=tool)
        for name, each, tool, status in zip(names, steps, tools, statuses, strict=True)
    ]


@pytest.mark.parametrize("width", [80, 120])
def test_a_few_cells_stand_in_columns_under_their_values(width: int) -> None:
    expected = """\
   cells  p  2 side by side
                     debian:bookworm-slim  debian:trixie-slim
          select     PASS                  FAIL
          jq (tool)  1.6-2.1+deb12u3       1.7.1-6
 differs  select::s  stdout, line 1
            [image=debian:bookworm-slim]  old
            [image=debian:trixie-slim]    new"""
    assert expected == text(beside(*images(step(b"old\n"), step(b"new\n"))), width)


def test_long_lines_are_cut_where_they_differ() -> None:
    long = beside(*images(step(b"p" * 200 + b"old" + b"q" * 200), step(b"p" * 200 + b"new")))
    assert "  …ppppppppppppold" in text(long, 80)
    assert "  …ppppppppppppnew  (without a newline)" in text(long, 80)


def test_names_of_cells_that_are_too_long_stand_above_what_they_did() -> None:
    names = [(("k", letter * 60),) for letter in "xy"]
    wide = [replace(each, cell=cell) for each, cell in zip(images(step(b"o" * 50), step(b"n" * 50)), names, strict=True)]
    shown = text(beside(*wide), 80).splitlines()
    assert "            [k=" + "y" * 60 + "]" == shown[-2]
    assert "              " + "n" * 50 + "  (without a ne…" == shown[-1]


def many(count: int) -> SideBySide:
    cells = [(("image", f"registry.example/debian:{i}"), ("v", str(i))) for i in range(count)]
    last = plan(cells[-1], step(b"odd\n"), status=Status.FAILED)
    return beside(*(plan(cell, step(b"same\n")) for cell in cells[:-1]), last)


def test_more_cells_than_fit_are_numbered() -> None:
    shown = text(many(6), 80)
    assert "            1  [image=registry.example/debian:0,v=0]\n" in shown
    assert "                1      2      3      4      5      6\n" in shown
    assert "          main  PASS   PASS   PASS   PASS   PASS   FAIL\n" in shown
    assert "            [image=registry.example/debian:0,v=0] and 4 more  same\n" in shown


def test_very_many_cells_stand_below_each_other_with_the_bad_ones_first() -> None:
    shown = text(many(60), 80)
    assert "          FAIL   [image=registry.example/debian:59,v=59]  1 failed" == shown.splitlines()[1]
    assert "          … and 20 more cells" in shown


def test_that_nothing_differs_is_said() -> None:
    assert "    same  1 step did the same in every cell" in text(beside(*images(step(b"x"), step(b"x"))), 80)
    none = beside(plan(A), plan(B))
    assert "    same  no step ran in more than one cell" in text(none, 80)


HOSTILE = "\x1b[31m<b>\u202e\n</td>"


def test_values_and_output_are_made_safe_in_text_and_html() -> None:
    cells = [(("k", HOSTILE),), (("k", "b"),)]
    found = [plan(cell, step(out)) for cell, out in zip(cells, (HOSTILE.encode(), b"plain"), strict=True)]
    shown = "\n".join(line.plain for line in side_by_side_lines(beside(*found), 80))
    html = run_html(run(*found))
    for each in (shown, html):
        assert "\x1b" not in each and "\u202e" not in each
    assert "<b>" not in html and "</td>" not in html.replace("</td><td", "").replace("</td></tr>", "")


def test_html_has_the_table_and_what_differs() -> None:
    html = run_html(run(*images(step(b"old\n"), step(b"new\n"))))
    assert "2 cells side by side" in html and "jq (tool)" in html
    assert "where they differ" in html and "select::s" in html
    assert ">old</span>" in html and ">new</span>" in html
    assert "nothing differs" in run_html(run(*images(step(b"x"), step(b"x"))))


def test_many_differences_are_counted() -> None:
    difference = Difference("c", "s", "stdout", (Variant((A,), "x"), Variant((B,), "y")), 1)
    found = replace(beside(plan(A, step(b"x")), plan(B, step(b"y"))), differences=(difference,) * 25)
    assert text(found, 80).endswith("          … and 5 more differences")
    assert "<table" in found._repr_html_()
