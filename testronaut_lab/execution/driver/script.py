"""The shell text that the host sends: what a step becomes, and the lines that drive the session's shell.

Pure functions. Every value reaches the shell single-quoted or as a file, never pasted into code. Words of ours are written
with a backslash, so that no alias of a step's touches them. What the functions named here do is in driver.sh.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

RUN_DIR = "/run/lab"

_SAY = r"printf '@%s %s %s\n@%s .\n'"

# Whether errors can be caught by `command eval` and `command .`, so that a syntax error does not end the shell. In busybox
# they must not be: there a subshell that fails within one goes on, as a second driver, with what comes after it.
_CAN_CATCH = "$(command eval '( : </dev/null/x ) 2>/dev/null'; echo x)"


def _loop(catch: str) -> str:
    read = rf"IFS= \command read -r __c <{RUN_DIR}/cmd"
    # only a step's `break` or `continue` outside of any loop of its own leads behind ours
    return rf'while \__lab_next; do {read}; \__lab_line {quote(catch)}; {catch}eval "$__c"; done; \__lab_refuse loop'


def _catching(can_catch: bool) -> str:
    return r"\command " if can_catch else "\\"


@dataclass(frozen=True, slots=True)
class Command:
    """One command for the session's shell: `run` is a script, `argv` exact arguments; the other one is None.

    `env` and `cwd` end with the command; `exports` stay. With `isolated` nothing the script does to the shell stays, with
    `merge` its stderr goes where its stdout goes.
    """

    nodeid: str
    run: str | None = None
    argv: tuple[str, ...] | None = None
    stdin: bytes = b""
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    exports: Mapping[str, str] = field(default_factory=dict)
    isolated: bool = False
    merge: bool = False


@dataclass(frozen=True, slots=True)
class ShellSpec:
    """The session's shell: which program, as whom (UID:GID), with what environment, starting where."""

    shell: str
    user: str
    env: Mapping[str, str]
    cwd: str


@dataclass(frozen=True, slots=True)
class Bent:
    """What scripts of a session have named that bends bash so far that our own lines would show, or could not be run.

    `traps`: DEBUG, ERR and RETURN traps, which run for our lines too. They are taken away after a step, and given back by the
    first words of the next script. `builtins`: `enable`, which can take away the builtins that our lines are made of.
    """

    traps: bool = False
    builtins: bool = False

    def after(self, command: Command) -> Bent:
        text = command.run or ""
        traps = self.traps or bool(_OWN_TRAP.search(text))
        builtins = self.builtins or "enable" in text
        return self if (traps, builtins) == (self.traps, self.builtins) else Bent(traps, builtins)


_OWN_TRAP = re.compile(r"\btrap\b.*\b(DEBUG|ERR|RETURN)\b", re.IGNORECASE | re.DOTALL)
_BUILTINS = ". : [ break command continue eval exec exit export printf pwd read return set trap unset"
STRAIGHT = Bent()


def quote(text: str) -> str:
    """One shell word, whatever is in it (no NUL)."""
    return "'" + text.replace("'", "'\\''") + "'"


def leader(shell: str, number: int) -> str:
    """The exec's own shell: reads the secret, starts the first driver, tells of its end, and stays until it is released.

    It runs nothing of a step's. The driver is a child with its own pid, so that `$$`, traps and `kill -9 $$` are true there.
    The secret comes by the exec's own stdin, which no other process can get hold of by a name. What a step sends its whole
    process group, as scripts with `trap 'kill 0' EXIT` do, does not end it: a trap, since what is ignored would be so below too.
    """
    outlive = "trap : TERM INT HUP QUIT USR1 USR2 ALRM PIPE"
    start = rf'. {RUN_DIR}/driver; IFS= \command read -r __c; \command eval "$__c"; \exec </dev/null'
    drivers = [f"{shell} -c {quote(f'{start}; {_loop(_catching(can))}')} {shell}" for can in (True, False)]
    driver = f"case $c in 1) {drivers[0]} ;; *) {drivers[1]} ;; esac >/dev/null 2>&1"
    tell = f'{_SAY} "$k" D "$?" "$k" >{RUN_DIR}/ctl'
    return f"{_hello()}; {outlive}; {driver}; {tell}; {_hold(number)}"


