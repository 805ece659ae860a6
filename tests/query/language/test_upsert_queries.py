"""INSERT with conflicts on a real engine."""

from __future__ import annotations

import pyarrow as pa
import pytest
from query.language.computing import Lake, table

from flightserver.errors import InvalidRequest

COUNTS = {"id": pa.int64(), "n": pa.int32(), "note": pa.string()}


@pytest.fixture
def counts() -> Lake:
    more = table({"n": pa.int64(), "id": pa.string()}, (10, "1"), (30, "3"))
    return Lake(table(COUNTS, (1, 1, "a"), (2, None, "b")), ("id",), {"more": more, "none": table(COUNTS)}, "counts")


def test_rows_that_exist_are_updated_and_others_inserted(counts: Lake) -> None:
    sql = """INSERT INTO counts AS c VALUES (1, 10, 'x'), (2, 20, 'y'), (3, 30, 'z')
             ON CONFLICT (id) DO UPDATE SET n = c.n + EXCLUDED.n, note = c.note || excluded.note"""

    answer = counts.answer(sql)

    assert answer.schema.names == ["__action", "__rid", "__times", "id", "n", "note"]
    assert answer.schema.types == [pa.int64(), pa.int64(), pa.int64(), pa.int64(), pa.int32(), pa.string()]
    assert counts.changes(sql) == [(2, 100, 1, 1, 11, "ax"), (2, 101, 1, 2, None, "by"), (3, None, 1, 3, 30, "z")]


def test_bare_columns_are_those_of_the_row_that_exists(counts: Lake) -> None:
    sql = "INSERT INTO counts VALUES (1, 10, 'x') ON CONFLICT DO UPDATE SET n = n + 1, note = note WHERE n < 5"

    assert counts.changes(sql) == [(2, 100, 1, 1, 2, "a")]


def test_columns_that_are_not_given_are_null_in_new_rows_and_stay_in_others(counts: Lake) -> None:
    sql = "INSERT INTO counts (n, id) SELECT n, id FROM more ON CONFLICT (id) DO UPDATE SET n = excluded.n"

    assert counts.changes(sql) == [(2, 100, 1, 1, 10, "a"), (3, None, 1, 3, 30, None)]


def test_a_condition_leaves_rows_alone_and_a_null_is_none(counts: Lake) -> None:
    sql = """INSERT INTO counts VALUES (1, 10, 'x'), (2, 20, 'y'), (3, 30, 'z')
             ON CONFLICT (id) DO UPDATE SET n = excluded.n WHERE counts.n < excluded.n"""

    assert counts.changes(sql) == [(2, 100, 1, 1, 10, "a"), (3, None, 1, 3, 30, "z")]


def test_do_nothing_inserts_only_what_is_not_there(counts: Lake) -> None:
    for sql in (
        "INSERT INTO counts VALUES (1, 10, 'x'), (3, 30, 'z') ON CONFLICT DO NOTHING",
        "INSERT INTO counts VALUES (1, 10, 'x'), (3, 30, 'z') ON CONFLICT (id) DO NOTHING",
        "INSERT OR IGNORE INTO counts VALUES (1, 10, 'x'), (3, 30, 'z')",
    ):
        assert counts.changes(sql) == [(3, None, 1, 3, 30, "z")]


def test_do_nothing_keeps_the_first_of_rows_with_one_key(counts: Lake) -> None:
    values = ", ".join(f"({number % 3 + 3}, {number}, 'x')" for number in range(300))

    answer = counts.changes(f"INSERT INTO counts VALUES {values} ON CONFLICT DO NOTHING")

    assert answer == [(3, None, 1, 3, 0, "x"), (3, None, 1, 4, 1, "x"), (3, None, 1, 5, 2, "x")]


def test_do_update_says_how_many_rows_have_one_key(counts: Lake) -> None:
    sql = "INSERT INTO counts VALUES (1, 1, 'x'), (3, 3, 'y'), (1, 2, 'z'), (4, 4, 'w') ON CONFLICT DO UPDATE SET n = 0"

    assert counts.changes(sql) == [
        (2, 100, 2, 1, 0, "a"),
        (2, 100, 2, 1, 0, "a"),
        (3, None, 1, 3, 3, "y"),
        (3, None, 1, 4, 4, "w"),
    ]


