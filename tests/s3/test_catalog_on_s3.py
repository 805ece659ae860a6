"""A server whose catalog is in an S3 bucket: everything that lasts is there."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import boto3
import pytest
from faults.faulty_proxy import Proxy
from faults.serving import ServerProcess
from faults.session import Session
from moto.server import ThreadedMotoServer
from query.asking import count, rows
from s3server import CREDENTIALS

from flightserver.catalog.catalog import Catalog
from flightserver.errors import BackendUnavailable
from flightserver.lakehouse import Lakehouse
from flightserver.settings import load_settings
from flightserver.storage.s3 import S3Objects

if TYPE_CHECKING:
    from pathlib import Path

    from s3server import S3Server

WRITERS = 8
EACH = 200 if os.environ.get("FLIGHTSERVER_TEST_THOROUGH") == "1" else 40


def test_a_server_that_lost_its_disk_is_the_same_server(s3_server: S3Server, s3_bucket: str, tmp_path: Path) -> None:
    settings = s3_server.settings(tmp_path / "data", s3_bucket)
    with Lakehouse.open(settings) as lakehouse:
        rows(lakehouse, "CREATE TABLE people (id BIGINT NOT NULL, name TEXT, PRIMARY KEY (id))")
        assert count(lakehouse, "INSERT INTO people VALUES (1, 'Ada'), (2, 'Bob'), (3, 'Cid')") == 3
        assert count(lakehouse, "INSERT INTO people SELECT value, 'n' FROM generate_series(10, 200000)") == 199_991
        assert count(lakehouse, "UPDATE people SET name = upper(name) WHERE id < 3") == 2
        assert count(lakehouse, "DELETE FROM people WHERE id = 3 OR id > 100000") == 100_001
        rows(lakehouse, "CREATE VIEW first AS SELECT name FROM people WHERE id < 10")
        version = lakehouse.catalog.snapshot().version

    def look(lakehouse: Lakehouse) -> list[object]:
        return [
            lakehouse.catalog.snapshot().version,
            rows(lakehouse, "SELECT name FROM first ORDER BY name"),
            rows(lakehouse, "SELECT count(*), sum(id) FROM people"),
            rows(lakehouse, f"SELECT count(*) FROM people FOR VERSION AS OF {version - 2}"),
            rows(lakehouse, "SELECT name, backend FROM system.buckets"),
        ]

    with Lakehouse.open(settings) as again:
        found = look(again)
    assert found[:3] == [version, [("ADA",), ("BOB",)], [(99_993, 3 + sum(range(10, 100_001)))]]
    shutil.rmtree(tmp_path / "data")
    with Lakehouse.open(settings) as elsewhere:
        assert look(elsewhere) == found
    assert not list((tmp_path / "data").rglob("*.parquet"))
    assert not (tmp_path / "data" / "primary").exists()


def test_a_store_that_ignores_conditions_is_refused_at_startup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("MOTO_SECRET_ACCESS_KEY", "any")
    moto = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    moto.start()
    endpoint = "http://{}:{}".format(*moto.get_host_and_port())
    primary = {"backend": "s3", "bucket": "ignorant", "credentials": "environment:MOTO"}
    boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id="any",
        aws_secret_access_key="any",  # noqa: S106  # moto takes any
        region_name="us-east-1",
    ).create_bucket(Bucket="ignorant")
    try:
        with Proxy(endpoint, drop=frozenset([b"if-none-match"])) as proxy:
            refused = load_settings(
                None, {"server": {"data": tmp_path}, "primary": {**primary, "endpoint": proxy.endpoint}}
            )
            with pytest.raises(BackendUnavailable, match="ignores If-None-Match: two servers could overwrite"):
                Lakehouse.open(refused)
        taken = load_settings(None, {"server": {"data": tmp_path}, "primary": {**primary, "endpoint": endpoint}})
        Lakehouse.open(taken).close()
    finally:
        moto.stop()


def test_an_s3_server_that_is_not_there_is_said_so_at_startup(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    buckets = {"retries": 1, "retry_seconds": 1, "request_seconds": 1}
    settings = s3_server.settings(tmp_path, s3_bucket, endpoint="http://127.0.0.1:9", buckets=buckets)

    with pytest.raises(BackendUnavailable, match=r"the catalog's bucket 'primary' can't be used: .* doesn't answer"):
        Lakehouse.open(settings)


@pytest.mark.timeout(1200)
def test_two_servers_with_eight_writers_make_one_history_and_lose_nothing(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    config = tmp_path / "flightserver.toml"
    config.write_text(
        f"""
        [primary]
        backend = "s3"
        bucket = "{s3_bucket}"
        endpoint = "{s3_server.endpoint}"
        credentials = "{CREDENTIALS}"
        prefix = "lakehouse"
        """,
        encoding="utf-8",
    )
    options = ("--config", str(config))
    with ServerProcess(tmp_path / "a", *options) as a, ServerProcess(tmp_path / "b", *options) as b:
        with Session(a.uri) as session:
            session.update("CREATE TABLE ledger (writer BIGINT, number BIGINT, amount BIGINT)")

        def write(writer: int) -> int:
            with Session((a, b)[writer % 2].uri) as session:
                for number in range(EACH):
                    assert session.update(f"INSERT INTO ledger VALUES ({writer}, {number}, {writer * number})") == 1
            return sum(writer * number for number in range(EACH))

        with ThreadPoolExecutor(WRITERS) as pool:
            total = sum(pool.map(write, range(WRITERS)))
        answers = []
        for server in (a, b):
            with Session(server.uri) as session:
                answers.append(session.rows("SELECT sum(amount), count(*) FROM ledger"))
                answers.append(session.rows("SELECT writer, count(DISTINCT number) FROM ledger GROUP BY 1 ORDER BY 1"))
        assert answers == 2 * [[(total, WRITERS * EACH)], [(writer, EACH) for writer in range(WRITERS)]]

    catalog = Catalog.open(S3Objects(s3_server.access(s3_bucket, "lakehouse")))
    history = list(catalog.commits(after=0))
    assert [commit.version for commit in history] == list(range(1, 1 + len(history)))
    inserts = [one for commit in history for one in commit.transactions if one.operation.kind == "insert"]
    assert len(inserts) == len({one.operation.id for one in inserts}) == WRITERS * EACH
    assert sum(one.operation.rows for one in inserts) == WRITERS * EACH
    assert len({commit.server for commit in history if commit.version > 2}) == 2
    assert Catalog.open(S3Objects(s3_server.access(s3_bucket, "lakehouse"))).snapshot() == catalog.snapshot()
