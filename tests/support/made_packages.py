"""Packages that tests make themselves: a .deb, a wheel, an npm tarball, archives; each with a program that says what it is."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path


def program(says: str) -> str:
    return f"#!/bin/sh\necho {says}\n"


def tarball(files: Mapping[str, str], mode: str = "w:gz") -> bytes:
    """Executable files, by their paths in it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:  # type: ignore[call-overload]
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(text.encode()), 0o755
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def deb(folder: Path, name: str, version: str, says: str, more: str = "", *, rename: str = "", architecture: str = "all") -> Path:
    """With a program /usr/bin/NAME, without one if it says nothing.

    `more` are lines of its control file, `rename` is what the package is called if not NAME.
    """
    package = rename or name
    control = f"Package: {package}\nVersion: {version}\nArchitecture: {architecture}\n"
    control += "Maintainer: nobody <n@example.org>\nDescription: a test\n"
    control += f"{more}\n" if more else ""
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": tarball({"./control": control}),
        "data.tar.gz": tarball({f"./usr/bin/{name}": program(says)} if says else {f"./usr/share/{name}": ""}),
    }
    data = b"!<arch>\n"
    for member, content in members.items():
        data += (
            f"{member:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode() + content + b"\n" * (len(content) % 2)
        )
    path = folder / f"{package}_{version}_{architecture}.deb"
    path.write_bytes(data)
    return path


def wheel(folder: Path, name: str, version: str, source: str) -> Path:
    """With a module of that name, whose function main is the program."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name.replace('_', '-')} = {name}:main\n",
    }
    record = "".join(f"{path},sha256={_digest(text)},{len(text.encode())}\n" for path, text in files.items())
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(file, text)
    return path


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def npm_pack(
    folder: Path, name: str, version: str, says: str, more: Mapping[str, object] | None = None, before: str = ""
) -> Path:
    """`more` is of its manifest; its program is a module that begins with `before`, where there is one."""
    kind = {"type": "module"} if before else {}
    manifest = json.dumps({"name": name, "version": version, "bin": {name: "cli.js"}, **kind, **(more or {})})
    script = f"#!/usr/bin/env node\n{before}console.log({json.dumps(says)});\n"
    path = folder / f"{name}-{version}.tgz"
    path.write_bytes(tarball({"package/package.json": manifest, "package/cli.js": script}))
    return path
