"""Wrong plans, and word for word what is said about each: the place, what was expected, the nearest thing that exists."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from testronaut_lab.errors import ExitStatus, UsageError
from testronaut_lab.planfile import load_plan, parse_plan

ROOT = Path("/nonexistent")
STEP = {"run": "jq .x a.json"}


def message_for(source: str | dict[str, object]) -> str:
    with pytest.raises(UsageError) as raised:
        parse_plan(source, root=ROOT, name="x")
    return raised.value.message.removeprefix("x: ")


def plan(**keys: object) -> dict[str, object]:
    return {"image": "debian", "steps": [STEP], **keys}


def step(**keys: object) -> dict[str, object]:
    return plan(steps=[{**STEP, **keys}])


def expect(**keys: object) -> dict[str, object]:
    return step(expect=keys)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([], "expected a table, found a list"),
        ({"steps": ["x"]}, "the key 'image' is missing"),
        ({"image": "debian"}, "expected one of the keys 'cases', 'steps'"),
        (plan(cases=[]), "'cases' and 'steps' exclude each other\nx: cases: expected at least 1, found an empty list"),
        (plan(imag="x"), "imag: unknown key 'imag'; did you mean 'image'?"),
        (plan(Shell="x"), "Shell: unknown key 'Shell'; did you mean 'shell'?"),
        (plan(version=2), "version: this program reads plans of version 1, found version 2"),
        (plan(version="1"), "version: expected a version, found '1'"),
        (plan(name="a\nb"), r"name: expected a name of one line without '::', found 'a\nb'"),
        (plan(image=3), "image: expected an image such as debian:bookworm-slim or a table, found the number 3"),
        (plan(image="-x"), "image: expected an image such as debian:bookworm-slim, found '-x'"),
        (plan(image={"pull": "never"}), "image: expected one of the keys 'ref', 'build', 'load', 'rootfs', 'bootstrap'"),
        (plan(image={"ref": "a", "pull": "no"}), "image.pull: expected missing, always or never, found 'no'"),
        (plan(isolation="step"), "isolation: expected case or plan, found 'step'"),
        (plan(network="on"), "network: expected none or internet, found 'on'"),
        (plan(user="0"), "user: expected lab or root, found '0'"),
        (plan(rootfs=True), "rootfs: expected read-only or writable, found true; write it in quotes"),
        (plan(shell="sh -e"), "shell: expected a shell such as sh, bash or /bin/dash, found 'sh -e'"),
        (plan(env={"A": 1}), "env.A: expected text, found the number 1; write it in quotes"),
        (plan(env={"A-B": "1"}), "env.A-B: expected a name of letters, digits and _, found 'A-B'"),
        (plan(env={"A": "\0"}), "env.A: a NUL byte cannot stand here"),
        (plan(env={"A": None}), "env.A: expected text, found nothing"),
        (plan(ignore=["../x"]), "ignore[0]: expected a pattern as in a .gitignore, found '../x'"),
        (plan(setup={}), "setup: expected a list of a command or a table, found a table"),
        (plan(steps=[]), "steps: expected at least 1, found an empty list"),
        (plan(limits={"timeout": "2d"}),
         "limits.timeout: expected a duration such as 200ms, 60s, 1.5m or 1h, or a number of seconds, found '2d'"),
        (plan(limits={"timeout": 0}), "limits.timeout: expected a duration above 0 and up to 24h, found the number 0"),
        (plan(limits={"timeout": True}), "limits.timeout: expected a duration such as 200ms, 60s or 1h, found true"),
        (plan(limits={"memory": "1XB"}),
         "limits.memory: expected a size such as 512MiB, 10MB or 1GiB, or a number of bytes, found '1XB'"),
        (plan(limits={"memory": 1.5}), "limits.memory: expected a size such as 512MiB, found the number 1.5"),
        (plan(limits={"cpus": 0}), "limits.cpus: expected a number of CPUs from 0.01 to 1024, found 0"),
        (plan(limits={"pids": 1.5}), "limits.pids: expected a whole number, found the number 1.5"),
    ],
)  # fmt: skip
def test_a_wrong_key_of_the_plan_is_named(tree: dict[str, object], message: str) -> None:
    assert message_for(tree) == message


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        (["jq"], "tools[0]: expected STRATEGY:SPEC, such as apt:jq, found 'jq'"),
        (["dist/x_1.0.deb"],
         "tools[0]: expected STRATEGY:SPEC, such as apt:jq, found 'dist/x_1.0.deb'; did you mean 'deb:dist/x_1.0.deb'?"),
        (["cargo:rg"], "tools[0]: the install strategy `cargo` is not supported yet; there is apt, pip, pipx, npm, deb, wheel, "
                       "npm-pack, archive, copy, script"),
        (["aptt:jq"], "tools[0]: the install strategy `aptt` is not supported yet; did you mean `apt`?"),
        (["apt:jq-"], "tools[0]: 'jq-' is no package of apt: expected NAME or NAME=VERSION, a name in lower case letters, "
                      "digits, '+', '-' and '.'"),
        (["copy:/usr/bin/jq"], "tools[0]: expected the PATH of a program, or of a folder with programs in it or in its bin, "
                               "found '/usr/bin/jq'"),
        (["deb:gone.deb"], "tools[0]: there is no file 'gone.deb' beside the plan"),
        (["wheel:x.zip"], "tools[0]: 'x.zip' is no path of wheel: expected the PATH of a wheel, "
                          "NAME-VERSION-PYTHON-ABI-PLATFORM.whl"),
        ([{"install": {"apt": "jq", "pip": "jq"}}], "tools[0].install: 'apt' and 'pip' exclude each other"),
        ([{"install": {"apt": "jq", "sha256": "0" * 64}}],
         "tools[0].install: 'sha256' is that of a file, and apt has no file here"),
        ([{"install": {"npm": "jq", "strip": 1}}], "tools[0].install: 'strip' is for an archive, not for npm"),
        ([{"install": {"npm": "jq", "sha256": "abc"}}],
         "tools[0].install.sha256: expected a sha256 of 64 hexadecimal digits, found 'abc'"),
        ([{"name": "jq"}], "tools[0]: the key 'install' is missing"),
        ([{"install": []}], "tools[0].install: expected at least 1, found an empty list"),
        ([{"install": "apt:jq", "verify": {"matches": "("}}],
         "tools[0].verify: the key 'run' is missing\n"
         "x: tools[0].verify.matches: cannot read the regex '(': missing ), unterminated subpattern at position 0"),
        (["apt:jq", {"install": "apt:jq=1.6"}], "tools[1]: there are two tools named 'jq'"),
    ],
)  # fmt: skip
def test_a_wrong_tool_is_named(tools: object, message: str) -> None:
    assert message_for(plan(tools=tools)) == message


@pytest.mark.parametrize(
    "spec", ["apt:-y", "apt:jq curl", "apt:jq;id", "apt:./x.deb", "apt:JQ", "apt:j", "apt:jq+", "apt:jq=", "apt:"]
)
def test_a_package_that_apt_could_take_for_something_else_is_refused(spec: str) -> None:
    assert "is no package of apt" in message_for(plan(tools=[spec]))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"/a": "x"}, "files[\"/a\"]: expected a path relative to the workspace, found '/a'"),
        ({"a/../b": "x"}, "files[\"a/../b\"]: expected a path without empty parts, '.' and '..', found 'a/../b'"),
        ({"a/": "x"}, "files[\"a/\"]: expected a path without empty parts, '.' and '..', found 'a/'"),
        ({"a\0": "x"}, 'files["a\\u0000"]: a NUL byte cannot stand here'),
        ({"a": {}}, "files.a: expected one of the keys 'text', 'base64', 'source'"),
        ({"a": {"text": "x", "mode": 755}}, "files.a.mode: expected a mode in octal, found the number 755; write it in quotes"),
        ({"a": {"text": "x", "mode": "0999"}}, "files.a.mode: expected a mode in octal, such as \"0755\", found '0999'"),
        ({"a": {"base64": "A"}}, "files.a.base64: expected base64: "),
        ({"a": {"source": "b"}}, "files.a.source: there is no file or folder 'b' beside the plan"),
        ({"a": {"source": "/etc"}}, "files.a.source: expected the path of a file or folder relative to the plan, found '/etc'"),
        ({"a" * 256: "x"}, f"files.{'a' * 256}: a part of the path is longer than 255 bytes"),
        ({"a": "x", "a/b": "y"}, "files[\"a/b\"]: 'a' is a file, so nothing can be put below it"),
    ],
)
def test_a_wrong_file_is_named(files: object, message: str) -> None:
    assert message_for(plan(files=files)).startswith(message)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (plan(steps=[{}]), "steps[0]: expected one of the keys 'run', 'argv', 'stop', 'signal'"),
        (plan(steps=[3]), "steps[0]: expected a command or a table, found the number 3"),
        (plan(steps=[" "]), "steps[0]: expected a command, found nothing to run"),
        (step(argv=["x"]), "steps[0]: 'run' and 'argv' exclude each other"),
        (plan(steps=[{"argv": []}]), "steps[0].argv: expected at least 1, found an empty list"),
        (plan(steps=[{"argv": ["", "x"]}]), "steps[0].argv: the first entry is the program; it is empty"),
        (plan(steps=[{"argv": ["x", 1]}]), "steps[0].argv[1]: expected text, found the number 1; write it in quotes"),
        (plan(steps=[{"argv": "x y"}]), "steps[0].argv: expected a list of text, found 'x y'"),
        (step(run="a\0"), "steps[0].run: a NUL byte cannot stand here"),
        (step(id="Ä"), "steps[0].id: expected an id of a-z, 0-9, - and _, found 'Ä'"),
        (step(cwd="../x"), "steps[0].cwd: expected a folder of the workspace or an absolute path, without '..', found '../x'"),
        (step(stdin={}), "steps[0].stdin: expected one of the keys 'file', 'base64'"),
        (step(stdin={"file": "a"}), "steps[0].stdin.file: there is no file 'a' beside the plan"),
        (step(stdin=1), "steps[0].stdin: expected text or a table, found the number 1"),
        (step(**{"continue": "yes"}), "steps[0].continue: expected true or false, found 'yes'"),
        (step(skip_if=""), "steps[0].skip_if: expected a command, found nothing to run"),
        (step(save={"a": {}}), "steps[0].save.a: expected one of the keys 'json_path', 'matches'"),
        (step(save={"a": {"matches": "a", "json_path": "."}}), "steps[0].save.a: 'json_path' and 'matches' exclude each other"),
        (step(save={"a": {"matches": "a", "from": "x"}}), "steps[0].save.a.from: expected stdout or stderr, found 'x'"),
        (step(save={"a-b": {"matches": "a"}}), "steps[0].save.a-b: expected a name of letters, digits and _, found 'a-b'"),
        (step(save={"a": {"json_path": "a"}}), "steps[0].save.a.json_path: a JSON path begins with '.': .a"),
        (step(golden="yes"), "steps[0].golden: expected true or false or a table, found 'yes'"),
        (step(golden={"streams": ["out"]}), "steps[0].golden.streams[0]: expected stdout or stderr, found 'out'"),
        (step(golden={"normalize": [{"matches": "a"}]}), "steps[0].golden.normalize[0]: the key 'replace' is missing"),
        (plan(normalize=[{"matches": "a", "replace": r"\1"}]),
         r"normalize[0]: cannot replace by '\\1': invalid group reference 1 at position 1"),
        (plan(normalize=["timestmap"]), "normalize[0]: there is no normaliser 'timestmap'; did you mean 'timestamp'?"),
        (step(golden={"normalize": ["port", "prot"]}),
         "steps[0].golden.normalize[1]: there is no normaliser 'prot'; did you mean 'port'?"),
    ],
)  # fmt: skip
def test_a_wrong_key_of_a_step_is_named(tree: dict[str, object], message: str) -> None:
    assert message_for(tree) == message


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"stdot": "x"}, "stdot: unknown key 'stdot'; did you mean 'stdout'?"),
        ({"exit": 256}, "exit: expected an exit code from 0 to 255, found 256"),
        (
            {"files": {"/tmp/../x": "a"}},
            "files[\"/tmp/../x\"]: expected a path without empty parts, '.' and '..', found 'tmp/../x'",
        ),
        ({"files": {"a": {"owner": "bob"}}}, "files.a.owner: expected lab, root or the number of a user, found 'bob'"),
        ({"files": {"a": {"type": "folder"}}}, "files.a.type: expected file, dir, link or other, found 'folder'"),
        ({"changes": {"outside": {"added": ["x"]}}}, "changes.outside.added[0]: expected an absolute path, found 'x'"),
        ({"exit": "zero"}, "exit: expected nonzero, timeout, oom, output_limit, pids_limit or disk_limit, found 'zero'"),
        ({"exit": []}, "exit: expected at least 1, found an empty list"),
        (
            {"exit": True},
            "exit: expected nonzero, timeout, oom, output_limit, pids_limit or disk_limit, an exit code or a list, found true",
        ),
        ({"signal": "BOOM"}, "signal: expected a signal such as KILL or TERM, found 'BOOM'"),
        ({"stdout": 1}, "stdout: expected text or a table, found the number 1"),
        ({"stdout": {"contain": ["x"]}}, "stdout.contain: unknown key 'contain'; did you mean 'contains'?"),
        ({"stdout": {"contains": "x"}}, "stdout.contains: expected a list of text that is not empty, found 'x'"),
        ({"stdout": {"contains": [""]}}, "stdout.contains[0]: expected text that is not empty, found ''"),
        ({"stdout": {"matches": "["}}, "stdout.matches: cannot read the regex '[': unterminated character set at position 0"),
        ({"stdout": {"matches": "[[a]"}}, "stdout.matches: cannot read the regex '[[a]': Possible nested set at position 1"),
        (
            {"stdout": {"matches": "a" * 300 + "++" + "+" + "b" * 300}},
            f"stdout.matches: cannot read the regex …'{'a' * 38}+++{'b' * 39}'…: multiple repeat at position 302",
        ),
        ({"stdout": {"json_path": {"a": 1}}}, "stdout.json_path.a: a JSON path begins with '.': .a"),
        ({"stdout": {"lines": -1}}, "stdout.lines: expected a whole number from 0 to 2147483648, found -1"),
        ({"stdout": {"file": "x"}}, "stdout.file: there is no file 'x' beside the plan"),
        ({"files": {"../x": "absent"}}, "files[\"../x\"]: expected a path without empty parts, '.' and '..', found '../x'"),
        ({"changes": "no"}, "changes: expected none, found 'no'"),
        ({"changes": {"add": []}}, "changes.add: unknown key 'add'; did you mean 'added'?"),
    ],
)
def test_a_wrong_expectation_is_named(keys: dict[str, object], message: str) -> None:
    assert message_for(expect(**keys)) == f"steps[0].expect.{message}"


def test_a_mode_beside_a_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'mode' cannot stand beside 'source', which brings its own modes"):
        parse_plan(plan(files={"a": {"source": ".", "mode": "0755"}}), root=tmp_path)


def test_a_stdin_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(64 * 2**20 + 1)
    with pytest.raises(UsageError, match=r"steps\[0\].stdin.file: .*large is larger than 64 MiB"):
        parse_plan(step(stdin={"file": "large"}), root=tmp_path)


def test_an_exit_code_and_a_signal_exclude_each_other() -> None:
    assert message_for(expect(exit=1, signal="KILL")) == "steps[0].expect: 'exit' and 'signal' exclude each other"


def test_matchers_that_match_nothing_are_refused() -> None:
    assert message_for(expect(stderr={})).startswith("steps[0].expect.stderr: expected at least one of the keys equals, contains")


@pytest.mark.parametrize(
    ("retry", "message"),
    [
        ({"time": 3}, "steps[0].retry.time: unknown key 'time'; did you mean 'times'?"),
        ({"delay": "1s"}, "steps[0].retry: the key 'times' is missing"),
        ({"times": 0}, "steps[0].retry.times: expected a whole number from 1 to 1000, found 0"),
        ({"times": 2, "delay": "0s"}, "steps[0].retry.delay: expected a duration above 0 and up to 24h, found '0s'"),
    ],
)
def test_a_retry_that_makes_no_sense_is_refused(retry: dict[str, object], message: str) -> None:
    assert message in message_for(step(retry=retry))


def test_a_case_that_is_expected_to_fail_has_a_reason() -> None:
    empty = {"image": "debian", "cases": [{"id": "a", "steps": ["x"], "expect_fail": ""}]}
    assert message_for(empty) == "cases[0].expect_fail: expected text that is not empty, found ''"


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ({"build": "gone"}, "image.build: there is no file or folder 'gone' beside the plan"),
        ({"build": "a.tar"}, "image.build: expected the path of a folder with a Dockerfile, and 'a.tar' is a file"),
        ({"build": "/etc"}, "image.build: expected the path of a folder with a Dockerfile, found '/etc'"),
        ({"load": "folder"}, "image.load: expected a file, 'folder' is a folder"),
        ({"rootfs": "pipe"}, "image.rootfs: expected a file, 'pipe' is a pipe"),
        ({"rootfs": "dangling"}, "image.rootfs: expected a file, 'dangling' is a link to nothing of that kind"),
        ({"rootfs": "a.tar", "pull": "never"}, "image: 'pull' is for 'ref': 'rootfs' is never pulled"),
        ({"rootfs": "a.tar", "load": "a.tar"}, "image: 'load' and 'rootfs' exclude each other"),
        ({"pull": "never"}, "image: expected one of the keys 'ref', 'build', 'load', 'rootfs', 'bootstrap'"),
        ({"bootstrap": "bookwrm"}, "image.bootstrap: expected the codename of a release that can be bootstrapped (bullseye, "
         "bookworm, trixie, forky, sid, focal, jammy, noble, plucky, questing, resolute), found 'bookwrm'"),
        ({"bootstrap": "noble-slim"}, "image.bootstrap: expected the codename of a release that can be bootstrapped (bullseye, "
         "bookworm, trixie, forky, sid, focal, jammy, noble, plucky, questing, resolute), found 'noble-slim'"),
    ],
)  # fmt: skip
def test_an_image_that_cannot_be_made_is_told_with_its_key(image: dict[str, object], message: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.tar").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError) as raised:
        parse_plan(plan(image=image), root=tmp_path, name="x")
    assert raised.value.message == f"x: {message}"


def test_the_shape_of_what_is_not_supported_yet_is_checked_too() -> None:
    assert "steps[0].tty.row: unknown key 'row'; did you mean 'rows'?" in message_for(step(tty={"row": 3}))


SAVING = {"run": "x", "save": {"answer": {"matches": "a"}}}
PLACES = "it can in argv, stdin, env, cwd, interact and the expected text of a step"


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([{"argv": ["${{a}}"]}],
         "steps[0].argv[0]: `${{a}}` is saved by no earlier step of the case; no step before this one saves anything"),
        ([SAVING, {"argv": ["${{anser}}"]}],
         "steps[1].argv[0]: `${{anser}}` is saved by no earlier step of the case; did you mean 'answer'?"),
        ([{**SAVING, "cwd": "${{answer}}"}],
         "steps[0].cwd: `${{answer}}` is saved by no earlier step of the case; no step before this one saves anything"),
        ([SAVING, "echo ${{answer}}"],
         "steps[1]: `${{answer}}` cannot stand in a script; the saved value is in $answer"),
        ([SAVING, {"run": "x", "expect": {"files": {"${{answer}}": "absent"}}}],
         f'steps[1].expect.files["${{{{answer}}}}"]: `${{{{answer}}}}` cannot stand here; {PLACES}'),
        ([SAVING, {"run": "x", "save": {"b": {"matches": "${{answer}}"}}}],
         f"steps[1].save.b.matches: `${{{{answer}}}}` cannot stand here; {PLACES}"),
    ],
)  # fmt: skip
def test_a_reference_to_nothing_saved_is_named(steps: object, message: str) -> None:
    assert message_for(plan(steps=steps)) == message


@pytest.mark.parametrize("keys", [{"env": {"A": "${{a}}"}}, {"expect": {"stdout": "${{a}}"}}])
def test_a_reference_outside_the_steps_is_refused(keys: dict[str, object]) -> None:
    assert f"`${{{{a}}}}` cannot stand here; {PLACES}" in message_for(plan(**keys))


def test_all_problems_come_at_once_in_the_order_of_the_lines() -> None:
    text = "image: [x]\nversion: 9\nsteps:\n  - run: x\n    tty: 3\n  - runn: y\n"
    assert message_for(text).splitlines() == [
        "x:1: image: expected an image such as debian:bookworm-slim or a table, found a list",
        "x:2: version: this program reads plans of version 1, found version 9",
        "x:5: steps[0].tty: expected true or false or a table, found the number 3",
        "x:6: steps[1].runn: unknown key 'runn'; did you mean 'run'?",
        "x:6: steps[1]: expected one of the keys 'run', 'argv', 'stop', 'signal'",
    ]


def test_more_than_twenty_problems_are_counted() -> None:
    lines = message_for(plan(**{f"key{i}": 1 for i in range(25)})).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "… and 5 more"


def test_a_problem_in_a_file_names_file_line_and_key(tmp_path: Path) -> None:
    path = tmp_path / "x.lab.yaml"
    path.write_text("image: debian\nsteps:\n  - run: x\n    expect:\n      stdout:\n        contain: [a]\n")
    with pytest.raises(UsageError) as raised:
        load_plan(path)
    assert raised.value.message == f"{path}:6: steps[0].expect.stdout.contain: unknown key 'contain'; did you mean 'contains'?"
    assert raised.value.hint == "testronaut-lab schema plan"
    assert raised.value.exit_status is ExitStatus.USAGE


def test_two_steps_with_one_id_name_both_lines(tmp_path: Path) -> None:
    text = "image: debian\nsetup:\n  - {id: a, run: x}\ncases:\n  - id: c\n    steps:\n      - id: a\n        run: y\n"
    assert message_for(text) == "x:7: cases[0].steps[0].id: the id 'a' is taken by an earlier one (line 3)"


def test_two_cases_with_one_id_name_both_lines() -> None:
    text = "image: debian\ncases:\n  - id: c\n    steps: [x]\n  - id: c\n    steps: [x]\n"
    assert message_for(text) == "x:5: cases[1].id: the id 'c' is taken by an earlier one (line 3)"
