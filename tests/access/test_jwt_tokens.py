"""A JSON web token is accepted when all of it is right, and refused for each thing that is wrong."""

from __future__ import annotations

import hashlib
import hmac
import json
import string
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Any

import pytest
from access.issuing import (
    ALL_KEYS,
    AUDIENCE,
    EC,
    ED,
    ISSUER,
    NOW,
    OTHER_EC,
    OTHER_RSA,
    RSA,
    PrivateKey,
    key_server,
    token,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from flightserver.access.jwt_tokens import JwtIdentity, JwtTokens
from flightserver.errors import InvalidRequest, Unauthenticated
from flightserver.settings import AccessSettings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> AccessSettings:
    """Those that tokens of `access.issuing` are right for."""
    path: Path = tmp_path_factory.mktemp("issuer") / "keys.json"
    path.write_bytes(ALL_KEYS)
    return AccessSettings(jwks=str(path), jwt_issuer=ISSUER, jwt_audience=AUDIENCE)


@pytest.fixture(scope="module")
def tokens(settings: AccessSettings) -> JwtTokens:
    """What reads them at `NOW`."""
    return JwtTokens(settings, clock=lambda: NOW)


def signed(header: dict[str, Any], claims: object, secret: bytes = b"") -> str:
    """A token made by hand, of anything, with HMAC-SHA256 or, without a secret, an empty signature."""
    parts = [urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    mac = hmac.digest(secret, b".".join(parts), hashlib.sha256) if secret else b""
    return b".".join([*parts, urlsafe_b64encode(mac).rstrip(b"=")]).decode()


RIGHT_CLAIMS = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ida", "exp": NOW + 600}
PUBLIC_PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"),
    [(RSA, "RS256", "rsa"), (RSA, "PS256", "rsa"), (EC, "ES256", "ec"), (ED, "EdDSA", "ed"), (RSA, "RS256", None)],
)
def test_a_right_token_is_accepted(tokens: JwtTokens, key: PrivateKey, algorithm: str, kid: str | None) -> None:
    text = token(key, algorithm=algorithm, kid=kid, roles=["reader", "team-a"])

    assert tokens.read(text) == JwtIdentity("ida", frozenset({"reader", "team-a"}))


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"iss": "https://other.example"}, "not from the issuer that this server trusts"),
        ({"iss": None}, "no claim 'iss'"),
        ({"aud": "another server"}, "not for this server"),
        ({"aud": ["one", "another"]}, "not for this server"),
        ({"aud": None}, "no claim 'aud'"),
        ({"exp": None}, "no claim 'exp'"),
        ({"exp": NOW - 30}, "it has expired"),
        ({"exp": NOW - 86_400}, "it has expired"),
        ({"exp": True}, "'exp' is not a time"),
        ({"exp": "tomorrow"}, "'exp' is not a time"),
        ({"exp": [NOW + 600]}, "'exp' is not a time"),
        ({"exp": float("inf")}, "'exp' is not a time"),
        ({"exp": float("nan")}, "'exp' is not a time"),
        ({"nbf": NOW + 31}, "not valid yet by its claim 'nbf'"),
        ({"nbf": "now"}, "'nbf' is not a time"),
        ({"nbf": {}}, "'nbf' is not a time"),
        ({"iat": NOW + 31}, "not valid yet by its claim 'iat'"),
        ({"iat": 10**400}, "not valid yet by its claim 'iat'"),
        ({"sub": None}, "'sub' .access.jwt_user_claim. is not a user name"),
        ({"sub": ""}, "is not a user name"),
        ({"sub": 7}, "is not a user name"),
        ({"iss": 7}, "not from the issuer"),
        ({"iss": [ISSUER]}, "not from the issuer"),
        ({"aud": 7}, "not for this server"),
        ({"aud": [7]}, "not for this server"),
        ({"aud": {AUDIENCE: 1}}, "not for this server"),
        ({"sub": "a\nb"}, "is not a user name"),
        ({"sub": "x" * 257}, "is not a user name"),
        ({"roles": 7}, "'roles' .access.jwt_roles_claim. is neither a list of role names nor a text"),
        ({"roles": ["reader", 7]}, "is neither a list"),
        ({"roles": {"reader": True}}, "is neither a list"),
    ],
)
def test_a_token_with_a_wrong_claim_is_refused(tokens: JwtTokens, claims: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unauthenticated, match=reason) as refused:
        tokens.read(token(**claims))

    assert refused.value.message.startswith("This JSON web token is not valid: ")
    assert refused.value.message.endswith(". Get a new one from the issuer.")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (token(OTHER_RSA), "its signature is wrong"),
        (token(OTHER_RSA, kid="unknown"), "the issuer has no key of its algorithm and key id"),
        (token(EC, algorithm="ES256", kid="rsa"), "the issuer has no key of its algorithm and key id"),
        (token(RSA, kid="ec"), "the issuer has no key of its algorithm and key id"),
        (token(RSA, algorithm="RS512"), "its algorithm is not one of RS256, ES256, EdDSA, PS256"),
        (token(OTHER_EC, algorithm="ES384", kid="ec"), "its algorithm is not one of"),
        (token(b"a shared secret of thirty-two bytes", algorithm="HS256"), "its algorithm is not one of"),
        (signed({"alg": "HS256", "kid": "rsa"}, RIGHT_CLAIMS, PUBLIC_PEM), "its algorithm is not one of"),
        (signed({"alg": "none", "kid": "rsa"}, RIGHT_CLAIMS, b"x"), "its algorithm is not one of"),
        (signed({"alg": "NONE"}, RIGHT_CLAIMS, b"x"), "its algorithm is not one of"),
        (signed({"kid": "rsa"}, RIGHT_CLAIMS, b"x"), "its algorithm is not one of"),
        (signed({"alg": ["RS256"]}, RIGHT_CLAIMS, b"x"), "its algorithm is not one of"),
        (signed({"alg": "RS256", "kid": 7}, RIGHT_CLAIMS, b"x"), "its signature is wrong, or it is malformed"),
        (signed({"alg": "RS256", "kid": "rsa"}, RIGHT_CLAIMS, PUBLIC_PEM), "its signature is wrong"),
        (signed({"alg": "RS256", "kid": "rsa", "crit": ["x"], "x": 1}, RIGHT_CLAIMS, b"x"), "malformed"),
        (signed({"alg": "RS256", "kid": "rsa"}, ["no", "object"], b"x"), "its signature is wrong, or it is malformed"),
        (signed({"alg": "none"}, RIGHT_CLAIMS), "it is cut off or changed"),
        ("eyJ", "it is cut off or changed"),
        ("eyJ.eyJ.x", "it is cut off or changed"),
        ("eyJ" + "x" * 20_000, "it is cut off or changed"),
        ("eyJ...", "it is cut off or changed"),
    ],
)
def test_a_token_with_a_wrong_signature_is_refused(tokens: JwtTokens, text: str, reason: str) -> None:
    with pytest.raises(Unauthenticated, match=reason) as refused:
        tokens.read(text)

    assert text[10:] == "" or text[10:] not in refused.value.message


