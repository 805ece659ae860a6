"""A header is turned into a principal, by what the catalog says at that moment."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from access.issuing import ALL_KEYS, AUDIENCE, ISSUER, NOW, token
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from flightserver.access.api_tokens import new_token
from flightserver.access.authenticating import Authenticated, Authenticator
from flightserver.access.principal import ANONYMOUS, Principal
from flightserver.catalog.identities import AccessState, User
from flightserver.errors import InvalidRequest, Unauthenticated
from flightserver.settings import AccessSettings

if TYPE_CHECKING:
    from pathlib import Path

KEY = bytes(range(32))
PASSWORD = "pass:word with ü"  # noqa: S105  # of users in these tests
HASH = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)
"""Of parameters that cost little; a hash carries its own."""
SECRET, API_TOKEN = new_token(expires=datetime.fromtimestamp(NOW + 86_400, UTC))
ALICE = User("alice", HASH, ("writer", "team-a"), tokens=(API_TOKEN,), certificates=("alice.example",))
WRITER = frozenset({"writer", "team-a"})


@dataclass
class World:
    """Users, a clock, and what recognises users by them."""

    state: AccessState = field(default_factory=lambda: AccessState(1, {"alice": ALICE}))
    now: float = NOW
    settings: AccessSettings = field(default_factory=AccessSettings)
    key: bytes = KEY

    def __post_init__(self) -> None:
        self.authenticator = Authenticator(
            lambda: self.state, self.key, self.settings, clock=lambda: self.now, ticks=lambda: self.now
        )

    def principal(self, authorization: str) -> Principal:
        """Who a header is from."""
        return self.authenticator.authenticate(authorization).principal

    def log_in(self) -> str:
        """The header that alice's login is answered with."""
        answer = self.authenticator.authenticate(basic("alice", PASSWORD)).answer
        assert answer is not None
        return answer

    def change(self, user: User) -> None:
        """Gives a user other facts."""
        self.state = AccessState(self.state.version + 1, self.state.users | {user.name: user})


@pytest.fixture
def jwt_settings(tmp_path: Path) -> AccessSettings:
    """Those that trust the issuer of `access.issuing`."""
    path = tmp_path / "keys.json"
    path.write_bytes(ALL_KEYS)
    return AccessSettings(jwks=str(path), jwt_issuer=ISSUER, jwt_audience=AUDIENCE)


def recognised(name: str, roles: frozenset[str], method: str, claimed: frozenset[str] = frozenset()) -> Principal:
    """Somebody of the catalog, and which of the roles a web token claims beside."""
    return Principal(name, roles, method, claimed)


def basic(name: str, password: str) -> str:
    return "Basic " + b64encode(f"{name}:{password}".encode()).decode()


@pytest.mark.parametrize(
    "authorization", ["", "Bearer anonymous", basic("alice", "anything"), "Nonsense", "Bearer fsb_x"]
)
def test_without_users_everybody_is_anonymous_and_every_login_succeeds(authorization: str) -> None:
    world = World(AccessState())

    assert world.authenticator.is_open
    assert world.authenticator.authenticate(authorization) == Authenticated(ANONYMOUS, "Bearer anonymous")
    assert world.authenticator.certificate("whoever") == ANONYMOUS


def test_with_the_first_user_nobody_is_anonymous_any_more() -> None:
    world = World(AccessState())
    world.change(ALICE)

    assert not world.authenticator.is_open
    with pytest.raises(Unauthenticated, match="of no kind that is known"):
        world.principal("Bearer anonymous")


def test_with_an_issuer_nobody_is_anonymous(jwt_settings: AccessSettings) -> None:
    world = World(AccessState(), settings=jwt_settings)

    assert not world.authenticator.is_open
    with pytest.raises(Unauthenticated, match="wants to know who calls"):
        world.principal("")


def test_a_password_gives_a_bearer_token_that_is_the_same_user() -> None:
    world = World()

    found = world.authenticator.authenticate(basic("alice", PASSWORD))

    assert found.principal == recognised("alice", WRITER, "password")
    assert found.answer is not None
    assert found.answer.startswith("Bearer fsb_")
    assert world.authenticator.authenticate(found.answer) == Authenticated(recognised("alice", WRITER, "bearer"))


@pytest.mark.parametrize(
    "authorization",
    [
        "Basic " + b64encode(f"alice:{PASSWORD}".encode()).decode().rstrip("="),
        basic("alice", PASSWORD) + "==",
        "  basic   " + basic("alice", PASSWORD)[6:] + " ",
        "BASIC " + basic("alice", PASSWORD)[6:],
    ],
)
def test_basic_is_read_as_clients_write_it(authorization: str) -> None:
    assert World().principal(authorization) == recognised("alice", WRITER, "password")


