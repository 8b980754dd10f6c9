"""Random sequences of steps, drawn from the words that shells and users have trouble with.

Nothing in a step depends on chance or on time: jobs write to no stream, and are waited for in the step that starts them.
"""

from __future__ import annotations

from hypothesis import strategies as st
from sequences import OPEN_ENDS, Sequence

WORDS = st.sampled_from(["a", "b c", "*", "$x", "'", "é", "", "1"])
NAMES = st.sampled_from(["x", "y", "z"])
CODES = st.sampled_from([0, 1, 2, 5, 42, 126, 127, 130, 255])
BUILTINS = ["true", "test", "printf", "read", "pwd", "cd", "command", "kill", "wait", "type"]


def quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _flags(text: str, letters: str) -> st.SearchStrategy[str]:
    return st.builds(lambda sign, letter: text.format(f"{sign}{letter}"), st.sampled_from("-+"), st.sampled_from(letters))


SETTINGS = st.one_of(
    st.builds(lambda name, word: f"{name}={quoted(word)}", NAMES, WORDS),
    st.builds(lambda name, word: f"export {name}={quoted(word)}", NAMES, WORDS),
    st.builds("unset {}".format, NAMES),
    st.builds("readonly {}".format, st.sampled_from(["r=1", "IFS", "PS4", "OLDPWD", "r2=2"])),
    st.builds("IFS={}".format, st.sampled_from(["/", "0123456789", "''", "' '"])),
    _flags("set {}", "euxfCa"),
    st.builds("umask {}".format, st.sampled_from(["022", "077", "002"])),
    st.builds("cd {}".format, st.sampled_from(["/tmp", "/workspace", "/", "..", "-", "/nosuch"])),
    st.builds("set -- {}".format, st.lists(WORDS.map(quoted), max_size=3).map(" ".join)),
    st.sampled_from(["PATH=", "PS4='+$x> '", "shift", "unset IFS", "mkdir -p d; cd d", "set -o noglob", "set +v"]),
)  # fmt: skip
FUNCTIONS = st.one_of(
    st.builds(lambda name, code: f"{name}() {{ echo {name} \"$1\" $?; return {code}; }}", st.sampled_from("fgh"), CODES),
    st.builds("{} {}".format, st.sampled_from("fgh"), WORDS.map(quoted)),
    st.builds("{}() {{ env printf 'mine '; return 3; }}".format, st.sampled_from(BUILTINS)),
    st.builds("unset -f {}".format, st.sampled_from(["f", "g", *BUILTINS])),
    st.sampled_from([". ./lib", "lib x 3", ". ./names", "command echo c", "test -n x", "pwd"]),
)  # fmt: skip
TRAPS = st.one_of(
    st.builds(lambda word, name: f"trap {quoted(word)} {name}", st.sampled_from(["echo t", "", "x=trapped", "echo t $?", ":"]),
              st.sampled_from(["USR1", "TERM", "INT", "QUIT", "HUP", "CHLD", "USR2"])),
    st.builds("trap - {}".format, st.sampled_from(["USR1", "TERM", "INT", "CHLD", "EXIT"])),
    st.builds("kill -{} $$".format, st.sampled_from(["USR1", "TERM", "INT", "QUIT", "HUP", "USR2"])),
    st.sampled_from([". ./usr1", "n=0; . ./chld", "echo n=$n", "trap", "(trap 'echo sub' EXIT)",
        "trap 'echo bye >&2; exit 4' EXIT; exit 2"]),
)  # fmt: skip
DESCRIPTORS = st.one_of(
    st.builds("exec {}>&{}".format, st.sampled_from([3, 4, 5]), st.sampled_from([1, 2])),
    st.builds("echo to {0} >&{0}".format, st.sampled_from([1, 2])),
    st.builds("( echo to {0} >&{0} ) 2>/dev/null || echo closed {0}".format, st.sampled_from([3, 4, 5, 6])),
    st.builds("exec {}>&-".format, st.sampled_from([3, 4, 5, 6])),
    st.sampled_from(["exec 6>held", "exec 5<in", "read v <&5; echo \"$v\"", "cat in; cat held", "exec 3>&1 1>&2 2>&3 3>&-",
                     "exec 3>&1 >hidden", "exec >&3", "printf '1\\n2\\n' >in", "exec 2>&1", "echo more >>held"]),
)  # fmt: skip
STATUS = st.one_of(
    st.builds("(exit {})".format, CODES),
    st.builds("sh -c 'exit {}'".format, CODES),
    st.sampled_from(["true", "false", "echo $?", "! true", "! false", "[ $? = 0 ] && echo zero", "nosuch-program",
        "false || true",
                     "true && false", "if false; then :; fi", "cat </nosuch", "echo \"[$?]\" >&2", "echo ${x?unset}"]),
)  # fmt: skip
TEXTS = st.one_of(
    st.builds("echo {}".format, WORDS.map(quoted)),
    st.builds("cat <<E\n{} $x\nE\n".format, st.sampled_from(["one", "two\nthree", "a'b"])),
    st.builds("cat <<'E'\n{} $x\nE\n".format, st.sampled_from(["one", ")", "`"])),
    st.builds("eval {}".format, st.sampled_from(["'echo ev $?'", "'(exit 9)'", "'x=evaluated'", "'false'"])),
    st.sampled_from(["for i in 1 2; do echo $i; done", "while :; do break 3; done", "case $x in a) echo A;; *) echo other;; esac",
                     "{ echo grouped; (exit 8); }", "x=$(echo sub; exit 6)", "echo $x $y $#", 'printf "[%s]" "$@"', "read v",
                     "cat",
                     "# a comment", "\n", "echo a \\\n b", "set | grep -c '^x='", "env | grep '^[xyz]='", "( cd /; pwd )"]),
)  # fmt: skip
JOBS = st.sampled_from(
    [
        "sleep 0.01 & wait $!",
        "(exit 3) & wait $!",
        "( echo job >job ) & wait; cat job",
        "wait",
        ": & wait; echo $?",
        "true & p=$!; wait $p",
    ]
)
ALIASES = st.sampled_from(["alias hi='echo hello'", "hi there", "unalias -a", "alias e=echo", "e aliased"])
ENDS = st.one_of(
    st.builds("exit {}".format, CODES),
    st.sampled_from(["exit", "exec true", "exec false", "kill -9 $$", "set -e; false", "set -u; echo $nosuch_name", "fi",
        "echo a; )"]),
)  # fmt: skip
IN_BASH = st.one_of(
    _flags("set {}", "ETBH"),
    st.builds("shopt {} {}".format, st.sampled_from(["-s", "-u"]),
              st.sampled_from(["nullglob", "failglob", "nocasematch", "extglob", "expand_aliases", "execfail", "lastpipe",
                  "dotglob"])),
    st.builds("set {}o {}".format, st.sampled_from("-+"), st.sampled_from(["pipefail", "posix", "errtrace", "functrace"])),
    st.builds("trap {} {}".format, st.sampled_from(["'echo D:$BASH_COMMAND'", "'echo T$?'", "-", "x=trap"]),
              st.sampled_from(["DEBUG", "ERR", "RETURN"])),
    st.sampled_from([". ./debug", ". ./err", "BASH_XTRACEFD=1", "exec 7>trace; BASH_XTRACEFD=7", "cat trace", "GLOBIGNORE='*'",
                     "PROMPT_COMMAND='echo P'", "a=(1 '2 3')", "a+=(4)", 'echo "${a[@]}"', "declare -i n=3", "n+=1",
                     "declare -A m=([k]=v)",
                     "declare -l low=ABC", "declare -n ref=x", "local q=1 2>/dev/null", "false | true | (exit 4)",
                     'echo "$? ${PIPESTATUS[*]}"', "true y; echo $_", "echo $BASH_SUBSHELL", "echo x > >(cat); wait $!",
                     "cat <(echo p)", "exit() { echo myexit; }", ":() { echo colon; }", "unset -f exit :", "enable -n printf",
                     "enable printf",
                     "[[ ab =~ (a) ]]", "POSIXLY_CORRECT=1", "echo $LINENO; :", "(( 0 ))", "let n=5", "printf -v x %s v"]),
)  # fmt: skip

# `one_of` would make one of all their branches; here each family is as likely as it stands here
_ANYWHERE = [SETTINGS, SETTINGS, FUNCTIONS, TRAPS, DESCRIPTORS, STATUS, STATUS, TEXTS, JOBS, ALIASES]
_FAMILIES = {"bash": [*_ANYWHERE, IN_BASH, IN_BASH, IN_BASH, IN_BASH]}
_ENDINGS = [None] * 20 + [st.sampled_from(OPEN_ENDS), ENDS]


@st.composite
def _steps(draw: st.DrawFn, families: list[st.SearchStrategy[str]]) -> str:
    """One step: some lines, seldom with an open end, seldom one that ends the shell."""
    pieces = draw(st.lists(st.sampled_from(families).flatmap(lambda family: family), min_size=1, max_size=3))
    ending = draw(st.sampled_from(_ENDINGS))
    return "\n".join(pieces if ending is None else [*pieces[1:], draw(ending)])


def drawn(shell: str) -> st.SearchStrategy[Sequence]:
    """Random sequences for this shell, of at most five steps."""
    steps = _steps(_FAMILIES.get(shell, _ANYWHERE))
    return st.lists(steps, min_size=2, max_size=5).map(lambda steps: Sequence(tuple(steps)))
