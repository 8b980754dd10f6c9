"""JSON Schemas (draft 2020-12) of what `json.py` writes: the result document and the lines of stored facts.

Every field in them is required unless it is added as optional. Other fields are allowed, because readers must ignore unknown
ones.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, JsonValue, TypeAdapter

from testronaut_lab.model.events import Fact
from testronaut_lab.model.files import ChangeKind, FileType
from testronaut_lab.model.result import ExitKind, Phase, ShellState, Status
from testronaut_lab.report.files.json import VERSION, JsonObject

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_TEXT: JsonObject = {"type": "string"}
_TEXT_OR_NULL: JsonObject = {"type": ["string", "null"]}
_COUNT: JsonObject = {"type": "integer", "minimum": 0}
_LINE: JsonObject = {"type": "integer", "minimum": 1}
_COUNT_OR_NULL: JsonObject = {"type": ["integer", "null"], "minimum": 0}
_SECONDS: JsonObject = {"type": "number", "minimum": 0}
_FLAG: JsonObject = {"type": "boolean"}
_SHA256: JsonObject = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_TEXTS: JsonObject = {"type": "array", "items": {"type": "string"}}


def result_schema() -> JsonObject:
    """Return the schema of `--json`. Its `$defs.manifest` is the `manifest.json` of an exported bundle."""
    root = _object(
        version={"const": VERSION},
        run=_TEXT,
        started=_TEXT,
        finished=_TEXT_OR_NULL,
        status=_one_of(Status),
        engine=_or_null(_engine()),
        plans=_list(_ref("plan")),
        totals=_totals(),
    )
    parts: JsonObject = {
        "plan": _optional_error(_plan()),
        "case": _optional_error(_case()),
        "attempt": _optional_error(_object(status=_one_of(Status), duration_s=_SECONDS, steps=_list(_ref("step")))),
        "step": _step(),
        "stream": _stream(),
        "change": _change(),
        "error": _object(**{"class": _TEXT, "message": _TEXT, "hint": _TEXT_OR_NULL}),
        "manifest": _manifest(),
    }
    head: JsonObject = {"$schema": _DRAFT, "title": "A run of testronaut-lab"}
    return head | _optional_error(root) | {"$defs": parts}


def events_schema() -> JsonObject:
    """Return the schema of one line of `--events`."""
    bodies: JsonObject = TypeAdapter(Annotated[Fact, Field(discriminator="kind")]).json_schema(mode="serialization")
    stamp = _object(
        version={"const": VERSION}, seq={"type": "integer", "minimum": 1}, wall={"type": "number"}, mono={"type": "number"}
    )
    stamp["properties"] = {**_properties(stamp), "kind": {"type": "string"}}
    stamp["required"] = [*_required(stamp), "kind"]
    head: JsonObject = {"$schema": _DRAFT, "title": "One stored fact of a run of testronaut-lab"}
    return head | stamp | bodies


def _manifest() -> JsonObject:
    """Return the schema of a bundle's manifest. `files` lists all files except the manifest; all paths are of files in the
    bundle.
    """
    kept = ("name", "file", "status", "image", "tools", "network", "user", "cell")
    known = _properties(_plan())
    facts: JsonObject = {name: known[name] for name in kept}
    digest = _or_null(_SHA256)
    streams = _object(raw=_TEXT, normalized=_TEXT_OR_NULL)
    change = _object(change=_one_of(ChangeKind), path=_TEXT, type=_one_of(FileType), sha256=digest, file=_TEXT_OR_NULL)
    return _object(
        version={"const": 1},
        kind={"const": "testronaut-lab evidence"},
        lab=_object(name=_TEXT, version=_TEXT),
        run=_TEXT,
        started=_TEXT,
        finished=_TEXT_OR_NULL,
        status=_one_of(Status),
        engine=_or_null(_engine()),
        totals=_totals(),
        plans=_list(
            _object(plan=_COUNT, **facts, image_note=_TEXT_OR_NULL, digest=digest, resolved=_TEXT_OR_NULL, written=_TEXT_OR_NULL)
        ),
        steps=_list(
            _object(
                plan=_COUNT,
                nodeid=_TEXT,
                attempt=_COUNT,
                case_attempt=_COUNT,
                status=_one_of(Status),
                stdout=streams,
                stderr=streams,
                diffs=_TEXTS,
                changes=_list(change),
            )
        ),
        files=_list(
            _object(path={"type": "string", "pattern": "^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$"}, size=_COUNT, sha256=_SHA256)
        ),
    )


def _engine() -> JsonObject:
    engine = _object(name=_TEXT, version=_TEXT, api=_TEXT, driver=_TEXT)
    return engine | {"properties": {**_properties(engine), "copies": {"enum": ["traced", "forked", None]}}}


def _totals() -> JsonObject:
    return _object(**{status.value: _COUNT for status in Status})


def _plan() -> JsonObject:
    plan = _object(
        name=_TEXT,
        file=_TEXT_OR_NULL,
        image=_or_null(_object(ref=_TEXT, id=_TEXT, source=_TEXT, digests=_TEXTS, diff_ids=_TEXTS)),
        tools=_list(_tool()),
        network=_TEXT,
        user=_TEXT,
        cell={"type": "object", "additionalProperties": {"type": "string"}},
        status=_one_of(Status),
        cases=_list(_ref("case")),
    )
    plan["properties"] = {**_properties(plan), "started": _TEXT, "notes": _TEXTS}
    return plan


def _tool() -> JsonObject:
    return _object(
        name=_TEXT,
        version=_TEXT,
        strategy=_TEXT,
        spec=_TEXT,
        program=_TEXT_OR_NULL,
        packages=_list(_object(manager=_TEXT, name=_TEXT, version=_TEXT)),
        built=_TEXT,
        key=_TEXT,
    )


def _case() -> JsonObject:
    case = _object(
        id=_TEXT,
        nodeid=_TEXT,
        tags=_TEXTS,
        status=_one_of(Status),
        attempts=_COUNT,
        duration_s=_SECONDS,
        session={"enum": ["fresh", "recycled"]},
        steps=_list(_ref("step")),
    )
    earlier = _list(_ref("attempt"))
    case["properties"] = {**_properties(case), "line": _LINE, "expect_fail": _TEXT, "earlier": earlier}
    return case


def _step() -> JsonObject:
    step = _object(
        id=_TEXT,
        nodeid=_TEXT,
        phase=_one_of(Phase),
        status=_one_of(Status),
        attempts=_COUNT,
        exit=_object(kind=_one_of(ExitKind), code={"type": ["integer", "null"]}, signal=_TEXT_OR_NULL),
        stdout=_ref("stream"),
        stderr=_ref("stream"),
        changes=_list(_ref("change")),
        transient=_TEXTS,
        outside=_list(_object(change=_TEXT, path=_TEXT)),
        usage=_object(
            cpu_s={"type": ["number", "null"]},
            peak_memory_bytes=_COUNT_OR_NULL,
            method={"enum": ["reset", "sampled", "since_start", None]},
        ),
        duration_s=_SECONDS,
        cwd=_TEXT_OR_NULL,
        merged=_FLAG,
        state=_one_of(ShellState),
        left_behind=_TEXTS,
        mismatches=_list(_object(aspect=_TEXT, path=_TEXT_OR_NULL, expected=_TEXT, actual=_TEXT, diff=_TEXT_OR_NULL)),
        error=_or_null(_ref("error")),
        notes=_TEXTS,
    )
    optional: JsonObject = {"run": _TEXT, "argv": _TEXTS, "line": _LINE, "screen": _TEXT, "normalized": _normalized()}
    optional |= {"late": _list(_late()), "pids": _list(_COUNT)}
    step["properties"] = {**_properties(step), **optional}
    return step | {"oneOf": [{"required": ["run"]}, {"required": ["argv"]}]}


def _normalized() -> JsonObject:
    paths = dict.fromkeys(("workspace", "home", "tmp", "hostname", "container_id"), _TEXT)
    return _object(
        rules=_list({"anyOf": [_TEXT, _object(matches=_TEXT, replace=_TEXT)]}),
        fired={"type": "object", "additionalProperties": _COUNT},
        facts=_object(**paths, tools=_list(_object(name=_TEXT, version=_TEXT)), kernel=_TEXT, pids=_list(_COUNT)),
    )


def _stream() -> JsonObject:
    chunk: JsonObject = {"type": "array", "prefixItems": [_SECONDS, _COUNT], "minItems": 2, "maxItems": 2}
    return _object(
        bytes=_COUNT, sha256=_SHA256, text=_TEXT_OR_NULL, truncated=_FLAG, dropped=_COUNT, open=_FLAG, chunks=_list(chunk)
    )


def _late() -> JsonObject:
    return _object(
        stream={"enum": ["stdout", "stderr"]},
        bytes=_COUNT,
        sha256=_SHA256,
        text=_TEXT_OR_NULL,
        truncated=_FLAG,
        dropped=_COUNT,
        during=_TEXT_OR_NULL,
    )


def _change() -> JsonObject:
    return _object(
        change=_one_of(ChangeKind),
        path=_TEXT,
        type=_one_of(FileType),
        mode={"type": ["string", "null"], "pattern": "^[0-7]{4}$"},
        size=_COUNT_OR_NULL,
        sha256=_or_null(_SHA256),
        target=_TEXT_OR_NULL,
    )


def _object(**properties: JsonValue) -> JsonObject:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _optional_error(schema: JsonObject) -> JsonObject:
    return schema | {"properties": {**_properties(schema), "error": _ref("error")}}


def _properties(schema: JsonObject) -> JsonObject:
    properties = schema["properties"]
    assert isinstance(properties, dict)
    return properties


def _required(schema: JsonObject) -> list[JsonValue]:
    required = schema["required"]
    assert isinstance(required, list)
    return required


def _list(items: JsonObject) -> JsonObject:
    return {"type": "array", "items": items}


def _one_of(values: type[StrEnum]) -> JsonObject:
    return {"enum": [value.value for value in values]}


def _or_null(schema: JsonObject) -> JsonObject:
    return {"anyOf": [schema, {"type": "null"}]}


def _ref(name: str) -> JsonObject:
    return {"$ref": f"#/$defs/{name}"}
