"""Statements as others may read them: no value is left, wherever a long one is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightserver.query.language.redacting import redacted

SECRET = "hunter2"  # noqa: S105  # what must not be shown


@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        ("SELECT a FROM \"b c\" WHERE d = 'hunter2' AND e = 12.5", 'SELECT a FROM "b c" WHERE d = ? AND e = ?'),
        ("SELECT E'it\\'s hunter2', U&'hunter2', N'hunter2', x'5345'", "SELECT ? , ? , ? , ?"),
        ("SELECT $$hunter2$$, $tag$ hunter2 $$ $tag$", "SELECT ? , ?"),
        ("SELECT 1 -- hunter2", "SELECT ?"),
        ("SELECT /* a /* hunter2 */ hunter2 */ 2", "SELECT ?"),
        ("SELECT 'never closed, hunter2", "SELECT"),
        ("", ""),
    ],
)
def test_values_and_comments_are_left_out(sql: str, shown: str) -> None:
    assert redacted(sql).removesuffix(" ...") == shown


@given(
    before=st.lists(st.sampled_from(["a", " + ", "'x'", '"y"', "'it''s'", "$$z$$", "/* c */", " "]), max_size=300),
    form=st.sampled_from(["'{}'", "E'{}'", "$${}$$", "$t${}$t$", "/* {} */", "'a''{}'", "x'' '{}'"]),
    times=st.integers(1, 200),
)
def test_a_value_is_never_shown_wherever_the_text_is_cut(before: list[str], form: str, times: int) -> None:
    """Values are longer than what is looked at, and begin anywhere."""
    sql = "SELECT " + "".join(before) + " " + form.format(" ".join([SECRET] * times)) + " FROM t"

    assert SECRET not in redacted(sql)


def test_of_a_long_statement_the_beginning_is_shown() -> None:
    sql = "INSERT INTO people VALUES " + ", ".join(f"({number}, 'hunter2')" for number in range(100_000))

    assert redacted(sql).startswith("INSERT INTO people VALUES ( ? , ? ) , ( ? , ? )")
    assert redacted(sql).endswith(" ...")
