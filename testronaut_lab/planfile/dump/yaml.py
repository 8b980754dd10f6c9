"""Writes a plan as the YAML of its file: scripts as blocks, short things in one line, quotes only where needed.

`tree.py` decides what is written. Everything written here reads back as the same through `schema/syntax.py`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from pydantic import JsonValue
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString, SingleQuotedScalarString

from testronaut_lab.model.jsontext import json_text
from testronaut_lab.model.number import ExactNumber
from testronaut_lab.planfile.dump.tree import Tree, plan_tree
from testronaut_lab.planfile.grammar.raw import RawPlan
from testronaut_lab.planfile.schema.syntax import reads_as_text

_WIDTH: Final = 100
_NO_FOLDING: Final = 2**30
# Keys that begin a part of the plan: their value never goes on one line.
_OPEN: Final = frozenset({"tools", "files", "setup", "teardown", "cases", "steps"})
# Plain text that other YAML readers, or people, take for something else.
_AMBIGUOUS: Final = re.compile(r"(?i)y|n|yes|no|on|off|[-+]?[0-9][0-9_,.:]*|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}.*|=|<<")
# A block that begins with a blank is easy to misread.
_BLANK_AT_START: Final = re.compile(r"[ \t\n]")
# Characters that cannot begin plain text.
_INDICATOR: Final = re.compile(r"""[-?:,\[\]{}#&*!|>'"%@`]""")
_NOT_PLAIN: Final = re.compile(rf"^{_INDICATOR.pattern}|: | #|:$")
_TRAILING_BLANK: Final = re.compile(r"[ \t](?:\n|\Z)")


def plan_text(plan: RawPlan, folder: Path, *, explicit: Collection[str] = (), remarks: Mapping[int, str] | None = None) -> str:
    """Return the YAML of a plan whose file is in `folder`. `remarks` are comments above a step, by the step's position."""
    tree = plan_tree(plan, folder, explicit)
    return yaml_text(tree, remarks or {})


def plan_json(plan: RawPlan, folder: Path, *, explicit: Collection[str] = ()) -> str:
    """Return the same tree as JSON, for a `*.lab.json`."""
    return json_text(plan_tree(plan, folder, explicit), indent=2) + "\n"


def yaml_text(tree: Tree, remarks: Mapping[int, str]) -> str:
    yaml = YAML(typ="rt", pure=True)
    yaml.width = _NO_FOLDING
    yaml.representer.add_representer(ExactNumber, _number)
    yaml.indent(mapping=2, sequence=4, offset=2)
    written = _table(tree, 0)
    steps = written.get("steps")
    for position, remark in remarks.items() if isinstance(steps, CommentedSeq) else ():
        steps.yaml_set_comment_before_after_key(position, before=remark, indent=2)
    stream = io.StringIO()
    yaml.dump(written, stream)
    text = stream.getvalue()
    # ruamel leaves some unprintable characters as they are in double quotes; escape them
    unseen = {char for char in set(text) if not char.isprintable() and char not in "\n\t"}
    return re.sub("|".join(map(re.escape, sorted(unseen))), _escape, text) if unseen else text


def _table(tree: Mapping[str, JsonValue], indent: int, *, inner: bool = False) -> CommentedMap:
    """Make a table. `inner` marks a part of a step or of a setting, which goes on one line if it fits."""
    made = CommentedMap()
    for key, value in tree.items():
        made[_scalar(key, block=False)] = _node(value, indent + 2, opens=key in _OPEN and not inner, inner=inner)
    return made


def _node(value: JsonValue, indent: int, *, opens: bool, inner: bool) -> object:
    made: CommentedMap | CommentedSeq
    match value:
        case str():
            return _scalar(value, block=True)
        case dict():
            made = _table(value, indent, inner=not opens or inner)
        case list():
            made = CommentedSeq([_item(item, indent, opens=opens) for item in value])
        case _:
            return value
    if not opens and not _has_tables(value) and _fits(value, indent):
        _flow(made)
    return made


def _item(value: JsonValue, indent: int, *, opens: bool) -> object:
    if isinstance(value, dict) and opens:
        return _table(value, indent + 2)
    return _node(value, indent + 2, opens=False, inner=True)


def _has_tables(value: JsonValue) -> bool:
    """Whether the value holds a list of tables, which reads better with one table a line."""
    match value:
        case list():
            return any(isinstance(each, dict) for each in value)
        case dict():
            return any(map(_has_tables, value.values()))
        case _:
            return False


def _flow(made: CommentedMap | CommentedSeq) -> None:
    made.fa.set_flow_style()
    for key, value in list(made.items()) if isinstance(made, CommentedMap) else list(enumerate(made)):
        if isinstance(value, CommentedMap | CommentedSeq):
            _flow(value)
        elif isinstance(value, LiteralScalarString):
            made[key] = DoubleQuotedScalarString(value)


def _fits(value: JsonValue, indent: int) -> bool:
    """Whether the value fits on one line and holds no text that needs a block."""
    return _length(value) + indent <= _WIDTH


def _length(value: JsonValue) -> int:
    match value:
        case str():
            return _WIDTH if "\n" in value and isinstance(_scalar(value, block=True), LiteralScalarString) else len(value) + 2
        case dict():
            return 2 + sum(len(key) + _length(each) + 4 for key, each in value.items())
        case list():
            return 2 + sum(_length(each) + 2 for each in value)
        case ExactNumber():
            return len(value.text)
        case _:
            return len(str(value))


def _number(representer: RoundTripRepresenter, number: ExactNumber) -> object:
    kind = "int" if number.text.lstrip("-+").isdecimal() else "float"  # with another kind, ruamel would write the tag out
    return representer.represent_scalar(f"tag:yaml.org,2002:{kind}", number.text)


def _is_plain_to_see(text: str) -> bool:
    """Whether a block shows the text exactly: all characters printable, no blank at its start or at the end of a line."""
    seen = text.replace("\n", "").replace("\t", "").isprintable()
    return seen and not _BLANK_AT_START.match(text) and not _TRAILING_BLANK.search(text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _scalar(text: str, *, block: bool) -> object:
    """Return the text in the style that reads best and reads back as the same text."""
    many = "\n" in text.rstrip("\n") or ("\n" in text and ('"' in text or "\\" in text))
    quotes = "'" in text and '"' in text and _NOT_PLAIN.search(text) is not None
    if block and (many or quotes) and _is_plain_to_see(text):
        return LiteralScalarString(text)
    if not text.isprintable():
        return DoubleQuotedScalarString(text)
    if not reads_as_text(text) or _AMBIGUOUS.fullmatch(text) or _INDICATOR.match(text):
        return SingleQuotedScalarString(text)
    return text
