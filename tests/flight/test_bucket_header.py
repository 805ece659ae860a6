"""The header `x-lakehouse-bucket`: what it decides, and what is refused under one that names no bucket."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from bucketing import add_bucket, homes, parquet_files
from flightclient import connect
from flightclient.errors import FlightclientError, NotFound
from query.asking import rows, run

from flightserver.access.committing import Author
from flightserver.access.granting import Place
from flightserver.catalog.identities import ADMIN, Privilege

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow.flight as fl
    from conftest import RunningServer

REFUSED = r"there is no bucket 'nowhere'; there are: (archive, )?primary"
HEEDLESS = {
    *(f"bucket.{verb}" for verb in ("check", "create", "drop", "list", "rename", "set_limits")),
    *("cache.stats", "catalog.migrate_buckets", "policy.drop", "policy.list", "result.close"),
    *("role.create", "role.drop", "role.list"),
}
"""Actions that are about no bucket, or name it by `name`, as all of users are: the header means nothing to them."""


def test_an_unknown_bucket_in_the_header_is_refused_by_every_action(
    server: RunningServer, flight_client: fl.FlightClient
) -> None:
    ours = {action.type for action in flight_client.list_actions() if "." in action.type}
    refused = set()
    with connect(server.uri, bucket="nowhere") as client:
        for name in ours:
            try:
                client.call(name)
            except FlightclientError as error:
                if re.search(REFUSED, str(error)):
                    refused.add(name)

    assert ours - refused == HEEDLESS | {name for name in ours if name.startswith("user.")}


def test_a_file_is_not_loaded_under_a_header_that_names_no_bucket(server: RunningServer) -> None:
    archive = add_bucket(server.lakehouse, "archive").local_root
    add_bucket(server.lakehouse, "testing")
    (server.lakehouse.settings.server.data / "inbox" / "rows.csv").write_text("id,name\n1,a\n")
    body = {"source": "rows.csv", "dataset": "t", "bucket": "archive"}

    with connect(server.uri, bucket="nowhere") as client, pytest.raises(NotFound, match=REFUSED):
        client.call("ingest.file", body)
    assert archive is not None
    assert parquet_files(archive, "t") == []

    with connect(server.uri, bucket="testing") as client:
        assert client.call("ingest.file", body)["bucket"] == "archive"


def test_who_may_only_insert_somewhere_may_name_that_bucket(server: RunningServer, tmp_path: Path) -> None:
    for name in ("testing", "hidden"):
        add_bucket(server.lakehouse, name)
    run(server.lakehouse, "CREATE TABLE testing.pets AS SELECT 1 AS id")
    administration = server.lakehouse.administration
    administration.create_user(Author("test"), "ann", roles=[ADMIN], certificates=["CN=ann"])
    administration.create_role(Author("test"), "loaders")
    administration.grant(Author("test"), "loaders", [Privilege.INSERT], Place("testing", "pets"))
    administration.create_user(Author("test"), "bob", roles=["loaders"])
    token, _ = administration.create_token(Author("test"), "bob")
    file = tmp_path / "pets.csv"
    file.write_text("id\n2\n")

    with connect(server.uri, token, bucket="testing") as client:
        client.ingest_file(file, "pets", mode="append")
    with (
        connect(server.uri, token, bucket="hidden") as client,
        pytest.raises(NotFound, match="there is no bucket 'hidden'; there are: primary, testing"),
    ):
        client.ingest_file(file, "pets", mode="append")

    assert sorted(rows(server.lakehouse, "SELECT id FROM testing.pets")) == [(1,), (2,)]


@pytest.mark.parametrize(
    ("sql", "left"),
    [
        ("INSERT INTO pets VALUES (2)", [1, 2]),
        ("UPDATE pets SET id = 3", [3]),
        ("DELETE FROM pets", []),
        ("TRUNCATE TABLE pets", []),
        ("MERGE INTO pets USING (SELECT 1 AS id) AS s ON pets.id = s.id WHEN MATCHED THEN DELETE", []),
        ("ALTER TABLE pets ADD COLUMN name VARCHAR", [1]),
        ("DROP TABLE pets", None),
    ],
)
def test_a_change_finds_a_bare_name_where_a_query_does(sql: str, left: list[int] | None, server: RunningServer) -> None:
    add_bucket(server.lakehouse, "testing")
    run(server.lakehouse, "CREATE TABLE pets AS SELECT 1 AS id")

    with connect(server.uri, bucket="testing") as client:
        client.query(sql)

    assert homes(server.lakehouse, ["pets"]) == {"pets": set() if left is None else {"primary"}}
    if left is not None:
        assert sorted(rows(server.lakehouse, "SELECT id FROM pets")) == [(one,) for one in left]


@pytest.mark.parametrize("mode", ["create", "append", "create_append", "replace"])
def test_what_is_made_or_ingested_looks_for_its_name_in_the_bucket_of_the_header_only(
    mode: str, server: RunningServer
) -> None:
    add_bucket(server.lakehouse, "testing")
    run(server.lakehouse, "CREATE TABLE pets AS SELECT 1 AS id")
    run(server.lakehouse, "CREATE TABLE toys AS SELECT 1 AS id")

    with connect(server.uri, bucket="testing") as client:
        client.query("CREATE TABLE IF NOT EXISTS toys (id BIGINT)")
        if mode == "append":
            with pytest.raises(NotFound, match=r"'pets' in bucket 'testing'; similar: \"primary\".pets"):
                client.ingest(pa.table({"id": [2]}), "pets", mode=mode)
        else:
            assert client.ingest(pa.table({"id": [2]}), "pets", mode=mode).bucket == "testing"

    assert sorted(rows(server.lakehouse, "SELECT bucket, rows FROM system.datasets WHERE name = 'toys'")) == [
        ("primary", 1),
        ("testing", 0),
    ]
    assert rows(server.lakehouse, "SELECT id FROM primary.pets") == [(1,)]
