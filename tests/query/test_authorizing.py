"""Which privileges each statement needs: with exactly those it runs, and without any one of them it doesn't."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from query.asking import run

from flightserver.access.principal import Principal
from flightserver.access.rights import Rights
from flightserver.catalog.identities import AccessState, Grant, Privilege, Role
from flightserver.errors import Forbidden, InvalidRequest, NotFound

if TYPE_CHECKING:
    from flightserver.lakehouse import Lakehouse

SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER = Privilege
MERGE = "MERGE INTO t USING (SELECT 2 AS n) AS o ON t.id = o.n WHEN NOT MATCHED THEN INSERT (id) VALUES (o.n)"

STATEMENTS = [
    ("INSERT INTO t VALUES (2, 'b')", {SELECT, INSERT}),
    ("INSERT INTO t VALUES (1, 'b') ON CONFLICT (id) DO UPDATE SET name = 'b'", {SELECT, INSERT, UPDATE}),
    ("UPDATE t SET name = 'b'", {SELECT, UPDATE}),
    ("DELETE FROM t WHERE id = 1", {SELECT, DELETE}),
    ("TRUNCATE TABLE t", {SELECT, DELETE}),
    (MERGE, {SELECT, INSERT, UPDATE, DELETE}),
    ("ALTER TABLE t ADD COLUMN x BIGINT", {SELECT, ALTER}),
    ("ALTER TABLE t RENAME TO u", {SELECT, ALTER}),
    ("COMMENT ON TABLE t IS 'x'", {SELECT, ALTER}),
    ("DROP TABLE t", {SELECT, ALTER}),
    ("DROP VIEW v", {SELECT, ALTER}),
    ("CREATE TABLE made (x BIGINT)", {CREATE}),
    ("CREATE TABLE made AS SELECT * FROM t", {CREATE, SELECT}),
    ("CREATE VIEW made AS SELECT * FROM t", {CREATE, SELECT}),
    ("CREATE OR REPLACE TABLE t (x BIGINT)", {CREATE, ALTER}),
    ("CREATE OR REPLACE VIEW w AS SELECT 1 AS x", {CREATE, ALTER}),
]
ADMINISTER = [
    "CREATE ROLE r",
    "DROP ROLE r",
    "GRANT SELECT ON t TO r",
    "REVOKE SELECT ON t FROM r",
    "GRANT r TO USER u",
]


def rights(*privileges: Privilege) -> Rights:
    """Of somebody who may do this in bucket primary."""
    state = AccessState(1, roles={"own": Role("own", (Grant(privileges, "primary"),))})
    return Rights(Principal("eve", frozenset({"own"}), "password"), state)


@pytest.fixture
def filled(lakehouse: Lakehouse) -> Lakehouse:
    run(lakehouse, "CREATE TABLE t (id BIGINT PRIMARY KEY, name VARCHAR)")
    run(lakehouse, "INSERT INTO t VALUES (1, 'a')")
    run(lakehouse, "CREATE VIEW v AS SELECT * FROM t")
    return lakehouse


@pytest.mark.parametrize(("sql", "needed"), STATEMENTS)
def test_a_statement_runs_with_what_it_needs_and_not_without(
    filled: Lakehouse, sql: str, needed: set[Privilege]
) -> None:
    version = filled.catalog.snapshot().version
    for missing in needed:
        with pytest.raises((Forbidden, NotFound)):
            run(filled, sql, rights=rights(*(needed - {missing})))
    assert filled.catalog.snapshot().version == version

    run(filled, sql, rights=rights(*needed))

    assert filled.catalog.snapshot().version > version


@pytest.mark.parametrize("sql", ADMINISTER)
def test_roles_and_grants_are_for_administrators(filled: Lakehouse, sql: str) -> None:
    with pytest.raises(Forbidden, match="needs the role 'admin'"):
        run(filled, sql, rights=rights(*Privilege))


@pytest.mark.parametrize("schema", ["system", "information_schema"])
def test_what_only_the_server_fills_is_not_changed(filled: Lakehouse, schema: str) -> None:
    with pytest.raises(InvalidRequest, match="can be read but not changed"):
        run(filled, f"CREATE TABLE {schema}.t (x BIGINT)", rights=rights(*Privilege))


def test_a_target_that_is_not_seen_is_as_one_that_is_not_there(filled: Lakehouse) -> None:
    blind = rights(INSERT, UPDATE, DELETE, ALTER)
    for sql in ("DELETE FROM {}", "DROP TABLE {}", "UPDATE {} SET name = 'x'", "ALTER TABLE {} ADD COLUMN x BIGINT"):
        told = []
        for name in ("t", "u"):
            with pytest.raises(NotFound) as refused:
                run(filled, sql.format(name), rights=blind)
            told.append(str(refused.value).replace(f"'{name}'", "NAME"))
        assert told[0] == told[1]
    run(filled, "DROP TABLE IF EXISTS t", rights=blind)
    assert "t" in {key.name for key in filled.catalog.snapshot().datasets}
