"""Generations that are open: each once, and not more than there may be."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import pytest
from bucketing import add_bucket
from faults.faulty_proxy import Fault, Proxy, always_hang
from msgspec.structs import replace
from vectors.counting import counted
from vectors.indexed import create, expected, make_docs, nearest
from vectors.searched import append, clustered, frames, make_points

from flightserver.catalog.entities import S3, Bucket
from flightserver.catalog.ulid import new_ulid
from flightserver.errors import BackendUnavailable, NotFound, QueryTimeout
from flightserver.lakehouse import Lakehouse
from flightserver.settings import load_settings
from flightserver.vectors.frames import _AT_ONCE, Frames

if TYPE_CHECKING:
    from pathlib import Path

    from s3server import S3Server

    from flightserver.catalog.indexes import Generation
    from flightserver.vectors.frame import Frame

SECONDS = 60
"""For what takes no time."""
PATIENT = {"request_seconds": 600, "retry_seconds": 600, "retries": 0, "check_seconds": 600}
"""A request waits until the proxy is closed, and isn't repeated then."""


@pytest.fixture
def generations(lakehouse: Lakehouse) -> list[Generation]:
    """Three, of equal size."""
    make_points(lakehouse)
    append(lakehouse, 0, clustered(50, 16, seed=1))
    return [create(lakehouse, name, dataset="points").generation for name in ("one", "two", "six")]


def test_what_is_open_stays_open_until_there_is_too_much(lakehouse: Lakehouse, generations: list[Generation]) -> None:
    one, two, six = generations
    opened = frames(lakehouse, one.bytes + two.bytes)
    first, second = opened.get(one), opened.get(two)
    assert opened.get(one) is first

    third = opened.get(six)

    assert (opened.get(one) is first, opened.get(six) is third) == (True, True)
    again = opened.get(two)
    assert again is not second
    np.testing.assert_array_equal(again.vectors, second.vectors)
    assert opened.get(six) is third
    assert opened.get(one) is not first


def test_one_that_is_larger_than_all_may_be_is_open_alone(lakehouse: Lakehouse, generations: list[Generation]) -> None:
    one, two, _ = generations
    opened = frames(lakehouse, 1)

    first = opened.get(one)
    assert opened.get(one) is first
    second = opened.get(two)

    assert opened.get(two) is second
    assert opened.get(one) is not first


def test_one_that_two_have_opened_counts_once(lakehouse: Lakehouse, generations: list[Generation]) -> None:
    """It can be closed while the second of two waits for its turn to open it."""
    one, two, _ = generations
    opened = frames(lakehouse, one.bytes + two.bytes)
    first, other = opened.get(one), frames(lakehouse).get(one)
    opened._keep(one.id, other)

    opened.get(two)

    assert opened.get(one) is other
    assert first is not other


def test_of_many_threads_one_opens(lakehouse: Lakehouse, generations: list[Generation], tmp_path: Path) -> None:
    buckets, objects = counted(lakehouse)
    opened, ready = Frames(buckets, tmp_path / "copies", 2**30), threading.Barrier(8)

    def get(_: int) -> int:
        ready.wait(30)
        return id(opened.get(generations[0]))

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(get, range(8)))

    assert found == {id(opened.get(generations[0]))}
    assert objects.opened == {generations[0].key: 1}


def test_what_takes_longer_to_open_than_a_statement_may_last_is_there_for_the_next_one(
    lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_docs(lakehouse)
    create(lakehouse)
    read, begun, is_time = Frames._read, [], threading.Event()

    def slowly(opened: Frames, generation: Generation) -> Frame:
        begun.append(generation.id)
        assert is_time.wait(30)
        return read(opened, generation)

    monkeypatch.setattr(Frames, "_read", slowly)
    for _ in range(2):
        with pytest.raises(QueryTimeout):
            nearest(lakehouse, 0, timeout_seconds=0.3)
    is_time.set()

    assert nearest(lakehouse, 0) == expected(0, 0, 1, 359)
    assert len(begun) == 1


def test_nothing_is_opened_once_the_server_stops(lakehouse: Lakehouse, generations: list[Generation]) -> None:
    buckets, objects = counted(lakehouse)
    opened = Frames(buckets, lakehouse.settings.server.data / "copies", 2**30)
    kept = opened.get(generations[0])
    opened.close()

    assert opened.get(generations[0]) is kept
    with pytest.raises(BackendUnavailable, match="the server is stopping"):
        opened.get(generations[1])
    assert objects.opened == {generations[0].key: 1}


def test_a_bucket_has_threads_as_long_as_something_of_it_is_being_opened(
    lakehouse: Lakehouse, generations: list[Generation]
) -> None:
    opened = frames(lakehouse)
    for name in ("dropped", "renamed"):
        with pytest.raises(NotFound):
            opened.get(replace(generations[0], bucket=name))

    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(opened.get, generations))

    assert [frame.footer.generation for frame in found] == [one.id for one in generations]
    assert opened._busy == {}