def witness(number: int) -> str:
    """A leader without a driver: its exec ends when every process of the step's user is killed."""
    return f"{_hello()}; {_hold(number)}"


def introduce(secret: str) -> str:
    """The second line on the leader's stdin, for the driver: how to write a record that only it can write."""
    return rf"""__lab_rec() {{ \command printf '@{secret} %s\n' "$1"; }}"""


def ready(cwd: str | None = None, *, restore_env: bool = False) -> str:
    """A new driver's first line: where to start, with the exported environment of a lost shell if there was one."""
    env = rf"\command . {RUN_DIR}/env; " if restore_env else ""
    cd = rf"\command cd -- {quote(cwd)} 2>/dev/null; " if cwd is not None else ""
    return f"{env}{cd}\\__lab_ready"


def park(number: int) -> str:
    """Fork a copy of the shell that waits for a line of its own. Twice, so that `wait`, `jobs` and `$!` never see it."""
    return f"-{number}"


def supervise(*, can_catch: bool, has_traps: bool = False) -> str:
    """Go on as the one who waits for a forked copy that is the driver from now on, and tell of its end.

    It `has_traps` where `traps_text` was written down for it.
    `set -e` must hold in the copy and not here, where a driver that ends with a failure would take the messenger with it;
    `( … ) || …` would switch it off inside. An ERR trap of a step's must not end the messenger either.
    """
    alone = r"{ ! \command trap - ERR DEBUG; } >|/dev/null 2>&1"  # bash gives a trap back that is taken away left of `||`
    traps = rf"{_catching(can_catch)}. {RUN_DIR}/traps; " if has_traps else ""
    run = f"{traps}\\__lab_ready; {_loop(_catching(can_catch))}"
    tell = rf'{{ \__lab_rec "D $?"; \__lab_rec .; }} >|{RUN_DIR}/ctl'
    return rf"{alone}; case $- in *e*) \command set +e; ( \command set -e; {run} ) ;; *) ( {run} ) ;; esac; {tell}; \exit 0"


def traps_text(listed: str) -> str:
    """What is sourced to set the traps that a shell's `trap` listed; nothing where that is no such list."""
    try:
        words = shlex.split(listed)
    except ValueError:
        return ""
    traps = [words[i : i + 4] for i in range(0, len(words), 4)]
    if any(len(trap) != 4 or trap[:2] != ["trap", "--"] for trap in traps):
        return ""
    return "".join(rf"\command trap -- {quote(action)} {quote(condition)}" + "\n" for _, _, action, condition in traps)


REENTER = rf"\command . {RUN_DIR}/reenter"


def reenter_text(cwd: str) -> str:
    """What is sourced to go into a directory anew, if the one that the shell is in has that name no more. OLDPWD stays."""
    enter = rf"\command cd -- {quote(cwd)} 2>/dev/null || \command :"
    keep = rf"__lab_o=$OLDPWD; {enter}; OLDPWD=$__lab_o; \command unset __lab_o"
    anew = rf"case ${{OLDPWD+x}} in x) {keep} ;; *) {enter}; \command unset OLDPWD ;; esac"
    return f"if \\command [ . -ef {quote(cwd)} ]; then \\command :; else {anew}; fi\n"


DROP = r"\exit 0"
MERGE = r"\command exec 2>&1 && "


def step_text(command: Command, *, traced: bool, stderr: str, bent: Bent = STRAIGHT) -> str:
    """What is sourced: the script itself, so that it runs in the session's shell; or a subshell that becomes the program.

    The program's stderr is `stderr`, a redirection. The shell's own is not it while it waits, see `sourcing`.
    """
    trace = r"\command set -x; " if traced else ""
    if bent.traps and command.run is not None:
        trace = rf'{{ \command eval "\command unset __lab_t; {trace}${{__lab_t-}}"; }} 2>/dev/null; '
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


