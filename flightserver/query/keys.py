"""Keys of tables: what a declared foreign key refers to, and which keys clients are shown.

A foreign key names what it refers to by id, so it is looked up where it is shown, and stays true whatever its tables
are called and wherever they move. One whose table, columns or primary key are gone is not shown.

A table stands in the schema of its bucket and, where its bare name means it, in `public`. Each of the two has its
keys: seen from `public`, a key refers to `public` if the other table stands there; seen from a bucket, always to a
bucket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from flightserver.catalog.entities import PRIMARY, Dataset, ForeignKey, View
from flightserver.errors import InvalidRequest
from flightserver.query.namespace import PUBLIC
from flightserver.tables.keys import Side, completed
from flightserver.tables.schema import canonical, decode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from flightserver.catalog.entities import DatasetKey
    from flightserver.query.language import changes as c
    from flightserver.query.namespace import Scope
    from flightserver.tables.definitions import Definition

Placed = tuple[str, str, Dataset | View]
"""Schema, name and table or view, as `flightserver.query.information_schema.placements` gives them."""


class PrimaryKey(NamedTuple):
    """A primary key where a client finds it."""

    schema: str
    table: str
    name: str
    columns: tuple[str, ...]


class ForeignKeyPlace(NamedTuple):
    """A foreign key where a client finds it, and the primary key that it refers to as seen from there."""

    schema: str
    table: str
    key: ForeignKey
    referenced: PrimaryKey


def primary_keys(placed: Iterable[Placed]) -> Iterator[PrimaryKey]:
    """Every primary key, in each schema where its table stands."""
    for schema, table, one in placed:
        if isinstance(one, Dataset) and one.primary_key:
            yield PrimaryKey(schema, table, one.key_name, one.primary_key)


def foreign_keys(placed: Sequence[Placed]) -> Iterator[ForeignKeyPlace]:
    """Every foreign key that refers to a primary key which is there, in each schema where its table stands."""
    places: dict[str, dict[str, Dataset]] = {}
    for schema, _, one in placed:
        if isinstance(one, Dataset):
            places.setdefault(one.id, {})[schema] = one
    for schema, table, one in placed:
        if isinstance(one, Dataset) and one.foreign_keys:
            columns = set(decode(one.schema).names)
            for key in one.foreign_keys:
                seen = _seen_from(schema, places.get(key.dataset_id or one.id, {}))
                if seen is not None and _lives(key, columns, seen.columns):
                    yield ForeignKeyPlace(schema, table, key, seen)


def created_keys(written: c.Keys, key: DatasetKey, schema: pa.Schema, scope: Scope) -> tuple[ForeignKey, ...]:
    """Foreign keys of a table that is going to be created.

    Args:
        written: All keys of the table, as the statement says them.
        key: Of the table.
        schema: Its columns.
        scope: What the names of other tables mean.

    Raises:
        NotFound: A table or column isn't there.
        AlreadyExists: Two constraints have the same name.
        InvalidRequest: A key doesn't refer to a primary key.
        SchemaMismatch: Columns can't be compared.
    """
    own = Side(key, canonical(schema), written.primary_key)
    taken = [written.primary_key_name or f"{key.name}_pkey"] if written.primary_key else []
    made: list[ForeignKey] = []
    for one in written.foreign_keys:
        made.append(_declared(one, own, taken, scope))
        taken.append(made[-1].name)
    return tuple(made)


def with_foreign_key(definition: Definition, written: c.ForeignKey, scope: Scope) -> Definition:
    """The definition of a table with another foreign key, and without those that refer to nothing any more.

    Raises:
        NotFound: A table or column isn't there.
        AlreadyExists: Another constraint has the name.
        InvalidRequest: The key doesn't refer to a primary key.
        SchemaMismatch: Columns can't be compared.
    """
    # What the user may not see is there all the same.
    known = (scope.newest or scope.snapshot, scope.snapshot)
    by_id = {one.id: one.primary_key for snapshot in known for one in snapshot.datasets.values()}
    columns = set(definition.schema.names)
    kept = tuple(
        key
        for key in definition.foreign_keys
        if _lives(key, columns, by_id.get(key.dataset_id, ()) if key.dataset_id else definition.primary_key)
    )
    definition = definition.with_foreign_keys(kept)
    own = Side(definition.dataset.key, definition.schema, definition.primary_key)
    return definition.with_foreign_keys((*kept, _declared(written, own, definition.constraints(), scope)))


def _declared(written: c.ForeignKey, own: Side, taken: Sequence[str], scope: Scope) -> ForeignKey:
    other, dataset_id = _referenced(written.table, own, scope)
    wanted = ForeignKey(
        name=written.name,
        columns=written.columns,
        bucket=other.key.bucket,
        dataset=other.key.name,
        referenced=written.referenced,
        dataset_id=dataset_id,
        on_update=written.on_update,
        on_delete=written.on_delete,
    )
    return completed(wanted, own, other, taken)


def _referenced(table: c.TableName, own: Side, scope: Scope) -> tuple[Side, str]:
    """The table that a foreign key refers to, and its id; for the table itself, which may not be there yet, no id."""
    if table.name == own.key.name and _means(table.schema, own.key, scope):
        return own, ""
    found = scope.relation(table.name, table.schema)
    if isinstance(found, View):
        raise InvalidRequest(f"a foreign key can't refer to {found.key}, which is a view: it refers to a table")
    if found.key == own.key:
        return own, ""
    return Side(found.key, decode(found.schema), found.primary_key), found.id


def _means(schema: str | None, key: DatasetKey, scope: Scope) -> bool:
    """Whether a name of this schema, which is that of the table itself, means the table."""
    if schema is None:
        return True
    if schema == PUBLIC:
        return key.bucket == (scope.bucket or PRIMARY)
    return scope.bucket_of(schema) == key.bucket


def _lives(key: ForeignKey, columns: set[str], primary_key: tuple[str, ...]) -> bool:
    return columns.issuperset(key.columns) and set(key.referenced) == set(primary_key)


def _seen_from(schema: str, places: Mapping[str, Dataset]) -> PrimaryKey | None:
    """The primary key of a dataset that stands in these schemas, as seen from a schema."""
    if not places:
        return None
    one = next(iter(places.values()))
    there = PUBLIC if schema == PUBLIC and PUBLIC in places else one.bucket
    return PrimaryKey(there, one.name, one.key_name, one.primary_key)
