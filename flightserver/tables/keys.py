"""What a foreign key needs so that it can be declared: columns on both sides that can be compared, and a primary key.

A foreign key is recorded and never checked against rows. It is declared as in PostgreSQL all the same, so that what
metadata says of it is true of the tables: it refers to the primary key, in any order of its columns, and values of both
sides have a type in common. Pure functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from flightserver.errors import AlreadyExists, InvalidRequest, NotFound, SchemaMismatch
from flightserver.tables.types import widened

if TYPE_CHECKING:
    from collections.abc import Collection

    import pyarrow as pa

    from flightserver.catalog.entities import DatasetKey, ForeignKey


@dataclass(frozen=True, slots=True)
class Side:
    """A table that a foreign key is of, or refers to; `schema` is canonical."""

    key: DatasetKey
    schema: pa.Schema
    primary_key: tuple[str, ...]


def completed(wanted: ForeignKey, own: Side, other: Side, taken: Collection[str]) -> ForeignKey:
    """A foreign key as it is kept: with a name, and with the columns that it refers to.

    Args:
        wanted: As it was declared: an empty name stands for the usual one, no referenced columns for the primary key.
        own: The table that has it.
        other: The table that it refers to.
        taken: Names of the constraints that the table has.

    Raises:
        AlreadyExists: The name is taken.
        NotFound: A column isn't there.
        InvalidRequest: It doesn't refer to the primary key, or has another number of columns.
        SchemaMismatch: Columns can't be compared.
    """
    if wanted.name in taken:
        raise AlreadyExists(f'{own.key} has a constraint "{wanted.name}" already: say another name')
    name = wanted.name or _usual_name(own.key.name, wanted.columns, taken)
    label = f'foreign key "{name}" of {own.key}'
    referenced = wanted.referenced or other.primary_key
    _check_columns(label, wanted.columns, own)
    if not referenced:
        raise InvalidRequest(
            f"{label} refers to {other.key}, which has no primary key: ALTER TABLE ... ADD PRIMARY KEY gives it one"
        )
    _check_columns(label, referenced, other)
    if len(wanted.columns) != len(referenced):
        raise InvalidRequest(
            f"{label} has {len(wanted.columns)} columns ({', '.join(wanted.columns)}) and refers to {len(referenced)} "
            f"({', '.join(referenced)}) of {other.key}: their numbers must be equal"
        )
    if set(referenced) != set(other.primary_key):
        has = f"its primary key is ({', '.join(other.primary_key)})" if other.primary_key else "it has no primary key"
        raise InvalidRequest(
            f"{label} refers to ({', '.join(referenced)}) of {other.key}, and there is no unique constraint matching "
            f"these columns: {has}"
        )
    for column, target in zip(wanted.columns, referenced, strict=True):
        mine, theirs = own.schema.field(column).type, other.schema.field(target).type
        if widened(mine, theirs) is None:
            raise SchemaMismatch(
                f'{label} can\'t be: column "{column}" is {mine} and "{target}" of {other.key} is {theirs}, which have '
                "no type in common"
            )
    return replace(wanted, name=name, referenced=referenced)


def _check_columns(label: str, columns: tuple[str, ...], side: Side) -> None:
    for column in columns:
        if column not in side.schema.names:
            has = ", ".join(f'"{each}"' for each in side.schema.names)
            raise NotFound(f'{label} names column "{column}", which {side.key} does not have; it has {has}')


def _usual_name(table: str, columns: tuple[str, ...], taken: Collection[str]) -> str:
    """`table_column_fkey`, with a number behind it where that is taken, as PostgreSQL does."""
    usual = "_".join((table, *columns, "fkey"))
    name, number = usual, 0
    while name in taken:
        number += 1
        name = f"{usual}{number}"
    return name
