"""Ingesting into a lakehouse: files, uploads, streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from tables.lake import Lake

from flightserver.catalog.catalog import Catalog
from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.errors import AlreadyExists, Forbidden, InvalidRequest, NotFound
from flightserver.ingest.fetching import Fetcher
from flightserver.ingest.roots import Roots
from flightserver.ingest.service import FileRequest, Ingest, StreamRequest
from flightserver.ingest.source import Limits, Progress
from flightserver.ingest.uploads import Uploads
from flightserver.storage.buckets import Buckets, OpenBucket, url_scheme
from flightserver.storage.local import LocalObjects
from flightserver.tables.segments import Layout
from flightserver.tables.writes import Tables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flightserver.tables.requests import WriteResult


class Bench:
    """An ingest service, its lakehouse and its inbox."""

    def __init__(self, lake: Lake, inbox: Path) -> None:
        self.lake = lake
        self.inbox = inbox
        self.uploads = Uploads(lake.root / "_staging")
        fetcher = Fetcher(lake.buckets, self.uploads)
        self.ingest = Ingest(lake.tables, lake.catalog, self.uploads, Roots((inbox,)), Limits(), fetcher)

    def file(self, source: str, mode: str = "create_append", **more: Any) -> WriteResult:
        operation = Operation(new_ulid(), "ingest", user="ann")
        request = FileRequest(source=source, dataset="people", bucket="primary", mode=mode, operation=operation, **more)
        return self.ingest.file(request)

    def upload(self, name: str, content: bytes) -> str:
        upload = self.uploads.start(name, user="ann")
        upload.write(content)
        return upload.finish().id


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A service over a new lakehouse."""
    root, inbox = tmp_path / "primary", tmp_path / "inbox"
    inbox.mkdir()
    objects = LocalObjects(root)
    bucket = OpenBucket("primary", objects, url_scheme("primary"), root)
    buckets = Buckets()
    buckets.add(bucket)
    catalog = Catalog.open(objects)
    yield Bench(Lake(root, bucket, buckets, catalog, Tables(catalog, buckets, Layout())), inbox)
    catalog.close()


def test_a_file_becomes_a_dataset_that_knows_where_it_came_from(bench: Bench) -> None:
    (bench.inbox / "people.csv").write_text("id,name\n1,ann\n2,NA\n")
    seen: list[Progress] = []

    result = bench.file("people.csv", progress=seen.append)

    assert (result.rows, result.unchanged) == (2, False)
    assert bench.lake.read("people").to_pylist() == [{"id": 1, "name": "ann"}, {"id": 2, "name": "NA"}]
    lineage = bench.lake.dataset("people").lineage[0]
    assert (lineage.system, lineage.source, lineage.rows) == ("file", "people.csv", 2)
    assert list(dict.fromkeys(each.stage for each in seen)) == ["hash", "inspect", "read"]


def test_what_isn_t_confirmed_right_before_the_commit_leaves_nothing_behind(bench: Bench) -> None:
    (bench.inbox / "people.csv").write_text("id\n1\n")

    def confirm() -> None:
        assert list((bench.lake.root / "datasets").rglob("*.parquet"))
        raise Forbidden("not any more")

    with pytest.raises(Forbidden, match="not any more"):
        bench.file("people.csv", confirm=confirm)

    assert not bench.lake.catalog.snapshot().datasets
    assert not list((bench.lake.root / "datasets").rglob("*.parquet"))


def test_the_same_bytes_are_appended_once(bench: Bench) -> None:
    (bench.inbox / "a.csv").write_text("id\n1\n")
    (bench.inbox / "copy.csv").write_text("id\n1\n")
    first = bench.file("a.csv")
    stages: list[Progress] = []

    again = bench.file("copy.csv", progress=stages.append)

    assert (again.unchanged, again.version, again.rows) == (True, first.version, 0)
    assert {each.stage for each in stages} == {"hash"}
    assert bench.file("a.csv", "replace").unchanged
    assert bench.lake.dataset("people").rows == 1


def test_the_same_bytes_read_in_another_way_are_other_rows(bench: Bench) -> None:
    (bench.inbox / "a.csv").write_text("id\n1\n")
    bench.file("a.csv")

    assert not bench.file("a.csv", options={"header": True}).unchanged
    assert bench.lake.dataset("people").rows == 2


