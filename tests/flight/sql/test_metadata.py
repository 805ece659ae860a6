"""Result tables of metadata commands."""

from __future__ import annotations

import pyarrow as pa

from flightserver.flight.sql import metadata
from flightserver.flight.sql.messages import GetDbSchemas, GetTables, TableReference
from flightserver.flight.sql.metadata import ForeignKeyColumn, PrimaryKeyColumn, SchemaRow, TableRow

COLUMNS = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("price", pa.decimal128(10, 2))])


def row(db_schema: str, name: str, kind: str = "TABLE") -> TableRow:
    return TableRow("lakehouse", db_schema, name, kind, lambda: COLUMNS)


def untouchable() -> pa.Schema:
    raise AssertionError("the columns were read without need")


ROWS = [row("testing", "people"), row("public", "people"), row("public", "a_b"), row("system", "files", "SYSTEM TABLE")]


def names(rows: list[TableRow]) -> list[str]:
    return [f"{found.db_schema}.{found.name}" for found in rows]


def nullability(schema: pa.Schema) -> dict[str, bool]:
    return {field.name: field.nullable for field in schema}


def test_the_schemas_are_those_of_the_specification() -> None:
    assert nullability(metadata.CATALOGS) == {"catalog_name": False}
    assert nullability(metadata.DB_SCHEMAS) == {"catalog_name": True, "db_schema_name": False}
    assert nullability(metadata.TABLES_WITH_SCHEMA) == {
        "catalog_name": True,
        "db_schema_name": True,
        "table_name": False,
        "table_type": False,
        "table_schema": False,
    }
    assert metadata.TABLES_WITH_SCHEMA.field("table_schema").type == pa.binary()
    assert metadata.FOREIGN_KEYS.names == [
        "pk_catalog_name",
        "pk_db_schema_name",
        "pk_table_name",
        "pk_column_name",
        "fk_catalog_name",
        "fk_db_schema_name",
        "fk_table_name",
        "fk_column_name",
        "key_sequence",
        "fk_key_name",
        "pk_key_name",
        "update_rule",
        "delete_rule",
    ]
    assert nullability(metadata.FOREIGN_KEYS) == {
        name: name.endswith(("catalog_name", "schema_name", "key_name")) for name in metadata.FOREIGN_KEYS.names
    }
    assert [field.type for field in metadata.FOREIGN_KEYS] == [
        *(pa.utf8() for _ in range(8)),
        pa.int32(),
        pa.utf8(),
        pa.utf8(),
        pa.uint8(),
        pa.uint8(),
    ]


def test_tables_are_ordered_by_catalog_schema_name_and_type() -> None:
    table = metadata.tables(ROWS, include_schema=False)

    assert table.schema.equals(metadata.TABLES)
    assert table.column("db_schema_name").to_pylist() == ["public", "public", "system", "testing"]
    assert table.column("table_name").to_pylist() == ["a_b", "people", "files", "people"]


def test_columns_are_read_only_if_the_client_wants_them() -> None:
    rows = [TableRow("lakehouse", "public", "people", "TABLE", untouchable)]

    assert metadata.tables(rows, include_schema=False).num_rows == 1


def test_a_tables_schema_is_an_ipc_message_with_what_drivers_show() -> None:
    table = metadata.tables([row("public", "people")], include_schema=True)

    schema = pa.ipc.read_schema(pa.py_buffer(table.column("table_schema")[0].as_py()))
    assert schema.equals(COLUMNS)
    assert schema.field("price").metadata == {
        b"ARROW:FLIGHT:SQL:CATALOG_NAME": b"lakehouse",
        b"ARROW:FLIGHT:SQL:SCHEMA_NAME": b"public",
        b"ARROW:FLIGHT:SQL:DB_SCHEMA_NAME": b"public",
        b"ARROW:FLIGHT:SQL:TABLE_NAME": b"people",
        b"ARROW:FLIGHT:SQL:TYPE_NAME": b"DECIMAL",
        b"ARROW:FLIGHT:SQL:PRECISION": b"10",
        b"ARROW:FLIGHT:SQL:SCALE": b"2",
        b"ARROW:FLIGHT:SQL:IS_AUTO_INCREMENT": b"0",
        b"ARROW:FLIGHT:SQL:IS_CASE_SENSITIVE": b"0",
        b"ARROW:FLIGHT:SQL:IS_READ_ONLY": b"0",
        b"ARROW:FLIGHT:SQL:IS_SEARCHABLE": b"1",
    }


