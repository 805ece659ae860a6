"""Searches get generated names, and everything else of the statement stays as it is."""

from __future__ import annotations

import pytest

from flightserver.errors import InvalidRequest
from flightserver.query.language.changes import CreateView, Merge
from flightserver.query.language.searches import MAX_DEPTH, MAX_K, Bound, Search
from flightserver.query.language.statements import AsOf, TableName, parse

CALL = "vector_search('i', [1, 2], 3)"
FOUND = Search("__search_0", "i", "[1, 2]", 3)


@pytest.mark.parametrize(
    ("call", "search"),
    [
        (CALL, FOUND),
        ("VECTOR_SEARCH ('i',[1, 2],3)", FOUND),
        ("vector_search(/* by */ 'i', [1, 2], 3 -- rows\n)", FOUND),
        ("vector_search('i', [1, 2], 3, NULL)", FOUND),
        ("vector_search('i', [1, 2], filter => null, k => 3)", FOUND),
        ("vector_search(index => 'i', query => [1, 2], k => 3)", FOUND),
        ("vector_search(k => 3, query => [1, 2], index => 'i')", FOUND),
        ("vector_search('b.i', ARRAY[1], 3)", Search("__search_0", "b.i", "ARRAY[1]", 3)),
        ("vector_search('o''i', '[1, 2]', 3)", Search("__search_0", "o'i", "'[1, 2]'", 3)),
        ("vector_search($$i$$, f(1, (2)), 3)", Search("__search_0", "i", "f(1, (2))", 3)),
        ("vector_search('i', $v, $n, $f)", Search("__search_0", "i", "$v", Bound("n"), Bound("f"))),
        ("vector_search('i', ?, ?, ?)", Search("__search_0", "i", "$1", Bound("2"), Bound("3"))),
        ("vector_search('i', 1, 2, 'a = ''x'', b')", Search("__search_0", "i", "1", 2, "a = 'x', b")),
        (
            "vector_search('i', (SELECT e FROM t WHERE a IN (1, 2)), 10000, filter => 'a > 1')",
            Search("__search_0", "i", "(SELECT e FROM t WHERE a IN (1, 2))", MAX_K, "a > 1"),
        ),
    ],
)
def test_every_way_to_write_a_call(call: str, search: Search) -> None:
    statement = parse(f"SELECT * FROM {call} WHERE a = 1")

    assert statement.sql == 'SELECT * FROM "__search_0" AS "vector_search" WHERE a = 1'
    assert statement.searches == (search,)


@pytest.mark.parametrize(
    ("query", "rewritten"),
    [
        ("FROM {} AS x", 'FROM "__search_0" AS x'),
        ("FROM {} x(a, b) WHERE 1", 'FROM "__search_0" x(a, b) WHERE 1'),
        ("FROM t JOIN {} USING (i)", 'FROM t JOIN "__search_0" AS "vector_search" USING (i)'),
        ("FROM t, u AS v, {} ORDER BY 1", 'FROM t, u AS v, "__search_0" AS "vector_search" ORDER BY 1'),
        ("FROM (SELECT 1) AS s, {}", 'FROM (SELECT 1) AS s, "__search_0" AS "vector_search"'),
        ("FROM ({} JOIN u ON true)", 'FROM ("__search_0" AS "vector_search" JOIN u ON true)'),
        ("WHERE a IN (SELECT b FROM {} LIMIT 1)", 'WHERE a IN (SELECT b FROM "__search_0" AS "vector_search" LIMIT 1)'),
        ("FROM {} UNION ALL SELECT 2", 'FROM "__search_0" AS "vector_search" UNION ALL SELECT 2'),
        ("FROM {0} a, {0} b", 'FROM "__search_0" a, "__search_0" b'),
    ],
)
def test_a_call_stands_where_a_table_does(query: str, rewritten: str) -> None:
    statement = parse("SELECT 1 " + query.format(CALL))

    assert statement.sql == "SELECT 1 " + rewritten
    assert statement.searches == (FOUND,)


@pytest.mark.parametrize(
    "sql",
    [
        'SELECT "vector_search"(1) FROM t',
        "SELECT vector_search FROM vector_search",
        "SELECT 'vector_search(1)' AS vector_search",
        "SELECT s.vector_search(1) FROM t",
        "SELECT 1 -- vector_search('i', 1, 2)",
    ],
)
def test_what_only_looks_like_a_call_stays(sql: str) -> None:
    statement = parse(sql)

    assert sql.startswith(statement.sql)
    assert statement.searches == ()


def test_a_search_for_what_another_finds_comes_after_it() -> None:
    statement = parse(
        "WITH w AS (SELECT * FROM vector_search('i', (SELECT e FROM vector_search('j', [1], 1) WHERE a = ?), ?)) "
        "SELECT * FROM w, vector_search('j', [1], 1) LIMIT ?"
    )

    assert statement.sql == (
        'WITH w AS (SELECT * FROM "__search_1" AS "vector_search") '
        'SELECT * FROM w, "__search_0" AS "vector_search" LIMIT $3'
    )
    inner = Search("__search_0", "j", "[1]", 1)
    outer = '(SELECT e FROM "__search_0" AS "vector_search" WHERE a = $1)'
    assert statement.searches == (inner, Search("__search_1", "i", outer, Bound("2")))
    assert statement.placeholders == ("1", "2", "3")


