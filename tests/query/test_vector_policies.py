"""Searches by somebody whom policies show only a part: hidden rows are never found, and nothing tells of them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from query.asking import bound, rows, run
from query.vectors import make_index, operation

from flightserver.access.principal import Principal
from flightserver.catalog.identities import ADMIN, Grant, Policy, Privilege, Role
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.updates import PutPolicy, PutRole
from flightserver.errors import Forbidden, InvalidRequest, NotFound, RequestError

if TYPE_CHECKING:
    from flightserver.access.rights import Rights
    from flightserver.lakehouse import Lakehouse

SEARCH = "SELECT id, owner, _distance FROM vector_search('near', [1, 0], 3)"


@pytest.fixture
def files(lakehouse: Lakehouse) -> Lakehouse:
    """Files of two people, of which the nearest are Ann's; others' indexes and tables as well."""
    run(lakehouse, "CREATE TABLE files (id BIGINT NOT NULL, owner VARCHAR NOT NULL, secret VARCHAR, e FLOAT[])")
    run(
        lakehouse,
        "INSERT INTO files VALUES (1, 'ann', '7', [1, 0]), (2, 'ann', 'x', [2, 0]), (3, 'bob', '8', [3, 0]), "
        "(4, 'bob', '9', [4, 0])",
    )
    make_index(lakehouse, "near", "files", metric="l2")
    run(lakehouse, "INSERT INTO files VALUES (5, 'bob', '10', [9, 0]), (6, 'ann', 'y', [1, 0])")
    run(lakehouse, "CREATE TABLE others AS SELECT 1 AS id, [1.0] AS e")
    make_index(lakehouse, "others_near", "others")
    return lakehouse


def put(lakehouse: Lakehouse, *updates: Any) -> None:
    lakehouse.catalog.commit(Transaction(operation(), updates))


def policy(lakehouse: Lakehouse, **what: Any) -> None:
    put(lakehouse, PutPolicy(Policy("own", "primary", "files", **what)))


def user(lakehouse: Lakehouse, name: str = "bob", role: str = "reader") -> Rights:
    return lakehouse.access.rights(Principal(name, frozenset({role}), "password"))


def test_hidden_rows_are_never_found(files: Lakehouse) -> None:
    policy(files, filter="owner = current_user")
    bob, admin = user(files), user(files, "root", ADMIN)

    assert rows(files, SEARCH, rights=bob) == [(3, "bob", 2.0), (4, "bob", 3.0), (5, "bob", 8.0)]
    assert rows(files, SEARCH, rights=user(files, "eve")) == []
    assert [row[0] for row in rows(files, SEARCH, rights=admin)] == [1, 6, 2]
    again = "SELECT id FROM vector_search('near', [1, 0], 2, 'id <> 3')"
    assert rows(files, again, rights=bob) == [(4,), (5,)]
    around = "SELECT id FROM vector_search('near', [1, 0], 9, 'id IN (SELECT id FROM files) OR owner = ''ann''')"
    assert rows(files, around, rights=bob) == [(3,), (4,), (5,)]
    assert rows(files, "SELECT count(*) FROM vector_search('near', [1, 0], 9)", rights=bob) == [(3,)]


def test_masks_are_in_the_answer_and_in_the_filter(files: Lakehouse) -> None:
    policy(files, masks={"secret": "'***'", "owner": "CASE WHEN id > 4 THEN owner END"})
    bob = user(files)
    search = "SELECT id, owner, secret FROM vector_search('near', [1, 0], 4, ?)"

    assert rows(files, search, rights=bob, parameters=bound("secret = '***' AND id <> 2")) == [
        (1, None, "***"),
        (6, "ann", "***"),
        (3, None, "***"),
        (4, None, "***"),
    ]
    assert rows(files, search, rights=bob, parameters=bound("secret = '7'")) == []
    assert rows(files, search.replace("?", "NULL"), rights=bob)[1:2] == [(6, "ann", "***")]


@pytest.mark.parametrize("around", ["avg(id) OVER ()", "(SELECT avg(id) FROM __protected)"])
@pytest.mark.parametrize("filtered", ["", "owner = 'bob'"])
def test_a_mask_that_looks_at_other_rows_sees_all_of_them_and_not_those_found(
    files: Lakehouse, around: str, filtered: str
) -> None:
    policy(files, filter=filtered, masks={"secret": f"CAST({around} AS VARCHAR)"})
    bob = user(files)

    [(average,)] = set(rows(files, "SELECT secret FROM files", rights=bob))

    assert rows(files, "SELECT id, secret FROM vector_search('near', [4, 0], 1)", rights=bob) == [(4, average)]
    found = rows(files, "SELECT secret, e FROM vector_search('near', [4, 0], 2, 'id > 3')", rights=bob)
    assert found == [(average, [4.0, 0.0]), (average, [1.0, 0.0] if not filtered else [9.0, 0.0])]


def test_filters_and_masks_together(files: Lakehouse) -> None:
    policy(files, filter="owner = current_user AND secret <> '9'", masks={"secret": "'is ' || id", "id": "id * 10"})

    found = run(files, "SELECT * FROM vector_search('near', [9, 0], 2, 'id > 10')", rights=user(files))

    assert found.to_pylist() == [
        {"id": 50, "owner": "bob", "secret": "is 5", "e": [9, 0], "_distance": 0},
        {"id": 30, "owner": "bob", "secret": "is 3", "e": [3, 0], "_distance": 6},
    ]


def test_a_filter_fails_by_no_hidden_row_and_quotes_none(files: Lakehouse) -> None:
    policy(files, filter="owner = current_user")
    numbers = "SELECT id FROM vector_search('near', [1, 0], 3, 'CAST(secret AS INT) > 8')"

    assert rows(files, numbers, rights=user(files)) == [(4,), (5,)]
    with pytest.raises(InvalidRequest, match=r"Cannot cast string '[xy]'"):
        run(files, numbers, rights=user(files, "ann"))


@pytest.mark.parametrize(
    "condition",
    [
        "true) OR (true",
        "true) UNION SELECT _rid FROM __protected --",
        "true) UNION SELECT 1 --",
        "id IN (SELECT id FROM __protected)",
        "id IN (SELECT id FROM __target)",
        'id IN (SELECT id FROM lakehouse.__bare."__protected")',
        "id IN (SELECT id FROM others_view)",
        "`) OR (` = `",
        "'` = '') OR true OR (id = '`'",
        "true /* ) OR ( */ OR owner IS NOT NULL",
        "true OR owner = $$) OR ($$",
        "1 = 1 OR (SELECT count(*) FROM __candidates) > 3",
    ],
)
def test_no_filter_reaches_around_a_policy(files: Lakehouse, condition: str) -> None:
    policy(files, filter="owner = current_user")

    found: list[Any] = []
    search = "SELECT owner FROM vector_search('near', [1, 0], 9, ?)"
    with contextlib.suppress(RequestError):
        found = rows(files, search, rights=user(files), parameters=bound(condition))
    assert {owner for (owner,) in found} <= {"bob"}


def test_what_is_masked_cannot_be_searched(files: Lakehouse) -> None:
    policy(files, masks={"e": "NULL"})

    with pytest.raises(Forbidden, match=r"policies mask column 'e'.*distances would tell its values"):
        run(files, SEARCH, rights=user(files))
    put(files, PutPolicy(Policy("own", "primary", "files", tags={"pii": "NULL"})))
    assert len(rows(files, SEARCH, rights=user(files))) == 3


def test_a_view_is_searched_with_the_rights_of_who_reads_it(files: Lakehouse) -> None:
    run(files, f"CREATE VIEW nearest AS {SEARCH}")
    policy(files, filter="owner = current_user")

    assert [row[0] for row in rows(files, "SELECT * FROM nearest", rights=user(files))] == [3, 4, 5]
    assert [row[0] for row in rows(files, "SELECT * FROM nearest")] == [1, 6, 2]


def test_a_policy_may_read_a_view_that_searches(files: Lakehouse) -> None:
    run(files, "CREATE VIEW allowed AS SELECT id FROM vector_search('near', [4, 0], 2)")
    policy(files, filter="id IN (SELECT id FROM allowed)")

    assert rows(files, "SELECT id FROM files ORDER BY id", rights=user(files)) == [(3,), (4,)]
    assert [row[0] for row in rows(files, SEARCH, rights=user(files))] == [3, 4]


@pytest.mark.parametrize("verb", ["EXPLAIN", "EXPLAIN ANALYZE"])
def test_searches_of_what_is_protected_are_not_explained(files: Lakehouse, verb: str) -> None:
    assert rows(files, f"{verb} {SEARCH}", rights=user(files))
    policy(files, filter="owner = current_user")
    with pytest.raises(Forbidden, match="EXPLAIN is not available"):
        run(files, f"{verb} {SEARCH}", rights=user(files))


def test_an_index_of_what_may_not_be_seen_does_not_exist(files: Lakehouse) -> None:
    put(files, PutRole(Role("few", (Grant((Privilege.SELECT,), "primary", "files"),))))
    few = user(files, role="few")

    assert rows(files, "SELECT name FROM system.indexes", rights=few) == [("near",)]
    assert len(rows(files, SEARCH, rights=few)) == 3
    with pytest.raises(NotFound, match=r"no vector index 'others_near'; there are: \"primary\"\.near"):
        run(files, "SELECT id FROM vector_search('others_near', [1], 1)", rights=few)


def test_numbers_of_an_index_are_not_told_where_rows_are_hidden(files: Lakehouse) -> None:
    policy(files, filter="owner = current_user")
    numbers = "SELECT vectors, skipped, bytes, unindexed_rows FROM system.indexes WHERE name = 'near'"

    assert rows(files, numbers, rights=user(files)) == [(None, None, None, None)]
    assert rows(files, numbers)[0][::3] == (4, 2)
