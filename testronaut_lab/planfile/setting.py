"""The part of a plan about where its steps run: the image, the tools in it, the limits, the files they find."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from testronaut_lab.model.plan import FileSpec, ImageSpec, InstallSpec, Limits, ToolSpec, Verify
from testronaut_lab.planfile import terms, values
from testronaut_lab.planfile.composite import Either, ListOf, MapOf
from testronaut_lab.planfile.kinds import Number, PlanPath, Schema, Text, choice
from testronaut_lab.planfile.table import Key, Table

_REF: Final = Text("an image such as debian:bookworm-slim", values.image_ref, {"pattern": "^[A-Za-z0-9]"})

IMAGE: Final = Either(
    text=Text(_REF.words, lambda value: ImageSpec(values.image_ref(value)), _REF.shape),
    table=Table(
        "image",
        {
            "ref": _REF,
            "pull": choice("missing", "always", "never"),
            "build": PlanPath(folders=True),
            "load": PlanPath(),
            "rootfs": PlanPath(),
            "bootstrap": terms.FILLED,
        },
        ImageSpec,
        exactly_one=[("ref", "build", "load", "rootfs", "bootstrap")],
    ),
)

_SPEC: Final[Schema] = {"pattern": "^[a-z][a-z0-9-]*:"}
INSTALL: Final = Text("STRATEGY:SPEC", values.install_spec, _SPEC)


def _tool(
    install: tuple[InstallSpec, ...], name: str | None = None, command: str | None = None, verify: Verify | None = None
) -> ToolSpec:
    return ToolSpec(name or values.package_of(install[0]), install, command, verify)


TOOL: Final = Either(
    text=Text("STRATEGY:SPEC", lambda value: _tool((values.install_spec(value),)), _SPEC),
    table=Table(
        "tool",
        {
            "name": terms.named(r"[A-Za-z0-9][A-Za-z0-9+._-]*", "a name of letters, digits, '+', '.', - and _"),
            "command": terms.named(r"[A-Za-z0-9_.\[][A-Za-z0-9+._\[-]*", "the name of a program"),
            "install": Key(
                Either(
                    text=Text("STRATEGY:SPEC", lambda value: (values.install_spec(value),), _SPEC),
                    items=ListOf(INSTALL, at_least=1),
                ),
                required=True,
            ),
            "verify": Table("verify", {"run": Key(terms.SCRIPT, required=True), "matches": terms.REGEX}, Verify),
        },
        _tool,
    ),
)

LIMITS: Final = Table(
    "limits",
    {
        "timeout": Key(terms.DURATION, "timeout_s"),
        "case_timeout": Key(terms.DURATION, "case_timeout_s"),
        "memory": Key(terms.SIZE, "memory_bytes"),
        "cpus": Number("a number of CPUs", 0.01, 1024, whole=False),
        "pids": Number("a whole number", 1, 4_000_000),
        "output": Key(terms.SIZE, "output_bytes"),
        "workspace": Key(terms.SIZE, "workspace_bytes"),
        "files": Number("a whole number", 1, 10_000_000),
    },
    Limits,
)


def _file(text: str | None = None, base64: bytes | None = None, source: Path | None = None, mode: int | None = None) -> FileSpec:
    if source is not None and mode is not None:
        raise ValueError("'mode' cannot stand beside 'source', which brings its own modes")
    return FileSpec(base64 if text is None else text.encode(), source, mode)


CONTENT: Final = Text(literal=True)
FILE: Final = Either(
    text=Text(convert=lambda value: FileSpec(value.encode()), literal=True),
    table=Table(
        "file",
        {
            "text": CONTENT,
            "base64": terms.BASE64,
            "source": PlanPath("the path of a file or folder relative to the plan", folders=True),
            "mode": Text("a mode in octal", values.file_mode, {"pattern": "^0?[0-7]{3,4}$"}),
        },
        _file,
        exactly_one=[("text", "base64", "source")],
    ),
)
FILES: Final = MapOf(Text("a path in the workspace", values.workspace_path, {"minLength": 1}), FILE)
