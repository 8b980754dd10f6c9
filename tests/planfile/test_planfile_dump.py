"""Plans that are written: as people would write them, and read back as what they were."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.plan_texts import NAMES, PARTS, SCRIPTS, TEXTS

from testronaut_lab.model.expect import LIMITS, ChangesExpect, ExitExpect, FileExpect, MaxExpect, TextExpect
from testronaut_lab.model.files import FileType
from testronaut_lab.model.interaction import AwaitOutput, AwaitScreen, AwaitSettled, PressKey, Ready, Resize, SendText, Tty
from testronaut_lab.model.number import ExactNumber
from testronaut_lab.model.plan import FileSpec, ImageSpec, Limits, Normalizer, Plan, Retry, Save, Step, substitute
from testronaut_lab.model.substitution import literally
from testronaut_lab.planfile import parse_plan, parse_tool
from testronaut_lab.planfile.dump.yaml import plan_json, plan_text
from testronaut_lab.planfile.grammar.raw import ExpectFail, RawCase, RawPlan, RawStep, Stdin

IMAGE = ImageSpec("debian:bookworm-slim")
HERE = Path("/project")


def of(*steps: RawStep, **more: object) -> RawPlan:
    return RawPlan(image=IMAGE, steps=steps, **more)  # type: ignore[arg-type]


def body(plan: RawPlan, **more: object) -> str:
    return plan_text(plan, HERE, **more).removeprefix("version: 1\nimage: debian:bookworm-slim\n")  # type: ignore[arg-type]


def read(plan: RawPlan, folder: Path = HERE) -> Plan:
    return parse_plan(plan_text(plan, folder), root=folder)


def step(written: RawStep) -> Step:
    return read(of(written)).cases[0].steps[0]


def test_a_step_that_is_only_a_command_is_written_as_that() -> None:
    assert body(of(RawStep(run="jq .x a.json"), RawStep(id="plain", run="ls"))) == (
        "steps:\n  - jq .x a.json\n  - id: plain\n    run: ls\n"
    )


def test_the_id_that_a_command_has_anyway_is_left_out() -> None:
    assert body(of(RawStep(id="jq-x-a-json", run="jq .x a.json"))) == "steps:\n  - jq .x a.json\n"


def test_scripts_of_several_lines_are_blocks() -> None:
    assert body(of(RawStep(run="for i in 1 2; do\n  echo $i\ndone\n"))) == (
        "steps:\n  - |\n    for i in 1 2; do\n      echo $i\n    done\n"
    )


def test_quotes_stand_where_yaml_would_read_something_else() -> None:
    texts = ("true", "no", "1e3", "# x", "- x", "a: b", "%x", "echo 'a' \"b\"")
    assert body(of(*(RawStep(run=text) for text in texts))) == (
        "steps:\n  - 'true'\n  - 'no'\n  - '1e3'\n  - '# x'\n  - '- x'\n  - 'a: b'\n  - '%x'\n  - echo 'a' \"b\"\n"
    )


def test_a_command_with_quotes_of_both_kinds_needs_none_of_yaml() -> None:
    assert body(of(RawStep(run="echo '{\"x\": 1}'"))) == "steps:\n  - |-\n    echo '{\"x\": 1}'\n"


def test_what_cannot_be_seen_is_spelled_out() -> None:
    written = of(RawStep(run="echo \u202ea\u200b\n\U000e0041\xa0é"))
    assert body(written) == 'steps:\n  - "echo \\u202ea\\u200b\\n\\U000e0041\\xa0é"\n'
    assert read(written).cases[0].steps[0].run == "echo \u202ea\u200b\n\U000e0041\xa0é"


def test_what_is_short_stands_in_one_line() -> None:
    written = RawStep(run="x", env={"A": "1"}, expect={"exit": ExitExpect((3,))}, golden={"normalize": ("timestamp",)})
    assert body(of(written)) == (
        "steps:\n  - run: x\n    env: {A: '1'}\n    golden: {normalize: [timestamp]}\n    expect: {exit: 3}\n"
    )


def test_files_are_text_where_they_can_be_and_base64_where_not() -> None:
    files = {"a.json": FileSpec(b'{"x": 1}\n'), "run.sh": FileSpec(b"a\nb\n", mode=0o755), "b": FileSpec(b"\0\xff")}
    assert body(of(RawStep(run="x"), files=files)) == (
        "files:\n  a.json: |\n    {\"x\": 1}\n  run.sh:\n    text: |\n      a\n      b\n    mode: '0755'\n"
        "  b: {base64: AP8=}\nsteps:\n  - x\n"
    )


def test_a_remark_is_a_comment_above_its_step() -> None:
    assert body(of(RawStep(run="a"), RawStep(run="b")), remarks={1: "stdout differs"}) == (
        "steps:\n  - a\n  # stdout differs\n  - b\n"
    )


def test_a_default_is_written_where_the_project_has_another_one() -> None:
    assert body(of(RawStep(run="a")), explicit={"network"}) == "network: none\nsteps:\n  - a\n"


@pytest.mark.parametrize("text", ["1.10", "1e3", "1E400", "100000000000000000001.5", "-0.0", "1e-400", "7", "-0"])
def test_a_number_that_is_expected_is_written_as_it_was(text: str) -> None:
    written = RawStep(run="x", expect={"stdout": TextExpect(json={"a": [ExactNumber(text)]}, has_json=True)})
    assert f"json: {{a: [{text}]}}" in body(of(written))
    assert f"{text}\n" in plan_json(of(written), Path())
    found = step(written).expect.stdout
    assert found is not None and found.json == {"a": [ExactNumber(text)]} and (text == "-0" or text in repr(found.json))


def test_every_setting_of_a_plan_reads_back() -> None:
    plan = of(
        RawStep(run="x"), name="some: name", isolation="plan", network="internet", user="root", rootfs="read-only",
        shell="bash", env={"A": "1e3", "B": ""}, tools=(parse_tool("apt:jq"),), golden=True, ignore=("**/x",),
        limits=Limits(0.2, 90.5, 2**29 + 1, 0.5, 7, 10**7, 2**31, 3), normalize=("uuid", Normalizer(r"pid \d+", "pid")),
        setup=(RawStep(run="s"),), teardown=(RawStep(run="t"),), expect={"stderr": TextExpect(empty=True)},
    )  # fmt: skip
    found = read(plan)
    kept = ("name", "isolation", "network", "user", "rootfs", "shell", "env", "tools", "ignore", "limits", "normalize")
    assert [getattr(plan, key) for key in kept] == [getattr(found, key) for key in kept]
    assert ("s", "t") == (found.setup[0].run, found.teardown[0].run)
    assert TextExpect(empty=True) == found.cases[0].steps[0].expect.stderr


def test_cases_read_back() -> None:
    case = RawCase(
        id="one", tags=("smoke",), expect_fail=ExpectFail("why"), env={"A": "b"}, steps=(RawStep(run="x"),), golden=True
    )
    [found] = read(RawPlan(image=IMAGE, cases=(case,))).cases
    assert ("one", ("smoke",), "why", {"A": "b"}) == (found.id, found.tags, found.expect_fail, found.env)


def test_every_key_of_a_step_reads_back() -> None:
    written = RawStep(
        id="an-id", argv=("jq", "", "- x", "[a, b]"), stdin=Stdin(b"\0\xff"), env={"A": ": x"}, cwd="data", timeout_s=0.25,
        continue_=True, skip_if="false", retry=Retry(3, 0.5), merge=True,
        save={"x": Save("stdout", ".a"), "y": Save("stdout", None, "b")},
        golden={"streams": ("stdout",), "files": ("*.json",), "normalize": ("uuid",)},
    )  # fmt: skip
    found = step(written)
    kept = ("id", "argv", "env", "cwd", "timeout_s", "continue_", "skip_if", "retry", "merge", "save")
    assert [getattr(written, key) for key in kept] == [getattr(found, key) for key in kept]
    assert (b"\0\xff", False) == (found.stdin, found.stdin_is_text)
    assert found.golden is not None
    assert (("stdout",), ("*.json",), ("uuid",)) == (found.golden.streams, found.golden.files, found.golden.normalize)


def test_every_expectation_reads_back() -> None:
    text = TextExpect(
        equals="a", contains=("b",), not_contains=("c",), matches="d", json=None, has_json=True, json_path={".a": [1]}, lines=3,
        empty=False,
    )  # fmt: skip
    expect = {
        "exit": ExitExpect((0, 1)), "stdout": text, "stderr": TextExpect(equals="absent"),
        "files": {"a": FileExpect(absent=True), "b": FileExpect(text=TextExpect(equals="absent")), "c": FileExpect(text=text),
                  "/tmp/d": FileExpect(text=TextExpect(equals="x"), type=FileType.FILE, mode=0o750, owner="1000"),
                  "e": FileExpect(type=FileType.LINK, target="../x", owner="root")},
        "changes": ChangesExpect(added=("x",), deleted=("y",), outside=ChangesExpect(added=("/tmp/**",))),
        "max": MaxExpect(2.0, 0.5, 2**20),
    }  # fmt: skip
    found = step(RawStep(run="x", expect=expect)).expect
    assert expect == {key: getattr(found, key) for key in expect}
    for end in (
        *(ExitExpect(ended_by=kind) for kind in LIMITS),
        ExitExpect(nonzero=True),
        ExitExpect(signal="KILL"),
        ExitExpect((7,)),
    ):
        assert end == step(RawStep(run="x", expect={"exit": end})).expect.exit
    assert ChangesExpect() == step(RawStep(run="x", expect={"changes": ChangesExpect()})).expect.changes


def test_terminals_and_background_programs_read_back() -> None:
    interact = (
        AwaitScreen(TextExpect(contains=("3/3",)), 5.0), AwaitScreen(TextExpect(equals="x")), AwaitSettled(0.3),
        AwaitOutput("a|b"), SendText("cher"), PressKey("enter", 0.5), Resize(100, 50),
    )  # fmt: skip
    found = step(RawStep(run="vi", tty=Tty(100, 24, "vt100"), interact=interact))
    assert (Tty(100, 24, "vt100"), interact) == (found.tty, found.interact)
    beside = of(
        RawStep(run="server", background="web", ready=Ready(port=80, timeout_s=3.0)),
        RawStep(signal={"web": "HUP"}), RawStep(stop="web"),
    )  # fmt: skip
    start, signal, stop = read(beside).cases[0].steps
    assert ("web", Ready(port=80, timeout_s=3.0), {"web": "HUP"}, "web") == (
        start.background, start.ready, signal.signal, stop.stop
    )  # fmt: skip


def test_what_stands_beside_the_plan_is_written_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "plans").mkdir()
    (tmp_path / "in.bin").write_bytes(b"\xff")
    plan = of(
        RawStep(
            run="cat", stdin=Stdin(b"\xff", file=tmp_path / "in.bin"), expect={"stdout": TextExpect(file=tmp_path / "in.bin")}
        ),
        files={"data": FileSpec(source=tmp_path / "data")},
    )  # fmt: skip
    text = plan_text(plan, tmp_path / "plans")
    assert "source: ../data" in text and "stdin: {file: ../in.bin}" in text
    found = parse_plan(text, root=tmp_path / "plans")
    assert (b"\xff", tmp_path / "data") == (found.cases[0].steps[0].stdin, found.files["data"].source)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(SCRIPTS, st.dictionaries(NAMES, TEXTS, max_size=3), st.binary(max_size=40), TEXTS), min_size=1, max_size=5)
)
def test_any_script_environment_and_input_reads_back(steps: list[tuple[str, dict[str, str], bytes, str]]) -> None:
    written = [
        RawStep(id=f"n{i}", run=run, env=env, stdin=Stdin(data), expect={"stdout": TextExpect(equals=text)})
        for i, (run, env, data, text) in enumerate(steps)
        if "${{" not in f"{run}{env}{text}"
    ]
    found = read(of(*written, RawStep(run="end"))).cases[0].steps
    assert [(step.run, step.env, step.stdin.content, step.expect["stdout"]) for step in written if step.stdin] == [
        (step.run, step.env, step.stdin, step.expect.stdout) for step in found[:-1]
    ]


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXTS, max_size=4), TEXTS, st.dictionaries(PARTS, st.binary(max_size=30) | TEXTS.map(str.encode), max_size=4))
def test_any_argument_standard_input_and_file_reads_back(words: list[str], stdin: str, files: dict[str, bytes]) -> None:
    if any("${{" in text for text in (*words, stdin)):
        return
    plan = of(
        RawStep(id="a", argv=("x", *words), stdin=Stdin(stdin.encode(), is_text=True)),
        files={path: FileSpec(content) for path, content in files.items()},
    )
    found = read(plan)
    assert (("x", *words), stdin.encode(), plan.files) == (
        found.cases[0].steps[0].argv, found.cases[0].steps[0].stdin, found.files
    )  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.text("${}'x \n", max_size=20)
    | st.sampled_from(["${{x}}", "${{'x'}}", "${{ matrix.a }}", "a${{${{x}}}}b", "${{", "'${{'}}"])
)
def test_text_that_looks_like_a_reference_is_written_so_that_it_stands_for_itself(text: str) -> None:
    written = RawStep(argv=("x", literally(text)), env={"A": literally(text)}, stdin=Stdin(literally(text).encode(), True))
    found = substitute(step(written), {})
    assert (("x", text), {"A": text}, text.encode()) == (found.argv, found.env, found.stdin)


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ({"ref": "debian", "pull": "never"}, "image: {ref: debian, pull: never}"),
        ({"build": "box"}, "image: {build: box}"),
        ({"load": "../a.tar"}, "image: {load: ../a.tar}"),
        ({"rootfs": "./sub/../a.tar"}, "image: {rootfs: a.tar}"),
        ({"bootstrap": "bookworm-slim"}, "image: {bootstrap: bookworm-slim}"),
    ],
)
def test_an_image_of_any_source_is_written_as_it_is_read(written: dict[str, object], line: str, tmp_path: Path) -> None:
    (tmp_path / "plans" / "box").mkdir(parents=True)
    (tmp_path / "plans" / "sub").mkdir()
    (tmp_path / "a.tar").touch()
    (tmp_path / "plans" / "a.tar").touch()
    image = parse_plan({"image": written, "steps": ["true"]}, root=tmp_path / "plans").image
    plan = RawPlan(image=image, steps=(RawStep(run="true"),))
    assert plan_text(plan, tmp_path / "plans").splitlines()[1] == line
    assert replace(read(plan, tmp_path / "plans").image, ref=image.ref) == image
