"""How the text of a plan becomes a tree: what YAML and JSON may hold, and where each problem is said to be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testronaut_lab.errors import UsageError
from testronaut_lab.planfile import load_plan, parse_plan
from testronaut_lab.planfile.schema.fields import plain
from testronaut_lab.planfile.schema.problems import Problems
from testronaut_lab.planfile.schema.syntax import read_json, read_python, read_yaml


def yaml(text: str) -> object:
    return plain(read_yaml(text, "x", Problems()))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("on", "on"), ("1:30", "1:30"), ("1_000", "1_000"), ("2024-01-01", "2024-01-01"),
        ("true", True), ("~", None), ("", None), ("12", 12), ("-3", -3), ("0o17", 15), ("0x1F", 31), ("1e3", 1000.0),
        (".5", 0.5), ("'010'", "010"), ('"1"', "1"), ("|\n  12\n", "12\n"), ("{a: [1, {b: no}]}", {"a": [1, {"b": "no"}]}),
    ],
)  # fmt: skip
def test_yaml_means_what_yaml_1_2_says(text: str, value: object) -> None:
    assert yaml(text) == value
    assert type(yaml(text)) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x 1\nb: *x", "x:1: a: anchors (&x) are not allowed; write the value out where it is used\n"
                           "x:2: b: aliases (*x) are not allowed; write the value out"),
        ("a: &x [1]", "x:1: a: anchors (&x) are not allowed; write the value out where it is used"),
        ("b:\n  <<: {a: 1}", 'x:2: b: merge keys (<<) are not allowed; write the entries out'),
        ("a: 1\nb: 2\na: 3", "x:3: a: the key 'a' is here for the second time; the first is in line 1"),
        ("a:\n  - b: 1\n    b: 2", "x:3: a[0].b: the key 'b' is here for the second time; the first is in line 2"),
        ("a: !!str 3", "x:1: a: tags (tag:yaml.org,2002:str) are not allowed; text is written in quotes"),
        ("a: !x {b: 1}", "x:1: a: tags (!x) are not allowed; text is written in quotes"),
        ("a: .inf", "x:1: a: .inf is a number that a plan cannot use"),
        ("a: .nan", "x:1: a: .nan is a number that a plan cannot use"),
        ("a: 010", "x:1: a: 010 could be read in two ways; write it without the leading zero, or in quotes"),
        ("a: " + "9" * 500, "x:1: a: a number of more than 400 digits"),
        ("1: a", "x:1: a key must be text; write it in quotes"),
        ("? [a]\n: b", "x:1: a key must be text"),
        ('a: "\\ud800"', "x:1: a: half a surrogate pair is not valid text"),
        ("%YAML 1.1\n---\na: 1", "x:2: a plan is YAML 1.2; leave the %YAML line out"),
        ("a: 1\n---\nb: 1", "x:2: a plan is one document; there is a second one here"),
        ("a: [1", "x:1: a[1]: this is not YAML: expected ',' or ']', but got '<stream end>'"),
        ("\n\ta: 1", "x:2: this is not YAML: found character '\\t' that cannot start any token; indent with "
                    "spaces, not with tabs"),
        ("a: `x`", "x:1: a: this is not YAML: found character '`' that cannot start any token; text that begins "
                     "with it is quoted"),
        ("a: jq '{y: .x}'", "x:1: this is not YAML: mapping values are not allowed here; text with `: ` in it is quoted as a "
                            "whole, or stands below `run: |`, and keys stand below each other"),
        ("a: 'x' y", "x:1: this is not YAML: expected <block end>, but found '<scalar>'; text that begins with a quote or a "
                     "bracket is quoted as a whole"),
        ("- a: 1\n b: 2", "x:2: [1]: this is not YAML: expected <block end>, but found '<block mapping start>'; the keys of "
                         "one table stand below each other"),
        ("a: {b: ${{x}}}", "x:1: a: this is not YAML: expected ',' or '}', but got '{'; text with braces in it is quoted where "
                           "it stands in braces or brackets itself"),
        ('a: "\\d"', "x:1: a: this is not YAML: found unknown escape character 'd'; in single quotes a backslash is itself"),
    ],
)  # fmt: skip
def test_yaml_that_means_two_things_or_nothing_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        yaml(text)
    assert raised.value.message == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1,\n "a": 2}', "x:2: a: the key 'a' is here for the second time; the first is in line 1"),
        ('{"a":\n [1, NaN]}', "x:2: a[1]: a number that is not finite"),
        ('{"a": Infinity}', "x:1: a: a number that is not finite"),
        ('{"a": 1\n"b": 2}', "x:2: this is not JSON: "),
        ("{'a': 1}", "x:1: this is not JSON: "),
        ('{"a": "\\ud800"}', "x:1: a: half a surrogate pair is not valid text"),
        ('{"a": ' + "9" * 5000 + "}", "x: a number of more than 400 digits"),
    ],
)
def test_json_problems_have_their_line(text: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_json(text, "x", Problems())
    assert raised.value.message.startswith(message)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)  # a time limit of milliseconds fails on a busy machine
@given(JSON)
def test_json_is_read_as_json_reads_it(value: object) -> None:
    assert plain(read_json(json.dumps(value, indent=1), "x", Problems())) == value


@settings(deadline=None)
@given(JSON)
def test_python_values_stay_what_they_are(value: object) -> None:
    assert plain(read_python(value, "x", Problems())) == value


@pytest.mark.parametrize("value", [{"a": b"x"}, {"a": Path()}, {1: 2}, {"a": {1, 2}}, {"a": float("nan")}])
def test_what_no_plan_file_could_hold_is_refused_from_python_too(value: object) -> None:
    with pytest.raises(UsageError):
        read_python(value, "x", Problems())


def test_a_tree_that_holds_itself_is_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(UsageError, match="nested deeper than 32 levels"):
        read_python(loop, "x", Problems())


@pytest.mark.parametrize("text", ["[" * 33 + "]" * 33, "{a: " * 40 + "1" + "}" * 40])
def test_yaml_that_is_nested_too_deep_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="nested deeper than 32 levels"):
        yaml(text)


@pytest.mark.parametrize("depth", [33, 500_000])
def test_json_that_is_nested_too_deep_is_refused(depth: int) -> None:
    with pytest.raises(UsageError, match="nested deeper than 32 levels"):
        read_json("[" * depth + "]" * depth, "x", Problems())


def test_a_tree_with_too_many_values_is_refused() -> None:
    with pytest.raises(UsageError, match="more than 100000 values"):
        read_json(json.dumps([0] * 100_001), "x", Problems())


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.lab.yaml"
    path.write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(UsageError, match="at most 1 MiB") as caught:
        load_plan(path)
    assert "{file: PATH}" in (caught.value.hint or "")


def test_a_file_that_is_not_utf_8_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "x.lab.yaml"
    path.write_bytes(b"version: 1\nname: \xff\n")
    with pytest.raises(UsageError, match=r"x\.lab\.yaml:2: a plan is UTF-8 text; byte 17 is not"):
        load_plan(path)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "x.lab.json"
    path.write_bytes(b'\xef\xbb\xbf{"image": "debian", "steps": ["true"]}')
    assert load_plan(path).image.ref == "debian"


def problem_of(source: str | dict[str, object]) -> UsageError | None:
    try:
        parse_plan(source, root=Path("/nonexistent"))
    except UsageError as error:
        return error
    return None


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from(list("ab:-?[]{}&*!|>'\"%@`#,\\ \n\t0.~<\x00\x85\ud800é")), max_size=40))
def test_no_text_raises_anything_but_a_usage_error(text: str) -> None:
    assert problem_of(text) is not None


KEYS = st.sampled_from(
    "version name image tools matrix env files limits normalize golden setup cases steps id run argv stdin save expect stdout "
    "a b when per include exclude "
    "exit signal json_path matches contains changes text source mode timeout memory tty interact retry install ref".split()
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | KEYS | st.just("${{matrix.x}} ${{y}}")
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=4),
    max_leaves=30,
)


@settings(deadline=None)
@given(st.dictionaries(KEYS, TREES, max_size=6))
def test_no_tree_raises_anything_but_a_usage_error(tree: dict[str, object]) -> None:
    problem = problem_of({"image": "debian", "steps": ["true"], **tree})
    assert problem is None or problem.hint == "testronaut-lab schema plan"


WITH_MATRIX = st.recursive(
    SCALARS | st.sampled_from(["${{matrix.a}}", "x${{ matrix.b }}", "${{matrix.c}}", "$MATRIX_A $MATRIX_B", "a", "1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.just("${{matrix.a}}"), inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)
@given(st.dictionaries(KEYS, WITH_MATRIX, max_size=4), WITH_MATRIX, WITH_MATRIX)
def test_no_tree_with_a_matrix_raises_anything_but_a_usage_error(tree: dict[str, object], more: object, step: object) -> None:
    matrix = {"a": [1, "a", True], "b": ["${"], "include": [{"a": 2, "c": "x"}]}
    uses = {"env": {"A": "${{matrix.a}}", "B": "$MATRIX_B"}, "when": {"a": [1]}}
    steps = [{"run": "true", **uses}, step, {"argv": ["x"], "expect": more, "stdin": more, "timeout": more}]
    for each in (matrix, {**matrix, "exclude": more}, more):
        problem = problem_of({"image": "debian", "matrix": each, "steps": steps, **tree})
        assert problem is None or problem.hint == "testronaut-lab schema plan"


@settings(deadline=None)
@given(TREES)
def test_no_step_raises_anything_but_a_usage_error(tree: object) -> None:
    step = tree if isinstance(tree, str) else {"run": "true", "expect": tree, "stdin": tree, "env": tree, "save": tree}
    problem = problem_of({"image": "debian", "steps": [step]})
    assert problem is None or problem.message.startswith("plan: ")