def test_patterns_catalog_and_types_narrow_the_tables() -> None:
    def found(command: GetTables) -> list[str]:
        return names(metadata.matching_tables(command, ROWS))

    assert len(found(GetTables())) == 4
    assert found(GetTables(table_name_filter_pattern="peop%")) == ["testing.people", "public.people"]
    assert found(GetTables(table_name_filter_pattern=r"a\_b")) == ["public.a_b"]
    assert found(GetTables(db_schema_filter_pattern="test%", table_name_filter_pattern="")) == ["testing.people"]
    assert found(GetTables(table_types=("SYSTEM TABLE", "VIEW"))) == ["system.files"]
    assert found(GetTables(catalog="lakehouse", table_types=("VIEW",))) == []
    assert found(GetTables(catalog="")) == []


def test_schemas_are_narrowed_and_ordered() -> None:
    rows = [SchemaRow("lakehouse", name) for name in ("testing", "public", "system")]

    assert metadata.matching_schemas(GetDbSchemas(db_schema_filter_pattern="%s%"), rows) == [rows[0], rows[2]]
    assert metadata.matching_schemas(GetDbSchemas(catalog="other"), rows) == []
    table = metadata.db_schemas(rows)
    assert table.schema.equals(metadata.DB_SCHEMAS)
    assert table.column("db_schema_name").to_pylist() == ["public", "system", "testing"]


def test_catalogs_and_table_types_are_ordered() -> None:
    assert metadata.catalogs(["b", "a"]).to_pylist() == [{"catalog_name": "a"}, {"catalog_name": "b"}]
    assert metadata.table_types(["TABLE", "SYSTEM TABLE", "TABLE"]).column(0).to_pylist() == ["SYSTEM TABLE", "TABLE"]


def test_primary_keys_come_in_key_order() -> None:
    rows = [
        PrimaryKeyColumn("lakehouse", "public", "orders", "line", "orders_pk", 2),
        PrimaryKeyColumn("lakehouse", "public", "orders", "id", "orders_pk", 1),
    ]

    table = metadata.primary_keys(rows)

    assert table.schema.equals(metadata.PRIMARY_KEYS)
    assert table.column("column_name").to_pylist() == ["id", "line"]


def test_exported_keys_go_by_the_tables_that_refer_and_imported_keys_by_those_referred_to() -> None:
    def column(pk_table: str, fk_table: str, name: str, sequence: int) -> ForeignKeyColumn:
        pk, fk = ("lakehouse", "public", pk_table, "id"), ("lakehouse", "public", fk_table, f"c{sequence}")
        return ForeignKeyColumn(*pk, *fk, sequence, name, f"{pk_table}_pkey", 3, 0)

    rows = [
        column("pets", "visits", "b", 2),
        column("pets", "visits", "b", 1),
        column("people", "visits", "c", 1),
        column("pets", "meals", "d", 1),
        column("pets", "visits", "a", 1),
    ]

    exported, imported = metadata.exported_keys(rows), metadata.imported_keys(rows)

    assert exported.schema.equals(metadata.FOREIGN_KEYS)
    assert imported.schema.equals(metadata.FOREIGN_KEYS)
    shown = ("pk_table_name", "fk_table_name", "fk_key_name", "key_sequence")
    assert list(zip(*(exported.column(name).to_pylist() for name in shown), strict=True)) == [
        ("pets", "meals", "d", 1),
        ("pets", "visits", "a", 1),
        ("pets", "visits", "b", 1),
        ("pets", "visits", "b", 2),
        ("people", "visits", "c", 1),
    ]
    assert list(zip(*(imported.column(name).to_pylist() for name in shown), strict=True)) == [
        ("people", "visits", "c", 1),
        ("pets", "meals", "d", 1),
        ("pets", "visits", "a", 1),
        ("pets", "visits", "b", 1),
        ("pets", "visits", "b", 2),
    ]


def test_tables_without_rows_have_their_schema() -> None:
    assert metadata.tables([], include_schema=True).schema.equals(metadata.TABLES_WITH_SCHEMA)
    assert metadata.primary_keys([]).schema.equals(metadata.PRIMARY_KEYS)
    assert metadata.exported_keys([]).schema.equals(metadata.FOREIGN_KEYS)
    assert metadata.imported_keys([]).schema.equals(metadata.FOREIGN_KEYS)


def test_names_in_key_commands_are_exact() -> None:
    assert metadata.is_referred_to(TableReference(None, None, "people"), "lakehouse", "public", "people")
    assert metadata.is_referred_to(TableReference("lakehouse", "public", "people"), "lakehouse", "public", "people")
    assert not metadata.is_referred_to(TableReference(None, None, "peopl%"), "lakehouse", "public", "people")
    assert not metadata.is_referred_to(TableReference("", None, "people"), "lakehouse", "public", "people")
    assert not metadata.is_referred_to(TableReference(None, "testing", "people"), "lakehouse", "public", "people")
