"""UPDATE, DELETE, MERGE and INSERT ... ON CONFLICT: what they change, what they answer, what they leave alone."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from query.asking import bound, count, many_bound, rows, run

from flightserver.access.rights import UNRESTRICTED
from flightserver.errors import CommitConflict, InvalidRequest, NotFound, SchemaMismatch
from flightserver.query.request import Request

if TYPE_CHECKING:
    from flightserver.lakehouse import Lakehouse

PEOPLE = [(1, "Ada", 36), (2, "Bob", 25), (3, "Cid", None), (4, "Dee", 51)]


@pytest.fixture
def people(lakehouse: Lakehouse) -> Lakehouse:
    run(lakehouse, "CREATE TABLE people (id BIGINT NOT NULL, name TEXT, age INT, PRIMARY KEY (id))")
    run(lakehouse, "INSERT INTO people VALUES (1, 'Ada', 36), (2, 'Bob', 25), (3, 'Cid', NULL), (4, 'Dee', 51)")
    return lakehouse


def everybody(lakehouse: Lakehouse, **options: Any) -> list[tuple[Any, ...]]:
    return rows(lakehouse, "SELECT * FROM people ORDER BY id", **options)


def files(lakehouse: Lakehouse) -> dict[str, bytes]:
    objects = lakehouse.buckets.get("primary").objects
    return {meta.key: objects.get(meta.key) for meta in objects.list("datasets/")}


def test_update_changes_the_rows_that_match_and_says_how_many(people: Lakehouse) -> None:
    assert count(people, "UPDATE people SET age = age + 1, name = upper(name) WHERE age > 30") == 2
    assert everybody(people) == [(1, "ADA", 37), (2, "Bob", 25), (3, "Cid", None), (4, "DEE", 52)]


def test_an_assignment_sees_the_row_as_it_was(people: Lakehouse) -> None:
    assert count(people, "UPDATE people AS p SET id = p.age, age = p.id WHERE p.name = 'Bob'") == 1
    assert everybody(people)[-2:] == [(4, "Dee", 51), (25, "Bob", 2)]


def test_delete_removes_the_rows_that_match_and_null_is_no_match(people: Lakehouse) -> None:
    assert count(people, "DELETE FROM people WHERE age < 40") == 2
    assert everybody(people) == [(3, "Cid", None), (4, "Dee", 51)]
    assert count(people, "DELETE FROM people WHERE age < 40") == 0
    assert count(people, "DELETE FROM people") == 2
    assert everybody(people) == []


def test_deleting_every_row_by_a_condition_leaves_an_empty_table(people: Lakehouse) -> None:
    assert count(people, "DELETE FROM people WHERE id > 0") == 4
    assert rows(people, "SELECT count(*) FROM people") == [(0,)]
    assert count(people, "INSERT INTO people VALUES (9, 'Eve', 1)") == 1
    assert everybody(people) == [(9, "Eve", 1)]


def test_changes_write_beside_the_files_that_are_there(people: Lakehouse) -> None:
    before = files(people)

    run(people, "UPDATE people SET age = 0 WHERE id = 1")
    run(people, "DELETE FROM people WHERE id = 2")

    after = files(people)
    assert {key: after.get(key) for key in before} == before
    assert [key.split("/")[2] for key in after if "/deltas/" in key] == ["deltas", "deltas"]


def test_each_change_is_one_version_that_can_be_read_again(people: Lakehouse) -> None:
    start = people.catalog.snapshot().version

    run(people, "UPDATE people SET age = 0 WHERE id = 1")
    run(people, "DELETE FROM people WHERE id = 2")
    run(people, "UPDATE people SET age = 1 WHERE id = 1")

    assert people.catalog.snapshot().version == start + 3
    assert everybody(people, as_of=start) == PEOPLE
    assert everybody(people, as_of=start + 1)[0] == (1, "Ada", 0)
    assert everybody(people, as_of=start + 2) == [(1, "Ada", 0), (3, "Cid", None), (4, "Dee", 51)]
    assert everybody(people)[0] == (1, "Ada", 1)


def test_values_are_cast_to_the_columns_types_or_refused(people: Lakehouse) -> None:
    assert count(people, "UPDATE people SET name = 7, age = '8' WHERE id = 1") == 1
    assert everybody(people)[0] == (1, "7", 8)
    with pytest.raises(InvalidRequest, match="abc"):
        run(people, "UPDATE people SET age = 'abc' WHERE id = 1")
    with pytest.raises(SchemaMismatch, match='"id" is not null'):
        run(people, "UPDATE people SET id = NULL WHERE id = 1")
    assert everybody(people)[0] == (1, "7", 8)


def test_update_from_takes_values_of_another_table(people: Lakehouse) -> None:
    run(people, "CREATE TABLE ages AS SELECT * FROM (VALUES (1, 40), (3, 41), (9, 42)) AS t(id, age)")

    assert count(people, "UPDATE people SET age = ages.age FROM ages WHERE people.id = ages.id") == 2
    assert everybody(people) == [(1, "Ada", 40), (2, "Bob", 25), (3, "Cid", 41), (4, "Dee", 51)]


def test_a_row_that_several_of_another_table_match_changes_once(people: Lakehouse) -> None:
    run(people, "CREATE TABLE ages AS SELECT * FROM (VALUES (1, 40), (1, 41)) AS t(id, age)")

    assert count(people, "UPDATE people SET age = ages.age FROM ages WHERE people.id = ages.id") == 1
    assert everybody(people)[0][2] in {40, 41}
    assert count(people, "DELETE FROM people USING ages WHERE people.id = ages.id") == 1
    assert [row[0] for row in everybody(people)] == [2, 3, 4]


def test_conditions_may_ask_other_tables_and_the_table_itself(people: Lakehouse) -> None:
    assert count(people, "UPDATE people SET age = 99 WHERE age = (SELECT max(age) FROM people)") == 1
    assert everybody(people)[3] == (4, "Dee", 99)
    assert count(people, "DELETE FROM people WHERE id IN (SELECT id + 1 FROM people WHERE name = 'Ada')") == 1
    assert [row[0] for row in everybody(people)] == [1, 3, 4]


def test_merge_updates_inserts_and_deletes_in_one_commit(people: Lakehouse) -> None:
    news = "(VALUES (1, 'Ada L.', 37), (2, NULL, NULL), (7, 'Gil', 7)) AS t(id, name, age)"
    run(people, f"CREATE TABLE news AS SELECT * FROM {news}")
    start = people.catalog.snapshot().version

    changed = count(
        people,
        """MERGE INTO people AS p USING news AS n ON p.id = n.id
           WHEN MATCHED AND n.name IS NULL THEN DELETE
           WHEN MATCHED THEN UPDATE SET name = n.name, age = n.age
           WHEN NOT MATCHED THEN INSERT (id, name, age) VALUES (n.id, n.name, n.age)
           WHEN NOT MATCHED BY SOURCE AND p.age IS NULL THEN UPDATE SET age = 0""",
    )

    assert changed == 4
    assert people.catalog.snapshot().version == start + 1
    assert everybody(people) == [(1, "Ada L.", 37), (3, "Cid", 0), (4, "Dee", 51), (7, "Gil", 7)]


def test_merge_refuses_to_change_a_row_twice(people: Lakehouse) -> None:
    run(people, "CREATE TABLE twice AS SELECT * FROM (VALUES (1, 1), (1, 2)) AS t(id, age)")

    with pytest.raises(InvalidRequest, match="twice"):
        run(people, "MERGE INTO people p USING twice t ON p.id = t.id WHEN MATCHED THEN UPDATE SET age = t.age")
    assert everybody(people) == PEOPLE


def test_insert_on_conflict_updates_or_leaves_alone(people: Lakehouse) -> None:
    changed = count(
        people,
        "INSERT INTO people VALUES (1, 'Ann', 1), (8, 'Hal', 8) ON CONFLICT (id) DO UPDATE SET name = excluded.name",
    )
    assert changed == 2
    assert everybody(people) == [(1, "Ann", 36), *PEOPLE[1:], (8, "Hal", 8)]

    assert count(people, "INSERT INTO people VALUES (1, 'No', 0), (9, 'Ida', 9) ON CONFLICT DO NOTHING") == 1
    assert [row[0] for row in everybody(people)] == [1, 2, 3, 4, 8, 9]
    with pytest.raises(InvalidRequest, match="same key"):
        run(people, "INSERT INTO people VALUES (5, 'a', 0), (5, 'b', 0) ON CONFLICT (id) DO UPDATE SET age = 1")
    with pytest.raises(InvalidRequest, match="id"):
        run(people, "INSERT INTO people VALUES (5, 'a', 0) ON CONFLICT (name) DO NOTHING")


def test_bound_values_run_for_each_row_in_one_commit(people: Lakehouse) -> None:
    start = people.catalog.snapshot().version

    changed = count(people, "UPDATE people SET age = ? WHERE id = ?", parameters=many_bound([10, 20, 30], [1, 2, 77]))
    assert changed == 2
    assert everybody(people)[:2] == [(1, "Ada", 10), (2, "Bob", 20)]
    assert count(people, "DELETE FROM people WHERE id = ?", parameters=many_bound([3, 4, 4])) == 2
    assert everybody(people) == [(1, "Ada", 10), (2, "Bob", 20)]
    assert people.catalog.snapshot().version == start + 2


def test_bound_values_that_meet_run_one_after_the_other(people: Lakehouse) -> None:
    # The second and third execution see what those before have done.
    changed = count(people, "UPDATE people SET id = id + ? WHERE id = ?", parameters=many_bound([10, 10], [1, 11]))
    assert changed == 2
    assert [row[0] for row in everybody(people)] == [2, 3, 4, 21]
    changed = count(people, "UPDATE people SET age = ? WHERE id = ?", parameters=many_bound([1, 2, 3], [2, 2, 3]))
    assert changed == 3
    assert everybody(people)[:2] == [(2, "Bob", 2), (3, "Cid", 3)]


def test_bound_rows_of_an_upsert_with_the_same_key_take_turns(people: Lakehouse) -> None:
    action = "DO UPDATE SET name = excluded.name, age = people.age + 1"
    sql = f"INSERT INTO people VALUES (?, ?, 0) ON CONFLICT (id) {action}"

    assert count(people, sql, parameters=many_bound([1, 7, 7], ["a", "b", "c"])) == 3
    assert everybody(people) == [(1, "a", 37), *PEOPLE[1:], (7, "c", 1)]


def test_a_statement_that_came_twice_runs_once(people: Lakehouse) -> None:
    for _ in range(2):
        assert count(people, "UPDATE people SET age = age + 1 WHERE id = 1", operation="01OPERATION") == 1
    assert everybody(people)[0] == (1, "Ada", 37)


def test_what_cannot_be_changed_is_refused(people: Lakehouse) -> None:
    with pytest.raises(NotFound, match="people"):
        run(people, "UPDATE peeple SET age = 1")
    with pytest.raises(InvalidRequest, match="read but not changed"):
        run(people, "DELETE FROM system.datasets WHERE name = 'people'")
    with pytest.raises(InvalidRequest, match='"nam"'):
        run(people, "UPDATE people SET nam = 1")
    with pytest.raises(InvalidRequest, match="as_of"):
        run(people, "DELETE FROM people WHERE id = 1", as_of=1)
    run(people, "CREATE VIEW adults AS SELECT * FROM people WHERE age > 17")
    with pytest.raises(InvalidRequest, match="view"):
        run(people, "DELETE FROM adults WHERE id = 1")
    assert everybody(people) == PEOPLE


def test_messages_say_what_is_wrong_and_name_no_column_that_is_hidden(people: Lakehouse) -> None:
    with pytest.raises(
        InvalidRequest, match=r"^No field named idd\. Valid fields are people\.id, people\.name, people\.age\.$"
    ):
        run(people, "DELETE FROM people WHERE idd = 3")
    with pytest.raises(InvalidRequest, match=r"^Cannot cast string 'x' to value of"):
        run(people, "UPDATE people SET age = 'x'")


def test_row_ids_are_hidden(people: Lakehouse) -> None:
    run(people, "DELETE FROM people WHERE id = 1")

    with pytest.raises(InvalidRequest, match="_rid"):
        run(people, "SELECT _rid FROM people")
    with pytest.raises((InvalidRequest, NotFound)):
        run(people, 'SELECT * FROM "__target"')


def test_writers_of_different_rows_do_not_conflict_and_of_the_same_rows_take_turns(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE counters AS SELECT value AS id, 0 AS n FROM generate_series(0, 9)")
    failures: list[BaseException] = []

    def add(seed: int) -> None:
        choose = random.Random(seed)  # noqa: S311  # no secret
        try:
            for _ in range(15):
                done = False
                while not done:
                    try:
                        run(lakehouse, f"UPDATE counters SET n = n + 1 WHERE id = {choose.randrange(10)}")
                        done = True
                    except CommitConflict:
                        continue
        except BaseException as error:  # noqa: BLE001  # handed to the test's thread
            failures.append(error)

    threads = [threading.Thread(target=add, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert rows(lakehouse, "SELECT sum(n), count(*) FROM counters") == [(60, 10)]


def test_filters_and_columns_reach_the_files_below_the_merge(lakehouse: Lakehouse) -> None:
    columns = "value AS id, value * 2 AS twice, 'x' AS pad"
    run(lakehouse, f"CREATE TABLE big AS SELECT {columns} FROM generate_series(1, 400000)")
    run(lakehouse, "DELETE FROM big WHERE id % 100 = 0")

    plan = "\n".join(row[1] for row in rows(lakehouse, "EXPLAIN ANALYZE SELECT twice FROM big WHERE id = 123456"))

    assert "pad" not in plan
    assert "row_groups_pruned_statistics=4 total" in plan
    assert rows(lakehouse, "SELECT twice FROM big WHERE id = 123456") == [(246912,)]
    left = 400000 * 400001 // 2 - 100 * (4000 * 4001 // 2)
    assert rows(lakehouse, "SELECT count(*), sum(twice) FROM big") == [(396000, 2 * left)]


def test_a_table_without_deltas_is_a_plain_scan(people: Lakehouse) -> None:
    [*_, (_, plan)] = rows(people, "EXPLAIN SELECT name FROM people WHERE id = 1")

    assert "Join" not in plan
    assert "Union" not in plan
    assert "DataSourceExec" in plan


def test_every_type_survives_an_update_of_another_column(lakehouse: Lakehouse) -> None:
    run(
        lakehouse,
        """CREATE TABLE typed AS
           SELECT 1 AS id, true AS b, 1.5::REAL AS f, 2.25::DECIMAL(9, 2) AS m, DATE '2020-02-29' AS d,
           TIMESTAMP '2020-01-01T00:00:00.123456' AS t, 'text' AS s, X'00ff' AS y, [1, 2] AS l, NULL::TEXT AS n""",
    )
    before = run(lakehouse, "SELECT * FROM typed")

    assert count(lakehouse, "UPDATE typed SET id = 2") == 1

    after = run(lakehouse, "SELECT * FROM typed")
    assert after.schema == before.schema
    assert after.drop_columns(["id"]) == before.drop_columns(["id"])
    assert after.column("id").to_pylist() == [2]


def test_parameters_work_in_every_place(people: Lakehouse) -> None:
    assert count(people, "UPDATE people SET name = $2 WHERE id = $1", parameters=bound(1, "Zoe")) == 1
    assert everybody(people)[0] == (1, "Zoe", 36)
    assert count(people, "DELETE FROM people WHERE name = ?", parameters=bound("Zoe")) == 1
    source = "(SELECT CAST(? AS BIGINT) AS id) n ON p.id = n.id"
    sql = f"MERGE INTO people p USING {source} WHEN NOT MATCHED THEN INSERT (id, age) VALUES (n.id, ?)"
    assert count(people, sql, parameters=bound(1, 5)) == 1
    assert everybody(people)[0] == (1, None, 5)


def test_the_stream_of_a_change_announces_a_count(people: Lakehouse) -> None:
    planned = people.queries.plan(Request(rights=UNRESTRICTED, sql="DELETE FROM people WHERE id = 1"))

    assert planned.schema == pa.schema([pa.field("count", pa.int64(), nullable=False)])
    assert everybody(people) == PEOPLE


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM people",
        'select COUNT( * ) AS "How Many" from "primary"."people" ;',
        "SELECT count(*) AS n FROM public.people",
        "SELECT count(*) FROM people AS p",
        "SELECT count(1) FROM people",
        "SELECT count(*) FROM people WHERE id > 0",
    ],
)
def test_rows_are_counted_right_after_changes_and_under_the_same_names(people: Lakehouse, sql: str) -> None:
    before = run(people, sql)
    run(people, "DELETE FROM people WHERE id = 1")
    run(people, "UPDATE people SET age = 0 WHERE id = 2")

    after = run(people, sql)

    assert after.schema == before.schema
    assert (before.column(0).to_pylist(), after.column(0).to_pylist()) == ([4], [3])


def test_the_count_of_a_whole_table_reads_no_file(people: Lakehouse) -> None:
    run(people, "DELETE FROM people WHERE id = 1")
    for key in files(people):
        people.buckets.get("primary").objects.delete(key)

    assert rows(people, "SELECT count(*) FROM people") == [(3,)]
