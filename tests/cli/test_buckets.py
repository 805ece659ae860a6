"""`flightserver buckets`, as scripts call it."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from bucketing import commit
from msgspec.structs import replace

from flightserver.catalog.entities import LOCAL, Bucket, PutLimits
from flightserver.catalog.updates import CreateDataset, DropDataset, PutBucket

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cli.conftest import Finished
    from conftest import RunningServer


def test_a_local_bucket_from_its_creation_to_its_end(
    command: Callable[..., Finished], server: RunningServer, tmp_path: Path
) -> None:
    created = command("buckets", "create", "testing")
    assert (created.status, created.err) == (0, "")
    assert json.loads(created.out) == {"name": "testing", "backend": "local", "url": "lakehouse-testing://data/"}
    command("query", "CREATE TABLE testing.pets AS SELECT 1 AS id")

    limited = command("buckets", "limits", "testing", "--put", "512MiB", "--vector-put", "1GiB")
    assert json.loads(limited.out) == {"name": "testing", "put_bytes": 512 * 2**20, "vector_put_bytes": 2**30}
    assert server.lakehouse.catalog.snapshot().buckets["testing"].limits == PutLimits(512 * 2**20, 2**30)

    assert command("buckets", "rename", "testing", "tested").status == 0
    assert json.loads(command("query", "SELECT * FROM tested.pets", "--format", "json").out) == [{"id": 1}]

    refused = command("buckets", "drop", "tested")
    assert refused.status == 1
    assert "bucket 'tested' isn't empty, it has pets" in refused.err
    dropped = json.loads(command("buckets", "drop", "tested", "--contents", "delete").out)
    assert (dropped["name"], dropped["datasets"]) == ("tested", 1)
    assert not (tmp_path / "data" / "buckets" / "testing").exists()


def test_what_is_in_a_bucket_is_moved_mirrored_counted_and_collected(
    command: Callable[..., Finished], server: RunningServer
) -> None:
    for name in ("testing", "rescue"):
        command("buckets", "create", name)
    command("query", "CREATE TABLE pets AS SELECT 1 AS id")

    moved = json.loads(command("buckets", "move", "pets", "testing").out)
    assert (moved["dataset"], moved["moved_from"], moved["bucket"]) == ("pets", "primary", "testing")
    mirrored = json.loads(command("buckets", "mirror", "testing", "--continuous", "on").out)
    assert (mirrored["objects"], mirrored["continuous"]) == (moved["objects"], True)
    assert not json.loads(command("buckets", "mirror", "testing", "--continuous", "off").out)["continuous"]
    one = command("buckets", "mirror", "testing", "--dataset", "pets", "--continuous", "on")
    assert (json.loads(one.out)["already"], json.loads(one.out)["continuous"]) == (moved["objects"], True)
    assert server.lakehouse.catalog.snapshot().dataset("pets", "testing").mirrored
    usage = json.loads(command("buckets", "usage", "testing").out)
    assert [(one["dataset"], one["objects"]) for one in usage["datasets"]] == [("pets", moved["objects"])]
    collected = json.loads(command("buckets", "collect", "primary", "--dry-run").out)
    assert (collected["bucket"], collected["objects"]) == ("primary", 0)
    assert json.loads(command("query", "SELECT * FROM testing.pets", "--format", "json").out) == [{"id": 1}]
    assert server.lakehouse.catalog.snapshot().buckets["testing"].mirrored is False


def test_another_retention_is_chosen_for_once(command: Callable[..., Finished], tmp_path: Path) -> None:
    command("query", "CREATE TABLE pets AS SELECT 1 AS id")
    command("query", "CREATE OR REPLACE TABLE pets AS SELECT 2 AS id")
    for path in (tmp_path / "data" / "primary" / "datasets").rglob("*"):
        os.utime(path, (0, 0))

    usual = json.loads(command("buckets", "collect", "primary").out)
    hasty = ("buckets", "collect", "primary", "--older-than-hours", "0")
    would = json.loads(command(*hasty, "--dry-run").out)
    assert len(list((tmp_path / "data" / "primary" / "datasets").rglob("*.*"))) == 4
    now = json.loads(command(*hasty).out)

    assert (usual["objects"], usual["kept"]) == (0, 4)
    assert (would["objects"], would["kept"]) == (2, 2)
    assert (now["objects"], now["kept"]) == (2, 2)
    assert len(list((tmp_path / "data" / "primary" / "datasets").rglob("*.*"))) == 2


def test_lifecycle_rules_are_set_shown_and_refused(command: Callable[..., Finished], server: RunningServer) -> None:
    rule = {"prefix": "_staging/uploads/", "expire_days": 7}

    assert command("buckets", "lifecycle", "primary", "--set", json.dumps([rule])).status == 0
    shown = json.loads(command("buckets", "lifecycle", "primary").out)
    [found] = shown["rules"]
    assert {name: found[name] for name in rule} == rule
    assert shown["applied_by"] == "server"
    assert server.lakehouse.catalog.snapshot().buckets["primary"].lifecycle[0].expire_days == 7
    unset = command("buckets", "lifecycle", "primary", "--set", "null")
    assert (unset.status, unset.out) == (1, "")
    assert "Expected `array`, got `null` - at `$.rules`" in unset.err
    assert server.lakehouse.catalog.snapshot().buckets["primary"].lifecycle[0].expire_days == 7
    assert "'[' is not valid JSON" in command("buckets", "lifecycle", "primary", "--set", "[").err
    refused = command("buckets", "presign", "primary", "datasets/x")
    assert (refused.status, "local" in refused.err) == (1, True)


def test_a_bucket_below_a_root_of_its_own(command: Callable[..., Finished], server: RunningServer) -> None:
    command("buckets", "create", "testing", "--root", "deep/down")

    assert server.lakehouse.catalog.snapshot().buckets["testing"].root == "buckets/deep/down"


def test_the_list_has_what_was_found_of_each(command: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    command("buckets", "create", "testing")

    out = command("buckets", "list").out

    assert all(name in out for name in ("name", "backend", "url", "datasets", "reachable", "error", "checked"))
    assert "lakehouse-testing://data/" in out
    [primary, testing] = json.loads(command("buckets", "list", "--json").out)["buckets"]
    assert (primary["name"], testing["name"]) == ("primary", "testing")
    checked = testing.pop("checked")
    assert checked is None or datetime.fromisoformat(checked) <= datetime.now(UTC)
    assert testing == {
        "name": "testing",
        "backend": "local",
        "url": "lakehouse-testing://data/",
        "datasets": 0,
        "reachable": True,
        "error": None,
    }


def test_a_check_prints_what_a_bucket_can_do(command: Callable[..., Finished]) -> None:
    finished = command("buckets", "check", "primary")

    assert finished.status == 0
    assert json.loads(finished.out)["conditional_put"] is True


def test_a_check_of_a_bucket_that_cannot_be_reached_fails(command: Callable[..., Finished], tmp_path: Path) -> None:
    command("buckets", "create", "testing")
    (tmp_path / "data" / "buckets" / "testing").rename(tmp_path / "away")

    finished = command("buckets", "check", "testing")

    assert finished.status == 1
    assert json.loads(finished.out)["reachable"] is False
    assert "is its disk mounted?" in finished.err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (
            ("create", "x", "--endpoint", "http://127.0.0.1:1", "--make", "--virtual-hosted", "--kms-key", "k"),
            1,
            "only a bucket on S3 has --endpoint, --kms-key, --virtual-hosted, --make: say with --s3-bucket where it is",
        ),
        (("create", ""), 2, "expected the name of a bucket, found an empty text"),
        (("usage", ""), 2, "argument NAME: expected the name of a bucket, found an empty text"),
        (("collect", " "), 2, "argument NAME: expected the name of a bucket, found an empty text"),
        (("lifecycle", "", "--set", "[]"), 2, "argument NAME: expected the name of a bucket, found an empty text"),
        (("move", "pets", "x", "--bucket", ""), 2, "argument --bucket: expected the name of a bucket, found an empty"),
        (("move", "pets", "nowhere"), 1, "there is no dataset 'pets'"),
        (("move-index", "pets_face", ""), 2, "argument TO: expected the name of a bucket, found an empty text"),
        (("move-index", "pets_face", "x"), 1, "there is no vector index 'pets_face'; there are: none"),
        (("rename", "primary", "x"), 1, "primary"),
        (("usage", "nowhere"), 1, "there is no bucket 'nowhere'; there are: primary"),
        (("mirror", "primary"), 1, "there is no bucket 'rescue', where mirrors are; make it with"),
        (("presign", "primary", "k", "--expires", "soon"), 2, "invalid int value: 'soon'"),
        (("lifecycle", "primary", "--set", "[" * 20000), 2, "[...' is not valid JSON: maximum recursion depth"),
        (("lifecycle", "primary", "--set", "[NaN]"), 2, "'[NaN]' is not valid JSON: NaN is no number there"),
        (("lifecycle", "primary", "--set", "{}"), 1, "Expected `array`, got `object` - at `$.rules`"),
        (("limits", "primary", "--put", "1" * 5000), 2, "111...' is no size: expected bytes"),
        (("limits", "primary", "--put", "1"), 1, "put_bytes is 1: expected 8,388,608 to 5,368,709,120 bytes"),
        (("collect", "primary", "--older-than-hours", "nan"), 2, "'nan' is no number of hours"),
        (("collect", "primary", "--older-than-hours", "inf"), 2, "'inf' is no number of hours"),
        (("create", "x", "--s3-bucket", "lake", "--root", "x"), 1, "`root` doesn't go with the backend 's3'"),
        (("create", "data"), 1, "'data' can't name a bucket"),
        (("limits", "primary", "--put", "much"), 2, "'much' is no size: expected bytes, or a number and KiB"),
        (("limits", "primary", "--put", "12XiB"), 2, "'12XiB' is no size"),
        (("collect", "primary", "--older-than-hours", "-1"), 1, "`float` >= 0"),
        (("collect", "primary", "--older-than-hours", "long"), 2, "'long' is no number of hours"),
        (("drop", "primary"), 1, "bucket 'primary' can't be dropped: it holds the catalog"),
        (("drop", "x", "--contents", "forget"), 2, "invalid choice: 'forget'"),
        ((), 2, "VERB"),
    ],
)
def test_what_cannot_be_fails_and_says_why(
    command: Callable[..., Finished], arguments: tuple[str, ...], status: int, message: str
) -> None:
    finished = command("buckets", *arguments)

    assert finished.status == status
    assert message in finished.err


def test_a_new_catalog_has_nothing_to_migrate(command: Callable[..., Finished]) -> None:
    command("query", "CREATE TABLE pets AS SELECT 1 AS id")

    for flags in (("--dry-run",), ()):
        answer = json.loads(command("buckets", "migrate", *flags).out)
        assert (answer["renamed"], answer["unchanged"]) == (0, 1)


def test_old_names_of_primary_are_mended_unless_it_is_a_dry_run(
    command: Callable[..., Finished], server: RunningServer
) -> None:
    command("query", "CREATE TABLE pets AS SELECT 1 AS id")
    found = server.lakehouse.catalog.snapshot().dataset("pets")
    old = replace(found, bucket="data", segments=tuple(replace(one, bucket="data") for one in found.segments))
    commit(server.lakehouse, PutBucket(Bucket("data", LOCAL)), DropDataset("primary", "pets"), CreateDataset(old))

    answers = [json.loads(command("buckets", "migrate", *flags).out) for flags in (["--dry-run"], [], [])]

    assert [(one["renamed"], one["unchanged"]) for one in answers] == [(1, 0), (1, 0), (0, 1)]
    assert server.lakehouse.catalog.snapshot().dataset("pets").bucket == "primary"


def test_a_limit_that_is_not_given_stays(command: Callable[..., Finished]) -> None:
    command("buckets", "limits", "primary", "--put", "64MiB")
    both = json.loads(command("buckets", "limits", "primary", "--vector-put", "16777216").out)

    assert both == {"name": "primary", "put_bytes": 64 * 2**20, "vector_put_bytes": 16 * 2**20}


def test_files_of_a_bucket_that_is_dropped_may_be_kept(command: Callable[..., Finished], tmp_path: Path) -> None:
    command("buckets", "create", "testing")
    command("query", "CREATE TABLE testing.pets AS SELECT 1 AS id")
    files = list((tmp_path / "data" / "buckets" / "testing" / "datasets").rglob("*.parquet"))

    dropped = json.loads(command("buckets", "drop", "testing", "--contents", "keep").out)

    assert dropped == {"name": "testing", "datasets": 1, "objects": 0, "indexes": 0}
    assert len(files) == 1
    assert files[0].exists()


def test_of_two_datasets_and_indexes_of_one_name_those_are_moved_whose_home_is_said(
    command: Callable[..., Finished], server: RunningServer
) -> None:
    for name in ("testing", "archive"):
        command("buckets", "create", name)
    for bucket in ("primary", "testing"):
        command("query", f"CREATE TABLE {bucket}.pets AS SELECT 1 AS id, [1.0, 0.0] AS face")
        command("indexes", "create", "pets_face", "--dataset", "pets", "--column", "face", "--bucket", bucket)

    moved = json.loads(command("buckets", "move", "pets", "archive", "--bucket", "testing").out)
    index = json.loads(command("buckets", "move-index", "pets_face", "archive", "--bucket", "testing").out)

    assert (moved["moved_from"], moved["bucket"]) == ("testing", "archive")
    assert (index["index"], index["moved_from"], index["bucket"]) == ("pets_face", "testing", "archive")
    snapshot = server.lakehouse.catalog.snapshot()
    assert sorted(key.bucket for key in snapshot.datasets) == ["archive", "primary"]
    shown = command("query", "SELECT bucket, dataset_bucket FROM system.indexes ORDER BY 1", "--format", "json")
    assert json.loads(shown.out) == [
        {"bucket": "archive", "dataset_bucket": "archive"},
        {"bucket": "primary", "dataset_bucket": "primary"},
    ]
