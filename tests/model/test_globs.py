"""Path patterns: what each wildcard names, and what it does not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testronaut_lab.model.globs import is_glob, matches_any, matches_glob


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("out.json", "out.json"),
        ("*.json", "out.json"),
        ("*", ".hidden"),
        ("out/*.json", "out/a.json"),
        ("a?c", "abc"),
        ("**", "a/b/c"),
        ("**/*.json", "a.json"),
        ("**/*.json", "x/y/a.json"),
        ("out/**", "out/x/y"),
        ("out/**", "out"),
        ("a/**/b", "a/b"),
        ("a/**/b", "a/x/y/b"),
        ("a/**/**/b", "a/b"),
        ("a/**/**", "a"),
        ("**/.cache/**", "home/.cache/x"),
        ("a**z", "a/b/z"),
        ("[ab].txt", "a.txt"),
        ("[a-c]x", "bx"),
        ("[!a]x", "bx"),
        ("[]]x", "]x"),
        ("[!]]x", "ax"),
        ("[a-]x", "-x"),
        ("a[1].txt", "a[1].txt"),
        ("a[b", "a[b"),
        ("*", "line\nbreak"),
        (r"a\xff*", r"a\xffb"),
    ],
)
def test_pattern_names_path(pattern: str, path: str) -> None:
    assert matches_glob(pattern, path)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*.json", "out/a.json"),
        ("out/*.json", "out/x/a.json"),
        ("a?c", "a/c"),
        ("a[!b]c", "a/c"),
        ("a[+-9]c", "a/c"),
        ("out/**", "output"),
        ("out/**", "x/out"),
        ("**/b", "ab"),
        ("a/**/b", "ab"),
        ("[c-a]x", "bx"),
        ("[!c-a]", "/"),
        ("*.TXT", "a.txt"),
        ("a.c", "abc"),
        ("out.json", "out.json\n"),
        ("", "a"),
    ],
)
def test_pattern_does_not_name_path(pattern: str, path: str) -> None:
    assert not matches_glob(pattern, path)


@given(st.text("ab*?[]!-^/.\\", max_size=12), st.text("ab/]-", max_size=8))
def test_any_pattern_compiles_and_names_at_least_itself(pattern: str, path: str) -> None:
    assert matches_glob(pattern, pattern)
    assert matches_glob(pattern, path) in (True, False)


@given(st.text(min_size=1, max_size=12).filter(lambda text: not re.search(r"[*?\[]", text)))
def test_text_without_wildcards_is_no_glob_and_names_only_itself(text: str) -> None:
    assert not is_glob(text)
    assert not matches_glob(text, text + "x")


def test_no_pattern_names_anything() -> None:
    assert not matches_any((), "a")
