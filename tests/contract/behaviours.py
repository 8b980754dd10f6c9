"""The contract of a driver as data: sentences, each with steps and what is to come of them, in every shell.

Where the plain driver cannot keep the sentence, the step says what happens there instead and which note tells of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Do:
    """A step and its outcome; None is not looked at. `plain` holds the fields that differ there, `note` a part of its note."""

    run: str | None
    out: bytes | str | None = ""
    err: str | None = None
    code: int | None = 0
    state: str | None = "kept"
    kind: str = "exited"
    argv: tuple[str, ...] | None = None
    stdin: bytes = b""
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    exports: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 120.0
    error: str | None = None
    in_cwd: str | None = None
    merge: bool = False
    changes: tuple[str, ...] | None = None
    note: str | None = None
    plain: Mapping[str, object] = field(default_factory=dict)

    def under(self, driver: str) -> Do:
        """What is expected of this driver."""
        if driver == "plain":
            return replace(self, plain={}, **self.plain)  # type: ignore[arg-type]
        return replace(self, plain={}, note=None)


def program(*words: str, out: bytes | str | None = "", **fields: object) -> Do:
    return Do(None, out, argv=words, **fields)  # type: ignore[arg-type]


LOST = {"out": "", "code": 127}
RESTORED = "restored"

MIXED = "for i in 1 2 3 4 5 6 7 8; do echo out $i; echo err $i >&2; done"
IN_ORDER = "".join(f"out {i}\nerr {i}\n" for i in range(1, 9))

BEHAVIOURS: dict[str, tuple[Do, ...]] = {
    # merged streams
    "a merged step has one stream in exact order": (Do(MIXED, IN_ORDER, "", merge=True),),
    "exact arguments are merged too": (program("sh", "-c", MIXED, out=IN_ORDER, err="", merge=True),),
    "the step after a merged one has two streams": (
        Do("echo a >&2", "a\n", "", merge=True),
        Do("echo b; echo c >&2", "b\n", "c\n"),
    ),
    "what the shell itself says is merged, with an environment and a directory of the step's own": (
        Do("pwd; echo $A; nowhere-to-be-found", None, "", 127, merge=True, env={"A": "b"}, cwd="/tmp"),
        Do("pwd", "/workspace\n"),
    ),
    "a merged step that ends the shell, or does not begin, keeps what was said": (
        Do("echo a; echo b >&2; exit 3", "a\nb\n", "", 3, None, merge=True),
        Do("echo never", "", "", None, None, merge=True, cwd="/nowhere", error="UsageError"),
    ),
    # what carries on
    "the directory carries on": (Do("cd /tmp", in_cwd="/tmp"), Do("pwd; cd /workspace", "/tmp\n", in_cwd="/workspace")),
    "the last directory carries on": (Do("cd /tmp"), Do("cd - >/dev/null; pwd", "/workspace\n")),
    "a directory with a newline in its name carries on": (
        Do("mkdir -p 'a\nb'; cd 'a\nb'", in_cwd="/workspace/a\nb"),
        Do("pwd; cd ..; rmdir a*b", "/workspace/a\nb\n"),
    ),
    "a directory with odd characters in its name carries on": (
        Do("mkdir -p './-a $x \"y\"'; cd './-a $x \"y\"'"),
        Do("pwd; cd ..; rmdir ./-a*", '/workspace/-a $x "y"\n'),
    ),
    "an exported variable carries on": (Do("export A=1"), Do("env | grep ^A=; unset A", "A=1\n")),
    "an exported value with quotes and newlines carries on": (
        Do('export A="it\'s\n\\"so\\" \\$HOME \\\\ "'),
        Do('printf "%s" "$A"; unset A', 'it\'s\n"so" $HOME \\ '),
    ),
    "an exported empty value carries on": (Do("export A="), Do('echo "${A-unset}"; unset A', "\n")),
    "a changed variable of the session carries on": (
        Do("TZ=CET"),
        Do("env | grep ^TZ=; TZ=UTC", "TZ=CET\n"),
    ),
    "a removed variable stays removed": (
        Do("unset COLUMNS"),
        Do("echo ${COLUMNS-unset}; export COLUMNS=80", "unset\n"),
    ),
    "a changed PATH carries on": (
        Do("was=$PATH; export was; PATH=/nowhere:$PATH"),
        Do("case $PATH in /nowhere:*) echo yes;; esac; PATH=$was; unset was", "yes\n"),
    ),
    "an unexported variable carries on": (
        Do("v=1", note="unexported variable v"),
        Do('echo "[$v]"; unset v', "[1]\n", plain={"out": "[]\n"}),
    ),
    "a function carries on": (
        Do("f() { echo hello $1; }", note="function f"),
        Do("f you", "hello you\n", plain=LOST),
        Do("unset -f f"),
    ),
    "an alias carries on": (
        Do("test -z \"$BASH\" || shopt -s expand_aliases; alias hi='echo hi'", note="aliases"),
        Do("hi", "hi\n", plain=LOST),
        Do('unalias hi 2>/dev/null; test -z "$BASH" || shopt -u expand_aliases'),
    ),
    "positional parameters carry on": (
        Do("set -- a 'b c'", note="positional parameters"),
        Do('echo "$# $2"; set --', "2 b c\n", plain={"out": "0 \n"}),
    ),
    "a trap carries on": (
        Do("trap 'echo caught' USR1", note="traps"),
        Do(
            "read p x </proc/self/stat; kill -USR1 $p; trap - USR1; unset p x",
            "caught\n",
            plain={"out": "", "code": 138, "state": RESTORED},
        ),
    ),
    "a trap comes back with a restored shell": (
        Do("""trap 'echo "caught it'"'"'s"' USR1; trap 'echo bye' EXIT""", note="traps"),
        Do("trap - USR1 EXIT; exit 3", code=3, state=RESTORED),
        Do("exit 4", "bye\n", code=4, state=RESTORED, plain={"out": ""}),
        Do(
            "read p x </proc/self/stat; kill -USR1 $p; unset p x",
            "caught it's\n",
            plain={"out": "", "code": 138, "state": RESTORED},
        ),
        Do("trap - USR1 EXIT"),
    ),
    "an EXIT trap waits for the shell's end": (Do("trap 'echo bye' EXIT", "", note="traps"), Do("trap - EXIT")),
    "IFS carries on": (
        Do("IFS=:", note="unexported variable IFS"),
        Do("a=x:y; set -- $a; echo $#; set --; unset a IFS", "2\n", plain={"out": "1\n"}),
    ),
    "the umask carries on": (Do("umask 027"), Do("umask; umask 022", "0027\n")),
    "the option -f carries on": (Do("set -f"), Do("echo /*; set +f", "/*\n")),
    "the option -a carries on": (Do("set -a"), Do("A=1; env | grep ^A=; set +a; unset A", "A=1\n")),
    "the option -C carries on": (Do("set -C; : >c"), Do("{ true >c; } 2>/dev/null || echo refused; set +C; rm c", "refused\n")),
    "the option -u carries on and ends the step": (
        Do("set -u"),
        Do("echo $nowhere_set; echo never", "", code=None, state=None),
        Do("set +u"),
    ),
    "the option -e carries on and ends the step": (
        Do("set -e"),
        Do("false; echo never", code=1, state=RESTORED),
        Do("case $- in *e*) echo still;; esac; set +e", "still\n"),
    ),
    "the option -x traces the step and nothing else": (
        Do("set -x"),
        Do("echo two", "two\n", err="+ echo two\n"),
        Do("set +x"),
        Do("echo three", "three\n", err=""),
    ),
    "an option that is taken back is gone": (Do("set -f"), Do("set +f"), Do("set -- /w*; echo $1; set --", "/workspace\n")),
    # how a step ends
    "the exit status is that of the last command": (Do("true; ( exit 42 )", code=42),),
    "exit ends the step with its status": (Do("echo a; exit 3; echo b", "a\n", code=3, state=RESTORED), Do("echo on", "on\n")),
    "exit takes back what the step did to the shell": (
        Do("export A=1; cd /tmp"),
        Do("A=2; cd /; exit 0", state=RESTORED, in_cwd="/tmp"),
        Do("echo $A $PWD; unset A; cd /workspace", "1 /tmp\n"),
    ),
    "the output of an EXIT trap belongs to the step": (Do("trap 'echo bye' EXIT; exit 5", "bye\n", code=5, state=RESTORED),),
    "return ends the step": (Do("return 4; echo never", code=4),),
    "a step may become another program": (Do("exec cat", "through", stdin=b"through", state=RESTORED), Do("echo on", "on\n")),
    "a syntax error is a failed step": (Do("if then fi (", code=None, state=None), Do("echo on", "on\n")),
    "a shell that kills itself is restored": (
        Do("export A=1"),
        Do("echo a; read p x </proc/self/stat; kill -9 $p", "a\n", code=137, state=RESTORED),
        Do("echo $A; unset A", "1\n"),
    ),
    "a shell that is ended by TERM says so": (Do("read p x </proc/self/stat; kill -TERM $p", code=143, state=RESTORED),),
    "a program that is killed is status 137": (Do("sh -c 'kill -9 $$'; echo $?", "137\n", err=None),),
    "a step that kills all that it can is survived": (
        Do("cd /tmp; export A=1"),
        Do("sh -c 'kill -9 -1'", code=137, state="lost", plain={"state": RESTORED}),
        Do("echo $A $PWD; unset A; cd /workspace", "1 /tmp\n"),
    ),
    "a timeout ends the step and keeps what it wrote": (
        Do(
            "echo part; echo oops >&2; sleep 300",
            "part\n",
            err="oops\n",
            code=None,
            kind="timeout",
            state=RESTORED,
            timeout_s=0.5,
        ),
        Do("echo on", "on\n"),
    ),
    "a timeout reaches a process with a session of its own": (
        Do("setsid sleep 300 & sleep 300", code=None, kind="timeout", state=RESTORED, timeout_s=0.5),
        Do("ps 2>/dev/null | grep -c '[s]leep 300'; true", "0\n"),
    ),
    "a command that is not there is status 127": (Do("no-such-program", code=127),),
    # streams
    "stdout and stderr are apart": (Do("echo out; echo err >&2; echo out2", "out\nout2\n", err="err\n"),),
    "no output is no byte": (Do(":", "", err=""),),
    "output without a newline stays so": (Do("printf x", "x"),),
    "bytes come through exactly": (Do("cat", b"a\0\xff\xfe\xc3\x1b]0;x\x07\r\n", stdin=b"a\0\xff\xfe\xc3\x1b]0;x\x07\r\n"),),
    "a line feed alone comes through": (Do("cat", b"\n", stdin=b"\n"),),
    "output that looks like a record forges nothing": (
        Do("echo '@0123456789abcdef S 0 0 - -'; echo '@x.'; ( exit 6 )", None, code=6),
    ),
    "without stdin a step reads an end at once": (Do("cat; read x; echo $?", "1\n"),),
    "stdin that is not read is not there for the next step": (Do("true", stdin=b"left\n" * 3000), Do("cat", "")),
    "a program reads what the shell left of stdin": (Do("read x; cat; unset x", "b\n", stdin=b"a\nb\n"),),
    "streams that a step closes stay closed until it opens them, as in a shell": (
        Do("exec 4>&1 5>&2 0<&- 1>&- 2>&-", note="file descriptor", plain={"code": None}),
        Do("cat; echo out", "", err="", code=None, plain={"out": "out\n", "err": None}),
        Do("exec </dev/null >&4 2>&5 4>&- 5>&-", plain={"code": None, "err": None, "state": None}),
        Do("cat; echo out; echo err >&2", "in\nout\n", err="err\n", stdin=b"in\n"),
    ),
    "streams that a step sends elsewhere stay there, as in a shell": (
        Do("exec 3>&1 >/dev/null; echo gone", note="file descriptor 3"),
        Do("echo still gone", "", plain={"out": "still gone\n"}),
        Do("exec >&3 3>&-; echo back", "back\n", plain={"out": None, "code": None, "state": None}),
    ),
    "a duplicate of stdout or stderr is that of each later step": (
        Do("exec 3>&1 4>&2", note="file descriptor 3"),
        Do("echo out >&3; echo err >&4", "out\n", err="err\n", plain={"out": "", "err": None, "code": None, "state": None}),
        Do("exec 3>&- 4>&-"),
    ),
    "a program may open /dev/stdout again": (Do("echo a; echo b >/dev/stdout; echo c >/dev/stderr", "a\nb\n", err="c\n"),),
    "a descriptor that the shell opens carries on": (
        Do("exec 5>held", note="file descriptor 5"),
        Do("echo x >&5; exec 5>&-; cat held", "x\n", plain={"out": "", "code": None, "state": None}),
        Do("rm -f held"),
    ),
    # what a step cannot break
    "closing other descriptors breaks nothing": (Do("exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-"), Do("echo on", "on\n")),
    "an empty PATH breaks nothing": (
        Do("export was=$PATH; PATH="),
        Do("no-such-program", code=127),
        Do("PATH=$was; unset was; ls /workspace", ""),
    ),
    "functions with names of builtins break nothing": (
        Do('for n in echo read printf pwd cd test kill true wait; do eval "$n() { return 9; }"; done', note=None),
        Do("exit 4", code=4, state=RESTORED),
        Do("unset -f echo read printf pwd cd test kill true wait; unset n; echo on", "on\n"),
    ),
    "a function called command breaks nothing": (
        Do("command() { return 9; }; read() { return 9; }"),
        Do("unset -f command read 2>/dev/null; echo on", "on\n", code=None),
    ),
    "aliases of our words break nothing": (
        Do('test -z "$BASH" || shopt -s expand_aliases; alias printf=false eval=false command=false exec=false export=false'),
        Do("unalias -a; echo on", "on\n"),
        Do('test -z "$BASH" || shopt -u expand_aliases'),
    ),
    "few open files break nothing": (
        Do("( ulimit -n 20; echo on )", "on\n"),
        Do("echo on", "on\n"),
    ),
    "a deleted directory breaks nothing": (
        Do("mkdir gone; cd gone; rmdir ../gone"),
        Do("cd /workspace; echo on", "on\n", note="is gone"),
    ),
    "writing to the record channel forges nothing": (
        Do(
            "echo junk >>$channel",
            state=None,
            env={"channel": "/run/lab/end/x"},
            plain={"env": {"channel": "/run/lab.state"}, "error": "Tampered"},
        ),
        Do("echo on", "on\n"),
    ),
    "the record channel cannot be read": (
        Do("cat $channel 2>/dev/null", code=1, env={"channel": "/run/lab/end/x"}, plain={"env": {"channel": "/run/lab.state"}}),
    ),
    "the run directory cannot be written to": (Do("touch /run/lab/x 2>/dev/null || rm /run/lab/step 2>/dev/null", code=1),),
    # what a step asks for
    "argv is the program with exactly these words": (
        program("printf", "[%s]", "two words", "'", '"', "$HOME", "", "a\nb", "*", out="[two words]['][\"][$HOME][][a\nb][*]"),
    ),
    "argv is no builtin": (program("cd", "/tmp", code=127),),
    "what the shell says of a killed program is not the program's": (
        program("sh", "-c", "echo said >&2; kill -ABRT $$", out="", err="said\n", code=134),
        program("sh", "-c", "echo said >&2; kill -SEGV $$", out="said\n", err="", code=139, merge=True),
        program("sh", "-c", "kill -FPE $$", err="", code=136, env={"A": "b"}, cwd="/tmp"),
        Do("echo after >&2", "", "after\n"),
    ),
    "argv changes nothing in the shell": (program("sh", "-c", "cd /tmp; exit 7", code=7), Do("pwd", "/workspace\n")),
    "a step's environment ends with it": (
        Do("export OWN=before"),
        Do('echo "$OWN $NEW"', "it's\nmine n\n", env={"OWN": "it's\nmine", "NEW": "n"}),
        Do('echo "$OWN ${NEW-unset}"; unset OWN', "before unset\n"),
    ),
    "a step's environment does not outlive its exit": (
        Do("exit 0", env={"NEW": "n"}, state=RESTORED),
        Do("echo ${NEW-unset}", "unset\n"),
    ),
    "a step's directory ends with it": (
        Do("mkdir -p 'a b'"),
        Do("pwd", "/workspace/a b\n", cwd="a b", in_cwd="/workspace"),
        Do("pwd; rmdir 'a b'", "/workspace\n"),
    ),
    "a step's directory may be absolute": (program("pwd", out="/tmp\n", cwd="/tmp"),),
    "a missing directory of a step is an error": (
        Do("echo never", "", cwd="nowhere", error="UsageError", code=None, state=None),
        Do("pwd", "/workspace\n"),
    ),
    "exports stay": (Do("true", exports={"answer": "4 2'"}), Do("env | grep ^answer=; unset answer", "answer=4 2'\n")),
    "a step knows its node id": (Do("env | grep ^TESTRONAUT_LAB=", "TESTRONAUT_LAB=x.lab.yaml::case::step\n"),),
    "an exported everything holds nothing of ours": (
        Do("set -a", env={"E": "1"}),
        Do("env | grep -c lab_; set +a", "0\n", code=0),
    ),
    # files
    "a step's changes are told": (Do("echo 1 >new", changes=("added new",)), Do("rm new", changes=("deleted new",))),
    "a step that only reads changes nothing": (Do("ls /workspace", changes=()),),
    "the changes of a step that exits are told": (
        Do("echo 1 >new; exit 1", code=1, state=RESTORED, changes=("added new",)),
        Do("rm new"),
    ),
    "a job with streams of its own leaves none open": (Do("sleep 0.01 >/dev/null 2>&1 & wait", ""),),
    "a bare wait waits for no process of ours": (Do("true & wait; echo done", "done\n"),),
    "a job is the shell's own in the next step": (
        Do("( exit 9 ) & job=$!; export job", note=None),
        Do("wait $job; echo $?; unset job", "9\n", plain={"out": "127\n"}),
    ),
}
