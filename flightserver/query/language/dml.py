"""UPDATE, DELETE, MERGE and INSERT with conflicts, from tokens to values.

The grammar is PostgreSQL's, with `UPDATE SET *` and `INSERT *` of Delta Lake and Spark, and `INSERT OR REPLACE` of
SQLite and DuckDB. What is left out is refused by name: RETURNING, several columns assigned from one subquery, and parts
of columns.
"""

from __future__ import annotations

from flightserver.errors import InvalidRequest
from flightserver.query.language.changes import (
    Assignment,
    Clause,
    Delete,
    DeleteRow,
    DoNothing,
    InsertRow,
    Merge,
    SetColumns,
    Star,
    TableName,
    Update,
    Upsert,
    When,
)
from flightserver.query.language.reader import QUERY_CLAUSES, QUERY_WORDS, Reader, check_once

EXCLUDED = "excluded"
"""Names the proposed row of an INSERT with conflicts."""

MAX_CLAUSES = 100
"""Clauses of one MERGE: each is repeated for every column of the change query."""

_SOURCE_ENDS = ("WHERE", "RETURNING", *QUERY_CLAUSES)


def update(reader: Reader) -> tuple[TableName, Update]:
    """UPDATE [ONLY] t [[AS] a] SET ... [FROM ...] [WHERE ...].

    Raises:
        InvalidRequest: It is not written so.
    """
    reader.expect("UPDATE")
    reader.take("ONLY")
    target = reader.target()
    alias = reader.alias() or target.name
    reader.expect("SET")
    assignments = _assignments(reader, (alias, target.name), "FROM", *_SOURCE_ENDS)
    source = reader.upto(*_SOURCE_ENDS, what="a table after FROM") if reader.take("FROM") else ""
    return target, Update(alias, assignments, source, _where(reader))


def delete(reader: Reader) -> tuple[TableName, Delete | None]:
    """DELETE FROM [ONLY] t [[AS] a] [USING ...] [WHERE ...]; None in place of the change where all rows go.

    Raises:
        InvalidRequest: It is not written so.
    """
    reader.expect("DELETE", "FROM")
    reader.take("ONLY")
    target = reader.target()
    alias = reader.alias() or target.name
    source = reader.upto(*_SOURCE_ENDS, what="a table after USING") if reader.take("USING") else ""
    condition = _where(reader)
    return target, Delete(alias, source, condition) if source or condition else None


def merge(reader: Reader) -> tuple[TableName, Merge]:
    """MERGE INTO [ONLY] t [[AS] a] USING s [[AS] b] ON condition, and clauses.

    Raises:
        InvalidRequest: It is not written so, a clause can't be reached, or source and target have one name.
    """
    reader.expect("MERGE", "INTO")
    reader.take("ONLY")
    target = reader.target()
    alias = reader.alias() or target.name
    reader.expect("USING")
    source, source_name = _merge_source(reader)
    if source_name == alias:
        raise InvalidRequest(f'source and target of MERGE are both called "{alias}": give one of them an alias')
    reader.expect("ON")
    condition = reader.upto("WHEN", what="a condition after ON")
    clauses: list[Clause] = []
    while not clauses or reader.peek() == "WHEN":
        clauses.append(_clause(reader, (alias, target.name), source_name))
    reader.end("WHEN or the end of the statement")
    _check_clauses(clauses)
    return target, Merge(alias, source, source_name, condition, tuple(clauses))


def conflict_clause(reader: Reader) -> int | None:
    """Where ON CONFLICT stands in the INSERT that `reader` is at, outside of all brackets; None if it does not.

    A join condition may begin with a column `conflict` as well, and is told from the clause by what follows.
    """
    found = None
    for ahead in reader.outside("ON"):
        follows = reader.peek(ahead + 2)
        begins = follows in {"(", "DO"} or (follows == "ON" and reader.peek(ahead + 3) == "CONSTRAINT")
        if reader.peek(ahead + 1) == "CONFLICT" and begins:
            found = reader.position + ahead
    return found


