"""The pytest plugin, in a pytest of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("docker", "sqlalchemy", "textual", "IPython", "pydantic")


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:asyncio", *arguments)


@pytest.mark.engine
def test_the_fixture_gives_a_session_that_runs_commands(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_state_carries_on(lab):
            session = lab("debian:bookworm-slim")
            session.run("x=42")
            assert session.run("echo $x").out == "42\\n"
        """
    )
    run(pytester).assert_outcomes(passed=1)


@pytest.mark.engine
def test_sessions_are_closed_at_the_end_of_their_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from testronaut_lab import UsageError

        kept = []

        def test_opens_two(lab):
            kept.extend([lab("debian:bookworm-slim"), lab("debian:bookworm-slim")])
            kept[0].run("true")

        def test_both_are_closed():
            for session in kept:
                with pytest.raises(UsageError, match="closed"):
                    session.run("true")
        """
    )
    run(pytester).assert_outcomes(passed=2)


def test_a_session_is_closed_when_its_test_fails(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        kept = []

        def test_fails(lab):
            kept.append(lab("debian:bookworm-slim"))
            assert False

        def test_is_closed():
            assert "closed" in kept[0]._repr_html_()
        """
    )
    run(pytester).assert_outcomes(passed=1, failed=1)


def test_a_tool_that_cannot_be_one_fails_the_test_with_a_message(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_fails(lab):\n    lab('debian:bookworm-slim', 'apt:no such;tool')\n")
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*UsageError*"])


def test_the_marker_is_registered(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\n\n@pytest.mark.lab\ndef test_a(): pass\n\ndef test_b(): pass\n")
    run(pytester, "--strict-markers", "-m", "not lab").assert_outcomes(passed=1, deselected=1)


def test_loading_the_plugin_imports_nothing_heavy() -> None:
    code = f"import sys, testronaut_lab.pytest_plugin; print([name for name in {HEAVY} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_a_pytest_that_has_nothing_to_do_with_us_imports_nothing_heavy(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_a(): pass\n")
    pytester.makeconftest(
        f"import sys\ndef pytest_unconfigure(): print('heavy:', [name for name in {HEAVY} if name in sys.modules])\n"
    )
    result = pytester.runpytest_subprocess("-p", "no:hypothesispytest")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["heavy: [[][]]"])


def test_a_test_with_sessions_has_the_marker(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_a(lab): pass\n\ndef test_b(): pass\n")
    run(pytester, "--strict-markers", "-m", "not lab").assert_outcomes(passed=1, deselected=1)
