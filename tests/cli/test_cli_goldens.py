"""Deciding about goldens from the command line: what is pending after a run, listed, shown, accepted, rejected."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command_line import Project

from testronaut_lab.errors import ExitStatus
from testronaut_lab.golden.pending import PendingStore
from testronaut_lab.golden.places import GoldenKey
from testronaut_lab.golden.store import GoldenStore

OLD = {"cmd.txt": b"$ x      (exit 0)\n", "stdout.txt": b"1\n"}
NEW = {"cmd.txt": b"$ x      (exit 0)\n", "stdout.txt": b"2\n", "stderr.txt": b"w\n"}
PLAN = """\
version: 1
image: debian:bookworm-slim
cases:
  - id: one
    steps:
      - {id: first, run: "echo 1", golden: true, continue: true}
      - {id: second, run: "echo 2", golden: true, continue: true}
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def goldens(tmp_path: Path) -> GoldenStore:
    return GoldenStore(tmp_path / "snapshots")


Propose = Callable[..., GoldenKey]


@pytest.fixture
def propose(goldens: GoldenStore) -> Propose:
    """Leaves something pending as a run does: `propose("a.lab.yaml::one::x")`."""

    def leave(nodeid: str, new: dict[str, bytes] = NEW, old: dict[str, bytes] | None = OLD) -> GoldenKey:
        key = GoldenKey.of(nodeid)
        if old is not None:
            goldens.write(key, old)
        PendingStore(goldens).propose(key, new, nodeid=nodeid, run="20261125-080000-0001")
        return key

    return leave


def edit(project: Project, before: str, after: str) -> None:
    file = project.root / "a.lab.yaml"
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))


def tree(root: Path, without: tuple[str, ...] = ()) -> dict[str, bytes | None]:
    """Everything below, folders as None."""
    paths = {path: path.relative_to(root).as_posix() for path in root.rglob("*")}
    return {
        name: path.read_bytes() if path.is_file() else None
        for path, name in paths.items()
        if not name.startswith(without or ("\0",))
    }


# --- after real runs


@pytest.mark.engine
def test_from_missing_golden_to_green_without_running_again(project: Project) -> None:
    project.write(PLAN)
    said = project.here("run")
    assert said.status == ExitStatus.FAILED
    assert "to accept: testronaut-lab accept a.lab.yaml::one::first" in said.out
    assert said.out.endswith("2 pending: testronaut-lab review\n")
    assert not (project.root / "snapshots").exists()
    assert project.here("accept", "a.lab.yaml::one::first").out == (
        "accepted a.lab.yaml::one::first: snapshots/a/one/first\n1 pending: testronaut-lab review\n"
    )
    assert project.here("accept", "a.lab.yaml").status == ExitStatus.OK
    again = project.here("run")
    assert again.status == ExitStatus.OK
    assert "pending" not in again.out


@pytest.mark.engine
def test_a_run_counts_what_it_left_pending_itself(project: Project) -> None:
    project.write(PLAN)
    project.here("run", "-u")
    project.write(PLAN, "b.lab.yaml")
    assert project.here("run", "b.lab.yaml").out.endswith("\n2 pending: testronaut-lab review\n")
    agrees = project.here("run", "a.lab.yaml")
    assert agrees.status == ExitStatus.OK and "pending" not in agrees.out + agrees.err
    edit(project, "echo 2", "echo 3")
    assert project.here("run", "a.lab.yaml").out.endswith("\n1 pending, and 2 from earlier: testronaut-lab review\n")


@pytest.mark.engine
def test_golden_edited_by_hand_is_told_and_a_run_that_agrees_again_clears_it(project: Project) -> None:
    project.write(PLAN)
    project.here("run", "-u")
    golden = project.root / "snapshots/a/one/second/stdout.txt"
    golden.write_bytes(b"by hand\n")
    said = project.here("run")
    assert said.status == ExitStatus.FAILED
    assert [line.strip() for line in said.out.splitlines() if line.strip() in ("-by hand", "+2")] == ["-by hand", "+2"]
    assert "1 pending: testronaut-lab review" in said.out
    golden.write_bytes(b"2\n")
    assert project.here("run").status == ExitStatus.OK
    assert project.here("pending").out == "nothing is pending\n"
    assert not any((project.root / ".testronaut/pending").iterdir())


