"""Whether a session did what a plain shell does with the same texts: step by step, and in all that the shell holds at the end.

There are two truths, which differ by nature: the texts in one script, and each in a file that `.` reads (line numbers, traces,
`set -e` and `return` know the difference). A step must be as in one of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from plain_shell import PlainShell, Run, Seen
from sequences import LIBRARY
from sequences import Sequence as Steps
from support.live_session import Lab

from testronaut_lab.model.result import ShellState

# A step of its own behind each sequence. Its first line asks for what every command changes.
_FIRST = 'probe_1="$?" probe_3="$-"\n'
_FIRST_IN_BASH = """probe_1="$?" probe_2="$_" probe_3="$-" probe_4="${PIPESTATUS[*]}"
probe_2=${probe_2/#${!:-none}/job} probe_2=${probe_2/#$$/itself}
echo "last $probe_2 statuses $probe_4"
"""
_ASK = r"""
echo "status $probe_1 options $probe_3 arguments $#"
for probe_5 in "$@"; do echo "argument $probe_5"; done
trap
alias
for probe_6 in 0 1 2 3 4 5 6 7 8 9; do
probe_7=/proc/self/fd/$probe_6
if [ -e $probe_7 ]; then echo "descriptor $probe_6"; fi
for probe_8 in 0 1 2; do if [ $probe_7 -ef /proc/self/fd/$probe_8 ]; then echo "as $probe_8"; fi; done
if [ -f $probe_7 ]; then echo "a file"; fi
done
umask
echo "directory $PWD from ${OLDPWD-nowhere} job ${!:+known}"
if [ . -ef "$PWD" ]; then echo "it is there"; fi
grep -E 'Sig(Ign|Blk)' /proc/self/status
echo environment:
env
echo environment.
"""
_ASK_IN_BASH = "declare -f\ndeclare -p\nshopt\nset -o\nulimit -a\n"
_ASK_IN_OTHERS = "set\nreadonly -p\nexport -p\ntype f g h lib true test printf read pwd cd command kill wait type hi e\n"

# What is another in any two shells, or where a text comes from another file, or was told in the first line (`_`, PIPESTATUS);
# a process's number, `p`; the node id, which a plain shell has not; what CHLD traps count, `n` (docs/shell.md); the soft limit of
# open files, which some versions of runc give to an exec and others do not.
_NO_MATTER = re.compile(
    r"(declare -\S+ |readonly |export )?"
    r"(BASH_(ARG[CV]|ARGV0|COMMAND|LINENO|SOURCE)|BASHPID|EPOCH\w+|S?RANDOM|SECONDS|LINENO|PPID|FUNCNAME|HISTCMD|COPROC_PID|_"
    r"|PIPESTATUS|TESTRONAUT_LAB|n|p(?==['\"]?\d+['\"]?$)|probe_\d)(=|$)"
    r"|pending signals|open files"
)
# `$_` behind `.`, and before any command
_LAST = re.compile(r"^last (/ref/run-\d+/\w+|/run/lab/t\.[0-9a-f]+|(/usr/bin/)?bash)(?= statuses )")
_AT_ONCE = re.compile(r" [&|] |[<>]\(")
_ARE_HEARD = re.compile("set -[xTEv]|functrace|errtrace|extdebug")
_NAMES_NUMBER = re.compile(r"\$[$!p]")
_HAS_CHILD_TRAP = re.compile("CHLD|[.]/chld")
_HEARS_OF_FILES = re.compile("DEBUG|RETURN|ERR|[.]/(?:debug|err)")
_NOTHING = Seen("", "", 0)
_SHELL = r"(?:(?:[\w./-]*/)?(?:all|[0-9]+|sh|bash|dash|busybox|ash|step)|environment|\.)"
_NAME = re.compile(rf"(?m)^(?:{_SHELL}(?:: line [0-9]+|: [0-9]+)?: )+")
_BUILTIN = re.compile(r"(?m)^(\w+: )line [0-9]+: ")  # busybox
_NUMBERED = re.compile(r"(?m)(\b(?:kill -\w+ |wait |p=))[0-9]+$")


def rightly_differs(sequence: Steps, shell: str) -> bool:
    """What docs/shell.md says of a session: a restored shell has its number back only where root may write the next one; in bash
    a trap for DEBUG, ERR or RETURN hears of the `.` that reads a text with an open end. And what differs from run to run of any
    shell: in which order it and its job trace, or the commands of a pipeline; whether a job ends before it is waited for, which
    DEBUG hears of where CHLD has a trap; how many digits a number of a process has, which IFS may split.
    """
    text = "\n".join(sequence.steps)
    if "$$" in text and os.geteuid() != 0:
        return True
    if "IFS=0" in text and _NAMES_NUMBER.search(text):
        return True
    if _AT_ONCE.search(text) and "DEBUG" in text and _HAS_CHILD_TRAP.search(text):
        return True
    if shell == "bash" and "PIPESTATUS" in sequence.steps[0]:  # before any command
        return True
    if _AT_ONCE.search(text) and _ARE_HEARD.search(text):
        return True
    return shell == "bash" and bool(sequence.apart) and _HEARS_OF_FILES.search(text) is not None


def probe_text(shell: str) -> str:
    """The step that tells all that a shell of this kind can tell of itself."""
    return _FIRST_IN_BASH + _ASK + _ASK_IN_BASH if shell == "bash" else _FIRST + _ASK + _ASK_IN_OTHERS


def straight(text: str) -> str:
    """Without the shell's name and the line's number, which depend on where a text came from, and without numbers in traces."""
    return _NUMBERED.sub(r"\1[PID]", _BUILTIN.sub(r"\1", _NAME.sub("", text)))


@dataclass(frozen=True)
class Did:
    """What one step did: all that it wrote, and its status."""

    out: str
    err: str
    code: int | None


@dataclass(frozen=True)
class Performed:
    """A sequence in a session: the texts of the steps that were run and what each did, whether the last one ended the shell, and
    what the shell then told; None where that is nothing that a plain shell could tell.
    """

    texts: tuple[str, ...]
    apart: frozenset[int]
    steps: tuple[Did, ...]
    ended: bool
    told: Did | None

    def without_state(self) -> Performed:
        return replace(self, told=None)

    @property
    def living(self) -> tuple[str, ...]:
        """The texts after which the shell was asked: the one that ended it left no trace."""
        return self.texts[: len(self.texts) - self.ended]


def perform(lab: Lab, sequence: Steps, shell: str) -> Performed:
    """Run the steps in a session, up to the first that ends its shell, and ask the shell what it holds."""
    done: list[Did] = []
    ended = False
    for number, step in enumerate(sequence.steps):
        result = lab.run(step, timeout_s=20, nodeid=f"x::{number}")
        error = f"[{result.error.message}]" if result.error else ""
        done.append(Did(straight(result.out), straight(result.err) + error, result.exit.code))
        if result.state is not ShellState.KEPT:
            ended = True
            break
    told = lab.run(probe_text(shell), timeout_s=20, nodeid="x::probe")
    said = Did(straight(told.out), straight(told.err), told.exit.code)
    return Performed(sequence.steps[: len(done)], sequence.apart, tuple(done), ended, said)


class Truth:
    """What a plain shell does with the texts that were run, in one of the two ways. Each run is made when it is asked for."""

    def __init__(self, plain: PlainShell, performed: Performed, *, dotted: bool) -> None:
        self._plain, self._performed, self._dotted = plain, performed, dotted

    def _run(self, *texts: str) -> Seen:
        seen = self._plain.run(Run(texts, self._dotted, self._performed.apart, LIBRARY))
        return Seen(straight(seen.out), straight(seen.err), seen.code)

    @cached_property
    def _after(self) -> list[Seen]:
        """After each step, from the start: there the script ends."""
        texts = self._performed.texts
        return [self._run(*texts[:number]) for number in range(1, len(texts) + 1)]

    def _before(self, number: int) -> Seen:
        """The same of a script that goes on, before the step with this number. It has an open end in a file of its own."""
        if number and number - 1 in self._performed.apart:
            return self._run(*self._performed.texts[:number], "")
        return self._after[number - 1] if number else _NOTHING

    @cached_property
    def steps(self) -> list[Did]:
        return [_since(self._before(number), now) for number, now in enumerate(self._after)]

    @property
    def ended(self) -> bool:
        """Whether nothing comes after the last step."""
        return self._run(*self._performed.texts, self._probe) == self._before(len(self._performed.texts))

    @property
    def told(self) -> Did:
        living = self._performed.living
        return _since(self._before(len(living)), self._run(*living, self._probe))

    @property
    def _probe(self) -> str:
        return probe_text(self._plain.shell)


def differences(performed: Performed, truths: Sequence[Truth]) -> dict[str, object]:
    """What is as in none of the truths, by name: what the session did, and what each of them says."""
    found: dict[str, object] = {}
    for number, did in enumerate(performed.steps):
        wanted = [truth.steps[number] for truth in truths]
        if did not in wanted:
            found[f"step {number + 1}"] = (did, *wanted)
    is_open = len(performed.steps) - 1 in performed.apart  # a script that ends there has ended
    if performed.ended and not is_open and not any(truth.ended for truth in truths):
        found["end"] = "the session says that the last step ended its shell, and a plain shell goes on"
    if performed.told is not None:
        told = [_matters(truth.told) for truth in truths]
        if _matters(performed.told) not in told:
            found["state"] = _unlike(_matters(performed.told), told)
    return found


def _since(before: Seen, now: Seen) -> Did:
    return Did(_rest(before.out, now.out), _rest(before.err, now.err), now.code)


def _rest(before: str, now: str) -> str:
    return now.removeprefix(before) if now.startswith(before) else f"(not as before) {now}"


def _matters(told: Did) -> tuple[str, ...]:
    lines = (*_without_order(told.out.splitlines()), *_without_order(told.err.splitlines()))
    return tuple(
        _LAST.sub("last [FILE]", line).replace("[FILE] statuses 0", "[FILE] statuses ")
        for line in lines
        if not _NO_MATTER.match(line)
    )


def _without_order(lines: list[str]) -> list[str]:
    """With the environment sorted: its order is that in which the shell got it, and Podman gives it in any."""
    if "environment:" not in lines or "environment." not in lines:
        return lines
    begin, end = lines.index("environment:"), len(lines) - lines[::-1].index("environment.")
    return [*lines[:begin], *sorted(lines[begin:end]), *lines[end:]]


def _unlike(actual: tuple[str, ...], ways: Sequence[tuple[str, ...]]) -> Mapping[str, object]:
    """The lines that the session has and a way has not, and the other way round."""
    return {
        f"{'session' if ours else 'plain'} only, {number}": [line for line in (actual if ours else way) if line not in other]
        for number, way in enumerate(ways, 1)
        for ours, other in ((True, way), (False, actual))
    }
