"""The verdict on a step: failures, errors, and when a golden is written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from testronaut_lab.errors import ErrorKind
from testronaut_lab.golden.pending import Pending, PendingStore
from testronaut_lab.golden.places import GoldenKey
from testronaut_lab.golden.render import GoldenTree
from testronaut_lab.golden.store import GoldenStore
from testronaut_lab.judge.golden_writer import GoldenWriter
from testronaut_lab.judge.judge import Judge, Verdict
from testronaut_lab.judge.save import saved_values
from testronaut_lab.model.expect import ExitExpect, Expect, MaxExpect, TextExpect
from testronaut_lab.model.files import ChangeKind, FileChange, FileState, FileType
from testronaut_lab.model.globs import named_by
from testronaut_lab.model.normalizing import Facts, Normalized
from testronaut_lab.model.plan import GoldenSpec, Normalizer, Save, Step
from testronaut_lab.model.result import Captured, ErrorInfo, Exit, ExitKind, Mismatch, Status, StepResult, Usage

NODEID = "plans/p.lab.yaml::c::s"
KEY = GoldenKey("plans/p", "c", "s")
ACCEPT = "to accept: testronaut-lab accept plans/p.lab.yaml::c::s"


@dataclass(frozen=True)
class Folder:
    """A real folder as the workspace."""

    root: Path
    facts: Facts = field(default_factory=Facts)

    def find(self, pattern: str) -> Mapping[str, FileState]:
        state = FileState(FileType.FILE, 0o644)
        there = {path.relative_to(self.root).as_posix(): state for path in self.root.rglob("*") if path.is_file()}
        return {path: there[path] for path in named_by(pattern, there)}

    def read(self, path: str) -> bytes:
        return (self.root / path).read_bytes()


@pytest.fixture
def store(tmp_path: Path) -> GoldenStore:
    return GoldenStore(tmp_path / "project/snapshots")


@pytest.fixture
def workspace(tmp_path: Path) -> Folder:
    (tmp_path / "workspace").mkdir()
    return Folder(tmp_path / "workspace")


def step(**fields: object) -> Step:
    return replace(Step("s", NODEID, run="cmd"), **fields)  # type: ignore[arg-type]


def step_result(stdout: bytes = b"", code: int = 0, **fields: object) -> StepResult:
    ended = Exit(ExitKind.EXITED, code)
    stream = Captured(size_bytes=len(stdout), data=stdout)
    result = StepResult("s", NODEID, ended, Status.FAILED if code else Status.PASSED, run="cmd", stdout_stream=stream)
    return replace(result, **fields)  # type: ignore[arg-type]


def judged(
    store: GoldenStore, workspace: Folder, step: Step, result: StepResult, *, update: bool = False, ci: bool = False
) -> Verdict:
    return Judge(GoldenWriter(store, update, ci, pending=PendingStore(store), run="r1")).judge(step, result, workspace)


def pending(store: GoldenStore) -> list[tuple[str, GoldenTree]]:
    found = PendingStore(store).pending()
    return [(each.nodeid, each.actual) for each in found if isinstance(each, Pending)]


GOLDEN = GoldenSpec()


def test_step_without_expectations_passes_by_exit_0(store: GoldenStore, workspace: Folder) -> None:
    assert judged(store, workspace, step(), step_result()) == Verdict(Status.PASSED)


def test_step_without_expectations_fails_by_any_other_exit(store: GoldenStore, workspace: Folder) -> None:
    assert judged(store, workspace, step(), step_result(code=3)) == Verdict(
        Status.FAILED, (Mismatch("exit", "exit 0", "exit 3"),)
    )


def test_failing_command_that_was_expected_passes(store: GoldenStore, workspace: Folder) -> None:
    expect = Expect(exit=ExitExpect(codes=(5,)))
    assert judged(store, workspace, step(expect=expect), step_result(code=5)).status is Status.PASSED


def test_error_of_the_execution_is_the_verdict(store: GoldenStore, workspace: Folder) -> None:
    error = ErrorInfo(ErrorKind.CAPTURE, "a record was forged")
    assert judged(store, workspace, step(), step_result(error=error)) == Verdict(Status.ERROR, error=error)


@pytest.mark.parametrize(
    "fields", [{"exit": Exit(ExitKind.SESSION_LOST)}, {"exit": Exit(ExitKind.ENGINE_LOST)}, {"status": Status.ERROR}]
)
def test_lost_or_doubtful_step_is_an_error_even_without_a_reason(
    store: GoldenStore, workspace: Folder, fields: dict[str, object]
) -> None:
    verdict = judged(store, workspace, step(), step_result(**fields))
    assert verdict.status is Status.ERROR
    assert verdict.error is not None


def test_output_that_is_gone_is_an_error(store: GoldenStore, workspace: Folder, tmp_path: Path) -> None:
    gone = Captured(size_bytes=9, data=None, path=str(tmp_path / "gone"))
    verdict = judged(store, workspace, step(expect=Expect(stdout=TextExpect(empty=True))), step_result(stdout_stream=gone))
    assert (verdict.status, verdict.error and verdict.error.class_) == (Status.ERROR, "CaptureError")


def test_missing_golden_fails_and_names_the_command_to_accept(store: GoldenStore, workspace: Folder) -> None:
    verdict = judged(store, workspace, step(golden=GOLDEN), step_result(b"1\n"))
    expected = f"a golden in snapshots/plans/p/c/s ({ACCEPT})"
    new = "@@ cmd.txt @@\n+$ cmd      (exit 0)\n@@ stdout.txt @@\n+1\n"
    assert verdict == Verdict(Status.FAILED, (Mismatch("golden", expected, "none yet for cmd.txt, stdout.txt", diff=new),))
    assert store.read(KEY) is None
    assert pending(store) == [(NODEID, {"cmd.txt": b"$ cmd      (exit 0)\n", "stdout.txt": b"1\n"})]


def test_without_a_place_for_what_is_pending_the_advice_is_to_update(store: GoldenStore, workspace: Folder) -> None:
    (mismatch,) = (
        Judge(GoldenWriter(store, update=False, ci=False)).judge(step(golden=GOLDEN), step_result(), workspace).mismatches
    )
    assert "to accept: testronaut-lab run -u plans/p.lab.yaml::c::s" in mismatch.expected
    assert pending(store) == []


def test_step_that_agrees_again_drops_what_was_pending(store: GoldenStore, workspace: Folder) -> None:
    judged(store, workspace, step(golden=GOLDEN), step_result(b"1\n"), update=True)
    judged(store, workspace, step(golden=GOLDEN), step_result(b"2\n"))
    assert [tree["stdout.txt"] for _, tree in pending(store)] == [b"2\n"]
    assert judged(store, workspace, step(golden=GOLDEN), step_result(b"1\n")) == Verdict(Status.PASSED)
    assert pending(store) == []


@pytest.mark.parametrize("first", ["1", "2"])
def test_what_one_cell_agrees_with_and_another_not_cannot_be_accepted(store: GoldenStore, workspace: Folder, first: str) -> None:
    judged(store, workspace, step(golden=GOLDEN), step_result(b"1\n"), update=True)
    judge = Judge(GoldenWriter(store, update=False, ci=False, pending=PendingStore(store), run="r2"))
    for word in (first, {"1": "2", "2": "1"}[first]):
        cell = step(golden=GOLDEN, nodeid=f"plans/p.lab.yaml::c[k={word}]::s")
        judge.judge(cell, step_result(f"{word}\n".encode()), workspace)
    (entry,) = PendingStore(store).pending()
    assert entry.problem == "plans/p.lab.yaml::c[k=1]::s gave something else for the same golden in the same run"


def test_update_drops_what_was_pending(store: GoldenStore, workspace: Folder) -> None:
    judged(store, workspace, step(golden=GOLDEN), step_result(b"1\n"))
    judged(store, workspace, step(golden=GOLDEN), step_result(b"2\n"), update=True)
    assert not (PendingStore(store).root / KEY.place).exists()


@pytest.mark.parametrize(
    "result",
    [step_result(code=1), step_result(error=ErrorInfo(ErrorKind.CAPTURE, "x")), step_result(exit=Exit(ExitKind.SESSION_LOST))],
    ids=["other expectation", "error", "lost"],
)
def test_nothing_is_pending_of_a_step_that_went_wrong_otherwise(
    store: GoldenStore, workspace: Folder, result: StepResult
) -> None:
    verdict = judged(store, workspace, step(golden=GOLDEN), result)
    assert "testronaut-lab accept" not in str(verdict)
    assert pending(store) == []


def test_nothing_is_pending_of_a_case_that_is_expected_to_fail(store: GoldenStore, workspace: Folder) -> None:
    judge = Judge(GoldenWriter(store, update=False, ci=False, pending=PendingStore(store), run="r1"))
    (mismatch,) = judge.judge(step(golden=GOLDEN), step_result(), workspace, may_write=False).mismatches
    assert "cannot be accepted: the case is expected to fail" in mismatch.expected
    assert pending(store) == []


@pytest.mark.parametrize("update", [True, False])
def test_nothing_at_all_is_written_under_ci(store: GoldenStore, workspace: Folder, update: bool) -> None:
    judged(store, workspace, step(golden=GOLDEN), step_result(b"1\n"))
    before = {path: path.stat().st_mtime_ns for path in store.root.parent.rglob("*")}
    for stdout in (b"1\n", b"2\n"):
        judged(store, workspace, step(golden=GOLDEN), step_result(stdout), update=update, ci=True)
    assert {path: path.stat().st_mtime_ns for path in store.root.parent.rglob("*")} == before


def test_update_writes_the_golden_and_passes(store: GoldenStore, workspace: Folder) -> None:
    verdict = judged(store, workspace, step(golden=GOLDEN), step_result(b"1\n"), update=True)
    assert verdict == Verdict(Status.PASSED, notes=("golden written: snapshots/plans/p/c/s",))
    assert store.read(KEY) == {"cmd.txt": b"$ cmd      (exit 0)\n", "stdout.txt": b"1\n"}


def test_same_output_again_passes_and_writes_nothing(store: GoldenStore, workspace: Folder) -> None:
    judged(store, workspace, step(golden=GOLDEN), step_result(b"1\n"), update=True)
    before = os.stat(store.directory(KEY)).st_ino
    assert judged(store, workspace, step(golden=GOLDEN), step_result(b"1\n"), update=True) == Verdict(Status.PASSED)
    assert os.stat(store.directory(KEY)).st_ino == before


def test_golden_edited_by_hand_fails_with_a_diff(store: GoldenStore, workspace: Folder) -> None:
    judged(store, workspace, step(golden=GOLDEN), step_result(b"1\n"), update=True)
    (store.directory(KEY) / "stdout.txt").write_bytes(b"2\n")
    (mismatch,) = judged(store, workspace, step(golden=GOLDEN), step_result(b"1\n")).mismatches
    assert mismatch == Mismatch(
        "golden", f"as in snapshots/plans/p/c/s/stdout.txt ({ACCEPT})", "1\n", "stdout.txt", "@@ -1 +1 @@\n-2\n+1\n"
    )


def test_update_does_not_write_when_another_expectation_fails(store: GoldenStore, workspace: Folder) -> None:
    verdict = judged(store, workspace, step(golden=GOLDEN), step_result(code=1), update=True)
    assert [each.aspect for each in verdict.mismatches] == ["exit", "golden"]
    why = "it ended with exit status 1; if that is right, the plan says `expect: {exit: 1}`"
    assert verdict.notes == (f"golden not written: {why}",)
    assert why in verdict.mismatches[1].expected


@pytest.mark.parametrize(
    ("exit_", "right"),
    [
        (Exit(ExitKind.EXITED, 137, "KILL"), "`expect: {signal: KILL}`"),
        (Exit(ExitKind.OOM, 137), "`expect: {exit: oom}`"),
        (Exit(ExitKind.TIMEOUT), "`expect: {exit: timeout}`"),
    ],
)
def test_how_another_end_is_expected_is_said(store: GoldenStore, workspace: Folder, exit_: Exit, right: str) -> None:
    verdict = judged(store, workspace, step(golden=GOLDEN), step_result(exit=exit_))
    assert right in verdict.mismatches[1].expected


def test_a_golden_waits_for_more_than_another_end(store: GoldenStore, workspace: Folder) -> None:
    wrong = step(golden=GOLDEN, expect=Expect(stdout=TextExpect(equals="x")))
    verdict = judged(store, workspace, wrong, step_result(code=1), update=True)
    assert verdict.notes == ("golden not written: other expectations of this step do not hold",)
    assert store.read(KEY) is None


def test_update_does_not_write_for_an_error(store: GoldenStore, workspace: Folder) -> None:
    result = step_result(error=ErrorInfo(ErrorKind.CAPTURE, "x"))
    assert judged(store, workspace, step(golden=GOLDEN), result, update=True).status is Status.ERROR
    assert store.read(KEY) is None


def test_update_under_ci_writes_nothing_and_says_so(store: GoldenStore, workspace: Folder) -> None:
    (mismatch,) = judged(store, workspace, step(golden=GOLDEN), step_result(), update=True, ci=True).mismatches
    assert "nothing is written under CI; to accept elsewhere: testronaut-lab run -u plans/p.lab.yaml::c::s" in mismatch.expected
    assert store.read(KEY) is None


def test_golden_is_compared_after_normalising(store: GoldenStore, workspace: Folder) -> None:
    golden = GoldenSpec(normalize=(Normalizer(r"pid \d+", "pid [PID]"),))
    judged(store, workspace, step(golden=golden), step_result(b"pid 1\n"), update=True)
    assert judged(store, workspace, step(golden=golden), step_result(b"pid 2\n")).status is Status.PASSED


def test_verdict_says_how_often_each_rule_fired(store: GoldenStore, workspace: Folder) -> None:
    rules = (Normalizer(r"pid \d+", "pid [PID]"), "uuid")
    verdict = judged(store, workspace, step(golden=GoldenSpec(normalize=rules)), step_result(b"pid 1 pid 2\n"), update=True)
    assert verdict.normalized == Normalized(rules, Facts(), {r"pid \d+": 2, "uuid": 0})


def test_rules_of_a_step_without_a_golden_are_for_its_evidence(store: GoldenStore, workspace: Folder) -> None:
    verdict = judged(store, workspace, step(normalize=("uuid",)), step_result())
    assert verdict.normalized == Normalized(("uuid",), Facts(), {})


def test_golden_keeps_the_files_it_is_asked_for(store: GoldenStore, workspace: Folder) -> None:
    (workspace.root / "a.json").write_bytes(b"{}")
    change = FileChange(ChangeKind.ADDED, "a.json", FileType.FILE, mode=0o644, size_bytes=2)
    judged(store, workspace, step(golden=GoldenSpec(files=("*.json",))), step_result(changes=(change,)), update=True)
    assert (store.read(KEY) or {})["files/a.json"] == b"{}"
    assert (store.read(KEY) or {})["changes.txt"] == b"A 644 a.json\n"


def test_ignored_change_is_left_out_of_the_golden(store: GoldenStore, workspace: Folder) -> None:
    change = FileChange(ChangeKind.ADDED, ".cache/x", FileType.FILE, mode=0o644, size_bytes=0)
    verdict = Judge(GoldenWriter(store, update=True, ci=False)).judge(
        step(golden=GOLDEN), step_result(changes=(change,)), workspace, ("**/.cache/**",)
    )
    assert verdict.status is Status.PASSED
    assert sorted(store.read(KEY) or {}) == ["cmd.txt"]


def test_golden_behind_a_link_is_an_error_with_a_hint(store: GoldenStore, workspace: Folder, tmp_path: Path) -> None:
    store.root.mkdir(parents=True)
    (store.root / "plans").symlink_to(tmp_path)
    verdict = judged(store, workspace, step(golden=GOLDEN), step_result(), update=True)
    assert verdict.status is Status.ERROR
    assert verdict.error is not None
    assert verdict.error.class_ == "UsageError"
    assert verdict.error.hint == f"rm {store.root}/plans"


def test_truncated_stream_fails_a_golden_and_is_never_written(store: GoldenStore, workspace: Folder) -> None:
    cut = Captured(size_bytes=1, data=b"a", truncated=True, dropped_bytes=9)
    verdict = judged(store, workspace, step(golden=GOLDEN), step_result(stdout_stream=cut), update=True)
    assert verdict == Verdict(Status.FAILED, (Mismatch("stdout", "the whole stream", "truncated: 1 bytes were kept, 9 dropped"),))
    assert store.read(KEY) is None


def test_saved_values_are_in_the_verdict(store: GoldenStore, workspace: Folder) -> None:
    saving = step(save={"x": Save(json_path=".x"), "whole": Save(json_path=".")})
    assert judged(store, workspace, saving, step_result(b'{"x": "a b"}')).saved == {"x": "a b", "whole": '{"x":"a b"}'}


def test_value_that_cannot_be_saved_fails_the_step(store: GoldenStore, workspace: Folder) -> None:
    verdict = judged(
        store, workspace, step(save={"x": Save(json_path=".y")}, golden=GOLDEN), step_result(b'{"x": 1}'), update=True
    )
    assert verdict.status is Status.FAILED
    assert verdict.mismatches[0] == Mismatch("save.x", "a value at .y", 'nothing there: {"x": 1}')
    assert store.read(KEY) is None


@pytest.mark.parametrize(
    ("save", "stdout", "value"),
    [
        (Save(matches=r"v(\d+)\.(\d+)"), b"jq v1.7\n", "1"),
        (Save(matches=r"v\d+"), b"jq v1.7\n", "v1"),
        (Save(matches=r"a()"), b"a", ""),
        (Save(json_path=".a[1]"), b'{"a": [1, null]}', "null"),
        (Save(json_path=".a"), b'{"a": {"b": [1.5, true]}}', '{"b":[1.5,true]}'),
        (Save(json_path="."), '"é"'.encode(), "é"),
        (Save(json_path="."), b"1.10", "1.10"),
        (Save(json_path="."), b"1e3", "1e3"),
        (Save(json_path=".a[-1]"), b'{"a": [100000000000000000001.5]}', "100000000000000000001.5"),
        (Save(json_path="."), b"-0", "-0"),
        (Save(json_path=".a"), b'{"a": {"b": [1E400, 1e-400]}}', '{"b":[1E400,1e-400]}'),
        (Save(json_path="."), b"7" * 5000, "7" * 5000),
    ],
)
def test_value_is_taken_from_the_output(save: Save, stdout: bytes, value: str) -> None:
    assert saved_values(step(save={"x": save}), step_result(stdout)).values == {"x": value}


def test_value_is_taken_from_stderr() -> None:
    result = step_result(stderr_stream=Captured(size_bytes=2, data=b"e1"))
    assert saved_values(step(save={"x": Save(from_="stderr", matches=r"\d")}), result).values == {"x": "1"}


@pytest.mark.parametrize(
    ("save", "stdout", "actual"),
    [
        (Save(matches=r"v(\d)"), b"none\n", "nothing there: none\n"),
        (Save(matches=r"a|(b)"), b"a", "nothing there: a"),
        (Save(json_path=".a"), b"nope", "Expecting value: line 1 column 1 (char 0): nope"),
        (Save(json_path=".a"), b'{"a": "\\ud800"}', 'what was found is not UTF-8: {"a": "\\ud800"}'),
        (Save(matches=r"."), b"\xff", "what was found is not UTF-8: \\xff"),
        (Save(json_path=".a"), b'{"a": 1, "a": 2}', 'an object has the key "a" twice: {"a": 1, "a": 2}'),
        (Save(json_path="."), b'"\\u0000"', "what was found holds a NUL byte, which no variable can"),
    ],
)
def test_value_that_is_not_there_or_no_text_is_a_mismatch(save: Save, stdout: bytes, actual: str) -> None:
    saved = saved_values(step(save={"x": save}), step_result(stdout))
    assert saved.values == {}
    assert saved.mismatches == (Mismatch("save.x", f"a value at {save.json_path or save.matches}", actual),)


def test_nothing_is_saved_from_a_truncated_stream() -> None:
    cut = Captured(size_bytes=1, data=b"1", truncated=True, dropped_bytes=9)
    saved = saved_values(step(save={"x": Save(matches="1")}), step_result(stdout_stream=cut))
    assert saved.mismatches == (Mismatch("save.x", "the whole stream", "truncated: 1 bytes were kept, 9 dropped"),)


MIB = 2**20
SAMPLED = Usage(0.75, 70 * MIB, "sampled")


def at_most(**most: object) -> Step:
    return step(expect=Expect(max=MaxExpect(**most)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("most", "mismatch"),
    [
        ({"duration_s": 2.0}, Mismatch("max.duration", "at most 2 s", "2.31 s")),
        ({"cpu_s": 0.5}, Mismatch("max.cpu", "at most 0.5 s", "0.75 s")),
        ({"memory_bytes": 64 * MIB}, Mismatch("max.memory", "at most 64.0 MiB", "70.0 MiB")),
    ],
)
def test_taking_more_than_allowed_is_a_mismatch(
    store: GoldenStore, workspace: Folder, most: dict[str, object], mismatch: Mismatch
) -> None:
    verdict = judged(store, workspace, at_most(**most), step_result(usage=SAMPLED, duration_s=2.31))
    assert verdict == Verdict(Status.FAILED, (mismatch,))


def test_taking_exactly_what_is_allowed_passes(store: GoldenStore, workspace: Folder) -> None:
    most = at_most(duration_s=2.31, cpu_s=0.75, memory_bytes=70 * MIB)
    assert judged(store, workspace, most, step_result(usage=SAMPLED, duration_s=2.31)).status is Status.PASSED


@pytest.mark.parametrize(
    ("usage", "why"),
    [
        (
            Usage(0.0, 2 * MIB, "reset"),
            "over after 0.003 s, too short to sample its memory; the kernel's peak during the step, 2.0",
        ),
        (Usage(0.0, 2 * MIB, "since_start"), "the kernel's peak since the container started, 2.0 MiB, has page cache in it"),
        (Usage(0.0), "this host does not let us read the container's memory"),
    ],
)
def test_memory_that_was_not_sampled_is_an_error_that_says_why(
    store: GoldenStore, workspace: Folder, usage: Usage, why: str
) -> None:
    verdict = judged(store, workspace, at_most(memory_bytes=64 * MIB), step_result(usage=usage, duration_s=0.003))
    assert (verdict.status, verdict.mismatches) == (Status.ERROR, ())
    assert verdict.error is not None and why in verdict.error.message


def test_cpu_time_that_cannot_be_read_is_an_error(store: GoldenStore, workspace: Folder) -> None:
    verdict = judged(store, workspace, at_most(cpu_s=1.0), step_result())
    assert (verdict.status, verdict.error and verdict.error.class_) == (Status.ERROR, "CaptureError")


@pytest.mark.parametrize("end", [ExitExpect(signal="KILL"), ExitExpect(codes=(137,)), ExitExpect(nonzero=True)])
def test_a_kill_is_an_error_where_nobody_can_say_whether_it_was_for_lack_of_memory(
    store: GoldenStore, workspace: Folder, end: ExitExpect
) -> None:
    killed = replace(step_result(), exit=Exit(ExitKind.EXITED, 137, "KILL"), usage=Usage(unseen=(ExitKind.OOM,)))
    wanted = step(expect=Expect(exit=end))
    verdict = judged(store, workspace, wanted, killed)
    assert (verdict.status, verdict.mismatches) == (Status.ERROR, ())
    assert verdict.error is not None and "a limit of memory or processes cannot be seen" in verdict.error.message
    assert judged(store, workspace, wanted, replace(killed, usage=SAMPLED)).status is Status.PASSED


@pytest.mark.parametrize("limit", [ExitKind.OOM, ExitKind.PIDS_LIMIT])
def test_the_end_by_a_limit_is_an_error_where_nobody_counts(store: GoldenStore, workspace: Folder, limit: ExitKind) -> None:
    wanted = step(expect=Expect(exit=ExitExpect(ended_by=limit)))
    unseen = step_result(code=2, usage=Usage(unseen=(limit,)))
    assert judged(store, workspace, wanted, unseen).status is Status.ERROR
    assert judged(store, workspace, wanted, replace(unseen, exit=Exit(ExitKind.TIMEOUT))).status is Status.ERROR
    assert judged(store, workspace, wanted, replace(unseen, usage=SAMPLED)).status is Status.FAILED


def test_a_kill_that_was_not_expected_fails_wherever_it_came_from(store: GoldenStore, workspace: Folder) -> None:
    killed = replace(step_result(), exit=Exit(ExitKind.EXITED, 137, "KILL"), usage=Usage(unseen=(ExitKind.OOM,)))
    assert judged(store, workspace, step(), killed).status is Status.FAILED


def test_a_step_that_failed_anyway_has_what_was_not_judged_as_a_note(store: GoldenStore, workspace: Folder) -> None:
    verdict = judged(store, workspace, at_most(memory_bytes=MIB), step_result(code=1))
    assert (verdict.status, verdict.error, len(verdict.mismatches)) == (Status.FAILED, None, 1)
    assert "`max.memory` cannot be judged" in verdict.notes[0]


def test_no_golden_is_written_while_a_figure_is_in_doubt(store: GoldenStore, workspace: Folder) -> None:
    wanted = replace(at_most(memory_bytes=MIB), golden=GOLDEN)
    assert judged(store, workspace, wanted, step_result(b"x"), update=True).status is Status.FAILED
    assert store.read(KEY) is None
