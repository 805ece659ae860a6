"""How many requests a statement sends to S3: on a real network each is a round trip."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from catalog.making import transaction
from faults.faulty_proxy import Proxy
from msgspec.structs import replace
from query.asking import count, rows, run

from flightserver.catalog.updates import PutBucket
from flightserver.errors import BackendUnavailable
from flightserver.lakehouse import Lakehouse
from flightserver.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from s3server import S3Server

ROWS = 300_000
POINT = 'SELECT v FROM "far".big WHERE v = 5'


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[Proxy]:
    with Proxy(s3_server.endpoint) as counting:
        yield counting


def opened(
    s3_server: S3Server, s3_bucket: str, data: Path, proxy: Proxy, **sections: Mapping[str, object]
) -> Lakehouse:
    """A lakehouse with a bucket `far` behind the proxy."""
    lakehouse = Lakehouse.open(load_settings(None, {"server": {"data": data}, **sections}))
    far = replace(s3_server.bucket("far", s3_bucket), s3=s3_server.place(s3_bucket, endpoint=proxy.endpoint))
    lakehouse.catalog.commit(transaction(PutBucket(far)))
    run(lakehouse, 'CREATE TABLE "far".big (v BIGINT)')
    assert count(lakehouse, f'INSERT INTO "far".big SELECT value FROM generate_series(1, {ROWS})') == ROWS
    return lakehouse


def asked(proxy: Proxy, lakehouse: Lakehouse, sql: str = POINT) -> list[str]:
    """Methods of the requests for data that a query sends, sorted, when it is asked for the second time."""
    expected = rows(lakehouse, sql)
    before = len(proxy.asked)
    assert rows(lakehouse, sql) == expected
    # The keeper looks at the bucket every now and then.
    return sorted(one.method for one in proxy.asked[before:] if "_staging" not in one.target)


def test_a_query_looks_for_a_file_opens_it_and_reads_one_range(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path, proxy: Proxy
) -> None:
    with opened(s3_server, s3_bucket, tmp_path, proxy, cache={"max_bytes": 0}) as lakehouse:
        # One look is ours and one is the engine's; the footer is remembered.
        assert asked(proxy, lakehouse) == ["GET", "HEAD", "HEAD"]


def test_files_of_a_segment_are_looked_for_by_one_listing(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path, proxy: Proxy
) -> None:
    layout = {"file_bytes": 200_000, "row_group_rows": 20_000}
    with opened(s3_server, s3_bucket, tmp_path, proxy, cache={"max_bytes": 0}, layout=layout) as lakehouse:
        [segment] = lakehouse.catalog.snapshot().dataset("big", "far").segments
        files = len(segment.object_keys())
        assert files > 1

        found = asked(proxy, lakehouse)

    # The value is in one file, of which one range is read.
    assert found == ["GET", "GET", *["HEAD"] * files]


def test_files_of_many_segments_are_looked_for_at_once_and_a_missing_one_is_named(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path, proxy: Proxy
) -> None:
    with opened(s3_server, s3_bucket, tmp_path, proxy, cache={"max_bytes": 0}) as lakehouse:
        for first in (ROWS, 2 * ROWS):
            count(lakehouse, f'INSERT INTO "far".big SELECT value FROM generate_series({first + 1}, {first + ROWS})')
        assert rows(lakehouse, 'SELECT count(*), sum(v) FROM "far".big WHERE v > 0') == [
            (3 * ROWS, 3 * ROWS * (3 * ROWS + 1) // 2)
        ]
        assert asked(proxy, lakehouse).count("HEAD") == 2 * 3

        last = lakehouse.catalog.snapshot().dataset("big", "far").segments[-1]
        [key] = last.object_keys()
        lakehouse.buckets.get("far").objects.delete(key)
        with pytest.raises(BackendUnavailable, match=f"file '{key}' of bucket 'far' is missing: restore it"):
            rows(lakehouse, POINT)


def test_a_file_that_is_gone_is_missed_whether_it_is_one_of_many_or_not(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path, proxy: Proxy
) -> None:
    for number, layout in enumerate([{}, {"file_bytes": 200_000, "row_group_rows": 20_000}]):
        name = f"{s3_bucket}-{number}"
        s3_server.make(name)
        data = tmp_path / str(number)
        with opened(s3_server, name, data, proxy, cache={"max_bytes": 0}, layout=layout) as lakehouse:
            assert rows(lakehouse, POINT) == [(5,)]
            [segment] = lakehouse.catalog.snapshot().dataset("big", "far").segments
            key = segment.object_keys()[-1]
            lakehouse.buckets.get("far").objects.delete(key)

            with pytest.raises(BackendUnavailable, match=f"file '{key}' of bucket 'far' is missing: restore it"):
                rows(lakehouse, POINT)


def test_what_is_in_memory_needs_no_request(s3_server: S3Server, s3_bucket: str, tmp_path: Path, proxy: Proxy) -> None:
    with opened(s3_server, s3_bucket, tmp_path, proxy) as lakehouse:
        lakehouse.cache.pin(lakehouse.catalog.snapshot().dataset("big", "far"))

        assert asked(proxy, lakehouse) == []
