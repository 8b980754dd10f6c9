"""Replaces what differs from run to run in bytes that go into a golden; `expect` never sees normalised text.

Rules are those a plan writes out, a pattern and its replacement; names of ready-made ones belong into `_NAMED`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from testronaut_lab.errors import UsageError
from testronaut_lab.model.plan import Normalizer

Rule = Normalizer | str

_NAMED: Mapping[str, Normalizer] = {}


@dataclass(frozen=True, slots=True)
class Normalized:
    """`fired` counts the replacements of each rule by `rule_name`; a rule that found nothing is in it with 0."""

    data: bytes
    fired: Mapping[str, int]


def normalize(data: bytes, rules: Iterable[Rule]) -> Normalized:
    """Applies the rules one after the other. Bytes that are not UTF-8 pass through as they are.

    Raises UsageError for a name that is none and for a replacement that cannot be made (`\\2` without a second group).
    """
    text = data.decode(errors="surrogateescape")
    fired: Counter[str] = Counter()
    for rule in rules:
        normalizer = _normalizer(rule)
        try:
            text, count = re.subn(normalizer.matches, normalizer.replace, text)
        except (re.error, IndexError) as error:
            raise UsageError(f"replacing {normalizer.matches!r} by {normalizer.replace!r}: {error}") from error
        fired[rule_name(rule)] += count
    return Normalized(text.encode(errors="surrogateescape"), fired)


def rule_name(rule: Rule) -> str:
    """How a rule is named in messages: by its name, else by its pattern."""
    return rule if isinstance(rule, str) else rule.matches


def _normalizer(rule: Rule) -> Normalizer:
    if isinstance(rule, Normalizer):
        return rule
    if rule not in _NAMED:
        raise UsageError(f"normalize {rule!r} is not supported yet", hint="write it out: {matches: REGEX, replace: TEXT}")
    return _NAMED[rule]
