"""What a statement changes, as values.

Texts (expressions, conditions, sources, queries) are slices of the statement as it is planned, balanced in their
brackets, with placeholders `$name`. An empty text means that the clause is absent; an absent condition holds for
every row. Aliases are never empty: where none is written, the alias is the bare name of the table. Names are as
`TableName` has them: folded to lower case unless they were quoted.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flightserver.catalog.quoting import delimited, identifier

if TYPE_CHECKING:
    from flightserver.catalog.identities import Privilege


@dataclass(frozen=True, slots=True)
class TableName:
    """A table as written: `schema` is None for a bare name. Unquoted parts are folded to lower case."""

    name: str
    schema: str | None = None

    def __str__(self) -> str:
        name = identifier(self.name)
        return name if self.schema is None else f"{delimited(self.schema)}.{name}"


@dataclass(frozen=True, slots=True)
class Assignment:
    """`column = expression` of SET; DEFAULT is NULL."""

    column: str
    expression: str


class Star(enum.Enum):
    """`*` in place of a list of columns: each from the column of its name in the source."""

    EVERY_COLUMN = "*"


Assignments = tuple[Assignment, ...] | Star
"""What SET says. For `INSERT OR REPLACE` the star means every column that is given."""


@dataclass(frozen=True, slots=True)
class Update:
    """UPDATE: `source` is the text after FROM."""

    alias: str
    assignments: tuple[Assignment, ...]
    source: str = ""
    condition: str = ""


@dataclass(frozen=True, slots=True)
class Delete:
    """DELETE: `source` is the text after USING."""

    alias: str
    source: str = ""
    condition: str = ""


class When(enum.Enum):
    """Which rows a clause of MERGE is for."""

    MATCHED = "matched"
    NOT_MATCHED = "not matched"
    NOT_MATCHED_BY_SOURCE = "not matched by source"


@dataclass(frozen=True, slots=True)
class SetColumns:
    """THEN UPDATE SET."""

    assignments: Assignments


@dataclass(frozen=True, slots=True)
class InsertRow:
    """THEN INSERT: `columns` is empty for all of them in their order; `values` is the star for `INSERT *`."""

    columns: tuple[str, ...]
    values: tuple[str, ...] | Star


@dataclass(frozen=True, slots=True)
class DeleteRow:
    """THEN DELETE."""


@dataclass(frozen=True, slots=True)
class DoNothing:
    """THEN DO NOTHING: ends the search for a clause."""


@dataclass(frozen=True, slots=True)
class Clause:
    """One WHEN of MERGE. The first clause whose rows and condition fit a row decides what happens to it."""

    when: When
    condition: str
    action: SetColumns | InsertRow | DeleteRow | DoNothing


@dataclass(frozen=True, slots=True)
class Merge:
    """MERGE: `source` is a table or a query in parentheses, with its alias; `source_name` is the name of either."""

    alias: str
    source: str
    source_name: str
    condition: str
    clauses: tuple[Clause, ...]


@dataclass(frozen=True, slots=True)
class Upsert:
    """INSERT ... ON CONFLICT, INSERT OR REPLACE, INSERT OR IGNORE.

    Attributes:
        alias: Names the row that exists; `excluded` names the proposed one.
        columns: What the query gives; empty for all columns in their order.
        query: VALUES, or a query.
        width: How many values the first row of VALUES has; None for a query.
        conflict: Columns whose equality is the conflict; empty for the primary key.
        assignments: None for DO NOTHING.
        condition: WHERE of DO UPDATE.
    """

    alias: str
    columns: tuple[str, ...]
    query: str
    width: int | None
    conflict: tuple[str, ...]
    assignments: Assignments | None
    condition: str = ""


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """FOREIGN KEY, or REFERENCES behind a column.

    Attributes:
        columns: Of the table that has the key.
        table: That it refers to.
        referenced: Columns of that table; empty for its primary key.
        name: Of the constraint; empty for the usual one.
        on_update: CASCADE, RESTRICT, SET NULL, NO ACTION or SET DEFAULT.
        on_delete: Likewise.
    """

    columns: tuple[str, ...]
    table: TableName
    referenced: tuple[str, ...] = ()
    name: str = ""
    on_update: str = "NO ACTION"
    on_delete: str = "NO ACTION"


@dataclass(frozen=True, slots=True)
class Keys:
    """What CREATE TABLE says of keys; an empty name of the primary key stands for the usual one."""

    primary_key: tuple[str, ...] = ()
    primary_key_name: str = ""
    foreign_keys: tuple[ForeignKey, ...] = ()


@dataclass(frozen=True, slots=True)
class AddColumn:
    """ADD COLUMN: `definition` is the text of the type; the column is nullable, and may refer to another table."""

    name: str
    definition: str
    if_not_exists: bool = False
    foreign_key: ForeignKey | None = None


@dataclass(frozen=True, slots=True)
class DropColumn:
    """DROP COLUMN."""

    name: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class RenameColumn:
    """RENAME COLUMN old TO new."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class RenameTable:
    """RENAME TO new: always the only step."""

    new: str


