"""The fixture `golden`, in a pytest of its own on the real engine: what is written, compared, pending, unused."""

from __future__ import annotations

import subprocess

import pytest
from support.command_line import ARGV

from testronaut_lab.golden.pending import Pending, PendingStore
from testronaut_lab.golden.store import GoldenStore
from testronaut_lab.pytest_plugin import assertion, plans  # noqa: F401 - an inner pytest forgets what it was the first to import
from testronaut_lab.pytest_plugin.naming import folder_of

pytestmark = pytest.mark.engine

HEAD = """
import pytest

@pytest.fixture
def run(lab):
    return lab("debian:bookworm-slim").run
"""
ONE = "\ndef test_one(run, golden):\n    assert run('echo one') == golden\n"
TWO = "\ndef test_two(run, golden):\n    assert run('echo two') == golden\n"


@pytest.fixture(autouse=True)
def _not_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)


def write(pytester: pytest.Pytester, *tests: str, name: str = "test_it.py") -> None:
    path = pytester.path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(HEAD + "".join(tests))


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", "no:asyncio", "-p", "no:cacheprovider", "--strict-markers", *arguments)


def update(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    result = run(pytester, "--snapshot-update", *arguments)
    assert result.ret is pytest.ExitCode.OK
    return result


def goldens(pytester: pytest.Pytester) -> dict[str, bytes]:
    root = pytester.path / "snapshots"
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.name != ".pytest")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def pending(pytester: pytest.Pytester) -> list[str]:
    entries = PendingStore(GoldenStore(pytester.path / "snapshots")).pending()
    return [entry.nodeid for entry in entries if isinstance(entry, Pending)]


def test_goldens_are_kept_by_test_and_number_or_name_to_the_byte(pytester: pytest.Pytester) -> None:
    write(
        pytester,
        r"""
class TestBytes:
    @pytest.mark.parametrize("text", ["a/b", "c::d"])
    def test_kept(self, run, golden, text):
        assert run("printf 'a\\r\\n\\0\\377'") == golden
        assert run("echo err >&2; printf x; printf 'y\\r\\n' >f.txt; exit 3") == golden(name="files", files=["*.txt"])
        assert run(["echo", text]) == golden
""",
        name="tests/test_it.py",
    )
    update(pytester)
    first = {
        "1/cmd.txt": b"$ printf 'a\\r\\n\\0\\377'      (exit 0)\n",
        "1/stdout.txt": b"a\r\n\0\xff",
        "3/cmd.txt": b"$ echo a/b      (exit 0)\n",
        "3/stdout.txt": b"a/b\n",
        "files/changes.txt": b"A 644 f.txt\n",
        "files/cmd.txt": b"$ echo err >&2; printf x; printf 'y\\r\\n' >f.txt; exit 3      (exit 3)\n",
        "files/files/f.txt": b"y\r\n",
        "files/stderr.txt": b"err\n",
        "files/stdout.txt": b"x",
    }
    prefix = "tests/test_it/TestBytes.test_kept[a%2Fb]/"
    kept = goldens(pytester)
    assert {name.removeprefix(prefix): data for name, data in kept.items() if name.startswith(prefix)} == first
    assert kept["tests/test_it/TestBytes.test_kept[c%3A%3Ad]/3/stdout.txt"] == b"c::d\n"
    run(pytester).assert_outcomes(passed=2)
    assert (goldens(pytester), pending(pytester)) == (kept, [])


def test_the_content_of_a_file_is_that_of_its_step_and_rules_take_effect(pytester: pytest.Pytester) -> None:
    write(
        pytester,
        """
def test_later(lab, golden):
    with_it = lab("debian:bookworm-slim")
    step = with_it.run("echo first >f; date -Is; echo id 7; echo unseen >&2")
    with_it.run("echo second >f")
    with_it.close()
    rules = ["timestamp", {"matches": "id [0-9]+", "replace": "id [N]"}]
    assert step == golden(files="f", normalize=rules, streams="stdout")
""",
    )
    update(pytester)
    kept = goldens(pytester)
    assert (kept["test_it/test_later/1/files/f"], kept["test_it/test_later/1/stdout.txt"]) == (b"first\n", b"[TIME]\nid [N]\n")
    assert "test_it/test_later/1/stderr.txt" not in kept
    run(pytester).assert_outcomes(passed=1)


