"""What boto3 is asked for: by the bucket's own credentials and timeouts, and errors tell no secrets."""

from __future__ import annotations

import logging
import socket
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace as changed
from s3server import ACCESS_KEY, SECRET_KEY, free_port
from storage.answering import answering, error

from flightserver.catalog.entities import S3, Bucket
from flightserver.errors import BackendUnavailable
from flightserver.federation.aws import asking, client
from flightserver.federation.lifecycle import withdraw
from flightserver.federation.places import check_s3_bucket
from flightserver.storage.buckets import OpenBucket
from flightserver.storage.s3 import S3Objects
from flightserver.storage.s3_access import S3Access, S3Credentials, S3Location, S3Timeouts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from s3server import S3Server

IMPATIENT = S3Timeouts(connect_seconds=1, request_seconds=0.2, retry_seconds=0.5, retries=10)


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server


def at(endpoint: str, credentials: S3Credentials, timeouts: S3Timeouts = IMPATIENT) -> S3Access:
    return S3Access(S3Location("some-bucket", endpoint=endpoint), credentials, timeouts)


def test_the_server_is_asked_by_the_credentials_of_the_bucket(s3_server: S3Server, s3_bucket: str) -> None:
    with asking(s3_server.access(s3_bucket), "look at it") as s3:
        assert s3.list_objects_v2(Bucket=s3_bucket)["KeyCount"] == 0


def test_refused_credentials_are_told_without_naming_them(
    s3_server: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = at(s3_server.endpoint, S3Credentials(ACCESS_KEY, "wrong-secret"), S3Timeouts())

    with (
        caplog.at_level(logging.DEBUG, "flightserver"),
        pytest.raises(BackendUnavailable, match=r"^can't look at it: the S3 server refuses the credentials$"),
        asking(wrong, "look at it") as s3,
    ):
        s3.list_buckets()

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "an S3 request failed"),
        ("DEBUG", "all that is known of a failed S3 request"),
    ]
    assert "wrong-secret" not in str([vars(record) for record in caplog.records])


def test_rights_that_are_lacking_are_told_from_credentials_that_are_refused() -> None:
    with answering(403, error("AccessDenied")) as server:
        access = server.access()
        with pytest.raises(BackendUnavailable) as listed, asking(access, "look at it") as s3:
            s3.list_buckets()
        with pytest.raises(BackendUnavailable) as looked_for, asking(access, "look at it") as s3:
            s3.head_bucket(Bucket="lake")

    lacking = "the credentials may not do this: the S3 server answers 403 AccessDenied"
    either = "the S3 server answers 403: it refuses the credentials, or they may not do this"
    assert (listed.value.message, looked_for.value.message) == (
        f"can't look at it: {lacking}",
        f"can't look at it: {either}",
    )


def test_what_else_the_server_refuses_is_told_by_its_code(s3_server: S3Server) -> None:
    with (
        pytest.raises(BackendUnavailable, match=r"^can't look at it: the S3 server answers 404 NoSuchBucket$"),
        asking(s3_server.access("no-such-bucket"), "look at it") as s3,
    ):
        s3.list_objects_v2(Bucket="no-such-bucket")


@pytest.mark.parametrize(
    ("status", "said", "told"),
    [
        (301, "PermanentRedirect", "answers by a redirect: is the region 'eu-central-1' right?"),
        (
            400,
            "AuthorizationHeaderMalformed",
            "answers 400 AuthorizationHeaderMalformed: is the region 'eu-central-1' right?",
        ),
        (400, "KMS.DisabledException", "answers 400 KMS.DisabledException"),
    ],
)
def test_an_answer_to_who_asks_for_another_region_is_told_with_that_question(status: int, said: str, told: str) -> None:
    with answering(status, error(said)) as server:
        access = server.access()
        far = OpenBucket("far", S3Objects(access), "lakehouse-far", s3=access)

        with pytest.raises(BackendUnavailable) as looked_for:
            check_s3_bucket(access)
        with pytest.raises(BackendUnavailable) as set_anew:
            withdraw(far, Bucket("far", S3))

    assert looked_for.value.message == f"can't look for the S3 bucket 'lake': the S3 server {told}"
    assert set_anew.value.message == f"can't set the lifecycle rules of bucket 'far': the S3 server {told}"


def test_a_region_that_the_server_does_not_have_is_told(s3_server: S3Server, s3_bucket: str) -> None:
    """By boto3 too, which would ask in the right one by itself: objects are asked for in the one that is set."""
    access = s3_server.access(s3_bucket)
    elsewhere = replace(access, location=changed(access.location, region="eu-central-1"))

    with pytest.raises(BackendUnavailable, match=r"Malformed: is the region 'eu-central-1' right\?$"):
        check_s3_bucket(elsewhere)
    with pytest.raises(BackendUnavailable, match=r"Malformed: is the region 'eu-central-1' right\?$"):
        list(S3Objects(elsewhere).list(""))


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (301, "answers by a redirect: is the region 'eu-central-1' right?"),
        (400, "answers 400: is the region 'eu-central-1' right? And is the session token still valid?"),
    ],
)
def test_an_answer_without_a_reason_is_told_with_the_common_ones(status: int, told: str) -> None:
    with (
        answering(status, "") as server,
        pytest.raises(BackendUnavailable) as caught,
        asking(server.access("a-token"), "look at it") as s3,
    ):
        s3.head_bucket(Bucket="lake")

    assert caught.value.message == f"can't look at it: the S3 server {told}"


