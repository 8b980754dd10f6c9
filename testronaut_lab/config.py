"""A project's settings for all its plans: `[tool.testronaut-lab]` in pyproject.toml, or testronaut-lab.toml.

The environment (`TESTRONAUT_LAB_*`) overrides the file. `planfile/` checks `defaults` when it reads a plan.
"""

from __future__ import annotations

import difflib
import os
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from testronaut_lab.errors import UsageError
from testronaut_lab.model.runs import ArtifactPolicy
from testronaut_lab.model.units import parse_age, parse_duration, parse_size

OWN_FILE: Final = "testronaut-lab.toml"
_PREFIX: Final = "TESTRONAUT_LAB_"
SETTINGS: Final = ("artifacts", "defaults", "orphan_timeout", "require_limits", "store", "watch")
_ARTIFACTS: Final = ("max_age", "max_size")
_ARTIFACTS_FORM: Final = 'artifacts = {max_age = "30d", max_size = "5GiB"}'
_ORPHAN_TIMEOUT: Final = f"{_PREFIX}ORPHAN_TIMEOUT"
_VARIABLES: Final = {f"{_PREFIX}STORE": "store", _ORPHAN_TIMEOUT: "orphan_timeout"}
_ORPHAN_TIMEOUT_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Config:
    """A project's settings. Plans override `defaults`. `store` is the URL of a results database, None for the usual one.

    `watch`: whether workspaces are watched live beside the scans, for `transient` paths and for screens; no verdict depends on
    it. `artifacts` limits what is kept of earlier runs. With `require_limits`, no session starts whose limits cannot be
    enforced or measured. `orphan_timeout_s` is how long a session outlives its owner if nobody can prove that the owner is
    dead.
    """

    root: Path
    defaults: Mapping[str, object] = field(default_factory=dict)
    store: str | None = None
    watch: bool = True
    artifacts: ArtifactPolicy = field(default_factory=ArtifactPolicy)
    require_limits: bool = False
    orphan_timeout_s: float = _ORPHAN_TIMEOUT_S

    @property
    def results(self) -> Path:
        """Return the folder of the results."""
        return self.root / ".testronaut"

    @property
    def store_location(self) -> str | Path:
        """Return the location of the results database: the URL, or the file of this project."""
        return self.store or self.results / "results.db"


def project_root(start: Path) -> Path:
    """Return the nearest folder upward from `start` with a configuration or `.git`; otherwise the folder of `start`."""
    here = start.resolve()
    return marked_root(here) or (here if here.is_dir() else here.parent)


def plan_root(file: Path) -> Path:
    """Return the project root of a plan file: the present project's if the file is below it, otherwise the file's own.

    So goldens, results and node ids have one root, whichever plans run, and the commands that a run prints find them.
    """
    here, whole = project_root(Path.cwd()), file.parent.resolve() / file.name
    return here if whole.is_relative_to(here) else project_root(file)


def way_to(root: Path) -> str:
    """Return the start of a command about the project at `root`: `cd ROOT && ` from another project, otherwise empty."""
    return "" if root == project_root(Path.cwd()) else f"cd {shlex.quote(str(root))} && "


def marked_root(start: Path) -> Path | None:
    """Like `project_root`, but None if nothing marks a project."""
    here = start.resolve()
    folder = here if here.is_dir() else here.parent
    return next((each for each in (folder, *folder.parents) if _is_root(each)), None)


def in_ci(environ: Mapping[str, str]) -> bool:
    """Whether this is CI, where no golden is written: `CI` is set, and not empty, `0` or `false`."""
    return environ.get("CI", "") not in ("", "0", "false")


