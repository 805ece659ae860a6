"""What is told of a request that an S3 server answered by an error, and of one that it didn't answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace as changed
from s3server import ACCESS_KEY, SECRET_KEY, free_port
from storage.answering import answering, error

from flightserver.errors import BackendUnavailable, FlightserverError
from flightserver.storage.s3 import S3Objects
from flightserver.storage.s3_access import S3Access, S3Credentials, S3Location, S3Timeouts

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3server import S3Server

ONCE = S3Timeouts(connect_seconds=5, request_seconds=30, retry_seconds=60, retries=0)
SERVER = "the S3 server of this bucket"
CALLS: dict[str, Callable[[S3Objects], object]] = {
    "read": lambda objects: objects.get("a"),
    "look at": lambda objects: objects.head("a"),
    "write": lambda objects: objects.put("a", b"1"),
    "list": lambda objects: list(objects.list("")),
    "delete": lambda objects: objects.delete("a"),
}


def failures(access: S3Access) -> dict[str, str]:
    """Action -> what is told when it fails. No message says where the server is, or who asked."""
    told = {}
    for action, call in CALLS.items():
        with pytest.raises(FlightserverError) as caught:
            call(S3Objects(access))
        assert isinstance(caught.value, BackendUnavailable)
        message = str(caught.value)
        prefix, _, told[action] = message.partition(f": {SERVER} ")
        assert prefix == f"can't {action} {'' if action == 'list' else 'a'!r}"
        assert access.location.endpoint not in message
        assert ACCESS_KEY not in message
        assert "http" not in message
    return told


def everywhere(reason: str, *, look: str | None = None) -> dict[str, str]:
    """One reason for all actions. A HEAD has no body, so that less may be known."""
    return dict.fromkeys(CALLS, reason) | {"look at": reason if look is None else look}


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (
            400,
            "AuthorizationHeaderMalformed",
            everywhere(
                "answers 400 AuthorizationHeaderMalformed: is the region 'eu-central-1' right?",
                look="answers 400: is the region 'eu-central-1' right?",
            ),
        ),
        (301, "PermanentRedirect", everywhere("answers by a redirect: is the region 'eu-central-1' right?")),
        (
            400,
            "KMS.DisabledException",
            everywhere("answers 400 KMS.DisabledException", look="answers 400: is the region 'eu-central-1' right?"),
        ),
        (401, "AccessDenied", everywhere("refuses the credentials")),
        (403, "AccessDenied", everywhere("refuses the credentials")),
        (405, "MethodNotAllowed", everywhere("answers 405 MethodNotAllowed", look="answers 405")),
        (503, "SlowDown", everywhere("answers 503 SlowDown", look="answers 503")),
        (503, "of http://x", everywhere("answers 503")),
    ],
)
def test_what_the_server_answers_is_told(status: int, code: str, told: dict[str, str]) -> None:
    with answering(status, error(code)) as server:
        assert failures(replace(server.access(), timeouts=ONCE)) == told


def test_a_session_token_that_is_refused_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with answering(400, error("ExpiredToken")) as server:
        told = failures(replace(server.access("a-token"), timeouts=ONCE))

    asked = "answers 400: is the region 'eu-central-1' right? And is the session token still valid?"
    assert told == everywhere("refuses the credentials", look=asked)
    assert "a-token" not in caplog.text


@pytest.mark.parametrize(
    ("status", "code"), [(400, "AuthorizationHeaderMalformed"), (301, "PermanentRedirect"), (400, "InvalidToken")]
)
def test_a_put_is_not_repeated_when_its_answer_would_be_the_same(status: int, code: str) -> None:
    with answering(status, error(code)) as server:
        with pytest.raises(BackendUnavailable):
            S3Objects(server.access()).put("a", b"1")

        assert server.asked == 1


def test_a_region_that_the_server_does_not_have_is_told(s3_server: S3Server, s3_bucket: str) -> None:
    access = s3_server.access(s3_bucket, timeouts=ONCE)

    told = failures(replace(access, location=changed(access.location, region="eu-central-1")))

    assert all("is the region 'eu-central-1' right?" in reason for reason in told.values()), told


def test_credentials_that_are_refused_are_told_by_listings_too(s3_server: S3Server, s3_bucket: str) -> None:
    access = s3_server.access(s3_bucket, timeouts=ONCE)

    told = failures(replace(access, credentials=S3Credentials(ACCESS_KEY, "wrong")))

    assert told == everywhere("refuses the credentials")


def test_a_server_that_does_not_answer_is_told() -> None:
    nowhere = S3Location("lake", endpoint=f"http://127.0.0.1:{free_port()}")

    told = failures(S3Access(nowhere, S3Credentials(ACCESS_KEY, SECRET_KEY), ONCE))

    assert told == everywhere("doesn't answer, or fails")
