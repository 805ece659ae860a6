"""Bearer tokens are valid as they were issued, for as long as they say, and in no other way."""

from __future__ import annotations

import hmac
import re
import string
from base64 import urlsafe_b64decode, urlsafe_b64encode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightserver.access.bearer import BearerTokens, Claims
from flightserver.errors import InvalidRequest, Unauthenticated
from flightserver.flight.tickets import Signer, TableTicket

KEY = bytes(range(32))
KNOWN = "fsb_IeWjpoBHQe6DigVR3KRRQcr3IAaLEQS8gAUfV_zWJWeVpGFubmEDzmtJ0gDOa0ngEM8ABgokGB5AAA"


class Clock:
    """A clock that is set by hand."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def tokens(clock: Clock, key: bytes = KEY) -> BearerTokens:
    return BearerTokens(key, 3600, clock)


def test_a_token_says_whose_it_is_and_until_when() -> None:
    clock = Clock(1_800_000_000)

    token = tokens(clock).issue("alice", 3)

    assert re.fullmatch(r"fsb_[A-Za-z0-9_-]+", token)
    assert tokens(clock).read(token) == Claims("alice", 3, 1_800_000_000, 1_800_003_600)


def test_the_format_is_the_one_that_servers_of_this_version_share() -> None:
    """Another text here means that tokens of a running cluster end with an upgrade."""
    assert tokens(Clock(1_800_000_000)).issue("anna", 3, 1_700_000_000_000_000) == KNOWN


def test_a_token_is_valid_until_the_second_at_which_it_expires() -> None:
    clock = Clock(1_800_000_000)
    token = tokens(clock).issue("alice", 0)

    clock.now += 3599.9
    assert tokens(clock).read(token).name == "alice"

    clock.now += 0.1
    with pytest.raises(Unauthenticated, match="expired 0 seconds ago"):
        tokens(clock).read(token)


def test_a_token_is_renewed_in_the_second_half_of_its_life() -> None:
    clock = Clock(1_800_000_000)
    claims = tokens(clock).read(tokens(clock).issue("alice", 0))

    clock.now += 1800
    in_the_first_half = tokens(clock).should_renew(claims)
    clock.now += 1
    in_the_second_half = tokens(clock).should_renew(claims)

    assert (in_the_first_half, in_the_second_half) == (False, True)


def test_a_token_of_another_key_is_refused() -> None:
    clock = Clock(1_800_000_000)
    foreign = tokens(clock, bytes(32)).issue("alice", 0)

    with pytest.raises(Unauthenticated, match="comes from a server with another key") as refused:
        tokens(clock).read(foreign)

    assert foreign not in refused.value.message


@given(st.integers(0, len(KNOWN) - 1))
def test_every_truncation_is_refused(length: int) -> None:
    with pytest.raises(Unauthenticated):
        tokens(Clock(1_800_000_000)).read(KNOWN[:length])


@given(st.integers(0, len(KNOWN) - 1), st.sampled_from(string.ascii_letters + string.digits + "-_=+/. \n\x00é"))
def test_every_change_of_a_character_is_refused(place: int, character: str) -> None:
    changed = KNOWN[:place] + character + KNOWN[place + 1 :]
    if changed != KNOWN:
        with pytest.raises(Unauthenticated):
            tokens(Clock(1_800_000_000)).read(changed)


@given(st.integers(0, len(KNOWN)), st.text(min_size=1, max_size=5))
def test_every_insertion_is_refused(place: int, inserted: str) -> None:
    with pytest.raises(Unauthenticated):
        tokens(Clock(1_800_000_000)).read(KNOWN[:place] + inserted + KNOWN[place:])


def test_no_text_but_one_stands_for_a_token() -> None:
    """Base64 leaves bits of the last character unused, and Python's decoder skips what it doesn't know."""
    data = urlsafe_b64decode(KNOWN[4:] + "=" * (-len(KNOWN[4:]) % 4))
    alphabet = string.ascii_letters + string.digits + "-_"
    same_bytes = [
        KNOWN[:-1] + last
        for last in alphabet
        if urlsafe_b64decode(KNOWN[4:-1] + last + "=" * (-len(KNOWN[4:]) % 4)) == data
    ]

    assert len(same_bytes) > 1, "this length has no unused bits; take another name for the known token"
    for text in set(same_bytes) - {KNOWN} | {KNOWN + "=", KNOWN + "\n"}:
        with pytest.raises(Unauthenticated):
            tokens(Clock(1_800_000_000)).read(text)


def test_a_token_of_another_version_of_the_format_is_refused() -> None:
    payload = msgspec.msgpack.encode(["alice", 3, "another field"])
    signature = hmac.digest(KEY, b"flightserver bearer 1\n" + payload, "sha256")
    token = "fsb_" + urlsafe_b64encode(signature + payload).rstrip(b"=").decode()

    with pytest.raises(Unauthenticated, match="of another version of the server"):
        tokens(Clock(1_800_000_000)).read(token)


def test_a_ticket_is_no_token_and_a_token_is_no_ticket() -> None:
    """Both are signed with one key."""
    clock = Clock(1_800_000_000)
    signer = Signer(KEY, clock=clock)
    ticket = signer.sign(TableTicket("primary", "people", 1, 1_900_000_000))
    token = tokens(clock).issue("alice", 0)
    signed = urlsafe_b64decode(token[4:] + "=" * (-len(token[4:]) % 4))

    with pytest.raises(InvalidRequest):
        signer.verify(signed)
    with pytest.raises(Unauthenticated):
        signer.verify(b"FST1" + signed)
    with pytest.raises(Unauthenticated):
        tokens(clock).read("fsb_" + ticket[4:].hex())
