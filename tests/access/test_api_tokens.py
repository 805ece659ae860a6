"""API tokens are found by their ids and believed for their whole text."""

from __future__ import annotations

import re
import string
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightserver.access.api_tokens import ApiTokens, digest, new_token
from flightserver.catalog.identities import AccessState, ApiToken, User
from flightserver.errors import Unauthenticated

NOW = datetime(2027, 1, 15, 8, tzinfo=UTC)
SECRET, TOKEN = new_token(comment="nightly load", expires=NOW + timedelta(days=1), created=NOW)
ALICE = User("alice", tokens=(TOKEN,))
STATE = AccessState(1, {"alice": ALICE})


def found(secret: str, *, state: AccessState = STATE, at: datetime = NOW) -> User:
    return ApiTokens().find(state, secret, at.timestamp())


def test_a_token_names_itself_and_only_its_digest_is_kept() -> None:
    assert re.fullmatch(rf"fsk_{TOKEN.id}_[A-Za-z0-9_-]{{43}}", SECRET)
    assert ApiToken(TOKEN.id, digest(SECRET), NOW, NOW + timedelta(days=1), "nightly load") == TOKEN
    assert SECRET.rpartition("_")[2] not in repr(TOKEN)


def test_the_digest_is_sha_256() -> None:
    """FIPS 180-2, appendix B.1."""
    assert digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_no_two_tokens_are_equal() -> None:
    assert len({new_token()[0] for _ in range(1000)}) == 1000


def test_a_token_is_its_users() -> None:
    assert found(SECRET) is ALICE


def test_a_token_is_valid_until_it_expires() -> None:
    assert found(SECRET, at=NOW + timedelta(hours=23, minutes=59)) is ALICE

    with pytest.raises(Unauthenticated, match=f"'{TOKEN.id}' expired on 2027-01-16 08:00:00 UTC. Make a new one"):
        found(SECRET, at=NOW + timedelta(days=1))


def test_a_token_without_an_end_has_none() -> None:
    secret, token = new_token()
    user = User("bob", tokens=(token,))

    assert found(secret, state=AccessState(1, {"bob": user}), at=NOW + timedelta(days=36_500)) is user


def test_a_token_that_was_dropped_is_unknown_at_once() -> None:
    tokens = ApiTokens()
    assert tokens.find(STATE, SECRET, NOW.timestamp()) is ALICE

    with pytest.raises(Unauthenticated, match="or it was dropped"):
        tokens.find(AccessState(2, {"alice": User("alice")}), SECRET, NOW.timestamp())


def test_two_tokens_with_one_id_both_work() -> None:
    secret, _ = new_token()
    same_id = f"fsk_{TOKEN.id}_{secret[-43:]}"
    bob = User("bob", tokens=(ApiToken(TOKEN.id, digest(same_id), NOW),))
    state = AccessState(1, {"alice": ALICE, "bob": bob})

    assert (found(SECRET, state=state), found(same_id, state=state)) == (ALICE, bob)


@given(st.integers(0, len(SECRET) - 1))
def test_every_truncation_is_refused_without_being_repeated(length: int) -> None:
    with pytest.raises(Unauthenticated, match="mistyped or cut off") as refused:
        found(SECRET[:length])

    assert length < 18 or SECRET[:length] not in refused.value.message


@given(st.integers(0, len(SECRET) - 1), st.sampled_from(string.ascii_letters + string.digits + "-_ \né"))
def test_every_change_of_a_character_is_refused(place: int, character: str) -> None:
    changed = SECRET[:place] + character + SECRET[place + 1 :]
    if changed != SECRET:
        with pytest.raises(Unauthenticated, match="mistyped or cut off"):
            found(changed)
