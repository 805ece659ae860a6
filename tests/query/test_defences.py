"""What a hostile or unlucky statement, file or client can't do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from query.test_queries import bound, rows, run

from flightserver.access.rights import UNRESTRICTED
from flightserver.errors import BackendUnavailable, InvalidRequest, NotFound, QueryTimeout
from flightserver.query.request import Request
from flightserver.query.wire import MAX_BATCH_BYTES, sliced

if TYPE_CHECKING:
    from flightserver.lakehouse import Lakehouse


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT " + "+".join(["1"] * 5000),
        "SELECT 'a' " + "|| 'a' " * 5000,
        "SELECT 1 WHERE " + " OR ".join(["(1 = 1 AND 2 = 2)"] * 5000),
        "EXPLAIN SELECT " + "-".join(["1"] * 3000),
        "SELECT * FROM " + ", ".join(["t"] * 3000),
        " UNION ALL ".join(["SELECT 1"] * 3000),
        "CREATE TABLE u AS SELECT " + "*".join(["1"] * 5000),
        "INSERT INTO t SELECT " + "+".join(["1"] * 5000),
    ],
    ids=["plus", "concatenation", "or", "explain", "relations", "union", "create", "insert"],
)
def test_a_statement_that_would_overflow_the_stack_is_refused(lakehouse: Lakehouse, sql: str) -> None:
    run(lakehouse, "CREATE TABLE t (a INT)")

    with pytest.raises(InvalidRequest, match="too deep for the engine"):
        run(lakehouse, sql)


def test_expressions_that_multiply_are_refused_before_they_are_planned(lakehouse: Lakehouse) -> None:
    steps = ["c0 AS (SELECT 1 AS x)"]
    steps += [f"c{n} AS (SELECT a.x FROM c{n - 1} AS a, c{n - 1} AS b)" for n in range(1, 25)]

    with pytest.raises(InvalidRequest, match="planned more than 2000 times"):
        run(lakehouse, f"WITH {', '.join(steps)} SELECT * FROM c24")
    assert rows(lakehouse, f"WITH {', '.join(steps[:5])} SELECT * FROM c4") == [(1,)]


def test_long_lists_are_not_deep(lakehouse: Lakehouse) -> None:
    numbers = ", ".join(str(number) for number in range(20_000))

    assert rows(lakehouse, f"SELECT count(*) FROM generate_series(1, 30000) WHERE value IN ({numbers})") == [(19_999,)]
    chain = " OR ".join(f"(s.value = {number} AND s.value + 0 < 1000)" for number in range(400))
    assert rows(lakehouse, f"SELECT count(*) FROM generate_series(1, 1000) AS s WHERE {chain}") == [(399,)]


def _only_file(lakehouse: Lakehouse) -> Path:
    key: str
    ((key,),) = rows(lakehouse, "SELECT key FROM system.files")
    root = lakehouse.buckets.get("primary").local_root
    assert root is not None
    return Path(root / key)


def test_a_file_that_is_missing_fails_the_query_and_is_not_taken_for_empty(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE t AS SELECT 1 AS a")
    _only_file(lakehouse).unlink()

    with pytest.raises(BackendUnavailable, match=r"part-00000\.parquet.* is missing"):
        run(lakehouse, "SELECT count(*) FROM t")


def test_a_file_that_was_cut_off_fails_the_query(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE t AS SELECT 1 AS a")
    assert rows(lakehouse, "SELECT a FROM t") == [(1,)]
    _only_file(lakehouse).write_bytes(b"")

    with pytest.raises(BackendUnavailable, match="have 0 bytes and should have"):
        run(lakehouse, "SELECT a FROM t")


def test_literals_around_placeholders_are_left_alone(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE t (a INT, b TEXT)")
    run(lakehouse, "INSERT INTO t VALUES (?, E'a\\'$2')", parameters=bound(1))
    run(lakehouse, "INSERT INTO t VALUES /* ( */ (?, /* don't */ ? /* won't */)", parameters=bound(2, "x"))
    run(lakehouse, "INSERT INTO t VALUES (?, E'(')", parameters=bound(3))

    assert rows(lakehouse, "SELECT * FROM t ORDER BY a") == [(1, "a'$2"), (2, "x"), (3, "(")]


def test_explain_takes_bound_values(lakehouse: Lakehouse) -> None:
    assert run(lakehouse, "EXPLAIN SELECT 1 WHERE 1 = ?", parameters=bound(1)).num_rows > 0


def test_operators_that_need_types_are_planned_in_every_kind_of_statement(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE t AS SELECT ? || ? AS a", parameters=bound("x", "y"))
    run(lakehouse, "INSERT INTO t SELECT ? || ?", parameters=bound("p", "q"))

    assert rows(lakehouse, "SELECT a FROM t ORDER BY a") == [("pq",), ("xy",)]


def test_a_named_value_that_matches_no_placeholder_is_refused(lakehouse: Lakehouse) -> None:
    with pytest.raises(InvalidRequest, match=r"placeholders \$a; 1 values were bound: c"):
        run(lakehouse, "SELECT $a", parameters=pa.RecordBatch.from_pylist([{"c": 1}]))


def test_no_bound_rows_run_nothing(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE t (a BIGINT)")
    none = pa.RecordBatch.from_pylist([], schema=pa.schema([("0", pa.int64())]))

    assert rows(lakehouse, "INSERT INTO t VALUES (?)", parameters=none) == [(0,)]
    assert rows(lakehouse, "SELECT ?", parameters=none) == []


def test_columns_of_a_new_table_may_be_null_unless_they_were_declared_otherwise(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE t AS SELECT 1 AS a, 'x' AS b, count(*) AS n")
    run(lakehouse, "INSERT INTO t VALUES (NULL, NULL, NULL)")

    assert rows(lakehouse, "SELECT count(*) FROM t WHERE a IS NULL AND b IS NULL AND n IS NULL") == [(1,)]


@pytest.mark.parametrize("option", ["a INT DEFAULT 5", "a INT UNIQUE", "a INT, CHECK (a > 1)"])
def test_what_a_table_would_not_keep_is_refused(lakehouse: Lakehouse, option: str) -> None:
    with pytest.raises(InvalidRequest, match="it would not be kept"):
        run(lakehouse, f"CREATE TABLE t ({option})")


def test_truncate_keeps_the_schema_that_the_table_has_by_then(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE t AS SELECT 1 AS a")
    planned = lakehouse.queries.plan(Request(rights=UNRESTRICTED, sql="TRUNCATE t"))
    run(lakehouse, "CREATE OR REPLACE TABLE t AS SELECT 'x' AS b, 2 AS c UNION ALL SELECT 'y', 3")

    assert lakehouse.queries.update(planned) == 2

    assert run(lakehouse, "SELECT * FROM t").schema.names == ["b", "c"]
    planned = lakehouse.queries.plan(Request(rights=UNRESTRICTED, sql="TRUNCATE t"))
    run(lakehouse, "DROP TABLE t")
    with pytest.raises(NotFound):
        lakehouse.queries.update(planned)


def test_the_time_limit_holds_for_what_is_written_too(lakehouse: Lakehouse) -> None:
    with pytest.raises(QueryTimeout):
        run(
            lakehouse,
            "CREATE TABLE t AS SELECT value, 'x' || value AS b FROM generate_series(1, 10000000000)",
            timeout_seconds=1.0,
        )

    assert rows(lakehouse, "SELECT count(*) FROM system.datasets") == [(0,)]


def test_the_schema_of_a_session_is_asked_before_public_and_never_in_its_place(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE datasets AS SELECT 1 AS mine")

    assert rows(lakehouse, "SELECT mine FROM datasets") == [(1,)]
    assert rows(lakehouse, "SELECT name FROM datasets", schema="system") == [("datasets",)]
    assert rows(lakehouse, "SELECT mine FROM public.datasets", schema="system") == [(1,)]
    with pytest.raises(NotFound, match="schema 'nonsense' doesn't exist"):
        run(lakehouse, "SELECT 1", schema="nonsense")


def test_batches_are_small_however_uneven_their_rows_are() -> None:
    texts = ["x"] * 1000
    texts[500:504] = ["y" * 6_000_000] * 4
    batch = pa.RecordBatch.from_pydict({"a": texts})

    pieces = list(sliced(batch))

    assert all(piece.nbytes <= MAX_BATCH_BYTES for piece in pieces)
    assert pa.Table.from_batches(pieces).to_pydict() == {"a": texts}


def test_a_client_that_does_not_read_keeps_nobody_from_running(lakehouse: Lakehouse) -> None:
    many = "SELECT value FROM generate_series(1, 10000000)"
    stalled: list[Any] = []
    for _ in range(lakehouse.settings.query.max_running + 4):
        stream = lakehouse.queries.stream(lakehouse.queries.plan(Request(rights=UNRESTRICTED, sql=many)))
        next(stream)
        stalled.append(stream)

    assert rows(lakehouse, "SELECT 1") == [(1,)]
    assert next(stalled[0]).num_rows > 0

    for stream in stalled:
        stream.close()
    counts = lakehouse.gate.admission.counts()
    assert (counts.running, counts.waiting) == (0, 0)
