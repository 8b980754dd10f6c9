"""Writes into the labels of an image how it was made: the base, the packages, how they were installed, the time.

`of_labels` reads what `labels` writes. Long lists of packages are compressed, because an image with npm has hundreds.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from testronaut_lab.model.result import ImageInfo, ToolInfo

TOOLS_LABEL = "org.testronaut.tools"
BUILT_LABEL = "org.testronaut.built"
PROVENANCE_LABEL = "org.testronaut.provenance"
# Part of an image's key, so that an image with labels of another version is made again.
VERSION = 1

_READABLE_CHARACTERS = 4096
_PACKED = "zlib+base64:"
_UNPACKED_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Provenance:
    """The base image, and the tools that were installed into it."""

    base: ImageInfo
    tools: tuple[ToolInfo, ...]


_PROVENANCE: TypeAdapter[Provenance] = TypeAdapter(Provenance)


def labels(base: ImageInfo, tools: Sequence[ToolInfo], built: str) -> dict[str, str]:
    """Return the labels by name: one with everything for programs, and the tools and the time for people."""
    text = json.dumps(asdict(Provenance(base, tuple(tools))), sort_keys=True, separators=(",", ":"))
    short = [{"name": tool.name, "version": tool.version, "strategy": tool.strategy} for tool in tools]
    return {
        TOOLS_LABEL: json.dumps(short, sort_keys=True),
        BUILT_LABEL: built,
        PROVENANCE_LABEL: text if len(text) <= _READABLE_CHARACTERS else _PACKED + _packed(text),
    }


def of_labels(found: Mapping[str, str]) -> Provenance | None:
    """Read the provenance from labels; None if there is none or another version wrote it."""
    text = found.get(PROVENANCE_LABEL, "")
    try:
        if text.startswith(_PACKED):
            text = _unpacked(text.removeprefix(_PACKED))
        return _PROVENANCE.validate_json(text)
    except (ValidationError, ValueError, zlib.error):
        return None


def _packed(text: str) -> str:
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def _unpacked(text: str) -> str:
    data = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), _UNPACKED_BYTES)
    return data.decode()