@pytest.mark.engine
def test_changed_line_ends_are_seen_and_accepted_to_the_byte(project: Project) -> None:
    project.write(PLAN)
    project.here("run", "-u")
    edit(project, "echo 2", "printf '2\\\\r\\\\n'")
    said = project.here("run")
    assert said.status == ExitStatus.FAILED
    assert [line.strip() for line in said.out.splitlines() if line.strip() in ("-2", "+2␍")] == ["-2", "+2␍"]
    assert "+2␍" in project.here("diff").out
    assert project.here("accept", "*").status == ExitStatus.OK
    assert (project.root / "snapshots/a/one/second/stdout.txt").read_bytes() == b"2\r\n"
    assert project.here("run").status == ExitStatus.OK


@pytest.mark.engine
def test_renamed_step_has_no_golden_and_the_old_one_is_pruned_after_accepting(project: Project) -> None:
    project.write(PLAN)
    project.here("run", "-u")
    edit(project, "id: second", "id: renamed")
    refused = project.here("prune")
    assert refused.status == ExitStatus.USAGE
    assert "no complete run of all plans as they are now is stored" in refused.err
    assert "was not of a.lab.yaml as it is now" in refused.err
    said = project.here("run")
    assert said.status == ExitStatus.FAILED
    assert "a golden in snapshots/a/one/renamed" in said.out
    project.here("accept", "a.lab.yaml::one::renamed")
    listed = project.here("prune")
    assert listed.status == ExitStatus.OK
    assert listed.out.startswith("snapshots/a/one/second\n1 to remove, by run ")
    assert project.goldens == ["a/one/first", "a/one/renamed", "a/one/second"]
    assert project.here("prune", "--yes").out == "snapshots/a/one/second\nremoved 1\n"
    assert project.goldens == ["a/one/first", "a/one/renamed"]
    assert project.here("run").status == ExitStatus.OK


@pytest.mark.engine
def test_removed_step_and_what_was_pending_of_it_are_pruned_and_no_golden_of_a_test(
    project: Project, goldens: GoldenStore, propose: Propose
) -> None:
    project.write(PLAN)
    goldens.write(GoldenKey("tests/test_x", "test_it", "1", maker="pytest"), OLD)
    propose("a.lab.yaml::one::second")
    edit(project, '      - {id: second, run: "echo 2", golden: true, continue: true}\n', "")
    assert project.here("run", "-u").status == ExitStatus.OK
    said = project.here("prune", "-y")
    assert said.out == "snapshots/a/one/second\nsnapshots/a/one/second (pending)\nremoved 2\n"
    assert project.goldens == ["a/one/first", "tests/test_x/test_it/1"]
    assert project.here("pending").out == "nothing is pending\n"


@pytest.mark.engine
@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("run", "-u", "a.lab.yaml"), "left out b.lab.yaml"),
        (("run", "-u", "-k", "smoke"), "left out b.lab.yaml"),
        (("run", "-u", "a.lab.yaml::one::first", "b.lab.yaml"), "left out a part of a.lab.yaml"),
    ],
    ids=["file", "keyword", "step"],
)
def test_nothing_is_pruned_after_a_part_of_the_plans(project: Project, words: tuple[str, ...], why: str) -> None:
    project.write(PLAN.replace("id: one", "id: one\n    tags: [smoke]"))
    project.write(PLAN, "b.lab.yaml")
    (project.root / "snapshots/a/gone/x").mkdir(parents=True)
    (project.root / "snapshots/a/gone/x/cmd.txt").write_bytes(b"$")
    assert project.here(*words).status == ExitStatus.OK
    said = project.here("prune", "--yes")
    assert said.status == ExitStatus.USAGE
    assert why in said.err
    assert "hint: testronaut-lab run; testronaut-lab prune" in said.err
    assert "a/gone/x" in project.goldens


@pytest.mark.engine
def test_golden_folder_that_is_a_link_is_an_error_with_the_way_out(project: Project, tmp_path: Path) -> None:
    project.write(PLAN)
    project.here("run", "-u")
    golden = project.root / "snapshots/a/one/second"
    elsewhere = tmp_path / "elsewhere"
    golden.rename(elsewhere)
    golden.symlink_to(elsewhere)
    said = project.here("run")
    assert said.status == ExitStatus.USAGE
    assert "it is a symbolic link" in said.out
    assert f"rm {golden}" in said.out
    assert project.here("pending").out == "nothing is pending\n"
    assert "it is a symbolic link" in project.here("prune", "-y").err
    assert golden.is_symlink() and (elsewhere / "stdout.txt").exists()


