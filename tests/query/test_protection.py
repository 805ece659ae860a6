"""The query that stands in the place of a dataset: what is hidden, what is masked, and what nobody sees through."""

from __future__ import annotations

from types import MappingProxyType

import pyarrow as pa
import pytest
from catalog.making import dataset
from msgspec.structs import replace

from flightserver.access.principal import Principal
from flightserver.access.rights import UNRESTRICTED, Rights
from flightserver.catalog.identities import AccessState, Policy
from flightserver.catalog.snapshot import Snapshot
from flightserver.errors import Forbidden, InvalidRequest
from flightserver.query.protection import check_explained, check_policy, protection
from flightserver.tables.schema import encode

SCHEMA = pa.schema([("id", pa.int64()), ("email", pa.string()), ("Region", pa.string())])
PEOPLE = replace(dataset("people", 1, identity="1"), schema=encode(SCHEMA), column_tags={"email": ("pii",)})
NEWEST = Snapshot(3, datasets=MappingProxyType({PEOPLE.key: PEOPLE}))
FENCE = "CASE WHEN random() >= 0 THEN {} END"
REGION = FENCE.format('"Region"')


def rights(*policies: Policy, user: str = "eve") -> Rights:
    """Of a reader to whom these policies apply."""
    state = AccessState(1, policies={one.name: one for one in policies})
    return Rights(Principal(user, frozenset({"reader"}), "password"), state)


def sql(*policies: Policy, user: str = "eve") -> str:
    found = protection(PEOPLE, rights(*policies, user=user), NEWEST)
    assert found is not None
    assert found.policies == tuple(sorted(one.name for one in policies))
    return found.sql


def test_without_a_policy_that_hides_something_a_dataset_is_read_as_it_is() -> None:
    unused = rights(Policy("pii", tags={"secret": "NULL"}), Policy("other", "primary", "secret", filter="false"))

    assert protection(PEOPLE, unused, NEWEST) is None
    assert protection(PEOPLE, UNRESTRICTED, NEWEST) is None
    assert protection(PEOPLE, rights(Policy("p", filter="false")), None) is None


def test_masks_stand_in_the_place_of_columns() -> None:
    masked = 'SELECT "id", (upper("email")) AS "email", "Region" AS "Region" FROM __protected'

    assert sql(Policy("p", tags={"pii": "upper(value)"})) == masked.replace('"id",', '"id" AS "id",')
    by_name = Policy("a", masks={"email": "'x'"})
    assert "('x') AS \"email\"" in sql(by_name, Policy("b", tags={"pii": "'y'"}))


def test_filters_come_first_and_their_columns_are_seen_through_a_fence() -> None:
    assert sql(Policy("p", filter='"Region" = current_user', masks={"id": "0"}), user="o'neill") == (
        f'SELECT {FENCE.format("(0)")} AS "id", "email" AS "email", {REGION} AS "Region" '
        f"FROM (SELECT * FROM __protected WHERE (\"Region\" = 'o''neill') LIMIT {2**63 - 1}) AS __protected"
    )


@pytest.mark.parametrize("text", ['"current_user" = 1', "'current_user' = 'x'", "a.\"current_user\" = 'y'"])
def test_only_the_bare_word_is_the_user(text: str) -> None:
    assert f"WHERE ({text})" in sql(Policy("p", filter=text))


def test_what_a_policy_cannot_be_applied_to_is_not_read() -> None:
    with pytest.raises(Forbidden, match="masks column 'absent', which this version doesn't have"):
        sql(Policy("p", masks={"absent": "0"}))
    before = replace(PEOPLE, schema=encode(SCHEMA.remove(0)), schema_fingerprint="other", version=1)
    with pytest.raises(Forbidden, match="only the newest can be read"):
        protection(before, rights(Policy("p", filter="id > 1")), NEWEST)


def test_an_earlier_version_is_protected_by_the_name_and_tags_of_now() -> None:
    before = replace(PEOPLE, name="staff", column_tags={}, version=1)

    found = protection(before, rights(Policy("named", "primary", "people", tags={"pii": "'***'"})), NEWEST)

    assert found is not None
    assert "('***') AS \"email\"" in found.sql


@pytest.mark.parametrize(
    "plan", ["Explain\n  SubqueryAlias: __protected\n    X", "Analyze\n  SubqueryAlias: __protected\n"]
)
def test_plans_of_what_is_protected_are_not_explained(plan: str) -> None:
    with pytest.raises(Forbidden, match="EXPLAIN is not available"):
        check_explained(plan)
    check_explained(plan.replace("__protected", "people"))
    check_explained(plan.partition("\n")[2].lstrip())


@pytest.mark.parametrize("text", ["", "a, b", "a) OR (b", "(a", "a))"])
def test_a_text_of_a_policy_is_one_expression(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"the mask of id of policy 'p' must be one SQL expression"):
        check_policy(Policy("p", masks={"id": text}))
    check_policy(Policy("p", masks={"id": "concat(a, ';', '(')"}))
