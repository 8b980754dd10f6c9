"""The part of a plan about where its steps run: the image, the limits, the files they find.

The tools in the image are in `tools.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from testronaut_lab.model.plan import FileSpec, ImageSpec, Limits
from testronaut_lab.planfile import terms, values
from testronaut_lab.planfile.composite import Either, MapOf
from testronaut_lab.planfile.kinds import Number, PlanPath, Text, choice
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


CONTENT: Final = Text(holds="content")
FILE: Final = Either(
    text=Text(convert=lambda value: FileSpec(value.encode()), holds="content"),
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
