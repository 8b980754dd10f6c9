"""The matrix of a plan: which cells it has, what becomes of its values, what `when` and `per` do, and what is refused."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from testronaut_lab.errors import UsageError
from testronaut_lab.golden.places import golden_key
from testronaut_lab.model.plan import Plan, all_steps
from testronaut_lab.planfile import load_plan, load_plans, parse_plan, parse_plans, plan_schema

ROOT = Path("/nonexistent")
USING_ALL = {"env": {"A": "${{matrix.a}}", "B": "${{matrix.b}}"}}


def plans(matrix: object, *steps: object, **keys: object) -> tuple[Plan, ...]:
    return parse_plans({"image": "debian", "matrix": matrix, "steps": list(steps) or ["true"], **keys}, root=ROOT, name="x")


def cells(matrix: object, **keys: object) -> list[str]:
    uses = {"when-not-needed": [f"echo $MATRIX_{name}" for name in "ABCDE"]}
    return [",".join(f"{key}={value}" for key, value in plan.cell) for plan in plans(matrix, *uses["when-not-needed"], **keys)]


def message_for(matrix: object, *steps: object, **keys: object) -> str:
    with pytest.raises(UsageError) as raised:
        plans(matrix, *steps, **keys)
    return raised.value.message.removeprefix("x: ")


# --- cells ---------------------------------------------------------------------------------------------------------------


def test_the_cells_are_all_combinations_in_the_order_written() -> None:
    assert ["a=1,b=x", "a=1,b=y", "a=2,b=x", "a=2,b=y"] == cells({"a": [1, 2], "b": ["x", "y"]})


def test_exclude_takes_away_every_cell_that_has_all_of_an_entry() -> None:
    matrix = {"a": [1, 2], "b": ["x", "y"], "exclude": [{"a": 1, "b": "y"}, {"a": 2}]}
    assert ["a=1,b=x"] == cells(matrix)


@pytest.mark.parametrize(
    ("include", "expected"),
    [
        ([{"c": "new"}], ["a=1,b=x,c=new", "a=2,b=x,c=new"]),
        ([{"a": 1, "c": "new"}], ["a=1,b=x,c=new", "a=2,b=x"]),
        ([{"c": "new"}, {"a": 2, "c": "other"}], ["a=1,b=x,c=new", "a=2,b=x,c=other"]),
        ([{"a": 3}], ["a=1,b=x", "a=2,b=x", "a=3"]),
        ([{"a": 3, "b": "x"}, {"a": 3, "c": "new"}], ["a=1,b=x", "a=2,b=x", "a=3,b=x", "a=3,c=new"]),
    ],
)
def test_include_adds_to_the_cells_it_fits_or_is_one_of_its_own(include: object, expected: list[str]) -> None:
    assert expected == cells({"a": [1, 2], "b": ["x"], "include": include})


def test_include_is_looked_at_after_exclude() -> None:
    assert ["a=2", "a=1,c=back"] == cells({"a": [1, 2], "exclude": [{"a": 1}], "include": [{"a": 1, "c": "back"}]})


def test_a_matrix_may_be_all_include() -> None:
    assert ["a=1,b=x", "a=2"] == cells({"include": [{"a": 1, "b": "x"}, {"a": 2}]})


def test_values_are_kept_as_they_are_written(tmp_path: Path) -> None:
    file = tmp_path / "v.lab.yaml"
    file.write_text("image: a\nmatrix: {a: [1.10, True, 0x1F, '1.1', yes]}\nsteps: ['echo $MATRIX_A']\n")
    assert ["1.10", "True", "0x1F", "1.1", "yes"] == [plan.cell[0][1] for plan in load_plans(file, root=tmp_path)]
    as_json = tmp_path / "v.lab.json"
    as_json.write_text('{"image": "a", "matrix": {"a": [1.10, true]}, "steps": ["echo $MATRIX_A"]}')
    assert ["1.10", "true"] == [plan.cell[0][1] for plan in load_plans(as_json, root=tmp_path)]
    assert ["a=1.1", "a=true"] == cells({"a": [1.10, True]})


@given(st.lists(st.integers(1, 4), max_size=4))
def test_there_are_as_many_cells_as_combinations(sizes: list[int]) -> None:
    matrix = {key: list(range(size)) for key, size in zip("abcd", sizes, strict=False)}
    expected = 1
    for size in sizes:
        expected *= size
    if matrix:
        assert expected == len(set(cells(matrix)))


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([], "matrix: expected a table of keys and lists of their values, found a list"),
        ({}, "matrix: expected a table of keys and lists of their values, found an empty table"),
        ({"a": []}, "matrix.a: expected at least 1, found an empty list"),
        ({"a": "x"}, "matrix.a: expected a list of text, a number, true or false, found 'x'"),
        ({"a": [None]}, "matrix.a[0]: expected text, a number, true or false, found nothing"),
        ({"a": [["x"]]}, "matrix.a[0]: expected text, a number, true or false, found a list"),
        ({"a": ["${{matrix.b}}"]}, "matrix.a[0]: a value of the matrix cannot be a reference"),
        ({"a": ["x\0"]}, "matrix.a[0]: a NUL byte cannot stand here"),
        ({"a-b": ["x"]}, "matrix.a-b: expected a name of letters, digits and _, found 'a-b'"),
        ({"a": [1, 2, "1"]}, "matrix.a[2]: the value '1' is here for the second time"),
        ({"a": [1], "A": [2]}, "matrix: the keys 'a' and 'A' would both be $MATRIX_A"),
        ({"a": [1], "include": [{"A": 2}]}, "matrix: the keys 'a' and 'A' would both be $MATRIX_A"),
        ({"a": [1], "exclude": [{"a": 1}]}, "matrix: no cell is left"),
        ({"include": []}, "matrix: no cell is left"),
        ({"image": ["x"], "exclude": [{"imag": "x"}]}, "matrix.exclude[0]: the matrix has no key 'imag'; did you mean 'image'?"),
        ({"a": ["debian"], "exclude": [{"a": "debain"}]},
         "matrix.exclude[0]: no cell has the a 'debain'; did you mean 'debian'?"),
        ({"a": [1], "include": [{"a": 1}]}, "matrix.include[0]: [a=1] is in every cell already that it could be added to"),
        ({"a": [1], "include": [{"a": 2}, {"a": 2}]}, "matrix.include[1]: the cell [a=2] is there already"),
        ({"a": [1], "include": {"a": 2}}, "matrix.include: expected a list of a table, found a table"),
        ({key: list(range(17)) for key in "ab"}, "matrix: a matrix has at most 256 cells; this one has more"),
        ({f"k{i}": list(range(100)) for i in range(200)}, "matrix: a matrix has at most 256 cells; this one has more"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_matrix_is_said(matrix: object, message: str) -> None:
    assert message == message_for(matrix, "echo $MATRIX_A $MATRIX_B $MATRIX_IMAGE")


def test_a_key_that_nothing_uses_is_refused_by_name_and_line(tmp_path: Path) -> None:
    (tmp_path / "u.lab.yaml").write_text("image: a\nmatrix:\n  used: [1]\n  jq: [1, 2]\nsteps: ['echo $MATRIX_USED']\n")
    with pytest.raises(UsageError) as raised:
        load_plans(tmp_path / "u.lab.yaml", root=tmp_path)
    expected = "u.lab.yaml:4: matrix.jq: the key 'jq' is used nowhere: no `${{matrix.jq}}`, `when` or $MATRIX_JQ"
    assert raised.value.message.endswith(expected)


def test_a_key_of_include_alone_has_to_be_used_too() -> None:
    assert message_for({"include": [{"a": 1, "spare": 2}]}, "echo $MATRIX_A").startswith(
        "matrix.include: the key 'spare' is used"
    )


@pytest.mark.parametrize(
    "keys",
    [
        {"image": "${{ matrix.a }}"},
        {"tools": ["npm:${{matrix.a}}"]},
        {"files": {"x": "${{matrix.a}}"}},
        {"cases": [{"id": "a", "steps": ["x"], "when": {"a": ["v"]}}], "steps": None},
        {"setup": ["printenv MATRIX_A"]},
    ],
)
def test_a_reference_a_condition_and_the_variable_are_uses(keys: dict[str, object]) -> None:
    tree = {"image": "debian", "matrix": {"a": ["v"]}, "steps": ["true"], **keys}
    assert 1 == len(parse_plans({key: value for key, value in tree.items() if value is not None}, root=ROOT))


# --- values --------------------------------------------------------------------------------------------------------------


def test_values_stand_in_the_image_the_tools_the_environment_and_files() -> None:
    one, two = plans(
        {"a": ["bookworm", "trixie"], "b": ["1.6"]},
        image="debian:${{matrix.a}}-slim",
        tools=["apt:jq=${{ matrix.b }}*"],
        files={"f-${{matrix.a}}": "is ${{matrix.a}}\n"},
        **USING_ALL,
    )
    assert ("debian:bookworm-slim", "debian:trixie-slim") == (one.image.ref, two.image.ref)
    assert "jq=1.6*" == two.tools[0].install[0].spec
    assert {"A": "trixie", "B": "1.6", "MATRIX_A": "trixie", "MATRIX_B": "1.6"} == two.env
    assert b"is trixie\n" == two.files["f-trixie"].content


def test_a_reference_alone_keeps_the_type_and_is_text_where_text_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "t.lab.yaml").write_text("""
image: a
matrix: {n: [1.50, 3], on: [true]}
limits: {cpus: "${{matrix.n}}"}
steps:
  - run: x
    env: {N: "${{matrix.n}}"}
    timeout: ${{matrix.n}}s
    continue: ${{matrix.on}}
    expect: {stdout: {json: {n: "${{matrix.n}}", t: "n=${{matrix.n}}"}}}
  - {run: y, expect: {stdout: "${{matrix.n}}"}}