@dataclass(frozen=True, slots=True)
class SetPrimaryKey:
    """ADD PRIMARY KEY; an empty name of the constraint stands for the usual one."""

    columns: tuple[str, ...]
    name: str = ""


@dataclass(frozen=True, slots=True)
class DropPrimaryKey:
    """DROP PRIMARY KEY."""


@dataclass(frozen=True, slots=True)
class AddForeignKey:
    """ADD FOREIGN KEY."""

    foreign_key: ForeignKey


@dataclass(frozen=True, slots=True)
class DropConstraint:
    """DROP CONSTRAINT: a foreign key or the primary key."""

    name: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class SetType:
    """ALTER COLUMN ... TYPE: `type` is the text of the new type."""

    column: str
    type: str


@dataclass(frozen=True, slots=True)
class SetNullable:
    """ALTER COLUMN ... DROP NOT NULL (nullable) or SET NOT NULL."""

    column: str
    nullable: bool


Step = (
    AddColumn
    | DropColumn
    | RenameColumn
    | RenameTable
    | SetPrimaryKey
    | DropPrimaryKey
    | AddForeignKey
    | DropConstraint
    | SetType
    | SetNullable
)
"""One step of ALTER TABLE."""


@dataclass(frozen=True, slots=True)
class AlterTable:
    """ALTER TABLE: the steps are taken in their order, all or none."""

    if_exists: bool
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Comment:
    """COMMENT ON: `column` is None for the table or view itself, `text` is None to remove the comment."""

    column: str | None
    text: str | None


@dataclass(frozen=True, slots=True)
class CreateView:
    """CREATE VIEW.

    Attributes:
        columns: Names for the columns of the query; empty to keep its own.
        query: The query as it is planned, with the names of `Statement.as_of`.
        definition: The query as written, which can be parsed again.
    """

    columns: tuple[str, ...]
    query: str
    definition: str
    or_replace: bool = False
    exists_ok: bool = False


@dataclass(frozen=True, slots=True)
class DropView:
    """DROP VIEW."""

    exists_ok: bool = False


@dataclass(frozen=True, slots=True)
class Privileges:
    """GRANT ... ON, or REVOKE ... ON.

    Attributes:
        privileges: None for ALL.
        role: Whose.
        table: What they are on; None for all of a bucket.
        bucket: That bucket; empty for all of them.
    """

    privileges: tuple[Privilege, ...] | None
    role: str
    table: TableName | None = None
    bucket: str = ""


@dataclass(frozen=True, slots=True)
class Membership:
    """GRANT role TO USER, or REVOKE role FROM USER."""

    role: str
    user: str


@dataclass(frozen=True, slots=True)
class CreateRole:
    """CREATE ROLE."""

    name: str
    exists_ok: bool = False


@dataclass(frozen=True, slots=True)
class DropRole:
    """DROP ROLE."""

    name: str
    exists_ok: bool = False


RowChange = Update | Delete | Merge | Upsert
"""Changes of rows: each has a change query."""

AccessChange = Privileges | Membership | CreateRole | DropRole
"""Changes of who may do what: they change no table."""

Change = RowChange | AlterTable | Comment | CreateView | DropView | AccessChange
