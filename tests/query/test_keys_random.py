"""Random tables with random keys: metadata says what was declared, after renamings, and when the log is read again."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st
from query.asking import rows, run
from query.keyed import referring

from flightserver.catalog.quoting import delimited
from flightserver.lakehouse import Lakehouse
from flightserver.settings import load_settings

TYPES = ("INT", "BIGINT", "TEXT", "DATE")
NUMBERS = frozenset({"INT", "BIGINT"})
RULES = ("NO ACTION", "RESTRICT", "CASCADE", "SET NULL", "SET DEFAULT")


@dataclass(frozen=True)
class Key:
    """A foreign key; tables are numbers, columns places in their table."""

    name: str
    columns: tuple[int, ...]
    table: int
    referenced: tuple[int, ...]
    says_columns: bool
    on_update: str
    on_delete: str


@dataclass
class Table:
    """A table as it is declared; `columns` and `name` change with renamings."""

    name: str
    columns: list[str]
    types: list[str]
    primary_key: tuple[int, ...]
    primary_key_name: str
    keys: list[Key] = field(default_factory=list)


def names(table: Table, places: tuple[int, ...]) -> str:
    return ", ".join(delimited(table.columns[place]) for place in places)


def declaration(tables: list[Table], table: Table) -> str:
    parts = [f"{delimited(column)} {kind}" for column, kind in zip(table.columns, table.types, strict=True)]
    if table.primary_key:
        constraint = f"CONSTRAINT {delimited(table.primary_key_name)} " if table.primary_key_name else ""
        parts.append(f"{constraint}PRIMARY KEY ({names(table, table.primary_key)})")
    for key in table.keys:
        other = tables[key.table]
        listed = f" ({names(other, key.referenced)})" if key.says_columns else ""
        parts.append(
            f"CONSTRAINT {delimited(key.name)} FOREIGN KEY ({names(table, key.columns)}) "
            f"REFERENCES {delimited(other.name)}{listed} ON UPDATE {key.on_update} ON DELETE {key.on_delete}"
        )
    return f"CREATE TABLE {delimited(table.name)} ({', '.join(parts)})"


def alike(one: str, other: str) -> bool:
    return one == other or {one, other} <= NUMBERS


@st.composite
def keys(draw: st.DrawFn, tables: list[Table], own: int, constraint: str) -> Key | None:
    """A foreign key of a table to a table before it or to itself, or None where none is possible."""
    table = tables[own]
    candidates = []
    for number, other in enumerate(tables[: own + 1]):
        fitting = [
            [place for place, kind in enumerate(table.types) if alike(kind, other.types[target])]
            for target in other.primary_key
        ]
        if other.primary_key and all(fitting):
            candidates.append((number, fitting))
    if not candidates:
        return None
    number, fitting = draw(st.sampled_from(candidates))
    columns = tuple(draw(st.sampled_from(places)) for places in fitting)
    if len(set(columns)) < len(columns):
        return None
    key = Key(
        constraint,
        columns,
        number,
        tables[number].primary_key,
        draw(st.booleans()),
        draw(st.sampled_from(RULES)),
        draw(st.sampled_from(RULES)),
    )
    if key.says_columns:
        order = draw(st.permutations(range(len(columns))))
        return replace(
            key, columns=tuple(columns[at] for at in order), referenced=tuple(key.referenced[at] for at in order)
        )
    return key


@st.composite
def schemas(draw: st.DrawFn) -> list[Table]:
    tables: list[Table] = []
    for number in range(draw(st.integers(2, 4))):
        types = draw(st.lists(st.sampled_from(TYPES), min_size=1, max_size=4))
        primary_key = tuple(draw(st.permutations(range(len(types)))))[: draw(st.sampled_from([1, 2, 0]))]
        named = draw(st.booleans()) and bool(primary_key)
        table = Table(
            draw(st.sampled_from(["t", "T", "a b", 'q"q', "ü"])) + str(number),
            [f"{draw(st.sampled_from(['c', 'C', 'x.y', 'key']))}{place}" for place in range(len(types))],
            types,
            primary_key,
            f"main {number}" if named else "",
        )
        tables.append(table)
        for count in range(draw(st.integers(0, 3))):
            key = draw(keys(tables, number, f"Key {number}.{count}"))
            if key is not None:
                table.keys.append(key)
    return tables


def expected(tables: list[Table]) -> list[tuple[str, ...]]:
    """What `referring` should say."""
    return sorted(
        (
            (schema, key.name, table.name, table.columns[column], schema, other.name, other.columns[target])
            for schema in ("primary", "public")
            for table in tables
            for key in table.keys
            for other in [tables[key.table]]
            for column, target in zip(key.columns, key.referenced, strict=True)
        ),
        key=lambda row: row[:2],
    )


def check(lakehouse: Lakehouse, tables: list[Table]) -> None:
    assert referring(lakehouse) == expected(tables)
    own = "WHERE constraint_schema = 'public' ORDER BY constraint_name"
    assert rows(
        lakehouse,
        "SELECT constraint_name, unique_constraint_name, update_rule, delete_rule "
        f"FROM information_schema.referential_constraints {own}",
    ) == sorted(
        (key.name, primary_key_name(tables[key.table]), key.on_update, key.on_delete)
        for table in tables
        for key in table.keys
    )
    assert rows(
        lakehouse,
        "SELECT constraint_name, table_name FROM information_schema.table_constraints "
        f"WHERE constraint_type = 'PRIMARY KEY' AND {own.removeprefix('WHERE ')}",
    ) == sorted((primary_key_name(table), table.name) for table in tables if table.primary_key)


def primary_key_name(table: Table) -> str:
    return table.primary_key_name or f"{table.name}_pkey"


def rename(lakehouse: Lakehouse, draw: st.DataObject, tables: list[Table]) -> None:
    """Call a table or a column otherwise."""
    table = draw.draw(st.sampled_from(tables))
    if draw.draw(st.booleans()):
        run(lakehouse, f"ALTER TABLE {delimited(table.name)} RENAME TO {delimited(table.name + 'x')}")
        table.name += "x"
        return
    place = draw.draw(st.integers(0, len(table.columns) - 1))
    old, new = table.columns[place], table.columns[place] + "x"
    run(lakehouse, f"ALTER TABLE {delimited(table.name)} RENAME COLUMN {delimited(old)} TO {delimited(new)}")
    table.columns[place] = new


@settings(max_examples=25)
@given(st.data(), schemas())
def test_metadata_says_what_was_declared(draw: st.DataObject, tables: list[Table]) -> None:
    with TemporaryDirectory() as directory:
        data = Path(directory) / "data"
        chosen = load_settings(None, {"server": {"data": data}})
        with Lakehouse.open(chosen) as lakehouse:
            for table in tables:
                run(lakehouse, declaration(tables, table))
            check(lakehouse, tables)
            for _ in range(draw.draw(st.integers(0, 4))):
                rename(lakehouse, draw, tables)
            check(lakehouse, tables)
            before = lakehouse.catalog.snapshot()
        shutil.rmtree(data / "primary" / "_catalog" / "checkpoints", ignore_errors=True)
        with Lakehouse.open(chosen) as again:
            check(again, tables)
            assert dict(again.catalog.snapshot().datasets) == dict(before.datasets)
