"""Whatever the text, it is understood or refused with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hypothesis.strategies as st
import pyarrow as pa
from hypothesis import given

from flightserver.errors import InvalidRequest
from flightserver.query.language.building import change_query, each_once
from flightserver.query.language.statements import Kind, Statement, parse

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_WORDS = """
    add alter and as at between by case check column columns comment commit conflict constraint create data default
    delete describe distinct do drop else end excluded exists explain for from group if ignore in insert interval into
    is join key limit lateral matched merge not nothing null of on only or order over overwrite primary rename replace
    restrict returning row select set show source system_time system_version table target temporary then timestamp to
    truncate type union unique update using values version view when where with
    a b t s t.a s.b "A" "t" 'text' '2026-01-31' '' 0 1 7 1.5 1e5 -1 $1 $2 $name ? ?::int :x
    ( ) ( ) [ ] { } , , . ; = = => < > >> << :: + - * / || @ $ ` \\ % ~ ! & | # -- /* */ $$ $tag$ " '
"""

_STARTS = """
    UPDATE t SET
    UPDATE t AS a SET a =
    DELETE FROM t
    DELETE FROM t USING
    MERGE INTO t USING s ON a = b WHEN
    MERGE INTO t USING ( SELECT 1 ) AS s ON a WHEN NOT MATCHED THEN
    INSERT INTO t VALUES ( 1 ) ON CONFLICT
    INSERT OR REPLACE INTO t
    ALTER TABLE t
    ALTER TABLE t ADD
    ALTER TABLE t ALTER a
    COMMENT ON
    CREATE VIEW v AS
    CREATE TABLE t
    DROP VIEW
    SELECT * FROM t FOR VERSION AS OF
    SELECT * FROM t AT (
    INSERT INTO t SELECT a FROM t FOR
"""

SCHEMA = pa.schema([("a", pa.int64()), ("b", pa.string()), ("A", pa.float64())])


def _soup() -> SearchStrategy[str]:
    words = st.lists(st.sampled_from(_WORDS.split()), max_size=14)
    start = st.sampled_from(_STARTS.splitlines())
    return st.builds(lambda first, rest: " ".join([first, *rest]), start, words)


def _understood(text: str) -> Statement | None:
    try:
        return parse(text)
    except InvalidRequest as error:
        assert error.message  # noqa: PT017  # either outcome is right; what matters is that nothing else is raised
        return None


@given(st.text(max_size=200))
def test_any_text_is_sorted_or_refused(text: str) -> None:
    statement = _understood(text)

    assert statement is None or statement.kind in Kind


@given(_soup())
def test_any_sequence_of_words_is_sorted_or_refused(text: str) -> None:
    statement = _understood(text)

    assert statement is None or (statement.target is None) == (statement.kind is Kind.QUERY)


@given(_soup())
def test_every_statement_that_changes_rows_has_a_change_query_or_is_refused(text: str) -> None:
    statement = _understood(text)
    if statement is None or statement.kind not in {Kind.UPDATE, Kind.DELETE, Kind.MERGE, Kind.UPSERT}:
        return

    for one in filter(None, (statement, each_once(statement))):
        try:
            query = change_query(one, SCHEMA, ("a",))
        except InvalidRequest as error:
            assert error.message  # noqa: PT017  # as above
        else:
            assert query.startswith("SELECT ")