def load_config(root: Path, environ: Mapping[str, str] | None = None) -> Config:
    """Read the configuration of the project in `root`. Raises UsageError that names the file and the key."""
    environ = os.environ if environ is None else environ
    file, table = _project_table(root)
    for key in table:
        if key not in SETTINGS:
            raise UsageError(f"{file}: unknown key {key!r}{_nearest(key, SETTINGS)}")
    defaults = table.get("defaults", {})
    if not isinstance(defaults, dict):
        raise UsageError(f"{file}: defaults: expected a table, found {defaults!r}")
    store = table.get("store")
    if store is not None and not (isinstance(store, str) and store):
        raise UsageError(f"{file}: store: expected the URL of a database, found {store!r}")
    artifacts = _artifacts(file, table.get("artifacts", {}))
    return Config(
        root,
        defaults,
        _from_environment(environ).get("store") or store,
        _switch(file, table, environ, "watch", default=True),
        artifacts,
        _switch(file, table, environ, "require_limits", default=False),
        _orphan_timeout(file, table, environ),
    )


def _orphan_timeout(file: Path, table: Mapping[str, object], environ: Mapping[str, str]) -> float:
    word = _from_environment(environ).get("orphan_timeout")
    where, value = (_ORPHAN_TIMEOUT, word) if word is not None else (f"{file}: orphan_timeout", table.get("orphan_timeout"))
    if value is None:
        return _ORPHAN_TIMEOUT_S
    if not isinstance(value, str):
        raise UsageError(f"{where}: expected a text, found {value!r}", hint='orphan_timeout = "1h"')
    try:
        return parse_duration(value)
    except ValueError as error:
        raise UsageError(f"{where}: {error}, found {value!r}", hint="10m, 1h, 24h …") from error


def _switch(file: Path, table: Mapping[str, object], environ: Mapping[str, str], key: str, *, default: bool) -> bool:
    """Read a boolean: true or false in the file, on or off in the environment, which overrides the file."""
    variable = f"{_PREFIX}{key.upper()}"
    word = environ.get(variable)
    if word:
        if word not in ("on", "off"):
            raise UsageError(f"{variable}: expected on or off, found {word!r}")
        return word == "on"
    value = table.get(key, default)
    if not isinstance(value, bool):
        raise UsageError(f"{file}: {key}: expected true or false, found {value!r}")
    return value


def _artifacts(file: Path, table: object) -> ArtifactPolicy:
    if not isinstance(table, dict):
        raise UsageError(f"{file}: artifacts: expected a table, found {table!r}")
    for key, value in table.items():
        if key not in _ARTIFACTS:
            raise UsageError(f"{file}: artifacts: unknown key {key!r}{_nearest(key, _ARTIFACTS)}")
        if not isinstance(value, str):
            raise UsageError(
                f"{file}: artifacts.{key}: expected a text, found {value!r}", hint='max_age = "30d", max_size = "5GiB"'
            )
    try:
        age, size = table.get("max_age"), table.get("max_size")
        return ArtifactPolicy(None if age is None else parse_age(age), None if size is None else parse_size(size))
    except ValueError as error:
        raise UsageError(f"{file}: artifacts: {error}", hint=_ARTIFACTS_FORM) from error


def _from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    return {setting: environ[name] for name, setting in _VARIABLES.items() if environ.get(name)}


def _project_table(root: Path) -> tuple[Path, dict[str, object]]:
    own = root / OWN_FILE
    if own.is_file():
        return own, _read_toml(own)
    shared = root / "pyproject.toml"
    return shared, _section(shared) or {}


def _is_root(folder: Path) -> bool:
    return (folder / OWN_FILE).is_file() or (folder / ".git").exists() or _section(folder / "pyproject.toml") is not None


def _section(pyproject: Path) -> dict[str, object] | None:
    """Return `[tool.testronaut-lab]` of a pyproject.toml; None if it has none."""
    tool = _read_toml(pyproject).get("tool") if pyproject.is_file() else None
    section = tool.get("testronaut-lab") if isinstance(tool, dict) else None
    if section is not None and not isinstance(section, dict):
        raise UsageError(f"{pyproject}: tool.testronaut-lab: expected a table, found {section!r}")
    return section


def _read_toml(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"reading the configuration {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"reading the configuration {path}: {error}") from error


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