def test_a_bucket_that_hangs_delays_neither_the_indexes_of_others_nor_the_end(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    proxy = Proxy(s3_server.endpoint)
    settings = load_settings(None, {"server": {"data": tmp_path}, "buckets": PATIENT})
    with Lakehouse.open(settings) as lakehouse, ThreadPoolExecutor(2 * _AT_ONCE + 1) as threads:
        with proxy:
            place = s3_server.place(s3_bucket, endpoint=proxy.endpoint)
            add_bucket(lakehouse, Bucket("far", S3, s3=place))
            make_docs(lakehouse)
            near, far = create(lakehouse, "near").generation, create(lakehouse, "far", bucket="far").generation
            opened = frames(lakehouse)
            proxy.decide = always_hang
            hung = [threads.submit(opened.get, replace(far, id=new_ulid())) for _ in range(2 * _AT_ONCE)]
            wait_until_asked(proxy, far.key, _AT_ONCE)

            assert threads.submit(opened.get, near).result(SECONDS).footer.generation == near.id

            threads.submit(opened.close).result(SECONDS)
            for one in islice(as_completed(hung, SECONDS), _AT_ONCE):  # those that have waited for their turn
                with pytest.raises(BackendUnavailable, match="the server is stopping"):
                    one.result()
            still = [one for one in hung if not one.done()]
            assert len(still) == _AT_ONCE
        for one in still:
            with pytest.raises(BackendUnavailable, match="the S3 server of this bucket doesn't answer"):
                one.result(SECONDS)


def wait_until_asked(proxy: Proxy, key: str, times: int) -> None:
    """Until so many requests for an object hang."""
    deadline = time.monotonic() + SECONDS
    while sum(asked.fault is Fault.HANG and key in asked.target for asked in proxy.asked) < times:
        assert time.monotonic() < deadline, "too few have come to ask the server"
        time.sleep(0.01)


def test_of_one_in_another_place_there_is_a_copy_without_a_name(
    lakehouse: Lakehouse, generations: list[Generation], tmp_path: Path
) -> None:
    buckets, _ = counted(lakehouse)
    near, far = frames(lakehouse).get(generations[0]), Frames(buckets, tmp_path / "copies", 2**30).get(generations[0])

    assert far.footer == near.footer
    for name in ("vectors", "lengths", "codes", "places", "mean"):
        np.testing.assert_array_equal(getattr(far, name), getattr(near, name))
    assert list((tmp_path / "copies").iterdir()) == []


def test_one_that_can_not_be_copied_is_said_without_naming_the_place(
    lakehouse: Lakehouse, generations: list[Generation], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    buckets, _ = counted(lakehouse)

    with pytest.raises(BackendUnavailable) as refused:
        Frames(buckets, tmp_path / "file" / "copies", 2**30).get(generations[0])

    assert refused.value.message == (
        f"object {generations[0].key!r} of bucket 'primary' can't be copied to the server's data directory: "
        "Not a directory"
    )


@pytest.mark.parametrize("is_local", [True, False], ids=["local", "elsewhere"])
def test_an_object_that_is_gone_or_damaged_is_said_and_can_come_back(
    lakehouse: Lakehouse, generations: list[Generation], tmp_path: Path, *, is_local: bool
) -> None:
    generation = generations[0]
    buckets, _ = counted(lakehouse)
    opened = Frames(lakehouse.buckets if is_local else buckets, tmp_path / "copies", 2**30)
    objects = lakehouse.buckets.get("primary").objects
    data = objects.get(generation.key)

    objects.delete(generation.key)
    with pytest.raises(NotFound):
        opened.get(generation)
    objects.put(generation.key, data[:-1])
    with pytest.raises(BackendUnavailable, match=f" and should have {len(data):,}: index.refresh writes it anew$"):
        opened.get(generation)
    objects.delete(generation.key)
    objects.put(generation.key, data[:-9] + b"\0" + data[-8:])
    with pytest.raises(BackendUnavailable, match=r"is damaged: index\.refresh writes it anew$"):
        opened.get(generation)
    assert opened._busy == {}
    objects.delete(generation.key)
    objects.put(generation.key, data)

    assert opened.get(generation).footer.vectors == 50
