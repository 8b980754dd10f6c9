"""Sequences of steps that somebody thought of, one for each member of a family of bugs. `drawn.py` draws others at random."""

from __future__ import annotations

from dataclasses import dataclass

# The end of such a text is open: what one script has behind it would be read as a part of it.
OPEN_ENDS = (
    "wc -c <<E\none", "printf '%s\\n' a\\", "echo a; echo 'b", 'echo "a', "true &&", "false ||", "echo a |",
    "if true; then", "for i in 1; do echo $i", "{ echo a", "echo $(echo b", "case a in", "echo a # b\\",
)  # fmt: skip


@dataclass(frozen=True)
class Sequence:
    """Steps for one session, in whose workspace the files of LIBRARY lie."""

    steps: tuple[str, ...]

    @property
    def apart(self) -> frozenset[int]:
        """The numbers of the steps whose texts end open."""
        return frozenset(number for number, step in enumerate(self.steps) if step.endswith(OPEN_ENDS))


# what sequences read with `.`: files by name
LIBRARY = {
    "debug": "trap 'echo D:$BASH_COMMAND' DEBUG\n",
    "err": "trap 'echo E:$?' ERR\n",
    "chld": "trap 'n=$((n+1))' CHLD\n",
    "usr1": "trap 'echo caught' USR1\n",
    "lib": "lib() { echo in lib $1; return $2; }\nv=lib\nset -- from lib\n",
    "names": "__lab_fin() { return 0; }\n__lab_next() { exit 7; }\nfin() { return 0; }\nreport() { return 0; }\n",
}