def test_keys_that_a_token_brings_along_are_not_looked_at(tokens: JwtTokens) -> None:
    with key_server() as attacker:
        for header in ({"jku": attacker.url}, {"x5u": attacker.url}, {"jwk": json.loads(ALL_KEYS)["keys"][0]}):
            with pytest.raises(Unauthenticated):
                tokens.read(signed({"alg": "RS256", "kid": "attackers"} | header, RIGHT_CLAIMS, b"secret"))

        assert attacker.requests == 0


RIGHT = token(roles="reader")


@given(st.integers(0, len(RIGHT) - 1))
def test_every_truncation_is_refused(tokens: JwtTokens, length: int) -> None:
    with pytest.raises(Unauthenticated):
        tokens.read(RIGHT[:length])


@given(st.integers(0, len(RIGHT) - 1), st.sampled_from(string.ascii_letters + string.digits + "-_=.\n \x00é"))
def test_every_change_of_a_character_is_refused(tokens: JwtTokens, place: int, character: str) -> None:
    changed = RIGHT[:place] + character + RIGHT[place + 1 :]
    if changed != RIGHT:
        with pytest.raises(Unauthenticated):
            tokens.read(changed)


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=50))
def test_no_text_whatever_is_accepted_or_fails_otherwise(tokens: JwtTokens, header: str, claims: str, mac: str) -> None:
    encoded = [urlsafe_b64encode(part.encode(errors="replace")).rstrip(b"=").decode() for part in (header, claims)]
    with pytest.raises(Unauthenticated):
        tokens.read(".".join([*encoded, mac]))


_VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=4)


@given(
    st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "zip"]), _VALUES | st.sampled_from(["RS256"]))
)
def test_no_header_whatever_is_accepted_or_fails_otherwise(tokens: JwtTokens, header: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated):
        tokens.read(signed(header, RIGHT_CLAIMS, b"secret"))


@pytest.mark.parametrize(
    ("claims", "roles"),
    [
        ({}, set()),
        ({"roles": []}, set()),
        ({"roles": ""}, set()),
        ({"roles": "reader  team-a"}, {"reader", "team-a"}),
        ({"roles": ["reader", "with space"]}, {"reader", "with space"}),
    ],
)
def test_roles_are_a_list_or_words(tokens: JwtTokens, claims: dict[str, Any], roles: set[str]) -> None:
    assert tokens.read(token(**claims)) == JwtIdentity("ida", frozenset(roles))


@pytest.mark.parametrize(
    ("path", "claims"),
    [
        ("realm_access.roles", {"realm_access": {"roles": ["reader"]}}),
        ("https://issuer.example/roles", {"https://issuer.example/roles": ["reader"]}),
        ("a.b.c", {"a": {"b": {"c": "reader"}}}),
    ],
)
def test_claims_are_named_by_their_path(settings: AccessSettings, path: str, claims: dict[str, Any]) -> None:
    reading = JwtTokens(replace(settings, jwt_roles_claim=path, jwt_user_claim="email"), clock=lambda: NOW)

    assert reading.read(token(email="ida@example.org", **claims)) == JwtIdentity(
        "ida@example.org", frozenset({"reader"})
    )
    assert reading.read(token(email="ida@example.org", a={"b": 7})).roles == frozenset()


def test_the_issuers_clock_may_differ_by_the_leeway_to_the_second(settings: AccessSettings) -> None:
    text = token(exp=NOW, nbf=NOW - 60, iat=NOW - 60)

    def outcome(at: float) -> str:
        try:
            return JwtTokens(settings, clock=lambda: at).read(text).name
        except Unauthenticated as error:
            return "expired" if "expired" in error.message else "not yet"

    assert [outcome(NOW + seconds) for seconds in (-90.5, -90, 0, 29.5, 30)] == [
        "not yet",
        "ida",
        "ida",
        "ida",
        "expired",
    ]


def test_keys_may_be_at_a_url(settings: AccessSettings) -> None:
    with key_server() as published:
        reading = JwtTokens(replace(settings, jwks=published.url), clock=lambda: NOW)

        assert reading.read(token()).name == "ida"


@pytest.mark.parametrize("name", ["jwt_issuer", "jwt_audience", "jwt_user_claim", "jwt_roles_claim"])
def test_what_tokens_must_say_has_to_be_set(settings: AccessSettings, name: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"access\.jwks is set and access\.{name} is empty"):
        JwtTokens(replace(settings, **{name: ""}))


@pytest.mark.parametrize("algorithms", [("HS256",), ("RS256", "none"), ("rs256",), ()])
def test_algorithms_without_a_key_pair_cannot_be_allowed(settings: AccessSettings, algorithms: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequest, match=r"access\.jwt_algorithms has .*; it can have RS256, "):
        JwtTokens(replace(settings, jwt_algorithms=algorithms))