def test_unknown_users_and_all_that_have_not_this_password_are_refused_with_the_same_text() -> None:
    world = World()
    for user in (User("no-password"), User("off", HASH, disabled=True)):
        world.change(user)
    refusals = set()

    for name, password in (
        ("alice", "another password"),
        ("alice", ""),
        ("nobody", PASSWORD),
        ("", PASSWORD),
        ("Alice", PASSWORD),
        ("no-password", ""),
        ("no-password", PASSWORD),
        ("off", PASSWORD),
    ):
        with pytest.raises(Unauthenticated) as refused:
            world.principal(basic(name, password))
        refusals.add(refused.value.message)

    assert refusals == {"User name and password don't belong together, or the user is disabled."}


def test_a_token_of_a_login_works_on_every_server_with_the_key_and_on_no_other() -> None:
    answer = World().log_in()

    assert World().principal(answer) == recognised("alice", WRITER, "bearer")
    with pytest.raises(Unauthenticated, match="comes from a server with another key"):
        World(key=bytes(32)).principal(answer)


def test_a_bearer_token_is_renewed_while_it_is_used_and_ends_when_it_is_not() -> None:
    world = World(settings=AccessSettings(token_seconds=100))
    first = world.log_in()

    world.now += 51
    second = world.authenticator.authenticate(first).answer
    assert second is not None
    world.now += 50
    with pytest.raises(Unauthenticated, match="expired 1 seconds ago"):
        world.principal(first)
    assert world.principal(second) == recognised("alice", WRITER, "bearer")
    world.now += 50
    with pytest.raises(Unauthenticated, match="expired 0 seconds ago"):
        world.principal(second)


def credentials(world: World) -> list[str]:
    """One of each kind that is alice."""
    return [basic("alice", PASSWORD), world.log_in(), f"Bearer {SECRET}", f"Bearer {token(sub='alice')}"]


def test_other_roles_hold_for_the_next_call(jwt_settings: AccessSettings) -> None:
    world = World(settings=jwt_settings)
    headers = credentials(world)
    assert [world.principal(header).roles for header in headers] == [WRITER] * 4

    world.change(replace(ALICE, roles=("reader",)))

    assert [world.principal(header).roles for header in headers] == [frozenset({"reader"})] * 4
    assert world.authenticator.certificate("alice").roles == frozenset({"reader"})


def test_a_disabled_user_is_refused_from_the_next_call_on(jwt_settings: AccessSettings) -> None:
    world = World(settings=jwt_settings)
    headers = credentials(world)

    world.change(replace(ALICE, disabled=True))

    for header in headers:
        with pytest.raises(Unauthenticated, match="disabled"):
            world.principal(header)
    for identity in ("alice", "alice.example"):
        with pytest.raises(Unauthenticated, match="The user 'alice' is disabled"):
            world.authenticator.certificate(identity)


def test_a_dropped_user_is_refused_from_the_next_call_on() -> None:
    world = World()
    headers = [basic("alice", PASSWORD), world.log_in(), f"Bearer {SECRET}"]

    world.state = AccessState(2, {"bob": User("bob")})

    for header in headers:
        with pytest.raises(Unauthenticated):
            world.principal(header)


def test_a_new_password_ends_the_old_one_and_its_tokens_but_no_api_token() -> None:
    world = World()
    old = world.log_in()
    other = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash("another password")

    world.change(replace(ALICE, password=other, epoch=1))

    with pytest.raises(Unauthenticated, match="ended before its time, by a new password or an administrator"):
        world.principal(old)
    with pytest.raises(Unauthenticated, match="don't belong together"):
        world.principal(basic("alice", PASSWORD))
    assert world.principal(basic("alice", "another password")).name == "alice"
    assert world.principal(f"Bearer {SECRET}") == recognised("alice", WRITER, "token")


def test_an_api_token_is_its_user_until_it_expires() -> None:
    world = World()

    assert world.authenticator.authenticate(f"Bearer {SECRET}") == Authenticated(recognised("alice", WRITER, "token"))

    world.now += 86_400
    with pytest.raises(Unauthenticated, match="expired on "):
        world.principal(f"Bearer {SECRET}")


@pytest.mark.parametrize("name", ["", "token"])
def test_a_token_may_stand_in_the_place_of_a_password(jwt_settings: AccessSettings, name: str) -> None:
    """For programs that know a user and a password only; what they are answered is the token that they have."""
    world = World(settings=jwt_settings)
    web_token = token(roles="reader")
    bearer_token = world.log_in().removeprefix("Bearer ")

    found = [world.authenticator.authenticate(basic(name, each)) for each in (SECRET, web_token, bearer_token)]

    assert found == [
        Authenticated(recognised("alice", WRITER, "token"), f"Bearer {SECRET}"),
        Authenticated(recognised("ida", frozenset({"reader"}), "jwt", frozenset({"reader"})), f"Bearer {web_token}"),
        Authenticated(recognised("alice", WRITER, "bearer"), f"Bearer {bearer_token}"),
    ]


