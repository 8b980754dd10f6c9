"""The output of package managers during an installation: progress in words, and the log that is kept for an image."""

from __future__ import annotations

from pathlib import Path

import pytest

from testronaut_lab.installation import keptlog
from testronaut_lab.installation.progress import ProgressReader
from testronaut_lab.installation.strategies import STRATEGIES

# As Debian 12's managers wrote it.
APT = """\
0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.
Get:1 http://archive.example/debian bookworm/main amd64 libonig5 amd64 6.9.8-1 [188 kB]
Selecting previously unselected package libonig5:amd64.
Unpacking libonig5:amd64 (6.9.8-1) ...
Unpacking jq (1.6-2.1) ...
Setting up libonig5:amd64 (6.9.8-1) ...
Setting up jq (1.6-2.1) ...
"""
PIP = """\
Collecting httpie==3.2.*
  Downloading httpie-3.2.4-py3-none-any.whl (127 kB)
Collecting Pygments>=2.5.2
Collecting requests[socks]>=2.22.0
Installing collected packages: Pygments, httpie
Successfully installed Pygments-2.18.0 httpie-3.2.4
"""
NPM = """\
npm http fetch GET 200 https://registry.example.org/cowsay 812ms (cache miss)
npm http fetch GET 200 https://registry.example.org/npm/@types%2fnode 12ms (cache miss)
npm http fetch GET 200 https://registry.example.org/strip-eof/-/strip-eof-1.0.0.tgz 9ms (cache miss)
npm notice created a lockfile
"""


@pytest.mark.parametrize(
    ("strategy", "said", "expected"),
    [
        (
            "apt",
            APT,
            ["unpacking libonig5 (1 of 2)", "unpacking jq (2 of 2)", "setting up libonig5 (1 of 2)", "setting up jq (2 of 2)"],
        ),
        (
            "pip",
            PIP,
            ["collecting httpie", "collecting Pygments", "collecting requests", "installing collected packages Pygments"],
        ),
        ("npm", NPM, ["fetch cowsay", "fetch @types/node", "fetch strip-eof"]),
        ("copy", APT, []),
    ],
)
def test_how_far_a_manager_is_is_read_from_what_it_writes(strategy: str, said: str, expected: list[str]) -> None:
    reader = ProgressReader(STRATEGIES[strategy])
    assert [text for text in map(reader.heard, said.splitlines()) if text is not None] == expected


def test_a_log_is_kept_and_given_again(tmp_path: Path) -> None:
    lines = [("jq", "Setting up jq"), ("pip", "with \x1b[2J, \u2028 and ü")]
    keptlog.keep("a" * 64, lines, tmp_path)
    assert keptlog.kept("a" * 64, tmp_path) == lines
    assert keptlog.kept("b" * 64, tmp_path) is None


def test_a_log_that_is_none_any_more_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("half a li")
    (tmp_path / "b.jsonl").write_text("[1]\n")
    assert (keptlog.kept("a", tmp_path), keptlog.kept("b", tmp_path)) == (None, None)


def test_the_oldest_logs_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keptlog, "KEPT_LOGS", 2)
    for key in ("a", "b", "c"):
        keptlog.keep(key, [(key, "line")], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.jsonl", "c.jsonl"]


def test_a_log_that_cannot_be_kept_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    keptlog.keep("a", [("a", "line")], tmp_path / "file")
    assert keptlog.kept("a", tmp_path / "file") is None


def test_of_an_endless_log_the_last_lines_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keptlog, "KEPT_LINES", 2)
    recorder = keptlog.Recorder()
    for number in range(5):
        recorder.add("x", str(number))
    assert list(recorder.lines) == [("x", "3"), ("x", "4")]
