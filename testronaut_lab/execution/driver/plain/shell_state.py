"""What the plain driver carries from one step's shell to the next, and what it can tell of the rest.

A shell says at its end what it holds (driver.sh), as its own quoted text; that text is cut into assignments here, never
interpreted. Pure functions and data; running shells is `driver.py`'s business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from testronaut_lab.execution.driver.script import quote

_NAME = re.compile(r"(?:(?:export|declare|typeset)\s+(?:-\S+\s+)*)?([A-Za-z_][A-Za-z0-9_]*)(?==|$)", re.DOTALL)
_FUNCTION = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\s*\(\s*\)")
_IS_FUNCTION = re.compile(r"(?:declare -\S+ )?([A-Za-z_][A-Za-z0-9_]*)(?: is a (?:shell )?function)?")

# Options that are switched on only where the step's own text begins, or that belong to the shell's invocation.
_LATE = ("xtrace", "verbose")
_OF_THE_INVOCATION = ("interactive", "stdin", "monitor", "noexec", "history")

# Variables that a shell sets as it goes.
_VOLATILE = re.compile(
    r"_|__.*|BASH.*|COLUMNS|DIRSTACK|EPOCH\w+|FUNCNAME|HISTCMD|LINENO|LINES|OLDPWD|PIPESTATUS|PPID|PWD|RANDOM|REPLY"
    r"|SECONDS|SHELLOPTS|SRANDOM"
)


@dataclass(frozen=True, slots=True)
class ShellListing:
    """One shell's own account of what it holds: text by section."""

    sections: Mapping[str, str]

    def lines(self, section: str) -> tuple[str, ...]:
        return tuple(self.sections.get(section, "").splitlines())

    def path(self, section: str) -> str:
        """A directory's name, which may hold newlines."""
        return self.sections.get(section, "").removesuffix("\n")

    def assignments(self, section: str) -> dict[str, str]:
        """Each assignment as the shell wrote it, by the variable's name."""
        return {found[1]: text for text in split(self.sections.get(section, "")) if (found := _NAME.match(text))}


@dataclass(frozen=True, slots=True)
class CarriedState:
    """What the next shell starts with. `env` holds assignments as a shell wrote them."""

    cwd: str
    oldpwd: str = "/"
    umask: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    gone: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    late_options: tuple[str, ...] = ()

    @classmethod
    def of(cls, said: ShellListing, fresh: ShellListing) -> CarriedState:
        """From what a shell said at its end, and a `fresh` one before it."""
        env = {name: text for name, text in said.assignments("env").items() if not name.startswith("__")}
        options = _changed(said, fresh, "options")
        return cls(
            cwd=said.path("cwd"),
            oldpwd=said.path("oldpwd"),
            umask="".join(said.lines("umask")),
            env=env,
            gone=tuple(name for name in fresh.assignments("env") if name not in env),
            options=(
                *(line for line in options if not line.endswith((*_LATE, *_OF_THE_INVOCATION))),
                *_changed(said, fresh, "shopt"),
            ),
            late_options=tuple(line for line in options if line.endswith(_LATE)),
        )

    @property
    def is_traced(self) -> bool:
        return any(line.endswith("-o xtrace") for line in self.late_options)

    @property
    def is_verbose(self) -> bool:
        return any(line.endswith("-o verbose") for line in self.late_options)

    def env_text(self) -> str:
        """What the next shell sources first."""
        lines = [rf"\command unset {name}" for name in self.gone]
        lines += [rf"\command umask {quote(self.umask)}"] if self.umask else []
        return "\n".join([*lines, *(text for name, text in self.env.items() if name != "PWD")]) + "\n"

    def options_text(self) -> str:
        """What it sources last, since the options hold for what comes after."""
        return "".join(f"\\command {line}\n" for line in self.options)


def split(text: str) -> Iterable[str]:
    """The assignments in a shell's listing: cut at the newlines outside of quotes."""
    start, quoted, i = 0, "", 0
    while i < len(text):
        char = text[i]
        if char == "\\" and quoted != "'":
            i += 1
        elif quoted:
            if char == quoted[-1]:
                quoted = ""
        elif char in "'\"":
            quoted = "$'" if char == "'" and text[i - 1 : i] == "$" else char
        elif char == "\n":
            yield text[start:i]
            start = i + 1
        i += 1
    if start < len(text):
        yield text[start:]


def candidates(script: str) -> tuple[str, ...]:
    """Names that a script may define as functions; the shell is asked at its end which of them are some."""
    return tuple(dict.fromkeys(_FUNCTION.findall(script)))


def not_carried(said: ShellListing, fresh: ShellListing) -> list[str]:
    """What the shell held that the next one will not have, in words."""
    functions = _functions(said)
    variables = _variables(said, fresh)
    found = [
        f"the function {', '.join(functions)}" if functions else "",
        f"the unexported variable {', '.join(variables)}" if variables else "",
        "positional parameters" if said.lines("args") not in ((), ("0",)) else "",
        "aliases" if said.lines("aliases") else "",
        "traps" if said.lines("traps") else "",
        "resource limits" if said.lines("limits") != fresh.lines("limits") else "",
        f"the open file descriptor {', '.join(said.lines('descriptors'))}" if said.lines("descriptors") else "",
    ]
    return [words for words in found if words]


def _functions(said: ShellListing) -> list[str]:
    lines = (line for line in said.lines("functions") if line.startswith("declare -") or line.endswith(" function"))
    names = [found[1] for line in lines if (found := _IS_FUNCTION.fullmatch(line))]
    return [name for name in dict.fromkeys(names) if not name.startswith("__lab_")]


def _variables(said: ShellListing, fresh: ShellListing) -> list[str]:
    """Those that are new or have another value than in a fresh shell, and are not exported."""
    before, exported = fresh.assignments("variables"), said.assignments("env")
    return [
        name
        for name, text in said.assignments("variables").items()
        if name not in exported and not _VOLATILE.fullmatch(name) and before.get(name) != text
    ]


def _changed(said: ShellListing, fresh: ShellListing, section: str) -> tuple[str, ...]:
    before = set(fresh.lines(section))
    return tuple(line for line in said.lines(section) if line not in before)
