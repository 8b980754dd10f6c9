"""Good plans: what each key becomes, how defaults are merged, how ids are given, and which files are plans."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from testronaut_lab.errors import UsageError
from testronaut_lab.installation.strategies import STRATEGIES
from testronaut_lab.model.expect import ChangesExpect, ExitExpect, Expect, FileExpect, MaxExpect, TextExpect
from testronaut_lab.model.plan import (
    FileSpec,
    GoldenSpec,
    ImageSpec,
    InstallSpec,
    Limits,
    Normalizer,
    Plan,
    Retry,
    Save,
    Step,
    ToolSpec,
    Verify,
)
from testronaut_lab.model.result import ExitKind, Phase
from testronaut_lab.planfile import find_plans, load_plan, parse_plan, parse_tool, plan_schema, slug

EVERY_KEY = r"""
version: 1
name: jq basics
image: {ref: debian:bookworm-slim, pull: never}
tools:
  - apt:jq
  - {name: httpie, command: http, install: ['apt:httpie=3.2.*'], verify: {run: http --version, matches: '^3\.2'}}
isolation: plan
network: internet
user: root
rootfs: read-only
shell: bash
env: {LC_ALL: C.UTF-8}
files:
  a.json: '{"x": 1}'
  data: {source: data}
  run.sh: {text: "echo ${{ matrix.x }}\n", mode: "0755"}
  blob.bin: {base64: "AAEC/w=="}
limits: {timeout: 5s, case_timeout: 1h, memory: 64MiB, cpus: 2, pids: 64, output: 1MB, workspace: 2GiB, files: 10}
normalize: [{matches: 'pid \d+', replace: 'pid [PID]'}]
ignore: ['**/.cache/**']
golden: false
expect: {stderr: {empty: true}}
setup: [mkdir out]
teardown: [rm -r out]
cases:
  - id: select
    tags: [smoke]
    expect_fail: jq is too old
    env: {A: b}
    golden: {streams: [stdout]}
    expect: {changes: none}
    steps:
      - run: jq .x a.json
        save: {answer: {json_path: ".x"}}
      - id: plain
        argv: [jq, .x, "${{answer}}"]
        stdin: '{"x": 2}'
        env: {NO_COLOR: "1"}
        cwd: data
        timeout: 200ms
        continue: true
        skip_if: "! command -v jq"
        retry: {times: 3, delay: 1s}
        save: {code: {from: stderr, matches: 'code (\d)'}}
        golden: {files: ['**/*.json'], normalize: [{matches: a, replace: b}]}
        expect:
          exit: [0, 1]
          stdout: {equals: TEXT, contains: [a], not_contains: [b], matches: '^T', json: null, json_path: {".a": 1}, lines: 3,
                   empty: false, file: data/in.txt}
          files: {out.json: {json: {}}, 'tmp/**': absent, plain.txt: text}
          changes: {added: ['out/*.json'], modified: [a], deleted: [b], retyped: [c]}
          max: {duration: 2s, cpu: 500ms, memory: 64MiB}
      - {run: cat, stdin: {file: data/in.txt}, golden: false, expect: {exit: timeout, stdout: "1\n"}}
      - {run: cat, stdin: {base64: "/w=="}, expect: {signal: SIGKILL}}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / ".git").mkdir()
    (tmp_path / "plans" / "data").mkdir(parents=True)
    (tmp_path / "plans" / "data" / "in.txt").write_bytes(b"in ${{answer}}\n")
    (tmp_path / "plans" / "all.lab.yaml").write_text(EVERY_KEY)
    return tmp_path


@pytest.fixture
def every(project: Path) -> Plan:
    return load_plan(project / "plans" / "all.lab.yaml")


def steps_of(*steps: object, **keys: object) -> tuple[Step, ...]:
    return parse_plan({"image": "debian", "steps": list(steps), **keys}, root=Path("/")).cases[0].steps


def test_keys_of_the_plan_are_read(every: Plan, project: Path) -> None:
    assert (every.version, every.name, every.file, every.root) == (1, "jq basics", project / "plans/all.lab.yaml", project)
    assert every.image == ImageSpec("debian:bookworm-slim", "never")
    assert (every.isolation, every.network, every.user, every.rootfs, every.shell) == (
        "plan", "internet", "root", "read-only", "bash",
    )  # fmt: skip
    assert (every.env, every.ignore) == ({"LC_ALL": "C.UTF-8"}, ("**/.cache/**",))
    assert every.normalize == (Normalizer(r"pid \d+", "pid [PID]"),)
    assert every.limits == Limits(5.0, 3600.0, 64 * 2**20, 2.0, 64, 10**6, 2**31, 10)


