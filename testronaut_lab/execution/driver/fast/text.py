"""The text that the session's shell reads: steps as they are, and what stands around them. Pure functions.

Nothing of ours runs in the shell but an empty loop, `for _ in; do :; done`: it has no words, so it executes nothing, and no
function, trap, trace or option of the user's sees it. A redirection of it makes the report's file. It leaves `$_`, `$!` and
PIPESTATUS alone and makes `$?` 0, which `restoring` undoes in front of the next step.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from testronaut_lab.execution.driver.script import RUN_DIR, UMASK, quote

NOTHING = "for _ in; do :; done"
_MOST_COMMANDS = 8  # of a pipeline, whose statuses are carried

# A text whose end may reach beyond itself: what `.` reads has an end of its own.
_OPEN_END = re.compile(
    r"\\\s*\Z|(?:[|&({]|\(\s*\)|(?<![\w$])!|(?<![^\s;&|({])(?:do|then|else|elif|in|if|while|until|for|case|function|time|coproc))"
    r"\s*(?:(?<![^\s])#[^\n]*\s*)*\Z"
)
_DOCUMENT = re.compile(r"""(?<!<)<<(?!<)(-?)[ \t]*(?:'(\w+)'|"(\w+)"|\\?(\w+)(?![\w'"\\$`]))?""")
_ENDS_ON_FAILURE = re.compile(r"\bset\b[^\n;]*e|\bulimit\b")
_RETURN = re.compile(r"\breturn\b")
_MAYBE_OPEN = re.compile(r"['\"`(){}\[\]\\]|\b(?:if|do|case|while|until|for|then|select)\b|#.*\Z")
_EXEC = {True: r"\builtin exec", False: r"\exec"}
_NUMBERS = (
    ("$$", re.compile(r"\$\$|\$\{\$|\bBASHPID\b")),
    ("${!-}", re.compile(r"\$!|\$\{!")),
    ("${PPID-}", re.compile(r"\bPPID\b")),
)
_PIPELINE = "".join(f",${{PIPESTATUS[{i}]-}}" for i in range(_MOST_COMMANDS))


class Feed(Enum):
    """How a text comes to the shell."""

    LINES = "lines of the program"
    FILE = "a file that `.` reads"


@dataclass(frozen=True, slots=True)
class Status:
    """What `$?` and PIPESTATUS are to be for the next step."""

    code: int = 0
    pipeline: tuple[str, ...] = ()


@lru_cache(maxsize=16)  # asked several times of one text
def numbers_named(script: str) -> tuple[str, ...]:
    """The parameters that hold numbers of processes and that a script names."""
    return tuple(parameter for parameter, named in _NUMBERS if named.search(script))


def report_line(nonce: str, *, is_bash: bool, keeps_line_number: bool = False, numbers: Sequence[str] = ()) -> str:
    """The line behind a text. In bash it sets the line number back, so that each step counts its own lines.

    The values of the parameters `numbers` are told too.
    """
    more = f",${{#PIPESTATUS[@]}}{_PIPELINE}" if is_bash else ""
    more += "".join(f",p{parameter}" for parameter in numbers)
    reset = ",$((LINENO=0))" if is_bash and not keeps_line_number else ""
    return f'{NOTHING} 3>|"{RUN_DIR}/end/{nonce},$?,$-{more}{reset}"\n'


def restoring(
    status: Status, *, is_bash: bool, was_forked: bool, traced_to: Sequence[int] = (), returning: str | None = None
) -> str:
    """What makes `$?` what it was, in front of a text. `&&` and `!` keep `set -e` and the ERR trap quiet.

    `was_forked`: something of ours has run since, so that PIPESTATUS is not the step's any more. `traced_to`: see `untraced`.
    `returning` is a file that returns this status to a shell that may read one, which needs no subshell then.
    """
    pipeline = status.pipeline if len(status.pipeline) > 1 else ()
    if status.code == 0 and not (was_forked and pipeline):
        return ""
    if status.code == 1 and not pipeline:
        return f"! {NOTHING}; "
    if returning is not None:
        return f"{untraced(sourcing(returning), (2,))} && {NOTHING}; "
    posix = "POSIXLY_CORRECT=; " if is_bash else ""  # so that a function named `exit` comes after the builtin, in there only
    exits = " | ".join(rf"( {posix}\exit {code} )" for code in pipeline or (str(status.code),))
    return f"{untraced(exits, (*traced_to, 1, 2) if traced_to else (2,))} && {NOTHING}; "


def untraced(words: str, traced_to: Sequence[int]) -> str:
    """The same words with nothing said to these descriptors: a bash may trace to any (`BASH_XTRACEFD`)."""
    return f"{{ {words}; }} {' '.join(f'{fd}>/dev/null' for fd in traced_to)}" if traced_to else words


@lru_cache(maxsize=16)
def feed_of(text: str, *, is_bash: bool, options: str, avoids_files: bool, sees_sleep: bool) -> Feed:
    """`.` gives a text its own line numbers in errors, and an end. But it fails itself where the text's last command does,
    which ends a shell under `set -e` even where that failure was exempt; in bash it shows in traps and traces. `avoids_files`:
    it may have no descriptor for that, or would show where we cannot cut it. Where the host cannot see the shell sleep
    (`sees_sleep`), lines must be whole.
    """
    returns = is_bash and "{" not in text and _RETURN.search(text)  # outside of any function only a sourced text may
    if returns or _OPEN_END.search(text) or _may_have_open_document(text) or (not sees_sleep and _MAYBE_OPEN.search(text)):
        return Feed.FILE
    is_bare = is_bash or "e" in options or avoids_files or _ENDS_ON_FAILURE.search(text) is not None
    return Feed.LINES if is_bare else Feed.FILE


def _may_have_open_document(text: str) -> bool:
    """Whether what follows the text could be read as a part of a here-document. Each `<<`, also one that is none, needs a line of
    its own behind it that ends it.
    """
    lines = text.split("\n")
    for found in reversed(list(_DOCUMENT.finditer(text))):
        word = next(filter(None, found.groups()[1:]), None)
        first = text.count("\n", 0, found.start()) + 1
        ends = (at for at in range(len(lines) - 1, first - 1, -1) if (lines[at].lstrip("\t") if found[1] else lines[at]) == word)
        if word is None or (end := next(ends, None)) is None:
            return True
        del lines[end:]
    return False


def naming(variable: str, value: str) -> str:
    """The line that gives an exported variable a value, by no command that a script could have taken away."""
    return f"for {variable} in {quote(value)}; do {NOTHING}; done"


def sourcing(path: str, redirections: str = "") -> str:
    """The line that reads a text from a file."""
    return rf"\. {path}{redirections}"


def argv_text(
    argv: Sequence[str], assignment: str, spare_fd: int, stdin: str | None, notice: str, gate: str, *, merge: bool, is_bash: bool
) -> str:  # fmt: skip
    """A subshell that becomes the program, once it has made the file `notice` and opened the FIFO `gate`, see `witness.py`.

     Of a program that a signal killed a shell says «Aborted» on its stderr, which is not
    the program's: so the shell's is nothing while it waits, and the program has the shell's own by `spare_fd`.
    """
    words = " ".join(quote(word) for word in argv)
    become = rf"{_EXEC[is_bash]} {words} 2>&{1 if merge else spare_fd} {spare_fd}>&-"
    redirections = f"{spare_fd}>&2 2>/dev/null" + ("" if stdin is None else f" <{stdin}")
    # dash shows how a subshell was killed only after the redirections of a command that it is the last of
    # who could not make the file would wait at the gate for ever
    wait = f'{NOTHING} 3>|"{RUN_DIR}/end/{notice}" && {NOTHING} 3<{RUN_DIR}/{gate} || {NOTHING}'
    return f"{{ ( {wait}; {assignment}; {become} ) && {NOTHING}; }} {redirections}\n"


def isolated_text(path: str) -> str:
    return rf"( \. {path} )" + "\n"


def hello_line(nonce: str) -> str:
    """The first report: the shell's number, its parent's, and whether it is bash."""
    return f'{NOTHING} 3>|"{RUN_DIR}/end/{nonce},$?,$-,$$,$PPID,${{BASH_VERSION:+bash}}"\n'


def leader_text(shell: str, program: str, *, out: str, err: str, has_env: bool) -> str:
    """The exec's own shell: starts the session's, whose script has the shell's name, as if it had been typed at a prompt.

    The host ends it as soon as its child reads its program: the keeper is the child's parent then.
    """
    env = rf". {RUN_DIR}/env; " if has_env else ""
    folder, _, name = program.rpartition("/")
    return f"umask {UMASK}; {env}\\unset OLDPWD SHLVL; cd {folder} && {shell} {name} <{RUN_DIR}/empty >|{out} 2>|{err}; exit"


def first_text(cwd: str, *, is_bash: bool) -> str:
    """What the new shell reads first: into its directory, as if it had begun there."""
    back = r"\unset OLDPWD; \export OLDPWD" if is_bash else r"\unset OLDPWD"
    return rf"\cd -- {quote(cwd)} 2>/dev/null || \cd /; {back}" + "\n"
