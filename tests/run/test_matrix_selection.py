"""Cells chosen by node ids, by `-k` and by `--matrix`, and what the command line cannot take out of a matrix's hands."""

from __future__ import annotations

from pathlib import Path

import pytest

from testronaut_lab.errors import UsageError
from testronaut_lab.model.plan import Plan
from testronaut_lab.model.selection import chosen_steps, select
from testronaut_lab.planfile import parse_plan, parse_plans
from testronaut_lab.run.targets import chosen_plans, in_cells, with_image

MATRIX = {"image": ["debian:bookworm-slim", "debian:trixie-slim"], "jq": ["1.6", "1,7"]}


@pytest.fixture
def celled(tmp_path: Path) -> list[Plan]:
    tree = {"image": "${{matrix.image}}", "matrix": MATRIX, "cases": [
        {"id": "one", "steps": [{"id": "s", "run": "echo $MATRIX_JQ"}, {"id": "t", "run": "x"}]},
        {"id": "two", "steps": ["x"]},
    ]}  # fmt: skip
    return list(parse_plans(tree, root=tmp_path, name="m"))


def chosen(plans: list[Plan]) -> list[str]:
    return [case.nodeid.removeprefix("m::") for plan in plans for case in plan.cases]


def test_a_node_id_without_a_cell_means_all_of_them(celled: list[Plan]) -> None:
    assert 4 == len(select(celled, ["m::two"], None))
    assert {"m::one[image=debian:trixie-slim,jq=1%2C7]::s"} < chosen_steps(celled, ["m::one::s"])


@pytest.mark.parametrize("cell", ["image=debian:trixie-slim,jq=1.6", "jq=1.6,image=debian:trixie-slim"])
def test_a_node_id_with_a_cell_means_that_one(celled: list[Plan], cell: str) -> None:
    assert ["one[image=debian:trixie-slim,jq=1.6]"] == chosen(select(celled, [f"m::one[{cell}]"], None))


def test_a_node_id_with_some_keys_means_all_cells_that_have_them(celled: list[Plan]) -> None:
    expected = ["one[image=debian:bookworm-slim,jq=1%2C7]", "one[image=debian:trixie-slim,jq=1%2C7]"]
    plans = select(celled, ["m::one[jq=1%2C7]::s"], None)
    assert expected == chosen(plans)
    assert [1, 1] == [len(plan.cases[0].steps) for plan in plans]


@pytest.mark.parametrize(
    "nodeid", ["m::one[jq=2]", "m::one[nope=1.6]", "m::one[]", "m::one[jq]", "m::one[jq=1.6]x", "m::[jq=1.6]"]
)
def test_a_node_id_with_a_cell_that_there_is_not_names_nothing(celled: list[Plan], nodeid: str) -> None:
    with pytest.raises(UsageError, match="no case or step is called"):
        select(celled, [nodeid], None)


@pytest.mark.parametrize(("keyword", "count"), [("trixie", 4), ("1,7", 4), ("trixie and two and not 1.6", 1)])
def test_words_are_looked_for_in_the_values_of_a_cell(celled: list[Plan], keyword: str, count: int) -> None:
    assert count == len(chosen(select(celled, [], keyword)))


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], 4),
        (["jq=1.6"], 2),
        (["jq=1.6", "jq=1,7"], 4),
        (["jq=1,7", "image=debian:trixie-slim"], 1),
    ],
)
def test_filters_of_one_key_are_either_or_and_those_of_several_are_both(
    celled: list[Plan], filters: list[str], expected: int
) -> None:
    assert expected == len(in_cells(celled, filters))


def test_a_plan_without_the_key_is_left_out(celled: list[Plan], tmp_path: Path) -> None:
    plain = parse_plan({"image": "i", "steps": ["x"]}, root=tmp_path)
    assert 2 == len(in_cells([plain, *celled], ["jq=1.6"]))


