"""The Markdown summary: what people need to see, and that nothing foreign in it is anything but text."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from support.hostile_output import ATTACKS, BEGIN, everything
from support.recorded_run import CASES, EVERYTHING, FILE, LOST, RUN, captured, case, failing, run_of, step

from testronaut_lab.errors import ErrorKind, ExitStatus
from testronaut_lab.model.result import ErrorInfo, Mismatch, RunResult, Status
from testronaut_lab.report.files.markdown import LIMIT_BYTES, markdown

READER = MarkdownIt("gfm-like")


def tokens(text: str) -> list[Token]:
    return [inner for token in READER.parse(text) for inner in (token, *(token.children or ()))]


def fences(run: RunResult) -> list[tuple[str, str]]:
    return [(token.info, token.content) for token in tokens(markdown(run)) if token.type == "fence"]


def rows(run: RunResult) -> list[str]:
    return [line for line in markdown(run).splitlines() if line.startswith("|")][2:]


@pytest.mark.parametrize(
    ("cases", "status", "title"),
    [
        (CASES, Status.ERROR, "## 💥 4 of 9 cases failed"),
        (CASES[:1], Status.PASSED, "## ✅ 1 case, none failed"),
        ((CASES[0], CASES[7]), Status.FLAKY, "## ⚠️ 1 of 2 cases flaky"),
        ((), Status.ERROR, "## 💥 The run did not end well"),
    ],
)
def test_the_heading_is_the_verdict(cases, status, title) -> None:
    assert markdown(run_of(*cases, status=status)).startswith(f"{title}\n")


@pytest.mark.parametrize(("cases", "title"), [(CASES, "4 of 9 cases failed"), (CASES[:1], "")])
def test_a_run_that_was_interrupted_says_so(cases, title) -> None:
    text = markdown(run_of(*cases, exit_status=ExitStatus.INTERRUPTED))
    assert text.startswith(f"## 💥 Interrupted{': ' if title else ''}{title}\n")


def test_a_name_without_an_end_is_cut() -> None:
    many = [replace(CASES[1], nodeid=f"{FILE}::{'x' * 10_000}")] * 300
    assert len(markdown(run_of(*many)).encode()) < LIMIT_BYTES


def test_the_sums_stand_beneath_it() -> None:
    sums = "1 passed, 2 failed, 1 error, 2 skipped, 1 xfailed, 1 xpassed, 1 flaky"
    assert f"**{sums}** in 4.5 s, run `{RUN.run}`\n" in markdown(EVERYTHING)


def test_every_case_has_a_row_with_what_is_to_be_said_of_it() -> None:
    assert rows(EVERYTHING)[:2] == [
        f"| ✅ passed | `{FILE}::passed` | 1 | 250 ms |",
        f"| ❌ failed | `{FILE}::failed` | 2 | 250 ms |",
    ]
    assert rows(EVERYTHING)[3:] == [
        f"| ⏭️ skipped | `{FILE}::skipped`<br>`` `true` held `` | 1 | 250 ms |",
        f"| ⏭️ skipped | `{FILE}::never`<br>`it was not run` | 0 | 250 ms |",
        f"| ☑️ xfailed | `{FILE}::xfailed`<br>expected to fail: `bug 12` | 1 | 250 ms |",
        f"| ❗ xpassed | `{FILE}::xpassed`<br>expected to fail: `bug 13` | 1 | 250 ms |",
        f"| ⚠️ flaky, 2 attempts | `{FILE}::flaky` | 1 | 750 ms |",
        f"| ❌ failed, 2 attempts | `{FILE}::tried` | 1 | 750 ms |",
    ]


def test_a_failing_step_has_its_place_command_expectations_and_difference() -> None:
    text = markdown(run_of(CASES[1]))
    assert f"### ❌ `{FILE}::failed::second`\n\n`{FILE}`, line 7\n\n```console\n$ cat list\n> exit 3\n```\n" in text
    assert "**`exit`**\n\n```text\nexpected: exit 0\nactual:   exit 3\n```\n" in text
    assert "**`stdout.equals`**\n\n```diff\n@@ -1,2 +1,2 @@\n a\n-c\n+b\n```\n" in text
    assert "stderr\n\n```text\nno c\n```\n" in text


def test_findings_are_those_of_plans_cases_and_steps_but_no_expected_failure() -> None:
    headings = [line for line in markdown(EVERYTHING).splitlines() if line.startswith("###")]
    assert headings == [
        f"### ❌ `{FILE}::failed::second`",
        f"### 💥 `{FILE}::error::lost`",
        f"### ❗ `{FILE}::xpassed`",
        f"### ⚠️ `{FILE}::flaky::second`, attempt 1",
        f"### ❌ `{FILE}::tried::second`, attempt 2",
        "### 💥 `cells`",
    ]


def test_errors_come_with_their_hint() -> None:
    late = case("late", Status.FAILED, error=ErrorInfo(ErrorKind.CASE_TIMEOUT, "time used up", "raise it"))
    assert ("text", "time used up\nhint: raise it\n") in fences(run_of(late))
    assert ("text", "the container went away\nhint: testronaut-lab engine status\n") in fences(replace(RUN, error=LOST))


def test_the_cells_of_a_matrix_stand_side_by_side() -> None:
    cells = [replace(run_of(CASES[0]).plans[0], cell=(("image", name),)) for name in ("old", "new")]
    text = markdown(replace(RUN, plans=(replace(cells[0], cases=(CASES[1],)), cells[1])))
    assert "\n### Cells of `jq basics` side by side\n\n```text\n" in text
    assert re.search(r"^ +old +new$", text, re.M)


def test_what_it_ran_on_is_folded_away() -> None:
    text = markdown(EVERYTHING)
    assert text.endswith(
        "<details><summary>Engine, images and tools</summary>\n\n- engine: `docker 20.10, API 1.41, driver fast`\n"
        "- `jq basics`: `debian:bookworm-slim` by `local`, `jq 1.6` by `apt`\n"
        "- `cells`: `image=debian:x`, no image\n\n</details>\n"
    )


@pytest.mark.parametrize("text", ["```", "````\n```\n</details>", "~~~", "`" * 40, "a\n\n# x\n---\n", "   ```text\n"])
def test_no_output_breaks_out_of_its_fence(text: str) -> None:
    odd = failing(
        "c",
        mismatches=(Mismatch("golden", "a\n", f"{text}\nb\n", "changes.txt", f"{text}\n+{text}"),),
        stderr_stream=captured(text),
    )
    shown = [content for _, content in fences(run_of(case("c", Status.FAILED, odd)))]
    assert shown == ["$ cat list\n> exit 3\n", f"{text}\n+{text}".rstrip("\n") + "\n", "a\nb\n", text.rstrip("\n") + "\n"]


NAMES = [
    "a|b",
    "a\\|b",
    "`",
    "``x`",
    " x ",
    "[a](http://x.example)",
    "@octocat #1",
    "http://x.example",
    "<b>",
    "a\nb",
    "![x](y)",
    "\\",
    "*x*",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_a_name_wherever_it_stands(name: str) -> None:
    odd = replace(failing("c"), nodeid=name, notes=(name,), mismatches=(Mismatch(name, "a", "b", name),))
    made = replace(case("c", Status.XPASSED, odd, expect_fail=name), nodeid=f"{name}::c")
    failed = replace(made, status=Status.FAILED)
    plan = replace(run_of(made, failed).plans[0], file=name, name=name, notes=(name,))
    found = tokens(markdown(replace(RUN, run=name, plans=(plan,))))
    assert {token.type for token in found} & {"link_open", "image", "em_open", "strikethrough_open"} == set()
    spans = [token.content for token in found if token.type == "code_inline"]
    visible = name.replace("\n", r"\n").replace("\\|", "\\\\x7c")
    assert spans.count(name.replace("\n", r"\n")) >= 4
    assert {f"{visible}::c", f"{name}::c".replace("\n", r"\n")} <= set(spans)
    assert sum(token.type == "tr_open" for token in found) == 3
    html = [token.content for token in found if token.type.startswith("html_")]
    assert set(html) <= {"<br>", "<details><summary>Engine, images and tools</summary>\n", "</details>\n"}


def test_hostile_output_is_shown_and_is_nothing_but_text() -> None:
    text = markdown(run_of(case("c", Status.FAILED, failing("c", stderr_stream=captured(everything())))))
    assert text.count(BEGIN) == 20 and len(ATTACKS) > 20
    assert "stderr, the last 20 of 26 lines" in text
    assert {token.type for token in tokens(text)} & {"link_open", "image"} == set()


def test_of_many_cases_those_that_passed_are_counted_only() -> None:
    many = [case(f"c{i}", Status.PASSED, step("a", f"c{i}")) for i in range(500)]
    text = markdown(run_of(*many, CASES[1]))
    assert len(rows(run_of(*many, CASES[1]))) == 1
    assert "\n… and 500 more cases.\n" in text


def test_it_is_never_larger_than_the_limit_and_says_what_is_missing() -> None:
    many = [case(f"c{i}", Status.FAILED, failing(f"c{i}")) for i in range(200)]
    text = markdown(run_of(*many), 40_000)
    shown = text.count("\n### ")
    assert 0 < shown < 200 and len(text.encode()) < 40_100
    assert f"… and {200 - shown} more findings, for which there is no room here." in text


def test_a_difference_of_thousands_of_lines_is_cut() -> None:
    long = failing("c", mismatches=(Mismatch("golden", "a\nb", "c\nd", "changes.txt", "+x\n" * 5000),))
    (_, (kind, diff), _, _) = fences(run_of(case("c", Status.FAILED, long)))
    assert (kind, diff.count("\n"), "… 4900 more lines" in diff) == ("diff", 101, True)


def test_a_run_without_an_end_tells_how_long_its_cases_took() -> None:
    text = markdown(run_of(*CASES, finished=None))
    assert re.search(r"\*\* in 3\.2 s, run", text)
