"""What is told of a request that an S3 server answered by an error, and of one that it didn't answer."""

from __future__ import annotations

import json
import logging
import socket
import socketserver
import ssl
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from certificates import LOCALHOST, Authority
from msgspec.structs import replace as changed
from s3server import ACCESS_KEY, SECRET_KEY, S3Server, binary, free_port
from storage.answering import answering, error

from flightserver.errors import BackendUnavailable, FlightserverError
from flightserver.storage.s3 import S3Objects
from flightserver.storage.s3_access import S3Access, S3Credentials, S3Location, S3Timeouts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ONCE = S3Timeouts(connect_seconds=5, request_seconds=30, retry_seconds=60, retries=0)
SERVER = "the S3 server of this bucket"
EITHER = "answers 403: it refuses the credentials, or they may not do this"
PAGE = "<!DOCTYPE html><html><head><meta charset=utf-8></head><body>Nothing here<br></body></html>"
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
        prefix, _, told[action] = message.removeprefix("can't ").partition(": ")
        assert prefix == ("list the objects of the bucket" if action == "list" else f"{action} 'a'")
        told[action] = told[action].removeprefix(f"{SERVER} ")
        assert access.location.endpoint not in message
        assert ACCESS_KEY not in message
        assert "http" not in message
    return told


def asked_at(endpoint: str) -> S3Access:
    return S3Access(S3Location("lake", endpoint=endpoint), S3Credentials(ACCESS_KEY, SECRET_KEY), ONCE)


def lacking(answer: str) -> str:
    """What is told to who may not do what was asked."""
    return f"the credentials may not do this: {SERVER} answers {answer}"


def let_read(server: S3Server, bucket: str, user: str) -> None:
    """Make a user of versitygw who may read an S3 bucket, and nothing else."""
    known = ["--access", ACCESS_KEY, "--secret", SECRET_KEY, "--endpoint-url", server.endpoint]
    made = ["create-user", "--access", user, "--secret", f"of-{user}", "--role", "user"]
    subprocess.run([binary(), "admin", *known, *made], check=True)
    own = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    may = {
        "Effect": "Allow",
        "Principal": {"AWS": [user]},
        "Action": ["s3:GetObject", "s3:ListBucket"],
        "Resource": own,
    }
    server.client().put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Statement": [may]}))


