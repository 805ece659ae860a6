"""Primary and foreign keys: what can be declared, what becomes of them, and what `information_schema` says."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from bucketing import add_bucket, commit
from query.asking import count, rows, run
from query.keyed import named, referring
from tables.moving import move

from flightserver.catalog.entities import DatasetKey
from flightserver.catalog.updates import RenameBucket
from flightserver.errors import AlreadyExists, InvalidRequest, NotFound, SchemaMismatch
from flightserver.flight.sql.metadata import RULES

if TYPE_CHECKING:
    from collections.abc import Callable

    from flightserver.lakehouse import Lakehouse


@pytest.fixture
def shop(lakehouse: Lakehouse) -> Lakehouse:
    """People who order things that come in parts."""
    run(lakehouse, "CREATE TABLE people (id BIGINT PRIMARY KEY, boss BIGINT REFERENCES people, name TEXT)")
    run(lakehouse, "CREATE TABLE parts (maker TEXT, number INT, PRIMARY KEY (maker, number))")
    return lakehouse


@pytest.fixture
def orders(shop: Lakehouse) -> Lakehouse:
    run(shop, "CREATE TABLE orders (id INT PRIMARY KEY, who INT REFERENCES people (id) ON DELETE CASCADE)")
    return shop


def test_a_column_refers_to_the_primary_key_of_another_table(orders: Lakehouse) -> None:
    assert referring(orders) == [
        ("primary", "orders_who_fkey", "orders", "who", "primary", "people", "id"),
        ("primary", "people_boss_fkey", "people", "boss", "primary", "people", "id"),
        ("public", "orders_who_fkey", "orders", "who", "public", "people", "id"),
        ("public", "people_boss_fkey", "people", "boss", "public", "people", "id"),
    ]


def test_columns_of_a_key_may_come_in_any_order_and_keep_what_they_refer_to(shop: Lakehouse) -> None:
    run(
        shop,
        "CREATE TABLE stock (n INT, m TEXT, CONSTRAINT part FOREIGN KEY (n, m) REFERENCES parts (number, maker))",
    )

    assert [row for row in referring(shop) if row[:2] == ("public", "part")] == [
        ("public", "part", "stock", "n", "public", "parts", "number"),
        ("public", "part", "stock", "m", "public", "parts", "maker"),
    ]


def test_information_schema_has_the_columns_of_postgresql(shop: Lakehouse) -> None:
    run(
        shop,
        "CREATE TABLE stock (n INT, m TEXT PRIMARY KEY, CONSTRAINT part FOREIGN KEY (n, m) "
        "REFERENCES parts (number, maker) ON UPDATE SET NULL ON DELETE RESTRICT)",
    )

    def told(table: str, order: str) -> list[tuple[Any, ...]]:
        of_stock = "constraint_schema = 'public' AND constraint_name IN ('stock_pkey', 'part')"
        return rows(shop, f"SELECT * FROM information_schema.{table} WHERE {of_stock} ORDER BY {order}")

    here = ("lakehouse", "public")
    assert told("table_constraints", "constraint_name") == [
        (*here, "part", *here, "stock", "FOREIGN KEY", "NO", "NO", "NO", None),
        (*here, "stock_pkey", *here, "stock", "PRIMARY KEY", "NO", "NO", "NO", None),
    ]
    assert told("key_column_usage", "constraint_name, ordinal_position") == [
        (*here, "part", *here, "stock", "n", 1, 2),
        (*here, "part", *here, "stock", "m", 2, 1),
        (*here, "stock_pkey", *here, "stock", "m", 1, None),
    ]
    assert told("referential_constraints", "constraint_name") == [
        (*here, "part", *here, "parts_pkey", "NONE", "SET NULL", "RESTRICT")
    ]
    assert told("constraint_column_usage", "constraint_name, column_name") == [
        (*here, "parts", "maker", *here, "part"),
        (*here, "parts", "number", *here, "part"),
        (*here, "stock", "m", *here, "stock_pkey"),
    ]


def test_a_key_of_one_bucket_refers_to_another(shop: Lakehouse) -> None:
    add_bucket(shop, "testing")
    run(shop, 'CREATE TABLE testing.people (id BIGINT PRIMARY KEY REFERENCES "primary".people)')
    run(shop, "CREATE TABLE testing.pets (owner BIGINT REFERENCES testing.people, boss BIGINT REFERENCES people)")

    assert [row for row in referring(shop) if row[2] == "pets" or row[0] == "testing"] == [
        ("public", "pets_boss_fkey", "pets", "boss", "public", "people", "id"),
        # What is in `public` under that name is another table.
        ("public", "pets_owner_fkey", "pets", "owner", "testing", "people", "id"),
        ("testing", "people_id_fkey", "people", "id", "primary", "people", "id"),
        ("testing", "pets_boss_fkey", "pets", "boss", "primary", "people", "id"),
        ("testing", "pets_owner_fkey", "pets", "owner", "testing", "people", "id"),
    ]


def test_the_rows_of_a_query_have_the_keys_that_are_declared(shop: Lakehouse) -> None:
    run(shop, "CREATE TABLE listed (a BIGINT PRIMARY KEY, b BIGINT REFERENCES people) AS SELECT 1, 2")
    run(
        shop,
        "CREATE TABLE taken (CONSTRAINT k PRIMARY KEY (a), FOREIGN KEY (b) REFERENCES people) AS SELECT * FROM listed",
    )

    assert (named(shop, "listed"), named(shop, "taken")) == (["listed_pkey", "listed_b_fkey"], ["k", "taken_b_fkey"])
    assert rows(shop, "SELECT * FROM taken") == [(1, 2)]
    assert shop.catalog.snapshot().dataset("taken").primary_key == ("a",)


def test_nothing_makes_sure_of_foreign_keys(orders: Lakehouse) -> None:
    assert count(orders, "INSERT INTO orders VALUES (1, 99)") == 1
    assert count(orders, "INSERT INTO people VALUES (99, 98, 'Ada')") == 1
    assert count(orders, "DELETE FROM people") == 1
    assert rows(orders, "SELECT * FROM orders") == [(1, 99)]


@pytest.mark.parametrize(
    ("columns", "error", "reason"),
    [
        ("a INT REFERENCES nobody", NotFound, "nobody"),
        ("a INT REFERENCES nowhere.people", NotFound, "nowhere"),
        ("a INT REFERENCES system.datasets", NotFound, "datasets"),
        ("a BIGINT REFERENCES seen", InvalidRequest, '"primary".seen, which is a view: it refers to a table'),
        ("a INT REFERENCES plain", InvalidRequest, '"primary".plain, which has no primary key'),
        (
            'a BIGINT REFERENCES people ("ID")',
            NotFound,
            'foreign key "t_a_fkey" of "primary".t names column "ID", which "primary".people does not have',
        ),
        ("FOREIGN KEY (x) REFERENCES people, a INT", NotFound, 'names column "x", which "primary".t does not have'),
        (
            "a TEXT, b INT, FOREIGN KEY (a, b) REFERENCES people (id)",
            InvalidRequest,
            'foreign key "t_a_b_fkey" of "primary".t has 2 columns (a, b) and refers to 1 (id) of "primary".people',
        ),
        ("a TEXT REFERENCES parts", InvalidRequest, "has 1 columns (a) and refers to 2 (maker, number)"),
        (
            "a BIGINT REFERENCES people (boss)",
            InvalidRequest,
            "there is no unique constraint matching these columns: its primary key is (id)",
        ),
        (
            "a INT REFERENCES plain (n)",
            InvalidRequest,
            "no unique constraint matching these columns: it has no primary key",
        ),
        (
            "a TEXT REFERENCES people",
            SchemaMismatch,
            'column "a" is string and "id" of "primary".people is int64, which have no type in common',
        ),
        ("a INT, b INT REFERENCES t (a)", InvalidRequest, "it has no primary key"),
        (
            "a BIGINT CONSTRAINT k REFERENCES people, b BIGINT CONSTRAINT k REFERENCES people",
            AlreadyExists,
            '"primary".t has a constraint "k" already: say another name',
        ),
        (
            "a BIGINT CONSTRAINT t_pkey REFERENCES people PRIMARY KEY",
            AlreadyExists,
            'has a constraint "t_pkey" already',
        ),
    ],
)
def test_keys_that_refer_to_nothing_are_refused(
    shop: Lakehouse, columns: str, error: type[Exception], reason: str
) -> None:
    run(shop, "CREATE TABLE plain (n INT)")
    run(shop, "CREATE VIEW seen AS SELECT id FROM people")

    with pytest.raises(error, match=re.escape(reason)):
        run(shop, f"CREATE TABLE t ({columns})")
    assert DatasetKey("primary", "t") not in shop.catalog.snapshot().datasets


def test_names_that_nobody_gave_are_those_of_postgresql(shop: Lakehouse) -> None:
    run(
        shop,
        "CREATE TABLE t (a BIGINT REFERENCES people REFERENCES people (ID), b INT, c TEXT, "
        "FOREIGN KEY (c, b) REFERENCES parts)",
    )

    assert named(shop, "t") == ["t_a_fkey", "t_a_fkey1", "t_c_b_fkey"]


def test_constraints_are_added_and_dropped_by_name(shop: Lakehouse) -> None:
    run(shop, "CREATE TABLE t (a BIGINT, b BIGINT)")

    run(shop, "ALTER TABLE t ADD CONSTRAINT main PRIMARY KEY (a), ADD FOREIGN KEY (b) REFERENCES people")
    run(shop, "ALTER TABLE t ADD CONSTRAINT self FOREIGN KEY (b) REFERENCES t ON DELETE SET NULL")
    run(shop, "ALTER TABLE t ADD COLUMN c BIGINT REFERENCES people")
    run(shop, "ALTER TABLE t ADD COLUMN IF NOT EXISTS c BIGINT REFERENCES people")
    assert named(shop, "t") == ["main", "self", "t_b_fkey", "t_c_fkey"]
    with pytest.raises(AlreadyExists, match='has a constraint "self" already'):
        run(shop, "ALTER TABLE t ADD CONSTRAINT self FOREIGN KEY (b) REFERENCES people")
    with pytest.raises(NotFound, match='has no constraint "t_pkey"; it has "main", "t_b_fkey", "self", "t_c_fkey"'):
        run(shop, "ALTER TABLE t DROP CONSTRAINT t_pkey")

    run(shop, "ALTER TABLE t DROP CONSTRAINT IF EXISTS t_pkey")
    run(shop, "ALTER TABLE t DROP CONSTRAINT main, DROP CONSTRAINT t_b_fkey CASCADE")
    # The key of a table to itself has lost what it refers to.
    assert named(shop, "t") == ["t_c_fkey"]
    assert shop.catalog.snapshot().dataset("t").primary_key == ()

    run(shop, "ALTER TABLE t ADD PRIMARY KEY (b)")
    run(shop, "ALTER TABLE t DROP CONSTRAINT t_pkey, DROP COLUMN c")
    assert named(shop, "t") == []
    with pytest.raises(AlreadyExists, match='foreign key of the name "self"'):
        run(shop, "ALTER TABLE t ADD CONSTRAINT self PRIMARY KEY (a)")
    run(shop, "ALTER TABLE t ADD CONSTRAINT t_pkey FOREIGN KEY (a) REFERENCES people")
    with pytest.raises(AlreadyExists, match='foreign key of the name "t_pkey"'):
        run(shop, "ALTER TABLE t ADD PRIMARY KEY (a)")


def test_a_step_that_fails_adds_no_key(shop: Lakehouse) -> None:
    run(shop, "CREATE TABLE t (a BIGINT)")

    with pytest.raises(NotFound, match="nobody"):
        run(shop, "ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES people, ADD FOREIGN KEY (a) REFERENCES nobody")

    assert shop.catalog.snapshot().dataset("t").foreign_keys == ()


def rename_table(lakehouse: Lakehouse) -> None:
    run(lakehouse, "ALTER TABLE people RENAME TO persons")


def rename_columns(lakehouse: Lakehouse) -> None:
    run(lakehouse, "ALTER TABLE people RENAME id TO tmp, RENAME name TO id, RENAME tmp TO name")
    run(lakehouse, "ALTER TABLE people RENAME COLUMN name TO other, RENAME COLUMN other TO number")
    run(lakehouse, "ALTER TABLE orders RENAME COLUMN who TO whom")


def move_and_rename_the_bucket(lakehouse: Lakehouse) -> None:
    add_bucket(lakehouse, "far")
    move(lakehouse, "people", "far")
    commit(lakehouse, RenameBucket("far", "near"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (rename_table, [("orders", "who", "public", "persons", "id"), ("persons", "boss", "public", "persons", "id")]),
        (
            rename_columns,
            [("orders", "whom", "public", "people", "number"), ("people", "boss", "public", "people", "number")],
        ),
        (
            move_and_rename_the_bucket,
            [("orders", "who", "public", "people", "id"), ("people", "boss", "public", "people", "id")],
        ),
    ],
)
def test_keys_follow_what_they_refer_to(
    orders: Lakehouse, change: Callable[[Lakehouse], None], expected: list[tuple[str, ...]]
) -> None:
    change(orders)

    assert [(row[2], *row[3:]) for row in referring(orders) if row[0] == "public"] == expected


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE people",
        "CREATE OR REPLACE TABLE people (id BIGINT PRIMARY KEY)",
        "ALTER TABLE people DROP CONSTRAINT people_pkey",
        "ALTER TABLE orders DROP COLUMN who",
        "ALTER TABLE orders DROP CONSTRAINT orders_who_fkey",
        "CREATE OR REPLACE TABLE orders AS SELECT 1 AS id",
    ],
)
def test_a_key_ends_with_what_it_is_about(orders: Lakehouse, statement: str) -> None:
    run(orders, statement)

    assert "orders_who_fkey" not in {row[1] for row in referring(orders)}
    assert "orders_who_fkey" not in named(orders, "orders")


def test_the_name_of_a_key_that_has_ended_is_free_again(orders: Lakehouse) -> None:
    run(orders, "CREATE OR REPLACE TABLE people (id BIGINT PRIMARY KEY)")

    run(orders, "ALTER TABLE orders ADD FOREIGN KEY (who) REFERENCES people")

    assert named(orders, "orders") == ["orders_pkey", "orders_who_fkey"]


def test_replacing_rows_keeps_keys_and_declaring_others_replaces_them(orders: Lakehouse) -> None:
    run(orders, "CREATE OR REPLACE TABLE orders AS SELECT 1 AS id, 2 AS who")
    assert named(orders, "orders") == ["orders_pkey", "orders_who_fkey"]

    run(orders, "CREATE OR REPLACE TABLE orders (CONSTRAINT o FOREIGN KEY (id) REFERENCES people) AS SELECT 1 AS id")
    assert named(orders, "orders") == ["orders_pkey", "o"]


def test_keys_of_the_past_are_those_of_then(orders: Lakehouse) -> None:
    version = orders.catalog.snapshot().version
    run(orders, "DROP TABLE people")

    assert "orders_who_fkey" in {row[1] for row in referring(orders, as_of=version)}


def test_keys_that_are_added_at_once_are_all_kept(shop: Lakehouse) -> None:
    columns = [f"c{number}" for number in range(6)]
    run(shop, f"CREATE TABLE t ({', '.join(f'{column} BIGINT' for column in columns)})")

    with ThreadPoolExecutor(len(columns)) as pool:
        list(pool.map(lambda column: run(shop, f"ALTER TABLE t ADD FOREIGN KEY ({column}) REFERENCES people"), columns))

    assert named(shop, "t") == [f"t_{column}_fkey" for column in columns]


def test_tables_of_one_transaction_refer_to_each_other(shop: Lakehouse) -> None:
    transaction = shop.transactions.get(shop.transactions.begin("ada"))
    for statement in (
        "CREATE TABLE rooms (number INT PRIMARY KEY)",
        "CREATE TABLE visits (room INT REFERENCES rooms, who BIGINT)",
        "ALTER TABLE visits ADD FOREIGN KEY (who) REFERENCES people",
        "ALTER TABLE rooms RENAME COLUMN number TO nr",
    ):
        run(shop, statement, transaction=transaction)

    assert named(shop, "visits") == []
    shop.transactions.commit(transaction.id)
    assert [row[1:] for row in referring(shop) if row[0] == "public" and row[2] == "visits"] == [
        ("visits_room_fkey", "visits", "room", "public", "rooms", "nr"),
        ("visits_who_fkey", "visits", "who", "public", "people", "id"),
    ]


def test_every_rule_has_its_number(shop: Lakehouse) -> None:
    for number, rule in enumerate(RULES):
        run(shop, f"CREATE TABLE t{number} (a BIGINT REFERENCES people ON UPDATE {rule} ON DELETE {rule})")

    told = rows(
        shop,
        "SELECT update_rule, delete_rule FROM information_schema.referential_constraints "
        "WHERE constraint_schema = 'public' AND constraint_name <> 'people_boss_fkey' ORDER BY constraint_name",
    )
    assert told == [(rule, rule) for rule in RULES]
