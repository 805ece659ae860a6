"""Keys of an issuer follow their file or URL, and a URL that doesn't answer harms nobody."""

from __future__ import annotations

import json
import logging
import threading
from typing import TYPE_CHECKING

import pytest
from access.issuing import (
    ALL_KEYS,
    EC,
    ED,
    OTHER_EC,
    OTHER_RSA,
    RSA,
    KeyServer,
    certificate,
    jwk,
    key_server,
    key_set,
)
from cryptography.hazmat.primitives.asymmetric import rsa

from flightserver.access import jwks
from flightserver.access.jwks import FileKeys, UrlKeys, open_keys, read_key_set
from flightserver.errors import InvalidRequest, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Ticks:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def published() -> Iterator[KeyServer]:
    """A server on loopback that publishes keys."""
    with key_server() as server:
        yield server


def test_a_key_is_found_by_its_id_and_the_algorithm_that_it_is_for() -> None:
    keys = read_key_set(ALL_KEYS)

    assert keys.find("rsa", "RS256") == keys.find("rsa", "PS512") == RSA.public_key()
    assert keys.find("ec", "ES256") == EC.public_key()
    assert keys.find("ed", "EdDSA") == ED.public_key()
    assert keys.find("ec", "RS256") is None
    assert keys.find("rsa", "ES256") is None
    assert keys.find("ed", "ES256") is None
    assert keys.find("other", "RS256") is None


def test_an_elliptic_curve_is_used_with_its_own_algorithm_only() -> None:
    keys = read_key_set(key_set(jwk(OTHER_EC, "ec")))

    assert keys.find("ec", "ES384") == OTHER_EC.public_key()
    assert keys.find("ec", "ES256") is None


def test_a_key_that_names_its_algorithm_is_used_with_that_one_only() -> None:
    keys = read_key_set(key_set(jwk(RSA, "rsa", alg="PS256")))

    assert keys.find("rsa", "PS256") == RSA.public_key()
    assert keys.find("rsa", "RS256") is None


def test_a_token_without_an_id_means_the_only_key_of_its_algorithm() -> None:
    assert read_key_set(ALL_KEYS).find(None, "RS256") == RSA.public_key()
    assert read_key_set(key_set(jwk(RSA, "a"), jwk(OTHER_RSA, "b"))).find(None, "RS256") is None


def test_of_two_keys_with_one_id_none_is_taken() -> None:
    assert read_key_set(key_set(jwk(RSA, "a"), jwk(OTHER_RSA, "a"))).find("a", "RS256") is None


def test_keys_that_are_not_for_checking_signatures_are_passed_over() -> None:
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505  # that it is refused is the test
    data = key_set(
        jwk(weak, "weak"),
        jwk(RSA, "encryption", use="enc"),
        {"kty": "oct", "kid": "shared", "k": "c2VjcmV0"},
        {"kty": "EC", "kid": "no point", "crv": "P-256", "x": "AAAA", "y": "AAAA"},
        {"kty": "RSA", "kid": "no numbers"},
        {"kty": 3},
        jwk(EC, "good"),
    )

    assert [key.jwk.kid for key in read_key_set(data).keys] == ["good"]


def test_the_private_part_of_a_key_is_not_read() -> None:
    private = json.loads(key_set(jwk(RSA, "rsa")))["keys"][0] | {"d": "AQAB", "p": "AQAB"}

    assert read_key_set(key_set(private)).find("rsa", "RS256") == RSA.public_key()


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"keys": 1}', b"\xff"])
def test_what_is_no_set_of_keys_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="a JSON web key set is"):
        read_key_set(data)


def test_a_set_without_a_usable_key_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="has 1 keys, and none of them is a public key"):
        read_key_set(key_set({"kty": "oct", "k": "c2VjcmV0"}))


def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(jwk(RSA, "first")))
    keys = FileKeys(path)
    assert keys.find("second", "RS256") is None

    path.write_bytes(key_set(jwk(OTHER_RSA, "second")))

    assert keys.find("second", "RS256") == OTHER_RSA.public_key()
    assert keys.find("first", "RS256") is None


def test_a_file_that_became_unreadable_leaves_its_keys_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(jwk(RSA, "rsa")))
    keys = FileKeys(path)

    path.write_bytes(b"half of a")
    with caplog.at_level(logging.WARNING):
        assert [keys.find("rsa", "RS256") for _ in range(3)] == [RSA.public_key()] * 3
    assert [record.message for record in caplog.records] == ["JSON web keys could not be read"]

    path.unlink()
    assert keys.find("rsa", "RS256") == RSA.public_key()
    path.write_bytes(key_set(jwk(EC, "ec")))
    assert keys.find("ec", "ES256") == EC.public_key()


def test_a_file_that_is_not_there_is_refused_at_the_start_by_its_name_alone(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"access\.jwks: the file 'none\.json' can't be read") as refused:
        open_keys(str(tmp_path / "none.json"))

    assert str(tmp_path) not in refused.value.message


