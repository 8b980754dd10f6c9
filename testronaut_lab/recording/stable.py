"""What of a step's output can be its golden: found by comparing what it did in the session with what it did when replayed.

Values that differ from run to run are replaced by the named normalisers that they are of; a stream that none of them makes
the same is left out of the golden. Pure: nothing is run here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from testronaut_lab.golden.patterns import NAMED, patterns
from testronaut_lab.golden.render import GoldenTree, render
from testronaut_lab.model.ignoring import without_ignored
from testronaut_lab.model.normalizing import Facts
from testronaut_lab.model.plan import GoldenSpec, Step
from testronaut_lab.model.result import ExitKind, StepResult
from testronaut_lab.recording.draft import Choice
from testronaut_lab.recording.journal import Seen

MAX_COMPARED_BYTES: Final = 2**20  # all rules together take about a second for it
# Of rules that do the same, the one that replaces less is kept: these are tried to do without first, in this order.
_COARSE_FIRST: Final = (
    "json", "progress", "crlf", "ansi", "size", "duration", "version", "hash", "port", "pid", "host", "home", "workspace", "tmp",
    "uuid", "date", "timestamp",
)  # fmt: skip
_MKTEMP: Final = re.compile(r"(?<![\w.-])tmp\.(?:[A-Za-z0-9]{10}|[A-Za-z0-9]{6})(?![\w.-])")
_DATES: Final = ("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%d %b %Y", "%d-%b-%Y", "%d/%b/%Y", "%b %d", "%b %e")


@dataclass(frozen=True, slots=True)
class Mended:
    """What to try next, and what to tell the user of it; `choice` None where nothing can be done."""

    choice: Choice | None
    note: str


def first_choice(seen: Seen, given: str, now: datetime) -> Choice:
    """By what the output itself shows: times of now, process ids, UUIDs and temporary names, unless they were `given`.

    Two runs within a second agree in their times and a third would not, so that comparing alone does not find them.
    """
    text = _text(seen.result)
    rules = [name for name in ("timestamp", "uuid", "pid") if any(_values(name, text, seen.facts, given, now))]
    if any(match[0] not in given for match in _MKTEMP.finditer(text)):
        rules.append("tmp")
    return Choice(rules=tuple(rules))


def golden(step: Step, seen: Seen, ignore: tuple[str, ...] = ()) -> GoldenTree:
    """The golden that `step` would have of it. Raises CaptureError."""
    facts = seen.facts if step.golden is not None and step.golden.normalize else Facts()
    hashes = {change.path: change.sha256 for change in seen.result.changes}

    def read(path: str) -> bytes:
        return seen.blob(hashes.get(path) or "")

    return render(step, without_ignored(seen.result, ignore), read, facts).tree


def mended(step: Step, choice: Choice, session: Seen, replayed: Seen, ignore: tuple[str, ...] = ()) -> Mended:
    """The next choice for a step whose replay did not pass."""
    if step.expect.exit.signal is None and (codes := _codes(choice, session.result, replayed.result)):
        said = " and ".join(map(str, codes))
        return Mended(replace(choice, codes=codes, golden=False), f"ends with exit status {said}; it has no golden")
    if session.result.exit.kind is not replayed.result.exit.kind or replayed.result.error is not None:
        return Mended(None, f"ended by {session.result.exit.describe()} when it was recorded, by {_ended(replayed.result)} now")
    if any(mismatch.aspect != "golden" for mismatch in replayed.result.mismatches) or step.golden is None:
        wrong = ", ".join(dict.fromkeys(mismatch.aspect for mismatch in replayed.result.mismatches))
        return Mended(None, f"does not do again what is expected of it: {wrong}")
    return _by_rules(_Comparing(step, choice.shown or session, replayed, ignore), choice, replayed)


def _codes(choice: Choice, session: StepResult, replayed: StepResult) -> tuple[int, ...]:
    """The exit statuses that have been seen, if they are several."""
    ends = (session.exit, replayed.exit)
    seen = {*choice.codes, *(end.code for end in ends if end.kind is ExitKind.EXITED and end.code is not None)}
    return tuple(sorted(seen)) if len(seen - set(choice.codes)) > (0 if choice.codes else 1) else ()


def _ended(result: StepResult) -> str:
    return result.exit.describe() if result.error is None else result.error.message


def _by_rules(comparing: _Comparing, choice: Choice, replayed: Seen) -> Mended:
    unstable = comparing.differing(_COARSE_FIRST)
    if not unstable:
        rules = comparing.needed(choice.rules)
        return Mended(replace(choice, rules=rules), f"normalised: {', '.join(rules)}")
    if choice.shown is None:
        return Mended(replace(choice, shown=replayed), "kept as it was when replayed, which differs from what was recorded")
    streams = tuple(name for name in choice.streams if f"{name}.txt" not in unstable)
    left = [part.removesuffix(".txt") for part in sorted(unstable)]
    what, differ = " and ".join(left), "differs" if len(left) == 1 else "differ"
    if (screen := comparing.screen()) is not None and unstable == {"stdout.txt"}:
        found = replace(choice, golden=False, shown=None, screen=screen)
        return Mended(
            found, "what it wrote to its terminal differs from run to run; what the screen shows in the end is expected"
        )
    if {"cmd.txt", "changes.txt"} & unstable or streams == choice.streams:
        return Mended(replace(choice, golden=False, shown=None), f"{what} {differ} from run to run; there is no golden")
    rules = comparing.needed(choice.rules, without=unstable)
    found = replace(choice, rules=rules, streams=streams, shown=None)
    return Mended(found, f"{what} {differ} from run to run and {'is' if len(left) == 1 else 'are'} not kept")


class _Comparing:
    """The goldens of two runs of one step, under rules that are tried."""

    def __init__(self, step: Step, one: Seen, other: Seen, ignore: tuple[str, ...]) -> None:
        self._step = step
        self._both = (one, other)
        self._ignore = ignore
        sizes = [stream.size_bytes for each in self._both for stream in (each.result.stdout_stream, each.result.stderr_stream)]
        self._too_large = max(sizes) > MAX_COMPARED_BYTES

    def screen(self) -> str | None:
        """What both showed on their terminals in the end, if that is the same."""
        one, other = (each.result.screen for each in self._both)
        return one if one == other else None

    def differing(self, rules: Iterable[str]) -> frozenset[str]:
        """The names of the parts that are not the same under these rules."""
        one, other = (self._tree(each, () if self._too_large else rules) for each in self._both)
        return frozenset(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))

    def needed(self, present: Sequence[str], without: frozenset[str] = frozenset()) -> tuple[str, ...]:
        """Those of all rules that are needed for the other parts to be the same, and those that are `present`."""
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


def _text(result: StepResult) -> str:
    """What it wrote, as far as it is looked at, and the names of what it changed."""
    streams = [stream.read()[:MAX_COMPARED_BYTES] for stream in (result.stdout_stream, result.stderr_stream)]
    names = "\n".join(change.path for change in result.changes)
    return "\n".join([*(data.decode(errors="replace") for data in streams), names])


def _values(name: str, text: str, facts: Facts, given: str, now: datetime) -> Iterable[str]:
    """What the rule would replace, and nobody had put there."""
    days = {(now + timedelta(days=shift)).strftime(form) for shift in (-1, 0, 1) for form in _DATES}
    for pattern in patterns(name, facts):
        for match in pattern.regex.finditer(text):
            value: str = match["value"] if "value" in pattern.regex.groupindex else match[0]
            if value not in given and (name != "timestamp" or any(day in value for day in days)):
                yield value
