"""Flags of `flightserver buckets` that are about S3. Each test would fail if the flag weren't handed over."""

from __future__ import annotations

import json
import urllib.request
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from moto.server import ThreadedMotoServer
from query.asking import run
from s3server import ACCESS_KEY, CREDENTIALS, SECRET_KEY, S3Server

from flightserver.catalog.entities import S3Place
from flightserver.federation.aws import asking
from flightserver.settings import Settings, load_settings
from flightserver.storage.s3_access import S3Access, S3Credentials, S3Location, S3Timeouts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cli.conftest import Finished
    from conftest import RunningServer

_numbers = count(1)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server for the tests of this module, which use S3 buckets of different names."""
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def moto() -> Iterator[S3Access]:
    """A new S3 bucket of a simulated S3 server, which has encryption and lifecycle rules. All share what they hold."""
    server = ThreadedMotoServer(port=0)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        location = S3Location(f"lake-{next(_numbers)}", endpoint=endpoint)
        access = S3Access(location, S3Credentials(ACCESS_KEY, SECRET_KEY), S3Timeouts())
        with asking(access, "make it") as client:
            client.create_bucket(Bucket=location.bucket)
        yield access
    finally:
        server.stop()


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """`CREDENTIALS` are there, also where versitygw isn't; those of AWS's own tools aren't."""
    monkeypatch.setenv("FLIGHTSERVER_TEST_S3_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("FLIGHTSERVER_TEST_S3_SECRET_ACCESS_KEY", SECRET_KEY)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A server that gives up on S3 within about a second."""
    hasty = {"connect_seconds": 1, "request_seconds": 2, "retry_seconds": 1, "retries": 0}
    return load_settings(None, {"server": {"data": tmp_path / "data"}, "buckets": hasty})


def stored(server: RunningServer, name: str = "cloud") -> S3Place | None:
    return server.lakehouse.catalog.snapshot().buckets[name].s3


def datasets(s3: S3Server, bucket: str) -> list[str]:
    found = s3.client().list_objects_v2(Bucket=bucket, Prefix="datasets/")
    return [one["Key"] for one in found.get("Contents", [])]


def place(s3: S3Server, bucket: str, credentials: str | None = CREDENTIALS, endpoint: str = "") -> list[str]:
    flags = ["--s3-bucket", bucket, "--endpoint", endpoint or s3.endpoint]
    return flags if credentials is None else [*flags, "--credentials", credentials]


def test_a_bucket_is_attached_made_and_put_below_a_prefix(
    command: Callable[..., Finished], server: RunningServer, s3: S3Server
) -> None:
    absent = command("buckets", "create", "cloud", *place(s3, "made"))
    assert (absent.status, absent.out) == (1, "")
    assert "the S3 server has no bucket 'made': with `create` in `s3`, or the flag --make, it is made" in absent.err

    made = command("buckets", "create", "cloud", *place(s3, "made"), "--make", "--prefix", "a/b")

    assert (made.status, made.err) == (0, "")
    assert json.loads(made.out) == {"name": "cloud", "backend": "s3", "url": "lakehouse-cloud://data/a/b/"}
    assert stored(server) == S3Place("made", endpoint=s3.endpoint, prefix="a/b", credentials=CREDENTIALS)
    run(server.lakehouse, "CREATE TABLE cloud.pets AS SELECT 1 AS id")
    assert any((s3.directory / "made" / "a" / "b" / "datasets" / "pets").iterdir())


def test_a_region_is_what_requests_are_signed_for(
    command: Callable[..., Finished], server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VGW_REGION", "eu-central-1")
    with S3Server(tmp_path / "s3") as european:
        (european.directory / "lake").mkdir()
        flags = place(european, "lake")

        refused = command("buckets", "create", "cloud", *flags)
        made = command("buckets", "create", "cloud", *flags, "--region", "eu-central-1")

        assert (refused.status, "is the region 'us-east-1' right?" in refused.err) == (1, True)
        assert made.status == 0
        expected = S3Place("lake", european.endpoint, "eu-central-1", credentials=CREDENTIALS)
        assert stored(server) == expected
        shown = command("query", "SELECT region FROM system.buckets WHERE name = 'cloud'", "--format", "json")
        assert json.loads(shown.out) == [{"region": "eu-central-1"}]


def test_virtual_hosted_asks_a_host_of_the_name_of_the_s3_bucket(
    command: Callable[..., Finished], s3: S3Server
) -> None:
    """No such host answers for the S3 bucket here, so that it can't be used. Its path can."""
    s3.make("hosted")
    flags = place(s3, "hosted", endpoint=s3.endpoint.replace("127.0.0.1", "localhost"))

    hosted = command("buckets", "create", "cloud", *flags, "--virtual-hosted")
    assert (hosted.status, hosted.out) == (1, "")
    assert "[FS-3004]" in hosted.err
    assert command("buckets", "create", "cloud", *flags).status == 0


def test_credentials_are_found_where_each_reference_says(
    command: Callable[..., Finished],
    server: RunningServer,
    s3: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    s3.make("referred")
    (tmp_path / "profiles").write_text(
        f"[lab]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n", encoding="utf-8"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "profiles"))
    file = tmp_path / "data" / "credentials" / "lab.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY}), encoding="utf-8")
    file.chmod(0o600)

    for name, reference in (("one", CREDENTIALS), ("two", "profile:lab"), ("three", "file:lab")):
        made = command("buckets", "create", name, *place(s3, "referred", reference), "--prefix", name)
        assert (made.status, made.err) == (0, "")
        assert stored(server, name) == S3Place("referred", s3.endpoint, prefix=name, credentials=reference)
    nothing = command("buckets", "create", "four", *place(s3, "referred", None), "--prefix", "four")
    assert nothing.status == 1
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    assert command("buckets", "create", "four", *place(s3, "referred", None), "--prefix", "four").status == 0


def test_anonymous_requests_reach_what_everybody_may_use(
    command: Callable[..., Finished], server: RunningServer, s3: S3Server
) -> None:
    s3.make("public")
    flags = place(s3, "public", "anonymous")
    refused = command("buckets", "create", "cloud", *flags)
    assert (refused.status, "requests without credentials may not do this" in refused.err) == (1, True)
    own = ["arn:aws:s3:::public", "arn:aws:s3:::public/*"]
    everybody = {"Effect": "Allow", "Principal": "*", "Action": ["s3:*"], "Resource": own}
    s3.client().put_bucket_policy(
        Bucket="public", Policy=json.dumps({"Version": "2012-10-17", "Statement": [everybody]})
    )

    assert command("buckets", "create", "cloud", *flags).status == 0

    assert stored(server) == S3Place("public", endpoint=s3.endpoint, credentials="anonymous")


@pytest.mark.parametrize(
    ("flags", "encryption", "key"),
    [
        (["--encryption", "AES256"], "AES256", ""),
        (["--encryption", "aws:kms", "--kms-key", "key-7"], "aws:kms", "key-7"),
        (["--encryption", "aws:kms:dsse"], "aws:kms:dsse", ""),
    ],
)
def test_objects_are_encrypted_as_was_asked(
    command: Callable[..., Finished],
    server: RunningServer,
    moto: S3Access,
    flags: list[str],
    encryption: str,
    key: str,
) -> None:
    lake, endpoint = moto.location.bucket, moto.location.endpoint
    where = ["--s3-bucket", lake, "--endpoint", endpoint, "--credentials", CREDENTIALS]

    made = command("buckets", "create", "cloud", *where, *flags)

    assert (made.status, made.err) == (0, "")
    assert stored(server) == S3Place(
        lake, endpoint=endpoint, credentials=CREDENTIALS, encryption=encryption, kms_key=key
    )
    run(server.lakehouse, "CREATE TABLE cloud.pets AS SELECT 1 AS id")
    with asking(moto, "look at objects") as client:
        written = client.list_objects_v2(Bucket=lake, Prefix="datasets/")["Contents"]
        heads = [client.head_object(Bucket=lake, Key=one["Key"]) for one in written]
    assert {head["ServerSideEncryption"] for head in heads} == {encryption}
    assert heads[0].get("SSEKMSKeyId", "").endswith(key)


def test_lifecycle_rules_reach_the_s3_server_with_all_their_fields(
    command: Callable[..., Finished], moto: S3Access
) -> None:
    lake = moto.location.bucket
    where = ["--s3-bucket", lake, "--endpoint", moto.location.endpoint, "--credentials", CREDENTIALS]
    command("buckets", "create", "cloud", *where)
    uploads: dict[str, Any] = {"prefix": "_staging/uploads/", "expire_days": 7, "abort_upload_days": 2}
    old: dict[str, Any] = {"prefix": "datasets/", "transition_days": 30, "storage_class": "STANDARD_IA"}
    full = [
        {**uploads, "transition_days": None, "storage_class": ""},
        {**old, "expire_days": None, "abort_upload_days": None},
    ]

    set_ = command("buckets", "lifecycle", "cloud", "--set", json.dumps([uploads, old]))

    assert json.loads(set_.out) == {"name": "cloud", "rules": full, "applied_by": "s3"}
    assert command("buckets", "lifecycle", "cloud").out == set_.out
    with asking(moto, "look at rules") as client:
        first, second = client.get_bucket_lifecycle_configuration(Bucket=lake)["Rules"]
    assert (first["Filter"]["Prefix"], first["Expiration"]["Days"]) == ("_staging/uploads/", 7)
    assert first["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] == 2
    assert (second["Filter"]["Prefix"], second["Transitions"]) == (
        "datasets/",
        [{"Days": 30, "StorageClass": "STANDARD_IA"}],
    )
    assert json.loads(command("buckets", "lifecycle", "cloud", "--set", "[]").out)["rules"] == []
    assert json.loads(command("buckets", "lifecycle", "cloud").out)["rules"] == []


def test_presigned_urls_write_and_read_one_object_for_as_long_as_was_asked(
    command: Callable[..., Finished], s3: S3Server
) -> None:
    s3.make("signed")
    command("buckets", "create", "cloud", *place(s3, "signed"))
    key = "_staging/uploads/x.csv"
    assert "has no object '_staging/uploads/x.csv'" in command("buckets", "presign", "cloud", key).err

    put = json.loads(command("buckets", "presign", "cloud", key, "--put", "--expires", "60").out)
    request = urllib.request.Request(put["url"], b"id\n7\n", method="PUT")  # noqa: S310  # our own server
    urllib.request.urlopen(request).close()  # noqa: S310  # our own server
    got = json.loads(command("buckets", "presign", "cloud", key).out)

    with urllib.request.urlopen(got["url"]) as answer:  # noqa: S310  # our own server
        assert answer.read() == b"id\n7\n"
    assert "X-Amz-Expires=60&" in put["url"]
    assert "X-Amz-Expires=3600&" in got["url"]
    assert datetime.fromisoformat(put["expires_at"]) <= datetime.now(UTC) + timedelta(seconds=60)


def test_a_table_is_moved_and_mirrored_to_s3_and_its_bucket_dropped(
    command: Callable[..., Finished], server: RunningServer, s3: S3Server
) -> None:
    for name in ("home", "copies"):
        s3.make(name)
    command("buckets", "create", "cloud", *place(s3, "home"))
    command("buckets", "create", "rescue", *place(s3, "copies"))
    command("query", "CREATE TABLE pets AS SELECT 1 AS id")

    moved = json.loads(command("buckets", "move", "pets", "cloud").out)
    mirrored = json.loads(command("buckets", "mirror", "cloud").out)

    held = datasets(s3, "home")
    assert len(held) == moved["objects"] == mirrored["objects"]
    assert datasets(s3, "copies") == held
    usage = json.loads(command("buckets", "usage", "cloud").out)
    assert [(one["dataset"], one["objects"]) for one in usage["datasets"]] == [("pets", len(held))]
    dropped = json.loads(command("buckets", "drop", "cloud", "--contents", "delete").out)
    assert (dropped["datasets"], datasets(s3, "home")) == (1, [])
    assert sorted(server.lakehouse.catalog.snapshot().buckets) == ["primary", "rescue"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--kms-key", "k"], "`s3.kms_key` goes with the encryption 'aws:kms' or 'aws:kms:dsse'"),
        (["--credentials", "AKIAEXAMPLE"], "`s3.credentials` says where credentials are found, not what they are"),
        (["--credentials", "profile:nobody"], "credentials 'profile:nobody' aren't there"),
        (["--region", ""], "`s3.region` '' can't name a region"),
        (["--endpoint", "127.0.0.1:9000"], "must be a URL"),
        (["--root", "x"], "`root` doesn't go with the backend 's3'"),
    ],
)
def test_a_place_that_cannot_be_is_refused_in_one_line(
    command: Callable[..., Finished], server: RunningServer, flags: list[str], message: str
) -> None:
    where = ["--s3-bucket", "lake", "--endpoint", "http://127.0.0.1:1", "--credentials", CREDENTIALS]

    finished = command("buckets", "create", "cloud", *where, *flags)

    assert (finished.status, finished.out) == (1, "")
    assert message in finished.err.splitlines()[-1]
    assert list(server.lakehouse.catalog.snapshot().buckets) == ["primary"]
