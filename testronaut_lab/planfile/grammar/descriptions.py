"""What each key of a plan is for, its default and an example: the descriptions in the JSON Schema.

An editor shows them while somebody writes a plan. What a key may hold is in the other modules of `grammar/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

_NOTHING: Final = object()


@dataclass(frozen=True, slots=True)
class KeyText:
    """The description of one key. Without `default`, the key has no default."""

    description: str
    example: JsonValue
    default: object = _NOTHING

    def schema(self) -> dict[str, JsonValue]:
        told: dict[str, JsonValue] = {"description": self.description, "examples": [self.example]}
        return told if self.default is _NOTHING else {**told, "default": self.default}  # type: ignore[dict-item]


_SCRIPT: Final = "jq .x a.json"
_ENV: Final[JsonValue] = {"LC_ALL": "C.UTF-8"}
_WHEN: Final = KeyText("cells of the matrix in which it applies, by key", {"image": ["debian:bookworm-slim"]})
_GOLDEN: Final = KeyText("whether the step has a golden, and what the golden holds", {"streams": ["stdout"]}, False)
_EXPECT: Final = KeyText("what must come out", {"exit": 0, "stdout": "1\n"})
_NORMALIZE: Final = KeyText("what differs from run to run and is replaced before a golden is compared", ["timestamp", "uuid"], [])
_TEXT: Final[dict[str, KeyText]] = {
    "equals": KeyText("the whole text, byte for byte", "1\n"),
    "contains": KeyText("texts that must all be in it", ["1.7"]),
    "not_contains": KeyText("texts that must not be in it", ["Traceback"]),
    "matches": KeyText("a regex that is found in it (Python's; `(?m)` for lines)", "^v[0-9]+"),
    "lines": KeyText("how many lines it has; a last one without a newline counts", 3),
    "empty": KeyText("true: nothing is in it; false: something is", True),
}
_MATCHERS: Final[dict[str, KeyText]] = {
    **_TEXT,
    "json": KeyText("the JSON value that it must be; numbers compare exactly, a repeated key is a mismatch", {"x": 1}),
    "json_path": KeyText("values at places in it, as jq writes them", {".a[0].b": 1}),
    "file": KeyText("a file beside the plan with the expected bytes", "expected.txt"),
}
_KINDS: Final[dict[str, str]] = {
    "added": "that were not there before",
    "modified": "whose content, mode, target or attributes changed",
    "deleted": "that are gone",
    "retyped": "whose type changed, such as a file that became a folder",
}

DESCRIBED: Final[Mapping[str, Mapping[str, KeyText]]] = {
    "plan": {
        "version": KeyText("version of the plan file format", 1, 1),
        "name": KeyText("what people call the plan; default: the file's name", "jq basics"),
        "image": KeyText("the image that the sessions run in", "debian:bookworm-slim"),
        "tools": KeyText("installed into the image once, verified, and cached", ["apt:jq"], []),
        "isolation": KeyText("`case`: a new session for each case; `plan`: one for all of them", "case", "case"),
        "network": KeyText("network of the steps: loopback only, or the internet; installing always has network", "none", "none"),
        "user": KeyText("the user of the steps: unprivileged, or root", "lab", "lab"),
        "rootfs": KeyText("whether steps can write outside of workspace, home and /tmp; root's default is writable", "read-only"),
        "shell": KeyText("what runs the scripts of `run`", "bash", "sh"),
        "env": KeyText("environment of all steps", _ENV, {}),
        "limits": KeyText("limits of a step and of a session", {"timeout": "60s", "memory": "512MiB"}),
        "normalize": _NORMALIZE,
        "ignore": KeyText("patterns as in a .gitignore, of changes that are recorded and not judged", [".cache/", "*.log"], []),
        "golden": _GOLDEN,
        "expect": KeyText("expectations of every step; a step's own override them", {"stderr": {"empty": True}}),
        "matrix": KeyText("keys with lists of values: the plan runs once for each combination", {"jq": ["1.6", "1.7"]}),
        "files": KeyText("put into the workspace before each case", {"a.json": '{"x": 1}'}, {}),
        "setup": KeyText("steps before each case", ["mkdir out"], []),
        "teardown": KeyText("steps after each case, also after a failed one", ["rm -r out"], []),
        "cases": KeyText("the cases; or `steps` alone for a plan of one", [{"id": "select", "steps": [_SCRIPT]}]),
        "steps": KeyText("the steps of a plan of one case, `main`", [_SCRIPT]),
    },
    "image": {
        "ref": KeyText("the name of an image", "debian:bookworm-slim"),
        "pull": KeyText("when it is pulled from its registry", "missing", "missing"),
        "build": KeyText("a folder beside the plan with a Dockerfile", "image"),
        "load": KeyText("a tar that `docker save` wrote", "image.tar"),
        "rootfs": KeyText("a tar of a root file system", "rootfs.tar"),
        "bootstrap": KeyText("a release of Debian or Ubuntu, made from its archive and never pulled", "bookworm-slim"),
    },
    "tool": {
        "name": KeyText("name of the tool; default: the package's name", "rg"),
        "command": KeyText("the program that proves it, by name or path; default: the tool's name", "rg"),
        "install": KeyText("how it is installed; in a list, the first way that works", ["copy:target/rg", "apt:ripgrep"]),
        "importable": KeyText("whether the image's own python can import the package too (pip, wheel)", True, False),
        "verify": KeyText("a command that proves it", {"run": "rg --version", "matches": "^ripgrep 1"}),
    },
    "install": {
        "apt": KeyText("a Debian package, or several", "jq=1.6*"),
        "pip": KeyText("a Python package in its own environment, or several in one", ["flake8", "flake8-bugbear"]),
        "pipx": KeyText("a Python package, installed by pipx", "black"),
        "npm": KeyText("an npm package", "prettier@3.x"),
        "deb": KeyText("the path of a Debian package", "dist/tool_1.2-1_amd64.deb"),
        "wheel": KeyText("the path of a wheel", "dist/tool-1.2-py3-none-any.whl"),
        "npm-pack": KeyText("the path of what `npm pack` wrote", "tool-1.2.0.tgz"),
        "archive": KeyText("the path of an archive with programs at its top or in its bin", "dist/tool-1.2.tar.gz"),
        "copy": KeyText("the path of a program, or of a folder with programs", "target/release/tool"),
        "script": KeyText("the path of a script that puts it on the PATH", "install.sh"),
        "sha256": KeyText("the sha256 that the file at the path must have", "0" * 64),
        "strip": KeyText("how many leading folders of an archive are left out", 1, 0),
    },
    "verify": {
        "run": KeyText("a script for sh, in the container of the installation", "rg --version"),
        "matches": KeyText("a regex that is found in its output", "^ripgrep 1"),
    },
    "limits": {
        "timeout": KeyText("time of a step that has no timeout of its own", "60s", "60s"),
        "case_timeout": KeyText("time of all steps of a case together", "30m", "30m"),
        "memory": KeyText("memory of all processes of a session", "512MiB", "512MiB"),
        "cpus": KeyText("how many processors a session may use at once", 1, 1),
        "pids": KeyText("how many processes a session may have", 128, 128),
        "output": KeyText("size of each stream of a step", "10MiB", "10MiB"),
        "workspace": KeyText("size of workspace, home and /tmp together", "1GiB", "1GiB"),
        "files": KeyText("how many paths there may be in them", 10000, 10000),
    },
    "normalizer": {
        "matches": KeyText("a regex of your own", "pid [0-9]+"),
        "replace": KeyText("what each match becomes; \\1 is its first group", "pid [PID]"),
    },
    "golden": {
        "streams": KeyText("which streams are kept", ["stdout"], ["stdout", "stderr"]),
        "files": KeyText("globs of changed files whose content is kept", ["*.json"], []),
        "normalize": _NORMALIZE,
        "per": KeyText("keys of the matrix; each of their values has its own golden", ["image"], []),
    },
    "expect": {
        "exit": KeyText("an exit status, a list of them, nonzero, or the limit that ends the step", 3, 0),
        "signal": KeyText("the signal that ends the step, in place of `exit`", "KILL"),
        "stdout": KeyText("what it writes to stdout; a text is the whole of it", "1\n"),
        "stderr": KeyText("what it writes to stderr", {"empty": True}),
        "files": KeyText(
            "files after the step, by path or glob; absolute paths are outside the workspace", {"out.json": {"json": {}}}
        ),
        "changes": KeyText("exactly what it changes in the workspace, or `none`", {"added": ["out/*.json"]}),
        "screen": KeyText("what its terminal shows at the end", {"contains": ["1/3"]}),
        "max": KeyText("upper limits of what it takes", {"duration": "2s", "memory": "64MiB"}),
    },
    "matchers": _MATCHERS,
    "file_expect": {
        **_MATCHERS,
        "type": KeyText("what the path is", "dir"),
        "mode": KeyText("its permission bits, in octal", "0755"),
        "target": KeyText("where a link leads, as it is written", "../data"),
        "owner": KeyText("lab, root or the number of a user", "lab"),
    },
    "changes": {
        **{key: KeyText(f"globs of paths {words}", ["out/*.json"], []) for key, words in _KINDS.items()},
        "outside": KeyText("the same outside the workspace, or `none`", {"added": ["/home/lab/.config/**"]}),
    },
    "outside": {key: KeyText(f"absolute globs of paths {words}", ["/tmp/**"], []) for key, words in _KINDS.items()},
    "screen": _TEXT,
    "max": {
        "duration": KeyText("from its start to its end", "2s"),
        "cpu": KeyText("CPU time of all its processes", "1s"),
        "memory": KeyText("anonymous memory that its processes hold at one time", "64MiB"),
    },
    "file": {
        "text": KeyText("its content", "echo hi\n"),
        "base64": KeyText("its content, for bytes that are no text", "AAEC/w=="),
        "source": KeyText("a file or folder beside the plan, with its modes, times and links", "fixtures/data"),
        "mode": KeyText("its permission bits, in octal", "0755", "0644"),
    },
    "step": {
        "id": KeyText("its name in node ids; default: a slug of the command", "plain"),
        "run": KeyText("a script for the session's shell, whose state carries on", _SCRIPT),
        "argv": KeyText("a program and its exact arguments, without a shell", ["jq", ".x", "a.json"]),
        "stdin": KeyText("what it reads; default: nothing", '{"x": 2}', ""),
        "env": KeyText("environment of this step alone", {"NO_COLOR": "1"}, {}),
        "cwd": KeyText("its directory, for this step alone; default: the session's", "data"),
        "timeout": KeyText("how long it may take; default: the timeout of the limits", "5s"),
        "continue": KeyText(
            "whether the case goes on when this step fails; it always does when only goldens differ", True, False
        ),
        "skip_if": KeyText("a command outside the session's shell; its status 0 skips the step", "! command -v jq"),
        "save": KeyText("values for later steps: $name in scripts, ${{name}} elsewhere", {"answer": {"json_path": ".x"}}, {}),
        "golden": _GOLDEN,
        "expect": _EXPECT,
        "when": _WHEN,
        "retry": KeyText("run again until it holds", {"times": 3, "delay": "200ms"}),
        "tty": KeyText("a terminal of its own", {"cols": 80, "rows": 24}, False),
        "interact": KeyText(
            "what is typed and waited for in its terminal", [{"screen": "$ "}, {"send": "exit"}, {"key": "enter"}]
        ),
        "background": KeyText("the name of a program that keeps running", "web"),
        "ready": KeyText("when a background program counts as started", {"port": 8000, "timeout": "10s"}),
        "stop": KeyText("the background program to end, in place of a command", "web"),
        "signal": KeyText("signals to background programs, by name, in place of a command", {"web": "HUP"}),
        "merge": KeyText("whether stdout and stderr are one stream in exact order", True, False),
    },
    "stdin": {
        "file": KeyText("a file beside the plan", "input.txt"),
        "base64": KeyText("bytes that are no text", "AAEC/w=="),
    },
    "save": {
        "from": KeyText("which stream", "stderr", "stdout"),
        "json_path": KeyText("a place in its JSON; numbers are kept as they are written", ".x"),
        "matches": KeyText("a regex; its first group is the value", "v([0-9.]+)"),
    },
    "retry": {
        "times": KeyText("how many more times at most", 3),
        "delay": KeyText("how long to wait before each", "200ms", 0),
    },
    "tty": {
        "cols": KeyText("columns", 100, 80),
        "rows": KeyText("rows", 30, 24),
        "term": KeyText("what TERM is", "xterm", "xterm-256color"),
    },
    "interaction": {
        "screen": KeyText("wait until the screen holds this", "3/3"),
        "settled": KeyText("wait until the screen has shown nothing new for this long", "300ms"),
        "expect": KeyText("wait for a match of a regex in the bytes since the last match", "go> "),
        "send": KeyText("type this text", "cher"),
        "key": KeyText("press a key", "enter"),
        "resize": KeyText("give the terminal another size", {"cols": 100, "rows": 30}),
        "timeout": KeyText("how long to wait for it", "5s", "10s"),
    },
    "resize": {"cols": KeyText("columns", 100), "rows": KeyText("rows", 30)},
    "ready": {
        "port": KeyText("a TCP port that is listened on in the container", 8000),
        "log": KeyText("a regex that its output matches", "listening"),
        "file": KeyText("a path in the workspace that exists", "server.sock"),
        "run": KeyText("a script that ends with status 0", "curl -sf localhost:8000"),
        "timeout": KeyText("how long to wait for it", "10s", "10s"),
    },
    "case": {
        "id": KeyText("its name in node ids", "select"),
        "tags": KeyText("words to choose cases by, with `-k`", ["smoke"], []),
        "when": _WHEN,
        "expect_fail": KeyText("why its own steps are expected to fail; if they pass, the run fails", "not in this version"),
        "env": KeyText("environment of its steps", _ENV, {}),
        "golden": _GOLDEN,
        "expect": KeyText("expectations of each of its steps; a step's own override them", {"exit": 0}),
        "steps": KeyText("its steps, in order", [_SCRIPT, {"run": "false", "expect": {"exit": 1}}]),
    },
    "expect_fail": {
        "reason": KeyText("why it is expected to fail", "not in this version"),
        "when": _WHEN,
    },
}


def described(definitions: Mapping[str, JsonValue]) -> None:
    """Put the descriptions into the definitions of a schema."""
    for table, keys in DESCRIBED.items():
        definition = definitions.get(table)
        properties = definition.get("properties") if isinstance(definition, dict) else None
        if not isinstance(properties, dict):
            continue
        for key, said in keys.items():
            schema = properties[key]
            assert isinstance(schema, dict)
            properties[key] = {**said.schema(), **schema}
