"""Evidence bundles: a real one, verified with the standard library alone, and the failures of an export."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from support.command_line import Project, Said

from testronaut_lab.errors import CaptureError, ExitStatus, UsageError
from testronaut_lab.eventlog import EventLog
from testronaut_lab.evidence.bundle import export
from testronaut_lab.evidence.folder import new_folder
from testronaut_lab.model.events import RunStarted, StepFinished
from testronaut_lab.model.files import ChangeKind, FileChange, FileType
from testronaut_lab.model.plan_json import plan_json
from testronaut_lab.model.result import Captured, Exit, ExitKind, Status, StepResult
from testronaut_lab.planfile import parse_plan
from testronaut_lab.report.files.schema import result_schema
from testronaut_lab.store.blobs import BlobStore
from testronaut_lab.store.database import Store

PLAN = r"""
version: 1
name: evidence
image: debian:bookworm-slim
files: {"in.txt": "x"}
normalize: [{matches: 'took \d+', replace: 'took [N]'}]
cases:
  - id: main
    steps:
      - id: small
        run: echo took 12; echo oops >&2; mkdir out; echo hi >out/a.txt; ln -s /etc/passwd out/link; mkfifo out/fifo
      - {id: large, run: "head -c 100000 /dev/zero | tr '\\0' x; cp out/a.txt out/copy.txt"}
      - id: hostile
        run: |
          touch -- "$(printf 'new\nline')" "$(printf 'esc\033[2J')" -rf "$(printf '\377')"
          touch '..\..\x' '[bold]' "$(printf '\342\200\256')"
          echo content | tee CON 'a b' >/dev/null
      - {id: golden, golden: true, continue: true, run: echo now}
      - {id: again, retry: {times: 1, delay: 1ms}, run: "echo try; exit 1"}
"""
# A verifier as a third party would write it, without this package.
VERIFIER = """
import hashlib, json, os, sys
root = sys.argv[1]
manifest = json.load(open(os.path.join(root, "manifest.json"), "rb"))
found = {os.path.relpath(os.path.join(base, name), root) for base, _, names in os.walk(root) for name in names}
assert found == {file["path"] for file in manifest["files"]} | {"manifest.json"}, found
for file in manifest["files"]:
    path = os.path.join(root, file["path"])
    assert not os.path.islink(path)
    data = open(path, "rb").read()
    assert len(data) == file["size"] and hashlib.sha256(data).hexdigest() == file["sha256"], path
result = json.load(open(os.path.join(root, "result.json"), "rb"))
streams = {s["nodeid"]: s for p in result["plans"] for c in p["cases"] for s in c["steps"]}
last = {s["nodeid"]: s for s in manifest["steps"]}
for nodeid, step in last.items():
    for name in ("stdout", "stderr"):
        raw = open(os.path.join(root, step[name]["raw"]), "rb").read()
        assert hashlib.sha256(raw).hexdigest() == streams[nodeid][name]["sha256"], nodeid
    for change in step["changes"]:
        assert change["file"] is None or os.path.basename(change["file"]) == change["sha256"]
print(len(last))
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Said, Path]:
    project = Project(tmp_path_factory.mktemp("export"))
    project.write(PLAN.replace("run: echo now", "run: echo then"))
    project("run", "-u")
    project.write(PLAN)
    ran = project("run")
    said = project("export", "last", "-o", "evidence")
    assert (ran.status, said.status) == (ExitStatus.FAILED, ExitStatus.OK), (ran.out, said.err)
    return project, said, project.root / "evidence"


def manifest_of(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_bytes())


