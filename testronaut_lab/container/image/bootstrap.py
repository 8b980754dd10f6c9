"""Builds the root file system of a Debian or Ubuntu release from the distribution's package archive, without a registry.

It uses the mirrors that this machine's apt is configured with. `resolve.py` decides when an image is bootstrapped.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from testronaut_lab.container.engine.process import as_root, privilege, run_logged
from testronaut_lab.container.namespaces import folder_for_all, missing
from testronaut_lab.errors import EngineError
from testronaut_lab.model.releases import Release

BOOTSTRAP_TIMEOUT_S = 900.0

# dpkg options that leave out what the official -slim images leave out; packages installed later follow them, too.
_SLIM_OPTIONS = tuple(
    f"--dpkgopt={option}"
    for option in (
        "path-exclude=/usr/share/doc/*",
        "path-include=/usr/share/doc/*/copyright",
        "path-exclude=/usr/share/groff/*",
        "path-exclude=/usr/share/info/*",
        "path-exclude=/usr/share/linda/*",
        "path-exclude=/usr/share/lintian/*",
        "path-exclude=/usr/share/locale/*",
        "path-exclude=/usr/share/man/*",
    )
)
_ALIASES = ("stable", "testing", "oldstable", "unstable")
_SHIPPED_KEYS = "/usr/share/keyrings/"


@dataclass(frozen=True, slots=True)
class AptSource:
    """One line of apt's sources: binary packages of one suite. `signed_by` is a key file of this machine or None."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str | None = None
    trusted: bool = False

    def line(self) -> str:
        options = [f"signed-by={self.signed_by}"] if self.signed_by else []
        options += ["trusted=yes"] if self.trusted else []
        return " ".join(["deb", *([f"[{' '.join(options)}]"] if options else []), self.uri, self.suite, *self.components])


def bootstrap(release: Release, report: Callable[[str], None]) -> IO[bytes]:
    """Return the root file system of a release as an open temporary tar file, at its start. The caller closes it.

    Takes about half a minute and 200 MB. Without root and sudo, this uses a user namespace. Raises EngineError if mmdebstrap is
    missing or fails, with its last lines.
    """
    sources = archive_sources(release, read_sources(), *_host_release())
    with ExitStack() as undo:
        tar: IO[bytes] = undo.enter_context(TemporaryFile(prefix="testronaut-lab-"))
        _mmdebstrap(_command(release, sources), release, tar, report)
        tar.seek(0)
        undo.pop_all()
    return tar


def archive_sources(
    release: Release, sources: Sequence[AptSource], host_distribution: str, host_codename: str
) -> tuple[AptSource, ...]:
    """The apt sources for `release`: this machine's mirror with the release's suite, plus updates and security if it has them.

    Raises EngineError if this machine's apt knows no archive of that distribution.
    """
    known = [release.codename]
    if release.distribution == host_distribution:
        known += [host_codename, *_ALIASES]
    found = []
    for suffix in ("", "-updates", "-security"):
        candidates = [s for name in known for s in sources if s.suite == name + suffix and "main" in s.components]
        # Third parties use the distribution's suite names for their own archives; a mirror's path usually ends with the
        # distribution's name.
        candidates.sort(key=lambda s: not re.search(rf"/{release.distribution}[a-z-]*/?$", s.uri))
        if candidates and not (suffix and release.codename == "sid"):
            found.append(replace(candidates[0], suite=release.codename + suffix))
    if not found or found[0].suite != release.codename:
        raise EngineError(
            f"bootstrapping {release.distribution} {release.codename}: the apt sources of this machine in /etc/apt name no "
            f"{release.distribution.capitalize()} archive",
            hint=f"add a source for {release.codename} under /etc/apt/sources.list.d",
        )
    return tuple(found)


def read_sources(folder: Path = Path("/etc/apt")) -> tuple[AptSource, ...]:
    """The sources apt is configured with, from one-line and deb822 files, in apt's order. Unreadable files are left out."""
    found: list[AptSource] = []
    for path in [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]:
        parse = {".list": _one_line_sources, ".sources": _deb822_sources}.get(path.suffix)
        if parse is None:
            continue
        try:
            found += parse(path.read_text(errors="replace"))
        except (FileNotFoundError, PermissionError):
            continue
    return tuple(found)


