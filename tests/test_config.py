"""Where a project begins, and what its configuration says."""

from __future__ import annotations

from pathlib import Path

import pytest

from testronaut_lab.config import Config, load_config, project_root
from testronaut_lab.errors import UsageError
from testronaut_lab.model.runs import ArtifactPolicy

SECTION = '[tool.testronaut-lab]\nstore = "sqlite:///x.db"\n[tool.testronaut-lab.defaults]\nimage = "debian"\n'


@pytest.mark.parametrize(
    ("name", "text"), [("testronaut-lab.toml", ""), ("pyproject.toml", "[tool.testronaut-lab]\n"), (".git", "gitdir: x")]
)
def test_the_root_is_the_nearest_folder_with_a_sign_of_a_project(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    (tmp_path / "a" / name).write_text(text)
    assert project_root(tmp_path / "a" / "b" / "x.lab.yaml") == tmp_path / "a"


def test_a_pyproject_of_somebody_else_is_no_root(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "pyproject.toml").write_text("[tool.other]\n")
    assert project_root(tmp_path / "a") == tmp_path


def test_without_any_sign_the_root_is_the_own_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert project_root(tmp_path / "a" / "x.lab.yaml") == tmp_path / "a"


@pytest.mark.parametrize(
    ("name", "text"),
    [("pyproject.toml", SECTION), ("testronaut-lab.toml", 'store = "sqlite:///x.db"\n[defaults]\nimage = "debian"\n')],
)
def test_both_files_say_the_same(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert load_config(tmp_path, {}) == Config(tmp_path, {"image": "debian"}, "sqlite:///x.db")


def test_results_lie_in_the_project_unless_a_store_is_named(tmp_path: Path) -> None:
    config = load_config(tmp_path, {})
    assert config.store_location == config.results / "results.db" == tmp_path / ".testronaut" / "results.db"


def test_artifacts_are_bounded_by_age_and_size(tmp_path: Path) -> None:
    (tmp_path / "testronaut-lab.toml").write_text('artifacts = {max_age = "2w", max_size = "5GiB"}\n')
    assert load_config(tmp_path, {}).artifacts == ArtifactPolicy(14 * 86400.0, 5 * 2**30)
    assert not Config(tmp_path).artifacts.is_set


def test_the_environment_stands_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(SECTION)
    assert load_config(tmp_path, {"TESTRONAUT_LAB_STORE": "sqlite:///y.db"}).store_location == "sqlite:///y.db"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stor = 1", "unknown key 'stor'; did you mean 'store'"),
        ('watch = "off"', "watch: expected true or false, found 'off'"),
        ("xyz = 1", "unknown key 'xyz'; known are artifacts, defaults, orphan_timeout, require_limits, store, watch"),
        ("store = 1", "store: expected the URL of a database, found 1"),
        ("artifacts = 1", "artifacts: expected a table, found 1"),
        ("artifacts = {max_agee = '1d'}", "artifacts: unknown key 'max_agee'; did you mean 'max_age'"),
        ("artifacts = {max_age = 30}", "artifacts.max_age: expected a text, found 30"),
        ("artifacts = {max_age = '30'}", "artifacts: expected an age such as 30d"),
        ("artifacts = {max_size = '5 GB'}", "artifacts: expected a size such as"),
        ("orphan_timeout = 60", "orphan_timeout: expected a text, found 60"),
        ("orphan_timeout = '2d'", "orphan_timeout: expected a duration such as"),
        ("defaults = 1", "defaults: expected a table, found 1"),
        ("store = ", "reading the configuration"),
    ],
)
def test_a_wrong_configuration_names_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "testronaut-lab.toml").write_text(text)
    with pytest.raises(UsageError, match=message) as raised:
        load_config(tmp_path, {})
    assert "testronaut-lab.toml" in raised.value.message


def test_a_section_that_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool]\ntestronaut-lab = 1\n")
    with pytest.raises(UsageError, match="expected a table"):
        load_config(tmp_path, {})


@pytest.mark.parametrize(
    ("text", "variable", "watch"),
    [("", "", True), ("watch = false", "", False), ("watch = false", "on", True), ("watch = true", "off", False)],
)
def test_the_watch_is_switched_by_the_file_and_before_it_by_the_environment(
    tmp_path: Path, text: str, variable: str, watch: bool
) -> None:
    (tmp_path / "testronaut-lab.toml").write_text(text)
    assert load_config(tmp_path, {"TESTRONAUT_LAB_WATCH": variable}).watch is watch


@pytest.mark.parametrize(
    ("text", "variable", "required"),
    [("", "", False), ("require_limits = true", "", True), ("require_limits = true", "off", False), ("", "on", True)],
)
def test_limits_are_required_by_the_file_and_before_it_by_the_environment(
    tmp_path: Path, text: str, variable: str, required: bool
) -> None:
    (tmp_path / "testronaut-lab.toml").write_text(text)
    assert load_config(tmp_path, {"TESTRONAUT_LAB_REQUIRE_LIMITS": variable}).require_limits is required


def test_another_word_for_the_watch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="TESTRONAUT_LAB_WATCH: expected on or off, found 'no'"):
        load_config(tmp_path, {"TESTRONAUT_LAB_WATCH": "no"})


@pytest.mark.parametrize(
    ("text", "variable", "seconds"),
    [("", "", 3600.0), ("orphan_timeout = '10m'", "", 600.0), ("orphan_timeout = '10m'", "90s", 90.0)],
)
def test_how_long_a_session_outlives_its_owner_is_set_by_the_file_and_before_it_by_the_environment(
    tmp_path: Path, text: str, variable: str, seconds: float
) -> None:
    (tmp_path / "testronaut-lab.toml").write_text(text)
    assert load_config(tmp_path, {"TESTRONAUT_LAB_ORPHAN_TIMEOUT": variable}).orphan_timeout_s == seconds


def test_another_word_for_that_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"TESTRONAUT_LAB_ORPHAN_TIMEOUT: expected a duration such as .*, found 'soon'"):
        load_config(tmp_path, {"TESTRONAUT_LAB_ORPHAN_TIMEOUT": "soon"})
