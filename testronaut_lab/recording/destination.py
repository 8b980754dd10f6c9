"""Where a recorded plan is written. The place is checked before recording starts; everything is written at the end.

Goldens and the files beside the plan are written first, the plan last: whoever finds the plan finds all of it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from testronaut_lab.config import load_config, plan_root
from testronaut_lab.errors import CaptureError, UsageError
from testronaut_lab.golden.places import GoldenKey
from testronaut_lab.golden.render import GoldenTree
from testronaut_lab.golden.store import GoldenStore
from testronaut_lab.model.plan import FileSpec
from testronaut_lab.planfile import SUFFIXES, read_plans

_ANY_PLAN = '{"version": 1, "image": "scratch", "steps": [":"]}'


@dataclass(frozen=True, slots=True)
class PlanDestination:
    """The place of a plan file. `root` is the project's folder, `case` the node id of the plan's only case."""

    path: Path
    root: Path
    case: str
    overwrite: bool

    @classmethod
    def at(cls, path: str | Path, *, overwrite: bool = False) -> PlanDestination:
        """Check a path and return its place.

        Raises UsageError for a name that is no plan's, and for something that exists unless `overwrite` is set.
        """
        given = Path(path)
        if not given.name.endswith(SUFFIXES) or given.name in SUFFIXES:
            plain = given.name.removesuffix(".yaml").removesuffix(".yml").removesuffix(".json").removesuffix(".lab")
            into = given if given.is_dir() else given.parent
            raise UsageError(
                f"saving a plan as {str(path) or repr('')}: the name of a plan file ends in {', '.join(SUFFIXES)}",
                hint=str(into / f"{(into != given and plain) or 'plan'}.lab.yaml"),
            )
        if not given.name.isprintable():
            raise UsageError(
                f"saving a plan as {str(given)!r}: a character in its name cannot be shown, nor be part of a node id",
                hint=str(given.with_name("plan.lab.yaml")),
            )
        if not given.parent.is_dir():
            hint = f"mkdir -p {shlex.quote(str(given.parent))}"
            raise UsageError(f"saving a plan as {given}: there is no folder {given.parent}", hint=hint)
        whole = given.parent.resolve() / given.name
        root = plan_root(whole)
        [plan] = read_plans(_ANY_PLAN, whole, root=root, defaults=load_config(root).defaults)
        place = cls(whole, root, plan.cases[0].nodeid, overwrite)
        place._check()
        return place

    @property
    def folder(self) -> Path:
        return self.path.parent

    @property
    def stem(self) -> str:
        return next(self.path.name.removesuffix(suffix) for suffix in SUFFIXES if self.path.name.endswith(suffix))

    @property
    def aside(self) -> Path:
        """The folder for the files that lie beside the plan."""
        return self.folder / f"{self.stem}.files"

    def write(self, text: str, goldens: Mapping[str, GoldenTree], workshop: Path) -> None:
        """Write the plan, its goldens by step id, and the files beside the plan, which `workshop` holds.

        Raises UsageError if somebody else has written there since `at`, CaptureError if writing fails.
        """
        self._check()
        keys = {name: GoldenKey.of(f"{self.case}::{name}") for name in goldens}
        store = GoldenStore(self.root / "snapshots")
        try:
            self._replace_aside(workshop / self.aside.name)
            stale = [place for place in self._goldens(store) if place not in {key.place for key in keys.values()}]
            for name, tree in goldens.items():
                store.write(keys[name], tree)
            self._place(text)
            store.remove(stale)
        except OSError as error:
            raise CaptureError(f"writing the plan {self.path}: {error.strerror or error}") from error

    def _check(self) -> None:
        if self.overwrite:
            if self.path.is_dir():
                raise UsageError(f"saving a plan as {self.path}: it is a folder", hint=f"ls {shlex.quote(str(self.path))}")
            return
        store = GoldenStore(self.root / "snapshots")
        there = [*([self.path] if os.path.lexists(self.path) else []), *([self.aside] if os.path.lexists(self.aside) else [])]
        there += [store.root / place for place in self._goldens(store)][:1]
        if there:
            what = "there are goldens of a plan of that name" if there[0].is_relative_to(store.root) else "it exists"
            raise UsageError(
                f"saving a plan as {self.path}: {what}: {there[0]}",
                hint="to replace it: --force, or overwrite=True from Python",
            )

    def _goldens(self, store: GoldenStore) -> list[str]:
        """Return the places of the goldens of a plan with this name, in any case."""
        prefix = GoldenKey.of(f"{self.case}::x").place.removesuffix("/main/x")
        found = [orphan.place for orphan in store.orphans([]) if orphan.strange is None]
        return [place for place in found if place.startswith(f"{prefix}/") and place.removeprefix(f"{prefix}/").count("/") == 1]

    def _replace_aside(self, made: Path) -> None:
        if os.path.lexists(self.aside):
            if self.aside.is_symlink() or not self.aside.is_dir():
                raise UsageError(
                    f"saving a plan as {self.path}: {self.aside} is no folder", hint=f"rm {shlex.quote(str(self.aside))}"
                )
            shutil.rmtree(self.aside)
        if made.exists():
            shutil.copytree(made, self.aside, symlinks=True)

    def _place(self, text: str) -> None:
        """Write the whole plan file or nothing. Without `overwrite`, a file that appeared since the check is kept."""
        handle, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.folder)
        try:
            with open(handle, "w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
            if self.overwrite:
                os.replace(name, self.path)
            else:
                os.link(name, self.path)
        finally:
            if os.path.lexists(name):
                os.unlink(name)


def lay_out(beside: Mapping[str, FileSpec], folder: Path) -> None:
    """Write the files that lie beside a plan into `folder`, by relative path. Raises CaptureError."""
    for place, file in beside.items():
        target = folder / place
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.source is not None and file.source.is_dir():
                shutil.copytree(file.source, target, symlinks=True, dirs_exist_ok=True)
                continue
            content = file.source.read_bytes() if file.source is not None else file.content or b""
            target.write_bytes(content)
            target.chmod(_mode(file))
        except (OSError, shutil.Error) as error:
            raise CaptureError(f"keeping {file.source or place} beside the plan: {error}") from error


def _mode(file: FileSpec) -> int:
    if file.mode is not None:
        return file.mode
    return 0o644 if file.source is None else file.source.stat().st_mode & 0o777
