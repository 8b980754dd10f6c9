"""Every command that our own output prints must work as printed, where it is printed: here they are found and tried.

Tests that run the command line, or pytest with our plugin, hand over all that was written (`check`). Commands are:

* `hint: TEXT`, where TEXT is a command line if it begins with a program, an option to add if it begins with `-`, else words;
* `testronaut-lab …` between backticks, between brackets, behind a colon up to the end of the line, or alone on a line.

Each is tried at once, in a copy of the project as it is at that moment: verbs that look or decide are run, and must end with 0;
what `run` names must be there to be selected; of the verbs in `PARSED_ONLY` and of other programs that change the machine, the
line must be one that a shell and the verb understand. Words and brackets in it that are not part of the command make it fail.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from unittest.mock import patch

import typer

import testronaut_lab.cli.dispatch  # noqa: F401 - hangs the verbs on the app
from testronaut_lab.cli.app import app
from testronaut_lab.cli.dispatch import dispatch, refuse_what_is_to_come
from testronaut_lab.errors import LabError
from testronaut_lab.run.targets import chosen_plans

# Why a verb is not run where its command was printed, but its words are read as it would read them.
PARSED_ONLY = {
    "run": "it takes seconds, and what it names is looked for; what the run comes to is the tests' own business",
    "engine": "`up` and `down` change this machine, and `status` asks an engine, which not every test has",
    "images": "it asks an engine, which not every test has",
    "clean": "it removes what other tests are using",
    "install": "it takes minutes",
    "record": "it takes a session and somebody who types",
    "export": "it writes where it is told to, outside of the copy too",
    "tui": "it draws on a terminal until somebody leaves",
}
LOOKS = ("df", "ls", "cat", "tail")
SHELL_WORDS = ("cd", "export", "unset")
# Programs that a hint may name though this machine has none: their lines are read by a shell, no more.
ENGLISH = ("find", "install", "join", "look", "make", "time", "use", "write")  # and programs, in words never
ELSEWHERE = (
    "docker",
    "podman",
    "sudo",
    "apt-get",
    "usermod",
    "newgrp",
    "sysctl",
    "pip",
    "chgrp",
    "chmod",
    "kill",
    "rm",
    "mv",
    "mkdir",
)

_RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")
_OUR = r"testronaut-lab(?: [^`\n]*)?"
_PRINTED = (
    re.compile(rf"`((?:[A-Z_]+=\S* )?{_OUR})`"),
    re.compile(rf"\((?:[^()]*: )?((?:cd \S+ && )?{_OUR})\)"),
    re.compile(rf"^(?:  +|(?!Usage).*: )((?:cd \S+ && )?{_OUR})$"),
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was printed: by which words of ours, in which folder of which project, with which environment."""

    root: Path
    cwd: Path
    environ: Mapping[str, str]
    words: tuple[str, ...] = ()
    before_a_run: bool = False  # that a command line begins with, and that is not run here


@dataclass
class Tried:
    """Which commands were tried in this session, by what is the same in each of them and the test that printed them."""

    shapes: set[tuple[str, str]] = field(default_factory=set)

    def is_new(self, command: str, place: Place) -> bool:
        shape = _RUN_ID.sub("RUN", command.replace(str(place.root), "ROOT"))
        test = os.environ.get("PYTEST_CURRENT_TEST", "").partition("[")[0].partition(" ")[0]
        before = (shape, test) in self.shapes
        self.shapes.add((shape, test))
        return not before


TRIED = Tried()


def check(output: str, place: Place) -> None:
    """Fails for the first command in `output` that does not work as printed."""
    for command in commands_in(output):
        if TRIED.is_new(command, place):
            problem = tried(command, place)
            assert problem is None, f"printed, and does not work as printed: {command}\n{problem}"


def commands_in(output: str) -> Iterator[str]:
    """The commands, and the options that begin a hint, in the order in which they are printed."""
    for line in output.replace("%0A", "\n").splitlines():  # as in an annotation for GitHub
        if line.startswith("{"):
            continue  # a line of JSON, for programs
        before, is_hint, hint = line.partition("hint: ")
        if is_hint and not before.strip("│ E") and (is_command(hint) or hint.startswith("-")):
            yield hint.rstrip()
            continue
        for pattern in _PRINTED:
            if found := pattern.findall(line):
                yield from (each.rstrip() for each in found)
                break


def is_command(text: str) -> bool:
    """Whether it begins as a command line does: with a program, perhaps behind settings of the environment."""
    word = next((word for word in text.split() if not re.match(r"[A-Z_]+=", word)), "")
    if word in ("testronaut-lab", *SHELL_WORDS, *ELSEWHERE):
        return True
    return word not in ENGLISH and re.fullmatch(r"[a-z][a-z0-9.-]*", word) is not None and shutil.which(word) is not None


def tried(command: str, place: Place) -> str | None:
    """What is wrong with a command line, typed in that place; None if nothing is."""
    if command.startswith("-"):
        return _option(command, place)
    if wrong := unreadable(command):
        return wrong
    with _copied(place) as there:
        for simple in simple_commands(command):
            if wrong := _simple(simple, there):
                return wrong
            if simple[0] == "cd":
                folder = Path(place.cwd, *simple[1:])
                copied = folder.is_relative_to(place.root)
                there = replace(there, cwd=there.root / folder.relative_to(place.root) if copied else folder)
            if "run" in simple[1:2]:
                there = replace(there, before_a_run=True)
    return None