BY_HAND: tuple[tuple[str, ...], ...] = (
    ("x=5 y='a b'", 'echo $x "$y"', "unset x", 'echo "${x-none}"'),
    ("f() { echo f $1; }", "f 3; f 4 >&2", "unset -f f", "f 2>/dev/null || echo gone"),
    ("(exit 3)", "echo $?", "echo $?"),
    ("false", "[ $? -eq 0 ] && echo yes || echo no"),
    ("nosuch 2>/dev/null", "echo $?"),
    ("g() { return 42; }", "g", "echo $?", "exit"),
    ("h() { return; }", "(exit 6)", "h", "echo $?"),
    ("cd /usr", "cd /tmp", "cd - >/dev/null; pwd; echo $OLDPWD"),
    ("exec 3>&1", "echo second >&3", "exec 3>&-", "(echo gone >&3) 2>/dev/null || echo closed"),
    ("exec 4>&2", "echo ERROR >&4; (echo deep >&4)"),
    ("exec 3>&1 >hidden", "echo hidden", "exec >&3 3>&-", "cat hidden"),
    ("exec 2>&1", "echo x >&2", "ls /nosuch >&2 || echo failed"),
    ("exec 3>&1 1>&2 2>&3 3>&-", "echo out; echo err >&2"),
    ("exec 5>held", "echo x >&5", "exec 5>&-; cat held"),
    ("printf 'a\\nb\\n' >in; exec 5<in", "read v <&5; echo $v", "read w <&5; echo $w"),
    ("set -x", "echo hi", "x=1", "false", "set +x", "echo done"),
    ("PS4='+$x> '; x=q; set -x", "echo a", "(echo b)"),
    ("PS4='$(echo T) '; set -x", "echo a\n"),  # dash expands it wrongly behind a last line without an end
    ("set -v\n", "echo hi\n", "set +v\n", "echo there\n"),
    ("set -e", "echo before", "false", "echo never"),
    ("set -e", "! true", "echo alive $?"),
    ("set -e", "false && true", "echo alive $?"),
    ("set -e", "if false; then :; fi", "echo alive $?", "(exit 4) || true"),
    ("set -u", "echo ok $?", "echo $nosuch"),
    ("set -C", "echo x >c", "( echo y >c ) 2>/dev/null || echo refused", "case $- in *C*) echo C;; esac"),
    ("set -f", "echo *"),
    ("set -a; v=1", "sh -c 'echo $v'"),
    ("IFS=/; x=a/b", "echo $x", "(exit 4)", "echo $?"),
    ("IFS=0123456789", "(exit 4)", 'echo "$?"'),
    ("readonly IFS", "x=5", "echo $x", "(exit 2)", "echo $?"),
    ("readonly PATH OLDPWD PWD PS4", "(exit 2)", "echo $?"),
    ("i=1; readonly i", "echo $i; ( i=2 ) 2>/dev/null || echo fixed"),
    ("PATH=", "(exit 3)", "echo $?", "nosuch 2>/dev/null; echo $?"),
    ('printf() { echo mine; }; command() { echo cmd "$@"; }; pwd() { echo p; }', "printf x; pwd", "command x", "false",
        "echo $?"),
    ("read() { echo r; }; cd() { echo c; }; true() { echo t; }; test() { echo te; }", "read; cd; true; test", "(exit 3)",
        "echo $?"),
    ("trap 'echo bye $? >>said' EXIT", "echo x", "cat said 2>/dev/null || exit 3"),
    ("n=0; trap 'n=$((n+1))' CHLD", "echo a", ":", "echo n=$n"),
    ("trap 'echo usr1' USR1", "kill -USR1 $$", "(exit 3)", "kill -USR1 $$; echo $?"),
    ("trap '' TERM", "kill -TERM $$; echo alive", "trap - TERM", "kill -TERM $$"),
    ("trap 'echo int' INT", "kill -INT $$; echo after"),
    (". ./usr1", "kill -USR1 $$; echo after"),
    (". ./lib", "lib a 3", "echo $? $v $# $1"),
    (". ./names", "false", "echo $?"),
    ("alias hi='echo hello'; type shopt >/dev/null 2>&1 && shopt -s expand_aliases", "hi world", "unalias hi"),
    ("cat <<E\none $x\nE", "cat <<'E'\none $x\nE\n", "cat <<-E\n\t\tone\n\tE"),
    ("sleep 0.01 & p=$!", "[ $p = $! ] && echo same; wait $p; echo $?"),
    ("(exit 5) &", "wait $!; echo $?", "wait; echo $?"),
    ("p=$$", "[ $$ = $p ] && sh -c '[ $PPID = '$$' ] && echo parent'; :"),
    ("set -- a 'b c'", 'echo $# "$2"', "shift; echo $1", "set --", "echo $#"),
    ("umask 077", "umask", "umask u=rwx,g=,o=; umask"),
    ("ulimit -f 0", "echo ok"),
    ("set -- -a -b", "getopts ab o; echo $o", "getopts ab o; echo $o $OPTIND"),
    ("break 5 2>/dev/null; echo rc $?", "continue 2>/dev/null; echo on",
        "for i in 1 2; do while :; do break 9; done; echo no; done; echo $i"),
    ("for k in 1 2 3; do\n  echo $k\ndone", "echo $k"),
    ("echo 'echo in $1' >s; . ./s", "eval 'echo ev; (exit 5)'", "echo $?"),
    ("# " + "x" * 9000 + "\necho long", "echo ${#x}"),
    ("x=" + "y" * 70000, "echo ${#x}"),
    ("echo a", "kill -9 $$"),
    ("kill 0",),
    ("sh -c 'trap \"kill 0\" EXIT; exit 1'",),
    ("exec true",),
    ("cat; echo rc $?", "read v; echo $?"),
    ("echo a\necho b\nnosuch", "nosuch2; echo $?"),
    ("x=1\necho first\n)\necho never",),
    ("echo a; fi",),
    ("set -n\necho never",),
    ("", "\n\n", "# only this", "echo on"),
    ("if [ -z \"$x\" ]; then x=set; fi", "echo $x", "case $x in s*) echo m;; esac"),
    ("echo a >&2; false", "echo $? >&2"),
    ("exec 0</workspace/in 2>/dev/null || :",),
    ("(sleep 0.05; exit 4) & wait $!", "echo $?"),
    ("cat <<E\none\nE\nB", "echo on $?"),
    *((text, "echo on $?") for text in OPEN_ENDS),
)  # fmt: skip

