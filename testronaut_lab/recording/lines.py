"""Tells whether typed text is a whole command or a shell would wait for another line. Reads the text only, runs nothing."""

from __future__ import annotations

import re
from typing import Final

_TOKEN: Final = re.compile(
    r"""
    (?P<quoted> '[^']*' | "(?:[^"\\]|\\.)*" | \\. )
  | (?P<open> ['"] | \\\Z )
  | (?P<comment> (?<![^\s;&|()]) \#[^\n]* )
  | (?P<string> <<< )
  | <<(?P<tabs>-?) [ \t]* (?P<until> (?: '[^']*' | "[^"]*" | \\. | [^\s'"\\;&|()<>] )+ )
  | (?P<newline> \n )
  | (?P<operator> && | \|\| | ;;? | [&|()] )
  | (?P<word> [^\s'"\\;&|()<>]+ )
  | (?P<other> [ \t\r\f\v]+ | [<>] | . )
    """,
    re.VERBOSE | re.DOTALL,
)
_CLOSERS: Final = {"if": "fi", "case": "esac", "for": "done", "while": "done", "until": "done", "select": "done", "{": "}"}
# A command follows these words directly.
_BEFORE_COMMANDS: Final = frozenset({"then", "do", "else", "elif", "if", "while", "until", "{", "!", "time"})
_GOES_ON: Final = frozenset({"|", "&&", "||"})


def unfinished(text: str) -> bool:
    """Whether a quote, a here-document, a bracket or a block is open, or the text ends in `\\`, `|`, `&&` or `||`."""
    return _Scan(text).unfinished()


class _Scan:
    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._closers: list[str] = []
        self._documents: list[tuple[str, bool]] = []
        self._at_command = True
        self._in_word = False
        self._last = ""

    def unfinished(self) -> bool:
        while self._position < len(self._text):
            match = _TOKEN.match(self._text, self._position)
            assert match is not None  # any character is a token
            self._position = match.end()
            if match["open"] or (match["newline"] and not self._skip_documents()):
                return True
            self._take(match)
        return bool(self._closers or self._documents) or self._last in _GOES_ON

    def _take(self, match: re.Match[str]) -> None:
        if match["until"]:
            self._documents.append((re.sub(r"['\"\\]", "", match["until"]), bool(match["tabs"])))
        elif match["operator"]:
            self._operator(match["operator"])
        elif match["word"] and self._at_command and not self._in_word:
            self._word(match["word"])
        elif match["word"] or match["quoted"]:
            self._at_command = False
        self._at_command = self._at_command or bool(match["newline"])
        self._in_word = bool(match["word"] or match["quoted"])
        if not (match["newline"] or match["comment"] or match["other"]):
            self._last = match[0]

    def _operator(self, operator: str) -> None:
        self._at_command = True
        if operator == "(":
            self._closers.append(")")
        elif operator == ")" and self._closers[-1:] == [")"]:  # otherwise it ends a pattern of `case`
            self._closers.pop()

    def _word(self, word: str) -> None:
        if word in _CLOSERS:
            self._closers.append(_CLOSERS[word])
        elif self._closers and word == self._closers[-1]:
            self._closers.pop()
        self._at_command = word in _BEFORE_COMMANDS

    def _skip_documents(self) -> bool:
        """Skip the here-documents that begin after this end of line. Returns whether all of them end."""
        while self._documents:
            until, tabs = self._documents[0]
            while True:
                if self._position >= len(self._text):
                    return False
                line, _, _ = self._text[self._position :].partition("\n")
                self._position += len(line) + 1
                if (line.lstrip("\t") if tabs else line) == until:
                    break
            self._documents.pop(0)
        return True
