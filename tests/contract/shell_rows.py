"""What a step does in a session, as it does in a shell of one's own: sentences as data, each for a session of its own.

Every sentence is a family of inputs that a driver once got wrong because its own code ran inside the user's shell, where the
user's functions, traps, options and descriptors reach it. `test_shell_rows.py` runs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from behaviours import Do
from conftest import SHELLS

RESTORED = "restored"
BASH = ("bash",)
DASH_AND_ASH = ("dash", "busybox")


@dataclass(frozen=True)
class Row:
    """Steps in one session. `files` are in its workspace before the first one."""

    steps: tuple[Do, ...]
    shells: tuple[str, ...] = SHELLS
    files: Mapping[str, str] = field(default_factory=dict)


def step(run: str, out: str = "", err: str | None = "", **fields: object) -> Do:
    """A step with its whole output; `err=None` leaves stderr unlooked at."""
    return Do(run, out, err, **fields)  # type: ignore[arg-type]


def row(*steps: Do, shells: tuple[str, ...] = SHELLS, files: Mapping[str, str] | None = None) -> Row:
    return Row(steps, shells, files or {})


# names that any shell lets a function have, of what a driver could be tempted to call
PLAIN_NAMES = "alias cd command echo getopts hash jobs kill printf pwd read test true false type ulimit umask unalias wait"
BASH_NAMES = (
    f"{PLAIN_NAMES} . : [ bg break builtin caller continue declare dirs disown enable eval exec exit export fg help history let "
    "local logout mapfile popd pushd readarray readonly return set shift shopt source suspend times trap typeset"
)


def _shadowed(names: str) -> Do:
    """Functions with these names, each of which would be heard and fails; `unset` comes last, as its definition needs nothing."""
    return step(
        " ".join(f"{name} () {{ env printf 'MINE {name} '; return 9; }};" for name in names.split()) + " env printf on", "on"
    )


DESCRIPTORS = {
    "a descriptor of stdout leads to the stdout of the step that writes": row(
        step("exec 3>&1"),
        step("echo second >&3", "second\n"),
        step("sh -c 'echo child >&3'; echo own", "child\nown\n"),
        step("exec 3>&-"),
        step("( echo gone >&3 ) 2>/dev/null || echo closed", "closed\n"),
    ),
    "a descriptor of stderr leads to the stderr of the step that writes": row(
        step("exec 4>&2"), step("echo ERROR >&4; echo out", "out\n", "ERROR\n"), step("(echo deep >&4)", "", "deep\n")
    ),
    "a logging function writes past a command substitution": row(
        step('exec 3>&1; log() { echo "log $1" >&3; }'),
        step("log a", "log a\n"),
        step('x=$(log b; echo c); echo "$x"', "log b\nc\n"),
    ),
    "stdout goes to a file and comes back": row(
        step("exec 3>&1 >hidden"),
        step("echo hidden"),
        step("exec >&3 3>&-"),
        step("echo again; cat hidden", "again\nhidden\n"),
    ),
    "stderr joined to stdout stays so": row(step("exec 2>&1"), step("echo a; echo b >&2", "a\nb\n"), step("echo c >&2", "c\n")),
    "swapped streams stay swapped": row(
        step("exec 3>&1 1>&2 2>&3 3>&-"), step("echo out; echo err >&2", "err\n", "out\n"), step("echo out", "", "out\n")
    ),
    "a descriptor of stdout leads on while a job holds the stream too": row(
        step("exec 3>&1; sleep 30 &"),
        step("echo second >&3; echo own", "second\nown\n"),
        step("kill $!; echo third >&3", "third\n", None),
    ),
    "a descriptor of stdout is there in a restored shell": row(
        step("exec 3>&1"), step("exit 4", code=4, state=RESTORED), step("echo second >&3", "second\n")
    ),
}

STATUS = {
    "the status of a step is there in the next": row(
        step("false", code=1),
        step("echo $?", "1\n"),
        step("(exit 42)", code=42),
        step("echo $?", "42\n"),
        step("[ $? -eq 0 ] && echo zero", "zero\n"),
        step("nosuch 2>/dev/null", code=127),
        step("echo $?; (exit 3)", "127\n", code=3),
        step("if [ $? -eq 3 ]; then echo three; fi", "three\n"),
        step("sh -c 'kill -9 $$'", err=None, code=137),
        step("echo $?", "137\n"),
    ),
    "the status that a function returns is there in the next step": row(
        step("g() { return 42; }"),
        step("g", code=42),
        step("echo $?", "42\n"),
        step("h() { return; }; (exit 6)", code=6),
        step("h", code=6),
    ),
    "the status carried over is no failure of the next step": row(
        step("set -e; ! true", code=1),
        step("echo alive $?", "alive 1\n"),
        step("false || (exit 7) || true"),
        step("echo $?; set +e", "0\n"),
    ),
    "a bare exit keeps the status of the step before": row(step("(exit 9)", code=9), step("exit", code=9, state=RESTORED)),
    "a restored shell has the status from before the step that ended it": row(
        step("(exit 5)", code=5), step("exit 3", code=3, state=RESTORED), step("echo $?", "5\n")
    ),
    "the last argument carries on": row(
        step("echo a b", "a b\n"),
        step("echo $_", "b\n"),
        step("ls /nosuch 2>/dev/null", code=2),
        step("echo $_ $?", "/nosuch 2\n"),
        shells=BASH,
    ),
    "the statuses of a pipe carry on": row(
        step("false | true | (exit 4)", code=4),
        step('echo "${PIPESTATUS[@]}"', "1 0 4\n"),
        step("false", code=1),
        step('echo "$? ${PIPESTATUS[@]}"', "1 1\n"),
        step("true | false | true"),
        step('echo "$? ${PIPESTATUS[@]}"', "0 0 1 0\n"),
        step("set -o pipefail; false | true", code=1),
        step('echo "$? ${PIPESTATUS[@]}"', "1 1 0\n"),
        step("IFS=/; false | true", code=1),
        step('x="${PIPESTATUS[*]}"; echo "$x"', "1/0\n"),
        shells=BASH,
    ),
    "the number of the last job carries on": row(
        step("sleep 0.01 & p=$!"),
        step("[ $p = $! ] && echo same; wait $!; echo $?", "same\n0\n"),
        step("(exit 5) &"),
        step("wait $!", code=5),
    ),
}

TRACES = {
    "a trace has the step's own lines in their own depth": row(
        step("set -x; true; set +x", err="+ true\n+ set +x\n"),
        step("set -x", err=""),
        step("echo two", "two\n", "+ echo two\n"),
        step("exit 3", err="+ exit 3\n", code=3, state=RESTORED),
        step("echo three", "three\n", "+ echo three\n"),
        step("exit 3", err="+ exit 3\n", code=3, state=RESTORED),
        step("false", err="+ false\n", code=1),
        step("set +x", err="+ set +x\n"),
        step("echo four", "four\n"),
    ),
    "PS4 is expanded for the step's own commands": row(
        step("PS4='+$x> '; x=q; set -x"), step("echo a", "a\n", "+q> echo a\n"), step("set +x", err="+q> set +x\n")
    ),
    "a shell is no subshell": row(
        step("echo $BASH_SUBSHELL; [ $BASHPID = $$ ] && echo same", "0\nsame\n"),
        step("exit 3", code=3, state=RESTORED),
        step("echo $BASH_SUBSHELL; [ $BASHPID = $$ ] && echo same", "0\nsame\n"),
        step("exit 3", code=3, state=RESTORED),
        step("echo $BASH_SUBSHELL", "0\n"),
        shells=BASH,
    ),
    "a trace on stdout has the step's own lines only": row(
        step("BASH_XTRACEFD=1; set -x"), step("echo a", "+ echo a\na\n"), step("echo $?", "+ echo 0\n0\n"), shells=BASH
    ),
    "set -v shows the step's own lines only": row(
        step("set -v"), step("echo hi\n", "hi\n", "echo hi\n"), step("set +v\n", err="set +v\n"), step("echo there", "there\n")
    ),
}

FUNCTIONS = {
    "functions with the names of builtins are not called by us": row(
        _shadowed(PLAIN_NAMES),
        *[step("env printf next", "next")] * 3,
        step("exit 3", code=3, state=RESTORED),
        step("env printf on", "on"),
    ),
    "functions with the names of all of bash's builtins are not called by us": row(
        _shadowed(BASH_NAMES),
        *[step("env printf next", "next")] * 3,
        step("env sh -c 'exit 3'", code=3),
        step("env printf on", "on"),
        shells=BASH,
    ),
    "a function named command is called by the user only": row(
        step('command() { echo MINE "$@"; }'), step("command x", "MINE x\n"), step("echo on", "on\n")
    ),
    "a function named command that fails hangs nothing": row(
        step("command() { return 9; }"),
        step("echo on", "on\n", timeout_s=10),
        step("exit 2", code=2, state=RESTORED, timeout_s=10),
        step("echo on", "on\n", timeout_s=10),
    ),
    "functions named exit, trap and eval are called by the user only": row(
        step("exit() { echo myexit; }; trap() { echo mytrap; }; eval() { echo myeval; }"),
        step("(builtin exit 3)", code=3),
        step("echo $?; eval x; trap", "3\nmyeval\nmytrap\n"),
        step("exit", "myexit\n"),
        shells=BASH,
    ),
    "functions named command, unset and builtin hang nothing": row(
        step("command() { return 9; }; unset() { echo U; }; builtin() { return 9; }", timeout_s=10),
        step("echo on", "on\n", timeout_s=10),
        step("exit 2", code=2, state=RESTORED, timeout_s=10),
        step("echo on", "on\n", timeout_s=10),
        shells=BASH,
    ),
    "disabled builtins cost nothing": row(
        step("enable -n printf read pwd . eval exec trap command builtin : [ test true false"),
        *[step("echo a", "a\n")] * 2,
        step("exit 3", code=3, state=RESTORED),
        step("echo a", "a\n"),
        shells=BASH,
    ),
    "a returned status is a byte": row(step("return 300", err=None, code=44), step("echo on", "on\n"), shells=DASH_AND_ASH),
    "a sourced text cannot say how a step ended": row(
        step(". ./lib"),
        step("false", code=1),
        step("echo $?; (exit 4)", "1\n", code=4),
        step("exit 5", code=5, state=RESTORED),
        step("false", code=1),
        files={
            "lib": "".join(f"__lab_{name}() {{ return 0; }}\n" for name in ("fin", "rec", "next", "run", "park", "step", "main"))
        },
    ),
}