@pytest.mark.engine
def test_pending_that_cannot_be_read_is_told_and_the_run_is_what_it_was(project: Project, tmp_path: Path) -> None:
    project.write(PLAN)
    project.here("run", "-u")
    (project.root / ".testronaut/pending").symlink_to(tmp_path)
    said = project.here("run")
    assert said.status == ExitStatus.OK
    assert "it is a symbolic link" in said.err


@pytest.mark.engine
def test_nothing_is_pending_of_a_step_that_fails_otherwise(project: Project) -> None:
    project.write(PLAN.replace('"echo 1"', '"echo 1; exit 3"'))
    said = project.here("run")
    assert "cannot be accepted: it ended with exit status 3; if that is right, the plan says `expect: {exit: 3}`" in said.out
    assert said.out.endswith("1 pending: testronaut-lab review\n")
    assert "a.lab.yaml::one::first" not in project.here("pending").out


@pytest.mark.engine
@pytest.mark.parametrize(("words", "env"), [((), {"CI": "1"}), (("--ci",), {}), (("-u", "--ci"), {})], ids=["CI", "--ci", "-u"])
def test_in_ci_the_project_is_as_it_was_but_for_the_results(
    project: Project, words: tuple[str, ...], env: dict[str, str]
) -> None:
    project.write(PLAN)
    project.here("run", "-u")
    (project.root / "snapshots/a/one/first/stdout.txt").write_bytes(b"by hand\n")
    edit(project, "id: second", "id: renamed")
    results = tuple(f".testronaut/{name}" for name in ("results.db", "blobs", "runs"))
    before = tree(project.root, results)
    said = project.here("run", *words, env=env)
    assert said.status == ExitStatus.FAILED
    assert "nothing is written under CI" in said.out
    assert tree(project.root, results) == before


@pytest.mark.engine
def test_two_plans_that_would_share_a_golden_are_refused_before_anything_is_run(project: Project) -> None:
    project.write(PLAN)
    project.write(PLAN, "A.lab.yaml")
    said = project.here("run")
    assert said.status == ExitStatus.USAGE
    assert "the goldens of A.lab.yaml::one::first and a.lab.yaml::one::first would lie in" in said.err
    assert said.out == ""


# --- what is pending, as a run has left it


def test_list_names_each_step_and_what_differs(project: Project, propose: Propose) -> None:
    propose("a.lab.yaml::one::x")
    propose("b.lab.yaml::one::y", old=None)
    said = project.here("pending")
    rows = [line.split("  ") for line in said.out.splitlines()]
    assert [row[0] for row in rows] == ["step", "a.lab.yaml::one::x", "b.lab.yaml::one::y", "2 pending: testronaut-lab review"]
    assert "A stderr.txt, M stdout.txt" in said.out and "new golden" in said.out


def test_list_as_json(project: Project, propose: Propose) -> None:
    propose("a.lab.yaml::one::x")
    (entry,) = project.here("pending", "--json").json  # type: ignore[misc]
    assert isinstance(entry, dict)
    assert (entry["nodeid"], entry["golden"], entry["status"], entry["problem"]) == (
        "a.lab.yaml::one::x",
        "snapshots/a/one/x",
        "changed",
        None,
    )
    assert entry["files"] == [
        {"file": "stderr.txt", "change": "added", "diff": "@@ -0,0 +1 @@\n+w\n"},
        {"file": "stdout.txt", "change": "modified", "diff": "@@ -1 +1 @@\n-1\n+2\n"},
    ]


def test_nothing_pending_is_an_empty_list(project: Project) -> None:
    assert project.here("pending", "--json").json == []


def test_diff_shows_command_and_differences_plain_where_there_is_no_terminal(project: Project, propose: Propose) -> None:
    propose("a.lab.yaml::one::x")
    propose("b.lab.yaml::one::y")
    assert project.here("diff", "a.lab.yaml").out == (
        "a.lab.yaml::one::x\n"
        "$ x      (exit 0)\n"
        "snapshots/a/one/x/stderr.txt  new\n"
        "@@ -0,0 +1 @@\n"
        "+w\n"
        "snapshots/a/one/x/stdout.txt\n"
        "@@ -1 +1 @@\n"
        "-1\n"
        "+2\n"
    )
    assert project.here("diff").out.count("+2\n") == 2