@contextmanager
def hanging_up() -> Iterator[str]:
    """A server that closes each connection, as one that is overwhelmed does."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            """Say nothing."""

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


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
        (403, "InvalidAccessKeyId", everywhere("refuses the credentials", look=EITHER)),
        (403, "SignatureDoesNotMatch", everywhere("refuses the credentials", look=EITHER)),
        (401, "of http://x", everywhere("refuses the credentials")),
        (401, "InvalidToken", everywhere("refuses the credentials")),
        (403, "AccessDenied", everywhere(lacking("403 AccessDenied"), look=EITHER)),
        (
            403,
            "RequestTimeTooSkewed",
            everywhere("answers 403 RequestTimeTooSkewed: is the clock of this machine right?", look=EITHER),
        ),
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

    assert told == everywhere("refuses the credentials", look=EITHER)


@pytest.mark.parametrize("status", [401, 403, 404, 502])
def test_a_web_server_is_told_from_an_s3_server(status: int) -> None:
    with answering(status, PAGE) as server:
        objects = S3Objects(replace(server.access(), timeouts=ONCE))
        told = f"{SERVER} answers {status}, and not as S3 does: is the endpoint that of an S3 server?"

        with pytest.raises(BackendUnavailable) as listed:
            list(objects.list(""))
        with pytest.raises(BackendUnavailable) as written:
            objects.put("a", b"1")

    assert listed.value.message == f"can't list the objects of the bucket: {told}"
    assert written.value.message == f"can't write 'a': {told}"


def test_a_web_server_that_has_a_page_for_everything_is_told_from_an_s3_server() -> None:
    with answering(200, PAGE) as server:
        objects = S3Objects(replace(server.access(), timeouts=ONCE))
        for action in ("write", "list", "delete"):
            with pytest.raises(BackendUnavailable, match=rf"{SERVER} answers 200, and not as S3 does"):
                CALLS[action](objects)


def test_rights_that_are_lacking_are_told_from_credentials_that_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "users").mkdir()
    monkeypatch.setenv("VGW_IAM_DIR", str(tmp_path / "users"))
    with S3Server(tmp_path / "s3") as server:
        server.make("lake")
        S3Objects(server.access("lake")).put("a", b"1")
        let_read(server, "lake", "reader")
        reader = S3Objects(replace(server.access("lake"), credentials=S3Credentials("reader", "of-reader")))

        assert (reader.get("a"), [one.key for one in reader.list("")]) == (b"1", ["a"])
        with pytest.raises(BackendUnavailable) as written:
            reader.put("b", b"1")
        with pytest.raises(BackendUnavailable) as deleted:
            reader.delete("a")

    assert written.value.message == f"can't write 'b': {lacking('403 AccessDenied')}"
    assert deleted.value.message == f"can't delete 'a': {lacking('AccessDenied')}"


def test_who_asks_without_credentials_is_told_so(s3_server: S3Server, s3_bucket: str) -> None:
    objects = S3Objects(replace(s3_server.access(s3_bucket, timeouts=ONCE), credentials=S3Credentials()))

    with pytest.raises(BackendUnavailable, match=r"can't read 'a': requests without credentials may not do this: "):
        objects.get("a")


def test_a_server_that_does_not_answer_is_told() -> None:
    nowhere = S3Location("lake", endpoint=f"http://127.0.0.1:{free_port()}")

    told = failures(S3Access(nowhere, S3Credentials(ACCESS_KEY, SECRET_KEY), ONCE))

    assert told == everywhere("doesn't answer: it refuses connections")


def test_a_host_that_is_not_known_is_told() -> None:
    told = failures(asked_at("http://nobody-has-this-name.invalid:9000"))

    assert told == everywhere("doesn't answer: its host name isn't known here")


def test_a_server_without_tls_is_told() -> None:
    with answering(200, "") as server:
        told = failures(asked_at(server.endpoint.replace("http://", "https://")))

    assert told == everywhere("doesn't answer: it doesn't speak TLS, or its certificate isn't trusted")


def test_a_certificate_that_nobody_vouches_for_is_told(tmp_path: Path) -> None:
    certificate, key = Authority().sign("s3", LOCALHOST).write(tmp_path, "s3")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with answering(200, "", context) as server:
        told = failures(asked_at(server.endpoint))

    assert told == everywhere("doesn't answer: it doesn't speak TLS, or its certificate isn't trusted")


def test_a_server_that_hangs_is_told_with_what_it_was_given() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        told = failures(replace(asked_at(endpoint), timeouts=replace(ONCE, request_seconds=0.5, retry_seconds=0.5)))

    assert told == everywhere("doesn't answer: it hasn't answered within 0.5 s")


def test_a_server_that_closes_connections_is_told_in_no_more_words_than_are_true() -> None:
    with hanging_up() as endpoint:
        told = failures(asked_at(endpoint))

    assert told == everywhere("doesn't answer, or fails")


def test_the_log_says_why_once_and_all_that_is_known_to_who_debugs(caplog: pytest.LogCaptureFixture) -> None:
    objects = S3Objects(asked_at(f"http://127.0.0.1:{free_port()}"))
    with caplog.at_level(logging.DEBUG, "flightserver"):
        for key in ("a", "b"):
            with pytest.raises(BackendUnavailable):
                objects.head(key)

    failed, known = "an S3 request failed", "all that is known of a failed S3 request"
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("WARNING", failed),
        ("DEBUG", known),
        ("DEBUG", failed),
        ("DEBUG", known),
    ]
    first = vars(caplog.records[0])
    assert (first["cause"], first["why"], first["key"]) == (
        "Connection refused: tcp connect error",
        f"{SERVER} doesn't answer: it refuses connections",
        "a",
    )
    assert "Debug source" in vars(caplog.records[1])["error"]


def test_the_log_says_another_reason_when_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    objects = S3Objects(asked_at(f"http://127.0.0.1:{port}"))
    with pytest.raises(BackendUnavailable):
        objects.get("a")
    with answering(403, error("AccessDenied"), port=port), pytest.raises(BackendUnavailable):
        objects.get("a")

    assert [(vars(one)["cause"], vars(one)["key"]) for one in caplog.records] == [
        ("Connection refused: tcp connect error", "a"),
        (f"403 of {ACCESS_KEY} at http://x", "a"),
    ]


def test_a_write_to_an_s3_bucket_that_is_not_there_is_in_the_log(
    s3_server: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    objects = S3Objects(s3_server.access("nobody-has-made-this"))

    with pytest.raises(BackendUnavailable, match="can't write 'a': the S3 bucket isn't there"):
        objects.put("a", b"1")

    assert "an S3 request failed" in caplog.messages
