"""What ALTER TABLE does to the schema and keys of a dataset. Pure functions; no file is touched.

A column that is renamed keeps its name in files; a new one gets a name that no file has. So what files hold of a
dropped column never comes back.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pyarrow as pa
from msgspec.structs import replace as changed_key

from flightserver.catalog.updates import AlterDataset
from flightserver.errors import AlreadyExists, InvalidRequest, NotFound, SchemaMismatch
from flightserver.tables.plan import names_in_files, with_key
from flightserver.tables.schema import (
    COMMENT,
    canonical,
    decode,
    encode,
    fingerprint,
    free_stored_name,
    stored_name,
    with_stored_name,
)
from flightserver.tables.types import widened

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flightserver.catalog.entities import Dataset, ForeignKey


@dataclass(frozen=True, slots=True)
class Definition:
    """A dataset's schema and keys while they are changed.

    Attributes:
        dataset: As it is now.
        schema: With names in files.
        primary_key: Names of its columns.
        comment: On the dataset.
        primary_key_name: Of the primary key as a constraint; empty for the usual one.
        foreign_keys: Those that the dataset has.
        renamed: What columns that the dataset has are called afterwards, where that differs.
    """

    dataset: Dataset
    schema: pa.Schema
    primary_key: tuple[str, ...]
    comment: str
    primary_key_name: str = ""
    foreign_keys: tuple[ForeignKey, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, dataset: Dataset) -> Definition:
        """The definition that a dataset has."""
        return cls(
            dataset,
            decode(dataset.schema),
            dataset.primary_key,
            dataset.comment,
            dataset.primary_key_name,
            dataset.foreign_keys,
        )

    def update(self) -> AlterDataset | None:
        """What to commit; None when nothing has changed."""
        now = self.dataset
        schema = encode(self.schema)
        changed = schema != now.schema
        update = AlterDataset(
            now.bucket,
            now.name,
            schema=schema if changed else None,
            schema_fingerprint=fingerprint(self.schema) if changed else None,
            primary_key=None if self.primary_key == now.primary_key else self.primary_key,
            comment=None if self.comment == now.comment else self.comment,
            foreign_keys=None if self.foreign_keys == now.foreign_keys else self.foreign_keys,
            primary_key_name=None if self.primary_key_name == now.primary_key_name else self.primary_key_name,
            renamed=dict(self.renamed),
        )
        return None if update == AlterDataset(now.bucket, now.name) else update

    def add_column(self, field: pa.Field, *, if_not_exists: bool = False) -> Definition:
        """A new last column, null in every row that exists.

        Raises:
            AlreadyExists: There is one of the name, and `if_not_exists` is not set.
            SchemaMismatch: No dataset can have such a column.
        """
        if field.name in self.schema.names:
            if if_not_exists:
                return self
            msg = f'dataset {self.dataset.key} has a column "{field.name}" already'
            raise AlreadyExists(msg)
        added = canonical(pa.schema([field])).field(0).with_nullable(nullable=True)
        taken = {*names_in_files(self.dataset), *(stored_name(one) for one in self.schema)}
        return replace(self, schema=self.schema.append(with_stored_name(added, free_stored_name(field.name, taken))))

    def drop_column(self, name: str, *, if_exists: bool = False) -> Definition:
        """Without a column, and without the foreign keys that it is part of. Files keep what they hold of it.

        Raises:
            NotFound: There is none of the name, and `if_exists` is not set.
            InvalidRequest: It is part of the primary key, or the only column.
        """
        if name not in self.schema.names and if_exists:
            return self
        place = self._place(name)
        if name in self.primary_key:
            msg = f'column "{name}" is part of the primary key of {self.dataset.key}: drop the primary key first'
            raise InvalidRequest(msg)
        if len(self.schema) == 1:
            msg = f'column "{name}" is the only one of {self.dataset.key}: drop the table instead'
            raise InvalidRequest(msg)
        return replace(
            self,
            schema=self.schema.remove(place),
            foreign_keys=tuple(key for key in self.foreign_keys if name not in key.columns),
            renamed={old: new for old, new in self.renamed.items() if new != name},
        )

    def rename_column(self, name: str, new_name: str) -> Definition:
        """With a column called otherwise, in keys too.

        Raises:
            NotFound: There is none of the name.
            AlreadyExists: The new name is taken.
            SchemaMismatch: No column can have the new name.
        """
        place = self._place(name)
        if new_name in self.schema.names and new_name != name:
            msg = f'dataset {self.dataset.key} has a column "{new_name}" already'
            raise AlreadyExists(msg)
        field = self.schema.field(place)
        renamed = with_stored_name(field.with_name(new_name), stored_name(field))
        canonical(pa.schema([renamed]))

        def called(columns: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(new_name if column == name else column for column in columns)

        return replace(
            self,
            schema=self.schema.set(place, renamed),
            primary_key=called(self.primary_key),
            foreign_keys=tuple(
                changed_key(
                    key,
                    columns=called(key.columns),
                    referenced=key.referenced if key.dataset_id else called(key.referenced),
                )
                for key in self.foreign_keys
            ),
            renamed=self._renamed(name, new_name),
        )

    def set_type(self, name: str, wanted: pa.DataType) -> Definition:
        """With a column of a wider type, which holds every value that the column has.

        Raises:
            NotFound: There is none of the name.
            SchemaMismatch: The type isn't a safe widening.
        """
        place = self._place(name)
        field = self.schema.field(place)
        target = canonical(pa.schema([pa.field(name, wanted)])).field(0).type
        if widened(field.type, target) != target:
            msg = (
                f'column "{name}" of {self.dataset.key} is {field.type} and can\'t become {target} without touching '
                "its values: CREATE OR REPLACE TABLE ... AS SELECT with a cast does that"
            )
            raise SchemaMismatch(msg)
        return replace(self, schema=self.schema.set(place, field.with_type(target)))

    def set_nullable(self, name: str, *, nullable: bool) -> Definition:
        """With a column that may have nulls, or that has none: whoever asks has looked.

        Raises:
            NotFound: There is none of the name.
            InvalidRequest: A column of the primary key can't have nulls.
        """
        place = self._place(name)
        if nullable and name in self.primary_key:
            msg = f'column "{name}" is part of the primary key of {self.dataset.key} and can\'t be null'
            raise InvalidRequest(msg)
        return replace(self, schema=self.schema.set(place, self.schema.field(place).with_nullable(nullable)))

    def set_primary_key(self, columns: tuple[str, ...], name: str = "") -> Definition:
        """With a primary key, or none: whoever asks has seen that its values are unique and not null.

        Args:
            columns: Its columns; none for no primary key.
            name: Of the constraint; empty for the usual one.

        Raises:
            InvalidRequest: There is a key already.
            AlreadyExists: A foreign key has the name.
            SchemaMismatch: A column isn't there or has no order.
        """
        if columns and self.primary_key:
            msg = (
                f"dataset {self.dataset.key} has the primary key {', '.join(self.primary_key)} already: "
                "DROP PRIMARY KEY comes first"
            )
            raise InvalidRequest(msg)
        called = name or f"{self.dataset.name}_pkey"
        if columns and any(key.name == called for key in self.foreign_keys):
            msg = f'dataset {self.dataset.key} has a foreign key of the name "{called}": say another'
            raise AlreadyExists(msg)
        return replace(self, schema=with_key(self.schema, columns), primary_key=columns, primary_key_name=name)

    def with_foreign_keys(self, keys: tuple[ForeignKey, ...]) -> Definition:
        """With exactly these foreign keys, which were looked at, see `flightserver.tables.keys`."""
        return replace(self, foreign_keys=keys)

    def drop_constraint(self, name: str, *, if_exists: bool = False) -> Definition:
        """Without the key of this name: a foreign key, or the primary key.

        Raises:
            NotFound: There is none of the name, and `if_exists` is not set.
        """
        if name not in self.constraints():
            if if_exists:
                return self
            has = ", ".join(f'"{each}"' for each in self.constraints()) or "none"
            msg = f'dataset {self.dataset.key} has no constraint "{name}"; it has {has}'
            raise NotFound(msg)
        if all(key.name != name for key in self.foreign_keys):
            return self.set_primary_key(())
        return replace(self, foreign_keys=tuple(key for key in self.foreign_keys if key.name != name))

    def constraints(self) -> tuple[str, ...]:
        """Names of all keys."""
        usual = self.primary_key_name or f"{self.dataset.name}_pkey"
        return (*((usual,) if self.primary_key else ()), *(key.name for key in self.foreign_keys))

    def set_comment(self, column: str | None, text: str | None) -> Definition:
        """With a comment on a column or, when that is None, on the dataset; None removes it.

        Raises:
            NotFound: There is no such column.
        """
        if column is None:
            return replace(self, comment=text or "")
        place = self._place(column)
        field = self.schema.field(place)
        metadata = {key: value for key, value in (field.metadata or {}).items() if key != COMMENT}
        if text:
            metadata[COMMENT] = text.encode()
        return replace(self, schema=self.schema.set(place, field.with_metadata(metadata or None)))

    def _renamed(self, name: str, new_name: str) -> dict[str, str]:
        """What columns of now are called after another renaming; columns that this statement adds are none of them."""
        then = dict(self.renamed)
        first = next((old for old, new in then.items() if new == name), None)
        if first is None and name in decode(self.dataset.schema).names and name not in then:
            first = name
        if first is not None:
            then[first] = new_name
        return {old: new for old, new in then.items() if old != new}

    def _place(self, name: str) -> int:
        place = int(self.schema.get_field_index(name))
        if place < 0:
            has = ", ".join(f'"{column}"' for column in self.schema.names)
            msg = f'dataset {self.dataset.key} has no column "{name}"; it has {has}'
            raise NotFound(msg)
        return place
