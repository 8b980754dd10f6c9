"""Decides what the golden of a step can hold, by comparing its output in the session with its output in the replay.

Values that differ from run to run are replaced by named normalisers. A stream that no normaliser makes equal is left out.
Nothing runs here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Final

from testronaut_lab.golden.patterns import NAMED, patterns
from testronaut_lab.golden.render import GoldenTree, render
from testronaut_lab.model.ignoring import without_ignored
from testronaut_lab.model.normalizing import Facts
from testronaut_lab.model.plan import GoldenSpec, Step
from testronaut_lab.model.result import ExitKind, StepResult
from testronaut_lab.recording.draft import Choice
from testronaut_lab.recording.journal import Seen

MAX_COMPARED_BYTES: Final = 2**20  # all rules together take about a second for this much
# Of rules that do the same, the one that replaces less is kept. So these are dropped first, in this order.
_COARSE_FIRST: Final = (
    "json", "progress", "crlf", "ansi", "size", "duration", "version", "hash", "port", "pid", "kernel", "host", "home",
    "workspace", "tmp", "uuid", "date", "timestamp",
)  # fmt: skip
_MKTEMP: Final = re.compile(r"(?<![\w.-])tmp\.(?:[A-Za-z0-9]{10}|[A-Za-z0-9]{6})(?![\w.-])")
_DATES: Final = (
    "%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d/%b/%Y", "%-d %b %Y", "%-d-%b-%Y", "%-d %B %Y",
    "%b %d", "%b %e", "%b %-d", "%B %-d",
)  # fmt: skip
_OF_NOW: Final = frozenset({"timestamp", "date"})
_TELLING: Final = ("timestamp", "date", "uuid", "pid", "kernel")  # rules whose values show in a single run
_MOST_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class Fix:
    """The next choice to try and a note for the user. `choice` is None if nothing can be done."""

    choice: Choice | None
    note: str


def passing(seen: Seen, given: str, now: datetime) -> dict[str, str]:
    """Find values that belong to this run alone, unless the user typed them (`given`): the first one of each rule.

    These are present times and dates, process ids, UUIDs, the kernel and temporary names. Two runs on one machine within a
    second agree in them and a third does not, so a comparison cannot find them.
    """
    text = _text(seen.result)
    found = {name: next(_values(name, text, seen.facts, given, now), None) for name in _TELLING}
    found["tmp"] = next((match[0] for match in _MKTEMP.finditer(text) if match[0] not in given), None)
    return {name: value for name, value in found.items() if value is not None}


def first_choice(found: Mapping[str, str]) -> tuple[Choice, str]:
    """Return the choice for the values that `passing` found, and a note for the user; the note is empty without such values."""
    what = ", ".join(f"{name} ({_shown(value)})" for name, value in found.items())
    return Choice(rules=tuple(found)), f"normalised, as it would differ elsewhere or later: {what}" if found else ""


def golden(step: Step, seen: Seen, ignore: tuple[str, ...] = ()) -> GoldenTree:
    """Return the golden that `step` would have. Raises CaptureError."""
    facts = seen.facts if step.golden is not None and step.golden.normalize else Facts()
    hashes = {change.path: change.sha256 for change in seen.result.changes}

    def read(path: str) -> bytes:
        return seen.blob(hashes.get(path) or "")

    return render(step, without_ignored(seen.result, ignore), read, facts).tree


def fix(step: Step, choice: Choice, session: Seen, replayed: Seen, ignore: tuple[str, ...] = ()) -> Fix:
    """Return the next choice for a step that failed in the replay."""
    if step.expect.exit.signal is None and (codes := _codes(choice, session.result, replayed.result)):
        said = " and ".join(map(str, codes))
        return Fix(replace(choice, codes=codes, golden=False), f"ends with exit status {said}; it has no golden")
    if session.result.exit.kind is not replayed.result.exit.kind or replayed.result.error is not None:
        return Fix(None, f"ended by {session.result.exit.describe()} when it was recorded, by {_ended(replayed.result)} now")
    if any(mismatch.aspect != "golden" for mismatch in replayed.result.mismatches) or step.golden is None:
        wrong = ", ".join(dict.fromkeys(mismatch.aspect for mismatch in replayed.result.mismatches))
        return Fix(None, f"does not meet its expectations again: {wrong}")
    return _by_rules(_Comparing(step, choice.shown or session, replayed, ignore), choice, replayed)


def _codes(choice: Choice, session: StepResult, replayed: StepResult) -> tuple[int, ...]:
    """Return the exit statuses seen so far, if there are several."""
    ends = (session.exit, replayed.exit)
    seen = {*choice.codes, *(end.code for end in ends if end.kind is ExitKind.EXITED and end.code is not None)}
    return tuple(sorted(seen)) if len(seen - set(choice.codes)) > (0 if choice.codes else 1) else ()


def _ended(result: StepResult) -> str:
    return result.exit.describe() if result.error is None else result.error.message


def _by_rules(comparing: _Comparing, choice: Choice, replayed: Seen) -> Fix:
    unstable = comparing.differing(_COARSE_FIRST)
    differed = comparing.difference(choice.rules)
    if not unstable:
        rules = comparing.needed(choice.rules)
        return Fix(replace(choice, rules=rules), f"{differed}; normalised: {', '.join(rules)}")
    if choice.shown is None:
        return Fix(replace(choice, shown=replayed), f"{differed}; kept as it was when replayed")
    streams = tuple(name for name in choice.streams if f"{name}.txt" not in unstable)
    left = [part.removesuffix(".txt") for part in sorted(unstable)]
    what, differ = " and ".join(left), "differs" if len(left) == 1 else "differ"
    if (screen := comparing.screen()) is not None and unstable == {"stdout.txt"}:
        found = replace(choice, golden=False, shown=None, screen=screen)
        return Fix(found, "what it wrote to its terminal differs from run to run; what the screen shows in the end is expected")
    if {"cmd.txt", "changes.txt"} & unstable or streams == choice.streams:
        return Fix(replace(choice, golden=False, shown=None), f"{what} {differ} from run to run: {differed}; there is no golden")
    rules = comparing.needed(choice.rules, without=unstable)
    found = replace(choice, rules=rules, streams=streams, shown=None)
    kept = "is" if len(left) == 1 else "are"
    return Fix(found, f"{what} {differ} from run to run and {kept} not kept: {comparing.difference(rules)}")


class _Comparing:
    """Compares the goldens of two runs of one step under different rules."""

    def __init__(self, step: Step, one: Seen, other: Seen, ignore: tuple[str, ...]) -> None:
        self._step = step
        self._both = (one, other)
        self._ignore = ignore
        sizes = [stream.size_bytes for each in self._both for stream in (each.result.stdout_stream, each.result.stderr_stream)]
        self._too_large = max(sizes) > MAX_COMPARED_BYTES

    def screen(self) -> str | None:
        """Return the last screen of the terminal, if it is the same in both runs."""
        one, other = (each.result.screen for each in self._both)
        return one if one == other else None

    def differing(self, rules: Iterable[str]) -> frozenset[str]:
        """Return the names of the golden's files that differ under these rules."""
        one, other = (self._tree(each, () if self._too_large else rules) for each in self._both)
        return frozenset(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))

    def difference(self, rules: Iterable[str]) -> str:
        """Describe the first line that differs under these rules: `stdout was '12 ms', then '7 ms'`."""
        one, other = (self._tree(each, rules if not self._too_large else ()) for each in self._both)
        for name in sorted(one.keys() | other.keys(), key=lambda name: (name not in ("stdout.txt", "stderr.txt"), name)):
            pair = _first_pair(one.get(name, b""), other.get(name, b""))
            if pair is not None:
                return f"{name.removesuffix('.txt')} was {_shown(pair[0])}, then {_shown(pair[1])}"
        return "nothing differed"

    def needed(self, present: Sequence[str], without: frozenset[str] = frozenset()) -> tuple[str, ...]:
        """Return the `present` rules and those that are needed to make the other parts equal."""
        kept = list(_COARSE_FIRST)
        for name in _COARSE_FIRST:
            fewer = [each for each in kept if each != name]
            if name not in present and not self.differing(fewer) - without:
                kept = fewer
        return tuple(name for name in NAMED if name in kept)

    def _tree(self, seen: Seen, rules: Iterable[str]) -> GoldenTree:
        spec = self._step.golden or GoldenSpec()
        own = tuple(rule for rule in spec.normalize if rule not in NAMED)
        return golden(replace(self._step, golden=replace(spec, normalize=(*own, *rules))), seen, self._ignore)


