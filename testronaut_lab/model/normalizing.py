"""What it takes to normalise a step's output, now or from a stored run: the rules, and the facts of its session.

What each named rule does is in `golden/patterns.py`, how rules are put to work in `golden/normalize.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic.dataclasses import dataclass as checked_dataclass

from testronaut_lab.model.expect import STRICT


@checked_dataclass(frozen=True, slots=True, config=STRICT)
class Normalizer:
    """A regex, and what stands in the place of what it matches, in goldens."""

    matches: str
    replace: str


Rule = Normalizer | str


@dataclass(frozen=True, slots=True)
class Facts:
    """What rules need to know of the session. Paths are the container's; `tools` are (name of tool or program, version).

    `kernel` is what `uname -r` says; `pids` are of one step, which its own script can have named as `$$` or `$!`.
    """

    workspace: str = "/workspace"
    home: str = "/home/lab"
    tmp: str = "/tmp"
    hostname: str = "lab"
    container_id: str = ""
    tools: tuple[tuple[str, str], ...] = ()
    kernel: str = ""
    pids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Normalized:
    """How a step is normalised. `fired` counts what each rule replaced, 0 included, by `rule_name`, in the step's golden.

    It is empty for a step without a golden: then the rules are the plan's, and nothing was compared by them.
    """

    rules: tuple[Rule, ...]
    facts: Facts = Facts()
    fired: Mapping[str, int] = field(default_factory=dict)


def rule_name(rule: Rule) -> str:
    """How a rule is spoken of: by its name, else by its pattern."""
    return rule if isinstance(rule, str) else rule.matches
