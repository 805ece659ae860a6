"""Masks whose values don't have the type of their column."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from query.asking import rows

from flightserver.access.principal import Principal
from flightserver.catalog.identities import ADMIN, READER, Policy
from flightserver.catalog.log import Operation
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.ulid import new_ulid
from flightserver.catalog.updates import PutPolicy
from flightserver.errors import InvalidRequest

if TYPE_CHECKING:
    from flightserver.lakehouse import Lakehouse


def test_a_value_that_does_not_fit_is_null_and_is_quoted_by_no_error(lakehouse: Lakehouse) -> None:
    rows(lakehouse, "CREATE TABLE people AS SELECT 1 AS id, 'ada' AS name UNION ALL SELECT 2, '44'")
    mask = PutPolicy(Policy("names-for-ids", "primary", "people", masks={"id": "name", "name": "'***'"}))
    lakehouse.catalog.commit(Transaction(Operation(new_ulid(), "test"), (mask,)))
    reader = lakehouse.access.rights(Principal("eve", frozenset({READER}), "password"))
    admin = lakehouse.access.rights(Principal("ann", frozenset({ADMIN}), "password"))

    shown = rows(lakehouse, "SELECT id, name FROM people", rights=reader)
    assert sorted(shown, key=str) == [(44, "***"), (None, "***")]
    assert sorted(rows(lakehouse, "SELECT id, name FROM people", rights=admin)) == [(1, "ada"), (2, "44")]


def test_a_policy_that_no_type_fits_is_refused_when_it_is_made(lakehouse: Lakehouse) -> None:
    rows(lakehouse, "CREATE TABLE people AS SELECT 1 AS id")
    with pytest.raises(InvalidRequest, match=r"can't be applied to \"primary\".people"):
        lakehouse.queries.check_policy(Policy("p", "primary", "people", masks={"id": "no_such_column"}))
    with pytest.raises(InvalidRequest, match=r"can't be applied to \"primary\".people"):
        lakehouse.queries.check_policy(Policy("p", "primary", "people", filter="id + "))