def test_a_missing_golden_fails_and_what_it_would_be_is_pending_under_the_name_that_is_told(pytester: pytest.Pytester) -> None:
    write(pytester, ONE)
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E * snapshots/test_it/test_one/1 is not there yet",
            "E * $ echo one      (exit 0)",
            "E * +one",
            "E * to accept: testronaut-lab accept test_it.py::test_one::1",
            "E * or write it now: pytest --snapshot-update test_it.py::test_one",
        ]
    )
    assert (pending(pytester), goldens(pytester)) == (["test_it.py::test_one::1"], {})
    accepted = subprocess.run([*ARGV, "accept", "test_it.py::test_one::1"], cwd=pytester.path, capture_output=True, text=True)
    assert (accepted.returncode, accepted.stderr) == (0, "")
    run(pytester).assert_outcomes(passed=1)
    assert pending(pytester) == []


def test_a_golden_that_was_edited_by_hand_fails_with_the_difference_and_agreeing_again_settles_it(
    pytester: pytest.Pytester,
) -> None:
    write(pytester, ONE)
    update(pytester)
    file = pytester.path / "snapshots/test_it/test_one/1/stdout.txt"
    file.write_bytes(b"one\r\n")
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E * snapshots/test_it/test_one/1", "E * stdout.txt", "E * -one␍", "E * +one"])
    result.stdout.no_fnmatch_line("*syrupy/assertion.py*")
    assert pending(pytester) == ["test_it.py::test_one::1"]
    file.write_bytes(b"one\n")
    run(pytester).assert_outcomes(passed=1)
    assert pending(pytester) == []


def test_nothing_is_written_under_ci(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    write(pytester, ONE, TWO)
    update(pytester)
    before = goldens(pytester)
    monkeypatch.setenv("CI", "1")
    write(pytester, ONE.replace("echo one", "echo changed"), TWO.replace("test_two", "test_new"))
    result = run(pytester, "--snapshot-update")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        ["*nothing is written under CI; to accept elsewhere: pytest --snapshot-update test_it.py::test_one"]
    )
    assert (goldens(pytester), pending(pytester)) == (before, [])


def test_differences_are_left_out_where_syrupys_option_says_so(pytester: pytest.Pytester) -> None:
    write(pytester, ONE)
    result = run(pytester, "--snapshot-diff-mode=disabled")
    result.stdout.fnmatch_lines(["E * stdout.txt  (new)", "E * to accept: *"])
    result.stdout.no_fnmatch_line("*+one*")


def test_a_comparison_that_came_to_nothing_leaves_nothing_to_the_next(pytester: pytest.Pytester) -> None:
    write(
        pytester,
        """
def test_again(run, golden):
    with pytest.raises(TypeError):
        assert 1 == golden("wrong", streams="stderr")
    assert run("echo right") == golden
""",
    )
    update(pytester)
    assert set(goldens(pytester)) == {"test_it/test_again/1/cmd.txt", "test_it/test_again/1/stdout.txt"}


def test_what_a_tool_writes_reaches_no_terminal_as_it_is(pytester: pytest.Pytester) -> None:
    write(pytester, "\ndef test_red(run, golden):\n    assert run(\"printf '\\\\033[31mred\\\\n'\") == golden\n")
    result = run(pytester)
    result.stdout.fnmatch_lines([r"E * +\x1b[[]31mred"])
    assert "\x1b[31mred" not in result.stdout.str()


def test_a_golden_directory_that_is_a_link_is_refused(pytester: pytest.Pytester) -> None:
    write(pytester, ONE)
    update(pytester)
    kept, away = pytester.path / "snapshots/test_it/test_one/1", pytester.path / "away"
    kept.rename(away)
    kept.symlink_to(away)
    result = run(pytester, "--snapshot-update")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"E *UsageError: looking for a golden in {kept}: it is a symbolic link", f"E *hint: rm {kept}"])
    assert (away / "stdout.txt").read_bytes() == b"one\n"


