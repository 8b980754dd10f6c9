"""What is needed to normalise a step's output, live or from a stored run: the rules, and the facts of its session.

`golden/patterns.py` has the named rules; `golden/normalize.py` applies rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic.dataclasses import dataclass as checked_dataclass

from testronaut_lab.model.expect import STRICT


@checked_dataclass(frozen=True, slots=True, config=STRICT)
class Normalizer:
    """A regex, and the text that replaces its matches in goldens."""

    matches: str
    replace: str


Rule = Normalizer | str


@dataclass(frozen=True, slots=True)
class Facts:
    """What rules need to know about the session. Paths are the container's; `tools` are (name of tool or program, version).

    `kernel` is the output of `uname -r`. `pids` are of one step: processes that its script can name as `$$` or `$!`.
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
    """How a step is normalised. `fired` counts what each rule replaced in the step's golden, 0 included, by `rule_name`.

    It is empty for a step without a golden: then the rules are the plan's, and nothing was compared.
    """

    rules: tuple[Rule, ...]
    facts: Facts = Facts()
    fired: Mapping[str, int] = field(default_factory=dict)


def rule_name(rule: Rule) -> str:
    """Return the name of a rule: its own, or its pattern."""
    return rule if isinstance(rule, str) else rule.matches