def _first_pair(one: bytes, other: bytes) -> tuple[str, str] | None:
    """Return the first two lines that differ; None for equal texts."""
    if one == other:
        return None
    lines = zip_longest(
        *(text.decode(errors="backslashreplace").splitlines(keepends=True) for text in (one, other)), fillvalue=""
    )
    return next((a, b) for a, b in lines if a != b)


def _shown(line: str) -> str:
    text = line.removesuffix("\n")
    return repr(text) if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]!r} …"


def _text(result: StepResult) -> str:
    """Return the compared part of its output, and the names of the paths that it changed."""
    streams = [stream.read()[:MAX_COMPARED_BYTES] for stream in (result.stdout_stream, result.stderr_stream)]
    names = "\n".join(change.path for change in result.changes)
    return "\n".join([*(data.decode(errors="replace") for data in streams), names])


def _values(name: str, text: str, facts: Facts, given: str, now: datetime) -> Iterator[str]:
    """Yield what the rule would replace, except what the user typed. A process id counts even then: such a short number may be
    in the typed text by chance.
    """
    known = {str(pid) for pid in facts.pids}
    days = {(now + timedelta(days=shift)).strftime(form) for shift in (-1, 0, 1) for form in _DATES}
    for pattern in patterns(name, facts):
        for match in pattern.regex.finditer(text):
            value: str = match["value"] if "value" in pattern.regex.groupindex else match[0]
            is_given = value in given and not (name == "pid" and value in known)
            if not is_given and (name not in _OF_NOW or any(day in value for day in days)):
                yield value