""")
    half, three = load_plans(tmp_path / "t.lab.yaml", root=tmp_path)
    first, second = half.cases[0].steps
    assert (1.5, 3.0) == (half.limits.cpus, three.limits.cpus)
    assert ({"N": "1.50"}, 1.5, True) == (first.env, first.timeout_s, first.continue_)
    assert first.expect.stdout is not None and second.expect.stdout is not None
    assert {"n": 1.5, "t": "n=1.50"} == first.expect.stdout.json
    assert "1.50" == second.expect.stdout.equals


def test_in_a_regex_a_value_stands_for_itself() -> None:
    step = {"run": "x", "expect": {"stdout": {"matches": r"^jq-${{matrix.a}}\d?$"}}}
    [plan] = plans({"a": ["1.6+x"]}, step)
    assert plan.cases[0].steps[0].expect.stdout is not None
    assert r"^jq-1\.6\+x\d?$" == plan.cases[0].steps[0].expect.stdout.matches


def test_in_what_a_regex_is_replaced_by_a_value_stands_for_itself() -> None:
    [plan] = plans({"a": [r"C:\1"]}, normalize=[{"matches": "x", "replace": "${{matrix.a}}"}])
    [rule] = plan.normalize
    assert not isinstance(rule, str) and r"C:\\1" == rule.replace


def test_saved_values_stay_references_beside_those_of_the_matrix() -> None:
    saving = {"run": "x", "save": {"answer": {"matches": "a"}}}
    [plan] = plans({"a": ["v"]}, saving, {"argv": ["${{matrix.a}}", "${{answer}}"]})
    assert ("v", "${{answer}}") == plan.cases[0].steps[1].argv


def test_the_content_of_files_is_nothing_of_ours_without_a_matrix() -> None:
    plan = parse_plan(
        {"image": "a", "files": {"ci.yml": "os: ${{ matrix.os }}"}, "steps": ["grep '${{ matrix.os }}' x"]}, root=ROOT
    )
    assert b"os: ${{ matrix.os }}" == plan.files["ci.yml"].content


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("echo ${{matrix.a}}", "steps[0]: `${{matrix.a}}` cannot stand in a script; its value is in $MATRIX_A"),
        ({"run": "x", "skip_if": "test ${{ matrix.a }}"},
         "steps[0].skip_if: `${{matrix.a}}` cannot stand in a script; its value is in $MATRIX_A"),
        ("echo ${{matrix.imag}}", "steps[0]: the matrix has no key 'imag'; did you mean 'image'?"),
        ({"argv": ["${{matrix.imag}}"]}, "steps[0].argv[0]: the matrix has no key 'imag'; did you mean 'image'?"),
        ({"run": "x", "timeout": "${{matrix.imag}}"}, "steps[0].timeout: the matrix has no key 'imag'; did you mean 'image'?"),
        ({"run": "x", "id": "${{matrix.a}}"},
         "steps[0].id: `${{matrix.a}}` cannot stand here: this text is the same in all cells"),
        ({"run": "x", "timeout": "${{matrix.a}}"},
         "steps[0].timeout: expected a duration such as 200ms, 60s, 1.5m or 1h, or a number of seconds, found 'v'"),
        ({"run": "x", "golden": {"per": ["imag"]}},
         "steps[0].golden.per[0]: the matrix has no key 'imag'; did you mean 'image'?"),
        ({"run": "x", "when": {"imag": ["v"]}}, "steps[0].when.imag: the matrix has no key 'imag'; did you mean 'image'?"),
        ({"run": "x", "when": {"a": ["vv"]}}, "steps[0].when.a[0]: no cell has the a 'vv'; did you mean 'v'?"),
    ],
)  # fmt: skip
def test_what_cannot_be_filled_in_is_refused_at_its_place(step: object, message: str) -> None:
    assert message == message_for({"a": ["v"], "image": ["i"]}, step, env={"A": "${{matrix.a}}${{matrix.image}}"})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"image": "${{matrix.image}}"}, "image: `${{matrix.image}}` has no value: this plan has no `matrix`"),
        ({"limits": {"pids": "${{matrix.n}}"}}, "limits.pids: `${{matrix.n}}` has no value: this plan has no `matrix`"),
        ({"steps": [{"run": "x", "when": {"a": ["v"]}}]}, "steps[0].when.a: there is no key 'a': this plan has no `matrix`"),
        ({"golden": {"per": ["a"]}}, "golden.per[0]: there is no key 'a': this plan has no `matrix`"),
    ],
)
def test_a_plan_without_a_matrix_has_no_values_of_one(keys: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_plan({"image": "debian", "steps": ["x"], **keys}, root=ROOT, name="x")
    assert f"x: {message}" == raised.value.message


def test_a_problem_of_some_cells_names_the_first_of_them() -> None:
    expected = "image: expected an image such as debian:bookworm-slim, found '-x' (in the cell [a=-x,b=1] and 1 more)"
    assert expected == message_for({"a": ["fine", "-x"], "b": [1, 2]}, image="${{matrix.a}}", env={"B": "${{matrix.b}}"})


def test_a_key_that_a_cell_does_not_have_has_no_value_there() -> None:
    matrix = {"a": [1, 2], "include": [{"a": 2, "b": "x"}]}
    assert "env.B: `${{matrix.b}}` has no value in this cell (in the cell [a=1])" == message_for(matrix, **USING_ALL)


def test_a_value_cannot_make_another_reference() -> None:
    message = message_for({"a": ["{"]}, {"argv": ["$${{matrix.a}}{x}}"]})
    assert "steps[0].argv[0]: with its values, '$${{matrix.a}}{x}}' would be another reference" == message


def test_two_keys_that_are_one_in_a_cell_are_refused() -> None:
    files = {"${{matrix.a}}": "", "f": ""}
    assert "files: with the values of the matrix, two keys are the same (in the cell [a=f])" == message_for(
        {"a": ["f", "g"]}, files=files
    )


def test_the_plans_own_environment_stands_over_the_variables_of_the_matrix() -> None:
    [plan] = plans({"a": ["v"]}, env={"MATRIX_A": "own"})
    assert {"MATRIX_A": "own"} == plan.env


# --- when and per --------------------------------------------------------------------------------------------------------


def test_cases_steps_and_expected_failures_are_for_some_cells() -> None:
    cases = [
        {"id": "always", "steps": ["x", {"run": "x", "when": {"a": [2]}}, "x"]},
        {"id": "only", "when": {"a": [1]}, "expect_fail": {"reason": "old", "when": {"a": [1]}}, "steps": ["x"]},
        {"id": "not-yet", "expect_fail": {"reason": "new", "when": {"a": [2]}}, "steps": ["x"]},
    ]
    one, two = parse_plans({"image": "i", "matrix": {"a": [1, 2]}, "cases": cases, "setup": ["s"]}, root=ROOT)
    assert ["always", "only", "not-yet"] == [case.id for case in one.cases]
    assert ["always", "not-yet"] == [case.id for case in two.cases]
    assert [None, "old", None] == [case.expect_fail for case in one.cases]
    assert "new" == two.cases[1].expect_fail


def test_a_step_is_called_the_same_in_all_cells() -> None:
    steps = ["x", {"run": "x", "when": {"a": [2]}}, "x", {"argv": ["y", "${{matrix.a}}"]}]
    one, two = plans({"a": [1, 2]}, *steps)
    assert ["x", "x-3", "y-matrix-a"] == [step.id for step in one.cases[0].steps]
    assert ["x", "x-2", "x-3", "y-matrix-a"] == [step.id for step in two.cases[0].steps]


def test_node_ids_have_the_cell_behind_the_case() -> None:
    one, _ = plans({"a": [1, 2]}, {"id": "s", "run": "echo $MATRIX_A"})
    assert ("x::main[a=1]", "x::main[a=1]::s") == (one.cases[0].nodeid, one.cases[0].steps[0].nodeid)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"cases": [{"id": "c", "steps": ["x"], "when": {"a": [1]}}]},
         "matrix: no case is for this cell; `exclude` leaves it out (in the cell [a=2])"),
        ({"cases": [{"id": "c", "steps": [{"run": "x", "when": {"a": [1]}}]}]},
         "cases[0]: no step of this case is for this cell; `when` on the case leaves it out (in the cell [a=2])"),
        ({"steps": [{"run": "x", "background": "web", "when": {"a": [1]}}, {"stop": "web"}]},
         "steps[1].stop: no background program 'web' runs here; no step before this one starts one (in the cell [a=2])"),
    ],
)  # fmt: skip
def test_what_a_condition_leaves_behind_is_checked(keys: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_plans({"image": "debian", "matrix": {"a": [1, 2]}, **keys}, root=ROOT, name="x")
    assert message == raised.value.message.removeprefix("x: ")


def test_goldens_are_split_by_the_keys_of_per_alone() -> None:
    golden = {"per": ["b", "a"]}
    [plan] = plans({"b": ["../x"], "a": [1], "c": [3]}, {"run": "echo $MATRIX_C", "golden": golden}, **USING_ALL)
    spec = plan.cases[0].steps[0].golden
    assert spec is not None and (("a", "1"), ("b", "../x")) == spec.cell


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["A", "a"], "golden.per: the values 'A' and 'a' of 'a' would be one folder on some systems"),
        (["x" * 250], "steps: the golden of 'true' cannot be kept: with the values of `per`, the name of its folder is too long"),
    ],
)
def test_values_that_can_be_no_folders_are_refused(values: list[str], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        plans({"a": values}, {"run": "true", "env": {"A": "${{matrix.a}}"}, "golden": True}, golden={"per": ["a"]})
    assert message.partition(": ")[2] in raised.value.message


def test_what_the_matrix_decides_is_known() -> None:
    tools = ["apt:ripgrep", {"name": "jq", "install": "apt:jq=${{matrix.b}}"}]
    [plan] = plans({"a": ["i"], "b": [1]}, image="${{matrix.a}}", tools=tools)
    assert ("image", "tools.jq") == plan.of_matrix


# --- loading -------------------------------------------------------------------------------------------------------------


def test_one_plan_cannot_be_had_of_several_cells(tmp_path: Path) -> None:
    (tmp_path / "m.lab.yaml").write_text("image: a\nmatrix: {a: [1, 2]}\nsteps: ['echo $MATRIX_A']\n")
    with pytest.raises(UsageError, match="m: one plan was expected, and its matrix makes 2 plans"):
        load_plan(tmp_path / "m.lab.yaml", root=tmp_path)


def test_what_does_not_vary_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"x" * 1000)
    tree = {"image": "i", "matrix": {"a": [1, 2]}, "steps": [{"run": "cat $MATRIX_A", "stdin": {"file": "in"}}]}
    one, two = parse_plans(tree, root=tmp_path)
    assert one.cases[0].steps[0].stdin is two.cases[0].steps[0].stdin


def test_a_plan_with_too_many_steps_over_all_cells_is_refused() -> None:
    matrix = {"a": list(range(200))}
    with pytest.raises(UsageError, match="has more than 100000 steps"):
        parse_plans({"image": "i", "matrix": matrix, "steps": ["echo $MATRIX_A"] * 501}, root=ROOT)


GOOD = """
image: "${{matrix.image}}"
matrix:
  image: [debian:bookworm-slim, debian:trixie-slim]
  n: [1, 2.5, true]
  include: [{image: debian:sid, n: 7}]
  exclude: [{n: 2.5}]
