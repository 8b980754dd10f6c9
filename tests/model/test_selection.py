"""Choosing cases and steps of plans by node id and by expression."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from testronaut_lab.errors import UsageError
from testronaut_lab.model.plan import Case, ImageSpec, Plan, Step
from testronaut_lab.model.selection import chosen_steps, parse_keyword, select


def case(path: str, name: str, *steps: str, tags: tuple[str, ...] = ()) -> Case:
    at = f"{path}::{name}"
    made = {step: Step(step, f"{at}::{step}", run="true") for step in ("up", "down", *steps)}
    return Case(name, at, tuple(made[step] for step in steps), tags, setup=(made["up"],), teardown=(made["down"],))


def plan(path: str, *cases: Case) -> Plan:
    return Plan(path, Path("/project"), ImageSpec("x"), cases)


A = plan("a", case("a", "one", "s1", "s2", "s3", tags=("Smoke",)), case("a", "two", "t1"))
B = plan("b", case("b", "one", "u1"))


def ids(plans: list[Plan]) -> dict[str, list[str]]:
    return {case.nodeid: [step.id for step in case.steps] for plan in plans for case in plan.cases}


def test_without_a_choice_everything_is_run() -> None:
    assert select([A, B], [], None) == [A, B]


def test_a_case_is_chosen_whole_and_plans_with_nothing_left_are_left_out() -> None:
    assert select([A, B], ["a::two"], None) == [replace(plan("a", A.cases[1]), partial=True)]


def test_a_plan_is_partial_only_if_something_of_it_was_left_out() -> None:
    assert [plan.partial for plan in select([A, B], ["a::one::s2", "b::one"], None)] == [True, False]
    assert [plan.partial for plan in select([A, B], [], "one")] == [True, False]


def test_a_step_brings_those_before_it_with_setup_and_teardown() -> None:
    (chosen,) = select([A, B], ["a::one::s2"], None)
    assert ids([chosen]) == {"a::one": ["s1", "s2"]}
    assert (chosen.cases[0].setup, chosen.cases[0].teardown) == (A.cases[0].setup, A.cases[0].teardown)


def test_of_two_steps_of_a_case_the_later_one_counts() -> None:
    assert ids(select([A], ["a::one::s2", "a::one::s1"], None)) == {"a::one": ["s1", "s2"]}


def test_a_case_beside_one_of_its_steps_is_whole() -> None:
    assert ids(select([A], ["a::one::s1", "a::one"], None)) == {"a::one": ["s1", "s2", "s3"]}


@pytest.mark.parametrize("nodeid", ["a::one::s4", "a::one::s1::x"])
def test_a_step_that_there_is_not_is_refused_with_the_steps_of_its_case(nodeid: str) -> None:
    with pytest.raises(UsageError, match=r"there are: a::one::s1, a::one::s2, a::one::s3$"):
        select([A, B], [nodeid], None)


@pytest.mark.parametrize("nodeid", ["a::three", "a", "a::on", "::", "c::one"])
def test_an_id_that_names_nothing_is_refused_with_what_there_is(nodeid: str) -> None:
    with pytest.raises(UsageError, match=r"there are: a::one, a::two, b::one") as refused:
        select([A, B], ["a::one", nodeid], None)
    assert f"is called {nodeid};" in refused.value.message


def test_ids_and_an_expression_must_both_hold() -> None:
    assert ids(select([A, B], ["a::one", "b::one"], "smoke")) == {"a::one": ["s1", "s2", "s3"]}


def test_nothing_left_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing was selected by -k 'one and two'"):
        select([A, B], [], "one and two")


@pytest.mark.parametrize(
    ("expression", "chosen"),
    [
        ("smoke", "a::one"),
        ("SMOKE", "a::one"),
        ("smok", ""),  # a tag counts whole, an id also in part
        ("tw", "a::two"),
        ("u1", "b::one"),
        ("one", "a::one b::one"),
        ("not one", "a::two"),
        ("not not one", "a::one b::one"),
        ("one and not smoke", "b::one"),
        ("t1 or smoke and s9", "a::two"),  # `and` binds tighter
        ("(t1 or smoke) and s9", ""),
        ("(t1 or smoke)and(s1 or t1)", "a::one a::two"),
        ("not (one or two)", ""),
        ("a::one::", ""),
        ("a::", "a::one a::two"),
        ("notone", ""),
    ],
)
def test_an_expression_holds_for_these_cases(expression: str, chosen: str) -> None:
    matches = parse_keyword(expression)
    assert [case.nodeid for plan in (A, B) for case in plan.cases if matches(case)] == chosen.split()


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("", "a word is missing at the end"),
        ("  ", "a word is missing at the end"),
        ("and", "a word is missing before 'and'"),
        ("a or", "a word is missing at the end"),
        ("a or or b", "a word is missing before 'or'"),
        ("not", "a word is missing at the end"),
        ("(a", "a bracket is not closed"),
        ("a)", "')' is one too many"),
        ("()", "a word is missing before ')'"),
        ("a b", "'b' is one too many"),
        ("a not b", "'not' is one too many"),
    ],
)
def test_an_expression_that_cannot_be_read_says_why(expression: str, why: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_keyword(expression)
    assert refused.value.message == f"-k {expression!r} cannot be read: {why}"


def test_a_long_expression_is_read_and_a_longer_one_refused() -> None:
    deep = parse_keyword("(" * 199 + "one" + ")" * 199)
    long = parse_keyword("no or " * 199 + "one")
    assert deep(A.cases[0]) and long(A.cases[0]) and not deep(A.cases[1]) and not long(A.cases[1])
    with pytest.raises(UsageError, match="it has more than 400 words and brackets"):
        parse_keyword("(" * 5000 + "a" + ")" * 5000)


def test_chosen_steps_are_those_named_and_all_of_named_cases() -> None:
    assert chosen_steps([A, B], ["a::one::s2", "b::one"]) == {"a::one::s2", "b::one::up", "b::one::u1", "b::one::down"}