REFUSED = {
    "assert run('true') == golden('a/b')": "*UsageError: looking for a golden under the name 'a/b'*",
    "assert run('true') == golden('../x')": "*UsageError: looking for a golden under the name '../x'*",
    "assert run('true') == golden('2')": "*UsageError: golden(name='2'): a name must not be empty or a number*",
    "r = run('true'); r == golden('a'); assert r == golden('a')": "*this test has a golden of that name already",
    "assert run('true').out == golden": "*TypeError: a golden is of what a step did*not str",
    "assert run('true') == golden(normalize='clock')": "*UsageError: normalize 'clock': there is no normaliser*",
    "assert run('true') == golden(streams='both')": "*UsageError: golden(streams=?'both'?): there is no stream 'both'",
    "import dataclasses; assert dataclasses.replace(run('true')) == golden": "*not a result of a session in this process",
}


def test_what_cannot_be_a_golden_is_refused_by_name(pytester: pytest.Pytester) -> None:
    write(pytester, *(f"\ndef test_{i}(run, golden):\n    {test}\n" for i, test in enumerate(REFUSED)))
    result = run(pytester, "--snapshot-update")
    result.assert_outcomes(failed=len(REFUSED))
    result.stdout.fnmatch_lines([f"E {said}" for said in REFUSED.values()])


def test_a_test_that_is_expected_to_fail_writes_nothing(pytester: pytest.Pytester) -> None:
    write(pytester, "\n@pytest.mark.xfail", ONE)
    run(pytester, "--snapshot-update").assert_outcomes(xfailed=1)
    assert (goldens(pytester), pending(pytester)) == ({}, [])


@pytest.mark.parametrize(
    ("marker", "options"),
    [
        ("condition=False, reason='not here'", ()),
        ("'1 > 2'", ()),
        ("", ("--runxfail",)),
        ("raises=ValueError", ()),
        ("raises=(ValueError, OSError)", ()),
    ],
)
def test_a_marker_that_does_not_expect_this_failure_stops_no_golden(
    pytester: pytest.Pytester, marker: str, options: tuple[str, ...]
) -> None:
    write(pytester, f"\n@pytest.mark.xfail({marker})", ONE)
    result = run(pytester, *options)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*to accept: testronaut-lab accept test_it.py::test_one::1*"])
    assert pending(pytester) == ["test_it.py::test_one::1"]
    run(pytester, "--snapshot-update", *options)
    assert goldens(pytester)["test_it/test_one/1/stdout.txt"] == b"one\n"


@pytest.mark.parametrize("marker", ["", "raises=AssertionError", "'1 < 2', reason='here'", "condition=True, reason='here'"])
def test_a_golden_that_differs_as_expected_is_not_to_be_accepted(pytester: pytest.Pytester, marker: str) -> None:
    write(pytester, f"\n@pytest.mark.xfail({marker})", ONE)
    run(pytester, "--snapshot-update").assert_outcomes(xfailed=1)
    assert (goldens(pytester), pending(pytester)) == ({}, [])


def test_a_removed_test_and_a_renamed_golden_are_unused_until_an_update_removes_them(pytester: pytest.Pytester) -> None:
    named = ONE.replace("== golden", "== golden(name='old')")
    write(pytester, named, TWO)
    update(pytester)
    run(pytester).assert_outcomes(passed=2)
    write(pytester, named.replace("'old'", "'new'"))
    update(pytester, "--snapshot-no-cleanup")
    result = run(pytester)
    assert result.ret is pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "2 snapshots unused.",
            "Unused snapshots/test_it/test_one/old",
            "Unused snapshots/test_it/test_two/1",
            "Re-run pytest with --snapshot-update to delete unused snapshots.",
        ]
    )
    assert run(pytester, "--snapshot-warn-unused").ret is pytest.ExitCode.OK
    assert run(pytester, "-n2").ret is pytest.ExitCode.TESTS_FAILED
    update(pytester, "-n2").stdout.fnmatch_lines(["2 unused snapshots deleted.", "Deleted snapshots/test_it/test_one/old"])
    assert set(goldens(pytester)) == {"test_it/test_one/new/cmd.txt", "test_it/test_one/new/stdout.txt"}
    assert run(pytester).ret is pytest.ExitCode.OK