def before_text(command: Command) -> str:
    """What is sourced before the step: lasting exports, then its own environment and directory."""
    lines = [rf"\command export {name}={quote(value)}" for name, value in command.exports.items()]
    for i, (name, value) in enumerate(command.env.items()):
        lines.append(f'__lab_h{i}=${{{name}+x}} __lab_v{i}="${{{name}-}}"')
        lines.append(rf"\command export {name}={quote(value)}")
    if command.cwd is not None:
        lines.append('__lab_o="${OLDPWD-}"')
        lines.append(rf"\command cd -- {quote(command.cwd)} 2>/dev/null || {{ \__lab_refuse cwd; \return 1; }}")
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


def run_line(
    command: Command,
    number: int,
    *,
    stdin: str,
    can_catch: bool,
    park: int | None = None,
    procs: str = "/dev/null",
    bent: Bent = STRAIGHT,
) -> str:
    """What becomes of the line `run(nonce)`: a script that sets `__c`, which holds the nonce already, to what runs one step.

    The nonce comes by the FIFO and stands only in the text that is being run: no file and, while the step runs, no variable.
    With `park` the shell then forks the copy of that number by itself, but only if it could tell from the file `procs` which
    processes there were before, and holds nothing open that a copy would hold too.
    """
    source = sourcing(command, can_catch=can_catch)
    merge = MERGE if command.merge else ""
    bracketed = needs_brackets(command)
    before = rf"\command . {RUN_DIR}/before && " if bracketed else ""
    after = rf"\command . {RUN_DIR}/after; " if bracketed else ""
    text = (
        rf"\command export TESTRONAUT_LAB={quote(_one_line(command.nodeid))}; \__lab_go {number} {stdin} && {merge}"
        rf"{before}{source}; {_fin(command, bent)}; {after}\__lab_end "
    )
    rest = f" {procs}"
    if park is not None:
        copy = rf'\__lab_parked {park}; IFS= \command read -r __c <{RUN_DIR}/k.{park}; {_catching(can_catch)}eval "$__c"'
        rest += f"; case $__lab_d$__lab_n in --,*) ( ( {copy} ) </dev/null >/dev/null 2>&1 & ) ;; esac"
    return f"__c={quote(text)}${{__c#+}}{quote(rest)}\n"


def _fin(command: Command, bent: Bent) -> str:
    """The first words after a step. What a DEBUG trap says of them goes nowhere."""
    fin = r'\__lab_fin "$?"'
    if bent.builtins:
        again = rf"\builtin enable {_BUILTINS} || ! \enable {_BUILTINS}"
        fin = rf'__lab_i=$?; case ${{BASH_VERSION+x}} in x) {again} ;; esac; \__lab_fin "$__lab_i"'
    if not bent.traps or command.run is None or command.isolated:
        return f"{{ {fin}; }} 2>/dev/null"
    keep = r"__lab_t=$(\command trap -p ERR RETURN DEBUG); \command trap - ERR RETURN DEBUG"
    return f"{{ {fin}; case ${{BASH_VERSION+x}} in x) {keep} ;; esac; }} >|/dev/null 2>&1"


def run(nonce: str) -> str:
    """The line that runs the step that is written down."""
    return f"+{nonce}"


def needs_brackets(command: Command) -> bool:
    return bool(command.env or command.exports or command.cwd is not None)


def _hello() -> str:
    can_catch = f"case {_CAN_CATCH} in x) c=1 ;; *) c=0 ;; esac"
    return f'IFS= read -r k; IFS=\' \' read -r p x </proc/self/stat; {can_catch}; {_SAY} "$k" L "$p $c" "$k" >{RUN_DIR}/ctl'


def _hold(number: int) -> str:
    return f"IFS= read -r x <{RUN_DIR}/hold.{number}"


def _one_line(text: str) -> str:
    return text.replace("\n", " ")
