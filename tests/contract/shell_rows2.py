"""More of what a step does in a session as in a shell of one's own: traps, options, variables, and a shell's end.

The other half of `shell_rows.py`, which says what a row is.
"""

from __future__ import annotations

from behaviours import Do
from shell_rows import BASH, DASH_AND_ASH, RESTORED, row, step

DEBUG = "trap 'echo D:$BASH_COMMAND' DEBUG\n"

TRAPS = {
    "a DEBUG trap hears of the step's own commands": row(
        step("trap 'echo D:$BASH_COMMAND' DEBUG"),
        step("echo a", "D:echo a\na\n"),
        step("x=1", "D:x=1\n"),
        step("false", "D:false\n", code=1),
        step("echo $?", "D:echo $?\n1\n"),
        step("exit 3", "D:exit 3\n", code=3, state=RESTORED),
        step("trap - DEBUG", "D:trap - DEBUG\n"),
        step("echo b", "b\n"),
        shells=BASH,
    ),
    "a DEBUG trap from a sourced file hears of the step's own commands": row(
        step(". ./lib"),
        step("echo a", "D:echo a\na\n"),
        step("x=1", "D:x=1\n"),
        step("echo $?", "D:echo $?\n0\n"),
        shells=BASH,
        files={"lib": DEBUG},
    ),
    "a DEBUG trap that functions have too hears of the step's own commands": row(
        step("set -T; f() { echo f; }; trap 'echo D:$BASH_COMMAND' DEBUG"),
        step("f", "D:f\nD:f\nD:echo f\nf\n"),
        step("(echo s)", "D:echo s\ns\n"),
        shells=BASH,
    ),
    "an ERR trap from a sourced file fires once for each failure": row(
        step(". ./lib"),
        step("false", "E1\n", code=1),
        step("echo $?", "1\n"),
        step("(exit 4)", "E4\n", code=4),
        step(":"),
        step("exit 3", code=3, state=RESTORED),
        step("false", "E1\n", code=1),
        shells=BASH,
        files={"lib": "trap 'echo E$?' ERR\n"},
    ),
    "an ERR trap that functions have too fires for the step's own failures": row(
        step("set -E; trap 'echo E:$BASH_COMMAND' ERR"),
        step("f() { false; echo in; }; f", "E:false\nin\n"),
        step("false", "E:false\n", code=1),
        step("true"),
        shells=BASH,
    ),
    "a RETURN trap from a sourced file hears of no text of ours": row(
        step(". ./lib", None),
        step("echo a", "a\n"),
        step("f() { :; }; f"),
        step("echo b", "b\n"),
        shells=BASH,
        files={"lib": "trap 'echo R' RETURN\n"},
    ),
    "a CHLD trap counts the step's own children": row(
        step("n=0; trap 'n=$((n+1))' CHLD"),
        step("echo a", "a\n"),
        step(":"),
        step("(exit 3)", code=3),
        step("n=0"),
        step("echo n=$n", "n=0\n"),
        shells=BASH,
    ),
    "a CHLD trap from a sourced file writes nothing behind a step without children": row(
        step(". ./lib"), step(":", changes=()), step("echo a", "a\n", changes=()), files={"lib": "trap 'echo x >>seen' CHLD\n"}
    ),
    "PROMPT_COMMAND is not run": row(step("PROMPT_COMMAND='echo P'"), step("echo a", "a\n"), shells=BASH),
}

