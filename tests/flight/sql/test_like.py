"""LIKE patterns in metadata filters."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightserver.flight.sql.like import like_pattern


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        (None, "people", True),
        ("", "people", True),
        ("%", "", True),
        ("people", "people", True),
        ("people", "People", False),
        ("people", "peoples", False),
        ("peop%", "people", True),
        ("%ople", "people", True),
        ("%eop%", "people", True),
        ("p_ople", "people", True),
        ("p_ople", "pople", False),
        ("______", "people", True),
        ("a%a", "a", False),
        ("a%a", "aa", True),
        ("%a%b%a%", "xaybza", True),
        (r"50\%", "50%", True),
        (r"50\%", "50x", False),
        (r"a\_b", "a_b", True),
        (r"a\_b", "axb", False),
        (r"a\\b", r"a\b", True),
        ("a\\", "a\\", True),
        ("[a-z].*", "people", False),
        ("_", "ü", True),
        ("%", "line\nbreak", True),
    ],
)
def test_a_pattern_matches_whole_names(pattern: str | None, name: str, *, expected: bool) -> None:
    assert like_pattern(pattern).matches(name) is expected


def reference(pattern: str) -> re.Pattern[str]:
    """The same meaning as a regular expression, which is slow for the patterns of strangers."""
    parts = []
    characters = iter(pattern or "%")
    for character in characters:
        if character == "\\":
            parts.append(re.escape(next(characters, "\\")))
        else:
            parts.append({"%": ".*", "_": "."}.get(character, re.escape(character)))
    return re.compile("".join(parts), re.DOTALL)


@given(st.text("ab%_\\[.*", max_size=12), st.text("ab%_\\[.*", max_size=16))
def test_a_pattern_means_what_its_regular_expression_means(pattern: str, name: str) -> None:
    assert like_pattern(pattern).matches(name) is (reference(pattern).fullmatch(name) is not None)


@given(st.text(), st.text())
def test_any_pattern_takes_any_name(pattern: str, name: str) -> None:
    assert like_pattern(pattern).matches(name) is (reference(pattern).fullmatch(name) is not None)


def test_the_worst_patterns_take_no_longer_than_lengths_allow() -> None:
    started = time.perf_counter()

    assert not like_pattern("%a" * 100 + "%b").matches("a" * 200)
    assert not like_pattern("%" + "_" * 100 + "b%").matches("a" * 200)

    assert time.perf_counter() - started < 1