def parsed(words: Sequence[str]) -> str | None:
    """What the verb has against these words, before it does anything."""
    try:
        refuse_what_is_to_come(list(words))
    except LabError as error:
        return error.message
    command, rest = typer.main.get_command(app), list(words)
    while rest and (below := getattr(command, "commands", {}).get(rest[0])) is not None:
        command, rest = below, rest[1:]
    if hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        return f"there is no verb {rest[0]!r}"
    try:
        with redirect_stdout(StringIO()):
            command.make_context("testronaut-lab", rest)
    except typer.Exit:  # --help has been printed
        return None
    except Exception as error:  # noqa: BLE001 - whatever the parser raises is what is wrong
        return f"{type(error).__name__}: {getattr(error, 'message', error)}"
    return None


def _option(hint: str, place: Place) -> str | None:
    """An option to be added, or put in the place of the one that was wrong."""
    name = hint.split()[0].partition("=")[0]
    command = typer.main.get_command(app)
    for word in place.words:
        command = getattr(command, "commands", {}).get(word, command)
    known = {option for param in command.params for option in (*param.opts, *param.secondary_opts)}
    return None if name in known else f"{' '.join(place.words[:1])} has no option {name}"


def unreadable(command: str) -> str | None:
    """What a shell has against a line as a whole."""
    read = subprocess.run(["sh", "-n", "-c", command], capture_output=True, text=True, check=False)
    return read.stderr.strip() or None if read.returncode else None


def simple_commands(command: str) -> Iterator[list[str]]:
    """The words of each of its commands, settings of the environment included."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if set(word) <= set(";&|"):
            yield words
            words = []
        else:
            words.append(word)
    yield words


def _simple(words: list[str], place: Place) -> str | None:
    while words and (setting := re.fullmatch(r"([A-Z_]+)=(.*)", words[0])):
        place = replace(place, environ={**place.environ, setting[1]: setting[2]})
        words = words[1:]
    if not words:
        return "a command without a program"
    program, *arguments = words
    if program == "testronaut-lab":
        return _ours(arguments, place)
    if program == "cd" and not Path(place.cwd, *arguments).is_dir():
        return f"there is no folder {arguments}"
    if program in SHELL_WORDS:
        return None
    if program in LOOKS:
        ended = subprocess.run(words, cwd=place.cwd, capture_output=True, text=True, check=False)
        return None if ended.returncode == 0 else ended.stderr.strip()
    if program in ELSEWHERE or shutil.which(program):
        return None
    return f"there is no program {program!r}"


def _ours(words: list[str], place: Place) -> str | None:
    if wrong := parsed(words):
        return wrong
    verb = words[0] if words else ""
    if verb == "run" and "--help" not in words:
        return _selected(words[1:], place)
    if verb in PARSED_ONLY or not verb or place.before_a_run:
        return None
    status, said = in_place(words, place)
    return None if status == 0 and said != "nothing is pending\n" else f"exit status {status}\n{said}"


def _selected(words: list[str], place: Place) -> str | None:
    """That `run` would find what it is to run."""
    context = typer.main.get_command(app).commands["run"].make_context("run", list(words))  # type: ignore[attr-defined]
    given = context.params
    with chdir(place.cwd), patch.dict("os.environ", place.environ, clear=True):
        try:
            chosen_plans(
                given["targets"] or ["."], given["keyword"], given["image"], given["install"] or [], given["matrix"] or []
            )
        except LabError as error:
            return str(error)
    return None


def in_place(words: Sequence[str], place: Place) -> tuple[int, str]:
    """The status of a command line of ours, typed there, and what it says."""
    out = TextIOWrapper(BytesIO(), "utf-8", write_through=True)
    with chdir(place.cwd), redirect_stdout(out), redirect_stderr(out), patch.dict("os.environ", place.environ, clear=True):
        with patch("sys.argv", ["testronaut-lab", *words]):
            status = dispatch(list(words))
    assert isinstance(out.buffer, BytesIO)
    return status, out.buffer.getvalue().decode(errors="replace")


@contextmanager
def _copied(place: Place) -> Iterator[Place]:
    """The same place in a copy of the project, so that nothing is decided for the test that goes on; what is elsewhere stays."""
    with tempfile.TemporaryDirectory(prefix="printed-") as folder:
        root = Path(folder, "project")
        shutil.copytree(place.root, root, symlinks=True, ignore_dangling_symlinks=True, ignore=_no_files)
        inside = place.cwd.is_relative_to(place.root)
        yield replace(place, root=root, cwd=root / place.cwd.relative_to(place.root) if inside else place.cwd)


def _no_files(folder: str, names: list[str]) -> list[str]:
    """What cannot be copied: sockets, FIFOs, devices."""
    return [name for name in names if not (path := Path(folder, name)).is_symlink() and not path.is_file() and not path.is_dir()]
