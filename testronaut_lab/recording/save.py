"""Turns a recorded session into a plan with goldens, in this order.

1. `draft.py` makes the plan; `stabilize.first_choice` finds values in the output that belong to this run alone.
2. `replay.py` runs the plan in a fresh session.
3. If a step fails, `stabilize.mended` makes its next choice: more rules, fewer streams, or no golden. Then step 2 again, up to
   `MAX_REPLAYS` times.
4. `destination.py` writes the plan with its goldens, even if not all steps passed: the notes say why.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from testronaut_lab.config import load_config
from testronaut_lab.golden.render import GoldenTree
from testronaut_lab.model.plan import Plan, Step
from testronaut_lab.planfile import read_plans
from testronaut_lab.planfile.dump.tree import SETTINGS
from testronaut_lab.planfile.dump.yaml import plan_json, plan_text
from testronaut_lab.recording.destination import PlanDestination, lay_out
from testronaut_lab.recording.draft import Choice, Draft, SessionSpec, chosen, draft
from testronaut_lab.recording.journal import Entry, Put, Ran
from testronaut_lab.recording.replay import Replayed, replay
from testronaut_lab.recording.stabilize import Fix, first_choice, fix, golden, passing

MAX_REPLAYS: Final = 6

_WORKSHOP: Final = "plan"

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """A plan that was written. `notes` are by step id.

    `green` says whether all steps passed in a fresh session; None if the plan was not replayed.
    """

    path: Path
    steps: int
    goldens: int
    green: bool | None
    replays: int = 0
    duration_s: float = 0.0
    notes: Mapping[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        """Return one line: `jq.lab.yaml: 10 steps, 9 goldens; replayed in 0.4 s, all passed`."""
        counts = f"{self.path.name}: {_count(self.steps, 'step')}, {_count(self.goldens, 'golden')}"
        if self.green is None:
            return f"{counts}; not replayed"
        ended = "all passed" if self.green else "not all passed"
        times = "" if self.replays == 1 else f" {self.replays} times, the last time"
        return f"{counts}; replayed{times} in {self.duration_s:.1f} s, {ended}"


@dataclass(slots=True)
class _Outcome:
    draft: Draft
    choices: dict[str, Choice]
    in_place: bool
    goldens: Mapping[str, GoldenTree] = field(default_factory=dict)
    green: bool | None = None
    replays: int = 0
    duration_s: float = 0.0
    notes: dict[str, str] = field(default_factory=dict)
    fix: Mapping[str, Fix] = field(default_factory=dict)
    at_first: Mapping[str, str] = field(default_factory=dict)  # notes from before the first replay


def save(
    making: SessionSpec, entries: Sequence[Entry], place: PlanDestination, *, verify: bool = True, tell: Tell = lambda _line: None
) -> SavedPlan:
    """Write the recording as the plan at `place`, with its goldens. Whatever is there is replaced.

    Blocks while the plan runs: once if the replay passes, otherwise up to `MAX_REPLAYS` times. Without `verify` it does not
    run. A plan that does not pass in the end is still written, so that the recording is not lost.

    Raises UsageError for what no plan can say, CaptureError if something cannot be read or written, EngineError, InstallError.
    """
    with tempfile.TemporaryDirectory(prefix="testronaut-lab-") as scratch:
        saving = _Saving(making, entries, place, Path(scratch), tell)
        outcome = saving.settled() if verify else saving.unverified()
        place.write(saving.text(outcome, place.folder), outcome.goldens, Path(scratch) / _WORKSHOP)
    steps = len(outcome.draft.plan.steps)
    return SavedPlan(
        place.path, steps, len(outcome.goldens), outcome.green, outcome.replays, outcome.duration_s,
        _notes(outcome),
    )  # fmt: skip


class _Saving:
    def __init__(self, making: SessionSpec, entries: Sequence[Entry], place: PlanDestination, scratch: Path, tell: Tell) -> None:
        self._making = making
        self._entries = entries
        self._place = place
        self._scratch = scratch
        self._workshop = scratch / _WORKSHOP
        self._workshop.mkdir()
        self._tell = tell
        self._defaults = load_config(place.root).defaults
        self._given = _given(entries)
        self._replays = 0

    def settled(self) -> _Outcome:
        """Replay until the plan passes or nothing more can be done.

        Files that were put late go into the plan's `files:` unless the steps pass better with each file put at its time.
        """
        outcome = self._outcome(in_place=False)
        stubborn = self._attempt(outcome)
        if stubborn and outcome.draft.late:
            other = self._outcome(in_place=True)
            if self._attempt(other) < stubborn:
                outcome = other
        return self._settle(outcome)

    def unverified(self) -> _Outcome:
        outcome = self._outcome(in_place=False)
        self._prepare(outcome)
        return outcome

    def text(self, outcome: _Outcome, folder: Path) -> str:
        """Return the text of the plan for a file in `folder`."""
        written = chosen(self._draft(folder, in_place=outcome.in_place), outcome.choices)
        explicit = _explicit(self._defaults)
        if self._place.path.suffix == ".json":
            return plan_json(written, folder, explicit=explicit)
        remarks = {
            i: outcome.notes[step.id or ""]
            for i, step in enumerate(written.steps)
            if step.id in outcome.notes and not _is_by_rules(outcome.choices.get(step.id, Choice()))
        }
        return plan_text(written, folder, explicit=explicit, remarks=remarks)

    def _draft(self, folder: Path, *, in_place: bool) -> Draft:
        return draft(self._making, self._entries, folder, self._place.root, self._place.stem, in_place=in_place)

    def _outcome(self, *, in_place: bool) -> _Outcome:
        found = self._draft(self._workshop, in_place=in_place)
        lay_out(found.beside, self._workshop)
        now = datetime.now(UTC)
        first = {name: first_choice(passing(ran.seen, self._given, now)) for name, ran in found.steps.items()}
        choices = {name: choice for name, (choice, _) in first.items()}
        told = {name: note for name, (_, note) in first.items() if note and found.steps[name].golden}
        return _Outcome(found, choices, in_place, at_first=told)

    def _settle(self, outcome: _Outcome) -> _Outcome:
        """Mend and replay until the plan passes or nothing more can be done."""
        while not outcome.green and self._replays < MAX_REPLAYS and self._mend(outcome):
            self._attempt(outcome)
        return outcome

    def _attempt(self, outcome: _Outcome) -> frozenset[str]:
        """Replay the plan. Returns the failed steps that no rule can help."""
        plan = self._prepare(outcome)
        self._tell("replaying it again" if self._replays else "replaying it in a fresh session")
        replayed = replay(plan, outcome.goldens, self._scratch, self._replays)
        self._replays += 1
        outcome.replays, outcome.duration_s, outcome.green = self._replays, replayed.duration_s, replayed.green
        if replayed.error is not None:
            outcome.notes["replay"] = replayed.error.message
        outcome.fix = {
            step.id: self._mended(outcome, step, replayed, plan) for step in plan.cases[0].steps if step.id in replayed.failed
        }
        return frozenset(name for name, found in outcome.fix.items() if found.choice is None or not _is_by_rules(found.choice))

    def _mended(self, outcome: _Outcome, step: Step, replayed: Replayed, plan: Plan) -> Fix:
        ran = outcome.draft.steps.get(step.id)
        if ran is None:
            return Fix(None, "could not be done when it was replayed")
        return fix(step, outcome.choices[step.id], ran.seen, replayed.steps[step.id], plan.ignore)

    def _mend(self, outcome: _Outcome) -> bool:
        """Take over the new choices for the failed steps. Returns whether there is one to try."""
        found = outcome.fix
        outcome.notes |= {name: each.note for name, each in found.items()}
        outcome.choices |= {name: each.choice for name, each in found.items() if each.choice is not None}
        return any(each.choice is not None for each in found.values())

    def _prepare(self, outcome: _Outcome) -> Plan:
        """Return the plan as its file will be read, and set the goldens of its steps."""
        text = self.text(outcome, self._workshop)
        place, workshop = self._place, self._workshop
        [plan] = read_plans(text, place.path, root=place.root, defaults=self._defaults, folder=workshop)
        outcome.goldens = {
            step.id: golden(step, outcome.choices[step.id].shown or outcome.draft.steps[step.id].seen, plan.ignore)
            for step in plan.cases[0].steps
            if step.golden is not None and step.id in outcome.draft.steps
        }
        return plan


def _is_by_rules(choice: Choice) -> bool:
    return choice == Choice(rules=choice.rules)


def _explicit(defaults: Mapping[str, object]) -> set[str]:
    """Return the settings that the project's defaults set: the plan must write them out even if they hold the built-in
    default.
    """
    limits = defaults.get("limits")
    of_limits = {f"limits.{key}" for key in limits} if isinstance(limits, Mapping) else set()
    return {*SETTINGS, "tools"} & defaults.keys() | of_limits


def _notes(outcome: _Outcome) -> dict[str, str]:
    later = {**{name: f"not in the plan: {why}" for name, why in outcome.draft.skipped.items()}, **outcome.notes}
    names = dict.fromkeys((*outcome.at_first, *later))
    return {name: "; ".join(filter(None, (outcome.at_first.get(name), later.get(name)))) for name in names}


def _given(entries: Sequence[Entry]) -> str:
    """Return all text that the user gave to the session, to tell it from what a tool made."""
    parts: list[bytes] = []
    for entry in entries:
        match entry:
            case Put(content=bytes(content)):
                parts.append(content)
            case Ran(request=request):
                words = [request.run or "", *(request.argv or ()), *request.env.values()]
                parts += [request.stdin, *(word.encode(errors="surrogateescape") for word in words)]
    return b"\n".join(parts).decode(errors="replace")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