def test_tools_are_read(every: Plan) -> None:
    assert every.tools == (
        ToolSpec("jq", (InstallSpec("apt", "jq"),)),
        ToolSpec("httpie", (InstallSpec("apt", "httpie=3.2.*"),), "http", Verify("http --version", r"^3\.2")),
    )


def test_files_are_read_with_their_content_untouched(every: Plan, project: Path) -> None:
    assert every.files == {
        "a.json": FileSpec(b'{"x": 1}'),
        "data": FileSpec(source=project / "plans/data"),
        "run.sh": FileSpec(b"echo ${{ matrix.x }}\n", mode=0o755),
        "blob.bin": FileSpec(b"\x00\x01\x02\xff"),
    }


def test_setup_and_teardown_are_steps_of_each_case(every: Plan) -> None:
    case = every.cases[0]
    assert (case.id, case.nodeid, case.tags, case.env) == (
        "select", "plans/all.lab.yaml::select", ("smoke",), {"A": "b"},
    )  # fmt: skip
    assert [(step.nodeid, step.phase) for step in (*case.setup, *case.teardown)] == [
        ("plans/all.lab.yaml::select::mkdir-out", Phase.SETUP),
        ("plans/all.lab.yaml::select::rm-r-out", Phase.TEARDOWN),
    ]
    assert (every.setup, every.teardown) == (case.setup, case.teardown)
    assert case.expect_fail == "jq is too old"


def test_the_reason_of_an_expected_failure_may_stand_in_a_table() -> None:
    tree = {"image": "debian", "cases": [{"id": "a", "steps": ["x"], "expect_fail": {"reason": "broken"}}]}
    assert parse_plan(tree, root=Path("/")).cases[0].expect_fail == "broken"


def test_a_retry_has_a_delay_by_itself() -> None:
    assert [step.retry for step in steps_of({"run": "x", "retry": {"times": 2}}, "y")] == [Retry(2, 0.2), None]


def test_keys_of_a_step_are_read(every: Plan) -> None:
    step = every.cases[0].steps[1]
    assert (step.id, step.run, step.argv) == ("plain", None, ("jq", ".x", "${{answer}}"))
    assert (step.stdin, step.stdin_is_text, step.env, step.cwd) == (b'{"x": 2}', True, {"NO_COLOR": "1"}, "data")
    assert (step.timeout_s, step.continue_, step.skip_if) == (0.2, True, "! command -v jq")
    assert step.save == {"code": Save("stderr", matches=r"code (\d)")}
    assert step.retry == Retry(3, 1.0)


def test_every_matcher_is_read(every: Plan, project: Path) -> None:
    expect = every.cases[0].steps[1].expect
    assert expect.exit == ExitExpect((0, 1))
    assert expect.stdout == TextExpect(
        "TEXT", ("a",), ("b",), "^T", None, True, {".a": 1}, 3, False, project / "plans/data/in.txt"
    )
    assert expect.files == {
        "out.json": FileExpect(text=TextExpect(json={}, has_json=True)),
        "tmp/**": FileExpect(absent=True),
        "plain.txt": FileExpect(text=TextExpect("text")),
    }
    assert expect.changes == ChangesExpect(("out/*.json",), ("a",), ("b",), ("c",))
    assert expect.max == MaxExpect(2.0, 0.5, 64 * 2**20)


def test_stdin_from_a_file_is_bytes_and_no_text_to_fill_in(every: Plan) -> None:
    _, _, from_file, from_base64 = every.cases[0].steps
    assert (from_file.stdin, from_file.stdin_is_text) == (b"in ${{answer}}\n", False)
    assert (from_base64.stdin, from_base64.stdin_is_text) == (b"\xff", False)


def test_a_step_has_the_defaults_of_case_and_plan_under_its_own_expectations(every: Plan) -> None:
    first, _, third, _ = every.cases[0].steps
    assert first.expect == Expect(stderr=TextExpect(empty=True), changes=ChangesExpect())
    assert third.expect == Expect(
        ExitExpect(ended_by=ExitKind.TIMEOUT), stdout=TextExpect("1\n"), stderr=TextExpect(empty=True), changes=ChangesExpect()
    )


def test_setup_has_no_defaults_of_the_plan(every: Plan) -> None:
    assert (every.setup[0].expect, every.setup[0].golden) == (Expect(), None)


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, ExitExpect(signal="TERM")),
        ({"exit": 3}, ExitExpect((3,))),
        ({"exit": "nonzero"}, ExitExpect(nonzero=True)),
        ({"signal": "SIGHUP"}, ExitExpect(signal="HUP")),
    ],
)
def test_how_a_step_ends_is_said_by_its_own_exit_or_signal(own: dict[str, object], expected: ExitExpect) -> None:
    assert steps_of({"run": "x", "expect": own}, expect={"signal": "TERM"})[0].expect.exit == expected


