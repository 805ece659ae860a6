"""ALTER TABLE, COMMENT, views and FOR VERSION AS OF, in process."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from query.asking import count, rows, run

from flightserver.errors import AlreadyExists, InvalidRequest, NotFound, SchemaMismatch
from flightserver.tables.schema import decode

if TYPE_CHECKING:
    from flightserver.lakehouse import Lakehouse


@pytest.fixture
def people(lakehouse: Lakehouse) -> Lakehouse:
    run(lakehouse, "CREATE TABLE people (id BIGINT, name TEXT)")
    run(lakehouse, "INSERT INTO people VALUES (1, 'Ada'), (2, 'Bob')")
    return lakehouse


def test_an_added_column_is_null_in_rows_that_exist(people: Lakehouse) -> None:
    run(people, "ALTER TABLE people ADD COLUMN age INT")
    run(people, "INSERT INTO people VALUES (3, 'Cid', 7)")

    assert rows(people, "SELECT * FROM people ORDER BY id") == [(1, "Ada", None), (2, "Bob", None), (3, "Cid", 7)]
    with pytest.raises(AlreadyExists, match='"age"'):
        run(people, "ALTER TABLE people ADD COLUMN age INT")
    run(people, "ALTER TABLE people ADD COLUMN IF NOT EXISTS age INT")


def test_a_dropped_column_does_not_come_back_with_its_values(people: Lakehouse) -> None:
    run(people, "ALTER TABLE people DROP COLUMN name")
    assert rows(people, "SELECT * FROM people ORDER BY id") == [(1,), (2,)]

    run(people, "ALTER TABLE people ADD COLUMN name TEXT")
    assert rows(people, "SELECT * FROM people ORDER BY id") == [(1, None), (2, None)]
    run(people, "UPDATE people SET name = 'new' WHERE id = 1")
    assert rows(people, "SELECT * FROM people ORDER BY id") == [(1, "new"), (2, None)]
    assert rows(people, "SELECT id FROM people WHERE name = 'Ada'") == []


def test_a_renamed_column_keeps_its_values_and_an_old_name_can_be_used_again(people: Lakehouse) -> None:
    run(people, "ALTER TABLE people RENAME COLUMN name TO nick")
    run(people, "ALTER TABLE people ADD COLUMN name TEXT")
    run(people, "INSERT INTO people (id, nick, name) VALUES (3, 'C', 'Cid')")

    assert rows(people, "SELECT id, nick, name FROM people ORDER BY id") == [
        (1, "Ada", None),
        (2, "Bob", None),
        (3, "C", "Cid"),
    ]
    assert rows(people, "SELECT id FROM people WHERE nick = 'Bob'") == [(2,)]
    assert count(people, "DELETE FROM people WHERE nick = 'Ada'") == 1
    assert rows(people, "SELECT id, nick, name FROM people ORDER BY id") == [(2, "Bob", None), (3, "C", "Cid")]
    assert run(people, "SELECT * FROM people").schema.names == ["id", "nick", "name"]


def test_the_past_keeps_the_names_that_it_had(people: Lakehouse) -> None:
    before = people.catalog.snapshot().version
    run(people, "ALTER TABLE people RENAME COLUMN name TO nick")

    assert run(people, f"SELECT * FROM people FOR VERSION AS OF {before}").schema.names == ["id", "name"]


def test_types_widen_and_never_narrow(people: Lakehouse) -> None:
    run(people, "CREATE TABLE small AS SELECT CAST(1 AS INT) AS n")
    run(people, "ALTER TABLE small ALTER COLUMN n TYPE BIGINT")
    assert run(people, "SELECT n FROM small").schema.field("n").type == pa.int64()
    assert rows(people, "SELECT n FROM small") == [(1,)]
    with pytest.raises(SchemaMismatch, match="int64 and can't become int32"):
        run(people, "ALTER TABLE small ALTER COLUMN n TYPE INT")


def test_a_primary_key_is_set_when_the_rows_have_one(people: Lakehouse) -> None:
    run(people, "INSERT INTO people VALUES (2, 'Eve')")
    with pytest.raises(InvalidRequest, match="1 values occur more than once"):
        run(people, "ALTER TABLE people ADD PRIMARY KEY (id)")
    run(people, "DELETE FROM people WHERE name = 'Eve'")

    run(people, "ALTER TABLE people ADD CONSTRAINT pk PRIMARY KEY (id)")
    assert people.catalog.snapshot().dataset("people").primary_key == ("id",)
    upsert = "INSERT INTO people VALUES (2, 'Ben') ON CONFLICT (id) DO UPDATE SET name = excluded.name"
    assert count(people, upsert) == 1
    with pytest.raises(InvalidRequest, match="primary key"):
        run(people, "ALTER TABLE people DROP COLUMN id")
    run(people, "ALTER TABLE people DROP PRIMARY KEY")
    assert people.catalog.snapshot().dataset("people").primary_key == ()


def test_not_null_is_set_when_no_row_is(people: Lakehouse) -> None:
    run(people, "INSERT INTO people VALUES (3, NULL)")
    with pytest.raises(InvalidRequest, match="1 rows of"):
        run(people, "ALTER TABLE people ALTER COLUMN name SET NOT NULL")
    run(people, "DELETE FROM people WHERE name IS NULL")
    run(people, "ALTER TABLE people ALTER COLUMN name SET NOT NULL")
    with pytest.raises((InvalidRequest, SchemaMismatch), match=r"not null|non-nullable"):
        run(people, "INSERT INTO people VALUES (3, NULL)")
    run(people, "ALTER TABLE people ALTER COLUMN name DROP NOT NULL")
    assert count(people, "INSERT INTO people VALUES (3, NULL)") == 1


def test_steps_of_one_statement_happen_together_or_not_at_all(people: Lakehouse) -> None:
    with pytest.raises(NotFound, match='"nothing"'):
        run(people, "ALTER TABLE people ADD COLUMN a INT, DROP COLUMN nothing")
    assert run(people, "SELECT * FROM people").schema.names == ["id", "name"]
    run(people, "ALTER TABLE people ADD COLUMN a INT, DROP COLUMN name")
    assert run(people, "SELECT * FROM people").schema.names == ["id", "a"]
    run(people, "ALTER TABLE IF EXISTS nobody ADD COLUMN a INT")


def test_a_renamed_table_keeps_rows_and_history(people: Lakehouse) -> None:
    run(people, "ALTER TABLE people RENAME TO persons")

    assert rows(people, "SELECT name FROM persons ORDER BY id") == [("Ada",), ("Bob",)]
    assert count(people, "UPDATE persons SET name = 'x' WHERE id = 1") == 1
    with pytest.raises(NotFound, match="people"):
        run(people, "SELECT * FROM people")
    history = people.catalog.history(people.catalog.snapshot().dataset("persons"))
    assert [(one.kind, one.rows) for one in history] == [
        ("update", 2),
        ("alter table", 2),
        ("insert", 2),
        ("create table", 0),
    ]


def comment_on_name(people: Lakehouse) -> bytes | None:
    """What metadata says of the column."""
    schema = decode(people.catalog.snapshot().dataset("people").schema)
    comment: bytes | None = (schema.field("name").metadata or {}).get(b"comment")
    return comment


def test_comments_are_kept_and_taken_away(people: Lakehouse) -> None:
    run(people, "COMMENT ON TABLE people IS 'who it''s about'")
    run(people, "COMMENT ON COLUMN people.name IS 'as in the passport'")

    assert rows(people, "SELECT comment FROM system.datasets") == [("who it's about",)]
    assert comment_on_name(people) == b"as in the passport"
    run(people, "COMMENT ON TABLE people IS NULL")
    assert rows(people, "SELECT comment FROM system.datasets") == [("",)]


def test_a_view_is_its_query_over_the_rows_of_now(people: Lakehouse) -> None:
    run(people, "CREATE VIEW names (n) AS SELECT upper(name) FROM people")
    assert rows(people, "SELECT n FROM names ORDER BY n") == [("ADA",), ("BOB",)]

    run(people, "INSERT INTO people VALUES (3, 'Cid')")
    assert rows(people, "SELECT count(*) FROM names WHERE n LIKE 'C%'") == [(1,)]
    with pytest.raises(AlreadyExists, match="names"):
        run(people, "CREATE VIEW names AS SELECT 1 AS one")
    with pytest.raises(AlreadyExists, match="people"):
        run(people, "CREATE VIEW people AS SELECT 1 AS one")
    with pytest.raises(AlreadyExists, match="view"):
        run(people, "CREATE TABLE names (a INT)")
    run(people, "CREATE OR REPLACE VIEW names AS SELECT 1 AS one")
    assert rows(people, "SELECT * FROM names") == [(1,)]
    assert rows(people, "SELECT table_name FROM information_schema.views WHERE table_schema = 'public'") == [("names",)]
    run(people, "DROP VIEW names")
    with pytest.raises(NotFound, match="names"):
        run(people, "SELECT * FROM names")
    run(people, "DROP VIEW IF EXISTS names")


def test_views_of_views_of_views(people: Lakehouse) -> None:
    run(people, "CREATE VIEW v0 AS SELECT id FROM people")
    for depth in range(1, 12):
        run(people, f"CREATE VIEW v{depth} AS SELECT a.id FROM v{depth - 1} a JOIN people p ON a.id = p.id")

    assert rows(people, "SELECT count(*) FROM v11") == [(2,)]


def test_a_view_that_reads_itself_is_refused(people: Lakehouse) -> None:
    run(people, "CREATE VIEW one AS SELECT id FROM people")
    run(people, "CREATE VIEW two AS SELECT id FROM one")

    run(people, "CREATE OR REPLACE VIEW one AS SELECT id FROM two")
    with pytest.raises(InvalidRequest, match="reads itself"):
        run(people, "SELECT * FROM one")


def test_a_view_that_names_nothing_is_refused_when_it_is_made(people: Lakehouse) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        run(people, "CREATE VIEW v AS SELECT * FROM nowhere")
    with pytest.raises(InvalidRequest, match="DROP TABLE"):
        run(people, "DROP VIEW people")


def test_a_view_keeps_the_past_that_it_names(people: Lakehouse) -> None:
    version = people.catalog.snapshot().version
    run(people, f"CREATE VIEW before AS SELECT * FROM people FOR VERSION AS OF {version}")
    run(people, "DELETE FROM people WHERE id = 1")

    assert rows(people, "SELECT count(*) FROM before") == [(2,)]
    assert rows(people, "SELECT count(*) FROM people") == [(1,)]


def test_versions_and_times_in_sql(people: Lakehouse) -> None:
    version = people.catalog.snapshot().version
    time = people.catalog.snapshot().time
    run(people, "UPDATE people SET name = 'X' WHERE id = 1")

    past = f"people FOR VERSION AS OF {version} AS old"
    both = f"SELECT old.name, people.name FROM {past} JOIN people USING (id) ORDER BY id"
    assert rows(people, both) == [("Ada", "X"), ("Bob", "Bob")]
    at = f"SELECT people.name FROM people FOR TIMESTAMP AS OF '{time.isoformat()}' WHERE people.id = 1"
    assert rows(people, at) == [("Ada",)]
    assert count(people, f"INSERT INTO people SELECT id + 10, name FROM people FOR VERSION AS OF {version}") == 2
    assert rows(people, "SELECT name FROM people ORDER BY id") == [("X",), ("Bob",), ("Ada",), ("Bob",)]


def test_versions_that_are_not_there_are_named(people: Lakehouse) -> None:
    with pytest.raises(NotFound, match="version"):
        run(people, "SELECT * FROM people FOR VERSION AS OF 999")
    with pytest.raises(NotFound):
        run(people, "SELECT * FROM people FOR TIMESTAMP AS OF '1999-01-01'")
    with pytest.raises(NotFound, match="monday"):
        run(people, "SELECT * FROM people FOR VERSION AS OF 'monday'")
    with pytest.raises(InvalidRequest):
        run(people, "DELETE FROM people FOR VERSION AS OF 1 WHERE id = 1")


def test_a_dropped_table_is_read_at_a_time_when_it_was_there(people: Lakehouse) -> None:
    version = people.catalog.snapshot().version
    run(people, "DROP TABLE people")

    assert rows(people, f"SELECT count(*) FROM people FOR VERSION AS OF {version}") == [(2,)]
    now = datetime.now(UTC).isoformat()
    with pytest.raises(NotFound):
        run(people, f"SELECT * FROM people FOR TIMESTAMP AS OF '{now}'")