def test_diff_of_hostile_output_reaches_no_terminal(project: Project, propose: Propose) -> None:
    propose("a.lab.yaml::one::x", {"cmd.txt": b"$ \x1b]0;x\x07\n", "stdout.txt": b"\x1b[31mred\xe2\x80\xae\n\xff"})
    said = project.here("diff").out
    assert "\x1b" not in said and "\u202e" not in said
    assert "+\\x1b[31mred\\u202e" in said and "+\\xff" in said and "\\ No newline at end of file" in said


def test_diff_of_bytes_that_are_no_text_is_in_hex(project: Project, propose: Propose) -> None:
    propose("a.lab.yaml::one::x", {**OLD, "stdout.txt": b"a\0b"})
    assert "@@ byte 0 is the first to differ: 31 expected, 61 found" in project.here("diff").out
    project.here("accept", "*")
    assert (project.root / "snapshots/a/one/x/stdout.txt").read_bytes() == b"a\0b"


@pytest.mark.parametrize("glob", ["a.lab.yaml::one::x", "a.lab.yaml", "*::x", "snapshots/a/one/x", "snapshots/a/*", "a/one/x"])
def test_accept_takes_node_ids_and_paths(project: Project, propose: Propose, goldens: GoldenStore, glob: str) -> None:
    key = propose("a.lab.yaml::one::x")
    propose("b.lab.yaml::one::y")
    assert project.here("accept", glob).out == (
        "accepted a.lab.yaml::one::x: snapshots/a/one/x\n1 pending: testronaut-lab review\n"
    )
    assert goldens.read(key) == NEW


def test_accept_takes_names_relative_to_where_one_stands(project: Project, propose: Propose, goldens: GoldenStore) -> None:
    key = propose("sub/a.lab.yaml::one::x")
    (project.root / "sub").mkdir()
    assert project.here("accept", "a.lab.yaml::one::x", cwd=project.root / "sub").status == ExitStatus.OK
    assert goldens.read(key) == NEW


def test_accept_takes_the_very_command_that_a_cell_was_told(project: Project, propose: Propose, goldens: GoldenStore) -> None:
    nodeid = "a.lab.yaml::one[image=debian:12]::x"
    key = propose(nodeid)
    assert project.here(*shlex.split(f"accept {shlex.quote(nodeid)}")).status == ExitStatus.OK
    assert goldens.read(key) == NEW


def test_single_file_is_accepted(project: Project, propose: Propose, goldens: GoldenStore) -> None:
    key = propose("a.lab.yaml::one::x")
    said = project.here("accept", "snapshots/a/one/x/stderr.txt")
    assert said.out == "accepted a.lab.yaml::one::x (stderr.txt): snapshots/a/one/x\n1 pending: testronaut-lab review\n"
    assert goldens.read(key) == OLD | {"stderr.txt": b"w\n"}
    assert project.here("reject", "snapshots/a/one/x/stdout.txt").status == ExitStatus.USAGE


@pytest.mark.parametrize("verb", ["accept", "reject", "diff"])
def test_glob_that_names_nothing_is_told_with_the_nearest(project: Project, propose: Propose, verb: str) -> None:
    propose("a.lab.yaml::one::x")
    said = project.here(verb, "a.lab.yaml::one::y")
    assert said.status == ExitStatus.USAGE
    assert said.err == (
        "error: 'a.lab.yaml::one::y' names nothing that is pending; the nearest is a.lab.yaml::one::x\n"
        "hint: testronaut-lab pending\n"
    )


@pytest.mark.parametrize("verb", ["accept", "reject"])
def test_deciding_about_nothing_is_refused(project: Project, propose: Propose, verb: str) -> None:
    propose("a.lab.yaml::one::x")
    assert project.here(verb).status == ExitStatus.USAGE
    assert len(project.here("pending", "--json").json) == 1  # type: ignore[arg-type]