PLAN_RULE, STEP_RULE = Normalizer("a", "b"), Normalizer("c", "d")


@pytest.mark.parametrize(
    ("plan", "step", "expected"),
    [
        (None, None, None),
        (None, True, GoldenSpec(normalize=(PLAN_RULE,))),
        (True, False, None),
        (True, None, GoldenSpec(normalize=(PLAN_RULE,))),
        (False, {"files": ["x"]}, GoldenSpec(files=("x",), normalize=(PLAN_RULE,))),
        ({"streams": ["stdout"]}, True, GoldenSpec(("stdout",), normalize=(PLAN_RULE,))),
        (
            {"streams": ["stdout"]},
            {"normalize": [{"matches": "c", "replace": "d"}]},
            GoldenSpec(("stdout",), normalize=(PLAN_RULE, STEP_RULE)),
        ),
    ],
)
def test_golden_settings_are_merged_key_by_key(plan: object, step: object, expected: GoldenSpec | None) -> None:
    tree = {"run": "x"} if step is None else {"run": "x", "golden": step}
    keys = {} if plan is None else {"golden": plan}
    assert steps_of(tree, normalize=[{"matches": "a", "replace": "b"}], **keys)[0].golden == expected


def test_defaults_of_the_project_stand_under_the_plan() -> None:
    tree = {"image": "debian", "env": {"A": "plan"}, "expect": {"exit": 3}, "normalize": [], "steps": ["x"]}
    defaults = {
        "image": "alpine",
        "shell": "bash",
        "env": {"A": "project", "B": "project"},
        "expect": {"signal": "KILL", "stderr": {"empty": True}},
        "normalize": [{"matches": "a", "replace": "b"}],
        "limits": {"timeout": "5s"},
    }
    plan = parse_plan(tree, root=Path("/"), defaults=defaults)
    assert (plan.image.ref, plan.shell, plan.env) == ("debian", "bash", {"A": "plan", "B": "project"})
    assert (plan.normalize, plan.limits) == ((), Limits(timeout_s=5.0))
    assert plan.cases[0].steps[0].expect == Expect(ExitExpect((3,)), stderr=TextExpect(empty=True))


def test_a_wrong_default_of_the_project_is_named() -> None:
    with pytest.raises(UsageError) as raised:
        parse_plan({"steps": ["x"]}, root=Path("/"), defaults={"image": "debian", "limits": {"timeot": 3}})
    assert raised.value.message == (
        "the project's defaults: defaults.limits.timeot: unknown key 'timeot'; did you mean 'timeout'?"
    )


@pytest.mark.parametrize(("user", "rootfs"), [("lab", "read-only"), ("root", "writable")])
def test_the_root_file_system_is_writable_for_root_only(user: str, rootfs: str) -> None:
    assert parse_plan({"image": "debian", "user": user, "steps": ["x"]}, root=Path("/")).rootfs == rootfs


def test_bare_steps_are_the_case_main() -> None:
    plan = parse_plan({"image": "debian", "name": "My plan", "steps": ["true"]}, root=Path("/"))
    assert [step.nodeid for step in plan.cases[0].steps] == ["my-plan::main::true"]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("jq .x a.json", "jq-x-a-json"),
        ("echo 'Ünïcode'", "echo-unicode"),
        ("| & ;", "step"),
        ("日本", "step"),
        ("a_b", "a_b"),
        ("x" * 60, "x" * 40),
        ("x" * 39 + " y", "x" * 39),
    ],
)
def test_a_slug_is_made_of_the_command(command: str, expected: str) -> None:
    assert slug(command) == expected


def test_repeated_commands_are_numbered_around_the_ids_that_are_written() -> None:
    steps = steps_of("a b", "a b", {"run": "z", "id": "a-b-2"}, {"argv": ["a", "b"]})
    assert [step.id for step in steps] == ["a-b", "a-b-3", "a-b-2", "a-b-4"]


def test_ids_of_setup_do_not_depend_on_the_case() -> None:
    cases = [{"id": "one", "steps": ["true", "true"]}, {"id": "two", "steps": ["false"]}]
    plan = parse_plan({"image": "debian", "setup": ["true"], "teardown": ["true"], "cases": cases}, root=Path("/"))
    ids = [[step.id for step in (*case.setup, *case.steps, *case.teardown)] for case in plan.cases]
    assert ids == [["true", "true-3", "true-4", "true-2"], ["true", "false", "true-2"]]


