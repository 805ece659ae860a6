"""URLs that read or write one object of an S3 bucket, tried by whoever has them: without credentials of ours."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from bucketing import add_bucket
from flightclient import connect
from flightclient.errors import FlightclientError
from query.asking import rows
from s3server import SECRET_KEY

from flightserver.catalog.entities import S3, Bucket, S3Place
from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.errors import BackendUnavailable, InvalidRequest, NotFound
from flightserver.federation.presigning import LONGEST_SECONDS, presign
from flightserver.ingest.service import FileRequest
from flightserver.lakehouse import Lakehouse

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import RunningServer
    from s3server import S3Server

    from flightserver.federation.presigning import Method
    from flightserver.storage.buckets import OpenBucket

PATIENCE = 30.0
KEY = "_staging/uploads/größe 1.csv"


@pytest.fixture
def far(lakehouse: Lakehouse, s3_server: S3Server, s3_bucket: str) -> OpenBucket:
    """A bucket of an S3 server that checks signatures."""
    return add_bucket(lakehouse, s3_server.bucket("far", s3_bucket, "some/prefix"))


def fetch(url: str, method: str = "GET", data: bytes | None = None) -> bytes:
    request = urllib.request.Request(url, data=data, method=method)  # noqa: S310  # of our own server
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310  # as above
        body: bytes = answer.read()
    return body


def status(url: str, method: str = "GET", data: bytes | None = None) -> int:
    """How a request is answered."""
    try:
        fetch(url, method, data)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    return 200


def test_what_is_put_by_a_url_lies_in_the_bucket_and_can_be_got_by_another(far: OpenBucket) -> None:
    fetch(presign(far, "PUT", KEY, 60).url, "PUT", b"contents")

    assert far.objects.get(KEY) == b"contents"
    assert fetch(presign(far, "GET", KEY, 60).url) == b"contents"


def test_what_was_put_by_a_url_can_be_ingested(far: OpenBucket, server: RunningServer) -> None:
    fetch(presign(far, "PUT", KEY, 60).url, "PUT", b"name,born\nAda,1815\nGrace,1906\n")

    with connect(server.uri) as client:

        def ingest(source: str, mode: str) -> dict[str, Any]:
            return client.call("ingest.file", {"source": source, "dataset": "people", "mode": mode})

        ingested = ingest(far.url("") + KEY, "create")
        assert (ingested["rows"], ingested["bucket"]) == (2, "primary")
        found = client.query("SELECT name, born FROM people ORDER BY born").to_pylist()
        assert found == [{"name": "Ada", "born": 1815}, {"name": "Grace", "born": 1906}]
        assert ingest(far.url("") + KEY, "append")["unchanged"]
        assert list((server.lakehouse.settings.server.data / "primary" / "_staging").glob("0*")) == []
        with pytest.raises(FlightclientError, match="only objects below '_staging/uploads/' of a bucket"):
            ingest(far.url("datasets/people"), "append")
        with pytest.raises(FlightclientError, match="there is no object '_staging/uploads/x' in bucket 'far'"):
            ingest(far.url("_staging/uploads/x"), "append")
        with pytest.raises(FlightclientError, match="is no URL of an object in a bucket; those of the buckets begin"):
            ingest("s3://elsewhere/x.csv", "append")


@pytest.mark.parametrize("beginning", ["lakehouse-primary", "lakehouse"])
def test_urls_from_before_there_were_several_buckets_mean_primary(
    beginning: str, s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    with Lakehouse.open(s3_server.settings(tmp_path, s3_bucket)) as lakehouse:
        lakehouse.buckets.get("primary").objects.put(KEY, b"id\n1\n2\n")
        operation = Operation(new_ulid(), "test")

        file = FileRequest(
            source=f"{beginning}://data/lakehouse/{KEY}",
            dataset="t",
            bucket="primary",
            mode="create",
            operation=operation,
        )
        loaded = lakehouse.ingest.file(file)

        assert (loaded.dataset, loaded.rows) == ("t", 2)
        assert rows(lakehouse, "SELECT id FROM t ORDER BY id") == [(1,), (2,)]


def test_the_old_urls_mean_no_other_bucket(far: OpenBucket, server: RunningServer) -> None:
    far.objects.put(KEY, b"id\n1\n")

    with connect(server.uri) as client:
        for source, message in (
            (f"lakehouse://data/{KEY}", f"no object '{KEY}' in bucket 'primary'"),
            (f"lakehouse://data/some/prefix/{KEY}", "only objects below '_staging/uploads/' of a bucket"),
        ):
            with pytest.raises(FlightclientError, match=message):
                client.call("ingest.file", {"source": source, "dataset": "t"})


def test_a_url_says_when_it_ends_and_holds_no_secret(far: OpenBucket) -> None:
    before = datetime.now(UTC)

    signed = presign(far, "PUT", KEY, LONGEST_SECONDS)

    assert before <= signed.expires_at - timedelta(seconds=LONGEST_SECONDS) <= datetime.now(UTC)
    assert f"X-Amz-Expires={LONGEST_SECONDS}&" in signed.url
    assert SECRET_KEY not in signed.url


def test_a_url_is_of_one_object_and_one_method(far: OpenBucket) -> None:
    far.objects.put("_staging/uploads/1", b"one")
    far.objects.put("_staging/uploads/2", b"two")
    url = presign(far, "GET", "_staging/uploads/1", 60).url

    assert fetch(url) == b"one"
    assert status(url.replace("uploads/1", "uploads/2")) == 403
    assert status(url, "PUT", b"three") == 403
    assert status(url.replace("X-Amz-Expires=60", "X-Amz-Expires=600")) == 403
    assert status(url.partition("?")[0]) == 403
    assert far.objects.get("_staging/uploads/1") == b"one"


def test_a_url_is_signed_by_what_the_bucket_was_opened_with(far: OpenBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """To make a client may take long: who looks for credentials is waited for."""
    monkeypatch.delattr("flightserver.storage.s3.S3Store")

    fetch(presign(far, "PUT", KEY, 60).url, "PUT", b"contents")

    assert far.objects.get(KEY) == b"contents"


def test_a_url_that_has_expired_is_refused(far: OpenBucket) -> None:
    far.objects.put("_staging/uploads/1", b"one")
    url = presign(far, "GET", "_staging/uploads/1", 1).url
    pause = threading.Event()

    while (answered := status(url)) == 200:
        pause.wait(0.2)

    assert answered == 403


@pytest.mark.parametrize(
    "key", ["datasets/t/1", "_staging/x", "_staging/uploadsx/1", "_catalog/commits/1", "uploads/1"]
)
def test_nothing_can_be_put_outside_of_uploads(far: OpenBucket, key: str) -> None:
    with pytest.raises(InvalidRequest, match="objects can be put below '_staging/uploads/' only"):
        presign(far, "PUT", key, 60)


def test_the_catalog_is_not_handed_out(far: OpenBucket) -> None:
    with pytest.raises(InvalidRequest, match="what lies below '_catalog/' is not handed out"):
        presign(far, "GET", "_catalog/commits/00000000000000000001.json", 60)


@pytest.mark.parametrize("key", ["", "/a", "_staging/uploads/", "_staging/uploads/../../_catalog/commits/1"])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_what_can_not_be_a_key_has_no_url(far: OpenBucket, method: Method, key: str) -> None:
    with pytest.raises(InvalidRequest, match="can't be the key of an object"):
        presign(far, method, key, 60)


@pytest.mark.parametrize("seconds", [0, -1, LONGEST_SECONDS + 1])
def test_a_url_is_valid_for_a_second_to_a_week(far: OpenBucket, seconds: int) -> None:
    with pytest.raises(InvalidRequest, match=f"expires_seconds is {seconds}: expected 1 to 604800"):
        presign(far, "PUT", KEY, seconds)


def test_what_is_not_there_has_no_url_to_read_it(far: OpenBucket) -> None:
    with pytest.raises(NotFound, match="bucket 'far' has no object 'datasets/x': a URL to read it would lead nowhere"):
        presign(far, "GET", "datasets/x", 60)


def test_a_local_bucket_has_no_urls_and_the_message_says_what_to_do(lakehouse: Lakehouse) -> None:
    with pytest.raises(InvalidRequest, match=r"bucket 'primary' is a local directory, .* upload to the Flight server"):
        presign(lakehouse.buckets.get("primary"), "PUT", KEY, 60)


def test_without_credentials_nothing_can_be_signed(lakehouse: Lakehouse) -> None:
    place = S3Place("x", endpoint="http://127.0.0.1:1", credentials="anonymous")
    bucket = add_bucket(lakehouse, Bucket("open", S3, s3=place))

    with pytest.raises(InvalidRequest, match="bucket 'open' is reached without credentials"):
        presign(bucket, "PUT", KEY, 60)


def test_a_bucket_whose_credentials_are_missing_says_so(lakehouse: Lakehouse) -> None:
    place = S3Place("x", endpoint="http://127.0.0.1:1", credentials="environment:FLIGHTSERVER_TEST_ABSENT")
    bucket = add_bucket(lakehouse, Bucket("closed", S3, s3=place))

    with pytest.raises(
        BackendUnavailable, match="bucket 'closed' can't be reached: the environment of the server lack"
    ):
        presign(bucket, "PUT", KEY, 60)


def test_the_action_answers_the_url_and_its_end(server: RunningServer, s3_server: S3Server, s3_bucket: str) -> None:
    far = add_bucket(server.lakehouse, s3_server.bucket("far", s3_bucket))
    far.objects.put("datasets/x", b"contents")
    before = datetime.now(UTC)
    with connect(server.uri) as client:
        answer: dict[str, Any] = client.call("bucket.presign", {"name": "far", "method": "GET", "key": "datasets/x"})

        with pytest.raises(FlightclientError, match="method"):
            client.call("bucket.presign", {"name": "far", "method": "DELETE", "key": "datasets/x"})

    assert fetch(answer["url"]) == b"contents"
    ends = datetime.fromisoformat(answer["expires_at"])
    assert before <= ends - timedelta(hours=1) <= datetime.now(UTC)