def test_reject_drops_it_and_leaves_the_golden(project: Project, propose: Propose, goldens: GoldenStore) -> None:
    key = propose("a.lab.yaml::one::x")
    assert project.here("reject", "*").out == "rejected a.lab.yaml::one::x\nnothing is pending any more\n"
    assert goldens.read(key) == OLD


def test_golden_that_moved_is_refused_with_what_to_do(project: Project, propose: Propose, goldens: GoldenStore) -> None:
    project.write()
    key = propose("a.lab.yaml::one::x")
    (goldens.directory(key) / "stdout.txt").write_bytes(b"by hand\n")
    assert "the golden has changed since then" in project.here("pending").out
    assert "cannot be accepted: the golden has changed since then" in project.here("diff").out
    said = project.here("accept", "*")
    assert said.status == ExitStatus.USAGE
    assert said.err == (
        "error: accepting a.lab.yaml::one::x: the golden has changed since then\nhint: testronaut-lab run a.lab.yaml\n"
    )
    assert (goldens.read(key) or {})["stdout.txt"] == b"by hand\n"


def test_tampered_entry_is_listed_refused_and_rejected(project: Project, propose: Propose, goldens: GoldenStore) -> None:
    propose("a.lab.yaml::one::x")
    (project.root / ".testronaut/pending/a/one/x/stdout.txt").write_bytes(b"evil")
    assert "its files are not those that the run wrote" in project.here("pending").out
    said = project.here("accept", "*")
    assert said.status == ExitStatus.USAGE
    assert said.err == (
        "error: accepting snapshots/a/one/x: its files are not those that the run wrote\n"
        "hint: testronaut-lab reject snapshots/a/one/x\n"
    )
    assert project.here("reject", "snapshots/a/one/x").status == ExitStatus.OK
    assert project.here("pending").out == "nothing is pending\n"


@pytest.mark.engine
@pytest.mark.parametrize("words", [("accept", "*"), ("reject", "*"), ("prune", "--yes")])
def test_nothing_is_decided_where_ci_is_set(
    project: Project, propose: Propose, goldens: GoldenStore, words: tuple[str, ...]
) -> None:
    project.write()
    assert project.here("run").status == ExitStatus.OK
    key = propose("a.lab.yaml::one::x")
    before = tree(project.root)
    said = project.here(*words, env={"CI": "true"})
    assert said.status == ExitStatus.USAGE
    assert "nothing is written where CI is set" in said.err
    assert f"hint: CI= {shlex.join(['testronaut-lab', *words])}" in said.err
    assert tree(project.root) == before and goldens.read(key) == OLD


def test_review_without_a_terminal_prints_the_list_and_what_to_type(project: Project, propose: Propose) -> None:
    propose("a.lab.yaml::one[k=v]::x")
    said = project.here("review")
    assert said.status == ExitStatus.OK
    assert said.out.splitlines()[-3:] == [
        "  testronaut-lab diff 'a.lab.yaml::one[k=v]::x'",
        "  testronaut-lab accept 'a.lab.yaml::one[k=v]::x'",
        "  testronaut-lab reject 'a.lab.yaml::one[k=v]::x'",
    ]
    assert project.here("pending").out.startswith("step")


def test_prune_without_any_run_is_refused(project: Project) -> None:
    project.write(PLAN)
    said = project.here("prune", "--yes")
    assert said.status == ExitStatus.USAGE
    assert "there are no runs yet" in said.err


@pytest.mark.engine
def test_all_goldens_of_a_case_come_in_one_run_and_an_expectation_still_ends_it(project: Project) -> None:
    steps = "".join(f"      - {{id: s{i}, run: 'echo {i}', golden: true}}\n" for i in range(3))
    end = "      - {id: no, run: 'false'}\n      - {id: never, run: 'echo never', golden: true}\n"
    project.write(f"version: 1\nimage: debian:bookworm-slim\ncases:\n  - id: c\n    steps:\n{steps}{end}", "many.lab.yaml")
    said = project.here("run", "many.lab.yaml")
    assert said.status == 1 and "@@ stdout.txt @@\n            +2\n" in said.out
    assert "3 pending: testronaut-lab review" in said.out
    assert project.here("accept", "many.lab.yaml").status == 0
    said = project.here("run", "many.lab.yaml")
    assert said.out.count("PASS") == 3 and said.out.count("SKIP") == 1