@settings(deadline=None)  # a time limit of milliseconds fails on a busy machine
@given(st.lists(st.text(min_size=1).filter(lambda text: text.strip() and "\0" not in text), min_size=1, max_size=8))
def test_ids_are_well_formed_and_unique_for_any_commands(commands: list[str]) -> None:
    ids = [step.id for step in steps_of(*({"argv": [command]} for command in commands))]
    assert len(set(ids)) == len(ids)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_") and name for name in ids)


def test_a_saved_value_may_be_used_by_later_steps_and_teardown() -> None:
    plan = parse_plan(
        {
            "image": "debian",
            "setup": [{"run": "x", "save": {"a": {"matches": "."}}}],
            "teardown": [{"argv": ["${{a}}", "${{ b }}"]}],
            "steps": [{"run": "x", "env": {"V": "${{a}}"}, "save": {"b": {"matches": "."}}}],
        },
        root=Path("/"),
    )
    assert plan.teardown[0].argv == ("${{a}}", "${{ b }}")


def test_a_script_may_hold_what_only_looks_like_a_reference() -> None:
    assert steps_of("cat > ci.yml <<< '${{ github.ref }}'")[0].run == "cat > ci.yml <<< '${{ github.ref }}'"


def test_the_same_tree_is_the_same_plan_in_json(every: Plan, project: Path) -> None:
    path = project / "plans" / "all.lab.json"
    path.write_text(json.dumps(YAML(typ="safe", pure=True).load(EVERY_KEY)))
    plan = load_plan(path)
    assert plan.cases[0].steps[1].expect == every.cases[0].steps[1].expect
    assert (plan.limits, plan.tools, plan.files) == (every.limits, every.tools, every.files)


def test_a_plan_is_named_after_its_file(tmp_path: Path) -> None:
    (tmp_path / "basic.lab.yml").write_text("image: debian\nsteps: ['true']\n")
    assert load_plan(tmp_path / "basic.lab.yml").name == "basic"


def test_a_plan_outside_the_project_is_refused(tmp_path: Path, project: Path) -> None:
    with pytest.raises(UsageError, match="is not below the project's folder"):
        load_plan(project / "plans" / "all.lab.yaml", root=project / "elsewhere")


def test_a_path_that_would_break_node_ids_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a::b.lab.yaml").write_text("image: debian\nsteps: [x]\n")
    with pytest.raises(UsageError, match="holds '::'"):
        load_plan(tmp_path / "a::b.lab.yaml")


def test_a_tool_is_read_as_on_the_command_line() -> None:
    assert parse_tool("apt:g++=4:12.2.0-3") == ToolSpec("g++", (InstallSpec("apt", "g++=4:12.2.0-3"),))


def test_a_wrong_tool_on_the_command_line_is_named() -> None:
    with pytest.raises(UsageError, match=r"^apt:-x: '-x' is no package of apt"):
        parse_tool("apt:-x")


def test_plans_are_found_below_folders_and_in_order(tmp_path: Path) -> None:
    for name in ("b.lab.yaml", "a/z.lab.json", "a/y.lab.yml", ".hidden/h.lab.yaml", ".testronaut/r.lab.yaml", "a/no.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_plans([tmp_path / "b.lab.yaml", tmp_path])
    assert [str(path.relative_to(tmp_path)) for path in found] == ["b.lab.yaml", "a/y.lab.yml", "a/z.lab.json"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("missing.lab.yaml", "there is no file or folder"), ("no.yaml", "is no plan: the name"), ("empty", "found none")],
)
def test_a_path_that_leads_to_no_plan_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "no.yaml").touch()
    with pytest.raises(UsageError, match=message):
        find_plans([tmp_path / name])


def tree_of(text: str) -> object:
    return YAML(typ="safe", pure=True).load(text)


def test_the_schema_accepts_a_plan_with_every_key() -> None:
    jsonschema.Draft202012Validator.check_schema(plan_schema())
    jsonschema.validate(tree_of(EVERY_KEY), plan_schema())