def verified(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-I", "-S", "-c", VERIFIER, str(folder)], capture_output=True, text=True, check=False)


pytestmark = pytest.mark.engine


def test_somebody_without_this_package_can_verify_it(bundle: tuple[Project, Said, Path]) -> None:
    said = verified(bundle[2])
    assert (said.stdout, said.stderr) == ("5\n", "")
    assert hashlib.sha256((bundle[2] / "manifest.json").read_bytes()).hexdigest() in bundle[1].out


def test_a_changed_byte_and_a_further_file_are_found_out(bundle: tuple[Project, Said, Path], tmp_path: Path) -> None:
    for number, forge in enumerate(
        (lambda path: path.write_text("forged"), Path.unlink, lambda path: (path.parent / "x").touch())
    ):
        copy = tmp_path / str(number)
        shutil.copytree(bundle[2], copy)
        forge(copy / "steps/0/main/small/stdout.raw")
        assert verified(copy).returncode != 0


def test_the_manifest_holds_to_the_schema(bundle: tuple[Project, Said, Path]) -> None:
    manifest = manifest_of(bundle[2])
    schema = result_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(manifest, {"$ref": "#/$defs/manifest", "$defs": schema["$defs"]})
    jsonschema.validate(json.loads((bundle[2] / "result.json").read_bytes()), schema)
    del manifest["files"][0]["sha256"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest, {"$ref": "#/$defs/manifest", "$defs": schema["$defs"]})


def test_result_and_events_are_those_of_show(bundle: tuple[Project, Said, Path]) -> None:
    project, _said, folder = bundle
    assert (folder / "result.json").read_text() == project.here("show", "--json").out
    assert (folder / "events.jsonl").read_text() == project.here("show", "--events").out


def test_the_plan_is_there_as_written_and_as_resolved(bundle: tuple[Project, Said, Path]) -> None:
    folder = bundle[2]
    (plan,) = manifest_of(folder)["plans"]
    assert (folder / plan["written"]).read_text() == PLAN
    resolved = (folder / plan["resolved"]).read_bytes()
    assert plan["digest"] == hashlib.sha256(resolved).hexdigest()
    tree = json.loads(resolved)
    assert (tree["file"], tree["limits"]["timeout_s"], tree["files"]["in.txt"]["content"]) == (
        "a.lab.yaml",
        60.0,
        {"base64": "eA=="},
    )


def test_it_says_where_it_was_made(bundle: tuple[Project, Said, Path]) -> None:
    manifest = manifest_of(bundle[2])
    (plan,) = manifest["plans"]
    assert {"name", "version"} == set(manifest["lab"])
    assert manifest["engine"]["driver"] in ("fast", "plain")
    assert plan["image"]["id"].startswith("sha256:") and plan["image"]["source"]


def test_streams_are_there_raw_and_normalised(bundle: tuple[Project, Said, Path]) -> None:
    folder = bundle[2] / "steps/0/main"
    assert (folder / "small/stdout.raw").read_bytes() == b"took 12\n"
    assert (folder / "small/stdout.normalized.txt").read_bytes() == b"took [N]\n"
    assert (folder / "small/stderr.raw").read_bytes() == b"oops\n"
    assert (folder / "large/stdout.raw").read_bytes() == b"x" * 100_000


def test_each_attempt_and_the_difference_to_a_golden_are_there(bundle: tuple[Project, Said, Path]) -> None:
    folder = bundle[2]
    assert (folder / "steps/0/main/again/attempt-1/stdout.raw").read_bytes() == b"try\n"
    golden = next(step for step in manifest_of(folder)["steps"] if step["nodeid"].endswith("::golden"))
    assert golden["status"] == "failed" and any("+now" in (folder / diff).read_text() for diff in golden["diffs"])


def test_changed_files_are_kept_once_under_their_hash_whatever_their_names(bundle: tuple[Project, Said, Path]) -> None:
    folder = bundle[2]
    steps = {step["nodeid"].rpartition("::")[2]: step["changes"] for step in manifest_of(folder)["steps"]}
    files = {change["path"]: change["file"] for changes in steps.values() for change in changes}
    assert (folder / files["out/a.txt"]).read_bytes() == b"hi\n"
    assert files["out/a.txt"] == files["out/copy.txt"]
    assert (folder / files["CON"]).read_bytes() == b"content\n"
    assert (files["out"], files["out/link"], files["out/fifo"]) == (None, None, None)
    assert {"new\nline", "esc\x1b[2J", "-rf", r"\xff", r"..\\..\\x", "[bold]", "\u202e"} <= set(files)
    assert all(path.name.isascii() and path.name.isprintable() for path in folder.rglob("*"))


def test_two_exports_are_the_same_bytes_and_an_empty_folder_will_do(bundle: tuple[Project, Said, Path], tmp_path: Path) -> None:
    assert bundle[0].here("export", "last", "-o", str(tmp_path)).status == 0
    first, second = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (bundle[2], tmp_path)
    )
    assert first == second


