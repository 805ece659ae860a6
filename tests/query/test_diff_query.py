"""The statement of a diff by itself: two small tables in, their differences out."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from datafusion import SessionContext
from hypothesis import given
from hypothesis import strategies as st

from flightserver.query.diff import AFTER, BEFORE, diff_query, tally_query

if TYPE_CHECKING:
    from collections.abc import Sequence

Row = tuple[Any, ...]
few_rows = st.lists(st.tuples(st.sampled_from([1, 2, None]), st.sampled_from(["a", None])), max_size=8)


def told(sql: str, before: Sequence[Row], after: Sequence[Row]) -> list[Row]:
    """What a statement answers over rows of two columns, `n` and `name`."""
    context = SessionContext()
    for table, held in ((BEFORE, before), (AFTER, after)):
        columns = [pa.array([row[0] for row in held], pa.int64()), pa.array([row[1] for row in held], pa.string())]
        context.register_record_batches(table, [[pa.record_batch(columns, names=["n", "name"])]])
    answer = context.sql(sql).to_arrow_table()
    return list(zip(*(column.to_pylist() for column in answer.columns), strict=True))


def minus(some: Sequence[Row], others: Sequence[Row]) -> list[Row]:
    return list((Counter(some) - Counter(others)).elements())


@given(before=few_rows, after=few_rows)
def test_rows_are_compared_as_multisets(before: list[Row], after: list[Row]) -> None:
    gone, come = minus(before, after), minus(after, before)

    rows = told(diff_query(("n", "name")), before, after)
    tally: dict[str, int] = dict(told(tally_query(("n", "name")), before, after))

    assert Counter(rows) == Counter([("delete", *row) for row in gone] + [("insert", *row) for row in come])
    assert tally == {kind: len(of) for kind, of in (("delete", gone), ("insert", come)) if of}


def test_rows_of_a_key_that_several_have_are_rows_that_came_and_went() -> None:
    before = [(1, "a"), (1, "b"), (2, "c"), (3, "d"), (4, "e"), (5, "f"), (5, "f")]
    after = [(1, "x"), (2, "y"), (2, "z"), (3, "D"), (4, "e"), (5, "F")]

    assert Counter(told(diff_query(("n", "name"), ("n",)), before, after)) == Counter(
        [
            ("delete", 1, "a"),
            ("delete", 1, "b"),
            ("insert", 1, "x"),
            ("delete", 2, "c"),
            ("insert", 2, "y"),
            ("insert", 2, "z"),
            ("update_before", 3, "d"),
            ("update_after", 3, "D"),
            ("delete", 5, "f"),
            ("delete", 5, "f"),
            ("insert", 5, "F"),
        ]
    )


def test_with_a_key_rows_come_in_its_order_and_what_was_right_before_what_is() -> None:
    before = [(number, "old") for number in (5, 3, 9, 1)]
    after = [(number, "new") for number in (9, 5, 1, 7)]

    rows = told(diff_query(("n", "name"), ("n",)), before, after)

    assert [(kind, number) for kind, number, _ in rows] == [
        ("update_before", 1),
        ("update_after", 1),
        ("delete", 3),
        ("update_before", 5),
        ("update_after", 5),
        ("insert", 7),
        ("update_before", 9),
        ("update_after", 9),
    ]
