"""Queries and statements that change data, in process, over a real catalog and real files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from flightserver.access.rights import UNRESTRICTED
from flightserver.errors import AlreadyExists, InvalidRequest, LimitExceeded, NotFound, QueryTimeout, SchemaMismatch
from flightserver.lakehouse import Lakehouse
from flightserver.query.request import Request

if TYPE_CHECKING:
    from flightserver.settings import Settings


def run(lakehouse: Lakehouse, sql: str, **options: Any) -> pa.Table:
    """The whole answer to one statement."""
    planned = lakehouse.queries.plan(Request(rights=UNRESTRICTED, sql=sql, **options))
    return pa.Table.from_batches(lakehouse.queries.stream(planned), schema=planned.schema)


def rows(lakehouse: Lakehouse, sql: str, **options: Any) -> list[tuple[Any, ...]]:
    """The answer as tuples."""
    table = run(lakehouse, sql, **options)
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def bound(*values: Any) -> pa.RecordBatch:
    """One row of bound values."""
    return pa.RecordBatch.from_arrays(
        [pa.array([value]) for value in values], names=[str(n) for n in range(len(values))]
    )


def test_create_insert_select_drop(lakehouse: Lakehouse) -> None:
    assert rows(lakehouse, "CREATE TABLE people (id INT NOT NULL, name TEXT, PRIMARY KEY (id))") == [(0,)]
    assert rows(lakehouse, "INSERT INTO people VALUES (1, 'Ada'), (2, NULL)") == [(2,)]
    assert rows(lakehouse, "INSERT INTO people (name, id) SELECT 'Eve', 3") == [(1,)]
    assert rows(lakehouse, "SELECT * FROM people ORDER BY id") == [(1, "Ada"), (2, None), (3, "Eve")]
    assert rows(lakehouse, "TRUNCATE people") == [(3,)]
    assert rows(lakehouse, "SELECT count(*) FROM people") == [(0,)]
    assert rows(lakehouse, "DROP TABLE people") == [(0,)]
    with pytest.raises(NotFound, match="people"):
        run(lakehouse, "SELECT * FROM people")


def test_create_table_as_keeps_types_and_takes_new_column_names(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE a AS SELECT 1 AS x, DATE '2020-01-01' AS d, 1.5::decimal(10,2) AS m")
    run(lakehouse, "CREATE TABLE b (y BIGINT, e DATE, n DECIMAL(12, 2)) AS SELECT * FROM a")

    assert run(lakehouse, "SELECT * FROM b").schema == pa.schema(
        [("y", pa.int64()), ("e", pa.date32()), ("n", pa.decimal128(12, 2))]
    )
    assert (
        run(lakehouse, "SELECT * FROM b").to_pylist()
        == run(lakehouse, "SELECT x AS y, d AS e, m AS n FROM a").to_pylist()
    )


def test_create_table_says_when_the_name_is_taken(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE t AS SELECT 1 AS a")

    with pytest.raises(AlreadyExists, match=r'"primary"\.t exists already'):
        run(lakehouse, "CREATE TABLE t (a INT)")
    run(lakehouse, "CREATE TABLE IF NOT EXISTS t (b TEXT)")
    assert rows(lakehouse, "SELECT a FROM t") == [(1,)]
    run(lakehouse, "CREATE OR REPLACE TABLE t (b TEXT)")
    assert run(lakehouse, "SELECT * FROM t").schema == pa.schema([("b", pa.string())])


def test_replacing_a_table_forgets_its_primary_key(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE t (a INT, PRIMARY KEY (a))")
    run(lakehouse, "CREATE OR REPLACE TABLE t AS SELECT 'x' AS b")

    assert rows(lakehouse, "SELECT b FROM t") == [("x",)]
    assert rows(lakehouse, "SELECT primary_key FROM system.datasets") == [([],)]


def test_an_insert_that_breaks_not_null_changes_nothing(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE t (a INT NOT NULL, b TEXT)")
    before = rows(lakehouse, "SELECT version, rows FROM system.datasets")

    with pytest.raises(SchemaMismatch, match='"a"'):
        run(lakehouse, "INSERT INTO t (b) VALUES ('x')")

    assert rows(lakehouse, "SELECT version, rows FROM system.datasets") == before


def test_values_are_bound_by_place_and_by_name(lakehouse: Lakehouse) -> None:
    assert rows(lakehouse, "SELECT ? + ?", parameters=bound(1, 2)) == [(3,)]
    assert rows(lakehouse, "SELECT $2 || $1", parameters=bound("a", "b")) == [("ba",)]
    named = pa.RecordBatch.from_pylist([{"late": 1, "early": 2}])
    assert rows(lakehouse, "SELECT $early - $late", parameters=named) == [(1,)]


def test_each_bound_row_runs_the_query_and_the_results_follow_each_other(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE t AS SELECT value AS a FROM generate_series(1, 5)")
    keys = pa.RecordBatch.from_pydict({"1": [4, 2, 9]})

    assert rows(lakehouse, "SELECT a FROM t WHERE a = $1", parameters=keys) == [(4,), (2,)]


def test_many_bound_rows_are_one_insert_and_one_commit(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE t (a BIGINT, b TEXT)")
    version = lakehouse.catalog.snapshot().version
    many = pa.RecordBatch.from_pydict({"0": list(range(1000)), "1": [f"n{n}" for n in range(1000)]})

    assert rows(lakehouse, "INSERT INTO t VALUES (?, upper(?))", parameters=many) == [(1000,)]

    assert lakehouse.catalog.snapshot().version == version + 1
    assert rows(lakehouse, "SELECT min(b), max(a), count(*) FROM t") == [("N0", 999, 1000)]


@pytest.mark.parametrize(
    ("sql", "values", "message"),
    [
        ("SELECT ?", (), r"has 1 placeholders \(\$1\), 0 values were bound"),
        ("SELECT ?, ?", (1,), "2 placeholders"),
        ("SELECT 1", (1,), "no placeholders"),
        ("SELECT ?", (1, 2), "2 values were bound"),
    ],
)
def test_a_wrong_number_of_values_is_said(
    lakehouse: Lakehouse, sql: str, values: tuple[int, ...], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        run(lakehouse, sql, parameters=bound(*values) if values else None)


def test_an_operation_runs_once_however_often_it_is_asked(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE t (a INT)")

    counts = [rows(lakehouse, "INSERT INTO t VALUES (1), (2)", operation="01OPERATION") for _ in range(3)]

    assert counts == [[(2,)]] * 3
    assert rows(lakehouse, "SELECT count(*) FROM t") == [(2,)]


def test_another_process_knows_that_an_operation_has_run(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE t (a INT)")
    run(lakehouse, "INSERT INTO t VALUES (1)", operation="01OPERATION")

    with type(lakehouse).open(lakehouse.settings) as other:
        assert rows(other, "INSERT INTO t VALUES (1)", operation="01OPERATION") == [(1,)]
        assert rows(other, "SELECT count(*) FROM t") == [(1,)]


def test_the_past_can_be_read_and_not_changed(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE t AS SELECT 1 AS a")
    version = lakehouse.catalog.snapshot().version
    run(lakehouse, "INSERT INTO t VALUES (2)")
    run(lakehouse, "DROP TABLE t")

    assert rows(lakehouse, "SELECT * FROM t", as_of=version) == [(1,)]
    with pytest.raises(InvalidRequest, match="the past can be read but not changed"):
        run(lakehouse, "INSERT INTO t VALUES (3)", as_of=version)


def test_only_the_files_that_the_catalog_names_are_read(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE t AS SELECT 1 AS a")
    ((key,),) = rows(lakehouse, "SELECT key FROM system.files")
    root = lakehouse.buckets.get("primary").local_root
    assert root is not None
    stray = pa.table({"a": pa.array([666], pa.int64()), "_rid": pa.array([0], pa.int64())})
    pq.write_table(stray, (root / key).with_name("part-00001.parquet"))

    assert rows(lakehouse, "SELECT a FROM t") == [(1,)]


def test_datasets_of_many_segments_read_every_row_once(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE t (a BIGINT, b TEXT)")
    for number in range(40):
        run(lakehouse, f"INSERT INTO t VALUES ({number}, 'v{number}')")

    assert rows(lakehouse, "SELECT a, b FROM t ORDER BY a") == [(number, f"v{number}") for number in range(40)]


@pytest.mark.parametrize("name", ["My Täble 100%", "a.b", "sémi;colon", "quo'te", 'dou"ble', "%41", "select"])
def test_any_printable_name_names_a_table(lakehouse: Lakehouse, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    run(lakehouse, f"CREATE TABLE {quoted} AS SELECT 1 AS a")
    run(lakehouse, f"INSERT INTO {quoted} VALUES (2)")

    assert rows(lakehouse, f"SELECT sum(a) FROM {quoted}") == [(3,)]
    assert rows(lakehouse, "SELECT name FROM system.datasets") == [(name,)]


def test_a_missing_table_suggests_what_was_meant(lakehouse: Lakehouse) -> None:
    run(lakehouse, 'CREATE TABLE "People" AS SELECT 1 AS a')

    with pytest.raises(NotFound, match="People"):
        run(lakehouse, "SELECT * FROM People")
    with pytest.raises(NotFound, match=r"the schemas are .*primary"):
        run(lakehouse, "SELECT * FROM nowhere.people")
    with pytest.raises(NotFound, match="catalog 'other' doesn't exist"):
        run(lakehouse, "SELECT * FROM other.public.people")
    with pytest.raises(NotFound, match="there are audit, buckets, cache, columns"):
        run(lakehouse, "SELECT * FROM system.nothing")


def test_a_statement_that_runs_too_long_is_stopped(lakehouse: Lakehouse) -> None:
    endless = "SELECT count(*) FROM generate_series(1, 100000000000) WHERE value % 7 = 0"

    with pytest.raises(QueryTimeout, match=r"limit of 0\.2 seconds"):
        run(lakehouse, endless, timeout_seconds=0.2)

    ((state, error),) = rows(lakehouse, f"SELECT state, error FROM system.queries WHERE sql = '{endless}'")
    assert (state, error) == ("failed", "FS-4001")


def test_a_pinned_dataset_answers_the_same_and_is_never_stale(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE t AS SELECT value AS a, 'v' || value AS b FROM generate_series(1, 100000)")
    expected = run(lakehouse, "SELECT * FROM t ORDER BY a")

    pinned = lakehouse.queries.pin(lakehouse.catalog.snapshot().dataset("t"))

    assert run(lakehouse, "SELECT * FROM t ORDER BY a") == expected
    assert pinned.hits == 1
    run(lakehouse, "INSERT INTO t VALUES (0, 'new')")
    assert rows(lakehouse, "SELECT b FROM t WHERE a = 0") == [("new",)]


def test_results_have_plain_types_whatever_the_engine_makes(lakehouse: Lakehouse) -> None:
    table = run(
        lakehouse,
        "SELECT arrow_cast('x', 'Utf8View') AS v, arrow_cast('y', 'Dictionary(Int32, Utf8)') AS d, "
        "make_array(arrow_cast('z', 'Utf8View')) AS l, TIMESTAMP '2020-01-01T00:00:00Z' AS t",
    )

    assert [str(field.type) for field in table.schema] == ["string", "string", "list<item: string>", "timestamp[ns]"]
    assert table.column("v").to_pylist() == ["x"]
    assert table.column("d").to_pylist() == ["y"]
    assert table.column("l").to_pylist() == [["z"]]


def test_a_join_that_exhausts_memory_finishes_without_hash_joins(settings: Settings) -> None:
    small = replace(settings, query=replace(settings.query, memory_bytes=30 * 2**20))
    join = (
        "SELECT count(*) FROM generate_series(1, 3000000) AS a(x) JOIN generate_series(1, 3000000) AS b(y) ON a.x = b.y"
    )
    with Lakehouse.open(small) as lakehouse:
        assert rows(lakehouse, join) == [(3_000_000,)]


def test_a_statement_that_needs_too_much_memory_says_so(settings: Settings) -> None:
    tiny = replace(settings, query=replace(settings.query, memory_bytes=2**20))
    with Lakehouse.open(tiny) as lakehouse, pytest.raises(LimitExceeded, match="more memory than it may use"):
        run(lakehouse, "SELECT array_agg(value) FROM generate_series(1, 10000000)")


def test_a_sort_of_several_times_the_memory_limit_spills_and_is_right(settings: Settings) -> None:
    small = replace(settings, query=replace(settings.query, memory_bytes=40 * 2**20))
    with Lakehouse.open(small) as lakehouse:
        run(
            lakehouse,
            "CREATE TABLE t AS SELECT (value * 7919) % 2000003 AS a, repeat('x', 80) || value AS b "
            "FROM generate_series(1, 1500000)",
        )
        table = run(lakehouse, "SELECT a, b FROM t ORDER BY a, b")

    keys = table.column("a").to_numpy()
    assert table.num_rows == 1_500_000
    assert (keys[1:] >= keys[:-1]).all()
    assert len(set(table.column("b").to_pylist())) == 1_500_000


def test_information_schema_describes_what_clients_look_for(lakehouse: Lakehouse) -> None:
    run(lakehouse, 'CREATE TABLE people (id BIGINT NOT NULL, "Name" TEXT, paid DECIMAL(10, 2), PRIMARY KEY (id))')

    schemas = rows(lakehouse, "SELECT schema_name FROM information_schema.schemata ORDER BY 1")
    places = "SELECT table_schema, table_type FROM information_schema.tables WHERE table_name = 'people' ORDER BY 1"
    columns = (
        "SELECT column_name, ordinal_position, is_nullable, data_type, numeric_precision, numeric_scale "
        "FROM information_schema.columns WHERE table_schema = 'public' AND table_name = 'people' ORDER BY 2"
    )
    key = (
        "SELECT c.constraint_type, k.column_name FROM information_schema.table_constraints AS c "
        "JOIN information_schema.key_column_usage AS k USING (constraint_name, table_schema) "
        "WHERE c.table_schema = 'public'"
    )

    assert schemas == [("information_schema",), ("primary",), ("public",), ("system",)]
    assert rows(lakehouse, places) == [("primary", "BASE TABLE"), ("public", "BASE TABLE")]
    assert rows(lakehouse, columns) == [
        ("id", 1, "NO", "bigint", 19, 0),
        ("Name", 2, "YES", "character varying", None, None),
        ("paid", 3, "YES", "numeric", 10, 2),
    ]
    assert rows(lakehouse, key) == [("PRIMARY KEY", "id")]
    assert ("people",) in rows(lakehouse, "SELECT table_name FROM information_schema.tables")


@pytest.mark.parametrize(
    "source",
    [
        "orders JOIN customers ON orders.customer = customers.id",
        "orders LEFT SEMI JOIN customers ON orders.customer = customers.id",
        "orders WHERE customer IN (SELECT id FROM customers)",
        "joined",
        "changed",
        "(SELECT * FROM joined UNION ALL SELECT * FROM joined) AS both",
    ],
)
def test_a_join_whose_rows_are_streamed_comes_to_its_end(lakehouse: Lakehouse, source: str) -> None:
    # A hash join waits until all of its partitions have begun: read one after the other, they never would.
    run(
        lakehouse,
        "CREATE TABLE orders AS SELECT value AS id, value % 150000 AS customer FROM generate_series(1, 300000)",
    )
    run(lakehouse, "CREATE TABLE customers AS SELECT value AS id, 'name' AS name FROM generate_series(0, 149999)")
    run(
        lakehouse, "CREATE VIEW joined AS SELECT orders.id FROM orders JOIN customers ON orders.customer = customers.id"
    )
    run(lakehouse, "CREATE TABLE changed AS SELECT * FROM orders")
    run(lakehouse, "DELETE FROM changed WHERE id % 3 = 0")

    streamed = run(lakehouse, f"SELECT * FROM {source}", timeout_seconds=30).num_rows

    expected = {"changed": 200_000, "(SELECT * FROM joined UNION ALL SELECT * FROM joined) AS both": 600_000}
    assert streamed == expected.get(source, 300_000)


def test_rows_come_in_the_order_in_which_they_were_written(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE t AS SELECT value AS id FROM generate_series(1, 500000)")

    ids = run(lakehouse, "SELECT id FROM t").column("id")

    assert ids.combine_chunks().equals(pa.array(range(1, 500001)))


@pytest.mark.parametrize(
    ("kind", "low", "high"), [("BIGINT", -(2**63), 2**63 - 1), ("BIGINT UNSIGNED", 0, 2**64 - 1)], ids=str
)
def test_a_column_that_spans_the_whole_range_of_its_type_can_be_filtered(
    lakehouse: Lakehouse, kind: str, low: int, high: int
) -> None:
    """The engine's estimates fail on its statistics (apache/datafusion#23352), so that it is planned without."""
    values = f"(VALUES ({low}), ({high}), (5)) AS v (n)"
    run(lakehouse, f"CREATE TABLE wide AS SELECT CAST(n AS {kind}) AS n FROM {values}")

    assert rows(lakehouse, "SELECT n FROM wide WHERE n = 5") == [(5,)]
    assert rows(lakehouse, "SELECT n FROM wide WHERE n > 4 LIMIT 1") == [(high,)]
    assert rows(lakehouse, "SELECT count(*) FROM wide WHERE n > 4") == [(2,)]
