"""Path patterns, as plans and goldens use them: `*` and `?` stay within one name, `**` crosses `/`.

A pattern is compared with paths in the text form of `model.files.path_text`; a backslash stands for itself. Looking for
paths is not done here: the caller has them all.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import lru_cache

_MAGIC = re.compile(r"[*?\[]")
# A `]` that comes first in a class is in it; `[` without its `]` stands for itself.
_TOKEN = re.compile(r"\*+|\?|\[[!^]?\][^\]]*\]|\[(?![!^]\])[!^]?[^\]]+\]|.", re.DOTALL)


def is_glob(pattern: str) -> bool:
    return _MAGIC.search(pattern) is not None


def matches_glob(pattern: str, path: str) -> bool:
    """Whether `path` is named by `pattern`, as a pattern or letter by letter (so that `a[1].txt` names that very file).

    A whole segment `**` stands for any number of segments, none included: `out/**` names `out` and all beneath it. Names
    that begin with a dot are like all others.
    """
    return pattern == path or _compiled(pattern).fullmatch(path) is not None


def matches_any(patterns: Iterable[str], path: str) -> bool:
    return any(matches_glob(pattern, path) for pattern in patterns)


def named_by(pattern: str, paths: Collection[str]) -> list[str]:
    """The path that is written so, if there is one; else those that match it as a pattern, sorted."""
    if pattern in paths or not is_glob(pattern):
        return [pattern] if pattern in paths else []
    return sorted(path for path in paths if matches_glob(pattern, path))


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    """The regular expression of a pattern. Each segment brings the slash before it, so that `**` can stand for nothing."""
    all_segments = pattern.split("/")
    segments = [each for i, each in enumerate(all_segments) if not (each == "**" and all_segments[i - 1 : i] == ["**"])]
    parts: list[str] = []
    slash = ""
    for index, segment in enumerate(segments):
        last = index == len(segments) - 1
        if segment != "**":
            parts.append(slash + _segment(segment))
            slash = "/"
        elif last:
            parts.append("(?:/.*)?" if slash else ".*")
        else:
            parts.append(f"{slash}(?:.*/)?")
            slash = ""
    return re.compile("".join(parts), re.DOTALL)


def _segment(segment: str) -> str:
    return "".join(_token(match[0]) for match in _TOKEN.finditer(segment))


def _token(token: str) -> str:
    if token.startswith("**"):
        return ".*"
    if token == "*":
        return "[^/]*"
    if token == "?":
        return "[^/]"
    if len(token) > 1:
        return _character_class(token[1:-1])
    return re.escape(token)


def _character_class(body: str) -> str:
    """`[abc]`, `[a-z]`, `[!abc]`; never a slash. A range that runs backwards names nothing, as in a shell."""
    negated = body[0] in "!^"
    items = re.findall(r".-.|.", body[1:] if negated else body, re.DOTALL)
    chars = "".join(map(_class_item, items))
    if not chars:
        return "[^/]" if negated else "(?!)"
    return f"(?!/)[{'^' if negated else ''}{chars}]"


def _class_item(item: str) -> str:
    if len(item) == 1:
        return re.escape(item)
    first, last = item[0], item[2]
    return f"{re.escape(first)}-{re.escape(last)}" if first <= last else ""
