"""Keys in CREATE TABLE and ALTER TABLE: PRIMARY KEY, FOREIGN KEY and REFERENCES, from tokens to values.

The engine reads the types of columns and refuses foreign keys, so keys are taken out of what it gets: a list of
definitions is cut at its commas, definitions that are keys are left out, and so are keys behind a column. Everything
else is given to the engine as it was written. What would have to be kept and is not is refused rather than forgotten;
of what can be said of foreign keys only that is taken which is so anyway, such as NOT DEFERRABLE.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flightserver.errors import InvalidRequest
from flightserver.query.language.changes import ForeignKey, Keys
from flightserver.query.language.reader import Reader
from flightserver.query.language.tokens import word

if TYPE_CHECKING:
    from sqlglot.tokenizer_core import Token

KEPT_OF_COLUMNS = "it would not be kept: columns have a type, NOT NULL, PRIMARY KEY and REFERENCES"
"""Why other options of columns are refused."""

REFUSED_OPTIONS = frozenset({"DEFAULT", "UNIQUE", "CHECK", "GENERATED", "AUTO_INCREMENT"})
"""Options of columns and tables that would not be kept."""

_NESTING = {"(": 1, "[": 1, "<": 1, "<<": 2, ")": -1, "]": -1, ">": -1, ">>": -2}
_ACTIONS = (("NO", "ACTION"), ("RESTRICT",), ("CASCADE",), ("SET", "NULL"), ("SET", "DEFAULT"))
_TRUE_ANYWAY = (
    ("MATCH", "SIMPLE"),
    ("NOT", "DEFERRABLE"),
    ("INITIALLY", "IMMEDIATE"),
    ("NOT", "ENFORCED"),
    ("NOT", "VALID"),
)
_NEVER_CHECKED = {
    "MATCH": "MATCH SIMPLE (foreign keys are recorded, not checked)",
    "DEFERRABLE": "NOT DEFERRABLE (foreign keys are recorded, not checked)",
    "INITIALLY": "INITIALLY IMMEDIATE (foreign keys are recorded, not checked)",
    "ENFORCED": "NOT ENFORCED (foreign keys are recorded, not checked)",
}


@dataclass(slots=True)
class _Found:
    """Keys that were found so far."""

    primary_key: tuple[str, ...] = ()
    primary_key_name: str = ""
    foreign_keys: list[ForeignKey] = field(default_factory=list)

    def set_primary_key(self, columns: tuple[str, ...], name: str) -> None:
        """Take the primary key.

        Raises:
            InvalidRequest: There is one already.
        """
        if self.primary_key:
            raise InvalidRequest(
                f"PRIMARY KEY is there twice, of {', '.join(self.primary_key)} and of {', '.join(columns)}: a table "
                "has one, which may be of several columns, as PRIMARY KEY (a, b)"
            )
        self.primary_key, self.primary_key_name = columns, name


def definitions(reader: Reader) -> tuple[str, Keys]:
    """The columns of CREATE TABLE without keys, as text, and the keys.

    Args:
        reader: Over what stands between the parentheses.

    Raises:
        InvalidRequest: A key is not written so, there are two primary keys, or an option is refused.
    """
    found = _Found()
    columns = []
    for tokens in _between_commas(reader):
        inner = Reader(reader.sql, tokens)
        if not _table_constraint(inner, found):
            columns.append(_column(inner, found))
    return ", ".join(columns), Keys(found.primary_key, found.primary_key_name, tuple(found.foreign_keys))


def at_foreign_key(reader: Reader) -> bool:
    """Whether FOREIGN KEY follows."""
    return reader.peek() == "FOREIGN KEY" or (reader.peek() == "FOREIGN" and reader.peek(1) == "KEY")


def foreign_key(reader: Reader, name: str) -> ForeignKey:
    """FOREIGN KEY (columns) REFERENCES ...

    Args:
        reader: At FOREIGN KEY.
        name: Of the constraint; empty where it has none.

    Raises:
        InvalidRequest: It is not written so.
    """
    if not reader.take("FOREIGN KEY"):
        reader.expect("FOREIGN", "KEY")
    return _references(reader, reader.names(), name)


def column_reference(reader: Reader, column: str) -> ForeignKey | None:
    """[CONSTRAINT name] REFERENCES ... behind a column, or None when that doesn't follow.

    Raises:
        InvalidRequest: It is not written so.
    """
    start = reader.position
    name = reader.identifier() if reader.take("CONSTRAINT") else ""
    if reader.peek() == "REFERENCES":
        return _references(reader, (column,), name)
    reader.position = start
    return None


def _between_commas(reader: Reader) -> list[list[Token]]:
    """The tokens of each definition; none at all when there are no tokens."""
    if not reader.tokens:
        return []
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in reader.tokens:
        now = word(token)
        depth += _NESTING.get(now, 0)
        if now == "," and depth == 0:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _table_constraint(reader: Reader, found: _Found) -> bool:
    """Take a key of the table if this is one; False when it is a column."""
    named = reader.take("CONSTRAINT")
    name = reader.identifier() if named else ""
    if reader.primary_key():
        found.set_primary_key(reader.names(), name)
    elif at_foreign_key(reader):
        found.foreign_keys.append(foreign_key(reader, name))
    elif named:
        _refuse_option(reader)
        reader.fail("PRIMARY KEY or FOREIGN KEY behind the name of the constraint (others would not be kept)")
    else:
        return False
    reader.end("',' or ')' behind the key")
    return True


def _column(reader: Reader, found: _Found) -> str:
    """The text of a column without the keys that stand behind its type."""
    if reader.done():
        return ""
    _refuse_option(reader)
    column = reader.identifier()
    kept: list[str] = []
    first, depth = 0, 0
    while not reader.done():
        start = reader.position
        if depth == 0 and _column_key(reader, column, found):
            kept.append(reader.text(first, start))
            first = reader.position
        else:
            _refuse_option(reader)
            depth += _NESTING.get(reader.peek(), 0)
            reader.position += 1
    return " ".join([*kept, reader.text(first, reader.position)]).strip()


def _refuse_option(reader: Reader) -> None:
    if reader.peek() in REFUSED_OPTIONS:
        raise InvalidRequest(f"{reader.peek()} in CREATE TABLE is refused, because {KEPT_OF_COLUMNS}")


def _column_key(reader: Reader, column: str, found: _Found) -> bool:
    """Take a key of a column if one follows."""
    reference = column_reference(reader, column)
    if reference is not None:
        found.foreign_keys.append(reference)
        return True
    start = reader.position
    name = reader.identifier() if reader.take("CONSTRAINT") else ""
    if reader.primary_key():
        found.set_primary_key((column,), name)
        return True
    reader.position = start
    return False


def _references(reader: Reader, columns: tuple[str, ...], name: str) -> ForeignKey:
    reader.expect("REFERENCES")
    table = reader.table()
    referenced = reader.names() if reader.peek() == "(" else ()
    actions: dict[str, str] = {}
    while True:
        if reader.take("ON"):
            event = next((each for each in ("UPDATE", "DELETE") if reader.take(each)), "")
            if not event or event in actions:
                reader.fail("UPDATE or DELETE behind ON, each once")
            actions[event] = _action(reader)
        elif not any(reader.take(*words) for words in _TRUE_ANYWAY):
            break
    if reader.peek() in _NEVER_CHECKED:
        reader.fail(_NEVER_CHECKED[reader.peek()])
    usual = "NO ACTION"
    return ForeignKey(columns, table, referenced, name, actions.get("UPDATE", usual), actions.get("DELETE", usual))


def _action(reader: Reader) -> str:
    for words in _ACTIONS:
        if reader.take(*words):
            return " ".join(words)
    return reader.fail("NO ACTION, RESTRICT, CASCADE, SET NULL or SET DEFAULT")