OPTIONS = {
    "a readonly IFS costs nothing": row(
        step("readonly IFS"), step("x=5"), step("echo $x; (exit 4)", "5\n", code=4), step("echo $?", "4\n")
    ),
    "readonly names of all kinds cost nothing": row(
        step("i=1; readonly i PATH OLDPWD PWD PS4 LC_ALL LANG HOME TERM"),
        step("(exit 2)", code=2),
        step("echo $? $i", "2 1\n"),
        step("exit 3", code=3, state=RESTORED),
        step("echo $? $i", "0 1\n"),
    ),
    "set -n reads on and runs nothing": row(
        step("x=1"), step("set -n\necho never", timeout_s=10, state=RESTORED), step("echo on $x", "on 1\n")
    ),
    "set -n alone is a step that ends well": row(
        step("set -n", timeout_s=10, state=RESTORED), step("echo on; (exit 3)", "on\n", code=3)
    ),
    "nocasematch and errtrace hold and nothing else": row(
        step("shopt -s nocasematch; set -E"),
        step(
            "case A in a) echo m;; esac; shopt -u nocasematch; case $- in *e*) echo e;; esac; case $- in *E*) echo E;; esac",
            "m\nE\n",
        ),
        shells=BASH,
    ),
    "globbing options cost nothing": row(
        step("shopt -s nullglob failglob"), step("(exit 2)", code=2), step("echo $?; [ -e /workspace ]", "2\n"), shells=BASH
    ),
    "GLOBIGNORE costs nothing": row(
        step("GLOBIGNORE='*'"), step("echo a; (exit 3)", "a\n", code=3), step("echo $?", "3\n"), shells=BASH
    ),
    "break leaves the step's own loops": row(
        step("for i in 1 2; do for j in 1 2; do break 5; done; echo never; done; echo after", "after\n"),
        step("for i in 1 2; do for j in 1 2; do continue 5; done; echo never; done; echo after", "after\n"),
        step("while :; do break 9; done; echo $?", "0\n"),
        step("break; echo on", "on\n", None),
        step("continue 3; echo on", "on\n", None),
    ),
    "set -e ends the shell and comes back with it": row(
        step("set -e; x=1"),
        step("x=2; false; echo never", code=1, state=RESTORED),
        step("case $- in *e*) echo e $x;; esac; if false; then :; fi; set +e", "e 1\n"),
    ),
    "POSIX mode costs nothing": row(step("set -o posix"), step("(exit 3)", code=3), step("echo $?", "3\n"), shells=BASH),
    "an empty PATH costs nothing": row(step("PATH="), step("(exit 3)", code=3), step("echo $?", "3\n")),
    "aliases of reserved words cost nothing": row(
        step("alias hi='echo hello' exec=false command=false eval=false trap=false exit=false read=false printf=false"),
        step("hi world", "hello world\n"),
        step("echo a", "a\n"),
        step("(\\exit 3)", code=3),
        step("echo $?", "3\n"),
        shells=DASH_AND_ASH,
    ),
}

