"""Reads what the user expects of a recorded step: `stdout contains X`, `exit 3`, `changes none` …

The words become the tree that a plan would hold, and the plan's grammar reads it. So nothing can be expected here that a plan
could not say. `judge/` decides whether it holds.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from testronaut_lab.errors import UsageError
from testronaut_lab.judge.jsonvalue import parse_json
from testronaut_lab.model.expect import ExitExpect, Expect, FileExpect, TextExpect
from testronaut_lab.model.result import StepResult
from testronaut_lab.planfile import parse_expectations
from testronaut_lab.planfile.grammar.raw import Expectations
from testronaut_lab.recording.draft import MAX_INLINE_TEXT_BYTES

FORMS: Final = (
    "exit 3 · signal KILL · stdout contains TEXT · stderr empty · stdout matches REGEX · stdout json_path .a 1 · "
    "file out.json · file out.json absent · changes none · changes added out/*.json · max duration 2s"
)
_STREAMS: Final = ("stdout", "stderr", "screen")
_KINDS: Final = ("added", "modified", "deleted", "retyped")

ReadFile = Callable[[str], bytes]


def expectations(words: str, result: StepResult, read: ReadFile) -> Expectations:
    """Read the words into expectations. `result` is what the step did, `read` returns a file of the workspace.

    Raises UsageError.
    """
    about, _, rest = words.strip().partition(" ")
    tree: Mapping[str, object] = _tree(about, rest.strip(), result, read)
    return parse_expectations(tree, Path.cwd())


def added(there: Expectations, more: Expectations) -> dict[str, object]:
    """Add `more` to earlier expectations. Those of one stream or file are combined; anything else is replaced."""
    merged: dict[str, object] = dict(there)
    for key, wanted in more.items():
        before = merged.get(key)
        if isinstance(before, TextExpect) and isinstance(wanted, TextExpect):
            wanted = _both(before, wanted)
        elif isinstance(before, Mapping) and isinstance(wanted, Mapping):
            wanted = {**before, **{path: _both_of_file(before.get(path), each) for path, each in wanted.items()}}
        merged[key] = wanted
    return merged


def expected(more: Expectations, end: ExitExpect | None) -> Expect:
    """Make an `Expect` of these expectations and the end that the step had."""
    fields: dict[str, object] = {**({} if end is None else {"exit": end}), **more}
    return Expect(**fields)  # type: ignore[arg-type]


def _tree(about: str, rest: str, result: StepResult, read: ReadFile) -> dict[str, JsonValue]:
    match about:
        case "exit":
            codes: list[JsonValue] = [int(word) if word.isdecimal() else word for word in rest.split()]
            return {"exit": codes[0] if len(codes) == 1 else codes}
        case "signal":
            return {"signal": rest}
        case "changes":
            kind, _, globs = rest.partition(" ")
            return {"changes": {kind: [*_words(globs)]} if kind in _KINDS else rest}
        case "max":
            key, _, value = rest.partition(" ")
            return {"max": {key: value.strip()}}
        case "file":
            path, _, matcher = _first_word(rest)
            return {"files": {path: _of_file(path, matcher, read)}}
        case _ if about in _STREAMS:
            return {about: _matcher(rest, _shown(about, result))}
    raise UsageError(f"expecting {about!r}: nothing of that name can be expected", hint=f":expect {FORMS}")


def _shown(stream: str, result: StepResult) -> str:
    return {"stdout": result.out, "stderr": result.err, "screen": result.screen or ""}[stream]


def _of_file(path: str, matcher: str, read: ReadFile) -> JsonValue:
    """Return the expectation for a file; without a matcher, its present content."""
    if matcher == "absent":
        return "absent"
    try:
        content = read(path)
    except FileNotFoundError as error:
        raise UsageError(f"expecting the file {path!r}: there is no regular file of that name in the workspace") from error
    if matcher:
        return _matcher(matcher, content.decode(errors="backslashreplace"))
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = None
    if text is None or len(content) > MAX_INLINE_TEXT_BYTES:
        raise UsageError(
            f"expecting the content of {path!r}: it is no text of at most {MAX_INLINE_TEXT_BYTES} bytes",
            hint=f":expect file {shlex.quote(path)} contains TEXT",
        )
    return {"equals": text}


def _matcher(words: str, actual: str) -> JsonValue:
    """Read `contains TEXT`, `empty`, `lines 3` …; without words, expect the present text."""
    name, _, rest = words.partition(" ")
    text = _unquoted(rest.strip())
    match name:
        case "":
            return {"equals": actual}
        case "empty":
            return {"empty": rest.strip() != "false"}
        case "contains" | "not_contains":
            return {name: [text]}
        case "equals":
            return {name: f"{text}\n" if actual == f"{text}\n" else text}
        case "lines":
            return {name: int(text) if text.isdecimal() else text}
        case "json":
            return {name: _json(rest)}
        case "json_path":
            path, _, value = _first_word(rest.strip())
            return {name: {path: _json(value)}}
        case _:
            return {name: text}


def _json(text: str) -> JsonValue:
    try:
        value: JsonValue = parse_json(text.encode(errors="surrogatepass"))
    except ValueError as error:
        raise UsageError(f"reading the JSON {text!r}: {error}") from error
    return value


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"reading {text!r}: {error}") from error


def _first_word(text: str) -> tuple[str, str, str]:
    """Return the first word without its quotes, the gap, and the rest."""
    if text[:1] in ("'", '"') and (end := text.find(text[0], 1)) > 0:
        return text[1:end], " ", text[end + 1 :].strip()
    word, gap, rest = text.partition(" ")
    return word, gap, rest.strip()


def _unquoted(text: str) -> str:
    """Remove quotes that are around the whole text."""
    try:
        words = shlex.split(text)
    except ValueError:
        return text
    return words[0] if len(words) == 1 and text[:1] in ("'", '"') else text


def _both(one: TextExpect, other: TextExpect) -> TextExpect:
    new = {name: value for name in ("equals", "matches", "lines", "empty", "file") if (value := getattr(other, name)) is not None}
    if other.has_json:
        new |= {"json": other.json, "has_json": True}
    return replace(
        one,
        contains=tuple(dict.fromkeys((*one.contains, *other.contains))),
        not_contains=tuple(dict.fromkeys((*one.not_contains, *other.not_contains))),
        json_path={**one.json_path, **other.json_path},
        **new,
    )


def _both_of_file(one: object, other: FileExpect) -> FileExpect:
    if isinstance(one, FileExpect) and one.text is not None and other.text is not None:
        return FileExpect(text=_both(one.text, other.text))
    return other