def upsert(reader: Reader, conflict: int | None) -> tuple[TableName, Upsert]:
    """INSERT INTO t [AS a] [(columns)] query ON CONFLICT ..., and INSERT OR REPLACE, INSERT OR IGNORE.

    Args:
        reader: At INSERT.
        conflict: Where ON CONFLICT stands, as `conflict_clause` found it.

    Raises:
        InvalidRequest: It is not written so.
    """
    reader.expect("INSERT")
    replaces, ignores = reader.take("OR", "REPLACE"), reader.take("OR", "IGNORE")
    if (replaces or ignores) and conflict is not None:
        raise InvalidRequest("INSERT OR ... already says what happens on a conflict: leave out ON CONFLICT")
    reader.expect("INTO")
    reader.take("TABLE")
    target = reader.target()
    alias = reader.alias() or target.name
    if alias == EXCLUDED:
        raise InvalidRequest(f'"{EXCLUDED}" names the proposed row: give the table another alias')
    columns = reader.names() if reader.peek() == "(" and reader.peek(1) not in QUERY_WORDS else ()
    if reader.peek() not in QUERY_WORDS:
        reader.fail("VALUES or a query")
    width = _width(reader)
    query = _query(reader, conflict)
    if conflict is None:
        reader.end("the end of the statement")
        return target, Upsert(alias, columns, query, width, (), Star.EVERY_COLUMN if replaces else None)
    reader.expect("ON", "CONFLICT")
    keys = _conflict_target(reader)
    reader.expect("DO")
    if reader.take("NOTHING"):
        reader.end()
        return target, Upsert(alias, columns, query, width, keys, None)
    reader.expect("UPDATE", "SET")
    assignments = _assignments(reader, (alias, target.name), "WHERE", "RETURNING")
    return target, Upsert(alias, columns, query, width, keys, assignments, _where(reader))


def _query(reader: Reader, conflict: int | None) -> str:
    """The query of an INSERT, which ends at ON CONFLICT or the end of the statement."""
    if conflict is None:
        return reader.upto("RETURNING", what="VALUES or a query")
    # Cut there, because a join condition of the query may look like the clause up to its third word.
    inner = Reader(reader.sql, reader.tokens[:conflict])
    inner.position = reader.position
    query = inner.upto(what="VALUES or a query")
    reader.position = conflict
    return query


def _width(reader: Reader) -> int | None:
    """How many values the first row of VALUES has; None where something else follows."""
    if reader.peek() != "VALUES":
        return None
    start = reader.position
    reader.position += 1
    width = len(reader.expressions())
    reader.position = start
    return width


def _conflict_target(reader: Reader) -> tuple[str, ...]:
    if reader.take("ON", "CONSTRAINT"):
        # The one constraint that rows can violate is the primary key, whose name is not kept.
        reader.identifier()
        return ()
    keys = reader.names() if reader.peek() == "(" else ()
    if reader.peek() == "WHERE":
        reader.fail("DO (a conflict is one of the primary key, which has no condition)")
    return keys


def _where(reader: Reader) -> str:
    """The condition after WHERE, if there is one; then the statement ends."""
    condition = reader.upto("RETURNING", *QUERY_CLAUSES, what="a condition after WHERE") if reader.take("WHERE") else ""
    reader.end("the end of the statement" if condition else "WHERE or the end of the statement")
    return condition


def _assignments(reader: Reader, own: tuple[str, str], *stops: str) -> tuple[Assignment, ...]:
    """What follows SET; `own` are the names by which a column may be qualified."""
    found: list[Assignment] = []
    while True:
        if reader.peek() == "(":
            found += _row_assignment(reader)
        else:
            column = _assigned_column(reader, own)
            reader.expect("=")
            found.append(Assignment(column, reader.expression(",", *stops)))
        if not reader.take(","):
            break
    check_once((one.column for one in found), "assigned")
    return tuple(found)


