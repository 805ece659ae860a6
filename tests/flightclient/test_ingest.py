"""Rows and files on their way into datasets."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from flightclient import Progress, connect, uploads
from flightclient.errors import AlreadyExists, InvalidRequest, LimitExceeded, NotFound, ProtocolError, SchemaDrift
from flightclient.results import UploadResult

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import RunningServer
    from flightclient import Client

CSV = "id,name\n1,NA\n2,Ada\n"


@pytest.fixture
def csv_file(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    path.write_text(CSV)
    return path


def test_rows_become_a_dataset(client: Client) -> None:
    written = client.ingest(pa.table({"n": [1, 2]}), "t", mode="create")

    assert (written.dataset, written.bucket, written.rows, written.unchanged) == ("t", "primary", 2, False)
    assert client.query("SELECT n FROM t ORDER BY n")["n"].to_pylist() == [1, 2]


@pytest.mark.parametrize("kind", ["batch", "reader", "empty table"])
def test_anything_with_an_arrow_stream_is_taken(client: Client, kind: str) -> None:
    batch = pa.record_batch({"n": [1, 2]})
    rows = {
        "batch": batch,
        "reader": pa.RecordBatchReader.from_batches(batch.schema, [batch]),
        "empty table": pa.Table.from_batches([], schema=batch.schema),
    }

    client.ingest(rows[kind], "t")

    assert client.query("SELECT n FROM t").num_rows == (0 if kind == "empty table" else 2)


def test_the_mode_decides_what_happens_to_a_dataset_that_is_there(client: Client) -> None:
    rows = pa.table({"n": [1]})
    client.ingest(rows, "t")
    client.ingest(rows, "t", mode="append")
    assert client.query("SELECT * FROM t").num_rows == 2

    client.ingest(rows, "t", mode="replace")
    assert client.query("SELECT * FROM t").num_rows == 1

    with pytest.raises(AlreadyExists):
        client.ingest(rows, "t", mode="create")
    with pytest.raises(NotFound):
        client.ingest(rows, "other", mode="append")


def test_new_columns_are_added_only_when_asked_for(client: Client) -> None:
    client.ingest(pa.table({"n": [1]}), "t")
    wider = pa.table({"n": [2], "name": ["Ada"]})

    with pytest.raises(SchemaDrift, match="name"):
        client.ingest(wider, "t")
    client.ingest(wider, "t", evolve=True)

    assert client.query("SELECT name FROM t ORDER BY n")["name"].to_pylist() == [None, "Ada"]


def test_a_file_becomes_a_dataset_and_its_progress_is_told(client: Client, csv_file: Path) -> None:
    told: list[Progress] = []

    result = client.ingest_file(csv_file, "people", options={"null_values": ["NA"]}, progress=told.append)

    assert (result.rows, result.unchanged) == (2, False)
    assert client.query("SELECT name FROM people ORDER BY id")["name"].to_pylist() == [None, "Ada"]
    assert told[0] == Progress("upload", len(CSV), len(CSV))
    assert len({progress.stage for progress in told}) > 1


def test_identical_bytes_are_recognised(client: Client, csv_file: Path) -> None:
    first = client.ingest_file(csv_file, "people")
    again = client.ingest_file(csv_file, "people")

    assert (again.unchanged, again.rows, again.version) == (True, 0, first.version)


def test_a_file_of_many_chunks_arrives_whole(client: Client, server: RunningServer, tmp_path: Path) -> None:
    data = os.urandom(20 * uploads.CHUNK_BYTES + 17)
    path = tmp_path / "random.bin"
    path.write_bytes(data)
    told: list[Progress] = []

    upload = client.upload(path, told.append)

    stored = server.lakehouse.uploads.open(upload).read_bytes()
    assert hashlib.sha256(stored).digest() == hashlib.sha256(data).digest()
    assert [progress.done for progress in told] == sorted(progress.done for progress in told)
    assert told[-1] == Progress("upload", len(data), len(data))


def test_an_upload_that_arrives_as_other_bytes_is_an_error(
    client: Client, csv_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        uploads, "decode_result", lambda _kind, fields: UploadResult(fields["upload"], fields["bytes"], "0" * 64)
    )

    with pytest.raises(ProtocolError, match="received other bytes"):
        client.upload(csv_file)


def test_an_upload_beyond_the_limit_is_refused_while_it_is_sent(
    client: Client, server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.lakehouse.uploads, "_max_bytes", 1000)
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(5 * uploads.CHUNK_BYTES))

    with pytest.raises(LimitExceeded, match=r"larger than 1,000 bytes"):
        client.upload(path)


def test_a_file_that_is_not_there_is_named(client: Client, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"nowhere\.csv' can't be read: No such file"):
        client.upload(tmp_path / "nowhere.csv")


def test_an_option_that_is_not_known_is_named(client: Client, csv_file: Path) -> None:
    with pytest.raises(InvalidRequest, match="colour"):
        client.ingest_file(csv_file, "people", options={"colour": "red"})


def test_a_bucket_that_does_not_exist_is_named(server: RunningServer) -> None:
    with connect(server.uri, bucket="nowhere") as client, pytest.raises(NotFound, match="nowhere"):
        client.ingest(pa.table({"n": [1]}), "t")
