"""One row of the table of engines: the tests that were run on an engine as one user, and how they ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from junitparser import Error as Broken
from junitparser import Failure, JUnitXml, Skipped

ROOT = Path(__file__).parents[2]
# What every engine has to do alike. What is about one engine's ways (pulling, building, finding it) is in the rest of the suite.
WHOLE = (
    "contract",
    "execution/test_session.py",
    "execution/test_session_limits.py",
    "execution/test_session_loss.py",
    "execution/test_session_profile.py",
    "execution/test_session_steps.py",
    "execution/test_session_streams.py",
    "execution/test_session_usage.py",
    "execution/test_faults_session.py",
    "container/test_manager.py",
    "execution/test_terminal.py",
    "execution/test_background.py",
    "execution/test_watchdog.py",
    "capture/test_outside.py",
    "capture/test_file_capture.py",
    "execution/test_undo.py",
    "installation/test_install_files.py",
    "container/test_keeper.py",
    "execution/test_reap.py",
)
_TEST_TIMEOUT_S = 300
_WORKERS = 2  # tests wait for the engine half of their time; with more, tests of less than a second see each other
_DRAWN = "60"  # sequences that are drawn for the comparison with a plain shell; `make test` has 300


@dataclass(frozen=True, slots=True)
class Counted:
    """How the tests of one run ended. `failed` has their names, `skipped` how many there were of each reason."""

    passed: int
    failed: tuple[str, ...]
    skipped: Mapping[str, int]
    said: str = ""


def run_tests(
    environment: Mapping[str, str], caller: int, groups: Sequence[int], paths: Sequence[str], chosen: str, scratch: Path
) -> Counted:
    """Run these tests, of them those that `chosen` (pytest's -k) fits, as the caller. `scratch` is a folder of the caller's.

    Blocks for minutes. A run that cannot collect or breaks off counts as one failure.
    """
    report = scratch / "report.xml"
    argv = [
        sys.executable, "-m", "pytest", "-q", "--no-cov", "--tb=short", "-p", "no:cacheprovider", f"--junitxml={report}",
        f"--timeout={_TEST_TIMEOUT_S}", f"--numprocesses={_WORKERS}", "--dist=loadscope",
        *(("-k", chosen) if chosen else ()), *(str(ROOT / "tests" / path) for path in paths),
    ]  # fmt: skip
    other = caller != os.getuid()
    ended = subprocess.run(
        argv,
        cwd=ROOT,
        env={"TESTRONAUT_LAB_DRAWN": _DRAWN, **environment},
        user=caller if other else None,
        group=caller if other else None,
        extra_groups=groups if other else None,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if ended.returncode not in (0, 1) or not report.exists():
        return Counted(0, (f"pytest ended with {ended.returncode}",), {}, ended.stdout)
    return _counted(report, ended.stdout)


def _counted(report: Path, said: str) -> Counted:
    passed, failed, skipped = 0, [], Counter[str]()
    for suite in JUnitXml.fromfile(str(report)):
        for case in suite:
            ends = case.result
            if any(isinstance(end, Failure | Broken) for end in ends):
                failed.append(f"{case.classname}::{case.name}")
            elif skips := [end for end in ends if isinstance(end, Skipped)]:
                skipped[skips[0].message] += 1
            else:
                passed += 1
    return Counted(passed, tuple(failed), skipped, said)