@pytest.mark.parametrize(
    "text",
    [
        "steps: [x]",
        "{image: a, steps: [x], cases: []}",
        "{image: a, steps: [x], limits: {timeout: 2d}}",
        "{image: a, steps: [{run: x, argv: [y]}]}",
        "{image: a, steps: [{run: x, expect: {stdout: {contain: [x]}}}]}",
        "{image: a, steps: [{run: x, expect: {exit: 1, signal: KILL}}]}",
        "{image: a, steps: [{run: x, expect: {max: {}}}]}",
        "{image: a, steps: [{run: x, expect: {max: {memory: 64 pounds}}}]}",
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(text: str) -> None:
    with pytest.raises(UsageError):
        parse_plan(text, root=Path("/"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tree_of(text), plan_schema())


def test_named_rules_stand_on_the_plan_in_its_defaults_and_on_a_step() -> None:
    tree = {"image": "debian", "steps": [{"run": "x", "golden": {"normalize": ["json", "uuid"]}}, "y"]}
    golden, plain = parse_plan(tree, root=Path("/"), defaults={"normalize": ["timestamp"]}).cases[0].steps
    assert golden.golden is not None
    assert (golden.golden.normalize, golden.normalize, plain.normalize) == (
        ("timestamp", "json", "uuid"), ("timestamp",), ("timestamp",)
    )  # fmt: skip


def test_every_key_of_the_schema_has_a_description_and_an_example_that_it_accepts() -> None:
    schema = plan_schema()
    definitions = schema["$defs"]
    assert schema["$id"] == "urn:testronaut-lab:plan:1" and isinstance(definitions, dict)
    for table, definition in definitions.items():
        for key, each in definition["properties"].items():
            where = f"{table}.{key}"
            assert each.get("description") and each.get("examples"), where
            alone = {"$defs": definitions, **each}
            for value in [*each["examples"], *([each["default"]] if "default" in each and each["default"] != 0 else [])]:
                jsonschema.Draft202012Validator(alone).validate(value)


def test_a_default_of_the_schema_is_what_holds_where_nothing_is_said() -> None:
    definitions = plan_schema()["$defs"]
    assert isinstance(definitions, dict)
    plan = definitions["plan"]["properties"]
    bare = parse_plan({"image": "debian", "steps": ["true"]}, root=Path("/"))
    said = {key: plan[key]["default"] for key in ("isolation", "network", "user", "shell")}
    assert said == {key: getattr(bare, key) for key in said}
    limits = {key: each["default"] for key, each in definitions["limits"]["properties"].items()}
    assert parse_plan({"image": "debian", "limits": limits, "steps": ["true"]}, root=Path("/")).limits == bare.limits


def test_the_schema_lists_the_named_rules_with_what_they_do() -> None:
    named = plan_schema()["$defs"]["plan"]["properties"]["normalize"]["items"]["anyOf"][0]
    described = {each["const"]: each["description"] for each in named["oneOf"]}
    assert {"ansi", "json", "tmp", "uuid", "size"} < described.keys()
    assert all(described.values())


def test_the_schema_tells_what_each_install_strategy_takes() -> None:
    install = plan_schema()["$defs"]["install"]  # type: ignore[index,call-overload]
    assert install["properties"]["copy"]["description"] == STRATEGIES["copy"].accepts  # type: ignore[index,call-overload]
    assert set(STRATEGIES) | {"sha256", "strip"} == set(install["properties"])  # type: ignore[index,call-overload,arg-type]
    assert all("description" in key for key in install["properties"].values())  # type: ignore[index,call-overload,union-attr]


def test_a_way_to_install_may_be_written_in_full(tmp_path: Path) -> None:
    (tmp_path / "x-1.tgz").touch()
    tool = {"name": "x", "install": [{"archive": "x-1.tgz", "sha256": "AB" * 32, "strip": 1}, {"npm": "x@^1"}, "pip:x==1"]}
    [read] = parse_plan({"image": "x", "tools": [tool], "steps": ["x"]}, root=tmp_path).tools
    assert read.install == (
        InstallSpec("archive", "x-1.tgz", tmp_path / "x-1.tgz", "ab" * 32, 1),
        InstallSpec("npm", "x@^1"),
        InstallSpec("pip", "x==1"),
    )


@pytest.mark.parametrize(
    ("written", "name"), [("npm:@scope/tool", "tool"), ("wheel:lab_tool-1-py3-none-any.whl", "lab-tool"), ("copy:a/b c", "b c")]
)
def test_a_tool_is_called_as_its_package_or_file_is(tmp_path: Path, written: str, name: str) -> None:
    (tmp_path / "a").mkdir()
    for file in ("lab_tool-1-py3-none-any.whl", "a/b c"):
        (tmp_path / file).touch()
    [read] = parse_plan({"image": "x", "tools": [written], "steps": ["x"]}, root=tmp_path).tools
    assert read.name == name


def test_by_hand_a_path_may_be_absolute(tmp_path: Path) -> None:
    (tmp_path / "jq").touch()
    assert parse_tool(f"copy:{tmp_path}/jq") == ToolSpec("jq", (InstallSpec("copy", f"{tmp_path}/jq", tmp_path / "jq"),))
