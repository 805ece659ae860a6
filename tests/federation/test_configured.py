"""The settings of `primary`: what can't be is refused in one line that names the setting, before anything is made."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from query.asking import rows
from s3server import CREDENTIALS

from flightserver.catalog.entities import LOCAL, PRIMARY, S3, Bucket, S3Place
from flightserver.cli.main import main
from flightserver.errors import InvalidRequest
from flightserver.federation.configured import configured_primary
from flightserver.lakehouse import Lakehouse
from flightserver.settings import PrimarySettings, load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from s3server import S3Server

PASSWORD = "hunter2"  # noqa: S105  # it is looked for in what is said

BAD: list[tuple[dict[str, Any], str]] = [
    ({"bucket": ""}, "primary.backend is 's3' and primary.bucket is empty: name the S3 bucket"),
    ({"bucket": "no/slash"}, "primary.bucket 'no/slash' can't name an S3 bucket: 3 to 63 letters, digits, "),
    ({"prefix": "lake//x"}, "primary.prefix 'lake//x' can't be: "),
    ({"prefix": "a/../b"}, "primary.prefix 'a/../b' can't be: "),
    ({"endpoint": "127.0.0.1:9000"}, "primary.endpoint must be a URL such as 'https://s3.example.com:9000', "),
    ({"endpoint": f"http://u:{PASSWORD}@127.0.0.1:1"}, "primary.endpoint must be a URL such as "),
    ({"endpoint": "http://127.0.0.1:99999"}, "primary.endpoint must be a URL such as "),
    ({"region": "moon base"}, "primary.region 'moon base' can't name a region: expected one such as 'us-east-1'"),
    ({"encryption": "AES128"}, "primary.encryption 'AES128' isn't known: expected one of AES256, aws:kms, "),
    ({"kms_key": "k"}, "primary.kms_key goes with the encryption 'aws:kms' or 'aws:kms:dsse'"),
    ({"credentials": f"AKIA:{PASSWORD}"}, "primary.credentials says where credentials are found, not what they are: "),
    ({"backend": "gcs"}, "the settings are not valid: Invalid enum value 'gcs' - at `$.primary.backend`"),
    ({"backend": "local"}, "primary.backend is 'local', but primary.bucket would be of an S3 bucket: set primary."),
    (
        {"backend": "local", "endpoint": "http://127.0.0.1:1", "credentials": "anonymous"},
        "primary.backend is 'local', but primary.bucket and primary.endpoint and primary.credentials would be of an S3",
    ),
]


@pytest.mark.parametrize(("changed", "message"), BAD)
def test_what_cannot_be_is_refused_before_anything_is_made(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, changed: dict[str, Any], message: str
) -> None:
    primary = {"backend": S3, "bucket": "lake", **changed}

    with caplog.at_level(logging.DEBUG), pytest.raises(InvalidRequest) as refused:
        Lakehouse.open(load_settings(None, {"server": {"data": tmp_path / "data"}, "primary": primary}))

    assert refused.value.message.startswith(message)
    assert PASSWORD not in refused.value.message + caplog.text
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("changed", "message"), BAD)
def test_a_command_on_the_lakehouse_itself_says_so_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changed: dict[str, Any],
    message: str,
) -> None:
    for name, value in {"backend": S3, "bucket": "lake", **changed}.items():
        monkeypatch.setenv(f"FLIGHTSERVER_PRIMARY_{name.upper()}", value)
    data = tmp_path / "data"

    assert main(["users", "list", "--data", str(data)]) == 1

    written = capsys.readouterr()
    [line] = written.err.splitlines()
    assert line.startswith(f"error: {message}")
    assert line.endswith("[FS-1001]")
    assert PASSWORD not in line
    assert not data.exists()


@pytest.mark.parametrize("prefix", ["lakehouse", "lakehouse/", "/lakehouse", "/lakehouse/"])
def test_slashes_at_the_ends_of_a_prefix_mean_nothing(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path, prefix: str
) -> None:
    primary = {"backend": S3, "bucket": s3_bucket, "credentials": CREDENTIALS, "prefix": prefix}
    primary["endpoint"] = f"{s3_server.endpoint}/"
    settings = load_settings(None, {"server": {"data": tmp_path}, "primary": primary})

    with Lakehouse.open(settings) as lakehouse:
        rows(lakehouse, "CREATE TABLE t AS SELECT value AS a FROM generate_series(1, 300000) AS s(value)")
        assert rows(lakehouse, "SELECT count(*), max(a) FROM t WHERE a > 5") == [(299_995, 300_000)]
        assert rows(lakehouse, "SELECT url FROM system.buckets") == [("lakehouse-primary://data/lakehouse/",)]

    keys = [each["Key"] for each in s3_server.client().list_objects_v2(Bucket=s3_bucket)["Contents"]]
    assert {key.partition("/")[0] for key in keys} == {"lakehouse"}


def test_a_place_that_can_be_is_taken_as_it_was_said() -> None:
    said = PrimarySettings("s3", "lake", "https://s3.example:9000/", "eu-west-1", "/a/b/", credentials="profile:lake")

    place = S3Place("lake", "https://s3.example:9000", "eu-west-1", "a/b", credentials="profile:lake")
    assert configured_primary(said) == Bucket(PRIMARY, S3, s3=place)
    assert configured_primary(PrimarySettings()) == Bucket(PRIMARY, LOCAL)