BY_HAND_IN_BASH: tuple[tuple[str, ...], ...] = (
    ("echo a b", "echo $_", "ls /nosuch 2>/dev/null", "echo $_ $?"),
    ("false | true | (exit 4)", "echo ${PIPESTATUS[@]}", "echo ${PIPESTATUS[@]}"),
    ("set -o pipefail", "false | true", "echo $? ${PIPESTATUS[@]}"),
    ("IFS=/", "false | true", 'echo "${PIPESTATUS[@]}"'),
    ("trap 'echo D:$BASH_COMMAND' DEBUG", "echo a", "x=1", "(exit 3)", "echo $?", "trap - DEBUG"),
    (". ./debug", "echo a", "false", "echo $?"),
    (". ./err", "false", "(exit 4)", "echo $?"),
    ("n=0; . ./chld", "echo a", ":", "echo n=$n"),
    ("set -T; trap 'echo D:$BASH_COMMAND' DEBUG", "f() { echo f; }", "f", "(echo s)"),
    ("shopt -s extdebug; trap '[[ $BASH_COMMAND != *skip* ]]' DEBUG", "echo skip; echo b", "echo c"),
    ("trap 'echo E$?' ERR", "false", "(exit 4)", "echo $?"),
    ("set -E; trap 'echo E:$BASH_COMMAND' ERR", "f() { false; echo in; }; f", "false", "true"),
    ("trap 'echo R' RETURN", "echo a", "f() { :; }; f", "echo b"),
    ("trap 'echo R' RETURN; echo x >in; exec 5<in", "read v <&5; echo $v", "cat <in"),
    ("trap 'echo R' RETURN", "cat <<E\none\nE\n", "cat <<<two", "echo $_"),
    (". ./debug", "cat <<E\none\nE", "cat <<-'E'\n\tone\n\tE\n", "trap - DEBUG"),
    ("false | true", "cat <<E | cat\n${PIPESTATUS[*]}\nE\n", "echo ${PIPESTATUS[*]}"),
    ("set -T; trap 'echo R' RETURN", "f() { :; }; f", "echo b"),
    ("BASH_XTRACEFD=1; set -x", "echo a", "false", "echo $?"),
    ("exec 7>trace; BASH_XTRACEFD=7; set -x", "echo a", "false", "set +x; exec 7>&-; cat trace"),
    ("POSIXLY_CORRECT=1", "echo a; (exit 3)", "echo $?"),
    ("set -o posix", "(exit 3)", "echo $?"),
    ("shopt -s nullglob failglob", "(exit 2)", "echo $?"),
    ("shopt -s nocasematch; set -E", "case A in a) echo m;; esac", "echo ${-//[hBs]/}"),
    ("readonly _", "x=5", "echo $x"),
    ("GLOBIGNORE='*'", "echo a; (exit 3)", "echo $?"),
    ("exit() { echo myexit; }; trap() { echo mytrap; }; eval() { echo myeval; }", "(builtin exit 3)", "echo $?; eval x; trap"),
    (". () { echo dot; }; source() { echo src; }; return() { echo ret; }", "echo a", "builtin echo $?"),
    (":() { echo colon; }", "echo a", ":"),
    ("enable -n printf read pwd . eval exec exit trap", "echo a", "enable printf read pwd . eval exec exit trap"),
    ("a=(1 2 '3 4')", 'echo ${#a[@]} "${a[2]}"', "a+=(5)", "echo ${#a[@]}; unset 'a[0]'; echo ${!a[@]}"),
    ("declare -A m=([k]=v); declare -i n=3; declare -l low=ABC", "echo ${m[k]} $n $low; n+=4", "echo $n; low=XYZ; echo $low"),
    ("declare -n ref=target; ref=5", "echo $target; export ref", "declare -p target"),
    ("cat <(echo p)", "echo x > >(cat); wait $!"),
    ("coproc cat", "echo hi >&${COPROC[1]}; read v <&${COPROC[0]}; echo $v",
        "kill $COPROC_PID; wait $COPROC_PID 2>/dev/null; echo $?"),
    ("PROMPT_COMMAND='echo P'", "echo a"),
    ("echo $BASH_SUBSHELL; [ $BASHPID = $$ ] && echo same", "(echo $BASH_SUBSHELL)"),
    ("shopt -s execfail", "exec /nonexistent 2>/dev/null; echo yes $?"),
    ("shopt -s lastpipe", "echo a | read v; echo $v"),
    ("return 3 2>/dev/null; echo $?", "echo on"),
    ("readonly LINENO", "echo a", "echo b"),
    ("set -m", "sleep 0.01 & wait; echo $?", "set +m; echo b"),
    ("echo {a,b}; set +B", "echo {a,b}"),
    ("mapfile -t l <<<$'1\\n2'", 'echo "${l[1]}"', "[[ ${l[0]} =~ (.) ]]", 'echo "${BASH_REMATCH[1]}"'),
)  # fmt: skip


# bash has a subshell of ours there, which a CHLD trap counts (docs/shell.md)
BY_HAND_IN_OTHERS: tuple[tuple[str, ...], ...] = (
    ("trap 'echo child' CHLD", "(exit 3)", "echo $?; (exit 145)", "echo $?"),
    ("n=0; . ./chld", "sh -c 'exit 9'", "echo $?", ":", "echo $? n=$n"),
)  # fmt: skip


def by_hand(shell: str) -> list[Sequence]:
    """The sequences that somebody thought of, for this shell."""
    return [Sequence(steps) for steps in BY_HAND + (BY_HAND_IN_BASH if shell == "bash" else BY_HAND_IN_OTHERS)]
