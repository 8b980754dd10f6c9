"""Path patterns of plans and goldens: `*` and `?` stay within one name, `**` crosses `/`.

A pattern is compared with paths in the text form of `model.files.path_text`; a backslash stands for itself. This module does
not search for paths: the caller has them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import lru_cache

_MAGIC = re.compile(r"[*?\[]")
# A `]` at the start of a class belongs to it; a `[` without its `]` stands for itself.
_TOKEN = re.compile(r"\*+|\?|\[[!^]?\][^\]]*\]|\[(?![!^]\])[!^]?[^\]]+\]|.", re.DOTALL)


def is_glob(pattern: str) -> bool:
    return _MAGIC.search(pattern) is not None


def matches_glob(pattern: str, path: str) -> bool:
    """Whether `pattern` names `path`, as a pattern or literally (so that `a[1].txt` names that very file).

    A whole segment `**` stands for any number of segments, also none: `out/**` names `out` and everything below. Names that
    begin with a dot are like others.
    """
    return pattern == path or _compiled(pattern).fullmatch(path) is not None


def matches_any(patterns: Iterable[str], path: str) -> bool:
    return any(matches_glob(pattern, path) for pattern in patterns)


def named_by(pattern: str, paths: Collection[str]) -> list[str]:
    """Return the path that equals `pattern`, if there is one; otherwise those that match it, sorted."""
    if pattern in paths or not is_glob(pattern):
        return [pattern] if pattern in paths else []
    return sorted(path for path in paths if matches_glob(pattern, path))


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a pattern. Each segment includes the slash before it, so that `**` can stand for
    nothing.
    """
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
    """Return the expression of `[abc]`, `[a-z]` or `[!abc]`, which never match a slash. A backward range matches nothing, as in
    a shell.
    """
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