def test_placeholders_of_calls_are_those_of_the_statement_in_its_order() -> None:
    assert parse("SELECT $b FROM vector_search('i', $q, $k) WHERE x = $b AND y = $a").placeholders == (
        "b",
        "q",
        "k",
        "a",
    )


def test_what_is_searched_for_may_be_of_another_time() -> None:
    statement = parse("SELECT 1 FROM vector_search('i', (SELECT e FROM t FOR VERSION AS OF 3), 1) AS s")

    assert statement.sql == 'SELECT 1 FROM "__search_0" AS s'
    assert statement.searches == (Search("__search_0", "i", '(SELECT e FROM "__as_of_0" AS "t")', 1),)
    assert statement.as_of == (AsOf("__as_of_0", TableName("t"), 3),)


def test_statements_that_change_may_search() -> None:
    merge = parse(f"MERGE INTO t USING {CALL} AS s ON t.a = s.a WHEN MATCHED THEN DELETE").change
    view = parse(f"CREATE VIEW v AS SELECT * FROM {CALL}").change

    assert isinstance(merge, Merge)
    assert (merge.source, merge.source_name) == ('"__search_0" AS s', "s")
    assert isinstance(view, CreateView)
    assert view.definition == f"SELECT * FROM {CALL}"


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        (f"SELECT {CALL}", "answers rows: it stands where a table is read"),
        (f"SELECT a, {CALL} FROM t", "answers rows: it stands where a table is read"),
        (f"SELECT * FROM t WHERE a IN ({CALL})", "answers rows: it stands where a table is read"),
        (f"SELECT * FROM f(1, {CALL})", "answers rows: it stands where a table is read"),
        (f"DELETE FROM {CALL}", "answers rows: it stands where a table is read"),
        (f"UPDATE {CALL} SET a = 1", "answers rows: it stands where a table is read"),
        (f"SELECT * FROM {CALL} FOR VERSION AS OF 3", "to search at an earlier version, set the option as_of"),
        ("SELECT * FROM vector_search()", "expected the argument index of vector_search, found '\\)'"),
        ("SELECT * FROM vector_search('i', [1])", r"lacks k: expected vector_search\('index', query, k\)"),
        ("SELECT * FROM vector_search('i', [1], 1, 'a', 2)", "more than 4 arguments"),
        ("SELECT * FROM vector_search('i', k => 1, [1])", "expected name => value"),
        ("SELECT * FROM vector_search('i', k => 1, k => 2)", "argument k of vector_search is given twice"),
        ("SELECT * FROM vector_search('i', index => 'j')", "argument index of vector_search is given twice"),
        ("SELECT * FROM vector_search('i', metric => 'l2')", "one of the arguments index, query, k, filter"),
        ("SELECT * FROM vector_search(i, [1], 1)", "must be the name of an index in quotes.*found i"),
        ("SELECT * FROM vector_search($1, [1], 1)", r"must be the name of an index in quotes.*found \$1"),
        ("SELECT * FROM vector_search('i', [1], '1')", "argument k .* must be a whole number or a placeholder"),
        ("SELECT * FROM vector_search('i', [1], 1.5)", "argument k .* must be a whole number or a placeholder"),
        ("SELECT * FROM vector_search('i', [1], 0)", "k of vector_search is 0: it must be from 1 to 10,000"),
        ("SELECT * FROM vector_search('i', [1], 10001)", "k of vector_search is 10001"),
        ("SELECT * FROM vector_search('i', [1], 1, a > 1)", "must be a predicate in quotes or a placeholder"),
        ("SELECT * FROM vector_search('i', [1], 1, $1 + 1)", "must be a predicate in quotes or a placeholder"),
        ("SELECT * FROM vector_search('i', [1)], 1)", "expected ']'"),
        ("SELECT * FROM vector_search('i', `1`, 1)", "names are quoted by"),
        ("SELECT * FROM vector_search('i', [1], 1", "expected ',' or '\\)', found the end of the statement"),
        ("CREATE VIEW v AS SELECT * FROM vector_search('i', $1, 1)", r"\$1 in a view is refused"),
    ],
)
def test_a_call_that_is_malformed_or_misplaced_is_refused(sql: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        parse(sql)


def nested(depth: int) -> str:
    """A search for what a search finds, and so on."""
    query = "[1, 2]"
    for k in range(1, depth + 1):
        query = f"(SELECT e FROM vector_search('i', {query}, {k}))"
    return f"SELECT {query}"


def test_searches_are_inside_of_each_other_so_far_and_no_further() -> None:
    assert [search.k for search in parse(nested(MAX_DEPTH)).searches] == [*range(1, MAX_DEPTH + 1)]
    for depth in (MAX_DEPTH + 1, 1000):
        with pytest.raises(InvalidRequest, match="vector_search is inside of 16 others"):
            parse(nested(depth))


def test_a_call_is_found_behind_any_number_of_brackets() -> None:
    assert parse(f"SELECT 1 FROM {'(' * 3000}{CALL}{')' * 3000}").searches == (FOUND,)
