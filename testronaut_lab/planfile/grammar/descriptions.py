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
class Said:
    """The description of one key. Without `default`, the key has no default."""

    description: str
    example: JsonValue
    default: object = _NOTHING

    def schema(self) -> dict[str, JsonValue]:
        told: dict[str, JsonValue] = {"description": self.description, "examples": [self.example]}
        return told if self.default is _NOTHING else {**told, "default": self.default}  # type: ignore[dict-item]


_SCRIPT: Final = "jq .x a.json"
_ENV: Final[JsonValue] = {"LC_ALL": "C.UTF-8"}
_WHEN: Final = Said("cells of the matrix in which it applies, by key", {"image": ["debian:bookworm-slim"]})
_GOLDEN: Final = Said("whether the step has a golden, and what the golden holds", {"streams": ["stdout"]}, False)
_EXPECT: Final = Said("what must come out", {"exit": 0, "stdout": "1\n"})
_NORMALIZE: Final = Said("what differs from run to run and is replaced before a golden is compared", ["timestamp", "uuid"], [])
_TEXT: Final[dict[str, Said]] = {
    "equals": Said("the whole text, byte for byte", "1\n"),
    "contains": Said("texts that must all be in it", ["1.7"]),
    "not_contains": Said("texts that must not be in it", ["Traceback"]),
    "matches": Said("a regex that is found in it (Python's; `(?m)` for lines)", "^v[0-9]+"),
    "lines": Said("how many lines it has; a last one without a newline counts", 3),
    "empty": Said("true: nothing is in it; false: something is", True),
}
_MATCHERS: Final[dict[str, Said]] = {
    **_TEXT,
    "json": Said("the JSON value that it must be; numbers compare exactly, a repeated key is a mismatch", {"x": 1}),
    "json_path": Said("values at places in it, as jq writes them", {".a[0].b": 1}),
    "file": Said("a file beside the plan with the expected bytes", "expected.txt"),
}
_KINDS: Final[dict[str, str]] = {
    "added": "that were not there before",
    "modified": "whose content, mode, target or attributes changed",
    "deleted": "that are gone",
    "retyped": "whose type changed, such as a file that became a folder",
}

