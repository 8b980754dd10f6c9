"""The files of a step's golden, byte for byte, and the names and contents that are refused."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testronaut_lab.errors import CaptureError, UsageError
from testronaut_lab.golden.names import escaped
from testronaut_lab.golden.normalize import normalize
from testronaut_lab.golden.render import MAX_TEXT_BYTES, Rendered, render, sorted_changes
from testronaut_lab.model.files import ChangeKind, FileChange, FileType, path_bytes, path_text
from testronaut_lab.model.normalizing import Facts
from testronaut_lab.model.plan import GoldenSpec, Normalizer, Step
from testronaut_lab.model.result import Captured, Exit, ExitKind, Status, StepResult

NODEID = "p.lab.yaml::c::s"


def captured(data: bytes) -> Captured:
    return Captured(size_bytes=len(data), data=data)


def step_result(run: str = "jq .", stdout: bytes = b"", stderr: bytes = b"", changes: tuple[FileChange, ...] = ()) -> StepResult:
    ended = Exit(ExitKind.EXITED, 0)
    streams = {"stdout_stream": captured(stdout), "stderr_stream": captured(stderr)}
    return replace(StepResult("s", NODEID, ended, Status.PASSED, run=run, changes=changes), **streams)


def rendered(result: StepResult, spec: GoldenSpec | None = None, files: Mapping[str, bytes] | None = None) -> Rendered:
    return render(Step("s", NODEID, run=result.run, golden=spec or GoldenSpec()), result, dict(files or {}).__getitem__, Facts())


def added(path: str, data: bytes, **more: object) -> FileChange:
    sha256 = hashlib.sha256(data).hexdigest()
    change = FileChange(ChangeKind.ADDED, path, FileType.FILE, mode=0o644, size_bytes=len(data), sha256=sha256)
    return replace(change, **more)  # type: ignore[arg-type]


def test_step_that_did_nothing_is_its_command_alone() -> None:
    assert rendered(step_result()).tree == {"cmd.txt": b"$ jq .      (exit 0)\n"}


def test_further_lines_of_a_script_are_marked_as_in_a_shell() -> None:
    assert rendered(step_result("a |\n  b\n")).tree["cmd.txt"] == b"$ a |      (exit 0)\n>   b\n> \n"


@pytest.mark.parametrize(
    ("ended", "shown"),
    [
        (Exit(ExitKind.EXITED, 137, "KILL"), b"(exit 137)"),
        (Exit(ExitKind.TIMEOUT), b"(timeout)"),
        (Exit(ExitKind.OOM, 137), b"(oom)"),
    ],
)
def test_end_of_the_step_stands_behind_its_command(ended: Exit, shown: bytes) -> None:
    assert rendered(replace(step_result(), exit=ended)).tree["cmd.txt"] == b"$ jq .      " + shown + b"\n"


def test_merged_streams_stand_behind_the_command() -> None:
    assert rendered(replace(step_result(), merged=True)).tree["cmd.txt"] == b"$ jq .      (exit 0, stderr merged)\n"


def test_argv_is_shown_as_one_would_type_it() -> None:
    result = replace(step_result(), run=None, argv=("jq", ".a b", "x"))
    assert rendered(result).tree["cmd.txt"] == b"$ jq '.a b' x      (exit 0)\n"


def test_streams_are_kept_to_the_byte() -> None:
    tree = rendered(step_result(stdout=b"\xff\0\r\n", stderr=b"w")).tree
    assert (tree["stdout.txt"], tree["stderr.txt"]) == (b"\xff\0\r\n", b"w")


def test_only_the_streams_asked_for_are_kept() -> None:
    tree = rendered(step_result(stdout=b"a", stderr=b"b"), GoldenSpec(streams=("stderr",))).tree
    assert sorted(tree) == ["cmd.txt", "stderr.txt"]


def test_stream_that_normalises_to_nothing_is_not_kept() -> None:
    spec = GoldenSpec(normalize=(Normalizer(r"(?s).*", ""),))
    assert "stdout.txt" not in rendered(step_result(stdout=b"noise\n"), spec).tree


def test_command_streams_names_and_files_are_normalised() -> None:
    spec = GoldenSpec(files=("*",), normalize=(Normalizer(r"pid \d+", "pid [PID]"),))
    result = step_result("echo pid 1", b"pid 22\n", changes=(added("pid 3", b""), added("log", b"pid 4")))
    tree = rendered(result, spec, {"pid 3": b"", "log": b"pid 4"}).tree
    assert tree == {
        "cmd.txt": b"$ echo pid [PID]      (exit 0)\n",
        "stdout.txt": b"pid [PID]\n",
        "changes.txt": b"A 644 log\nA 644 pid [PID]\n",
        "files/log": b"pid [PID]",
        "files/pid [PID]": b"",
    }


def test_exit_status_is_never_normalised() -> None:
    spec = GoldenSpec(normalize=(Normalizer(r"exit \d", "exit X"),))
    assert rendered(step_result("exit 0"), spec).tree["cmd.txt"] == b"$ exit X      (exit 0)\n"


def test_how_often_each_rule_fired_is_counted_over_all_parts() -> None:
    spec = GoldenSpec(normalize=(Normalizer("here", "x"), Normalizer("nowhere", "x")))
    result = step_result("echo here", b"here", changes=(added("here", b""),))
    assert rendered(result, spec).fired == {"here": 3, "nowhere": 0}


def test_changes_are_sorted_lines_without_sizes() -> None:
    changes = (
        FileChange(ChangeKind.DELETED, "old", FileType.FILE),
        FileChange(ChangeKind.RETYPED, "cache", FileType.DIR, mode=0o755),
        FileChange(ChangeKind.MODIFIED, "data", FileType.FILE, mode=0o4755, size_bytes=1, sha256="0"),
        FileChange(ChangeKind.ADDED, "latest", FileType.LINK, mode=0o777, target="out.json"),
        FileChange(ChangeKind.ADDED, "pipe", FileType.OTHER, mode=0o600),
        FileChange(ChangeKind.ADDED, "bits", FileType.FILE, mode=0),
    )
    assert rendered(step_result(changes=changes)).tree["changes.txt"].decode().splitlines() == [
        "A 000 bits",
        "T 755 cache/",
        "M 4755 data",
        "A latest -> out.json",
        "D old",
        "A 600 pipe (not a file)",
    ]


def test_hostile_names_stay_on_one_line_and_can_be_read_back() -> None:
    name = path_text("a\nA 644 fake\x1b\u202e\u2028".encode())
    (line,) = sorted_changes((added(name, b""),))
    assert line == r"A 644 a\x0aA 644 fake\x1b\xe2\x80\xae\xe2\x80\xa8"
    assert path_bytes(line.removeprefix("A 644 ")) == path_bytes(name)


def test_arrow_in_the_name_of_a_link_is_not_taken_for_ours() -> None:
    links = [
        FileChange(ChangeKind.ADDED, path, FileType.LINK, target=target) for path, target in (("a", "b -> c"), ("a -> b", "c"))
    ]
    assert sorted_changes(links) == ["A a -> b -> c", r"A a \x2d> b -> c"]


def test_text_file_is_kept_when_it_was_asked_for() -> None:
    result = step_result(changes=(added("out/a.json", b"{}\r\n"), added("b.txt", b"b")))
    tree = rendered(result, GoldenSpec(files=("**/*.json",)), {"out/a.json": b"{}\r\n"}).tree
    assert {name: data for name, data in tree.items() if name.startswith("files/")} == {"files/out/a.json": b"{}\r\n"}


def test_binary_file_is_kept_as_its_fingerprint() -> None:
    data = b"\xff\xfe"
    tree = rendered(step_result(changes=(added("b.bin", data),)), GoldenSpec(files=("*",)), {"b.bin": data}).tree
    assert tree["files/b.bin.sha256"] == f"{hashlib.sha256(data).hexdigest()}  2  binary\n".encode()


def test_large_file_is_kept_as_its_fingerprint_without_reading_it() -> None:
    data = b"x" * (MAX_TEXT_BYTES + 1)
    tree = rendered(step_result(changes=(added("big", data),)), GoldenSpec(files=("*",))).tree
    assert tree["files/big.sha256"] == f"{hashlib.sha256(data).hexdigest()}  65537  large\n".encode()


def test_text_of_exactly_64_kib_is_kept() -> None:
    data = b"x" * MAX_TEXT_BYTES
    tree = rendered(step_result(changes=(added("big", data),)), GoldenSpec(files=("*",)), {"big": data}).tree
    assert tree["files/big"] == data


def test_deleted_files_directories_and_links_have_no_content() -> None:
    changes = (
        FileChange(ChangeKind.DELETED, "gone", FileType.FILE),
        FileChange(ChangeKind.ADDED, "dir", FileType.DIR, mode=0o755),
        FileChange(ChangeKind.ADDED, "link", FileType.LINK, target="gone"),
    )
    assert sorted(rendered(step_result(changes=changes), GoldenSpec(files=("**",))).tree) == ["changes.txt", "cmd.txt"]


def test_file_that_changed_again_after_the_step_is_no_golden() -> None:
    result = step_result(changes=(added("a", b"then"),))
    with pytest.raises(CaptureError, match="keeping 'a' in a golden: it changed again after the step"):
        rendered(result, GoldenSpec(files=("a",)), {"a": b"now"})


def test_file_whose_content_was_not_read_is_no_golden() -> None:
    change = added("big", b"", size_bytes=10**9, sha256=None, note="too large")
    with pytest.raises(CaptureError, match=r"its content was not read \(too large\)"):
        rendered(step_result(changes=(change,)), GoldenSpec(files=("big",)))


def test_truncated_stream_is_no_golden() -> None:
    cut = Captured(size_bytes=1, data=b"a", truncated=True, dropped_bytes=9)
    with pytest.raises(CaptureError, match="9 bytes of it were dropped"):
        rendered(replace(step_result(), stdout_stream=cut))


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "a//b", "./a", "x" * 256])
def test_path_that_leads_elsewhere_is_refused_before_it_is_read(path: str) -> None:
    def read(path: str) -> bytes:
        raise AssertionError(f"{path} was read")

    step = Step("s", NODEID, run="x", golden=GoldenSpec(files=(path,)))
    with pytest.raises(CaptureError, match="in a golden"):
        render(step, step_result(changes=(added(path, b""),)), read, Facts())


@pytest.mark.parametrize("names", [("README", "readme"), ("a.tar.sha256", "A.TAR.SHA256")])
def test_names_that_clash_under_case_folding_are_refused(names: tuple[str, str]) -> None:
    changes = tuple(added(name, b"") for name in names)
    with pytest.raises(CaptureError, match="some file systems take them for one name"):
        rendered(step_result(changes=changes), GoldenSpec(files=("**",)), dict.fromkeys(names, b""))


def test_file_with_the_name_of_a_fingerprint_is_refused() -> None:
    changes = (added("a", b"\xff"), added("a.sha256", b"x"))
    with pytest.raises(CaptureError, match=r"another file is kept as 'files/a\.sha256' already"):
        rendered(step_result(changes=changes), GoldenSpec(files=("**",)), {"a": b"\xff", "a.sha256": b"x"})


def test_rules_apply_one_after_the_other_and_are_counted() -> None:
    normalized = normalize(b"a1 a2", (Normalizer(r"a(\d)", r"b\1"), Normalizer("b1", "c"), Normalizer("z", "")))
    assert normalized.data == b"c b2"
    assert normalized.fired == {r"a(\d)": 2, "b1": 1, "z": 0}


def test_bytes_that_are_no_text_pass_through_normalising() -> None:
    assert normalize(b"\xff1\0\r\n\x80", (Normalizer(r"\d", "N"),)).data == b"\xffN\0\r\n\x80"


@pytest.mark.parametrize("replace_with", [r"\2", r"\q", r"\g<x>"])
def test_replacement_that_cannot_be_made_is_refused(replace_with: str) -> None:
    with pytest.raises(UsageError, match="replacing 'a' by"):
        normalize(b"a", (Normalizer("a", replace_with),))


@given(st.binary())
def test_without_rules_bytes_stay_as_they_are(data: bytes) -> None:
    assert normalize(data, ()).data == data


@given(st.binary(max_size=40).filter(lambda raw: b"/" not in raw))
def test_any_file_name_escapes_to_one_line_and_back(raw: bytes) -> None:
    name = escaped(path_text(raw))
    assert len(name.splitlines()) <= 1
    assert path_bytes(name) == raw
