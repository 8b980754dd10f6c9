"""Every matcher of `expect`: when it holds, and the exact words when it does not."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from testronaut_lab.errors import CaptureError
from testronaut_lab.judge.expect import check
from testronaut_lab.model.expect import LIMITS, ChangesExpect, ExitExpect, Expect, FileExpect, TextExpect
from testronaut_lab.model.files import ChangeKind, FileChange, FileState, FileType
from testronaut_lab.model.globs import named_by
from testronaut_lab.model.ignoring import matching_nothing, without_ignored
from testronaut_lab.model.number import ExactNumber
from testronaut_lab.model.result import Captured, Exit, ExitKind, Mismatch, OutsideChange, Status, StepResult, Usage


@dataclass
class Files:
    """A workspace in memory; a path with None is a directory."""

    content: Mapping[str, bytes | None] = field(default_factory=dict)
    links: frozenset[str] = frozenset()

    def find(self, pattern: str) -> Mapping[str, FileState]:
        there = {
            path: FileState(FileType.DIR if data is None else FileType.FILE, 0o644, None, "lab")
            for path, data in self.content.items()
        }
        there |= {path: FileState(FileType.LINK, 0o777, "../x", "root") for path in self.links}
        return {path: there[path] for path in named_by(pattern, there)}

    def read(self, path: str) -> bytes:
        data = self.content[path]
        assert data is not None
        return data


def captured(data: bytes) -> Captured:
    return Captured(size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), data=data)


def step_result(
    stdout: bytes = b"", stderr: bytes = b"", exit_: Exit | None = None, changes: tuple[FileChange, ...] = ()
) -> StepResult:
    return StepResult(
        "s",
        "p.lab.yaml::c::s",
        exit_ or Exit(ExitKind.EXITED, 0),
        Status.PASSED,
        run="cmd",
        stdout_stream=captured(stdout),
        stderr_stream=captured(stderr),
        changes=changes,
        usage=Usage(0.0, 2**20, "sampled"),
        duration_s=5.0,
    )


def check_exit(expect: ExitExpect, exit_: Exit) -> tuple[Mismatch, ...]:
    return check(Expect(exit=expect), step_result(exit_=exit_), Files())


def check_stdout(expect: TextExpect, stdout: bytes) -> tuple[Mismatch, ...]:
    return check(Expect(stdout=expect), step_result(stdout), Files())


def only(mismatches: tuple[Mismatch, ...]) -> Mismatch:
    assert len(mismatches) == 1, mismatches
    return mismatches[0]


KILLED = Exit(ExitKind.EXITED, 137, "KILL")


@pytest.mark.parametrize(
    ("expect", "exit_"),
    [
        (ExitExpect(), Exit(ExitKind.EXITED, 0)),
        (ExitExpect(codes=(0, 5)), Exit(ExitKind.EXITED, 5)),
        (ExitExpect(nonzero=True), Exit(ExitKind.EXITED, 2)),
        *((ExitExpect(ended_by=kind), Exit(kind, 137)) for kind in LIMITS),
        (ExitExpect(signal="KILL"), KILLED),
        (ExitExpect(signal="SIGKILL"), KILLED),
        (ExitExpect(codes=(137,)), KILLED),
    ],
)
def test_exit_that_was_expected_holds(expect: ExitExpect, exit_: Exit) -> None:
    assert check_exit(expect, exit_) == ()


@pytest.mark.parametrize(
    ("expect", "exit_", "expected", "actual"),
    [
        (ExitExpect(), Exit(ExitKind.EXITED, 5), "exit 0", "exit 5"),
        (ExitExpect(codes=(1, 2)), Exit(ExitKind.EXITED, 0), "exit 1 or 2", "exit 0"),
        (ExitExpect(), KILLED, "exit 0", "exit 137 (signal KILL)"),
        (ExitExpect(nonzero=True), Exit(ExitKind.EXITED, 0), "exit nonzero", "exit 0"),
        (ExitExpect(nonzero=True), Exit(ExitKind.TIMEOUT, 124), "exit nonzero", "timed out after 5 s"),
        (ExitExpect(), Exit(ExitKind.TIMEOUT), "exit 0", "timed out after 5 s"),
        (ExitExpect(codes=(137,)), Exit(ExitKind.OOM, 137, "KILL"), "exit 137", "killed: out of memory after 5 s"),
        (ExitExpect(ended_by=ExitKind.TIMEOUT), Exit(ExitKind.EXITED, 0), "exit timeout", "exit 0"),
        (ExitExpect(ended_by=ExitKind.OOM), KILLED, "exit oom", "exit 137 (signal KILL)"),
        (ExitExpect(signal="TERM"), KILLED, "signal TERM", "exit 137 (signal KILL)"),
        (ExitExpect(), Exit(ExitKind.OUTPUT_LIMIT), "exit 0", "killed: wrote more output than the limit after 5 s"),
        (ExitExpect(), Exit(ExitKind.CANCELLED), "exit 0", "cancelled after 5 s"),
    ],
)
def test_exit_that_was_not_expected_is_named(expect: ExitExpect, exit_: Exit, expected: str, actual: str) -> None:
    assert only(check_exit(expect, exit_)) == Mismatch("exit", expected, actual)


@pytest.mark.parametrize(
    ("expect", "stdout"),
    [
        (TextExpect(), b"anything"),
        (TextExpect(equals="é\n"), "é\n".encode()),
        (TextExpect(equals=""), b""),
        (TextExpect(contains=("a", "b")), b"b a"),
        (TextExpect(not_contains=("x",)), b"abc"),
        (TextExpect(matches=r"^v\d+$"), b"v12"),
        (TextExpect(matches=r"\\xff"), b"\xff"),
        (TextExpect(json={"a": [1, None]}, has_json=True), b' {"a": [1.0, null]}\n'),
        (TextExpect(json=None, has_json=True), b"null"),
        (TextExpect(json=[1.5, 1000, 0, 1.1], has_json=True), b"[1.50, 1e3, -0, 11e-1]"),
        (TextExpect(json=ExactNumber("1E400"), has_json=True), b"10e399"),
        (TextExpect(json_path={".a[0].b": 1, ".": {"a": [{"b": 1}]}}), b'{"a": [{"b": 1}]}'),
        (TextExpect(lines=0), b""),
        (TextExpect(lines=2), b"a\nb\n"),
        (TextExpect(lines=2), b"a\nb"),
        (TextExpect(empty=True), b""),
        (TextExpect(empty=False), b"\0"),
    ],
)
def test_text_that_was_expected_holds(expect: TextExpect, stdout: bytes) -> None:
    assert check_stdout(expect, stdout) == ()


@pytest.mark.parametrize(
    ("expect", "stdout", "mismatch"),
    [
        (TextExpect(equals="1\n"), b"2\n", Mismatch("stdout.equals", "1\n", "2\n")),
        (TextExpect(contains=("a", "z")), b"abc", Mismatch("stdout.contains", "z", "abc")),
        (TextExpect(not_contains=("b",)), b"abc", Mismatch("stdout.not_contains", "not b", "abc")),
        (TextExpect(matches=r"^b"), b"a\nb", Mismatch("stdout.matches", "a match of ^b", "a\nb")),
        (TextExpect(lines=1), b"a\nb", Mismatch("stdout.lines", "1 line", "2 lines: a\nb")),
        (TextExpect(empty=True), b"abc", Mismatch("stdout.empty", "nothing", "3 bytes: abc")),
        (TextExpect(empty=False), b"", Mismatch("stdout.empty", "at least one byte", "nothing")),
    ],
)
def test_text_that_was_not_expected_is_told(expect: TextExpect, stdout: bytes, mismatch: Mismatch) -> None:
    assert only(check_stdout(expect, stdout)) == mismatch


def test_equals_is_exact_to_the_byte_and_shows_what_the_eye_misses() -> None:
    mismatch = only(check_stdout(TextExpect(equals="a\nb\n"), b"a\r\nb"))
    assert mismatch.diff == "@@ -1,2 +1,2 @@\n-a\n-b\n+a␍\n+b\n\\ No newline at end of file\n"


def test_equals_shows_a_window_around_the_difference_in_large_output() -> None:
    data = b"x" * 1_000_000
    mismatch = only(check_stdout(TextExpect(equals=(data + b"1").decode()), data + b"2"))
    assert mismatch.actual.endswith("xxx2")
    assert len(mismatch.actual) < 2100


@pytest.mark.parametrize(
    ("expected", "stdout", "left", "right"),
    [
        ({"a": {"b": 1}}, b'{"a": {"b": 2}}', ".a.b: 1", ".a.b: 2"),
        ({"a": 1}, b"{}", ".a: 1", ".a: no such key"),
        ({}, b'{"odd key": 1}', '.["odd key"]: no such key', '.["odd key"]: 1'),
        ([1, [2]], b"[1, [3]]", ".[1][0]: 2", ".[1][0]: 3"),
        ({"a": [1]}, b'{"a": [1, 2]}', ".a: 1 elements", ".a: 2 elements"),
        (1, b"true", ".: 1", ".: true"),
        (False, b"0", ".: false", ".: 0"),
        ("1", b"1", '.: "1"', ".: 1"),
        ({"a": {}}, b'{"a": []}', ".a: {}", ".a: []"),
        ("a", b'"\\ud800"', '.: "a"', '.: "\\ud800"'),
        (0, b"1e-400", ".: 0", ".: 1e-400"),
        ([1.5], b"[1.10]", ".[0]: 1.5", ".[0]: 1.10"),
        (
            ExactNumber("100000000000000000001.5"),
            b"100000000000000000002.5",
            ".: 100000000000000000001.5",
            ".: 100000000000000000002.5",
        ),
        (ExactNumber("1E400"), b"1E401", ".: 1E400", ".: 1E401"),
    ],
)
def test_json_tells_where_values_differ_first(expected: object, stdout: bytes, left: str, right: str) -> None:
    expect = replace(TextExpect(has_json=True), json=expected)
    assert only(check_stdout(expect, stdout)) == Mismatch("stdout.json", left, right)


@pytest.mark.parametrize(
    ("stdout", "reason"),
    [
        (b"nope", "Expecting value"),
        (b"", "Expecting value"),
        (b"NaN", "NaN is not JSON"),
        (b"1 2", "Extra data"),
        (b"\xff", "not UTF-8 at byte 0"),
        (b"[" * 200_000, "nested too deep"),
        (b'{"a": 1, "b": 2, "b": 2}', 'an object has the key "b" twice'),
        (b'[{"a": {"": 1, "": 2}}]', 'an object has the key "" twice'),
        (b"1e" + b"9" * 2000, "a number with an exponent of 2000 digits"),
    ],
)
def test_what_is_no_json_is_told_with_its_reason(stdout: bytes, reason: str) -> None:
    for expect in (TextExpect(json=1, has_json=True), TextExpect(json_path={".": 1})):
        mismatch = only(check_stdout(expect, stdout))
        assert mismatch.expected == "JSON"
        assert mismatch.actual.startswith(reason)


def test_json_path_tells_each_path_that_differs() -> None:
    wrong, missing = check_stdout(TextExpect(json_path={".a": 1, ".b": 2, ".c": 3}), b'{"a": 1, "b": {"x": 1}}')
    assert wrong == Mismatch("stdout.json_path", ".b: 2", '.b: {"x":1}')
    assert missing == Mismatch("stdout.json_path", ".c: 3", ".c: nothing there")


def test_place_that_differs_is_written_as_json_path_reads_it() -> None:
    stdout = b'[{"a": {"odd key": [1]}}]'
    mismatch = only(check_stdout(TextExpect(json_path={".": [{"a": {"odd key": [2]}}]}), stdout))
    assert mismatch == Mismatch("stdout.json_path", '.[0].a.["odd key"][0]: 2', '.[0].a.["odd key"][0]: 1')
    assert check_stdout(TextExpect(json_path={'.[0].a.["odd key"][0]': 1}), stdout) == ()


def test_file_compares_with_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "want").write_bytes(b"\0\r\n")
    assert check_stdout(TextExpect(file=tmp_path / "want"), b"\0\r\n") == ()
    mismatch = only(check_stdout(TextExpect(file=tmp_path / "want"), b"\0\n"))
    assert mismatch.aspect == "stdout.file"
    assert mismatch.diff is not None
    assert "byte 1 is the first to differ: 0d expected, 0a found" in mismatch.diff


def test_file_that_is_not_there_is_a_mismatch(tmp_path: Path) -> None:
    mismatch = only(check_stdout(TextExpect(file=tmp_path / "gone"), b""))
    assert mismatch.actual == "that file could not be read: No such file or directory"


def test_every_matcher_that_fails_is_told_at_once() -> None:
    mismatches = check_stdout(TextExpect(equals="a", contains=("b",), lines=3, empty=True), b"x")
    assert [each.aspect for each in mismatches] == ["stdout.equals", "stdout.contains", "stdout.lines", "stdout.empty"]


def test_stderr_is_judged_by_itself() -> None:
    expect = Expect(stdout=TextExpect(empty=True), stderr=TextExpect(equals="warn"))
    assert only(check(expect, step_result(b"", b"oops"), Files())).aspect == "stderr.equals"


@pytest.mark.parametrize("expect", [TextExpect(contains=("a",)), TextExpect(not_contains=("z",)), TextExpect(empty=False)])
def test_truncated_stream_satisfies_no_matcher(expect: TextExpect) -> None:
    cut = replace(captured(b"abc"), truncated=True, dropped_bytes=7)
    mismatch = only(check(Expect(stdout=expect), replace(step_result(), stdout_stream=cut), Files()))
    assert mismatch == Mismatch("stdout", "the whole stream", "truncated: 3 bytes were kept, 7 dropped")


def test_stream_whose_file_is_gone_cannot_be_judged(tmp_path: Path) -> None:
    gone = Captured(size_bytes=1, data=None, path=str(tmp_path / "gone"))
    with pytest.raises(CaptureError, match="reading the captured stdout"):
        check(Expect(stdout=TextExpect(empty=True)), replace(step_result(), stdout_stream=gone), Files())


def check_files(files: dict[str, FileExpect], workspace: Files) -> tuple[Mismatch, ...]:
    return check(Expect(files=files), step_result(), workspace)


def test_files_that_were_expected_hold() -> None:
    workspace = Files({"out.json": b"{}", "dir": None, "a[1]": b"x"})
    wanted = {
        "out.json": FileExpect(text=TextExpect(json={}, has_json=True)),
        "*.json": FileExpect(text=TextExpect(lines=1)),
        "dir": FileExpect(),
        "a[1]": FileExpect(text=TextExpect(equals="x")),
        "tmp/**": FileExpect(absent=True),
        "gone.txt": FileExpect(absent=True),
    }
    assert check_files(wanted, workspace) == ()


@pytest.mark.parametrize("pattern", ["gone.txt", "*.log"])
def test_file_that_is_missing_is_told(pattern: str) -> None:
    mismatch = only(check_files({pattern: FileExpect()}, Files({"a.txt": b""})))
    assert mismatch == Mismatch(f"files.{pattern}", "a path of that name", "no such path")


def test_file_that_should_be_absent_is_told() -> None:
    mismatch = only(check_files({"tmp/*": FileExpect(absent=True)}, Files({"tmp/b": b"", "tmp/a": None})))
    assert mismatch == Mismatch("files.tmp/*", "absent", "tmp/a (dir), tmp/b (file)")


def test_content_of_a_file_is_judged_under_its_name() -> None:
    mismatch = only(check_files({"*.txt": FileExpect(text=TextExpect(equals="a"))}, Files({"a.txt": b"a", "b.txt": b"b"})))
    assert mismatch == Mismatch("files.b.txt.equals", "a", "b", path="b.txt")


def test_what_a_path_is_beside_its_content_holds_or_is_told() -> None:
    workspace = Files({"a.txt": b"x", "dir": None}, frozenset({"l"}))
    right = {
        "a.txt": FileExpect(text=TextExpect(equals="x"), type=FileType.FILE, mode=0o644, owner="lab"),
        "dir": FileExpect(type=FileType.DIR),
        "l": FileExpect(type=FileType.LINK, target="../x", owner="root"),
    }
    assert check_files(right, workspace) == ()
    wrong = {"*.txt": FileExpect(type=FileType.DIR, mode=0o755, target="y", owner="root"), "l": FileExpect(target="x")}
    assert [(each.aspect, each.expected, each.actual) for each in check_files(wrong, workspace)] == [
        ("files.a.txt.type", "dir", "file"),
        ("files.a.txt.mode", "0755", "0644"),
        ("files.a.txt.target", "y", "a file"),
        ("files.a.txt.owner", "root", "lab"),
        ("files.l.target", "x", "../x"),
    ]


@pytest.mark.parametrize(
    ("ignore", "left"),
    [
        (("out/",), ["data"]),
        (("/out",), ["data"]),
        (("*.json",), ["data", "out"]),
        (("*.json", "!b.json"), ["data", "out", "out/b.json"]),
        (("**/out/**",), ["data"]),
        (("data", "nothing"), ["out", "out/a.json", "out/b.json"]),
        ((), ["data", "out", "out/a.json", "out/b.json"]),
    ],
)
def test_what_is_ignored_follows_gitignores_rules(ignore: tuple[str, ...], left: list[str]) -> None:
    made = FileChange(ChangeKind.ADDED, "out", FileType.DIR, mode=0o755)
    paths = ("data", "out/a.json", "out/b.json")
    result = step_result(changes=(made, *(change(ChangeKind.ADDED, path) for path in paths)))
    assert sorted(each.path for each in without_ignored(result, ignore).changes) == left
    assert matching_nothing(ignore, [result]) == [each for each in ignore if each == "nothing"]


def test_changes_outside_the_workspace_are_exact_where_they_are_asked_about() -> None:
    outside = (OutsideChange("added", "/home/lab/.tool"), OutsideChange("modified", "/tmp/x"))
    result = replace(step_result(), outside=outside)
    none = ChangesExpect(outside=ChangesExpect())
    assert check(Expect(changes=ChangesExpect()), result, Files()) == ()
    assert [each.aspect for each in check(Expect(changes=none), result, Files())] == [
        "changes.outside.added", "changes.outside.modified"
    ]  # fmt: skip
    exactly = ChangesExpect(outside=ChangesExpect(("/home/lab/**",), ("/tmp/x",)))
    assert check(Expect(changes=exactly), result, Files()) == ()
    assert check(Expect(changes=none), without_ignored(result, ("/tmp/*", "**/.tool")), Files()) == ()


def test_link_is_not_followed_to_judge_content() -> None:
    mismatch = only(check_files({"l": FileExpect(text=TextExpect(empty=True))}, Files(links=frozenset({"l"}))))
    assert mismatch == Mismatch("files.l", "a regular file", "l is a link, which is not followed")


def change(kind: ChangeKind, path: str) -> FileChange:
    return FileChange(kind, path, FileType.FILE, mode=0o644, size_bytes=0)


CHANGES = (
    change(ChangeKind.ADDED, "out/a.json"),
    change(ChangeKind.ADDED, "out/b.json"),
    change(ChangeKind.MODIFIED, "data"),
    change(ChangeKind.DELETED, "old"),
    change(ChangeKind.RETYPED, "cache"),
)


def check_changes(expect: ChangesExpect, changes: tuple[FileChange, ...] = CHANGES) -> tuple[Mismatch, ...]:
    return check(Expect(changes=expect), step_result(changes=changes), Files())


def test_changes_that_were_expected_hold() -> None:
    assert check_changes(ChangesExpect(("out/*.json",), ("data",), ("old",), ("cache",))) == ()
    assert check_changes(ChangesExpect(), ()) == ()


def test_change_that_no_pattern_names_is_told() -> None:
    mismatch = only(check_changes(ChangesExpect(("out/a.json",), ("data",), ("old",), ("cache",))))
    assert mismatch == Mismatch("changes.added", "out/a.json", "out/a.json, out/b.json", diff="+out/b.json\n")


def test_a_newline_in_a_name_makes_no_second_line() -> None:
    made = change(ChangeKind.ADDED, "a\n-b")
    mismatch = only(check_changes(ChangesExpect(), (made,)))
    assert mismatch == Mismatch("changes.added", "none", "a\\x0a-b", diff="+a\\x0a-b\n")


def test_pattern_that_names_no_change_is_told() -> None:
    mismatch = only(check_changes(ChangesExpect(("out/*",), ("data", "more"), ("old",), ("cache",))))
    assert mismatch == Mismatch("changes.modified", "data, more", "data", diff="-more\n")


def test_changes_none_refuses_each_kind() -> None:
    assert [each.aspect for each in check_changes(ChangesExpect())] == [
        "changes.added",
        "changes.modified",
        "changes.deleted",
        "changes.retyped",
    ]


def test_many_changes_are_cut_and_counted() -> None:
    many = tuple(change(ChangeKind.ADDED, f"f{number:03}") for number in range(100))
    mismatch = only(check_changes(ChangesExpect(), many))
    assert mismatch.actual.endswith("f019 and 80 more")
    assert mismatch.diff is not None
    assert mismatch.diff.endswith("… 80 more\n")


def test_ignored_changes_are_not_judged() -> None:
    result = without_ignored(step_result(changes=CHANGES), ("out/**", "cache"))
    assert [each.path for each in result.changes] == ["data", "old"]