def test_a_server_that_is_not_there_is_told_without_its_address() -> None:
    nowhere = at(f"http://127.0.0.1:{free_port()}", S3Credentials(ACCESS_KEY, SECRET_KEY))

    with (
        pytest.raises(BackendUnavailable, match=r"^can't look at it: .* doesn't answer: it refuses connections$"),
        asking(nowhere, "look at it") as s3,
    ):
        s3.list_buckets()


def test_a_host_that_is_not_known_is_told() -> None:
    nobody = at("http://nobody-has-this-name.invalid:9000", S3Credentials(ACCESS_KEY, SECRET_KEY))

    with (
        pytest.raises(BackendUnavailable, match=r"the S3 server doesn't answer: its host name isn't known here$"),
        asking(nobody, "look at it") as s3,
    ):
        s3.list_buckets()


def test_a_server_without_tls_is_told() -> None:
    message = "the S3 server doesn't answer: it doesn't speak TLS, or its certificate isn't trusted$"
    with answering(200, "") as server:
        access = at(server.endpoint.replace("http://", "https://"), S3Credentials(ACCESS_KEY, SECRET_KEY))
        with pytest.raises(BackendUnavailable, match=message), asking(access, "look at it") as s3:
            s3.list_buckets()


def test_a_web_server_is_told_from_an_s3_server() -> None:
    message = "the S3 server answers 404, and not as S3 does: is the endpoint that of an S3 server[?]$"
    for page in ("<html><body>Nothing here</body></html>", "<!DOCTYPE html><html><br></html>"):
        with (
            answering(404, page) as server,
            pytest.raises(BackendUnavailable, match=message),
            asking(server.access(), "look at it") as s3,
        ):
            s3.list_objects_v2(Bucket="lake")


def test_a_server_that_hangs_is_given_up_after_the_timeout_of_the_bucket(silent: socket.socket) -> None:
    hung = at(f"http://127.0.0.1:{silent.getsockname()[1]}", S3Credentials(ACCESS_KEY, SECRET_KEY))

    with (
        pytest.raises(BackendUnavailable, match=r"the S3 server doesn't answer: it hasn't answered within 0\.17 s$"),
        asking(hung, "look at it") as s3,
    ):
        s3.list_buckets()

    silent.settimeout(0)
    connections = 0
    while True:
        try:
            silent.accept()[0].close()
        except BlockingIOError:
            break
        connections += 1
    assert connections == 3


@pytest.mark.parametrize(
    ("timeouts", "attempts", "seconds"),
    [
        (S3Timeouts(), 2, 30),
        (S3Timeouts(retries=0), 1, 30),
        (S3Timeouts(request_seconds=20), 3, 20),
        (S3Timeouts(request_seconds=20, retries=1), 2, 20),
        (S3Timeouts(request_seconds=5), 3, 5),
        (S3Timeouts(retry_seconds=0), 1, 30),
        (S3Timeouts(request_seconds=30, retry_seconds=45), 2, 22.5),
        (S3Timeouts(request_seconds=30, retry_seconds=20), 1, 20),
        (S3Timeouts(connect_seconds=6, request_seconds=1, retry_seconds=6), 3, 1),
    ],
)
def test_requests_are_repeated_as_often_as_the_time_allows(timeouts: S3Timeouts, attempts: int, seconds: float) -> None:
    made = client(at("http://127.0.0.1:1", S3Credentials(ACCESS_KEY, SECRET_KEY), timeouts))

    config: Any = made.meta.config
    assert config.retries["total_max_attempts"] == attempts
    assert (config.connect_timeout, config.read_timeout) == (min(timeouts.connect_seconds, seconds), seconds)


@pytest.mark.parametrize(("path_style", "url"), [(True, "http://h:1/own/k"), (False, "http://own.h:1/k")])
def test_the_name_of_the_s3_bucket_stands_in_urls_where_the_bucket_says(path_style: bool, url: str) -> None:  # noqa: FBT001  # a parameter of the test
    location = S3Location("own", endpoint="http://h:1", path_style=path_style)
    access = S3Access(location, S3Credentials(ACCESS_KEY, SECRET_KEY), S3Timeouts())

    signed = client(access).generate_presigned_url("get_object", Params={"Bucket": "own", "Key": "k"})
    signed_by_objects = S3Objects(access).presign("GET", "k", timedelta(minutes=1))

    assert signed.partition("?")[0] == url
    assert signed_by_objects.partition("?")[0] == url


def test_nothing_is_signed_without_credentials_whatever_the_environment_has(
    monkeypatch: pytest.MonkeyPatch, s3_server: S3Server
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)

    with (
        pytest.raises(BackendUnavailable, match="requests without credentials may not do this: the S3 server answers "),
        asking(at(s3_server.endpoint, S3Credentials(), S3Timeouts()), "look at it") as s3,
    ):
        s3.list_buckets()


def test_the_files_of_aws_tools_change_nothing_of_whom_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, s3_server: S3Server, s3_bucket: str
) -> None:
    config = (
        "[default]\nendpoint_url = http://127.0.0.1:1\nuse_fips_endpoint = true\ns3 =\n    addressing_style = virtual\n"
    )
    (tmp_path / "config").write_text(config, encoding="utf-8")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))

    with asking(s3_server.access(s3_bucket), "look at it") as s3:
        assert s3.list_objects_v2(Bucket=s3_bucket)["KeyCount"] == 0

    at_aws = S3Access(S3Location("own", region="eu-west-1"), S3Credentials(ACCESS_KEY, SECRET_KEY), S3Timeouts())
    assert client(at_aws).meta.endpoint_url == "https://s3.eu-west-1.amazonaws.com"
