"""Objects in memory and in a directory keep the promises of every bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from storage.contract import ObjectsContract

from flightserver.storage.local import LocalObjects
from flightserver.storage.memory import MemoryObjects

if TYPE_CHECKING:
    from pathlib import Path

    from flightserver.storage.objects import Objects


class FilesContract(ObjectsContract):
    """What buckets of this machine promise beyond that; readers of S3 rely on the retention of garbage instead."""

    def test_an_opened_object_outlives_its_deletion(self, objects: Objects) -> None:
        objects.put("a", b"still here")

        with objects.open("a") as file:
            objects.delete("a")
            assert file.read() == b"still here"


class TestMemoryObjects(FilesContract):
    """The bucket of tests keeps the promises."""

    @pytest.fixture
    def objects(self) -> Objects:
        return MemoryObjects()


class TestLocalObjects(FilesContract):
    """The bucket in a directory keeps the promises."""

    @pytest.fixture
    def objects(self, tmp_path: Path) -> Objects:
        return LocalObjects(tmp_path / "bucket")


@pytest.mark.parametrize("kind", [MemoryObjects, LocalObjects])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    keys=st.sets(st.from_regex(r"([-ab.0]c/){0,2}[-ab.0]{1,2}d", fullmatch=True), max_size=12),
    prefix=st.from_regex(r"([ab.]{1,2}c(/|/[ab])?)?", fullmatch=True),
    after=st.text("abc/.0", max_size=4),
)
def test_a_listing_is_what_sorting_and_filtering_the_keys_gives(
    tmp_path_factory: pytest.TempPathFactory, kind: type, keys: set[str], prefix: str, after: str
) -> None:
    objects: Objects = kind(tmp_path_factory.mktemp("bucket")) if kind is LocalObjects else kind()
    for key in keys:
        objects.put(key, b"")

    found = [meta.key for meta in objects.list(prefix, after=after)]

    assert found == sorted(key for key in keys if key.startswith(prefix) and key > after)
