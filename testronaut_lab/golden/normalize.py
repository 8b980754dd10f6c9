"""Replaces values that differ from run to run, in goldens and in the normalised copies of the evidence.

A rule is a name from `golden/patterns.py` or a pattern of the plan's own. Rules are applied in a fixed order:
1. the rules that shape the text: `crlf`, `progress`, `ansi`, `json`;
2. the plan's own patterns, in the order of the plan;
3. the named values. So a plan's pattern sees the values that the tool wrote, and wins over a named one.
`expect` never sees normalised text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from testronaut_lab.capture.processor import as_shown, with_newlines, without_sequences
from testronaut_lab.errors import CaptureError, UsageError
from testronaut_lab.golden.canonical import canonical
from testronaut_lab.golden.patterns import NAMED, VALUES, Pattern, patterns
from testronaut_lab.golden.timed import replaced
from testronaut_lab.model.normalizing import Facts, Normalizer, Rule, rule_name

MAX_BYTES = 16 * 2**20  # all named rules together take a second or less for 1 MiB
_NO_FACTS = Facts()
_SHAPING = {"crlf": with_newlines, "progress": as_shown, "ansi": without_sequences}
_SHAPING_ORDER = (*_SHAPING, "crlf")  # again: without the sequence in it, CR ESC [ m LF is a CR LF
_NUMBER = re.compile(r"(?<=[A-Z])#[0-9]+(?=\])")


@dataclass(frozen=True, slots=True)
class NormalizedText:
    """`fired` counts the replacements of each rule, by its `rule_name`; 0 for a rule that found nothing."""

    data: bytes
    fired: Mapping[str, int]


def normalize(data: bytes, rules: Iterable[Rule], facts: Facts = _NO_FACTS) -> NormalizedText:
    """Normalise one stream or file by itself. Bytes that are not UTF-8 pass unchanged.

    Use `Normalizing` for several texts in which equal values must get equal numbers. Raises as `Normalizing` does.
    """
    normalizing = Normalizing(rules, facts)
    return NormalizedText(normalizing.content(data), normalizing.fired)


class Normalizing:
    """Normalises the texts of one step. Equal values get equal numbers; new numbers follow the order of the calls.

    Goldens and evidence keep one order: the command, stdout, stderr, names of changed files, kept files. Raises UsageError
    for an unknown rule name, a replacement that cannot be made (`\\2` without a second group) and a pattern of the plan that
    takes longer than 10 s; CaptureError for content of more than 16 MiB.
    """

    def __init__(self, rules: Iterable[Rule], facts: Facts = _NO_FACTS) -> None:
        rules = tuple(dict.fromkeys(rules))
        named = {rule for rule in rules if isinstance(rule, str)}
        if unknown := sorted(named - NAMED.keys()):
            raise UsageError(f"normalize {unknown[0]!r}: there is no normaliser of that name", hint=f"one of {', '.join(NAMED)}")
        self._shaping = [name for name in _SHAPING_ORDER if name in named]
        self._json = "json" in named
        self._own = [rule for rule in rules if isinstance(rule, Normalizer)]
        self._values = [(name, patterns(name, facts)) for name in VALUES if name in named]
        self._fired: Counter[str] = Counter({rule_name(rule): 0 for rule in rules})
        self._numbers: dict[str, dict[str, int]] = {}
        self._known: dict[str, tuple[str, list[int]]] = {}

    @property
    def fired(self) -> Mapping[str, int]:
        """How often each rule has replaced something so far."""
        return dict(self._fired)

    def content(self, data: bytes) -> bytes:
        """Apply all rules to a stream or file."""
        if not self._fired:
            return data
        if len(data) > MAX_BYTES:
            raise CaptureError(
                f"normalising {len(data)} bytes: more than {MAX_BYTES} are not", hint="lower `limits: {output: …}`, or no rules"
            )
        text = data.decode(errors="surrogateescape")
        for name in self._shaping:
            text, count = _SHAPING[name](text)
            self._fired[name] += count
        if self._json and (written := canonical(text, self._ranks)) is not None:
            text = written[0]
            self._fired["json"] += written[1]
        return self._valued(self._by_own(text)).encode(errors="surrogateescape")

    def normalize_text(self, text: str) -> str:
        """Replace the values in a command or a name. The rules that shape the text are not applied."""
        return self._valued(self._by_own(text))

    def expect_words(self, texts: Collection[str]) -> None:
        """Announce the texts that `normalize_text` will get, so that slow patterns run once for all of them."""
        new = list(dict.fromkeys(texts))
        self._known |= zip(new, replaced(new, self._own), strict=True)

    def _by_own(self, text: str) -> str:
        known = self._known.get(text)
        text, counts = known if known is not None else replaced([text], self._own)[0]
        for rule, count in zip(self._own, counts, strict=True):
            self._fired[rule.matches] += count
        return text

    def _valued(self, text: str) -> str:
        for name, found in self._values:
            for pattern in found:
                text, count = pattern.regex.subn(partial(self._label, pattern), text)
                self._fired[name] += count
        return text

    def _label(self, pattern: Pattern, match: re.Match[str]) -> str:
        group: int | str = "value" if "value" in pattern.regex.groupindex else 0
        label, value = f"[{pattern.label}]", match[group]
        if pattern.numbered:
            numbers = self._numbers.setdefault(pattern.label, {})
            label = f"[{pattern.label}#{numbers.setdefault(value.lower() if pattern.hex else value, len(numbers) + 1)}]"
        start, end = match.start(group) - match.start(), match.end(group) - match.start()
        return match[0][:start] + label + match[0][end:]

    def _ranks(self, keys: Collection[str]) -> Mapping[str, str]:
        """The sort key of each JSON key: the normalised key without its number, so that a random key has a fixed place."""
        apart = Normalizing((*self._own, *(name for name, _ in self._values)))
        apart._values = self._values
        apart.expect_words(keys)
        return {key: _NUMBER.sub("", apart.normalize_text(key)) for key in keys}