DESCRIBED: Final[Mapping[str, Mapping[str, Said]]] = {
    "plan": {
        "version": Said("version of the plan file format", 1, 1),
        "name": Said("what people call the plan; default: the file's name", "jq basics"),
        "image": Said("the image that the sessions run in", "debian:bookworm-slim"),
        "tools": Said("installed into the image once, verified, and cached", ["apt:jq"], []),
        "isolation": Said("`case`: a new session for each case; `plan`: one for all of them", "case", "case"),
        "network": Said("network of the steps: loopback only, or the internet; installing always has network", "none", "none"),
        "user": Said("the user of the steps: unprivileged, or root", "lab", "lab"),
        "rootfs": Said("whether steps can write outside of workspace, home and /tmp; root's default is writable", "read-only"),
        "shell": Said("what runs the scripts of `run`", "bash", "sh"),
        "env": Said("environment of all steps", _ENV, {}),
        "limits": Said("limits of a step and of a session", {"timeout": "60s", "memory": "512MiB"}),
        "normalize": _NORMALIZE,
        "ignore": Said("patterns as in a .gitignore, of changes that are recorded and not judged", [".cache/", "*.log"], []),
        "golden": _GOLDEN,
        "expect": Said("expectations of every step; a step's own override them", {"stderr": {"empty": True}}),
        "matrix": Said("keys with lists of values: the plan runs once for each combination", {"jq": ["1.6", "1.7"]}),
        "files": Said("put into the workspace before each case", {"a.json": '{"x": 1}'}, {}),
        "setup": Said("steps before each case", ["mkdir out"], []),
        "teardown": Said("steps after each case, also after a failed one", ["rm -r out"], []),
        "cases": Said("the cases; or `steps` alone for a plan of one", [{"id": "select", "steps": [_SCRIPT]}]),
        "steps": Said("the steps of a plan of one case, `main`", [_SCRIPT]),
    },
    "image": {
        "ref": Said("the name of an image", "debian:bookworm-slim"),
        "pull": Said("when it is pulled from its registry", "missing", "missing"),
        "build": Said("a folder beside the plan with a Dockerfile", "image"),
        "load": Said("a tar that `docker save` wrote", "image.tar"),
        "rootfs": Said("a tar of a root file system", "rootfs.tar"),
        "bootstrap": Said("a release of Debian or Ubuntu, made from its archive and never pulled", "bookworm-slim"),
    },
    "tool": {
        "name": Said("name of the tool; default: the package's name", "rg"),
        "command": Said("the program that proves it, by name or path; default: the tool's name", "rg"),
        "install": Said("how it is installed; in a list, the first way that works", ["copy:target/rg", "apt:ripgrep"]),
        "importable": Said("whether the image's own python can import the package too (pip, wheel)", True, False),
        "verify": Said("a command that proves it", {"run": "rg --version", "matches": "^ripgrep 1"}),
    },
    "install": {
        "apt": Said("a Debian package, or several", "jq=1.6*"),
        "pip": Said("a Python package in its own environment, or several in one", ["flake8", "flake8-bugbear"]),
        "pipx": Said("a Python package, installed by pipx", "black"),
        "npm": Said("an npm package", "prettier@3.x"),
        "deb": Said("the path of a Debian package", "dist/tool_1.2-1_amd64.deb"),
        "wheel": Said("the path of a wheel", "dist/tool-1.2-py3-none-any.whl"),
        "npm-pack": Said("the path of what `npm pack` wrote", "tool-1.2.0.tgz"),
        "archive": Said("the path of an archive with programs at its top or in its bin", "dist/tool-1.2.tar.gz"),
        "copy": Said("the path of a program, or of a folder with programs", "target/release/tool"),
        "script": Said("the path of a script that puts it on the PATH", "install.sh"),
        "sha256": Said("the sha256 that the file at the path must have", "0" * 64),
        "strip": Said("how many leading folders of an archive are left out", 1, 0),
    },
    "verify": {
        "run": Said("a script for sh, in the container of the installation", "rg --version"),
        "matches": Said("a regex that is found in its output", "^ripgrep 1"),
    },
    "limits": {
        "timeout": Said("time of a step that has no timeout of its own", "60s", "60s"),
        "case_timeout": Said("time of all steps of a case together", "30m", "30m"),
        "memory": Said("memory of all processes of a session", "512MiB", "512MiB"),
        "cpus": Said("how many processors a session may use at once", 1, 1),
        "pids": Said("how many processes a session may have", 128, 128),
        "output": Said("size of each stream of a step", "10MiB", "10MiB"),
        "workspace": Said("size of workspace, home and /tmp together", "1GiB", "1GiB"),
        "files": Said("how many paths there may be in them", 10000, 10000),
    },
    "normalizer": {
        "matches": Said("a regex of your own", "pid [0-9]+"),
        "replace": Said("what each match becomes; \\1 is its first group", "pid [PID]"),
    },
    "golden": {
        "streams": Said("which streams are kept", ["stdout"], ["stdout", "stderr"]),
        "files": Said("globs of changed files whose content is kept", ["*.json"], []),
        "normalize": _NORMALIZE,
        "per": Said("keys of the matrix; each of their values has its own golden", ["image"], []),
    },
    "expect": {
        "exit": Said("an exit status, a list of them, nonzero, or the limit that ends the step", 3, 0),
        "signal": Said("the signal that ends the step, in place of `exit`", "KILL"),
        "stdout": Said("what it writes to stdout; a text is the whole of it", "1\n"),
        "stderr": Said("what it writes to stderr", {"empty": True}),
        "files": Said(
            "files after the step, by path or glob; absolute paths are outside the workspace", {"out.json": {"json": {}}}
        ),
        "changes": Said("exactly what it changes in the workspace, or `none`", {"added": ["out/*.json"]}),
        "screen": Said("what its terminal shows at the end", {"contains": ["1/3"]}),
        "max": Said("upper limits of what it takes", {"duration": "2s", "memory": "64MiB"}),
    },
    "matchers": _MATCHERS,
    "file_expect": {
        **_MATCHERS,
        "type": Said("what the path is", "dir"),
        "mode": Said("its permission bits, in octal", "0755"),
        "target": Said("where a link leads, as it is written", "../data"),
        "owner": Said("lab, root or the number of a user", "lab"),
    },
    "changes": {
        **{key: Said(f"globs of paths {words}", ["out/*.json"], []) for key, words in _KINDS.items()},
        "outside": Said("the same outside the workspace, or `none`", {"added": ["/home/lab/.config/**"]}),
    },
    "outside": {key: Said(f"absolute globs of paths {words}", ["/tmp/**"], []) for key, words in _KINDS.items()},
    "screen": _TEXT,
    "max": {
        "duration": Said("from its start to its end", "2s"),
        "cpu": Said("CPU time of all its processes", "1s"),
        "memory": Said("anonymous memory that its processes hold at one time", "64MiB"),
    },
    "file": {
        "text": Said("its content", "echo hi\n"),
        "base64": Said("its content, for bytes that are no text", "AAEC/w=="),
        "source": Said("a file or folder beside the plan, with its modes, times and links", "fixtures/data"),
        "mode": Said("its permission bits, in octal", "0755", "0644"),
    },
    "step": {
        "id": Said("its name in node ids; default: a slug of the command", "plain"),
        "run": Said("a script for the session's shell, whose state carries on", _SCRIPT),
        "argv": Said("a program and its exact arguments, without a shell", ["jq", ".x", "a.json"]),
        "stdin": Said("what it reads; default: nothing", '{"x": 2}', ""),
        "env": Said("environment of this step alone", {"NO_COLOR": "1"}, {}),
        "cwd": Said("its directory, for this step alone; default: the session's", "data"),
        "timeout": Said("how long it may take; default: the timeout of the limits", "5s"),
        "continue": Said("whether the case goes on when this step fails; it always does when only goldens differ", True, False),
        "skip_if": Said("a command outside the session's shell; its status 0 skips the step", "! command -v jq"),
        "save": Said("values for later steps: $name in scripts, ${{name}} elsewhere", {"answer": {"json_path": ".x"}}, {}),
        "golden": _GOLDEN,
        "expect": _EXPECT,
        "when": _WHEN,
        "retry": Said("run again until it holds", {"times": 3, "delay": "200ms"}),
        "tty": Said("a terminal of its own", {"cols": 80, "rows": 24}, False),
        "interact": Said("what is typed and waited for in its terminal", [{"screen": "$ "}, {"send": "exit"}, {"key": "enter"}]),
        "background": Said("the name of a program that keeps running", "web"),
        "ready": Said("when a background program counts as started", {"port": 8000, "timeout": "10s"}),
        "stop": Said("the background program to end, in place of a command", "web"),
        "signal": Said("signals to background programs, by name, in place of a command", {"web": "HUP"}),
        "merge": Said("whether stdout and stderr are one stream in exact order", True, False),
    },
    "stdin": {
        "file": Said("a file beside the plan", "input.txt"),
        "base64": Said("bytes that are no text", "AAEC/w=="),
    },
    "save": {
        "from": Said("which stream", "stderr", "stdout"),
        "json_path": Said("a place in its JSON; numbers are kept as they are written", ".x"),
        "matches": Said("a regex; its first group is the value", "v([0-9.]+)"),
    },
    "retry": {
        "times": Said("how many more times at most", 3),
        "delay": Said("how long to wait before each", "200ms", 0),
    },
    "tty": {
        "cols": Said("columns", 100, 80),
        "rows": Said("rows", 30, 24),
        "term": Said("what TERM is", "xterm", "xterm-256color"),
    },
    "interaction": {
        "screen": Said("wait until the screen holds this", "3/3"),
        "settled": Said("wait until the screen has shown nothing new for this long", "300ms"),
        "expect": Said("wait for a match of a regex in the bytes since the last match", "go> "),
        "send": Said("type this text", "cher"),
        "key": Said("press a key", "enter"),
        "resize": Said("give the terminal another size", {"cols": 100, "rows": 30}),
        "timeout": Said("how long to wait for it", "5s", "10s"),
    },
    "resize": {"cols": Said("columns", 100), "rows": Said("rows", 30)},
    "ready": {
        "port": Said("a TCP port that is listened on in the container", 8000),
        "log": Said("a regex that its output matches", "listening"),
        "file": Said("a path in the workspace that exists", "server.sock"),
        "run": Said("a script that ends with status 0", "curl -sf localhost:8000"),
        "timeout": Said("how long to wait for it", "10s", "10s"),
    },
    "case": {
        "id": Said("its name in node ids", "select"),
        "tags": Said("words to choose cases by, with `-k`", ["smoke"], []),
        "when": _WHEN,
        "expect_fail": Said("why its own steps are expected to fail; if they pass, the run fails", "not in this version"),
        "env": Said("environment of its steps", _ENV, {}),
        "golden": _GOLDEN,
        "expect": Said("expectations of each of its steps; a step's own override them", {"exit": 0}),
        "steps": Said("its steps, in order", [_SCRIPT, {"run": "false", "expect": {"exit": 1}}]),
    },
    "expect_fail": {
        "reason": Said("why it is expected to fail", "not in this version"),
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