def _row_assignment(reader: Reader) -> list[Assignment]:
    columns = reader.names()
    reader.expect("=")
    reader.take("ROW")
    if reader.peek() == "(" and reader.peek(1) in QUERY_WORDS - {"("}:
        raise InvalidRequest(
            "several columns can't be assigned from one subquery: assign each from its own, or join the query after "
            "FROM"
        )
    values = reader.expressions()
    if len(columns) != len(values):
        raise InvalidRequest(f"SET assigns {len(values)} values to {len(columns)} columns ({', '.join(columns)})")
    return [Assignment(column, value) for column, value in zip(columns, values, strict=True)]


def _assigned_column(reader: Reader, own: tuple[str, str]) -> str:
    parts = reader.qualified()
    if reader.peek() in {"[", ":"} or (len(parts) > 1 and parts[:-1] not in [[name] for name in own]):
        raise InvalidRequest(
            f"{'.'.join(parts)!r} can't be assigned: expected a column of {own[0]!r}, which is assigned as a whole"
        )
    return parts[-1]


def _merge_source(reader: Reader) -> tuple[str, str]:
    """The text of the source with its alias, and the name of its columns' table."""
    first = reader.position
    name = ""
    if reader.peek() != "(":
        name = reader.table().name
    if reader.peek() == "(":
        reader.take("(")
        reader.upto(")", what="a query" if not name else "arguments")
        reader.expect(")")
    alias = reader.alias()
    if alias and reader.peek() == "(":
        reader.names()
    if not alias and not name:
        reader.fail("an alias for the query after USING")
    return reader.text(first, reader.position), alias or name


def _clause(reader: Reader, own: tuple[str, str], source_name: str) -> Clause:
    reader.expect("WHEN")
    when = _when(reader)
    condition = reader.upto("THEN", what="a condition after AND") if reader.take("AND") else ""
    reader.expect("THEN")
    if reader.take("DO", "NOTHING"):
        return Clause(when, condition, DoNothing())
    if when is When.NOT_MATCHED:
        return Clause(when, condition, _insert_row(reader, source_name))
    if reader.take("DELETE"):
        return Clause(when, condition, DeleteRow())
    if not reader.take("UPDATE", "SET"):
        reader.fail("UPDATE SET, DELETE or DO NOTHING")
    if reader.take("*"):
        if when is When.NOT_MATCHED_BY_SOURCE:
            raise InvalidRequest("UPDATE SET * takes its values from the source, which these rows are not matched by")
        return Clause(when, condition, SetColumns(Star.EVERY_COLUMN))
    return Clause(when, condition, SetColumns(_assignments(reader, own, "WHEN", "RETURNING")))


def _when(reader: Reader) -> When:
    if reader.take("MATCHED"):
        return When.MATCHED
    if not reader.take("NOT", "MATCHED"):
        reader.fail("MATCHED or NOT MATCHED")
    if reader.take("BY", "SOURCE"):
        return When.NOT_MATCHED_BY_SOURCE
    if reader.take("BY"):
        reader.expect("TARGET")
    return When.NOT_MATCHED


def _insert_row(reader: Reader, source_name: str) -> InsertRow:
    if not reader.take("INSERT"):
        reader.fail(f"INSERT or DO NOTHING (rows of {source_name!r} that are not matched can only be inserted)")
    if reader.take("*"):
        return InsertRow((), Star.EVERY_COLUMN)
    columns = reader.names() if reader.peek() == "(" else ()
    reader.expect("VALUES")
    values = reader.expressions()
    if columns and len(columns) != len(values):
        raise InvalidRequest(f"{len(values)} values are given for {len(columns)} columns ({', '.join(columns)})")
    return InsertRow(columns, values)


def _check_clauses(clauses: list[Clause]) -> None:
    if len(clauses) > MAX_CLAUSES:
        raise InvalidRequest(f"MERGE has {len(clauses)} clauses; at most {MAX_CLAUSES} are read: use CASE in fewer")
    unconditional: set[When] = set()
    for clause in clauses:
        if clause.when in unconditional:
            raise InvalidRequest(
                f"WHEN {clause.when.value.upper()} stands behind one without a condition and would never be reached"
            )
        if not clause.condition:
            unconditional.add(clause.when)