@pytest.mark.parametrize(
    ("filters", "message", "hint"),
    [
        (["imag=x"], "imag=x: no matrix has the key 'imag'; did you mean 'image'?", "--matrix image=debian:bookworm-slim"),
        (["zz=x"], "zz=x: no matrix has the key 'zz'; known are image, jq", "--matrix image=debian:bookworm-slim"),
        (["jq=1.5"], "jq=1.5: no cell has the jq '1.5'; did you mean '1.6'?", "--matrix jq=1.6"),
        (["jq"], "'jq': expected KEY=VALUE", "--matrix image=debian:bookworm-slim --matrix jq=1.6"),
        (["=x"], "'=x': expected KEY=VALUE", "--matrix image=debian:bookworm-slim --matrix jq=1.6"),
    ],
)
def test_a_filter_that_matches_nothing_is_refused(celled: list[Plan], filters: list[str], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as raised:
        in_cells(celled, filters)
    assert (f"--matrix {message}", hint) == (raised.value.message, raised.value.hint)


def test_filters_that_no_cell_has_together_are_refused(tmp_path: Path) -> None:
    tree = {"image": "i", "matrix": {"include": [{"a": 1, "b": 1}, {"a": 2, "b": 2}]}, "steps": ["echo $MATRIX_A $MATRIX_B"]}
    with pytest.raises(UsageError, match="no cell has all of --matrix a=1 --matrix b=2\nhint: --matrix a=1 --matrix b=1"):
        in_cells(parse_plans(tree, root=tmp_path), ["a=1", "b=2"])


def test_filters_where_no_plan_has_a_matrix_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no matrix has the key 'a'; no plan here has a matrix"):
        in_cells([parse_plan({"image": "i", "steps": ["x"]}, root=tmp_path)], ["a=1"])


def test_an_image_from_the_matrix_is_not_replaced(celled: list[Plan]) -> None:
    with pytest.raises(UsageError) as raised:
        with_image(celled[0], "debian:sid")
    assert "using the image debian:sid in m: the image comes from its matrix" == raised.value.message
    assert "--matrix image=debian:bookworm-slim" == raised.value.hint


def test_an_image_that_is_not_from_the_matrix_is_replaced_in_every_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.lab.yaml").write_text("image: a\nmatrix: {v: [1, 2]}\nsteps: ['echo $MATRIX_V']\n")
    plans, _ = chosen_plans(["."], None, "b", [])
    assert ["b", "b"] == [plan.image.ref for plan in plans]


def test_a_tool_is_replaced_unless_it_comes_from_the_matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "image: ${{matrix.i}}\nmatrix: {i: [a, b], v: [1.6, 1.7]}\ntools: ['apt:jq=${{matrix.v}}', apt:ripgrep]\nsteps: [x]\n"
    (tmp_path / "t.lab.yaml").write_text(text)
    plans, _ = chosen_plans(["."], None, None, ["apt:ripgrep=13.*"], ["i=a"])
    assert ["jq=1.6", "jq=1.7"] == [plan.tools[0].install[0].spec for plan in plans]
    assert ["ripgrep=13.*"] * 2 == [plan.tools[1].install[0].spec for plan in plans]
    with pytest.raises(UsageError, match=r"installing apt:jq in t\.lab\.yaml: the tool jq comes from its matrix"):
        chosen_plans(["."], None, None, ["apt:jq"])


def test_a_node_id_as_typed_chooses_cells_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "t.lab.yaml").write_text("image: i\nmatrix: {v: [1, 2]}\nsteps: ['echo $MATRIX_V', x]\n")
    monkeypatch.chdir(tmp_path / "sub")
    plans, only = chosen_plans(["t.lab.yaml::main[v=2]::x"], None, None, [])
    assert [(("v", "2"),)] == [plan.cell for plan in plans]
    assert {"sub/t.lab.yaml::main[v=2]::x"} == only
