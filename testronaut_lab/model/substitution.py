"""`${{name}}` in text and expectations: finds the references and puts saved values in their place.

`${{'text'}}` is no reference; it stands for that text. So `${{'${{'}}` writes a text that looks like a reference.
`plan.substitute` says which fields of a step may hold references.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from pydantic import JsonValue

from testronaut_lab.errors import UsageError
from testronaut_lab.model.expect import Expect, FileExpect, TextExpect
from testronaut_lab.model.interaction import AwaitOutput, AwaitScreen, Interaction, SendText

REFERENCE = re.compile(r"\$\{\{\s*(.*?)\s*\}\}", re.DOTALL)
_LITERAL = re.compile(r"'([^']*)'")


def references(text: str) -> Iterator[str]:
    """Yield the text between the braces of each `${{…}}`, in order, except text in quotes."""
    return (match[1] for match in REFERENCE.finditer(text) if not _LITERAL.fullmatch(match[1]))


def literally(text: str) -> str:
    """Escape a text so that it stands for itself where references are filled in."""
    return text.replace("${{", "${{'${{'}}") if REFERENCE.search(text) else text


class Substitution:
    """Replaces references by values. A name without a value raises UsageError, which names `nodeid`."""

    def __init__(self, nodeid: str, values: Mapping[str, str]) -> None:
        self._nodeid = nodeid
        self._values = values

    def text(self, text: str) -> str:
        return REFERENCE.sub(lambda match: self._value(match[1]), text)

    def pattern(self, pattern: str) -> str:
        """Like `text`, with each value escaped for a regex."""
        return REFERENCE.sub(lambda match: re.escape(self._value(match[1])), pattern)

    def json(self, value: JsonValue) -> JsonValue:
        match value:
            case str():
                return self.text(value)
            case list():
                return [self.json(item) for item in value]
            case dict():
                return {key: self.json(item) for key, item in value.items()}
            case _:
                return value

    def expect(self, expect: Expect) -> Expect:
        return replace(
            expect,
            stdout=self._matchers(expect.stdout),
            stderr=self._matchers(expect.stderr),
            screen=self._matchers(expect.screen),
            files={path: self._file(file) for path, file in expect.files.items()},
        )

    def interaction(self, item: Interaction) -> Interaction:
        match item:
            case AwaitScreen(expect=expect):
                return replace(item, expect=self._text(expect))
            case AwaitOutput(pattern=pattern):
                return replace(item, pattern=self.pattern(pattern))
            case SendText(text=text):
                return replace(item, text=self.text(text))
            case _:
                return item

    def _file(self, file: FileExpect) -> FileExpect:
        return replace(file, text=self._matchers(file.text))

    def _matchers(self, text: TextExpect | None) -> TextExpect | None:
        return None if text is None else self._text(text)

    def _text(self, text: TextExpect) -> TextExpect:
        return replace(
            text,
            equals=None if text.equals is None else self.text(text.equals),
            contains=tuple(map(self.text, text.contains)),
            not_contains=tuple(map(self.text, text.not_contains)),
            matches=None if text.matches is None else self.pattern(text.matches),
            json=self.json(text.json),
            json_path={path: self.json(value) for path, value in text.json_path.items()},
        )

    def _value(self, name: str) -> str:
        if literal := _LITERAL.fullmatch(name):
            return literal[1]
        try:
            return self._values[name]
        except KeyError:
            raise UsageError(
                f"{self._nodeid}: `${{{{{name}}}}}` has no value: the step that saves it did not get that far"
            ) from None
