"""The comparison of a golden with what a step did now."""

from __future__ import annotations

from testronaut_lab.golden.compare import GoldenChange, compare
from testronaut_lab.model.result import Mismatch

WHERE = "snapshots/p/c/s"
TREE = {"cmd.txt": b"$ x      (exit 0)\n", "stdout.txt": b"a\nb\n"}


def mismatch(change: GoldenChange) -> Mismatch:
    return change.mismatch(WHERE, "to accept: ACCEPT")


def test_same_golden_has_no_change() -> None:
    assert compare(TREE, dict(TREE)) == ()


def test_golden_that_does_not_exist_is_one_change() -> None:
    (change,) = compare(None, TREE)
    assert mismatch(change) == Mismatch(
        "golden",
        "a golden in snapshots/p/c/s (to accept: ACCEPT)",
        "none yet for cmd.txt, stdout.txt",
        diff="@@ cmd.txt @@\n+$ x      (exit 0)\n@@ stdout.txt @@\n+a\n+b\n",
    )


def test_changed_file_has_its_diff() -> None:
    (change,) = compare(TREE, TREE | {"stdout.txt": b"a\nc\n"})
    assert mismatch(change) == Mismatch(
        "golden",
        "as in snapshots/p/c/s/stdout.txt (to accept: ACCEPT)",
        "a\nc\n",
        path="stdout.txt",
        diff="@@ -1,2 +1,2 @@\n a\n-b\n+c\n",
    )


def test_file_that_is_new_and_file_that_is_gone_are_told() -> None:
    new, gone = compare(TREE, {"cmd.txt": TREE["cmd.txt"], "stderr.txt": b"w\n"})
    assert (new.file, new.expected, new.actual, new.diff) == ("stderr.txt", None, b"w\n", "@@ -0,0 +1 @@\n+w\n")
    assert mismatch(new).expected == "no snapshots/p/c/s/stderr.txt (to accept: ACCEPT)"
    assert (gone.file, mismatch(gone).actual, gone.diff) == ("stdout.txt", "no such file", "@@ -1,2 +0,0 @@\n-a\n-b\n")


def test_empty_file_is_not_the_same_as_none() -> None:
    (change,) = compare({"files/a": b""}, {})
    assert (change.file, change.expected, change.actual, change.diff) == ("files/a", b"", None, None)


def test_line_ends_count() -> None:
    (change,) = compare({"stdout.txt": b"a\n"}, {"stdout.txt": b"a\r\n"})
    assert change.diff == "@@ -1 +1 @@\n-a\n+a␍\n"
