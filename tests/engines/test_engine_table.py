"""The table of engines: rows come back as they were saved, and the page has them between its marks and nowhere else."""

from __future__ import annotations

from pathlib import Path

from enginecells import Counted
from enginetable import BEGIN, END, Row, load, save

ROW = Row(
    "Docker 1.2",
    "v1, cgroupfs",
    "root",
    3,
    ("t::bad",),
    {"no limits": 2},
    {"start": 0.5, "end": 0.1, "step": 0.002, "late": 0.05, "run": 1.0},
    tried="2026-11-29, abc1234",
)
OTHER = Row("Podman 3", "v2, systemd", "ordinary", 5, (), {}, {}, chosen="fast")


def test_rows_come_back_and_the_text_around_them_stays(tmp_path: Path) -> None:
    file, page = tmp_path / "engines.json", tmp_path / "engines.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    save([OTHER, ROW], file, page)
    assert load(file) == {ROW.key: ROW, OTHER.key: OTHER}
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n") and text.endswith(f"{END}\nafter\n") and "old" not in text
    assert "| Docker 1.2 | v1, cgroupfs | root | all | 3 | 1 | 2 | 2026-11-29, abc1234 |" in text
    assert "| Docker 1.2 | root | 0.50 | 0.10 | 2.00 | 50.00 | 1.00 |" in text
    assert "| Podman 3 | v2, systemd | ordinary | `fast` | 5 | 0 | 0 |" in text
    assert "- no limits: Docker 1.2 root (2)" in text and "- `t::bad`: Docker 1.2 root" in text


def test_without_a_file_there_are_no_rows(tmp_path: Path) -> None:
    assert load(tmp_path / "none.json") == {}


def test_what_failed_can_be_run_again_and_counts_by_its_new_end() -> None:
    row = Row(
        "Docker 1",
        "v1",
        "root",
        3,
        ("tests.contract.test_a::test_x[dash]", "tests.test_b::test_y"),
        {"no": 1},
        tried="today, abc",
    )
    assert row.failed_paths == ("contract/test_a.py::test_x[dash]", "test_b.py::test_y")
    again = row.again(Counted(1, (), {"no": 1}), "today, def")
    assert (again.passed, again.failed, again.skipped, again.tried) == (4, (), {"no": 2}, "today, abc; 2 again: def")
