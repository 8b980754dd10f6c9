"""The pages of the reference that are generated from the code: plan file, command line, Python, results, events, database.

Each function returns the Markdown of one page. What a key or a verb is for stands in the code, and only there.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

import testronaut_lab
from testronaut_lab.cli import dispatch  # noqa: F401 - hangs the verbs on the app
from testronaut_lab.cli.app import app
from testronaut_lab.errors import EXIT_STATUS_MEANING
from testronaut_lab.store.tables import metadata

if TYPE_CHECKING:
    from typer._click import Command

Schema = Mapping[str, Any]

_MATRIX_REFERENCE = "matrix\\."
_NAMES = "names for normalize"


def write(folder: Path) -> None:
    """Write all generated pages into `folder`, beside those that are written by hand."""
    folder.mkdir(exist_ok=True)
    pages = {
        "plan": plan_page,
        "command-line": command_line_page,
        "python": python_page,
        "result": result_page,
        "events": events_page,
        "database": database_page,
    }
    for name, page in pages.items():
        (folder / f"{name}.md").write_text(page())


def plan_page() -> str:
    schema = _schema("plan")
    opening = """# The plan file

A plan is `*.lab.yaml`, `*.lab.yml` or `*.lab.json`: YAML 1.2 without anchors, aliases and duplicate keys. Paths are relative
to the plan. `testronaut-lab schema plan` prints the JSON Schema that this page is made from.

In a plan with a `matrix`, `${{matrix.KEY}}` can stand for any value below that is no name, script or pattern.
"""
    return "\n".join([opening, *_definitions(schema), _names_for_normalize(schema)])


def _names_for_normalize(schema: Schema) -> str:
    """The names that stand for a normaliser, and what each does."""
    items = schema["$defs"]["plan"]["properties"]["normalize"]["items"]
    names = [name for one in items["anyOf"] for name in one.get("oneOf", ())]
    rows = [(f"`{name['const']}`", name["description"]) for name in names]
    return "\n".join([f"## {_NAMES}", "", _table(("name", "what becomes of it"), rows), ""])


def result_page() -> str:
    schema = _schema("result")
    opening = """# The result

`--json FILE` writes it, version 1. `testronaut-lab schema result` prints the JSON Schema that this page is made from. Readers
ignore keys that they do not know. `manifest` is the file of that name in an [evidence bundle](../how-to/evidence.md).
"""
    top = _section("the whole", schema)
    return "\n".join([opening, top, *_definitions(schema)])


def events_page() -> str:
    schema = _schema("events")
    kinds = {kind: reference.rpartition("/")[2] for kind, reference in schema["discriminator"]["mapping"].items()}
    listed = [f"| `{kind}` | [{name}](#{_anchor(name)}) |" for kind, name in kinds.items()]
    opening = """# The events

`--events FILE` writes the stored facts of a run as JSON lines, in their order. `testronaut-lab schema events` prints the JSON
Schema that this page is made from. Every line has the keys of *the whole*, and those of its kind.