@pytest.mark.parametrize(
    "url", ["http://issuer.example/keys", "http://192.0.2.1/keys", "http://127.0.0.1.example/keys"]
)
def test_keys_come_by_https_unless_from_this_machine(url: str) -> None:
    with pytest.raises(InvalidRequest, match="where anybody on the way can change the keys; use https"):
        open_keys(url)


@pytest.mark.parametrize(
    "url", ["ftp://issuer.example/keys", "https:///keys", "https://me:secret@issuer.example/", "https://host:port/"]
)
def test_what_is_no_url_of_keys_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(InvalidRequest, match="a file or a URL such as https://host/path") as refused:
        open_keys(url)

    assert "secret" not in refused.value.message


@pytest.mark.parametrize(
    "url", ["https://issuer.example/keys", "http://localhost/", "http://[::1]:8080/", "http://127.8.0.1/"]
)
def test_https_and_this_machine_are_fine(url: str) -> None:
    assert isinstance(open_keys(url), UrlKeys)


def test_a_url_is_fetched_once_for_many_tokens(published: KeyServer) -> None:
    keys = UrlKeys(published.url)

    assert [keys.find("rsa", "RS256") for _ in range(10)] == [RSA.public_key()] * 10
    assert published.requests == 1


def test_a_url_of_https_is_believed_by_its_certificate_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trusted = certificate(tmp_path)
    with key_server(trusted) as published:
        with pytest.raises(Unauthenticated, match="can't be reached"):
            UrlKeys(published.url).find("rsa", "RS256")
        assert published.requests == 0

        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))  # OpenSSL's own variable for authorities
        assert UrlKeys(published.url).find("rsa", "RS256") == RSA.public_key()


def test_an_unknown_key_is_looked_for_once_in_30_seconds(published: KeyServer) -> None:
    ticks = Ticks()
    keys = UrlKeys(published.url, ticks=ticks)
    assert keys.find("rsa", "RS256")

    published.body = key_set(jwk(OTHER_RSA, "new"))
    ticks.now += 29
    assert [keys.find("new", "RS256") for _ in range(100)] == [None] * 100
    assert published.requests == 1
    ticks.now += 1

    assert keys.find("new", "RS256") == OTHER_RSA.public_key()
    assert published.requests == 2


def test_a_key_that_was_withdrawn_ends_within_the_hour(published: KeyServer) -> None:
    ticks = Ticks()
    keys = UrlKeys(published.url, ticks=ticks)
    assert keys.find("rsa", "RS256")

    published.body = key_set(jwk(OTHER_RSA, "new"))
    ticks.now += 3600
    keys.find("rsa", "RS256")
    assert keys._done.wait(10)

    assert keys.find("rsa", "RS256") is None


@pytest.mark.parametrize(
    ("status", "body"), [(500, ALL_KEYS), (302, ALL_KEYS), (200, b"no keys"), (200, b" " * 2_000_000)]
)
def test_an_issuer_that_fails_is_told_to_callers_and_its_old_keys_stay(
    published: KeyServer, status: int, body: bytes
) -> None:
    ticks = Ticks()
    keys = UrlKeys(published.url, ticks=ticks)
    published.status, published.body = status, body
    with pytest.raises(Unauthenticated, match="can't be reached at the moment"):
        keys.find("rsa", "RS256")

    ticks.now += 30
    published.status, published.body = 200, ALL_KEYS
    assert keys.find("rsa", "RS256")

    ticks.now += 30
    published.status, published.body = status, body
    assert keys.find("new", "RS256") is None
    assert keys.find("rsa", "RS256") == RSA.public_key()


def test_an_issuer_that_cannot_be_reached_is_told_to_callers() -> None:
    with key_server() as gone:
        closed = gone.url

    with pytest.raises(Unauthenticated, match="Try again in 30 seconds, or log in with user and password"):
        UrlKeys(closed).find("rsa", "RS256")


def test_who_has_a_known_key_does_not_wait_for_an_issuer_that_hangs(published: KeyServer) -> None:
    ticks = Ticks()
    keys = UrlKeys(published.url, ticks=ticks)
    assert keys.find("rsa", "RS256")

    published.answers.clear()
    ticks.now += 3600

    assert keys.find("rsa", "RS256") == RSA.public_key()
    assert not keys._done.is_set(), "the keys are being fetched all the same"


def test_who_has_an_unknown_key_waits_for_a_limited_time(published: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "_FETCH_SECONDS", 0.2)
    published.answers.clear()
    keys = UrlKeys(published.url)
    refused = []

    def call() -> None:
        with pytest.raises(Unauthenticated, match="can't be reached") as error:
            keys.find("rsa", "RS256")
        refused.append(error)

    callers = [threading.Thread(target=call) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(20)

    assert (len(refused), published.requests) == (8, 1)


def test_an_answer_that_never_ends_is_given_up(published: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "_FETCH_SECONDS", 0.2)
    published.drips = True
    keys = UrlKeys(published.url)

    with pytest.raises(Unauthenticated, match="can't be reached"):
        keys.find("rsa", "RS256")

    assert keys._done.wait(20)
    assert published.drips
