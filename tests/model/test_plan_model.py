"""The plan model by itself: units, JSON paths, and saved values put into a step."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from testronaut_lab.errors import UsageError
from testronaut_lab.model import jsonpath
from testronaut_lab.model.expect import Expect, FileExpect, TextExpect
from testronaut_lab.model.plan import Limits, Step, substitute
from testronaut_lab.model.plan_json import plan_json
from testronaut_lab.model.units import parse_duration, parse_size
from testronaut_lab.planfile import parse_plan


@pytest.mark.parametrize(
    ("written", "seconds"), [("200ms", 0.2), ("60s", 60), ("1.5m", 90), ("24h", 86400), (3, 3), (0.25, 0.25)]
)
def test_a_duration_is_read_as_seconds(written: str | float, seconds: float) -> None:
    assert parse_duration(written) == pytest.approx(seconds)


@pytest.mark.parametrize("written", ["", "5", "5 s", "-1s", "1d", "0s", "25h", 0, -1, float("inf"), float("nan"), 10**400])
def test_what_is_no_duration_within_a_day_is_refused(written: str | float) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(written)


@pytest.mark.parametrize(
    ("written", "size_bytes"), [("512MiB", 2**29), ("10MB", 10**7), ("1.5KiB", 1536), ("1GiB", 2**30), ("7B", 7), (42, 42)]
)
def test_a_size_is_read_as_bytes(written: str | int, size_bytes: int) -> None:
    assert parse_size(written) == size_bytes


@pytest.mark.parametrize("written", ["", "12", "1 MiB", "0B", "0.1B", "-1MiB", "1mb", "9999999TiB", 0, -5, 2**60])
def test_what_is_no_size_is_refused(written: str | int) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        parse_size(written)


TREE = {"a": {"b": [10, {"c d": None}]}, "0": "zero"}


@pytest.mark.parametrize(
    ("path", "value"),
    [(".", TREE), (".a.b[0]", 10), (".a.b[-2]", 10), ('.a.b[1]["c d"]', None), ('.["0"]', "zero"), ('.["a"].b.[0]', 10)],
)
def test_lookup_finds_the_place(path: str, value: object) -> None:
    assert jsonpath.lookup(TREE, path) == value


@pytest.mark.parametrize("path", [".x", ".a[0]", ".a.b.c", ".a.b[2]", ".a.b[0].c", ".[0]"])
def test_lookup_of_a_place_that_is_not_there_is_a_lookup_error(path: str) -> None:
    with pytest.raises(LookupError):
        jsonpath.lookup(TREE, path)


@pytest.mark.parametrize("path", ["", "a", "$.a", "..", ".a | .b", ".a[]", ".a[1:2]", '.["a]', ".a.", '.["\\q"]', ".[1"])
def test_a_path_that_names_no_single_place_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"JSON path|escape"):
        jsonpath.parse(path)


@settings(deadline=None)  # a time limit of milliseconds fails on a busy machine
@given(st.lists(st.text() | st.integers(0, 999)))
def test_every_key_can_be_written_in_a_path(parts: list[str | int]) -> None:
    path = "." + "".join(f"[{part}]" if isinstance(part, int) else f"[{jsonpath.json.dumps(part)}]" for part in parts)
    assert jsonpath.parse(path) == tuple(parts)


def step(**fields: object) -> Step:
    return Step(id="s", nodeid="p::c::s", **fields)  # type: ignore[arg-type]


def test_saved_values_are_put_into_every_field_but_scripts() -> None:
    before = step(
        argv=("echo", "<${{ n }}>"), stdin=b"${{n}}", stdin_is_text=True, env={"A": "${{n}}"}, cwd="${{n}}/x", skip_if="${{n}}"
    )
    after = substitute(before, {"n": "7"})
    assert (after.argv, after.stdin, after.env, after.cwd) == (("echo", "<7>"), b"7", {"A": "7"}, "7/x")
    assert after.skip_if == "${{n}}"


def test_saved_values_are_put_into_expected_text() -> None:
    text = TextExpect(
        equals="${{n}}", contains=("a${{n}}",), json={"k": ["${{n}}", 1]}, has_json=True, json_path={".a": "${{n}}"}
    )
    after = substitute(step(run="x", expect=Expect(stdout=text, files={"f": FileExpect(text=text)})), {"n": "7"})
    assert after.expect.stdout == after.expect.files["f"].text
    assert after.expect.stdout == TextExpect(
        equals="7", contains=("a7",), json={"k": ["7", 1]}, has_json=True, json_path={".a": "7"}
    )


def test_a_saved_value_in_a_regex_stands_for_itself() -> None:
    after = substitute(step(run="x", expect=Expect(stderr=TextExpect(matches="^${{n}}$"))), {"n": "a.b"})
    assert after.expect.stderr == TextExpect(matches=r"^a\.b$")


def test_bytes_from_a_file_are_no_text_to_put_values_into() -> None:
    assert substitute(step(run="x", stdin=b"${{n}}\xff"), {"n": "7"}).stdin == b"${{n}}\xff"


def test_a_value_is_not_read_for_references_again() -> None:
    assert substitute(step(argv=("${{a}}",)), {"a": "${{b}}"}).argv == ("${{b}}",)


def test_a_reference_without_a_value_names_the_step() -> None:
    with pytest.raises(UsageError, match=r"p::c::s: `\$\{\{n\}\}` has no value"):
        substitute(step(argv=("${{n}}",)), {})


def test_the_model_is_strict() -> None:
    with pytest.raises(ValidationError):
        Limits(pids="3")  # type: ignore[arg-type]


def test_the_model_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Limits().pids = 3  # type: ignore[misc]


LINES = """\
version: 1
image: debian
setup:
  - make

cases:
  # what it is about
  - id: one
    steps:
      - "true"

      - argv: [x]
        env: {A: "1"}
      - background: web
        run: serve
  - {id: two, steps: ["a"]}
"""


def test_cases_and_steps_know_the_line_they_begin_on() -> None:
    one, two = parse_plan(LINES, root=Path("/")).cases
    assert (one.line, two.line) == (8, 16)
    assert [step.line for step in (*one.setup, *one.steps, *one.teardown)] == [
        4,
        10,
        12,
        14,
        None,
    ]  # nobody wrote the stop of `web`
    assert parse_plan({"image": "x", "steps": ["a"]}, root=Path("/")).cases[0].line is None


def test_on_which_line_a_step_stands_makes_no_difference_to_a_plan() -> None:
    plain, moved = (parse_plan(f"{gap}version: 1\nimage: x\nsteps: [a]\n", root=Path("/")) for gap in ("", "\n\n# x\n"))
    assert plain.cases == moved.cases
    assert plan_json(plain) == plan_json(moved)
