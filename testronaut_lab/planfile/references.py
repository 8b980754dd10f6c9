"""Checks each `${{name}}` of a plan: that it may stand there, and that an earlier step saves that name.

`model/substitution.py` fills the values in while the plan runs; `${{matrix.KEY}}` is `schema/interpolation.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from testronaut_lab.model.substitution import references
from testronaut_lab.planfile.grammar.raw import RawCase, RawPlan, RawStep
from testronaut_lab.planfile.schema.fields import scalars
from testronaut_lab.planfile.schema.interpolation import names_key
from testronaut_lab.planfile.schema.problems import Problems, below, did_you_mean
from testronaut_lab.planfile.schema.tree import Node, ScalarNode, TableNode

_FILLED = frozenset({"argv", "env", "cwd"})
_FILLED_EXPECTATIONS = frozenset({"stdout", "stderr", "files", "screen"})
_FILLED_INTERACTIONS = frozenset({"screen", "expect", "send"})
_SCRIPTS = frozenset({"run", "skip_if"})
# Steps are checked one by one, and the content of files is not searched for references.
_NOT_OF_PLAN = frozenset({"cases", "steps", "setup", "teardown", "files", "name"})
_NOT_OF_CASE = frozenset({"steps"})


def check_steps(steps: Sequence[RawStep], problems: Problems) -> None:
    """Check the steps of one case, setup and teardown included, in the order they run in."""
    saved: set[str] = set()
    for step in steps:
        if isinstance(step.node, TableNode):
            for key, value in step.node.entries.items():
                _check_key(key, value, below(step.at, key), saved, problems)
        else:
            _check_script(step.node, step.at, saved, problems)
        saved |= step.save.keys()


def check_plan(plan: RawPlan, problems: Problems) -> None:
    """Refuse every reference outside the steps: nothing is saved there yet."""
    _check_none(plan, _NOT_OF_PLAN, problems)
    for case in plan.cases:
        _check_none(case, _NOT_OF_CASE, problems)


def _check_none(owner: RawPlan | RawCase, skipped: frozenset[str], problems: Problems) -> None:
    if not isinstance(owner.node, TableNode):
        return
    for key, value in owner.node.entries.items():
        if key not in skipped:
            for scalar, path, _ in scalars(value, below(owner.at, key)):
                _refuse(scalar, path, problems)


def _check_key(key: str, value: Node, at: str, saved: set[str], problems: Problems) -> None:
    if key in _SCRIPTS:
        _check_script(value, at, saved, problems)
        return
    for scalar, path, is_key in scalars(value, at):
        if not is_key and _is_filled(key, value, path.removeprefix(at)):
            _check_saved(scalar, path, saved, problems)
        else:
            _refuse(scalar, path, problems)


def _is_filled(key: str, value: Node, path: str) -> bool:
    """Whether `plan.substitute` fills in the value at `path` below the step's key."""
    if key == "expect":
        parts = path.removeprefix(".").split(".", 1)
        return parts[0].partition("[")[0] in _FILLED_EXPECTATIONS and not path.endswith(".file")
    if key == "interact":
        return path.partition("]")[2].lstrip(".").partition(".")[0] in _FILLED_INTERACTIONS
    return key in _FILLED or (key == "stdin" and isinstance(value, ScalarNode))


def _check_saved(scalar: ScalarNode, at: str, saved: set[str], problems: Problems) -> None:
    for name in _saved(scalar):
        if name not in saved:
            known = did_you_mean(name, saved) or "; no step before this one saves anything"
            problems.add(scalar.place, at, f"`{_reference(name)}` is saved by no earlier step of the case{known}")


def _check_script(node: Node, at: str, saved: set[str], problems: Problems) -> None:
    """Refuse a reference in a script, but only to a name that is saved: a shell script may hold `${{` for other reasons."""
    if isinstance(node, ScalarNode):
        for name in _saved(node):
            if name in saved:
                problems.add(node.place, at, f"`{_reference(name)}` cannot stand in a script; the saved value is in ${name}")


def _refuse(scalar: ScalarNode, at: str, problems: Problems) -> None:
    for name in _saved(scalar):
        where = "it can in argv, stdin, env, cwd, interact and the expected text of a step"
        problems.add(scalar.place, at, f"`{_reference(name)}` cannot stand here; {where}")


def _saved(node: ScalarNode) -> Iterator[str]:
    """Yield the saved names that the node refers to. By now, keys of the matrix are replaced by their values."""
    return (name for name in references(str(node.value)) if not names_key(name))


def _reference(name: str) -> str:
    return f"${{{{{name}}}}}"
