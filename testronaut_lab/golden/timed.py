"""Applies a plan's own patterns within a time limit: a regex can run for ever, and Python cannot interrupt one.

Patterns whose worst case is harmless run in this process. All others run in a child process, which is killed at the limit.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache

from testronaut_lab.errors import CaptureError, UsageError
from testronaut_lab.model.normalizing import Normalizer

TIME_LIMIT_S = 10.0
_HARMLESS = 10_000_000  # steps of the matcher, some tenths of a second
_ENDLESS = float("inf")
_SHORT = 10  # characters: on such a short text every pattern is fast
_NOT_SYNTAX = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_REPEATED_GROUP = re.compile(r"\)\s*(?:[*+{])|\(\?[a-zA-Z]*x")
_REPEAT = re.compile(r"[*+{]|(?<![(*+?}])\?|\|")

# If the child fails, the last line of its stderr says why.
_CHILD = """
import json, re, sys
texts, rules = json.load(sys.stdin)
done = []
for text in texts:
    counts = []
    for matches, replace in rules:
        text, count = re.subn(matches, replace, text)
        counts.append(count)
    done.append((text, counts))
json.dump(done, sys.stdout)
"""


def replaced(
    texts: Sequence[str], rules: Sequence[Normalizer], time_limit_s: float = TIME_LIMIT_S
) -> list[tuple[str, list[int]]]:
    """Return each text with all rules applied in order, and how often each rule matched.

    Blocks for at most `time_limit_s` for all texts together. Raises UsageError for a pattern or replacement that cannot be
    used, and at the time limit.
    """
    if not rules or not texts:
        return [(text, [0] * len(rules)) for text in texts]
    if sum(_worst_case(rule.matches, len(text)) for rule in rules for text in texts) <= _HARMLESS:
        return [_replaced(text, rules) for text in texts]
    return _replaced_apart(texts, rules, time_limit_s)


def _replaced(text: str, rules: Sequence[Normalizer]) -> tuple[str, list[int]]:
    counts = []
    for rule in rules:
        try:
            text, count = re.subn(rule.matches, rule.replace, text)
        except (re.error, IndexError) as error:
            raise UsageError(f"replacing {rule.matches!r} by {rule.replace!r}: {error}") from error
        counts.append(count)
    return text, counts


def _replaced_apart(texts: Sequence[str], rules: Sequence[Normalizer], time_limit_s: float) -> list[tuple[str, list[int]]]:
    for rule in rules:
        _replaced("", [rule])  # a rule that is wrong in itself raises here, with its own name in the message
    patterns = ", ".join(repr(rule.matches) for rule in rules)
    task = json.dumps((list(texts), [(rule.matches, rule.replace) for rule in rules]))
    command = [sys.executable, "-I", "-S", "-c", _CHILD]
    try:
        child = subprocess.run(command, input=task, capture_output=True, text=True, timeout=time_limit_s, check=False)
    except subprocess.TimeoutExpired as error:
        size = sum(map(len, texts))
        message = f"normalising {size} characters by {patterns}: not done after {time_limit_s:g} s"
        raise UsageError(message, hint="write the pattern without one repetition inside another, such as (a+)+") from error
    except OSError as error:
        raise CaptureError(f"normalising by {patterns} in a process of its own: {error}") from error
    if child.returncode != 0:
        raise UsageError(f"normalising by {patterns}: {(child.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    return [(text, counts) for text, counts in json.loads(child.stdout)]


@lru_cache(maxsize=1024)
def _repeats(pattern: str) -> float:
    """How many parts of a pattern can match in more than one way; infinite for a repeated group."""
    syntax = _NOT_SYNTAX.sub("c", pattern)
    return _ENDLESS if _REPEATED_GROUP.search(syntax) else len(_REPEAT.findall(syntax))


def _worst_case(pattern: str, length: int) -> float:
    """An upper bound of the matcher's steps: every start, times every way to divide the text among the repetitions."""
    if length <= _SHORT:
        return 4.0**length
    try:
        return length * math.pow(length, _repeats(pattern))
    except OverflowError:
        return _ENDLESS
