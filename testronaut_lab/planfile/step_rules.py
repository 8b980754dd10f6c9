"""Rules between the keys of a step: which keys exclude or need each other, and which names mean running background programs.

Steps with a terminal, in the background, or that end a background program are more or less than one command in the session's
shell; most rules are about them. A single key is checked in `grammar/plan.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from testronaut_lab.planfile.grammar.raw import Expectations, RawStep
from testronaut_lab.planfile.schema.problems import Problems, below, did_you_mean
from testronaut_lab.planfile.schema.tree import TableNode

# What each key excludes. A terminal is its own input. A background program has no end to judge. `stop` and `signal` run
# nothing.
_RUNS_NOTHING = ("stdin", "env", "cwd", "tty", "interact", "background", "ready")
_EXCLUDES = {
    "tty": ("stdin", "background"),
    "background": ("expect", "golden", "save", "retry"),
    "stop": (*_RUNS_NOTHING, "retry"),
    "signal": (*_RUNS_NOTHING, "golden", "save", "retry"),
    "merge": ("tty", "background", "stop", "signal"),
}
_NEEDS = {"interact": "tty", "ready": "background"}


def check_beside(steps: Sequence[RawStep], problems: Problems) -> None:
    """Check the steps of one case, setup and teardown included, in the order they run in."""
    running: set[str] = set()
    for step in steps:
        _check_keys(step, problems)
        for key, name in _named(step):
            if name not in running:
                known = did_you_mean(name, running) or "; no step before this one starts one" * (not running)
                _refuse(step, key, f"no background program {name!r} runs here{known}", problems)
        if step.background is not None and step.background in running:
            _refuse(step, "background", f"a background program {step.background!r} runs already", problems)
        running |= {step.background} if step.background is not None else set()
        running -= {step.stop} if step.stop is not None else set()


def check_merged(steps: Sequence[RawStep], of_case: Sequence[RawStep], defaults: Expectations, problems: Problems) -> None:
    """Refuse a `merge` step that expects or saves stderr: it has none. `defaults` hold only for the steps `of_case`."""
    for step in steps:
        if not step.merge:
            continue
        if "stderr" in step.expect:
            _refuse(step, "expect", "'merge' leaves nothing on stderr; expect it of 'stdout'", problems)
        elif "stderr" in defaults and any(step is each for each in of_case):
            _refuse(step, "merge", "the 'expect' of the plan or case has 'stderr', and 'merge' leaves nothing there", problems)
        if any(save.from_ == "stderr" for save in step.save.values()):
            _refuse(step, "save", "'merge' leaves nothing on stderr; save it from 'stdout'", problems)


def left_running(steps: Sequence[RawStep]) -> list[str]:
    """Return the names of the background programs that these steps start and do not stop, in order."""
    names: dict[str, None] = {}
    for step in steps:
        if step.background is not None:
            names[step.background] = None
        if step.stop is not None:
            names.pop(step.stop, None)
    return list(names)


def _check_keys(step: RawStep, problems: Problems) -> None:
    written = set(step.node.entries) if isinstance(step.node, TableNode) else set()
    if step.tty is None:
        written.discard("tty")
    if not step.merge:
        written.discard("merge")
    for key, others in _EXCLUDES.items():
        for other in others:
            if key in written and other in written:
                _refuse(step, other, f"{key!r} and {other!r} exclude each other", problems)
    for key, other in _NEEDS.items():
        if key in written and other not in written:
            _refuse(step, key, f"{key!r} needs {other!r} beside it", problems)
    if "screen" in step.expect and step.tty is None:
        _refuse(step, "expect", "'screen' needs 'tty' in the step", problems)


def _named(step: RawStep) -> Iterator[tuple[str, str]]:
    if step.stop is not None:
        yield "stop", step.stop
    for name in step.signal:
        yield "signal", name


def _refuse(step: RawStep, key: str, message: str, problems: Problems) -> None:
    node = step.node
    place = node.keys[key] if isinstance(node, TableNode) and key in node.keys else node.place
    problems.add(place, below(step.at, key), message)
