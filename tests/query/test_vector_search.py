"""`vector_search(...)` in statements: which rows are found, and wherever a table may stand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from query.asking import bound, count, many_bound, rows, run
from query.engine_streams import engine_watched
from query.substrait_plans import plan
from query.vectors import make_index, operation, refresh

from flightserver.access.rights import UNRESTRICTED
from flightserver.catalog.entities import DatasetKey
from flightserver.errors import DimensionMismatch, InvalidRequest, NotFound, QueryTimeout
from flightserver.query.columns import origins
from flightserver.query.language.statements import parse
from flightserver.query.parameters import insert_from_bound
from flightserver.query.request import Request
from flightserver.tables.selection import Wanted

if TYPE_CHECKING:
    from flightserver.lakehouse import Lakehouse
    from flightserver.query.namespace import Scope

NEAR = "SELECT id, _distance FROM vector_search('near', {}, 3)"


@pytest.fixture
def docs(lakehouse: Lakehouse) -> Lakehouse:
    """Six documents on a line, one without a vector; the index has the first four."""
    run(lakehouse, "CREATE TABLE docs (id BIGINT NOT NULL, year INT, e FLOAT[])")
    run(lakehouse, "INSERT INTO docs VALUES (1, 2001, [1, 0]), (2, 2002, [2, 0]), (3, 2003, [3, 0]), (4, 2004, NULL)")
    make_index(lakehouse, "near", "docs", metric="l2")
    run(lakehouse, "INSERT INTO docs VALUES (5, 2005, [5, 0]), (6, 2006, [6, 0])")
    return lakehouse


def ids(lakehouse: Lakehouse, query: str, **options: Any) -> list[int]:
    return [row[0] for row in rows(lakehouse, query, **options)]


def test_the_answer_is_the_rows_of_the_dataset_nearest_first_with_their_distances(docs: Lakehouse) -> None:
    table = run(docs, "SELECT * FROM vector_search('near', [5, 0], 4)")

    assert table.schema == pa.schema(
        [
            pa.field("id", pa.int64(), nullable=False),
            pa.field("year", pa.int32()),
            pa.field("e", pa.list_(pa.float32())),
            pa.field("_distance", pa.float64(), nullable=False),
        ]
    )
    assert table.to_pylist() == [
        {"id": 5, "year": 2005, "e": [5, 0], "_distance": 0},
        {"id": 6, "year": 2006, "e": [6, 0], "_distance": 1},
        {"id": 3, "year": 2003, "e": [3, 0], "_distance": 2},
        {"id": 2, "year": 2002, "e": [2, 0], "_distance": 3},
    ]


@pytest.mark.parametrize(
    "query",
    [
        "[2.9, 0]",
        "ARRAY[2.9, 0.0]",
        "array [ +2.9e0, -0. ]",
        "'[2.9, 0]'",
        "[1.9 + 1, abs(0)]",
        "(SELECT [e[1] - 0.1, 0.0] FROM docs WHERE id = 3)",
        "(SELECT [e[1] - 0.1, 0] FROM vector_search('near', [3, 1], 1))",
        "CAST([2.9, 0] AS DOUBLE[])",
        "arrow_cast([2.9, 0], 'FixedSizeList(2, Float64)')",
    ],
)
def test_every_way_to_write_a_vector(docs: Lakehouse, query: str) -> None:
    assert ids(docs, NEAR.format(query)) == [3, 2, 1]


@pytest.mark.parametrize(
    "vector",
    [
        pa.array([[2.9, 0.0]], pa.list_(pa.float32())),
        pa.array([[2.9, 0.0]], pa.large_list(pa.float64())),
        pa.array([[2.9, 0.0]], pa.list_(pa.float32(), 2)),
        pa.array([[3, 0]], pa.list_(pa.int8())),
        pa.array(["[2.9, 0]"]),
    ],
)
def test_vectors_k_and_filter_are_bound(docs: Lakehouse, vector: pa.Array) -> None:
    values = pa.RecordBatch.from_arrays(
        [pa.array([1]), vector, pa.array([3]), pa.array(["year < 2005"])], names=["a", "b", "c", "d"]
    )

    sql = "SELECT id + ? FROM vector_search('near', ?, ?, ?)"
    assert ids(docs, sql, parameters=values) == [4, 3, 2]


def test_each_bound_row_is_a_search_of_its_own(docs: Lakehouse) -> None:
    values = many_bound([[6.0, 0.0], [1.0, 0.0]], [2, 1], [None, "id > 1"])

    assert ids(docs, "SELECT id FROM vector_search('near', ?, ?, ?)", parameters=values) == [6, 5, 2]
    run(docs, "CREATE TABLE found (id BIGINT)")
    assert count(docs, "INSERT INTO found SELECT id FROM vector_search('near', ?, ?, ?)", parameters=values) == 3
    assert sorted(ids(docs, "SELECT id FROM found")) == [2, 5, 6]
    assert insert_from_bound(parse("INSERT INTO found VALUES ((SELECT id FROM vector_search('near', ?, 1)))")) is None
    delete = "DELETE FROM found WHERE id IN (SELECT id FROM vector_search('near', ?, ?, ?))"
    assert count(docs, delete, parameters=values) == 3


def test_a_filter_is_applied_before_the_search(docs: Lakehouse) -> None:
    assert ids(docs, "SELECT id FROM vector_search('near', [6, 0], 2, 'year < 2004')") == [3, 2]
    assert ids(docs, "SELECT id FROM vector_search('near', [6, 0], 2) WHERE year < 2004") == []
    named = "SELECT id FROM vector_search('near', [6, 0], 2, 'docs.id IN (SELECT max(id) - 1 FROM docs) -- the last')"
    assert ids(docs, named) == [5]
    assert ids(docs, "SELECT id FROM vector_search('near', [6, 0], 2, 'id > 9')") == []
    assert ids(docs, "SELECT id FROM vector_search('near', [6, 0], 9, 'year IS NOT NULL')") == [6, 5, 3, 2, 1]


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("nothing = 1", "filter of vector_search: No field named nothing"),
        ("id", "filter of vector_search: .*non-boolean"),
        ("id > 1) OR (id < 3", "nothing opens it"),
        ("id > 1, id", "expected the end of one predicate, found ','"),
        ("id > 1; SELECT 1", "expected the end of one predicate, found ';'"),
        ("(id > 1", "expected '\\)', found the end"),
        ("id = $1", "can't have placeholders"),
        ("id = ?", "can't have placeholders"),
        ("id >", "filter of vector_search: 'id >' can't be read as a predicate"),
        ("id > 1 ORDER BY id", "'id > 1 ORDER BY id' can't be read as a predicate"),
        ("_rid > 0", "no column is called '_rid'"),
        ('"_RID" > 0', "no column is called '_rid'"),
        ("`id) OR (true` > 1", "names are quoted by"),
        ("", "expected a predicate"),
        ("id = 'one", "can't be read"),
        ("id = 1" + " OR id = 2" * 600, "a chain of more than"),
    ],
)
def test_a_filter_is_one_predicate_over_columns_of_the_dataset(docs: Lakehouse, condition: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        run(docs, "SELECT id FROM vector_search('near', [6, 0], 2, ?)", parameters=bound(condition))


@pytest.mark.parametrize("name", ["__target", "__candidates_", "__protected", "__search_0", "__as_of_0", "__added"])
def test_generated_names_mean_nothing_in_a_filter(docs: Lakehouse, name: str) -> None:
    condition = f"id IN (SELECT id FROM {name})"
    update = f"UPDATE docs SET year = 0 WHERE id IN (SELECT id FROM vector_search('near', [1, 0], 1, '{condition}'))"
    with pytest.raises(NotFound, match=f"there is no dataset '{name}'"):
        run(docs, update)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("NULL", "query of vector_search is null"),
        ("(SELECT e FROM docs WHERE id = 4)", "query of vector_search is null"),
        ("(SELECT e FROM docs WHERE id = 99)", "query of vector_search is null"),
        ("(SELECT e FROM docs)", "query of vector_search: .*more than one row"),
        ("7", "must be a list of numbers.*found int64"),
        ("['a', 'b']", "must be a list of numbers.*found list<"),
        ("[1, NULL]", "has a null among its numbers"),
        ("'[1, \"a\"]'", "must be a list of numbers.*found the text"),
        ("'1, 2'", "must be a list of numbers.*found the text '1, 2'"),
        ("'[1, true]'", "must be a list of numbers.*found the text"),
        ("'[1, NaN]'", "not finite"),
        ("[1e300, 0]", "not finite"),
        (f"'[{'9' * 400}, 0]'", "a number that is too large"),
        ("docs.e", "query of vector_search can't read columns of the statement, a subquery can: No field named docs.e"),
    ],
)
def test_what_is_no_vector_is_refused(docs: Lakehouse, query: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        run(docs, NEAR.format(query))


def test_a_vector_of_another_length_is_refused(docs: Lakehouse) -> None:
    with pytest.raises(DimensionMismatch, match=r'has 3 numbers, and those of index "primary"\.near have 2'):
        run(docs, NEAR.format("[1, 2, 3]"))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (bound([1.0, 0.0], 0, None), "k of vector_search is 0: it must be from 1 to 10,000"),
        (bound([1.0, 0.0], 1.5, None), "k of vector_search must be a whole number; found 1.5"),
        (bound(*[[1.0, 0.0], True, None]), "k of vector_search must be a whole number; found True"),
        (bound([1.0, 0.0], None, None), "k of vector_search must be a whole number; found NULL"),
        (bound([1.0, 0.0], "2", None), "k of vector_search must be a whole number; found '2'"),
        (bound([1.0, 0.0], 1, 7), "filter of vector_search must be a text; found 7"),
        (bound(None, 1, None), "query of vector_search is null"),
    ],
)
def test_bound_values_that_do_not_fit_are_refused(docs: Lakehouse, values: pa.RecordBatch, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        run(docs, "SELECT id FROM vector_search('near', ?, ?, ?)", parameters=values)


def test_a_wrong_name_is_said_before_anything_runs(docs: Lakehouse) -> None:
    def understand(sql: str) -> None:
        docs.queries.plan(Request(rights=UNRESTRICTED, sql=sql))

    with pytest.raises(NotFound, match=r"there is no vector index 'far'; there are: \"primary\"\.near"):
        understand("SELECT id FROM vector_search('far', [1], 1)")
    with pytest.raises(NotFound, match="far"):
        understand("SELECT id FROM vector_search('primary.far', [1], 1)")
    with pytest.raises(InvalidRequest, match="No field named nothing"):
        understand("SELECT nothing FROM vector_search('near', [1, 0], 1)")
    run(docs, "ALTER TABLE docs RENAME COLUMN year TO _distance")
    with pytest.raises(InvalidRequest, match=r'"primary"\.docs has one of that name: rename it'):
        understand("SELECT id FROM vector_search('near', [1, 0], 1)")
    run(docs, "ALTER TABLE docs DROP COLUMN e")
    with pytest.raises(InvalidRequest, match=r"a column of .* that was dropped"):
        understand("SELECT id FROM vector_search('near', [1, 0], 1)")
    run(docs, "DROP TABLE docs")
    with pytest.raises(NotFound, match="there are: none"):
        understand("SELECT id FROM vector_search('near', [1, 0], 1)")


@pytest.mark.parametrize("name", ["near", "primary.near", '"primary".near', '"primary"."near"', "PRIMARY.Near"])
def test_every_way_to_name_an_index(docs: Lakehouse, name: str) -> None:
    assert ids(docs, f"SELECT id FROM vector_search('{name}', [1, 0], 1)") == [1]


def test_a_search_stands_wherever_a_table_does(docs: Lakehouse) -> None:
    run(docs, "CREATE TABLE found AS SELECT id, _distance AS d FROM vector_search('near', [2, 0], 1)")
    run(docs, "INSERT INTO found SELECT id, _distance FROM vector_search('near', [6, 0], 1, filter => 'id < 6')")
    assert rows(docs, "SELECT * FROM found ORDER BY id") == [(2, 0.0), (5, 1.0)]

    run(docs, "UPDATE found SET d = -v.id FROM vector_search('near', [5, 0], 1) AS v WHERE found.id = v.id")
    run(docs, "DELETE FROM found WHERE id IN (SELECT id FROM vector_search('near', [2, 0], 1))")
    assert rows(docs, "SELECT * FROM found") == [(5, -5.0)]

    merge = "MERGE INTO found AS t USING vector_search('near', [5, 0], 2) AS s ON t.id = s.id {} {}"
    run(
        docs,
        merge.format(
            "WHEN MATCHED THEN UPDATE SET d = s._distance", "WHEN NOT MATCHED THEN INSERT (id, d) VALUES (s.id, 7)"
        ),
    )
    assert rows(docs, "SELECT * FROM found ORDER BY id") == [(5, 0.0), (6, 7.0)]

    joined = (
        "WITH n AS (SELECT * FROM vector_search('near', ?, 2)) "
        "SELECT n.id, d.year, f.d FROM n JOIN docs AS d ON d.id = n.id LEFT JOIN found AS f ON f.id = n.id ORDER BY 1"
    )
    assert rows(docs, joined, parameters=bound([5.0, 0.0])) == [(5, 2005, 0.0), (6, 2006, 7.0)]
    assert rows(docs, "SELECT count(*) FROM vector_search('near', [5, 0], 10)") == [(5,)]
    assert ids(docs, "SELECT a.id FROM vector_search('near', [5, 0], 1) a, vector_search('near', [5, 0], 1) b") == [5]


def test_a_view_searches_when_it_is_read(docs: Lakehouse) -> None:
    run(docs, "CREATE VIEW nearest AS SELECT id, _distance FROM vector_search('near', [4, 0], 2) WHERE id > 0")
    run(docs, "CREATE VIEW outer_view AS SELECT n.id, year FROM nearest AS n JOIN docs USING (id)")

    assert sorted(ids(docs, "SELECT id FROM nearest")) == [3, 5]
    run(docs, "INSERT INTO docs VALUES (7, 2007, [4, 0])")
    assert ids(docs, "SELECT id FROM nearest LIMIT 1") == [7]
    assert rows(docs, "SELECT id, year FROM outer_view ORDER BY year DESC LIMIT 1") == [(7, 2007)]
    assert rows(docs, "SELECT count(*) FROM outer_view, nearest") == [(4,)]
    run(docs, "CREATE TABLE copied AS SELECT * FROM outer_view")
    assert count(docs, "INSERT INTO copied SELECT * FROM outer_view") == 2


def test_a_plan_of_substrait_reads_a_view_that_searches(docs: Lakehouse) -> None:
    run(docs, "CREATE VIEW nearest AS SELECT id FROM vector_search('near', [4, 0], 2)")
    data = plan("SELECT id + 1 AS next FROM nearest ORDER BY id", {"nearest": pa.schema([("id", pa.int64())])})

    assert ids(docs, "substrait plan", substrait=data) == [4, 6]


def test_columns_of_an_answer_are_told_to_be_of_no_table(docs: Lakehouse) -> None:
    sql = "SELECT s.id, d.id, _distance FROM vector_search('near', [4, 0], 2) AS s JOIN docs AS d USING (id)"
    found = origins(docs.queries.plan(Request(rights=UNRESTRICTED, sql=sql)))

    assert [None if one is None else (one.table, one.column) for one in found] == [None, ("docs", "id"), None]


def test_understanding_a_statement_searches_nothing(docs: Lakehouse) -> None:
    three = "(SELECT [1, 2, 3])"
    run(docs, f"CREATE VIEW impossible AS SELECT id FROM vector_search('near', {three}, 2)")

    for sql in ("SELECT * FROM impossible", NEAR.format(three)):
        planned = docs.queries.plan(Request(rights=UNRESTRICTED, sql=sql))
        assert planned.schema.field("id").type == pa.int64()
        with pytest.raises(DimensionMismatch):
            list(docs.queries.stream(planned))


def test_what_can_not_be_searched_for_is_said_before_anything_runs(docs: Lakehouse) -> None:
    def understand(query: str, *values: Any) -> None:
        parameters = bound(*values) if values else None
        docs.queries.plan(Request(rights=UNRESTRICTED, sql=NEAR.format(query), parameters=parameters))

    told = r'the query vector has 3 numbers, and those of index "primary"\.near have 2'
    for query, values in (("[1, 2, 3]", ()), ("'[1, 2, 3]'", ()), ("?", ([1.0, 2.0, 3.0],))):
        with pytest.raises(DimensionMismatch, match=told):
            understand(query, *values)
    with pytest.raises(InvalidRequest, match="is null: there is no vector to search for"):
        understand("?", None)
    with pytest.raises(DimensionMismatch, match=told):
        run(docs, "CREATE VIEW impossible AS SELECT id FROM vector_search('near', [1, 2, 3], 2)")
    understand("?")


@pytest.mark.parametrize("kind", ["DOUBLE[]", "DOUBLE[] NOT NULL"])
def test_columns_of_vectors_are_read_where_the_statement_reads_them_and_nowhere_else(
    lakehouse: Lakehouse, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(lakehouse, f"CREATE TABLE docs (id BIGINT, e {kind}, other {kind})")
    run(lakehouse, "INSERT INTO docs VALUES (1, [1.0, 0.0], [7.0]), (2, [0.0, 1.0], [8.0]), (3, [1.0, 1.0], [6.0])")
    make_index(lakehouse, "near", "docs")
    fetched: list[str] = []
    fetch = lakehouse.engine.fetch

    def noted(sql: str, scope: Scope) -> list[pa.RecordBatch]:
        fetched.append(sql)
        return fetch(sql, scope)

    monkeypatch.setattr(lakehouse.engine, "fetch", noted)
    search = "vector_search('near', [1, 0], 2)"
    run(lakehouse, f"CREATE VIEW seen AS SELECT * FROM {search}")
    either = f"SELECT s.id, t.id FROM {search} AS s JOIN docs AS t ON s.e = t.other OR t.id = 2"
    inside = f"SELECT id FROM {search} WHERE id IN (SELECT id FROM {search} WHERE other[1] > 6)"
    answers: list[tuple[str, set[str], list[tuple[Any, ...]]]] = [
        (f"SELECT id FROM {search}", set(), [(1,), (3,)]),
        (f"SELECT count(*) FROM {search}", set(), [(2,)]),
        (f"SELECT id FROM {search} WHERE e IS NOT NULL", set() if "NOT" in kind else {"e"}, [(1,), (3,)]),
        (f"SELECT other FROM {search}", {"other"}, [([7.0],), ([6.0],)]),
        (f"SELECT * FROM {search} WHERE id = 1", {"e", "other"}, [(1, [1.0, 0.0], [7.0], 0.0)]),
        (f"SELECT (SELECT max(e[1]) FROM {search}) AS most", {"e"}, [(1.0,)]),
        ("SELECT id FROM seen", set(), [(1,), (3,)]),
        ("SELECT e FROM seen", {"e"}, [([1.0, 0.0],), ([1.0, 1.0],)]),
        (inside, {"other"}, [(1,)]),
        (either, {"e", "other"}, [(1, 2), (3, 2)]),
    ]
    for sql, columns, expected in answers:
        fetched.clear()
        assert sorted(rows(lakehouse, sql)) == sorted(expected), sql
        assert {name for name in ("e", "other") if any(f'"{name}"' in each for each in fetched)} == columns, sql


def test_what_a_change_reads_of_a_search_is_all_of_it(docs: Lakehouse) -> None:
    run(docs, "CREATE TABLE kept AS SELECT id, e FROM vector_search('near', [1, 0], 2)")

    assert rows(docs, "SELECT id, e FROM kept ORDER BY id") == [(1, [1.0, 0.0]), (2, [2.0, 0.0])]


def test_placeholders_of_a_search_have_types(docs: Lakehouse) -> None:
    sql = "SELECT id FROM vector_search('near', ?, ?, filter => ?) WHERE year > ? LIMIT ?"
    planned = docs.queries.plan(Request(rights=UNRESTRICTED, sql=sql))
    assert docs.queries.parameter_types(planned) == {
        "1": pa.list_(pa.float32()),
        "2": pa.int64(),
        "3": pa.string(),
        "4": pa.int32(),
        "5": pa.int64(),
    }
    sql = "SELECT id FROM vector_search('near', {}, 1)"
    for query, kind in {"(SELECT e FROM docs WHERE year = ?)": pa.int32(), "CAST(? AS VARCHAR)": pa.string()}.items():
        planned = docs.queries.plan(Request(rights=UNRESTRICTED, sql=sql.format(query)))
        assert docs.queries.parameter_types(planned) == {"1": kind}
    assert ids(docs, sql.format("CAST(? AS VARCHAR)"), parameters=bound("[2, 0]")) == [2]


def test_a_search_is_about_the_version_of_the_statement(docs: Lakehouse) -> None:
    before = docs.catalog.snapshot().version
    run(docs, "UPDATE docs SET e = [9, 0] WHERE id = 5")
    run(docs, "DELETE FROM docs WHERE id = 6")
    search = NEAR.format("[6, 0]")

    assert rows(docs, search) == [(3, 3.0), (5, 3.0), (2, 4.0)]
    assert rows(docs, search, as_of=before) == [(6, 0.0), (5, 1.0), (3, 3.0)]
    again = "SELECT id FROM vector_search('near', (SELECT e FROM docs FOR VERSION AS OF {} WHERE id = 5), 1)"
    assert ids(docs, again.format(before)) == [3]

    refresh(docs, "near")
    assert rows(docs, search) == [(3, 3.0), (5, 3.0), (2, 4.0)]
    for _ in docs.compactor.compact(DatasetKey("primary", "docs"), operation(), Wanted(2**20, 2**20)):
        pass
    assert rows(docs, search) == [(3, 3.0), (5, 3.0), (2, 4.0)]
    assert rows(docs, search, as_of=before) == [(6, 0.0), (5, 1.0), (3, 3.0)]


def test_a_transaction_finds_its_own_rows(docs: Lakehouse) -> None:
    transaction = docs.transactions.get(docs.transactions.begin("ada"))
    run(docs, "INSERT INTO docs VALUES (7, 2007, [4, 0])", transaction=transaction)
    run(docs, "DELETE FROM docs WHERE id = 3", transaction=transaction)
    search = "SELECT id FROM vector_search('near', [4, 0], 2)"

    assert ids(docs, search, transaction=transaction) == [7, 5]
    assert ids(docs, search) == [3, 5]
    run(
        docs,
        "DELETE FROM docs WHERE id IN (SELECT id FROM vector_search('near', [4, 0], 1))",
        transaction=transaction,
    )
    assert ids(docs, search, transaction=transaction) == [5, 2]


def test_a_search_runs_within_the_limits_of_its_statement(docs: Lakehouse) -> None:
    endless = "(SELECT [sum(value) * 0, 0] FROM generate_series(1, 1000000000000))"
    run(docs, f"CREATE VIEW nearest AS {NEAR.format(endless)}")
    run(docs, "CREATE VIEW outer_view AS SELECT n.id FROM nearest AS n, docs")

    with engine_watched() as ended:
        for sql in (NEAR.format(endless), "SELECT * FROM nearest", "SELECT * FROM outer_view"):
            with pytest.raises(QueryTimeout):
                run(docs, sql, timeout_seconds=0.2)
        assert ended()  # those of views are made by threads, which the statement doesn't wait for


def test_indexes_are_listed(docs: Lakehouse) -> None:
    run(docs, "ALTER TABLE docs RENAME COLUMN e TO embedding")
    run(docs, "DELETE FROM docs WHERE id = 6")
    run(docs, "ALTER TABLE docs RENAME TO texts")

    [listed] = run(docs, "SELECT * FROM system.indexes").to_pylist()

    assert isinstance(listed.pop("created"), datetime)
    index = docs.catalog.snapshot().index("near")
    assert index.created.tzinfo is UTC
    assert listed == {
        "bucket": "primary",
        "name": "near",
        "id": index.id,
        "dataset_bucket": "primary",
        "dataset": "texts",
        "column": "embedding",
        "metric": "l2",
        "dimension": 2,
        "precision": "float32",
        "vectors": 3,
        "skipped": 1,
        "bytes": index.generation.bytes,
        "unindexed_rows": 1,
        "version": index.version,
        "generation": index.generation.id,
        "key": index.generation.key,
    }
    run(docs, "ALTER TABLE texts DROP COLUMN embedding")
    assert rows(docs, 'SELECT "column", dataset FROM system.indexes') == [(None, "texts")]