def test_what_is_there_is_never_written_to(bundle: tuple[Project, Said, Path], tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    said = [bundle[0].here("export", "last", "-o", str(tmp_path / name)) for name in ("full", "link", "file")]
    assert [each.status for each in said] == [ExitStatus.USAGE] * 3
    assert ["not empty" in said[0].err, "symbolic link" in said[1].err, "not a folder" in said[2].err] == [True] * 3
    assert all("hint: -o" in each.err for each in said)
    assert sorted(tmp_path.rglob("*")) == before


# Without a run of its own


def stored(tmp_path: Path, *, finished: bool = True, **fields: object) -> tuple[Store, BlobStore]:
    store, blobs = Store.open(tmp_path / ".testronaut" / "results.db"), BlobStore(tmp_path / ".testronaut" / "blobs")
    log = EventLog()
    writer = store.writer("r", log, blobs)
    log.emit(RunStarted("r", "2026-11-22T18:45:12Z"))
    result = StepResult("a", "p::c::a", Exit(ExitKind.EXITED, 0), Status.PASSED, run="x", **fields)  # type: ignore[arg-type]
    writer.wait(log.emit(StepFinished(0, "p::c", result)).seq)
    if finished:
        writer.close()
    return store, blobs


CHANGE = FileChange(ChangeKind.ADDED, "x", FileType.FILE, 0o644, 4, hashlib.sha256(b"data").hexdigest())


def test_content_that_is_gone_or_damaged_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    store, blobs = stored(tmp_path, changes=(CHANGE,))
    with pytest.raises(CaptureError, match="copying blob"):
        export(store, blobs, "r", tmp_path / "out")
    sha = blobs.add_bytes(b"data")
    blobs.path(sha).chmod(0o600)
    blobs.path(sha).write_bytes(b"dada")
    with pytest.raises(CaptureError, match="damaged"):
        export(store, blobs, "r", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == [".testronaut"]


def test_a_stream_with_another_hash_is_refused(tmp_path: Path) -> None:
    store, blobs = stored(tmp_path, stdout_stream=Captured(1, "0" * 64, b"x"))
    with pytest.raises(CaptureError, match="do not have the SHA-256"):
        export(store, blobs, "r", tmp_path / "out")


def test_a_run_without_an_end_can_be_exported_and_one_that_runs_cannot(tmp_path: Path) -> None:
    store, blobs = stored(tmp_path)
    export(store, blobs, "r", tmp_path / "out")
    assert manifest_of(tmp_path / "out")["finished"] is None
    (tmp_path / "b").mkdir()
    store, blobs = stored(tmp_path / "b", finished=False)
    with pytest.raises(UsageError, match="still running"):
        export(store, blobs, "r", tmp_path / "b" / "out")


@pytest.mark.parametrize("name", ["../x", "/x", "a/../x", "a//b", "a\nb", "", ".", "a\0", "ü", "x" * 200])
def test_a_name_that_leads_out_or_cannot_be_seen_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CaptureError, match="not a valid name for a new file"), new_folder(tmp_path / "out") as folder:
        folder.add(name, b"")
    assert list(tmp_path.iterdir()) == []


def test_names_are_made_safe_and_unique(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as folder:
        names = [folder.free_name("steps", wanted) for wanted in ("a b", "a/b", "A-B", "..", "\x1b[2J", "ü", "x" * 300)]
    assert names[:6] == ["steps/a-b", "steps/a-b-2", "steps/A-B-3", "steps/unnamed", "steps/2J", "steps/unnamed-2"]
    assert len(names[6]) < 100


def test_a_resolved_plan_is_the_same_wherever_the_project_lies(tmp_path: Path) -> None:
    texts = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data").write_text("x")
        source = "{version: 1, image: debian, files: {d: {source: data}}, steps: [{run: x, expect: {stdout: {json: %d}}}]}"
        texts.append(plan_json(parse_plan(source % 10**40, root=tmp_path / name)))
    assert texts[0] == texts[1] and b'"source": "data"' in texts[0]
