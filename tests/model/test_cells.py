"""Cells in node ids: written, read back, and apart from each other whatever their values are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testronaut_lab.golden.places import GoldenKey
from testronaut_lab.model.cells import bracketed, from_brackets, without_cell

VALUES = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)


def test_a_plan_without_a_matrix_has_no_brackets() -> None:
    assert "" == bracketed(())


def test_what_images_and_versions_are_made_of_stays_readable() -> None:
    cell = (("image", "debian:bookworm-slim"), ("jq", "1.6*"))
    assert "[image=debian:bookworm-slim,jq=1.6*]" == bracketed(cell)


@pytest.mark.parametrize(
    ("value", "shown"),
    [("a,b", "a%2Cb"), ("a]", "a%5D"), ("a::b", "a:%3Ab"), ("a\nb", "a%0Ab"), ("\x1b[2J", "%1B%5B2J"), ("50%", "50%25")],
)
def test_what_would_part_a_node_id_or_cannot_be_seen_is_quoted(value: str, shown: str) -> None:
    assert f"[k={shown}]" == bracketed((("k", value),))


@given(st.lists(st.tuples(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True), VALUES), min_size=1, max_size=3))
def test_any_cell_reads_back_and_parts_no_node_id(pairs: list[tuple[str, str]]) -> None:
    cell = tuple(pairs)
    shown = bracketed(cell)
    assert cell == from_brackets(shown[1:-1])
    assert GoldenKey("a", "main", "s") == GoldenKey.of(f"a.lab.yaml::main{shown}::s")
    assert "main" == without_cell(f"main{shown}")


@pytest.mark.parametrize("text", ["", "image", "=a", "image=a,", "image=a,,b=c"])
def test_what_is_no_cell_is_none(text: str) -> None:
    assert from_brackets(text) is None
