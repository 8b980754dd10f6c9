"""The part of a plan about where its steps run: the image, the limits, the files in the workspace.

The tools in the image are in `tools.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from testronaut_lab.model.plan import Bootstrap, Build, FileSpec, ImageSource, ImageSpec, Limits, Load, Rootfs
from testronaut_lab.model.releases import release_called
from testronaut_lab.planfile.grammar import types, values
from testronaut_lab.planfile.schema.containers import Either, MapOf
from testronaut_lab.planfile.schema.fields import Number, PlanPath, Reading, Schema, Text, choice
from testronaut_lab.planfile.schema.table import Key, Table
from testronaut_lab.planfile.schema.tree import Node

_REF: Final = Text("an image such as debian:bookworm-slim", values.image_ref, {"pattern": "^[A-Za-z0-9]"})


@dataclass(frozen=True, slots=True)
class _FromPath:
    """An image made from a file, or from a folder with a Dockerfile. The path is relative to the plan; `anywhere` allows
    others.
    """

    words: str
    source: Callable[[Path], ImageSource]
    folder: bool = False
    anywhere: bool = False

    def read(self, node: Node, at: str, reading: Reading) -> ImageSpec:
        text = str(Text(self.words).read(node, at, reading))
        path = PlanPath(self.words, folders=self.folder, anywhere=self.anywhere).find(text, node, at, reading)
        if self.folder and not path.is_dir():
            raise reading.refuse(node, at, f"expected {self.words}, and {text!r} is a file")
        return ImageSpec(text, source=self.source(path))

    def schema(self, _definitions: Schema, /) -> Schema:
        return {"type": "string", "minLength": 1, "description": self.words}


def _bootstrap(value: str) -> ImageSpec:
    return ImageSpec(release_called(value), source=Bootstrap())


def _image(ref: str | None = None, pull: str | None = None, **source: ImageSpec) -> ImageSpec:
    if ref is not None:
        return ImageSpec(ref) if pull is None else ImageSpec(ref, pull)  # type: ignore[arg-type]
    [(key, spec)] = source.items()
    if pull is not None:
        raise ValueError(f"'pull' is for 'ref': {key!r} is never pulled")
    return spec


def _image_of(*, anywhere: bool) -> Either:
    return Either(
        text=Text(_REF.words, lambda value: ImageSpec(values.image_ref(value)), _REF.shape),
        table=Table(
            "image",
            {
                "ref": _REF,
                "pull": choice("missing", "always", "never"),
                "build": _FromPath("the path of a folder with a Dockerfile", Build, folder=True, anywhere=anywhere),
                "load": _FromPath("the path of a tar that `docker save` wrote", Load, anywhere=anywhere),
                "rootfs": _FromPath("the path of a tar of a root file system", Rootfs, anywhere=anywhere),
                "bootstrap": Text("a release such as bookworm, bookworm-slim or noble", _bootstrap, {"minLength": 1}),
            },
            _image,
            exactly_one=[("ref", "build", "load", "rootfs", "bootstrap")],
        ),
    )


IMAGE: Final = _image_of(anywhere=False)
# for an image given in Python: paths may be absolute
IMAGE_BY_HAND: Final = _image_of(anywhere=True)

LIMITS: Final = Table(
    "limits",
    {
        "timeout": Key(types.DURATION, "timeout_s"),
        "case_timeout": Key(types.DURATION, "case_timeout_s"),
        "memory": Key(types.SIZE, "memory_bytes"),
        "cpus": Number("a number of CPUs", 0.01, 1024, whole=False),
        "pids": Number("a whole number", 1, 4_000_000),
        "output": Key(types.SIZE, "output_bytes"),
        "workspace": Key(types.SIZE, "workspace_bytes"),
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
            "base64": types.BASE64,
            "source": PlanPath("the path of a file or folder relative to the plan", folders=True),
            "mode": Text("a mode in octal", values.file_mode, {"pattern": "^0?[0-7]{3,4}$"}),
        },
        _file,
        exactly_one=[("text", "base64", "source")],
    ),
)
FILES: Final = MapOf(Text("a path in the workspace", values.workspace_path, {"minLength": 1}), FILE)
