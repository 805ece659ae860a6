"""Credentials are found by reference, and are never told to anybody."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import pytest
from catalog.making import transaction

from flightserver.catalog.entities import S3, Bucket, S3Place
from flightserver.catalog.updates import PutBucket
from flightserver.errors import BackendUnavailable, FlightserverError, InvalidRequest
from flightserver.lakehouse import Lakehouse
from flightserver.settings import load_settings
from flightserver.storage.credentials import check_reference, find_credentials
from flightserver.storage.s3 import S3Objects
from flightserver.storage.s3_access import S3Access, S3Credentials, S3Location, S3Timeouts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"  # noqa: S105  # the one of AWS's documentation
TOKEN = "FwoGZXIvYXdzEXAMPLETOKEN"  # noqa: S105  # an example of documentation, as above
FOUND = S3Credentials("AKIAEXAMPLE", SECRET)


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials of whoever runs the tests are found."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def write(path: Path, text: str, mode: int = 0o600) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def test_anonymous_requests_have_no_credentials(tmp_path: Path) -> None:
    assert find_credentials("anonymous", tmp_path) == S3Credentials()


def test_the_environment_may_hold_them_under_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_ACCESS_KEY_ID", "AKIAEXAMPLE")
    with pytest.raises(BackendUnavailable, match=r"the environment of the server lacks LAB_SECRET_ACCESS_KEY$"):
        find_credentials("environment:LAB", tmp_path)

    monkeypatch.setenv("LAB_SECRET_ACCESS_KEY", SECRET)
    assert find_credentials("environment:LAB", tmp_path) == FOUND

    monkeypatch.setenv("LAB_SESSION_TOKEN", TOKEN)
    assert find_credentials("environment:LAB", tmp_path) == S3Credentials("AKIAEXAMPLE", SECRET, TOKEN)


def test_the_usual_environment_is_read_as_aws_tools_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendUnavailable, match="credentials 'environment' aren't there: set AWS_ACCESS_KEY_ID"):
        find_credentials("environment", tmp_path)

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)

    assert find_credentials("environment", tmp_path) == FOUND


def test_a_profile_of_the_aws_configuration_has_them(tmp_path: Path) -> None:
    write(tmp_path / "credentials", f"[lab]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = {SECRET}\n")

    assert find_credentials("profile:lab", tmp_path) == FOUND
    with pytest.raises(BackendUnavailable, match=r"credentials 'profile:other' aren't there: .* has no such profile"):
        find_credentials("profile:other", tmp_path)


def test_an_aws_configuration_that_is_broken_is_said_so_without_its_path(tmp_path: Path) -> None:
    write(tmp_path / "config", "no section\n")

    with pytest.raises(BackendUnavailable) as refused:
        find_credentials("profile:lab", tmp_path)

    assert str(refused.value) == "credentials 'profile:lab' can't be had: the AWS configuration can't be read or used"


def test_a_file_in_the_directory_of_credentials_has_them(tmp_path: Path) -> None:
    fields = {"access_key_id": "AKIAEXAMPLE", "secret_access_key": SECRET}
    write(tmp_path / "lab.json", json.dumps(fields))
    write(tmp_path / "session.json", json.dumps({**fields, "session_token": TOKEN}))

    assert find_credentials("file:lab", tmp_path) == FOUND
    assert find_credentials("file:session", tmp_path) == S3Credentials("AKIAEXAMPLE", SECRET, TOKEN)


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        (f'{{"access_key_id": "A", "secret_access_key": "{SECRET}"}}', 0o640, r"can be read by others \(mode 0640\)"),
        (f'{{"access_key_id": "A", "secret_key": "{SECRET}"}}', 0o600, "are no JSON object with access_key_id"),
        (f'"{SECRET}', 0o600, "are no JSON object with access_key_id"),
        (None, 0o600, "can't be read from the server's directory of credentials"),
    ],
)
def test_a_file_that_is_not_right_is_refused(tmp_path: Path, text: str | None, mode: int, message: str) -> None:
    if text is not None:
        write(tmp_path / "lab.json", text, mode)

    with pytest.raises(BackendUnavailable, match=f"credentials 'file:lab' {message}") as refused:
        find_credentials("file:lab", tmp_path)

    assert SECRET not in str(refused.value)
    assert str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize(
    "reference",
    [SECRET, f"AKIAEXAMPLE:{SECRET}", "", "file:../etc/x", "file:-", "environment:lower", "profile:a b", "anonymous:x"],
)
def test_what_is_no_reference_is_refused_and_not_repeated(reference: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="`credentials` says where credentials are found") as refused:
        find_credentials(reference, tmp_path)
    with pytest.raises(InvalidRequest):
        check_reference(reference)

    assert not reference or reference not in str(refused.value)


def test_no_text_about_credentials_has_the_secret() -> None:
    credentials = S3Credentials("AKIAEXAMPLE", SECRET, TOKEN)
    access = S3Access(S3Location("b", endpoint="http://127.0.0.1:9"), credentials, S3Timeouts())
    texts = [f"{thing!r} {thing}" for thing in (credentials, access, S3Objects(access))]

    assert not any(SECRET in text or TOKEN in text for text in texts)
    assert "AKIAEXAMPLE" in texts[0]


def everything_under(directory: Path) -> Iterator[bytes]:
    for path in directory.rglob("*"):
        if path.is_file():
            yield path.read_bytes()


def test_no_secret_reaches_the_catalog_the_log_or_a_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LAB_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("LAB_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("LAB_SESSION_TOKEN", TOKEN)
    quick = {"connect_seconds": 0.5, "request_seconds": 0.5, "retry_seconds": 0.5, "retries": 0}
    settings = load_settings(None, {"server": {"data": tmp_path / "data"}, "buckets": quick})
    # Nobody listens on port 9, so that there is an error to look at.
    place = S3Place("lab-data", endpoint="http://127.0.0.1:9", credentials="environment:LAB")

    with caplog.at_level(logging.DEBUG), Lakehouse.open(settings) as lakehouse:
        lakehouse.catalog.commit(transaction(PutBucket(Bucket("lab", S3, s3=place))))
        with pytest.raises(FlightserverError) as failed:
            lakehouse.buckets.get("lab").objects.get("a")

    assert "127.0.0.1" not in str(failed.value)
    written = b"".join(everything_under(tmp_path / "data"))
    assert b"environment:LAB" in written
    said = "".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records) + str(failed.value)
    for secret in (SECRET, TOKEN):
        assert secret.encode() not in written
        assert secret not in said
