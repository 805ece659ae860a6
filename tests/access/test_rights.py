"""What roles and grants allow, and what of a snapshot exists for whom."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType

import pytest
from catalog.making import dataset, index, transaction
from msgspec.structs import replace

from flightserver.access.principal import ANONYMOUS, Principal
from flightserver.access.rights import UNRESTRICTED, AccessControl, Rights
from flightserver.catalog.catalog import Catalog
from flightserver.catalog.entities import Bucket, DatasetKey
from flightserver.catalog.identities import AccessState, Grant, Policy, Privilege, Role, User
from flightserver.catalog.snapshot import Snapshot
from flightserver.catalog.updates import PutUser
from flightserver.errors import Forbidden
from flightserver.storage.memory import MemoryObjects

PEOPLE, SECRET, NOTES = DatasetKey("primary", "people"), DatasetKey("primary", "secret"), DatasetKey("testing", "notes")


def rights(*roles: str, grants: tuple[Grant, ...] = (), policies: tuple[Policy, ...] = (), user: str = "eve") -> Rights:
    """Of a user with these roles, and one called `own` that has these grants."""
    state = AccessState(1, roles={"own": Role("own", grants)}, policies={one.name: one for one in policies})
    return Rights(Principal(user, frozenset({*roles, "own"}), "password"), state)


def snapshot(version: int, **names: str) -> Snapshot:
    """Datasets of the primary bucket: name -> id."""
    found = [dataset(name, 1, identity=identity) for name, identity in names.items()]
    return Snapshot(version, datasets=MappingProxyType({one.key: one for one in found}))


def names(one: Snapshot) -> set[str]:
    return {key.name for key in one.datasets}


@pytest.mark.parametrize(
    ("role", "allowed"),
    [("reader", {Privilege.SELECT}), ("writer", set(Privilege)), ("admin", set(Privilege)), ("unknown", set())],
)
def test_built_in_roles(role: str, allowed: set[Privilege]) -> None:
    assert {one for one in Privilege if rights(role).may(one, PEOPLE)} == allowed
    assert rights(role).is_admin == (role == "admin")
    assert rights(role).may_create("testing") == (Privilege.CREATE in allowed)


def test_a_grant_covers_a_dataset_a_bucket_or_everything() -> None:
    some = rights(grants=(Grant((Privilege.SELECT,), "primary", "people"), Grant((Privilege.INSERT,), "testing")))
    every = rights(grants=(Grant((Privilege.DELETE,)),))

    assert [some.may(Privilege.SELECT, key) for key in (PEOPLE, SECRET, NOTES)] == [True, False, False]
    assert [some.may(Privilege.INSERT, key) for key in (PEOPLE, SECRET, NOTES)] == [False, False, True]
    assert [every.may(Privilege.DELETE, key) for key in (PEOPLE, SECRET, NOTES)] == [True, True, True]
    assert [every.may(Privilege.SELECT, key) for key in (PEOPLE, SECRET, NOTES)] == [False, False, False]


def test_what_may_be_made_where() -> None:
    some = rights(grants=(Grant((Privilege.CREATE,), "testing"), Grant((Privilege.CREATE,), "primary", "people")))

    some.require_create("testing")
    with pytest.raises(Forbidden, match=r"may not make tables or views in bucket 'primary'.*GRANT CREATE ON BUCKET"):
        some.require_create("primary")


@pytest.mark.parametrize(
    ("mode", "exists", "evolve", "needed"),
    [
        ("create", False, False, {Privilege.CREATE}),
        ("append", True, False, {Privilege.INSERT}),
        ("append", False, False, {Privilege.INSERT}),
        ("append", True, True, {Privilege.INSERT, Privilege.ALTER}),
        ("create_append", True, False, {Privilege.INSERT}),
        ("create_append", False, False, {Privilege.INSERT, Privilege.CREATE}),
        ("replace", True, False, {Privilege.INSERT, Privilege.DELETE, Privilege.ALTER}),
        ("replace", False, False, {Privilege.INSERT, Privilege.DELETE, Privilege.ALTER, Privilege.CREATE}),
        ("upsert", True, False, {Privilege.INSERT, Privilege.UPDATE}),
    ],
)
def test_ingesting_needs_by_its_mode(mode: str, exists: bool, evolve: bool, needed: set[Privilege]) -> None:  # noqa: FBT001  # of the table above
    one = dataset("people", 1) if exists else None
    rights(grants=(Grant(tuple(needed), "primary"),)).require_ingest(mode, PEOPLE, one, evolve=evolve)
    for missing in needed:
        less = rights(grants=(Grant(tuple(needed - {missing}), "primary"),))
        with pytest.raises(Forbidden):
            less.require_ingest(mode, PEOPLE, one, evolve=evolve)


def test_a_policy_applies_by_name_roles_and_exemptions() -> None:
    def applies(policy: Policy, *roles: str) -> bool:
        return bool(rights(*roles, policies=(policy,)).policies(PEOPLE))

    assert applies(Policy("p", "primary", "people", filter="true"))
    assert applies(Policy("p", "primary", filter="true"))
    assert applies(Policy("p", filter="true"))
    assert not applies(Policy("p", "primary", "secret", filter="true"))
    assert not applies(Policy("p", "testing", filter="true"))
    assert applies(Policy("p", filter="true", roles=("reader",)), "reader")
    assert not applies(Policy("p", filter="true", roles=("reader",)), "writer")
    assert not applies(Policy("p", filter="true", exempt=("writer",)), "writer")
    assert not applies(Policy("p", filter="true", roles=("reader",), exempt=("writer",)), "reader", "writer")
    assert not applies(Policy("p", filter="true", roles=("admin",)), "admin")


def test_what_is_seen_in_part_is_not_changed() -> None:
    filtered = rights("writer", policies=(Policy("p", "primary", "people", filter="true"),))
    one = dataset("people", 1)

    filtered.require((Privilege.SELECT,), PEOPLE, one)
    filtered.require((Privilege.DELETE,), SECRET, dataset("secret", 1))
    with pytest.raises(Forbidden, match="only a part of"):
        filtered.require((Privilege.DELETE,), PEOPLE, one)


def test_a_rule_about_tags_is_about_datasets_that_have_them() -> None:
    masked = rights("writer", policies=(Policy("pii", tags={"pii": "'***'"}),))
    tagged = replace(dataset("people", 1), column_tags={"email": ("pii",)})
    other = replace(dataset("people", 1), column_tags={"email": ("public",)})

    masked.require((Privilege.DELETE,), PEOPLE, other)
    masked.require((Privilege.ALTER,), PEOPLE, None)
    with pytest.raises(Forbidden, match="only a part of"):
        masked.require((Privilege.DELETE,), PEOPLE, tagged)
    newest = Snapshot(1, datasets=MappingProxyType({PEOPLE: tagged}))
    assert [one.name for one in masked.policies_on(replace(tagged, column_tags={}), newest)] == ["pii"]
    assert masked.policies_on(other, newest) == ()


def test_what_may_not_be_selected_does_not_exist() -> None:
    newest = snapshot(3, people="1", hidden="2")
    some = rights(
        grants=(Grant((Privilege.SELECT,), "primary", "people"), Grant((Privilege.DELETE,), "primary", "hidden"))
    )

    assert names(some.visible(newest, newest)) == {"people"}
    assert rights("reader").visible(newest, newest) is newest
    assert UNRESTRICTED.visible(newest, newest) is newest
    assert names(rights().visible(newest, newest)) == set()


def test_a_bucket_exists_for_those_who_have_a_grant_in_it() -> None:
    buckets = {name: Bucket(name, "local") for name in ("primary", "testing", "archive", "hidden")}
    newest = Snapshot(1, buckets=MappingProxyType(buckets))
    some = rights(grants=(Grant((Privilege.INSERT,), "testing", "people"), Grant((Privilege.CREATE,), "archive")))

    assert set(some.visible(newest, newest).buckets) == {"primary", "testing", "archive"}


def test_an_index_exists_for_those_who_see_its_dataset_in_whatever_bucket_it_is() -> None:
    everything = snapshot(3, people="1", hidden="2")
    indexes = [index("by_face", "1", bucket="testing"), index("by_voice", "1"), index("by_secret", "2")]
    newest = dataclasses.replace(everything, indexes=MappingProxyType({one.key: one for one in indexes}))
    some = rights(
        grants=(Grant((Privilege.SELECT,), "primary", "people"), Grant((Privilege.DELETE,), "primary", "hidden"))
    )
    bucket_alone = rights(grants=(Grant((Privilege.SELECT,), "testing"),))

    assert [str(key) for key in some.visible(newest, newest).indexes] == ['"testing".by_face', '"primary".by_voice']
    assert dict(bucket_alone.visible(newest, newest).indexes) == {}
    assert rights("reader").visible(newest, newest).indexes == newest.indexes


def test_an_earlier_version_is_judged_by_what_its_datasets_are_called_now() -> None:
    """`staff` was renamed to `hidden`, and `old` was dropped."""
    past, newest = snapshot(1, staff="1", people="2", old="3"), snapshot(2, hidden="1", people="2")
    granted = tuple(Grant((Privilege.SELECT,), "primary", name) for name in ("staff", "people", "old"))

    assert names(rights(grants=granted).visible(past, newest, past=past)) == {"people", "old"}
    secretive = rights(grants=(Grant((Privilege.SELECT,), "primary", "hidden"),))
    assert names(secretive.visible(past, newest, past=past)) == {"staff"}


def test_what_was_dropped_is_hidden_where_policies_could_have_hidden_a_part() -> None:
    past, newest = snapshot(1, people="2", old="3"), snapshot(2, people="2")
    made = snapshot(2, people="2", old="3", new="4")
    policies = (Policy("p", "primary", "other", filter="true"),)

    assert names(rights("reader", policies=policies).visible(past, newest, past=past)) == {"people"}
    # In a transaction that began with `past` and has made `new` since.
    assert names(rights("reader", policies=policies).visible(made, newest, past=past)) == {"people", "new"}
    assert names(rights("admin", policies=policies).visible(past, newest, past=past)) == {"people", "old"}


def test_rights_show_the_same_for_one_user_with_the_same_grants_and_policies() -> None:
    grants = (Grant((Privilege.SELECT,)),)
    policies = (Policy("p", filter="true"),)

    assert rights(grants=grants, policies=policies).shows_as(rights(grants=grants, policies=policies))
    assert not rights(grants=grants).shows_as(rights(grants=grants, policies=policies))
    assert not rights(grants=grants).shows_as(rights())
    assert not rights(grants=grants).shows_as(rights(grants=grants, user="ada"))
    assert not rights().shows_as(rights("admin"))


def test_rights_are_those_of_the_newest_state() -> None:
    now = [0.0]
    objects = MemoryObjects()
    here, there = Catalog.open(objects), Catalog.open(objects)
    control = AccessControl(here, lambda: now[0])
    principal = Principal("eve", frozenset({"reader"}), "password")
    before = control.rights(principal)
    assert control.rights(principal) is before

    here.commit(transaction(PutUser(User("ann"))))
    assert set(control.rights(principal).access.users) == {"ann"}
    there.commit(transaction(PutUser(User("bob"))))
    now[0] = 1.0
    assert set(control.rights(principal).access.users) == {"ann", "bob"}


def at(version: int, *roles: str, granted: str = "people", disabled: bool = False) -> AccessState:
    """A state in which eve has these roles, one of which may read what is granted."""
    own = Role("own", (Grant((Privilege.SELECT,), "primary", granted),))
    return AccessState(version, users={"eve": User("eve", roles=roles, disabled=disabled)}, roles={"own": own})


def test_rights_at_another_state_are_those_of_the_same_principal_there() -> None:
    first = Rights(Principal("eve", frozenset({"own"}), "bearer", claimed=frozenset()), at(1, "own"))

    assert first.at(at(1, "own")) is first
    renamed = first.at(at(2, "own", granted="staff"))
    assert [renamed.may(Privilege.SELECT, DatasetKey("primary", name)) for name in ("people", "staff")] == [False, True]
    assert (renamed.user, renamed.access.version) == ("eve", 2)
    assert first.at(at(2, "own", granted="staff")) is renamed
    assert renamed.at(at(2, "own", granted="staff")) is renamed
    assert first.may(Privilege.SELECT, PEOPLE)


def test_rights_never_go_back_to_an_older_state() -> None:
    newer = Rights(Principal("eve", frozenset(), "bearer", claimed=frozenset()), at(2))

    assert newer.at(at(1, "own")) is newer


@pytest.mark.parametrize(
    ("state", "claimed", "roles"),
    [
        (at(2, "own", "reader"), (), {"own", "reader"}),
        (at(2), (), set()),
        (at(2, "own", disabled=True), ("auditor",), set()),
        (AccessState(2), (), set()),
        (AccessState(2), ("auditor",), {"auditor"}),
        (at(2, "reader"), ("auditor",), {"auditor", "reader"}),
    ],
)
def test_roles_are_those_of_the_state_and_those_that_the_credential_claims(
    state: AccessState, claimed: tuple[str, ...], roles: set[str]
) -> None:
    known = Principal("eve", frozenset({"own", *claimed}), "jwt" if claimed else "bearer", frozenset(claimed))

    assert Rights(known, at(1, "own")).at(state).principal.roles == roles


def test_commands_on_the_machine_may_everything_and_nobody_else_whom_no_one_asked() -> None:
    everybody = Rights(ANONYMOUS, AccessState())

    assert UNRESTRICTED.at(at(2)) is UNRESTRICTED
    assert everybody.at(AccessState(2)).is_admin
    assert not everybody.at(at(3)).is_admin


def test_a_snapshot_is_judged_by_its_own_state_whatever_rights_are_asked() -> None:
    hidden = Policy("p", "primary", "staff", filter="false")
    before = dataclasses.replace(snapshot(1, people="1"), access=at(1, "own"))
    now = dataclasses.replace(
        snapshot(2, staff="1"), access=replace(at(2, "own", granted="staff"), policies={"p": hidden})
    )
    rights_before = Rights(Principal("eve", frozenset({"own"}), "bearer", claimed=frozenset()), before.access)

    assert names(rights_before.visible(before, before)) == {"people"}
    assert names(rights_before.visible(now, now)) == {"staff"}
    assert names(rights_before.visible(before, now, past=before)) == {"people"}
    assert rights_before.policies_on(before.dataset("people"), now) == (hidden,)
    assert rights_before.policies_on(before.dataset("people"), before) == ()


def test_what_is_kept_of_one_principal_is_shared_by_its_calls() -> None:
    objects = MemoryObjects()
    here, there = Catalog.open(objects), Catalog.open(objects)
    here.commit(transaction(PutUser(User("eve", roles=("reader",)))))
    control = AccessControl(here, lambda: 0.0)
    principal = Principal("eve", frozenset({"reader"}), "bearer", claimed=frozenset())
    late = control.rights(principal)
    there.commit(transaction(PutUser(User("eve", roles=()))))
    assert control.rights(principal) is late

    newest = late.at(here.snapshot().access)

    assert newest.principal.roles == frozenset()
    assert control.rights(principal) is newest
