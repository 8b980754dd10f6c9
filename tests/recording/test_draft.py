"""Drafting a plan from what was done in a session: what it says, and that it says the same when it is read. No engine here."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.plan_texts import NAMES, SCRIPTS, TEXTS

from testronaut_lab.errors import ErrorKind, UsageError
from testronaut_lab.execution.context import StepRequest
from testronaut_lab.model.expect import TextExpect
from testronaut_lab.model.files import ChangeKind, FileChange, FileType
from testronaut_lab.model.interaction import PressKey, Ready, SendText, Tty
from testronaut_lab.model.normalizing import Facts
from testronaut_lab.model.plan import ImageSpec, Plan, substitute
from testronaut_lab.model.result import Captured, ErrorInfo, Exit, ExitKind, Mismatch, Status, StepResult
from testronaut_lab.planfile import read_plans
from testronaut_lab.planfile.dump.yaml import plan_text
from testronaut_lab.recording.destination import lay_out
from testronaut_lab.recording.draft import Choice, Draft, SessionSpec, chosen, draft
from testronaut_lab.recording.journal import Entry, Journal, Put, Ran, Restarted, Seen

MAKING = SessionSpec(ImageSpec("debian:bookworm-slim"))
PASSED = Exit(ExitKind.EXITED, 0)


def captured(data: bytes = b"") -> Captured:
    return Captured(len(data), hashlib.sha256(data).hexdigest(), data)


def seen(request: StepRequest, exit_: Exit = PASSED, out: bytes = b"", touched: Sequence[str] = (), **more: object) -> Seen:
    changes = tuple(FileChange(ChangeKind.ADDED, path, FileType.FILE, 0o644) for path in touched)
    result = StepResult(
        request.id, request.nodeid, exit_, Status.PASSED, run=request.script, argv=request.argv, changes=changes,
        stdout_stream=captured(out), **more,  # type: ignore[arg-type]
    )  # fmt: skip
    return Seen(result, Facts(), lambda _sha256: b"")


def ran(run: str | None = None, exit_: Exit = PASSED, touched: Sequence[str] = (), **asked: object) -> Ran:
    request = StepRequest("", "", run, **asked)  # type: ignore[arg-type]
    return Ran(request, seen(request, exit_, touched=touched))


def drafted(*entries: Entry, folder: Path = Path("/project"), **more: object) -> Draft:
    return draft(MAKING, entries, folder, folder, "a", **more)  # type: ignore[arg-type]


def body(plan: Draft, **choices: Choice) -> str:
    text = plan_text(chosen(plan, choices), Path("/project"))
    return text.removeprefix("version: 1\nimage: debian:bookworm-slim\n")


def loaded(plan: Draft, folder: Path) -> Plan:
    lay_out(plan.beside, folder)
    [found] = read_plans(plan_text(chosen(plan, {}), folder), folder / "a.lab.yaml", root=folder)
    return found


def test_commands_become_steps_and_how_they_ended_what_is_expected() -> None:
    plan = drafted(
        ran("jq ."), ran("exit 3", Exit(ExitKind.EXITED, 3)), ran("kill $$", Exit(ExitKind.EXITED, 137, "KILL")),
        ran("sleep 9", Exit(ExitKind.TIMEOUT), timeout_s=0.5),
    )  # fmt: skip
    assert body(plan) == (
        "golden: true\nsteps:\n  - jq .\n  - run: exit 3\n    expect: {exit: 3}\n  - run: kill $$\n    expect: {signal: KILL}\n"
        "  - run: sleep 9\n    timeout: 500ms\n    expect: {exit: timeout}\n"
    )


def test_ids_are_those_of_the_commands_and_unique_also_where_case_makes_the_difference() -> None:
    named = Ran(StepRequest("x", "", "one"), seen(StepRequest("x", "", "one")), id="Plain ID")
    again = Ran(StepRequest("x", "", "two"), seen(StepRequest("x", "", "two")), id="plain-id")
    plan = drafted(ran("date"), ran("DATE"), ran("date"), named, again)
    assert ["date", "date-2", "date-3", "plain-id", "plain-id-2"] == [step.id for step in plan.plan.steps]


def test_goldens_are_as_they_were_chosen() -> None:
    plan = drafted(ran("date"), ran("env"), ran("uuidgen"), ran("flaky", Exit(ExitKind.EXITED, 1)))
    choices = {
        "date": Choice(rules=("timestamp",)), "env": Choice(streams=("stderr",)), "uuidgen": Choice(golden=False),
        "flaky": Choice(golden=False, codes=(0, 1)),
    }  # fmt: skip
    assert body(plan, **choices) == (
        "golden: true\nsteps:\n  - run: date\n    golden: {normalize: [timestamp]}\n"
        "  - run: env\n    golden: {streams: [stderr]}\n"
        "  - run: uuidgen\n    golden: false\n  - run: flaky\n    golden: false\n    expect: {exit: [0, 1]}\n"
    )


def test_programs_in_the_background_have_their_golden_where_they_are_stopped() -> None:
    plan = drafted(
        ran("server", Exit(ExitKind.RUNNING), background="web", ready=Ready(port=80)), ran(signal={"web": "HUP"}),
        ran(stop="web", exit_=Exit(ExitKind.EXITED, 143, "TERM")),
    )  # fmt: skip
    choices = {step.id or "": Choice() for step in plan.plan.steps}
    assert body(plan, **choices) == (
        "golden: true\nsteps:\n  - background: web\n    run: server\n    ready: {port: 80}\n  - signal: {web: HUP}\n"
        "  - stop: web\n    golden: true\n"
    )


def test_terminals_come_with_what_was_done_in_them() -> None:
    plan = drafted(ran("vi", tty=Tty(), interact=(SendText(":q"), PressKey("enter"))))
    assert "    tty: true\n    interact:\n      - {send: ':q'}\n      - {key: enter}\n" in body(plan)


def test_what_was_put_before_the_first_step_is_a_file_of_the_plan() -> None:
    plan = drafted(Put("./d//a.json", b"1"), Put("run.sh", b"x\n", mode=0o755), ran("ls"))
    assert body(plan).startswith("files:\n  d/a.json: '1'\n  run.sh: {text: \"x\\n\", mode: '0755'}\n")


def test_what_was_put_later_is_one_too_unless_it_took_the_place_of_something() -> None:
    plan = drafted(ran("ls"), Put("new", b"1"), ran("touch out", touched=["out"]), Put("out", b"2"), ran("cat out"))
    assert (["new"], ("new", "out")) == (list(plan.plan.files), plan.late)
    assert ["ls", "touch-out", "put-out", "cat-out"] == [step.id for step in plan.plan.steps]
    assert "    run: rm -rf ./out && cat >./out\n    stdin: '2'\n    cwd: /workspace\n    golden: false\n" in body(plan)


def test_a_file_that_was_put_twice_before_any_step_is_there_once() -> None:
    assert {"a": b"2"} == {
        path: file.content for path, file in drafted(Put("a", b"1"), Put("a", b"2"), ran("x")).plan.files.items()
    }


def test_in_place_everything_late_is_a_step() -> None:
    plan = drafted(ran("ls"), Put("d e/new", b"1", mode=0o600), ran("ls"), in_place=True)
    assert {} == plan.plan.files
    assert "mkdir -p ./'d e' && rm -rf ./'d e/new' && cat >./'d e/new' && chmod 600 ./'d e/new'" == plan.plan.steps[1].run


def test_what_is_large_lies_beside_the_plan(tmp_path: Path) -> None:
    plan = drafted(Put("big.txt", b"a" * 5000), Put("b.bin", b"\xff" * 2000), ran("cat", stdin=b"b" * 9999), folder=tmp_path)
    found = loaded(plan, tmp_path)
    assert ["a.files/b.bin", "a.files/big.txt", "a.files/cat.stdin"] == sorted(plan.beside)
    assert b"b" * 9999 == found.cases[0].steps[0].stdin
    assert (b"a" * 5000) == (tmp_path / "a.files" / "big.txt").read_bytes()
    assert tmp_path / "a.files" / "big.txt" == found.files["big.txt"].source


def test_files_of_the_project_are_named_and_others_are_copied(tmp_path: Path) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    (project / "data").mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / "x.sh").write_text("x")
    (elsewhere / "x.sh").chmod(0o755)
    plan = drafted(Put("data", source=project / "data"), Put("x.sh", source=elsewhere / "x.sh"), ran("ls"), folder=project)
    found = loaded(plan, project)
    assert (project / "data", project / "a.files" / "x.sh") == (found.files["data"].source, found.files["x.sh"].source)
    assert 0o755 == (project / "a.files" / "x.sh").stat().st_mode & 0o777


@pytest.mark.parametrize(
    "result",
    [
        {"exit_": Exit(ExitKind.CANCELLED)}, {"exit_": Exit(ExitKind.OOM)}, {"error": ErrorInfo(ErrorKind.CAPTURE, "gone")},
        {"mismatches": (Mismatch("interact.screen", "a screen with 'x'", "none"),)},
    ],
)  # fmt: skip
def test_a_step_that_was_cut_short_is_not_in_the_plan_and_that_is_said(result: dict[str, object]) -> None:
    request = StepRequest("", "", "sleep 99")
    plan = drafted(ran("a"), Ran(request, seen(request, **result)), ran("b"))  # type: ignore[arg-type]
    assert (["a", "b"], ["sleep-99"]) == ([step.id for step in plan.plan.steps], list(plan.skipped))


def test_a_session_that_was_started_anew_was_in_its_workspace_again() -> None:
    assert "cd /workspace" == drafted(ran("cd /tmp"), Restarted(), ran("pwd")).plan.steps[1].run


def test_a_name_that_no_plan_can_hold_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="cannot be named in one"):
        drafted(Put("bad\udcff", b""), ran("ls"))


def test_text_of_expectations_stands_for_itself() -> None:
    request = StepRequest("", "", "x")
    expected = Ran(
        request, seen(request), expect={"stdout": TextExpect(contains=("${{a}}",), json={"b": ["${{c}}"]}, has_json=True)}
    )
    found = loaded(drafted(expected), Path("/project")).cases[0].steps[0]
    assert TextExpect(contains=("${{a}}",), json={"b": ["${{c}}"]}, has_json=True) == substitute(found, {}).expect.stdout


def test_undoing_forgets_steps_and_what_came_after_the_first_of_them() -> None:
    journal = Journal()
    for entry in (Put("a", b""), ran("one"), Put("b", b""), ran("two"), Restarted(), ran("three"), Put("c", b"")):
        journal.add(entry)
    journal.undo(2)
    assert [Put("a", b""), "one", Put("b", b"")] == [
        entry.request.run if isinstance(entry, Ran) else entry for entry in journal.entries
    ]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            SCRIPTS | st.lists(TEXTS, min_size=1, max_size=3),
            st.dictionaries(NAMES, TEXTS, max_size=3),
            st.binary() | TEXTS.map(str.encode),
        ),
        min_size=1,
        max_size=5,
    ),
    st.dictionaries(NAMES, TEXTS | st.just("${{x}}"), max_size=2),
)
def test_any_session_reads_back_as_the_steps_that_were_run(
    steps: list[tuple[str | list[str], dict[str, str], bytes]], env: dict[str, str]
) -> None:
    asked = [
        (None, ("x", *command), env, stdin) if isinstance(command, list) else (command, None, env, stdin)
        for command, env, stdin in steps
    ]
    entries = [ran(run, argv=argv, env=own, stdin=stdin) for run, argv, own, stdin in asked]
    plan = draft(SessionSpec(ImageSpec("debian:bookworm-slim"), env=env), entries, Path("/project"), Path("/project"), "a")
    [found] = read_plans(plan_text(chosen(plan, {}), Path("/project")), Path("/project/a.lab.yaml"), root=Path("/project"))
    steps_found = [substitute(step, {}) for step in found.cases[0].steps]
    assert [(run, argv, {**env, **own}, stdin or None) for run, argv, own, stdin in asked] == [
        (step.run, step.argv, {**found.env, **step.env}, step.stdin) for step in steps_found
    ]
    assert list(plan.steps) == [step.id for step in steps_found]
