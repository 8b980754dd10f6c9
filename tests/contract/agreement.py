"""Whether a session did what a plain shell does with the same texts: step by step, and in all that the shell holds at the end.

There are two truths, which differ by nature: the texts in one script, and each in a file that `.` reads (line numbers, traces,
`set -e` and `return` know the difference). A step must be as in one of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness import Lab
from plain_shell import Run, Seen
from sequences import LIBRARY
from sequences import Sequence as Steps

from testronaut_lab.model.result import ShellState

# A step of its own behind each sequence. Its first line asks for what every command changes.
_FIRST = 'probe_1="$?" probe_3="$-"\n'
_FIRST_IN_BASH = 'probe_1="$?" probe_2="$_" probe_3="$-" probe_4="${PIPESTATUS[*]}"\necho "last $probe_2 statuses $probe_4"\n'
_ASK = r"""
echo "status $probe_1 options $probe_3 arguments $#"
for probe_5 in "$@"; do echo "argument $probe_5"; done
trap
alias
for probe_6 in 0 1 2 3 4 5 6 7 8 9; do ( : >&$probe_6 ) 2>/dev/null && echo "descriptor $probe_6"; done
echo "directory $(pwd) mask $(umask) job ${!:+known}"
grep -E 'Sig(Ign|Blk)' /proc/self/status
env
"""
_ASK_IN_BASH = "declare -f\ndeclare -p\nshopt\nset -o\nulimit -a\n"
_ASK_IN_OTHERS = "set\nreadonly -p\nexport -p\ntype f g h lib true test printf read pwd cd command kill wait type hi e\n"

# What differs between any two shells, or by where a text comes from; and the limit of open files, which some versions of runc
# give to an exec as its soft limit now and as its hard one then.
_NO_MATTER = re.compile(
    r"(declare -\S+ |readonly |export )?"
    r"(BASH_(?!XTRACEFD|REMATCH)\w+|BASHPID|BASHOPTS|SHELLOPTS|DIRSTACK|EPOCH\w+|S?RANDOM|SECONDS|LINENO|PPID|PWD|_|FUNCNAME|GROUPS"
    r"|HISTCMD|PIPESTATUS|TESTRONAUT_LAB|SHLVL|COPROC_PID|p|n|probe_\d|OPTIND|HOSTNAME|COMP_WORDBREAKS)(=|$)"
    r"|pending signals|open files"
)
# `$_` behind `.`, and before any command
_LAST = re.compile(r"^last (/ref/run/\d+/\d+|/run/lab/t\.[0-9a-f]+|(/usr/bin/)?bash)(?= statuses )")
_SHELL = r"(?:(?:[\w./-]*/)?(?:all|[0-9]+|sh|bash|dash|busybox|ash|step)|environment|\.)"
_NAME = re.compile(rf"(?m)^(?:{_SHELL}(?:: line [0-9]+|: [0-9]+)?: )+")


def probe_text(shell: str) -> str:
    """The step that tells all that a shell of this kind can tell of itself."""
    return _FIRST_IN_BASH + _ASK + _ASK_IN_BASH if shell == "bash" else _FIRST + _ASK + _ASK_IN_OTHERS


def straight(err: str) -> str:
    """Without the shell's name and the line's number, which depend on where a text came from."""
    return _NAME.sub("", err)


@dataclass(frozen=True)
class Did:
    """What one step did: all that it wrote, and its status."""

    out: str
    err: str
    code: int | None


@dataclass(frozen=True)
class Performed:
    """A sequence in a session: what each step did, which one ended the shell, if any did, and what the shell then told."""

    steps: tuple[Did, ...]
    ended: bool
    told: Did
    apart: frozenset[int] = frozenset()


def perform(lab: Lab, sequence: Steps, shell: str) -> Performed:
    """Run the steps in a session, up to the first that ends its shell, and ask the shell what it holds."""
    done: list[Did] = []
    ended = False
    for number, step in enumerate(sequence.steps):
        result = lab.run(step, timeout_s=20, nodeid=f"x::{number}")
        error = f"[{result.error.message}]" if result.error else ""
        done.append(Did(result.out, straight(result.err) + error, result.exit.code))
        if result.state is not ShellState.KEPT:
            ended = True
            break
    told = lab.run(probe_text(shell), timeout_s=20, nodeid="x::probe")
    return Performed(tuple(done), ended, Did(told.out, straight(told.err), told.exit.code), sequence.apart)


def runs_for(sequence: Steps, performed: Performed, shell: str) -> list[Run]:
    """The runs of a plain shell that `differences` needs, in both ways."""
    count = len(performed.steps)
    living = sequence.steps[: count - performed.ended]
    probe = probe_text(shell)
    wanted = [sequence.steps[:number] for number in range(1, count + 1)] + [(*living, probe)]
    if performed.ended:
        wanted.append((*sequence.steps[:count], probe))
    return [Run(texts, dotted, sequence.apart, LIBRARY) for dotted in (False, True) for texts in wanted]


def differences(performed: Performed, seen: Sequence[Seen]) -> dict[str, object]:
    """What is as in neither truth, by name: (session, one script, by `.`). `seen` are the runs of `runs_for`."""
    half = len(seen) // 2
    ways = [_truth(performed, seen[:half]), _truth(performed, seen[half:])]
    found: dict[str, object] = {}
    for number, did in enumerate(performed.steps):
        wanted = [way.steps[number] for way in ways]
        if did not in wanted:
            found[f"step {number + 1}"] = (did, *wanted)
    is_open = len(performed.steps) - 1 in performed.apart  # a script that ends there has ended
    if performed.ended and not is_open and not any(way.ended for way in ways):
        found["end"] = "the session says that the last step ended its shell, and a plain shell goes on"
    told = [_matters(way.told) for way in ways]
    if _matters(performed.told) not in told:
        found["state"] = _unlike(_matters(performed.told), told)
    return found


def _truth(performed: Performed, seen: Sequence[Seen]) -> Performed:
    count = len(performed.steps)
    seen = [Seen(each.out, straight(each.err), each.code) for each in seen]
    steps, before = [], Seen("", "", 0)
    for now in seen[:count]:
        steps.append(_since(before, now))
        before = now
    living = seen[count - 1 - performed.ended] if count - performed.ended else Seen("", "", 0)
    ended = performed.ended and seen[-1] == seen[count - 1]
    return Performed(tuple(steps), ended, _since(living, seen[count]))


def _since(before: Seen, now: Seen) -> Did:
    return Did(_rest(before.out, now.out), _rest(before.err, now.err), now.code)


def _rest(before: str, now: str) -> str:
    return now.removeprefix(before) if now.startswith(before) else f"(not as before) {now}"


def _matters(told: Did) -> tuple[str, ...]:
    lines = (*told.out.splitlines(), *told.err.splitlines())
    return tuple(
        _LAST.sub("last [FILE]", line).replace("[FILE] statuses 0", "[FILE] statuses ")
        for line in lines
        if not _NO_MATTER.match(line)
    )


def _unlike(actual: tuple[str, ...], ways: Sequence[tuple[str, ...]]) -> Mapping[str, object]:
    """The lines of the session that no way has, and those of the nearer way that the session has not."""
    nearest = min(ways, key=lambda way: len(set(actual) ^ set(way)))
    return {
        "session": [line for line in actual if line not in nearest],
        "plain": [line for line in nearest if line not in actual],
    }
