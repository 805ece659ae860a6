"""Texts that are vectors, and texts that almost are: each is read in one way, so that a long one takes no time."""

from __future__ import annotations

import pytest

from flightserver.query.vector_values import written_vector


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("[12]", [12]),
        ("[ 12 , -3.5,+.5 ]", [12, -3.5, 0.5]),
        ("array[1.,2e2, 12.25E-1]", [1, 200, 1.225]),
        ("'[10, 2.5]'", [10, 2.5]),
        (f"[{', '.join(['10'] * 65_536)}]", [10] * 65_536),
    ],
)
def test_a_literal_is_a_vector(text: str, numbers: list[float]) -> None:
    found = written_vector(text)

    assert found is not None
    assert found.tolist() == pytest.approx(numbers)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "[1, 2",
        "[1 2]",
        "[1..2]",
        "[1e]",
        "[.]",
        f"[{', '.join(['12'] * 1000)}, 1/2]",
        f"[{', '.join(['123.456'] * 1000)}, NULL]",
        f"[{'1' * 100_000}x]",
        f"[{'1' * 100_000}.{'1' * 100_000}e]",
        f"[{' ' * 100_000}x]",
    ],
)
def test_what_is_none_is_left_to_the_engine(text: str) -> None:
    assert written_vector(text) is None
