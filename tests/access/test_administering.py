"""Users, roles, grants and policies as they are administered; a state machine at the end."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from catalog.making import NOON, dataset, transaction
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from flightserver.access.administering import Administration
from flightserver.access.committing import Author, can_administer
from flightserver.access.granting import Place
from flightserver.access.passwords import verify
from flightserver.catalog.catalog import Catalog
from flightserver.catalog.entities import LOCAL, PRIMARY, Bucket, DatasetKey
from flightserver.catalog.identities import ADMIN, Grant, Policy, Privilege
from flightserver.catalog.updates import CreateDataset, DropDataset, PutBucket
from flightserver.errors import AlreadyExists, FlightserverError, InvalidRequest, NotFound
from flightserver.storage.memory import MemoryObjects
from flightserver.tables.schema import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flightserver.catalog.identities import AccessState, User

PETS = Place(PRIMARY, "pets")
SELECT, INSERT, CREATE = Privilege.SELECT, Privilege.INSERT, Privilege.CREATE
_authors = count(1)


def by(user: str = "ann") -> Author:
    return Author(user, f"administering-{next(_authors)}")


def make_catalog() -> Catalog:
    """Buckets `primary`, which has the dataset `pets`, and `testing`."""
    catalog = Catalog.open(MemoryObjects())
    schema = pa.schema([("id", pa.int64()), ("email", pa.string())])
    pets = replace(dataset("pets"), schema=encode(schema))
    catalog.commit(transaction(CreateDataset(pets), PutBucket(Bucket("testing", LOCAL))))
    return catalog


@pytest.fixture
def catalog() -> Catalog:
    return make_catalog()


@pytest.fixture
def administration(catalog: Catalog) -> Administration:
    return Administration(catalog, lambda: NOON)


@pytest.fixture
def ann(administration: Administration) -> str:
    """The first user, an administrator."""
    administration.create_user(by(), "ann", roles=[ADMIN], certificates=["CN=ann"])
    return "ann"


def state(catalog: Catalog) -> AccessState:
    return catalog.snapshot().access


def grants(catalog: Catalog, role: str = "analysts") -> tuple[Grant, ...]:
    return state(catalog).roles[role].grants


def test_a_user_is_made_changed_and_forgotten(catalog: Catalog, administration: Administration, ann: str) -> None:
    administration.create_user(by(), "bob", password="correct horse", roles=["reader", "reader"])  # noqa: S106  # a test's
    bob = state(catalog).users["bob"]
    assert (bob.roles, bob.epoch, bob.certificates) == (("reader",), 0, ())
    assert verify(bob.password, "correct horse")

    administration.set_password(by(), "bob", "battery staple")
    administration.set_roles(by(), "bob", ["writer"])
    administration.grant_role(by(), "reader", "bob")
    administration.revoke_role(by(), "writer", "bob")
    administration.set_certificates(by(), "bob", ["CN=bob"])
    administration.disable(by(), "bob")
    administration.enable(by(), "bob")
    administration.end_sessions(by(), "bob")

    bob = state(catalog).users["bob"]
    assert (bob.roles, bob.certificates, bob.disabled, bob.epoch) == (("reader",), ("CN=bob",), False, 3)
    assert verify(bob.password, "battery staple")
    administration.drop_user(by(), "bob")
    assert set(state(catalog).users) == {ann}


@pytest.mark.usefixtures("ann")
def test_the_log_says_who_did_what_and_no_secret(catalog: Catalog, administration: Administration) -> None:
    administration.create_user(by("zoe"), "bob", password="correct horse", roles=["reader"])  # noqa: S106  # a test's
    secret, token = administration.create_token(by("zoe"), "bob", comment="nightly")
    administration.drop_token(by("zoe"), "bob", token.id)
    administration.create_role(by("zoe"), "analysts")
    administration.grant(by("zoe"), "analysts", [SELECT, INSERT], PETS)
    administration.revoke(by("zoe"), "analysts", None, PETS)
    administration.grant_role(by("zoe"), "analysts", "bob")

    operations = [each.operation for commit in catalog.commits(after=3) for each in commit.transactions]

    assert [(each.kind, each.detail, each.user) for each in operations] == [
        ("create user", "bob", "zoe"),
        ("create token", f"{token.id} of bob", "zoe"),
        ("drop token", "of bob", "zoe"),
        ("create role", "analysts", "zoe"),
        ("grant", 'SELECT, INSERT on "primary".pets to analysts', "zoe"),
        ("revoke", 'SELECT, INSERT, UPDATE, DELETE, ALTER on "primary".pets from analysts', "zoe"),
        ("grant role", "analysts to bob", "zoe"),
    ]
    written = repr(list(catalog.commits()))
    assert secret not in written
    assert "correct horse" not in written


@pytest.mark.usefixtures("ann")
def test_the_same_operation_happens_once(catalog: Catalog, administration: Administration) -> None:
    author = by()
    administration.create_user(author, "bob", roles=["reader"])
    version = catalog.snapshot().version

    administration.create_user(author, "bob", roles=["reader"])

    assert catalog.snapshot().version == version


def test_what_changes_nothing_is_no_commit(catalog: Catalog, administration: Administration, ann: str) -> None:
    administration.create_role(by(), "analysts")
    administration.grant(by(), "analysts", [SELECT], PETS)
    version = catalog.snapshot().version

    administration.grant(by(), "analysts", [SELECT], PETS)
    administration.grant_role(by(), ADMIN, ann)
    administration.enable(by(), ann)
    administration.create_role(by(), "analysts", exists_ok=True)
    administration.drop_role(by(), "nobodys", exists_ok=True)

    assert catalog.snapshot().version == version


def test_two_servers_that_administer_at_once_lose_nothing() -> None:
    """The other's change comes between the plan and the commit; the plan is made again."""
    objects = MemoryObjects()
    here, there = Catalog.open(objects), Catalog.open(objects)
    Administration(here).create_user(by(), "ann", roles=[ADMIN], certificates=["CN=ann"])
    others = iter(["bob", "cyd"])

    def late() -> None:
        for name in others:
            Administration(there).create_user(by(), name, roles=[ADMIN], certificates=[name + "'s"])
            break

    def clock() -> object:
        late()
        return NOON

    Administration(here, clock).create_user(by(), "dan", roles=["reader"])  # type: ignore[arg-type]  # never used as a time

    assert set(state(here).users) == {"ann", "bob", "cyd", "dan"}