def test_a_user_called_token_can_have_a_password() -> None:
    world = World()
    world.change(User("token", HASH))

    assert world.principal(basic("token", PASSWORD)) == recognised("token", frozenset(), "password")


def test_a_web_token_adds_its_roles_to_those_of_the_user(jwt_settings: AccessSettings) -> None:
    world = World(settings=jwt_settings)

    assert world.authenticator.authenticate(f"Bearer {token(sub='alice', roles='auditor')}") == Authenticated(
        recognised("alice", WRITER | {"auditor"}, "jwt", frozenset({"auditor"}))
    )
    assert world.principal(f"Bearer {token(sub='ida')}") == recognised("ida", frozenset(), "jwt")


@pytest.mark.parametrize("name", ["anonymous", "local"])
def test_a_web_token_is_not_for_a_name_that_others_than_users_have(jwt_settings: AccessSettings, name: str) -> None:
    """The audit trail and admission would take its user for somebody else."""
    with pytest.raises(Unauthenticated, match=f"its user '{name}' is reserved here"):
        World(settings=jwt_settings).principal(f"Bearer {token(sub=name)}")


def test_a_server_without_an_issuer_says_so() -> None:
    with pytest.raises(Unauthenticated, match=r"accepts no JSON web tokens: its setting access\.jwks is empty"):
        World().principal(f"Bearer {token()}")


def test_an_issuer_that_is_half_configured_stops_the_start() -> None:
    with pytest.raises(InvalidRequest, match=r"access\.jwt_issuer is empty"):
        World(settings=AccessSettings(jwks="https://issuer.example/keys"))


def test_a_certificate_is_the_user_that_has_it_else_the_one_of_its_name() -> None:
    world = World()
    world.change(User("alice.example", roles=("reader",)))
    world.change(User("bob", roles=("reader",)))

    assert world.authenticator.certificate("alice.example") == recognised("alice", WRITER, "certificate")
    assert world.authenticator.certificate("bob") == recognised("bob", frozenset({"reader"}), "certificate")


@pytest.mark.parametrize("identity", ["", "carol", "ALICE"])
def test_a_certificate_of_nobody_is_refused(identity: str) -> None:
    with pytest.raises(Unauthenticated, match="belongs to no user"):
        World().authenticator.certificate(identity)


def test_a_certificate_of_several_users_is_nobody() -> None:
    world = World()
    world.change(User("bob", certificates=("alice.example",)))

    with pytest.raises(Unauthenticated, match="belongs to several users"):
        world.authenticator.certificate("alice.example")


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        ("", "This server wants to know who calls: it expects the header authorization"),
        ("   ", "This server wants to know who calls"),
        ("Negotiate abc", "a scheme that is not known"),
        (PASSWORD, "a scheme that is not known"),
        ("Bearer", "of no kind that is known"),
        ("Bearer secret", "of no kind that is known"),
        ("Basic", "not user:password in Base64"),
        ("Basic !!!!", "not user:password in Base64"),
        ("Basic " + b64encode(b"no colon").decode(), "not user:password in Base64"),
        ("Basic " + b64encode(b"\xff\xfe:x").decode(), "not user:password in Base64"),
        ("Basic " + urlsafe_b64encode("alice:ÿÿÿ>>>".encode()).decode(), "not user:password in Base64"),
        ("Basic ü", "not user:password in Base64"),
    ],
)
def test_what_is_no_credential_is_refused_with_what_is_expected(authorization: str, expected: str) -> None:
    with pytest.raises(Unauthenticated, match=expected) as refused:
        World().principal(authorization)

    assert "secret" not in refused.value.message
    assert PASSWORD not in refused.value.message


@given(st.text(max_size=300), st.sampled_from(["", "Bearer ", "Basic ", "Bearer fsb_", "Bearer fsk_", "Bearer eyJ"]))
def test_no_text_whatever_is_accepted_or_fails_otherwise(text: str, prefix: str) -> None:
    with pytest.raises(Unauthenticated):
        World().principal(prefix + text)


def test_a_user_who_changes_while_the_password_is_checked_is_refused() -> None:
    """A check may wait for its turn; this state changes between the two looks at it."""
    states = iter([AccessState(1, {"alice": ALICE})] * 2 + [AccessState(2, {"alice": replace(ALICE, disabled=True)})])
    authenticator = Authenticator(lambda: next(states), KEY, AccessSettings())

    with pytest.raises(Unauthenticated, match="or the user is disabled"):
        authenticator.authenticate(basic("alice", PASSWORD))


def test_what_is_answered_is_in_no_representation() -> None:
    found = World().authenticator.authenticate(basic("alice", PASSWORD))

    assert repr(found) == f"Authenticated(principal={found.principal!r})"
