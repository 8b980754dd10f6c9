"""`make engines`: the whole contract on every engine that Debian has, as root and as an ordinary user, into docs/engines.md.

    python tests/engines [--only TEXT]… [--tests -k EXPRESSION] [--dockerd FILE] [--no-figures | --no-tests] [--again]

Takes an hour or two. Each row is written when it is done; rows that are not asked for stay as they are. Ends with 1 if a test
failed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import enginetable
from enginecells import ROOT, WHOLE, run_tests
from otherengines import OtherEngine, Started, here, started

from testronaut_lab.container.engine.connect import Engine, connect
from testronaut_lab.container.image.resolve import resolve
from testronaut_lab.model.plan import ImageSpec

ORDINARY = 1017  # of nobody on most machines, and not the number that steps have for root
IMAGES = ("testronaut-lab/base:debian-bookworm-slim", "testronaut-lab/test-busybox:2")
OTHERS = tuple(
    OtherEngine(program, codename, rootless)
    for program, codename, rootless in (
        ("docker", "trixie", False),
        ("docker", "forky", False),
        ("docker", "trixie", True),
        ("docker", "forky", True),
        ("podman", "bookworm", False),
        ("podman", "trixie", False),
        ("podman", "forky", False),
        ("podman", "bookworm", True),
        ("podman", "trixie", True),
        ("podman", "forky", True),
    )
)


@dataclass(frozen=True, slots=True)
class Cell:
    """`other` is None for the engine that runs."""

    other: OtherEngine | None
    caller: int

    @property
    def id(self) -> str:
        return f"{'here' if self.other is None else self.other.id}-{'root' if self.caller == 0 else 'user'}"

    def start(self, outer: Engine) -> AbstractContextManager[Started]:
        if self.other is None:
            return here(outer, self.caller)
        return started(outer, self.other, self.caller, IMAGES, print)


def main() -> int:
    asked = _parser().parse_args()
    outer = connect()
    resolve(outer, ImageSpec("debian:bookworm-slim"), print)
    failed = 0
    for cell in _chosen(asked.only, asked.dockerd):
        print(f"\n== {cell.id}", flush=True)
        with cell.start(outer) as there:
            row = _row(there, asked)
            rows = {**enginetable.load(), row.key: row}
            enginetable.save(rows.values())  # before its end, which may fail
        print(f"{row.engine}, {row.user}: {row.passed} passed, {len(row.failed)} failed, {sum(row.skipped.values())} skipped")
        failed += len(row.failed)
    outer.close()
    return 1 if failed else 0


def _cells(dockerd: Path | None) -> Iterator[Cell]:
    """An ordinary user sees one user's rows: root's are root's to make."""
    built = (
        () if dockerd is None else (OtherEngine("docker", "forky", False, dockerd), OtherEngine("docker", "forky", True, dockerd))
    )
    callers = (0, ORDINARY) if os.getuid() == 0 else (os.getuid(),)
    for other in (None, *OTHERS, *built):
        for caller in callers:
            if caller != 0 or other is None or not other.rootless:
                yield Cell(other, caller)


def _chosen(only: Sequence[str], dockerd: Path | None) -> list[Cell]:
    """A whole name chooses its row alone: the names of some are parts of others'."""
    cells = list(_cells(dockerd))
    names = [cell.id for cell in cells]
    return [cell for cell in cells if not only or any(t == cell.id or (t not in names and t in cell.id) for t in only)]


def _row(there: Started, asked: argparse.Namespace) -> enginetable.Row:
    """What was not asked for is as it was in the row that is there."""
    told = there.engine.client.api.info()
    rootless = any("rootless" in option for option in told.get("SecurityOptions") or ())
    limits = "" if told.get("MemoryLimit") and not rootless else ", no limits"
    info = there.engine.info
    new = enginetable.Row(
        engine=f"{info.name.capitalize()} {info.version.split('+')[0]}{', rootless' if rootless else ''}",
        cgroup=f"v{told.get('CgroupVersion', '1')}, {told.get('CgroupDriver')}{limits}",
        user="root" if there.caller == 0 else "ordinary",
    )
    row = enginetable.load().get(new.key, new)
    if not asked.no_figures:
        row = replace(row, figures=_figures(there))
    if asked.no_tests:
        return row
    tried = _today()
    paths = row.failed_paths if asked.again else WHOLE
    if not paths:
        return row
    counted = run_tests(there.environment(), there.caller, there.groups, paths, asked.tests, there.folder / "tmp")
    if counted.failed:
        print(counted.said, flush=True)
    if asked.again:
        return row.again(counted, tried)
    return replace(
        row,
        cgroup=new.cgroup,
        passed=counted.passed,
        failed=counted.failed,
        skipped=dict(counted.skipped),
        chosen=asked.tests,
        tried=tried,
    )


def _today() -> str:
    """The day and the commit, for the table."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    return f"{datetime.now(UTC).date()}, {commit.stdout.strip()}"


def _figures(there: Started) -> dict[str, float]:
    other = there.caller != os.getuid()
    said = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "engines" / "figures.py")],
        env=there.environment(),
        user=there.caller if other else None,
        group=there.caller if other else None,
        extra_groups=there.groups if other else None,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    return dict(json.loads(said.splitlines()[-1]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests/engines", description="The table of engines.")
    parser.add_argument("--only", action="append", default=[], help="rows whose name has this text, such as podman-trixie-user")
    parser.add_argument("--tests", default="", help="of the tests those that fit, as pytest's -k has it")
    parser.add_argument(
        "--dockerd", type=Path, help="a dockerd of your own, for the rows docker-built-… and rootless-docker-built-…"
    )
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--no-figures", action="store_true", help="measure nothing, and leave the figures as they are")
    parts.add_argument("--no-tests", action="store_true", help="measure anew, and leave what the tests found as it is")
    parser.add_argument("--again", action="store_true", help="only what failed, whose new ends go into the row")
    return parser


if __name__ == "__main__":
    sys.exit(main())