| `kind` | keys |
|---|---|
"""
    return "\n".join([opening + "\n".join(listed) + "\n", _section("the whole", schema), *_definitions(schema)])


def _schema(kind: str) -> Schema:
    printed = subprocess.run(
        [sys.executable, "-m", "testronaut_lab.cli", "schema", kind], check=True, capture_output=True, text=True
    ).stdout
    schema: Schema = json.loads(printed)
    return schema


def _definitions(schema: Schema) -> Iterable[str]:
    return (_section(name, definition) for name, definition in schema["$defs"].items())


def _section(name: str, schema: Schema) -> str:
    """A heading, what the code says of it, and a row for each key."""
    parts = [f"## {name}", ""]
    if about := schema.get("description"):
        parts += [_prose(about), ""]
    if "enum" in schema:
        parts += ["One of " + ", ".join(f"`{value}`" for value in schema["enum"]) + ".", ""]
    properties = schema.get("properties", {})
    if properties:
        rows = [_row(key, value, key in schema.get("required", ())) for key, value in properties.items()]
        parts += _table(("key", "what it is", "value", "default", "example"), rows), ""
    return "\n".join(parts)


def _row(key: str, schema: Schema, required: bool) -> tuple[str, ...]:
    default = "required" if required else f"`{json.dumps(schema['default'])}`" if "default" in schema else ""
    examples = ", ".join(f"`{json.dumps(example, ensure_ascii=False)}`" for example in schema.get("examples", ()))
    return (f"`{key}`", _prose(schema.get("description", "")), _kind(schema), default, examples)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table without the columns in which nothing stands."""
    used = [column for column in range(len(heads)) if any(row[column] for row in rows)]
    lines = [[heads[column] for column in used], ["---"] * len(used)]
    lines += [[row[column].replace("|", "\\|").replace("\n", " ") for column in used] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _kind(schema: Schema) -> str:
    """What may stand there, in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{_anchor(name)})"
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if all("const" in each and "description" in each for each in schema.get("oneOf", ({},))):
        return f"[one of these names](#{_anchor(_NAMES)})"
    for one_of in ("anyOf", "oneOf"):
        if one_of in schema:
            return " or ".join(dict.fromkeys(_kind(each) for each in schema[one_of] if not _is_matrix_reference(each)))
    return _plain_kind(schema)


def _plain_kind(schema: Schema) -> str:
    match schema.get("type"):
        case "array":
            return f"list of {_kind(schema['items'])}" if "items" in schema else "list"
        case "object":
            values = schema.get("additionalProperties")
            keys = ", ".join(f"`{key}`" for key in schema.get("properties", ()))
            return f"mapping to {_kind(values)}" if isinstance(values, Mapping) else f"mapping: {keys}" if keys else "mapping"
        case list() as kinds:
            return " or ".join("text" if kind == "string" else kind for kind in kinds)
        case "string":
            return f"text like `{schema['pattern']}`" if "pattern" in schema else "text"
        case None:
            return "anything"
        case kind:
            return str(kind)


def _is_matrix_reference(schema: Schema) -> bool:
    return _MATRIX_REFERENCE in schema.get("pattern", "")


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


def _prose(text: str) -> str:
    """A docstring's text on one line; `<` and `{` of plain text are no markup."""
    return re.sub(r"\s*\n\s*", " ", text.strip()).replace("<", "&lt;")


def command_line_page() -> str:
    group = typer.main.get_group(app)
    verbs = [(name, group.commands[name]) for name in group.list_commands(typer.Context(group))]
    statuses = [(str(status.value), meaning) for status, meaning in EXIT_STATUS_MEANING.items()]
    opening = "# The command line\n\n`testronaut-lab VERB --help` says the same on a terminal.\n\n## Exit status\n"
    return "\n".join([opening, _table(("status", "meaning"), statuses), "", *(_verb(name, verb) for name, verb in verbs)])


def _verb(name: str, command: Command) -> str:
    """A heading and the verb's own help, with that of the verbs that it has itself."""
    parts = [f"## {name}", "", *_help(name, command)]
    for inner, its_command in getattr(command, "commands", {}).items():
        parts += _help(f"{name} {inner}", its_command)
    return "\n".join(parts)


def _help(name: str, command: Command) -> list[str]:
    with command.make_context(
        f"testronaut-lab {name}", [], resilient_parsing=True, max_content_width=100, terminal_width=100
    ) as context:
        return ["```text", command.get_help(context), "```", ""]


def python_page() -> str:
    opening = """# Python

`from testronaut_lab import …`: these names are the public ones. All others may change without notice.
"""
    directives = (f"::: testronaut_lab.{name}" for name in sorted(testronaut_lab.__all__, key=_functions_and_session_first))
    return "\n\n".join([opening, *directives, ""])


def _functions_and_session_first(name: str) -> tuple[bool, str]:
    return name not in ("Session", "run_plan"), name


def database_page() -> str:
    opening = """# The database

`.testronaut/results.db` is a SQLite database, version 1. `events` is the truth; `runs` and `steps` are indexes over it, written
in the same transaction. Larger output lies beside it, in `.testronaut/blobs/`, under its SHA-256.
"""
    return "\n".join([opening, *(_database_table(name) for name in metadata.tables)])


def _database_table(name: str) -> str:
    columns = metadata.tables[name].columns
    rows = [(f"`{column.name}`", str(column.type), _constraint(column)) for column in columns]
    return "\n".join([f"## {name}", "", _table(("column", "type", ""), rows), ""])


def _constraint(column: Any) -> str:
    return "primary key" if column.primary_key else "" if column.nullable else "not null"