def test_two_administrators_cannot_drop_each_other_at_once() -> None:
    objects = MemoryObjects()
    first, second = (Administration(Catalog.open(objects)) for _ in range(2))
    for round_number in range(10):
        ann, bob = f"ann{round_number}", f"bob{round_number}"
        for name in (ann, bob):
            first.create_user(by(), name, roles=[ADMIN], certificates=[f"CN={name}"])
        catalog = Catalog.open(objects)
        for name in set(state(catalog).users) - {ann, bob}:
            first.drop_user(by(), name)
        together = threading.Barrier(2)

        def drop(administration: Administration, name: str, together: threading.Barrier = together) -> bool:
            together.wait()
            try:
                administration.drop_user(by(), name)
            except InvalidRequest:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            dropped = [pool.submit(drop, first, ann), pool.submit(drop, second, bob)]

        assert sorted(each.result() for each in dropped) == [False, True]
        assert len(state(catalog).users) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"roles": ["reader"], "certificates": ["CN=bob"]}, "the first user must have the role 'admin'"),
        ({"roles": [ADMIN]}, "and a password or a client certificate to log in with"),
    ],
)
def test_the_first_user_administers(
    catalog: Catalog, administration: Administration, given: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        administration.create_user(by(), "bob", roles=given["roles"], certificates=given.get("certificates", []))

    assert not state(catalog).users


LOSING: dict[str, Callable[[Administration], None]] = {
    "drop": lambda to: to.drop_user(by(), "ann"),
    "disable": lambda to: to.disable(by(), "ann"),
    "set roles": lambda to: to.set_roles(by(), "ann", ["reader"]),
    "revoke role": lambda to: to.revoke_role(by(), ADMIN, "ann"),
    "set certificates": lambda to: to.set_certificates(by(), "ann", []),
}


@pytest.mark.parametrize("lose", LOSING.values(), ids=LOSING)
def test_the_last_administrator_stays(
    catalog: Catalog, administration: Administration, ann: str, lose: Callable[[Administration], None]
) -> None:
    administration.create_user(by(), "bob", roles=[ADMIN])
    administration.create_token(by(), "bob", expires=NOON + timedelta(days=1))
    before = state(catalog)

    with pytest.raises(InvalidRequest, match=f"user '{ann}' is the last administrator who can log in"):
        lose(administration)

    assert state(catalog) == before
    administration.create_token(by(), "bob")
    lose(administration)
    assert [one.name for one in state(catalog).users.values() if can_administer(one)] == ["bob"]


def test_the_token_that_the_last_administrator_has_stays(
    catalog: Catalog, administration: Administration, ann: str
) -> None:
    _, token = administration.create_token(by(), ann)
    administration.set_certificates(by(), ann, [])

    with pytest.raises(InvalidRequest, match="is the last administrator"):
        administration.drop_token(by(), ann, token.id)

    assert state(catalog).users[ann].tokens == (token,)


REFUSED: dict[str, tuple[Callable[[Administration], object], type[FlightserverError], str]] = {
    "name taken": (lambda to: to.create_user(by(), "ann"), AlreadyExists, "there is a user 'ann' already"),
    "reserved name": (lambda to: to.create_user(by(), "anonymous"), InvalidRequest, "it is reserved"),
    "bad name": (lambda to: to.create_user(by(), "a b"), InvalidRequest, "'a b' can't name a user"),
    "unknown role": (
        lambda to: to.create_user(by(), "bob", roles=["boss"]),
        NotFound,
        "there is no role 'boss'; there are: reader, writer, admin, analysts",
    ),
    "short password": (lambda to: to.set_password(by(), "ann", "short"), InvalidRequest, "at least 8 characters"),
    "certificate of another": (
        lambda to: to.create_user(by(), "bob", certificates=["CN=ann"]),
        AlreadyExists,
        "a certificate of 'CN=ann' is user 'ann' already",
    ),
    "certificate with the name of another": (
        lambda to: to.create_user(by(), "bob", certificates=["ann"]),
        AlreadyExists,
        "is user 'ann' already",
    ),
    "empty certificate": (lambda to: to.set_certificates(by(), "ann", [" "]), InvalidRequest, "its subject"),
    "unknown user": (lambda to: to.drop_user(by(), "bob"), NotFound, "there is no user 'bob'; there are: ann"),
    "role that the user lacks": (
        lambda to: to.revoke_role(by(), "reader", "ann"),
        NotFound,
        "user 'ann' doesn't have the role 'reader'; its roles: admin",
    ),
    "token of the past": (lambda to: to.create_token(by(), "ann", expires=NOON), InvalidRequest, "expired at"),
    "unknown token": (
        lambda to: to.drop_token(by(), "ann", "fsk_secret"),
        NotFound,
        "no token of this id; ids .* none",
    ),
    "built-in role": (lambda to: to.create_role(by(), "reader"), InvalidRequest, "is built in and can't be created"),
    "drop built-in": (lambda to: to.drop_role(by(), ADMIN), InvalidRequest, "is built in and can't be dropped"),
    "grant to built-in": (
        lambda to: to.grant(by(), "writer", [SELECT], PETS),
        InvalidRequest,
        "is built in and can't be granted anything",
    ),
    "role taken": (lambda to: to.create_role(by(), "analysts"), AlreadyExists, "there is a role 'analysts' already"),
    "unknown role dropped": (lambda to: to.drop_role(by(), "boss"), NotFound, "there is no role 'boss'"),
    "grant on nothing": (
        lambda to: to.grant(by(), "analysts", [SELECT], Place(PRIMARY, "cats")),
        NotFound,
        "'cats'",
    ),
    "grant on no bucket": (
        lambda to: to.grant(by(), "analysts", [SELECT], Place("moon")),
        NotFound,
        "'moon'",
    ),
    "grant without a bucket": (
        lambda to: to.grant(by(), "analysts", [SELECT], Place("", "pets")),
        InvalidRequest,
        "named without its bucket",
    ),
    "create on a dataset": (
        lambda to: to.grant(by(), "analysts", [SELECT, CREATE], PETS),
        InvalidRequest,
        "CREATE is a privilege on a bucket",
    ),
    "grant of nothing": (lambda to: to.grant(by(), "analysts", [], PETS), InvalidRequest, "no privilege is named"),
    "policy without effect": (
        lambda to: to.create_policy(by(), Policy("p", PRIMARY, "pets")),
        InvalidRequest,
        "hides nothing",
    ),
    "policy for administrators": (
        lambda to: to.create_policy(by(), Policy("p", filter="true", roles=(ADMIN,))),
        InvalidRequest,
        "to which no policy ever applies",
    ),
    "policy on no column": (
        lambda to: to.create_policy(by(), Policy("p", PRIMARY, "pets", masks={"phone": "NULL"})),
        NotFound,
        "has no column 'phone'; it has: id, email",
    ),
    "policy for no role": (
        lambda to: to.create_policy(by(), Policy("p", filter="true", exempt=("boss",))),
        NotFound,
        "there is no role 'boss'",
    ),
    "unknown policy": (lambda to: to.drop_policy(by(), "p"), NotFound, "there is no policy 'p'"),
    "tag of no column": (
        lambda to: to.tag_columns(by(), PRIMARY, "pets", {"phone": ["pii"]}),
        NotFound,
        "has no column 'phone'",
    ),
    "tag that is none": (
        lambda to: to.tag_columns(by(), PRIMARY, "pets", {"email": ["p i"]}),
        InvalidRequest,
        "can't name a tag",
    ),
}


@pytest.mark.parametrize(("act", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_possible_is_refused_and_changes_nothing(
    catalog: Catalog,
    administration: Administration,
    ann: str,
    act: Callable[[Administration], object],
    error: type[FlightserverError],
    message: str,
) -> None:
    administration.create_role(by(ann), "analysts")
    version = catalog.snapshot().version

    with pytest.raises(error, match=message):
        act(administration)

    assert catalog.snapshot().version == version


def test_grants_of_one_place_are_one(catalog: Catalog, administration: Administration) -> None:
    administration.create_role(by(), "analysts")
    administration.grant(by(), "analysts", [INSERT], PETS)
    administration.grant(by(), "analysts", [SELECT], Place("testing"))
    administration.grant(by(), "analysts", [SELECT, INSERT], PETS)
    administration.grant(by(), "analysts", None, Place())

    assert grants(catalog) == (
        Grant(tuple(Privilege)),
        Grant((SELECT, INSERT), PRIMARY, "pets"),
        Grant((SELECT,), "testing"),
    )


def test_a_part_of_a_wider_grant_cannot_be_revoked(catalog: Catalog, administration: Administration) -> None:
    administration.create_role(by(), "analysts")
    administration.grant(by(), "analysts", [SELECT], Place(PRIMARY))
    administration.grant(by(), "analysts", [SELECT, INSERT], PETS)
    before = grants(catalog)

    with pytest.raises(
        InvalidRequest, match=r"role 'analysts' has SELECT on all of bucket 'primary', of which .* can't be taken away"
    ):
        administration.revoke(by(), "analysts", [SELECT], PETS)

    assert grants(catalog) == before
    administration.revoke(by(), "analysts", [INSERT], PETS)
    administration.revoke(by(), "analysts", [SELECT], Place(PRIMARY))
    assert grants(catalog) == (Grant((SELECT,), PRIMARY, "pets"),)


def test_what_was_not_granted_cannot_be_revoked(administration: Administration) -> None:
    administration.create_role(by(), "analysts")
    administration.grant(by(), "analysts", [SELECT], Place("testing"))

    with pytest.raises(NotFound, match=r"doesn't have SELECT on .*pets; it has SELECT on all of bucket 'testing'"):
        administration.revoke(by(), "analysts", [SELECT], PETS)


def test_a_grant_outlives_its_dataset_and_can_be_revoked(catalog: Catalog, administration: Administration) -> None:
    administration.create_role(by(), "analysts")
    administration.grant(by(), "analysts", [SELECT], PETS)
    catalog.commit(transaction(DropDataset(PRIMARY, "pets")))
    assert grants(catalog) == (Grant((SELECT,), PRIMARY, "pets"),)

    administration.revoke(by(), "analysts", [SELECT], PETS)

    assert grants(catalog) == ()


def test_a_dropped_role_is_taken_from_its_users(catalog: Catalog, administration: Administration, ann: str) -> None:
    administration.create_role(by(), "analysts", comment="of sales")
    administration.set_roles(by(), ann, [ADMIN, "analysts"])

    administration.drop_role(by(), "analysts")

    assert state(catalog).users[ann].roles == (ADMIN,)
    assert not state(catalog).roles


def test_expired_tokens_are_forgotten_with_the_next(catalog: Catalog, ann: str) -> None:
    now = NOON
    administration = Administration(catalog, lambda: now)
    administration.create_token(by(), ann, expires=NOON + timedelta(hours=1))
    _, lasting = administration.create_token(by(), ann)
    now = NOON + timedelta(hours=2)

    _, newest = administration.create_token(by(), ann)

    assert state(catalog).users[ann].tokens == (lasting, newest)


def test_a_policy_is_made_replaced_and_forgotten(catalog: Catalog, administration: Administration) -> None:
    policy = Policy("own", PRIMARY, "pets", filter="email = current_user", masks={"id": "0"}, exempt=("writer",))
    administration.create_policy(by(), policy)
    with pytest.raises(AlreadyExists, match="there is a policy 'own' already"):
        administration.create_policy(by(), policy)

    administration.create_policy(by(), replace(policy, filter=""), replace_it=True)

    made = state(catalog).policies["own"]
    assert replace(made, version=0, created=None) == replace(policy, filter="")
    administration.drop_policy(by(), "own")
    assert not state(catalog).policies


def test_tags_of_columns_are_set_and_taken_away(catalog: Catalog, administration: Administration) -> None:
    administration.tag_columns(by(), PRIMARY, "pets", {"email": ["pii", "contact", "pii"], "id": ["key"]})
    administration.tag_columns(by(), PRIMARY, "pets", {"id": []})

    pets = catalog.snapshot().datasets[DatasetKey(PRIMARY, "pets")]
    assert pets.column_tags == {"email": ("pii", "contact")}


NAMES = st.sampled_from(["ann", "bob", "cyd"])
ROLES = st.lists(st.sampled_from([ADMIN, "reader", "own"]), max_size=2, unique=True)


@dataclasses.dataclass(frozen=True)
class Account:
    """What the machine knows of a user; `lasting` is how many tokens it has that don't expire."""

    roles: frozenset[str]
    has_certificate: bool
    is_disabled: bool = False
    lasting: int = 0
    epoch: int = 0

    @classmethod
    def of(cls, user: User) -> Account:
        lasting = sum(token.expires is None for token in user.tokens)
        return cls(frozenset(user.roles), bool(user.certificates), user.disabled, lasting, user.epoch)

    @property
    def administers(self) -> bool:
        return ADMIN in self.roles and not self.is_disabled and (self.has_certificate or self.lasting > 0)


class AdministrationMachine(RuleBasedStateMachine):
    """Whatever is asked: the model decides whether it may happen, and the catalog has what the model has."""

    def __init__(self) -> None:
        super().__init__()
        self.catalog = make_catalog()
        self.to = Administration(self.catalog, lambda: NOON)
        self.model: dict[str, Account] = {}
        self.roles: set[str] = set()

    def _try(self, after: dict[str, Account] | None, act: Callable[[], object]) -> None:
        """Act: it happens exactly if the model knows what comes of it, and that leaves an administrator."""
        changes = after != self.model
        allowed = after is not None and (not changes or any(one.administers for one in after.values()))
        try:
            act()
        except (InvalidRequest, NotFound, AlreadyExists):
            assert not allowed
        else:
            assert allowed
            self.model = after or {}

    def _changed(self, name: str, **fields: Any) -> dict[str, Account] | None:
        found = self.model.get(name)
        return None if found is None else {**self.model, name: dataclasses.replace(found, **fields)}

    def _known(self, roles: Iterable[str]) -> bool:
        return "own" not in roles or "own" in self.roles

    @rule(name=NAMES, roles=ROLES, certificate=st.booleans())
    def create_user(self, name: str, roles: list[str], *, certificate: bool) -> None:
        made = {**self.model, name: Account(frozenset(roles), certificate)}
        after = made if name not in self.model and self._known(roles) else None
        certificates = [f"CN={name}"] if certificate else []
        self._try(after, lambda: self.to.create_user(by(), name, roles=roles, certificates=certificates))

    @rule(name=NAMES)
    def drop_user(self, name: str) -> None:
        left = {each: one for each, one in self.model.items() if each != name}
        self._try(left if name in self.model else None, lambda: self.to.drop_user(by(), name))

    @rule(name=NAMES, roles=ROLES)
    def set_roles(self, name: str, roles: list[str]) -> None:
        after = self._changed(name, roles=frozenset(roles)) if self._known(roles) else None
        self._try(after, lambda: self.to.set_roles(by(), name, roles))

    @rule(name=NAMES, role=st.sampled_from([ADMIN, "reader", "own"]))
    def revoke_role(self, name: str, role: str) -> None:
        had = self.model[name].roles if name in self.model else frozenset()
        after = self._changed(name, roles=had - {role}) if role in had else None
        self._try(after, lambda: self.to.revoke_role(by(), role, name))

    @rule(name=NAMES)
    def disable(self, name: str) -> None:
        after = self._changed(name, is_disabled=True)
        if after is not None and not self.model[name].is_disabled:
            after = self._changed(name, is_disabled=True, epoch=self.model[name].epoch + 1)
        self._try(after, lambda: self.to.disable(by(), name))

    @rule(name=NAMES)
    def enable(self, name: str) -> None:
        self._try(self._changed(name, is_disabled=False), lambda: self.to.enable(by(), name))

    @rule(name=NAMES, certificate=st.booleans())
    def set_certificates(self, name: str, *, certificate: bool) -> None:
        after = self._changed(name, has_certificate=certificate)
        self._try(after, lambda: self.to.set_certificates(by(), name, [f"CN={name}"] if certificate else []))

    @rule(name=NAMES, expires=st.booleans())
    def create_token(self, name: str, *, expires: bool) -> None:
        had = self.model[name].lasting if name in self.model else 0
        until = NOON + timedelta(days=1) if expires else None
        after = self._changed(name, lasting=had + (not expires))
        self._try(after, lambda: self.to.create_token(by(), name, expires=until))

    @rule(name=NAMES)
    def drop_the_oldest_token(self, name: str) -> None:
        tokens = state(self.catalog).users[name].tokens if name in self.model else ()
        if tokens:
            lost = tokens[0].expires is None
            after = self._changed(name, lasting=self.model[name].lasting - lost)
            self._try(after, lambda: self.to.drop_token(by(), name, tokens[0].id))

    @rule()
    def create_or_drop_a_role(self) -> None:
        if "own" not in self.roles:
            self.to.create_role(by(), "own")
            self.roles = {"own"}
            return
        self.to.drop_role(by(), "own")
        self.roles = set()
        self.model = {name: dataclasses.replace(one, roles=one.roles - {"own"}) for name, one in self.model.items()}

    @invariant()
    def somebody_can_always_administer(self) -> None:
        users = state(self.catalog).users
        assert not users or any(map(can_administer, users.values()))

    @invariant()
    def the_catalog_has_what_the_model_has(self) -> None:
        assert {name: Account.of(one) for name, one in state(self.catalog).users.items()} == self.model
        assert set(state(self.catalog).roles) == self.roles


AdministrationMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestAdministration = AdministrationMachine.TestCase