def test_a_null_in_the_key_conflicts_with_nothing() -> None:
    columns = {"a": pa.int64(), "b": pa.int64(), "n": pa.int64()}
    lake = Lake(table(columns, (1, None, 0), (1, 1, 0)), ("a", "b"))
    values = "INSERT INTO t VALUES (1, NULL, 1), (1, NULL, 2), (1, 1, 3)"

    assert lake.changes(f"{values} ON CONFLICT (b, a) DO UPDATE SET n = excluded.n") == [
        (2, 101, 1, 1, 1, 3),
        (3, None, 1, 1, None, 1),
        (3, None, 1, 1, None, 2),
    ]
    assert lake.changes(f"{values} ON CONFLICT DO NOTHING") == [(3, None, 1, 1, None, 1), (3, None, 1, 1, None, 2)]


def test_or_replace_updates_the_columns_that_are_given(counts: Lake) -> None:
    assert counts.changes("INSERT OR REPLACE INTO counts VALUES (1, NULL, 'x'), (3, 3, 'z')") == [
        (2, 100, 1, 1, None, "x"),
        (3, None, 1, 3, 3, "z"),
    ]
    assert counts.changes("INSERT OR REPLACE INTO counts (id, n) VALUES (1, 7)") == [(2, 100, 1, 1, 7, "a")]


def test_an_empty_query_proposes_nothing(counts: Lake) -> None:
    assert counts.changes("INSERT INTO counts SELECT * FROM none ON CONFLICT DO UPDATE SET n = 1") == []
    assert counts.changes("INSERT INTO counts SELECT * FROM none ON CONFLICT DO NOTHING") == []


def test_an_empty_target_conflicts_with_nothing() -> None:
    lake = Lake(table(COUNTS), ("id",))

    assert lake.changes("INSERT INTO t VALUES (1, 1, 'x') ON CONFLICT DO UPDATE SET n = 0") == [(3, None, 1, 1, 1, "x")]
    assert lake.changes("INSERT INTO t VALUES (1, 1, 'x'), (1, 2, 'y') ON CONFLICT DO NOTHING") == [
        (3, None, 1, 1, 1, "x")
    ]


def test_values_are_bound_in_every_text(counts: Lake) -> None:
    sql = """INSERT INTO counts (id, n) VALUES (?, ?), (9, ?) ON CONFLICT (id)
             DO UPDATE SET n = excluded.n + ?, note = ? WHERE counts.n = ?"""

    answer = counts.changes(sql, {"1": 1, "2": 10, "3": 90, "4": 100, "5": "new", "6": 1})

    assert answer == [(2, 100, 1, 1, 110, "new"), (3, None, 1, 9, 90, None)]


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        (
            "INSERT INTO counts VALUES (1) ON CONFLICT DO NOTHING",
            r"INSERT gives 1 values for 3 columns \(id, n, note\)",
        ),
        ("INSERT INTO counts (id, n) VALUES (1) ON CONFLICT DO NOTHING", r"gives 1 values for 2 columns \(id, n\)"),
        ("INSERT INTO counts (id, m) VALUES (1, 2) ON CONFLICT DO NOTHING", 'column "m" doesn\'t exist in table'),
        ("INSERT INTO counts (id) VALUES (1) ON CONFLICT DO UPDATE SET m = 1", 'column "m" doesn\'t exist in table'),
        ("INSERT INTO counts (id) VALUES (1) ON CONFLICT (m) DO NOTHING", 'column "m" doesn\'t exist in table'),
        (
            "INSERT INTO counts (id) VALUES (1) ON CONFLICT (n) DO NOTHING",
            r"ON CONFLICT \(n\) is not about the primary key of table 'counts', which is \(id\)",
        ),
        ("INSERT INTO counts (id) VALUES (1) ON CONFLICT (id, n) DO NOTHING", "is not about the primary key"),
    ],
)
def test_what_does_not_fit_the_table_is_refused(counts: Lake, sql: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        counts.query(sql)


def test_a_table_without_a_key_has_no_conflicts() -> None:
    with pytest.raises(InvalidRequest, match=r"table 't' has no primary key, .* ALTER TABLE ... ADD PRIMARY KEY"):
        Lake(table(COUNTS)).query("INSERT INTO t VALUES (1, 2, 'x') ON CONFLICT DO NOTHING")