def test_an_upload_is_discarded_when_it_is_in_and_kept_when_it_isn_t(bench: Bench) -> None:
    upload = bench.upload("people.csv", b"id\n1\n")
    with pytest.raises(NotFound):
        bench.file(upload, "append")

    bench.uploads.open(upload)
    bench.file(upload)

    with pytest.raises(NotFound, match="no finished upload"):
        bench.uploads.open(upload)
    assert bench.lake.dataset("people").lineage[0].system == "upload"
    assert bench.lake.dataset("people").lineage[0].source == "people.csv"


def test_create_refuses_a_dataset_that_is_there(bench: Bench) -> None:
    bench.file(bench.upload("a.csv", b"id\n1\n"), "create")

    with pytest.raises(AlreadyExists):
        bench.file(bench.upload("b.csv", b"id\n2\n"), "create")


def test_a_file_that_fails_halfway_leaves_nothing(bench: Bench) -> None:
    text = b"id\n" + b"1\n" * 2_000_000 + b"x\n"

    with pytest.raises(InvalidRequest, match="column 'id', row 2000001: 'x' is no int64"):
        bench.file(bench.upload("a.csv", text), options={"column_types": {"id": "int64"}})

    assert bench.lake.files() == []


@pytest.mark.parametrize(
    "source", ["absent.csv", "../secret.csv", "/etc/passwd", "link.csv", "loop", "a\0b", "x" * 5000, "", "."]
)
def test_nothing_outside_of_the_roots_can_be_read_or_even_noticed(bench: Bench, source: str) -> None:
    (bench.inbox.parent / "secret.csv").write_text("id\n1\n")
    (bench.inbox / "link.csv").symlink_to("../secret.csv")
    (bench.inbox / "loop").symlink_to("loop")

    with pytest.raises(NotFound) as caught:
        bench.file(source)

    assert str(caught.value) == (
        f"there is no file {source!r} under the directories that may be ingested from ('inbox'); "
        "give a path relative to one of them, or upload the file"
    )


def test_an_absolute_path_and_a_link_inside_of_a_root_are_fine(bench: Bench) -> None:
    (bench.inbox / "a.csv").write_text("id\n1\n")
    (bench.inbox / "link.csv").symlink_to("a.csv")

    assert bench.file(str(bench.inbox / "a.csv")).rows == 1
    assert bench.file("link.csv").unchanged


def test_a_mode_that_isn_t_there_is_refused(bench: Bench) -> None:
    with pytest.raises(InvalidRequest) as caught:
        bench.file("a.csv", "merge")

    assert str(caught.value) == "mode 'merge' isn't known; use one of create, append, replace, create_append, upsert"


def test_a_file_that_changes_while_it_is_read_is_refused(bench: Bench) -> None:
    path = bench.inbox / "a.csv"
    path.write_text("id\n1\n")

    def append(progress: Progress) -> None:
        if progress.stage == "inspect" and path.stat().st_size < 6:
            with path.open("a") as out:
                out.write("2\n")

    with pytest.raises(InvalidRequest, match=r"a.csv changed while it was read, so nothing was ingested"):
        bench.file("a.csv", progress=append)

    assert bench.lake.files() == []


def test_an_arrow_stream_is_ingested(bench: Bench) -> None:
    table = pa.table({"id": [1, 2]})
    operation = Operation(new_ulid(), "ingest")
    request = StreamRequest(dataset="people", bucket="primary", mode="create", operation=operation)

    result = bench.ingest.stream(request, table.to_reader())

    assert result.rows == 2
    assert bench.lake.read("people").equals(table)
    assert bench.lake.dataset("people").lineage[0].system == "arrow"


def test_an_arrow_stream_with_false_indices_is_refused(bench: Bench) -> None:
    array = pa.DictionaryArray.from_arrays(pa.array([5]), pa.array(["x"]), safe=False)
    batch = pa.RecordBatch.from_arrays([array], ["s"])
    request = StreamRequest(
        dataset="people", bucket="primary", mode="create", operation=Operation(new_ulid(), "ingest")
    )

    with pytest.raises(InvalidRequest, match="not valid Arrow"):
        bench.ingest.stream(request, pa.RecordBatchReader.from_batches(batch.schema, [batch]))

    assert bench.lake.files() == []
