"""`flightserver buckets`, as scripts call it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from query.asking import rows
from s3server import CREDENTIALS, S3Server

from flightserver.catalog.entities import PutLimits, S3Place

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
    now = json.loads(command("buckets", "collect", "primary", "--older-than-hours", "0").out)

    assert (usual["objects"], usual["kept"]) == (0, 4)
    assert (now["objects"], now["kept"]) == (2, 2)


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
    assert "'[' is no JSON" in command("buckets", "lifecycle", "primary", "--set", "[").err
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


def test_a_bucket_on_s3_with_all_flags(command: Callable[..., Finished], server: RunningServer, tmp_path: Path) -> None:
    with S3Server(tmp_path / "s3") as s3:
        flags = ["--s3-bucket", "lake", "--endpoint", s3.endpoint, "--credentials", CREDENTIALS, "--prefix", "a/b"]

        finished = command("buckets", "create", "cloud", *flags, "--region", "us-east-1", "--make")

        assert (finished.status, finished.err) == (0, "")
        place = S3Place("lake", endpoint=s3.endpoint, prefix="a/b", credentials=CREDENTIALS)
        assert server.lakehouse.catalog.snapshot().buckets["cloud"].s3 == place
        assert rows(server.lakehouse, "SELECT endpoint FROM system.buckets WHERE name = 'cloud'") == [(s3.endpoint,)]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("create", "x", "--endpoint", "http://127.0.0.1:1"), 1, "missing required field `bucket`"),
        (("create", "x", "--s3-bucket", "lake", "--root", "x"), 1, "`root` doesn't go with the backend 's3'"),
        (("create", "data"), 1, "'data' can't name a bucket"),
        (("limits", "primary", "--put", "much"), 2, "'much' is no size: expected bytes, or a number and KiB"),
        (("limits", "primary", "--put", "12XiB"), 2, "'12XiB' is no size"),
        (("collect", "primary", "--older-than-hours", "-1"), 1, "`float` >= 0"),
        (("collect", "primary", "--older-than-hours", "long"), 2, "invalid float value: 'long'"),
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
