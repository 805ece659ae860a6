"""Open buckets are found by name, and each has URLs of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flightserver.errors import AlreadyExists, NotFound
from flightserver.storage.buckets import Buckets, OpenBucket, url_scheme
from flightserver.storage.memory import MemoryObjects


def bucket(name: str) -> OpenBucket:
    return OpenBucket(name, MemoryObjects(), url_scheme(name))


def test_a_bucket_is_found_by_its_name() -> None:
    buckets = Buckets()
    primary = bucket("primary")
    buckets.add(primary)
    buckets.add(bucket("archive"))

    assert buckets.get("primary") is primary
    assert [each.name for each in buckets] == ["archive", "primary"]


def test_an_unknown_bucket_is_not_found_and_the_message_lists_the_others() -> None:
    buckets = Buckets()

    with pytest.raises(NotFound, match="there is no bucket 'x'; there are: none"):
        buckets.get("x")

    buckets.add(bucket("primary"))
    buckets.add(bucket("archive"))
    with pytest.raises(NotFound, match="there is no bucket 'x'; there are: archive, primary"):
        buckets.get("x")


def test_a_removed_bucket_is_gone_and_its_name_free() -> None:
    buckets = Buckets()
    buckets.add(bucket("a"))

    buckets.remove("a")
    buckets.remove("a")

    assert list(buckets) == []
    buckets.add(bucket("a"))


def test_a_name_is_open_once() -> None:
    buckets = Buckets()
    buckets.add(bucket("a"))

    with pytest.raises(AlreadyExists, match="bucket 'a' is open already"):
        buckets.add(bucket("a"))


def test_names_that_would_share_their_urls_are_not_open_together() -> None:
    buckets = Buckets()
    buckets.add(bucket("profile:user"))

    with pytest.raises(AlreadyExists, match="'lakehouse-profile-user' of bucket 'profile:user'"):
        buckets.add(bucket("profile_user"))


def test_a_url_names_bucket_and_key() -> None:
    assert bucket("profile:my_user").url("datasets/a/1.parquet") == (
        "lakehouse-profile-my-user://data/datasets/a/1.parquet"
    )


def test_characters_that_mean_something_in_a_url_are_quoted() -> None:
    assert bucket("primary").url("datasets/a b%20?#/") == "lakehouse-primary://data/datasets/a%20b%2520%3F%23/"


def test_a_bucket_that_is_there_by_now_takes_the_scheme_of_one_that_is_not_any_more() -> None:
    """As when another server has renamed `x-y` to `x_y`."""
    buckets = Buckets()
    buckets.add(bucket("x-y"))
    renamed = bucket("x_y")
    buckets.load_by(lambda name: renamed if name == "x_y" else None, lambda _: True)

    assert buckets.get("x_y") is renamed
    assert list(buckets) == [renamed]


def test_a_bucket_whose_name_is_anothers_by_now_is_opened_anew() -> None:
    buckets = Buckets()
    former, current = (replace(bucket("a"), identity=each) for each in ("made first", "made then"))
    buckets.add(former)
    assert buckets.get("a") is former

    buckets.load_by(lambda _: current, lambda one: one.identity == current.identity)

    assert buckets.get("a") is buckets.get("a") is current
