"""Keys as java.sql.DatabaseMetaData tells them, and the schema of a connection, by Arrow's JDBC driver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from bucketing import add_bucket
from query.asking import run

if TYPE_CHECKING:
    from clients.jdbc_program import Connection, Jdbc
    from conftest import RunningServer

pytestmark = pytest.mark.client("JDBC")

CASCADE, RESTRICT, SET_NULL, NO_ACTION = 0, 1, 2, 3
"""Of java.sql.DatabaseMetaData: importedKeyCascade and its like."""


@pytest.fixture
def shop(server: RunningServer, jdbc_connection: Connection) -> Connection:
    """A connection, when `stock` refers to `people`, and to `parts` by two columns."""
    for statement in (
        "CREATE TABLE people (id BIGINT PRIMARY KEY, boss BIGINT REFERENCES people ON DELETE SET NULL)",
        "CREATE TABLE parts (maker TEXT, number INT, CONSTRAINT part PRIMARY KEY (maker, number))",
        "CREATE TABLE stock (n INT, m TEXT, owner BIGINT REFERENCES people ON UPDATE CASCADE ON DELETE RESTRICT)",
        "ALTER TABLE stock ADD FOREIGN KEY (n, m) REFERENCES parts (number, maker)",
    ):
        run(server.lakehouse, statement)
    return jdbc_connection


def reference(
    primary: str, foreign: str, sequence: int, names: tuple[str, str], rules: tuple[int, int]
) -> dict[str, Any]:
    """A row of the key methods of tables in `public`, of columns written as `table.column`."""
    (pk_table, pk_column), (fk_table, fk_column) = primary.split("."), foreign.split(".")
    return {
        "PKTABLE_CAT": "lakehouse",
        "PKTABLE_SCHEM": "public",
        "PKTABLE_NAME": pk_table,
        "PKCOLUMN_NAME": pk_column,
        "FKTABLE_CAT": "lakehouse",
        "FKTABLE_SCHEM": "public",
        "FKTABLE_NAME": fk_table,
        "FKCOLUMN_NAME": fk_column,
        "KEY_SEQ": sequence,
        "UPDATE_RULE": rules[0],
        "DELETE_RULE": rules[1],
        "FK_NAME": names[0],
        "PK_NAME": names[1],
        "DEFERRABILITY": None,  # which Flight SQL doesn't tell
    }


NUMBER = reference("parts.number", "stock.n", 1, ("stock_n_m_fkey", "part"), (NO_ACTION, NO_ACTION))
MAKER = reference("parts.maker", "stock.m", 2, ("stock_n_m_fkey", "part"), (NO_ACTION, NO_ACTION))
OWNER = reference("people.id", "stock.owner", 1, ("stock_owner_fkey", "people_pkey"), (CASCADE, RESTRICT))
BOSS = reference("people.id", "people.boss", 1, ("people_boss_fkey", "people_pkey"), (NO_ACTION, SET_NULL))


@pytest.mark.feature("primary keys")
def test_the_columns_of_a_primary_key_have_its_order(shop: Connection) -> None:
    keys = shop.metadata("getPrimaryKeys", "lakehouse", "public", "parts")

    place = {"TABLE_CAT": "lakehouse", "TABLE_SCHEM": "public", "TABLE_NAME": "parts"}
    assert sorted(keys, key=lambda row: int(row["KEY_SEQ"])) == [
        {**place, "COLUMN_NAME": "maker", "KEY_SEQ": 1, "PK_NAME": "part"},
        {**place, "COLUMN_NAME": "number", "KEY_SEQ": 2, "PK_NAME": "part"},
    ]


@pytest.mark.feature("foreign keys")
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (("getImportedKeys", None, "public", "stock"), [NUMBER, MAKER, OWNER]),
        (("getImportedKeys", "lakehouse", "public", "people"), [BOSS]),
        (("getImportedKeys", None, "public", "parts"), []),
        (("getExportedKeys", None, "public", "people"), [BOSS, OWNER]),
        (("getExportedKeys", None, "public", "parts"), [NUMBER, MAKER]),
        (("getExportedKeys", None, "public", "stock"), []),
        (("getCrossReference", None, "public", "people", None, "public", "stock"), [OWNER]),
        (("getCrossReference", None, "public", "stock", None, "public", "people"), []),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_foreign_keys_are_told_whole(shop: Connection, asked: tuple[Any, ...], expected: list[dict[str, Any]]) -> None:
    assert shop.metadata(*asked) == expected


def test_set_schema_is_remembered_by_the_driver_alone(shop: Connection) -> None:
    shop.ask("set", schema="system")

    assert shop.ask("get")["schema"] == "system"
    assert shop.query("SELECT count(*) AS n FROM people") == [[0]]


@pytest.mark.feature("schema of the connection")
def test_the_schema_of_the_url_is_that_of_bare_names(jdbc: Jdbc, server: RunningServer) -> None:
    add_bucket(server.lakehouse, "testing")

    with jdbc.connect(server.uri, schema="testing") as connection:
        connection.update("CREATE TABLE made (id BIGINT)")

        tables = connection.metadata("getTables", None, "testing", None, None)
        assert [(row["TABLE_SCHEM"], row["TABLE_NAME"]) for row in tables] == [("testing", "made")]
        assert connection.query("SELECT * FROM made") == []
