"""Reads strict YAML 1.2, JSON, and trees made in Python, each into a tree of nodes (`tree.py`).

YAML comes from the parser's events, not from ruamel's constructors. Those follow aliases, merge keys and tags before we can
refuse them, and read `010` and `1:30` as numbers that the writer did not mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from testronaut_lab.model.number import ExactNumber
from testronaut_lab.planfile.schema.problems import Problems
from testronaut_lab.planfile.schema.tree import MAX_DEPTH, MAX_DIGITS, Node, TreeBuilder, Value

MAX_BYTES: Final = 2**20


def read_yaml(text: str, file: str, problems: Problems) -> Node:
    """Read YAML into a tree. Problems are added, and reading goes on to the end.

    Raises UsageError at once for text that is no YAML or is too large.
    """
    builder = TreeBuilder(file, problems)
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 2)
    try:
        for event in yaml.parse(text):
            _feed(builder, event)
    except MarkedYAMLError as error:
        line = 0 if error.problem_mark is None else error.problem_mark.line + 1
        builder.stop(line, f"this is not YAML: {error.problem or error.context}{_advice(error.problem or '')}")
    except (YAMLError, ValueError, OverflowError) as error:  # chr() inside ruamel raises these for "\UFFFFFFFF"
        builder.stop(0, f"this is not YAML: {' '.join(str(error).split())}")
    return builder.finish()


# What to do about common mistakes, such as a command line without quotes. The parser's own message does not say it.
_ADVICE: Final = (
    (r"mapping values", "; text with `: ` in it is quoted as a whole, or stands below `run: |`, and keys stand below each other"),
    (r"found character '\\t'", "; indent with spaces, not with tabs"),
    (r"found character", "; text that begins with it is quoted"),
    (r"expected <block end>, but found '<scalar>'", "; text that begins with a quote or a bracket is quoted as a whole"),
    (r"expected <block end>", "; the keys of one table stand below each other"),
    (r"but got '\{'", "; text with braces in it is quoted where it stands in braces or brackets itself"),
    (r"unknown escape character", "; in single quotes a backslash is itself"),
)


def _advice(problem: str) -> str:
    return next((advice for pattern, advice in _ADVICE if re.match(f".*{pattern}", problem)), "")


def _feed(builder: TreeBuilder, event: object) -> None:
    line = event.start_mark.line + 1 if isinstance(event, NodeEvent | DocumentStartEvent) else 0
    match event:
        case DocumentStartEvent(version=version) if version not in (None, (1, 2)):
            builder.stop(line, "a plan is YAML 1.2; leave the %YAML line out")
        case DocumentStartEvent() if builder.root is not None:
            builder.stop(line, "a plan is one document; there is a second one here")
        case AliasEvent():
            builder.problem(line, f"aliases (*{event.anchor}) are not allowed; write the value out")
            builder.scalar(None, line)
        case ScalarEvent():
            _refuse_properties(builder, event, line)
            builder.scalar(_resolve(builder, event, line), line, event.value)
        case SequenceStartEvent():
            _refuse_properties(builder, event, line)
            builder.open(line, is_table=False)
        case MappingStartEvent():
            _refuse_properties(builder, event, line)
            builder.open(line, is_table=True)
        case SequenceEndEvent() | MappingEndEvent():
            builder.close()


def _refuse_properties(builder: TreeBuilder, event: ScalarEvent | SequenceStartEvent | MappingStartEvent, line: int) -> None:
    if event.anchor is not None:
        builder.problem(line, f"anchors (&{event.anchor}) are not allowed; write the value out where it is used")
    if event.tag is not None:
        builder.problem(line, f"tags ({event.tag}) are not allowed; text is written in quotes")


_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS: Final = {word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}
_NO_NUMBER: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_LEADING_ZERO: Final = re.compile(r"[-+]?0[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?")
_INT: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")


def _resolve(builder: TreeBuilder, event: ScalarEvent, line: int) -> Value:
    """Return the value of a scalar by the core schema of YAML 1.2, where `no`, `on` and `1:30` are text."""
    text: str = event.value
    if not event.implicit[0]:
        return text
    if builder.wants_key and text == "<<":
        builder.problem(line, "merge keys (<<) are not allowed; write the entries out")
        return text
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if _NO_NUMBER.fullmatch(text):
        builder.problem(line, f"{text} is a number that a plan cannot use")
        return None
    if _LEADING_ZERO.fullmatch(text):
        builder.problem(line, f"{text} could be read in two ways; write it without the leading zero, or in quotes")
        return None
    if _INT.fullmatch(text):
        return _whole_number(builder, text, line)
    return float(text) if _FLOAT.fullmatch(text) else text


def reads_as_text(text: str) -> bool:
    """Whether this text, without quotes, reads back as text."""
    shapes = (_NO_NUMBER, _LEADING_ZERO, _INT, _FLOAT)
    return text not in _NULLS and text not in _BOOLS and not any(shape.fullmatch(text) for shape in shapes)


def _whole_number(builder: TreeBuilder, text: str, line: int) -> Value:
    if len(text) > MAX_DIGITS:
        builder.problem(line, f"a number of more than {MAX_DIGITS} digits")
        return None
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[][{}]|[^][{}\s,:"]+')


def read_json(text: str, file: str, problems: Problems) -> Node:
    """Like `read_yaml`, for JSON. json checks the whole text first; then a walk over the tokens finds the lines."""
    builder = TreeBuilder(file, problems)
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        builder.stop(error.lineno, f"this is not JSON: {error.msg}")
    except RecursionError:
        builder.stop(0, f"nested deeper than {MAX_DEPTH} levels")
    except ValueError:
        builder.stop(0, f"a number of more than {MAX_DIGITS} digits")
    line, counted = 1, 0
    for token in _TOKEN.finditer(text):
        line, counted = line + text.count("\n", counted, token.start()), token.start()
        match token[0]:
            case "{" | "[" as bracket:
                builder.open(line, is_table=bracket == "{")
            case "}" | "]":
                builder.close()
            case word:
                builder.scalar(json.loads(word), line, word)
    return builder.finish()


def read_python(value: object, file: str, problems: Problems) -> Node:
    """Make a tree of plain dicts, lists, text, numbers, booleans and None. Anything else is a problem."""
    builder = TreeBuilder(file, problems)
    _feed_python(builder, value)
    return builder.finish()


def _feed_python(builder: TreeBuilder, value: object) -> None:
    match value:
        case ExactNumber(text=text):
            builder.scalar(value, 0, text)
        case None | bool() | int() | float() | str():
            builder.scalar(value, 0)
        case Mapping():
            builder.open(0, is_table=True)
            for key, item in value.items():
                builder.scalar(key if isinstance(key, str) else None, 0)
                _feed_python(builder, item)
            builder.close()
        case list() | tuple():
            builder.open(0, is_table=False)
            for item in value:
                _feed_python(builder, item)
            builder.close()
        case _:
            builder.problem(0, f"a {type(value).__name__} cannot stand in a plan; use dict, list, str, int, float, bool or None")
            builder.scalar(None, 0)