ENDS = {
    "a restored shell has its number": row(
        step("p=$$"),
        step("exit 3", code=3, state=RESTORED),
        step("[ $$ = $p ] && kill -0 $$ && [ -d /proc/$$ ] && sh -c '[ $PPID = '$$' ] && echo same'", "same\n"),
        step("kill -TERM $$", code=143, state=RESTORED),
        step("[ $$ = $p ] && kill -0 $$ && echo same", "same\n"),
    ),
    "a restored shell can be interrupted": row(
        step("exit 3", code=3, state=RESTORED),
        step("trap 'echo int' INT; trap 'echo quit' QUIT"),
        step("kill -INT $$; kill -QUIT $$; echo after", "int\nquit\nafter\n"),
        step("trap - INT QUIT"),
        step("sh -c 'kill -INT $$'", err=None, code=130),
        step("kill -INT $$", err=None, code=130, state=RESTORED),
        step("echo on", "on\n"),
    ),
    "a restored shell has its traps": row(
        step("trap 'echo int' INT; trap 'echo usr1' USR1; trap '' TERM"),
        step("exit 3", code=3, state=RESTORED),
        step("kill -INT $$; kill -USR1 $$; kill -TERM $$; echo after", "int\nusr1\nafter\n"),
    ),
    "a program that cannot be executed ends no shell that goes on after it": row(
        step("shopt -s execfail"),
        step("exec /nonexistent 2>/dev/null; echo yes $?", "yes 127\n"),
        step("exit 3", code=3, state=RESTORED),
        step("exec /nonexistent 2>/dev/null; echo yes $?", "yes 127\n"),
        shells=BASH,
    ),
    "a signal to the whole group is how a restored shell's step ends": row(
        step("x=1; exit 3", code=3, state=RESTORED),
        step("x=2"),
        step("kill 0; echo never", err=None, code=143, state=RESTORED),
        step("echo on $x; exit 3", "on 2\n", code=3, state=RESTORED),
        step("kill 0", err=None, code=143, state=RESTORED),
        step("echo on $x", "on 2\n"),
    ),
    "a child's signal to the whole group ends the step": row(
        step("x=1"),
        step("sh -c 'trap \"kill 0\" EXIT; exit 1'", err=None, code=143, state=RESTORED),
        step("echo on $x", "on 1\n"),
    ),
    "a trap hears a signal to the whole group": row(
        step("trap 'echo term' TERM"),
        step("kill 0; echo after", "term\nafter\n"),
        step("exit 3", code=3, state=RESTORED),
        step("kill 0; echo after", "term\nafter\n"),
    ),
    "a step that kills all but its shell ends as it says": row(
        step("export A=1; cd /tmp"),
        step("kill -9 -1; : >/workspace/alive; exit 0", state=None, changes=("added alive",)),
        step("echo $A $PWD", "1 /tmp\n"),
    ),
    "a step that kills all but its shell goes on": row(
        step("x=1"), step("kill -9 -1; echo alive", "alive\n", state=None), step("echo on; (exit 3)", "on\n", code=3)
    ),
    "what kills every shell is told as the signal that it was": row(
        step("export A=1"), step("sh -c 'kill -ABRT -1'", err=None, code=134, state=None), step("echo $A", "1\n")
    ),
    "a shell that kills itself is told as the signal that it was": row(
        *[
            step(f"kill -{name} $$", err=None, code=code, state=RESTORED)
            for name, code in (("KILL", 137), ("HUP", 129), ("ABRT", 134), ("SEGV", 139))
        ],
        step("echo on", "on\n"),
    ),
    "a step that ends its shell says which state is there": row(
        step("X=1"),
        Do("X=5; cd /tmp; exit 3", "", "", 3, RESTORED, note="its state from before it"),
        step("echo $X; pwd", "1\n/workspace\n"),
        Do("exec true", "", "", 0, RESTORED, note="its state from before it"),
        Do("set -e; false", "", "", 1, RESTORED, note="its state from before it"),
        Do("kill -9 $$", "", None, 137, RESTORED, note="its state from before it"),
    ),
}

# what `sh FILE`, in a file that has the shell's name, or `sh -c TEXT` does with it in the same container is the truth
OPEN_ENDS = {
    "a here-document without its end": "wc -c <<E\none",
    "a here-document without its last newline": "wc -c <<E\none\nE",
    "two here-documents, the second without its end": "cat <<A; cat <<B\na\nA\nb",
    "a trailing backslash": "printf '%s\\n' a\\",
    "a trailing backslash and newline": "printf '%s\\n' a \\\n",
    "a comment that ends with a backslash": "echo a # b\\",
    "no closing quote": "echo a; echo 'b",
    "no closing double quote": 'echo "a',
    "no closing substitution": "echo $(echo a",
    "no fi": "echo a\nif true; then\n",
    "no done": "for i in 1; do\necho $i\n",
    "no closing brace": "{ echo a\n",
    "an and with nothing behind it": "true &&",
    "a pipe with nothing behind it": "echo a |",
    "nothing": "",
    "newlines": "\n\n",
    "a comment": "# nothing",
}

MESSAGES = {
    "a program that is not there": "nosuch",
    "a program that is not there, on line 3": "echo a\necho b\nnosuch",
    "a path that is not there": "/nosuch/program",
    "a directory as a program": "/workspace",
    "a directory that is not there": "cd /nosuch",
    "a file to read that is not there": "cat </nosuch",
    "a file that cannot be written": "echo a >/nosuch/b; echo $?",
    "a readonly variable": "readonly fixed=1; ( fixed=2 ); echo $?",
    "an unset variable under set -u": "( set -u; echo $nosuch ); echo $?",
    "a message of one's own": "( echo ${nosuch?is missing} ); echo $?",
    "a word that is not expected": "echo a; fi",
    "a wrong option": "set -Z",
    "a division by zero": "( echo $((1/0)) ); echo $?",
    "a program that is killed": "sh -c 'kill -SEGV $$'",
}
