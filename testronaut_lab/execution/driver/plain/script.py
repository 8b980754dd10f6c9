"""The shell text of the plain driver: the shell that supervises a step, and the line that its own shell runs.

Pure functions, as in `driver/script.py`, from which the step's own text comes. What the functions named here do is in driver.sh.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from testronaut_lab.container import security
from testronaut_lab.execution.driver.plain.shell_state import CarriedState
from testronaut_lab.execution.driver.script import RUN_DIR, UMASK, Command, quote

MERGE = r"\command exec 2>&1 && "
STATE_FILE = "/run/lab.state"

# Each step has a shell of its own, in which 3 is free until a script of the step takes it.
PROGRAMS_STDERR = "2>&3 3>&-"

# The first command of a session. It writes `catches` where `command eval` and `command .` may catch errors of a step, so that
# a syntax error does not end the shell. In busybox they must not: there a subshell that fails within one does not end.
FIRST = Command("", run="case $(command eval '( : </dev/null/x ) 2>/dev/null'; echo x) in x) echo catches ;; esac")
CATCHES = b"catches\n"
_OPEN_FILES = next(limit.soft for limit in security.STEP_ULIMITS if limit.name == "nofile")


def functions_text() -> bytes:
    """What every step's shell sources."""
    return files(__package__).joinpath("driver.sh").read_bytes()


def leader(shell: str, *, can_catch: bool) -> list[str]:
    """The exec's program: a shell that runs nothing of a step's, so that it can always tell how the step's shell ended.

    It keeps the exec's streams, which therefore end after the step, and signals to its group do not end it.
    """
    child = rf'IFS= \command read -r __c; {_catching(can_catch)}eval "$__c"'
    text = (
        # runc has at times left an exec with its own limit instead of the container's
        f"umask {UMASK}; ulimit -S -n {_OPEN_FILES} 2>/dev/null; "
        "trap : TERM INT HUP QUIT USR1 USR2 ALRM; exec 3>&1 4>&2 >/dev/null 2>&1; "
        f"IFS= read -r k; IFS=' ' read -r p x </proc/self/stat; printf '@%s L %s\\n' \"$k\" \"$p\" >|{STATE_FILE}; "
        "printf '@%s(' \"$k\" >&3; "
        f"( exec {shell} -c {quote(child)} {shell} >&3 2>&4 3>&- 4>&- ); s=$?; "
        f'printf \'@%s X %s\\n\' "$k" "$s" >>{STATE_FILE}; printf \'@%s.\' "$k" >&3; printf \'@%s.\' "$k" >&4; exit "$s"'
    )
    return [shell, "-c", text, shell]


def opening(nonce: str, line: str) -> bytes:
    """What is written to the exec's stdin: the supervising shell's nonce, and the line for the step's."""
    return f"{nonce}\n{line}\n".encode(errors="surrogateescape")


def step_line(command: Command, carried: CarriedState, nonce: str, functions: Sequence[str], *, can_catch: bool) -> str:
    """The line that runs one step. The nonce stands only here: no variable holds it while the step runs."""
    bracketed = needs_brackets(command)
    source = sourcing(command, can_catch=can_catch, keep=" 3>&2")
    if carried.is_verbose:
        source = rf"{{ \command set -v; {source}; }}"
    guards = [rf"\command . {RUN_DIR}/before"] if bracketed else []
    if command.cwd is not None:
        guards.append('__lab_o="${OLDPWD-}"')
        guards.append(rf'{{ \command cd -- "$__lab_w" 2>/dev/null || {{ \__lab_note {nonce} P; \command exit 1; }}; }}')
    if bracketed:
        guards.append(r"\command unset __lab_w")
    parts = [
        rf"\command . {RUN_DIR}/plain",
        rf"\command . {RUN_DIR}/env",
        rf'\command cd -- "$__lab_d" 2>/dev/null || \__lab_note {nonce} G',
        "OLDPWD=$__lab_q" if carried.oldpwd else r"\command unset OLDPWD",
        rf"\command export TESTRONAUT_LAB={quote(' '.join(command.nodeid.splitlines()))}",
        rf"\__lab_begin {nonce}",
        rf"{MERGE if command.merge else ''}\__lab_go {'stdin' if command.stdin else 'empty'}",
        rf"\command . {RUN_DIR}/options",
        " && ".join([*guards, source]),
        rf'{{ \__lab_fin {nonce} "$?" "$#"; }} 2>/dev/null',
        *([rf"\command . {RUN_DIR}/after"] if bracketed else []),
        " ".join([rf"\__lab_keep {nonce}", *functions]),
        r'\command exit "$__lab_s"',
    ]
    return "; ".join(parts)


def _catching(can_catch: bool) -> str:
    return r"\command " if can_catch else "\\"


def before_text(command: Command) -> str:
    """What is sourced before the step: lasting exports, then its own environment and directory."""
    lines = [rf"\command export {name}={quote(value)}" for name, value in command.exports.items()]
    for i, (name, value) in enumerate(command.env.items()):
        lines.append(f'__lab_h{i}=${{{name}+x}} __lab_v{i}="${{{name}-}}"')
        lines.append(rf"\command export {name}={quote(value)}")
    if command.cwd is not None:
        lines.append('__lab_o="${OLDPWD-}"')
        lines.append(rf"\command cd -- {quote(command.cwd)} 2>/dev/null")
    return "\n".join(lines) + "\n"


def after_text(command: Command, cwd: str) -> str:
    """What is sourced after it: the environment and directory as they were."""
    lines: list[str] = []
    for i, name in enumerate(command.env):
        restore = rf'\command export {name}="$__lab_v{i}"'
        lines.append(rf'if \command [ "$__lab_h{i}" ]; then {restore}; else \command unset {name}; fi')
        lines.append(rf"\command unset __lab_h{i} __lab_v{i}")
    if command.cwd is not None:
        lines.append(rf'\command cd -- {quote(cwd)} 2>/dev/null || \command :; OLDPWD="${{__lab_o-}}"; \command unset __lab_o')
    return "\n".join(lines) + "\n"


def needs_brackets(command: Command) -> bool:
    return bool(command.env or command.exports or command.cwd is not None)


def step_text(command: Command, *, traced: bool, stderr: str) -> str:
    """What is sourced: the script itself, so that it runs in the session's shell; or a subshell that becomes the program.

    The program's stderr is `stderr`, a redirection. The shell's own is not it while it waits, see `sourcing`.
    """
    trace = r"\command set -x; " if traced else ""
    if command.argv is not None:
        return f"{trace}( \\command exec {' '.join(quote(arg) for arg in command.argv)} ) {stderr}\n"
    assert command.run is not None
    # bash, in a promoted copy, would become the program of a last `…; program` that nothing follows, and end with it
    return f"{trace}{command.run}\n\n"


def sourcing(command: Command, *, can_catch: bool, keep: str = "") -> str:
    """What sources it. Of a program that a signal killed a shell says «Aborted» on its stderr, which is not the program's.

    So the shell's is nothing while it waits for exact arguments; `keep` is a redirection that is made before.
    """
    aside = "" if command.argv is None else f"{keep} 2>/dev/null"
    source = rf"{_catching(can_catch)}. {RUN_DIR}/step{aside}"
    return f"( {source} )" if command.isolated else source