def test_a_module_that_is_gone_or_has_no_tests_left_leaves_unused_goldens(pytester: pytest.Pytester) -> None:
    for name in ("tests/test_gone.py", "tests/test_empty.py", "tests/test_it.py"):
        write(pytester, ONE, name=name)
    update(pytester)
    (pytester.path / "tests/test_gone.py").unlink()
    write(pytester, "\ndef test_other(): pass\n", name="tests/test_empty.py")
    assert run(pytester, "tests/test_it.py").ret is pytest.ExitCode.OK
    assert run(pytester, "--ignore=tests/test_empty.py", "--snapshot-details", "tests").ret is pytest.ExitCode.TESTS_FAILED
    result = run(pytester, "tests")
    result.stdout.fnmatch_lines(["Unused snapshots/tests/test_empty/test_one/1", "Unused snapshots/tests/test_gone/test_one/1"])


@pytest.mark.parametrize("chosen", ["-k two", "test_it.py::test_two", "-m usefixtures", "--deselect test_it.py::test_two"])
def test_a_choice_of_tests_leaves_the_others_goldens_alone(pytester: pytest.Pytester, chosen: str) -> None:
    write(pytester, ONE, TWO, "\n@pytest.mark.usefixtures('run')\ndef test_three(): pass\n")
    update(pytester)
    write(pytester, TWO, "\n@pytest.mark.usefixtures('run')\ndef test_three(): pass\n")
    before = goldens(pytester)
    result = run(pytester, "--snapshot-update", *chosen.split())
    assert (result.ret, goldens(pytester)) == (pytest.ExitCode.OK, before)


def test_goldens_that_a_test_did_not_come_to_are_not_unused(pytester: pytest.Pytester) -> None:
    asked = "\ndef test_one(run, golden):\n    assert run('echo a') == golden\n{}    assert run('echo b') == golden\n"
    write(pytester, asked.format(""), TWO)
    update(pytester)
    before = goldens(pytester)
    for way in ("    assert False\n", "    pytest.skip('today')\n"):
        write(pytester, asked.format(way), TWO)
        run(pytester, "--snapshot-update", "-x")
        assert goldens(pytester) == before
    write(pytester, "\nimport no_such_module\n", asked.format(""), TWO)
    run(pytester, "--snapshot-update", "--continue-on-collection-errors")
    assert goldens(pytester) == before


def test_a_renamed_step_of_a_plan_leaves_an_unused_golden(pytester: pytest.Pytester) -> None:
    plan = "version: 1\nimage: debian:bookworm-slim\nsteps: [{id: %s, run: echo hi, golden: true}]\n"
    (pytester.path / "a.lab.yaml").write_text(plan % "before")
    update(pytester)
    (pytester.path / "a.lab.yaml").write_text(plan % "after")
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["1 snapshot unused.", "Unused snapshots/a/main/before"])
    update(pytester)
    assert set(goldens(pytester)) == {"a/main/after/cmd.txt", "a/main/after/stdout.txt"}


def test_a_foreign_folder_named_snapshots_is_left_alone(pytester: pytest.Pytester) -> None:
    foreign = pytester.path / "snapshots/test_it/test_gone/1/stdout.txt"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("not ours\n")
    (pytester.path / "test_it.py").write_text("def test_a(): pass\n")
    assert (update(pytester).ret, run(pytester).ret, foreign.exists()) == (pytest.ExitCode.OK, pytest.ExitCode.OK, True)


def test_workers_of_xdist_compare_and_write_as_one(pytester: pytest.Pytester) -> None:
    write(
        pytester,
        "\n@pytest.mark.parametrize('n', range(6))\ndef test_many(run, golden, n):\n    assert run(f'echo {n}') == golden\n",
    )
    update(pytester, "-n2")
    assert len(goldens(pytester)) == 12
    result = run(pytester, "-n2")
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["6 snapshots passed."])


def test_names_of_tests_that_no_folder_can_have_are_escaped_and_cut() -> None:
    assert folder_of("t.py::TestA::test_b[..\\x/é]") == "TestA.test_b[..%5Cx%2F%C3%A9]"
    long = [folder_of(f"t.py::test_a[{'x' * 300}{end}]") for end in "ab"]
    assert [len(name) <= 200 for name in long] == [True, True] and long[0] != long[1]