def _one_line_sources(text: str) -> Iterator[AptSource]:
    for line in text.splitlines():
        match = re.fullmatch(r"deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s*(.*)", line.split("#")[0].strip())
        if match and not match[2].startswith("cdrom:"):
            options = dict(option.partition("=")[::2] for option in (match[1] or "").split())
            trusted = options.get("trusted") == "yes"
            yield AptSource(match[2], match[3], tuple(match[4].split()), options.get("signed-by"), trusted)


def _deb822_sources(text: str) -> Iterator[AptSource]:
    body = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", body):
        unfolded = re.sub(r"\n[ \t]+", " ", stanza)
        fields = {key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in unfolded.splitlines())}
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
            continue
        # A key may be written out in the file itself; then we use apt's global keys.
        signed_by = fields.get("signed-by")
        key_file = signed_by if signed_by and signed_by.startswith("/") and " " not in signed_by else None
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                components = tuple(fields.get("components", "").split())
                yield AptSource(uri, suite, components, key_file, trusted=fields.get("trusted") == "yes")


def _command(release: Release, sources: Iterable[AptSource]) -> list[str]:
    """mmdebstrap's command line: the smallest variant that has apt, plus CA certificates, as a tar on stdout."""
    keys = sorted({s.signed_by for s in sources if s.signed_by and not s.signed_by.startswith(_SHIPPED_KEYS)})
    hooks = []
    for key in keys:  # no package ships these keys: apt in the image must find them at the same path
        folder = shlex.quote(str(Path(key).parent))
        hooks += [f'--setup-hook=mkdir -p "$1"{folder}', f"--setup-hook=copy-in {shlex.quote(key)} {folder}"]
    return [
        "mmdebstrap",
        "--variant=minbase",
        "--include=ca-certificates",
        "--format=tar",
        '--aptopt=Acquire::Languages "none"',
        *(_SLIM_OPTIONS if release.slim else ()),
        *hooks,
        release.codename,
        "-",
        *(source.line() for source in sources),
    ]


def _mmdebstrap(command: Sequence[str], release: Release, tar: IO[bytes], report: Callable[[str], None]) -> None:
    what = f"bootstrapping {release.distribution} {release.codename} with mmdebstrap"
    if shutil.which(command[0]) is None:
        raise EngineError(f"{what}: mmdebstrap is not installed", hint="testronaut-lab engine up")
    root = privilege()
    if root is None:
        _unprivileged(command, what, tar, report)
        return
    ended = run_logged([*root, *_own_mounts(), *command], report, timeout_s=BOOTSTRAP_TIMEOUT_S, stdout=tar)
    if not ended.ok:
        raise EngineError(f"{what}: {ended.describe(BOOTSTRAP_TIMEOUT_S)}", hint=as_root("apt-get update"))


def _own_mounts() -> tuple[str, ...]:
    """The prefix that runs mmdebstrap in a mount namespace, for root.

    mmdebstrap mounts /proc, /sys and /dev/pts below its folder. Without the namespace, a kill would leave these mounts behind.
    """
    return () if shutil.which("unshare") is None else ("unshare", "--mount", "--propagation", "private")


def _unprivileged(command: Sequence[str], what: str, tar: IO[bytes], report: Callable[[str], None]) -> None:
    """Run mmdebstrap as root of a user namespace. Raises EngineError with the command that gives this user a namespace."""
    argv = [command[0], "--mode=unshare", *command[1:]]
    env = os.environ | {"TMPDIR": folder_for_all()}
    ended = run_logged(argv, report, timeout_s=BOOTSTRAP_TIMEOUT_S, stdout=tar, env=env)
    if ended.ok:
        return
    reason, hint = missing() or ("", as_root("apt-get update"))
    told = f"{what} without root: {reason}; {ended.describe(BOOTSTRAP_TIMEOUT_S)}" if reason else ""
    raise EngineError(told or f"{what}: {ended.describe(BOOTSTRAP_TIMEOUT_S)}", hint=hint)


def _host_release() -> tuple[str, str]:
    try:
        said = platform.freedesktop_os_release()
    except OSError:
        return "", ""
    return said.get("ID", ""), said.get("VERSION_CODENAME", "")