limits: {pids: "${{matrix.n}}", timeout: "${{matrix.n}}"}
network: "${{matrix.image}}"
cases:
  - id: a
    when: {n: [1, true]}
    expect_fail: {reason: broken, when: {n: [true]}}
    steps: [{run: x, continue: "${{matrix.n}}", when: {n: [1]}, golden: {per: [image]}}]
"""


def test_the_schema_knows_the_matrix_and_its_references() -> None:
    jsonschema.validate(YAML(typ="safe", pure=True).load(GOOD), plan_schema())
    for wrong in ("matrix: {a: []}", "matrix: {}", "matrix: {a: x}", "matrix: {include: [x]}", "matrix: {a: [[x]]}"):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(YAML(typ="safe", pure=True).load(f"image: i\nsteps: [x]\n{wrong}"), plan_schema())


def test_the_schema_says_what_include_and_exclude_do() -> None:
    matrix = plan_schema()["$defs"]["plan"]["properties"]["matrix"]  # type: ignore[index,call-overload]
    assert "it is a cell of its own" in matrix["properties"]["include"]["description"]  # type: ignore[index,call-overload,operator]
    assert "left out" in matrix["properties"]["exclude"]["description"]  # type: ignore[index,call-overload,operator]


def test_the_example_has_a_golden_for_each_cell_that_needs_one() -> None:
    project = Path(__file__).parents[2]
    found = load_plans(project / "examples" / "systems.lab.yaml")
    keys = {golden_key(step).place for plan in found for step in all_steps(plan) if step.golden is not None}
    assert 3 == len(keys)
    assert [True] * 3 == [(project / "snapshots" / place / "cmd.txt").is_file() for place in keys]
