"""A place has one lakehouse: what another keeps there is neither taken over nor collected."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from unittest.mock import patch

import flightclient
import msgspec
import pytest
from bucketing import parquet_files
from flightclient.errors import FlightclientError
from query.asking import rows, run
from tables.moving import operation

from flightserver.catalog.entities import LOCAL, Bucket
from flightserver.errors import AlreadyExists, BackendUnavailable
from flightserver.federation.claims import CLAIM, Claim, claim
from flightserver.lakehouse import Lakehouse
from flightserver.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import RunningServer
    from s3server import S3Server

    from flightserver.storage.objects import Objects

ANOTHERS = "another lakehouse has its bucket 'trips' in the place of bucket 'mine', since 20"


def create(lakehouse: Lakehouse, bucket: Bucket) -> None:
    lakehouse.bucket_service.create(bucket, operation("create bucket"))


def drop(lakehouse: Lakehouse, name: str) -> None:
    list(lakehouse.bucket_service.drop(name, "keep", operation("drop bucket")))


def beside(s3_server: S3Server, bucket: str) -> Bucket:
    """The same S3 bucket, by another name of its server."""
    endpoint = s3_server.endpoint.replace("127.0.0.1", "localhost")
    return msgspec.structs.replace(s3_server.bucket("again", bucket), s3=s3_server.place(bucket, endpoint=endpoint))


def claimed(s3_server: S3Server, bucket: str) -> Claim:
    body = s3_server.client().get_object(Bucket=bucket, Key=CLAIM)["Body"].read()
    return msgspec.json.decode(body, type=Claim)


def put_claim(s3_server: S3Server, bucket: str, found: Claim) -> None:
    s3_server.client().put_object(Bucket=bucket, Key=CLAIM, Body=msgspec.json.encode(found))


def sharing(tmp_path: Path, data: str) -> Settings:
    """Settings of a lakehouse that may make local buckets where others may."""
    sections: dict[str, dict[str, object]] = {
        "server": {"data": tmp_path / data},
        "buckets": {"roots": [str(tmp_path / "roots")]},
    }
    return load_settings(None, sections)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Lakehouse]:
    """Another lakehouse."""
    with Lakehouse.open(sharing(tmp_path, "other")) as opened:
        yield opened


# Two lakehouses


def test_an_s3_bucket_of_another_lakehouse_is_refused_and_its_files_stay(
    lakehouse: Lakehouse, other: Lakehouse, s3_server: S3Server, s3_bucket: str
) -> None:
    create(other, s3_server.bucket("trips", s3_bucket))
    run(other, "CREATE TABLE trips.rides AS SELECT 1 AS id")

    with pytest.raises(AlreadyExists, match=ANOTHERS):
        create(lakehouse, s3_server.bucket("mine", s3_bucket))

    assert "mine" not in lakehouse.catalog.snapshot().buckets
    assert rows(other, "SELECT id FROM trips.rides") == [(1,)]
    create(lakehouse, s3_server.bucket("mine", s3_bucket, prefix="mine"))


def test_a_directory_of_another_lakehouse_is_refused(other: Lakehouse, tmp_path: Path) -> None:
    root = str(tmp_path / "roots" / "shared")
    create(other, Bucket("trips", LOCAL, root))
    run(other, "CREATE TABLE trips.rides AS SELECT 1 AS id")
    before = parquet_files(tmp_path / "roots" / "shared", "rides")

    with Lakehouse.open(sharing(tmp_path, "data")) as lakehouse, pytest.raises(AlreadyExists, match=ANOTHERS):
        create(lakehouse, Bucket("mine", LOCAL, root))

    assert len(before) == 1
    assert parquet_files(tmp_path / "roots" / "shared", "rides") == before


def test_what_a_lakehouse_has_dropped_another_may_have(
    lakehouse: Lakehouse, other: Lakehouse, s3_server: S3Server, s3_bucket: str
) -> None:
    create(other, s3_server.bucket("trips", s3_bucket))
    drop(other, "trips")

    create(lakehouse, s3_server.bucket("mine", s3_bucket))

    assert claimed(s3_server, s3_bucket).bucket == "mine"


def test_a_catalog_is_not_put_among_the_files_of_another_lakehouse(
    other: Lakehouse, s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    create(other, s3_server.bucket("trips", s3_bucket, prefix="lakehouse"))

    with pytest.raises(AlreadyExists, match="its bucket 'trips' in the place of bucket 'primary'"):
        Lakehouse.open(s3_server.settings(tmp_path / "data", s3_bucket))

    found = s3_server.client().list_objects_v2(Bucket=s3_bucket)
    assert [each["Key"] for each in found["Contents"]] == [f"lakehouse/{CLAIM}"]


def test_a_local_catalog_is_not_put_there_either(other: Lakehouse, tmp_path: Path) -> None:
    create(other, Bucket("trips", LOCAL, str(tmp_path / "roots" / "data" / "primary")))

    with pytest.raises(AlreadyExists, match="its bucket 'trips' in the place of bucket 'primary'"):
        Lakehouse.open(sharing(tmp_path, "roots/data"))


def test_nothing_is_collected_where_another_lakehouse_is_by_now(
    server: RunningServer, s3_server: S3Server, s3_bucket: str
) -> None:
    lakehouse = server.lakehouse
    create(lakehouse, s3_server.bucket("mine", s3_bucket))
    put_claim(s3_server, s3_bucket, Claim("another", "trips", ("s3",), datetime.now(UTC)))

    with (
        flightclient.connect(server.uri) as client,
        pytest.raises(FlightclientError, match=ANOTHERS),
    ):
        client.call("bucket.collect", {"bucket": "mine", "dry_run": True})


def test_a_drop_leaves_the_claim_of_another_lakehouse(
    lakehouse: Lakehouse, s3_server: S3Server, s3_bucket: str
) -> None:
    create(lakehouse, s3_server.bucket("mine", s3_bucket))
    others = Claim("another", "trips", ("s3",), datetime(2026, 1, 1, tzinfo=UTC))
    put_claim(s3_server, s3_bucket, others)

    drop(lakehouse, "mine")

    assert claimed(s3_server, s3_bucket) == others


# One lakehouse


def test_one_server_by_two_names_is_one_place(lakehouse: Lakehouse, s3_server: S3Server, s3_bucket: str) -> None:
    create(lakehouse, s3_server.bucket("cloud", s3_bucket))

    with pytest.raises(AlreadyExists, match="it is the place of bucket 'cloud' by another name"):
        create(lakehouse, beside(s3_server, s3_bucket))

    drop(lakehouse, "cloud")
    create(lakehouse, beside(s3_server, s3_bucket))


def test_a_claim_that_a_killed_server_has_left_is_in_nobody_s_way(
    lakehouse: Lakehouse, s3_server: S3Server, s3_bucket: str
) -> None:
    bucket = s3_server.bucket("cloud", s3_bucket)
    claim(bucket, lakehouse.opener.open_strictly(bucket), lakehouse.catalog)

    create(lakehouse, s3_server.bucket("cloud", s3_bucket))

    assert "cloud" in lakehouse.catalog.snapshot().buckets


def test_a_claim_by_another_name_of_the_place_stays_until_somebody_deletes_it(
    lakehouse: Lakehouse, s3_server: S3Server, s3_bucket: str
) -> None:
    bucket = s3_server.bucket("cloud", s3_bucket)
    claim(bucket, lakehouse.opener.open_strictly(bucket), lakehouse.catalog)
    before = claimed(s3_server, s3_bucket)

    with pytest.raises(AlreadyExists, match=r"claimed by another name of it for bucket 'cloud', on 20"):
        create(lakehouse, beside(s3_server, s3_bucket))

    assert claimed(s3_server, s3_bucket) == before
    s3_server.client().delete_object(Bucket=s3_bucket, Key=CLAIM)
    create(lakehouse, beside(s3_server, s3_bucket))
    assert claimed(s3_server, s3_bucket).bucket == "again"


def test_a_bucket_that_is_made_where_another_is_being_dropped_keeps_its_claim(
    lakehouse: Lakehouse, s3_server: S3Server, s3_bucket: str
) -> None:
    """Whoever drops looks whether the place is free, and is overtaken before it deletes the claim."""
    create(lakehouse, s3_server.bucket("cloud", s3_bucket))
    opened = lakehouse.buckets.get("cloud")
    deleted = type(opened.objects).delete

    def overtaken(objects: Objects, key: str) -> None:
        if key == CLAIM and "again" not in lakehouse.catalog.snapshot().buckets:
            create(lakehouse, s3_server.bucket("again", s3_bucket))
        deleted(objects, key)

    with patch.object(type(opened.objects), "delete", overtaken):
        drop(lakehouse, "cloud")

    assert claimed(s3_server, s3_bucket).bucket == "again"


def test_files_that_are_kept_stay_claimed(
    lakehouse: Lakehouse, other: Lakehouse, s3_server: S3Server, s3_bucket: str
) -> None:
    create(other, s3_server.bucket("trips", s3_bucket))
    run(other, "CREATE TABLE trips.rides AS SELECT 1 AS id")
    drop(other, "trips")

    with pytest.raises(AlreadyExists, match=ANOTHERS):
        create(lakehouse, s3_server.bucket("mine", s3_bucket))
    create(other, s3_server.bucket("trips", s3_bucket))


def test_a_claim_that_is_lost_is_put_again_by_a_check(
    lakehouse: Lakehouse, s3_server: S3Server, s3_bucket: str
) -> None:
    create(lakehouse, s3_server.bucket("cloud", s3_bucket))
    before = claimed(s3_server, s3_bucket)
    s3_server.client().delete_object(Bucket=s3_bucket, Key=CLAIM)

    assert lakehouse.bucket_service.check("cloud").writable

    assert claimed(s3_server, s3_bucket).lakehouse == before.lakehouse


def test_a_bucket_keeps_its_claim_when_it_is_renamed_and_its_limits_are_changed(
    lakehouse: Lakehouse, other: Lakehouse, s3_server: S3Server, s3_bucket: str
) -> None:
    create(other, s3_server.bucket("trips", s3_bucket))
    other.bucket_service.rename("trips", "rides", operation("rename"))
    other.bucket_service.set_limits("rides", 9 << 20, None, operation("limits"))

    with pytest.raises(AlreadyExists, match=ANOTHERS):
        create(lakehouse, s3_server.bucket("mine", s3_bucket))
    with pytest.raises(AlreadyExists, match="it is the place of bucket 'rides' by another name"):
        create(other, beside(s3_server, s3_bucket))


def test_what_is_no_claim_is_told_and_not_replaced(lakehouse: Lakehouse, s3_server: S3Server, s3_bucket: str) -> None:
    s3_server.client().put_object(Bucket=s3_bucket, Key=CLAIM, Body=b"{}")

    with pytest.raises(BackendUnavailable, match=r"'_lakehouse\.json' of bucket 'cloud' should say which lakehouse"):
        create(lakehouse, s3_server.bucket("cloud", s3_bucket))

    assert s3_server.client().get_object(Bucket=s3_bucket, Key=CLAIM)["Body"].read() == b"{}"
