"""Which bucket a request means: by name, by the header, by the session; and where its rows really lie."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow as pa
import pyarrow.flight as fl
import pytest
from bucketing import add_bucket, homes, parquet_files
from flightclient import connect
from flightclient.errors import InvalidRequest, NotFound

from flightserver import errors
from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.ingest.service import StreamRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import RunningServer
    from flightclient import Client

ROWS = pa.table({"id": pa.array([1, 2, 3], pa.int64()), "name": ["a", "b", "c"]})
OTHERS = ROWS.slice(0, 1)
REFUSED = r"bucket 'nowhere'.*(there are: |there are )archive, primary, testing"
COOKIES = {"adbc.flight.sql.rpc.with_cookie_middleware": "true"}
HEADER = "adbc.flight.sql.rpc.call_header.x-lakehouse-bucket"
OPTION = "adbc.flight.sql.session.option."


@pytest.fixture(autouse=True)
def roots(server: RunningServer) -> dict[str, Path]:
    """Directories of the buckets `primary`, `testing` and `archive`."""
    made = {name: add_bucket(server.lakehouse, name).local_root for name in ("testing", "archive")}
    found = {name: root for name, root in made.items() if root is not None}
    return {"primary": server.lakehouse.settings.server.data / "primary", **found}


def put(client: fl.FlightClient, descriptor: fl.FlightDescriptor, bucket: str | None, rows: pa.Table = ROWS) -> Any:
    headers = [] if bucket is None else [(b"x-lakehouse-bucket", bucket.encode())]
    writer, answers = client.do_put(descriptor, rows.schema, fl.FlightCallOptions(headers=headers))
    with writer:
        writer.write_table(rows)
        writer.done_writing()
        return json.loads(answers.read().to_pybytes())


def sql(*statements: str) -> Callable[[RunningServer, str, Path], None]:
    def write(server: RunningServer, bucket: str, _directory: Path) -> None:
        with connect(server.uri, bucket=bucket) as client:
            for statement in statements:
                client.query(statement)

    return write


def adbc(server: RunningServer, bucket: str, _directory: Path) -> None:
    with (
        flightsql.connect(server.uri, autocommit=True, db_kwargs={HEADER: bucket}) as connection,
        connection.cursor() as cursor,
    ):
        cursor.adbc_ingest("t", ROWS, mode="create")
        cursor.adbc_ingest("t", ROWS, mode="append")


def session(server: RunningServer, bucket: str, _directory: Path) -> None:
    with flightsql.connect(server.uri, autocommit=True, db_kwargs=COOKIES) as connection:
        connection.adbc_connection.set_options(**{f"{OPTION}bucket": bucket})
        with connection.cursor() as cursor:
            cursor.adbc_ingest("t", ROWS, mode="create")
            cursor.execute("INSERT INTO t VALUES (9, 'i')").fetchall()


def session_schema(server: RunningServer, bucket: str, _directory: Path) -> None:
    with flightsql.connect(server.uri, autocommit=True, db_kwargs=COOKIES) as connection:
        connection.adbc_connection.set_options(**{f"{OPTION}schema": bucket})
        with connection.cursor() as cursor:
            cursor.adbc_ingest("t", ROWS, mode="create")
            cursor.execute("INSERT INTO t VALUES (9, 'i')").fetchall()


def path(server: RunningServer, bucket: str, _directory: Path) -> None:
    with fl.connect(server.uri) as client:
        put(client, fl.FlightDescriptor.for_path("t"), bucket)


def long_path(server: RunningServer, bucket: str, _directory: Path) -> None:
    with fl.connect(server.uri) as client:
        put(client, fl.FlightDescriptor.for_path(bucket, "t"), None)


def command(server: RunningServer, bucket: str, _directory: Path) -> None:
    with connect(server.uri, bucket=bucket) as client:
        client.ingest(ROWS, "t", primary_key=["id"])
        client.ingest(ROWS, "t", mode="upsert")
        client.delete(ROWS.select(["id"]).slice(0, 1), "t")


def upload(kind: str) -> Callable[[RunningServer, str, Path], None]:
    def write(server: RunningServer, bucket: str, directory: Path) -> None:
        file = directory / f"rows.{kind}"
        file.write_text({"csv": "id,name\n1,a\n", "ndjson": '{"id": 1, "name": "a"}\n'}[kind])
        with connect(server.uri, bucket=bucket) as client:
            client.ingest_file(file, "t")
            client.call("ingest.file", {"source": client.upload(file), "dataset": "t", "mode": "replace"})

    return write


def server_file(server: RunningServer, bucket: str, _directory: Path) -> None:
    (server.lakehouse.settings.server.data / "inbox" / "rows.csv").write_text("id,name\n1,a\n")
    with connect(server.uri) as client:
        request = {"source": "rows.csv", "dataset": "t", "bucket": bucket, "mode": "upsert", "primary_key": ["id"]}
        client.call("ingest.file", request)


CREATE = "CREATE TABLE t (id BIGINT, name VARCHAR)"
INSERT = "INSERT INTO t VALUES (1, 'a'), (2, 'b')"
WRITES = {
    "create and insert": sql(CREATE, INSERT),
    "create as": sql("CREATE TABLE t AS SELECT 1 AS id, 'a' AS name"),
    "update": sql(CREATE, INSERT, "UPDATE t SET name = 'x' WHERE id = 1"),
    "delete": sql(CREATE, INSERT, "DELETE FROM t WHERE id = 1"),
    "merge": sql(
        CREATE,
        INSERT,
        "MERGE INTO t USING (SELECT 2 AS id) AS s ON t.id = s.id WHEN MATCHED THEN UPDATE SET name = 'y'",
    ),
    "adbc_ingest": adbc,
    "session option bucket": session,
    "session option schema": session_schema,
    "DoPut by path": path,
    "DoPut by path with a bucket": long_path,
    "DoPut by command, upsert, delete": command,
    "upload of CSV": upload("csv"),
    "upload of JSON": upload("ndjson"),
    "file on the server": server_file,
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_rows_lie_in_the_bucket_that_was_named_and_the_catalog_says_so(
    write: Callable[[RunningServer, str, Path], None], server: RunningServer, roots: dict[str, Path], tmp_path: Path
) -> None:
    write(server, "testing", tmp_path)

    found = server.lakehouse.catalog.snapshot().dataset("t", "testing")
    named = {key for segment in found.segments for key in segment.object_keys()} | {each.key for each in found.deltas}
    there = set(parquet_files(roots["testing"], "t"))
    assert named
    assert named <= there
    assert homes(server.lakehouse, ["t"]) == {"t": {"testing"}}
    assert [parquet_files(roots[name], "t") for name in ("primary", "archive")] == [[], []]


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_an_unknown_bucket_is_refused_by_every_way_to_write_and_leaves_nothing(
    write: Callable[[RunningServer, str, Path], None], server: RunningServer, roots: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(Exception, match=r"nowhere.*archive.*primary|nowhere.*primary.*archive"):
        write(server, "nowhere", tmp_path)

    assert list(server.lakehouse.catalog.snapshot().datasets) == []
    assert [parquet_files(root, "t") for root in roots.values()] == [[], [], []]
    assert [path for path in (roots["primary"] / "_staging").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", ["nowhere", "data", "local"])
@pytest.mark.parametrize(
    "descriptor",
    [
        fl.FlightDescriptor.for_path("t"),
        fl.FlightDescriptor.for_command('{"ingest": "t"}'),
        fl.FlightDescriptor.for_command('{"upload": "t.csv"}'),
    ],
    ids=["path", "ingest", "upload"],
)
def test_an_unknown_bucket_is_refused_while_the_client_has_not_sent_a_row(
    descriptor: fl.FlightDescriptor, name: str, flight_client: fl.FlightClient
) -> None:
    options = fl.FlightCallOptions(headers=[(b"x-lakehouse-bucket", name.encode())])
    writer, answers = flight_client.do_put(descriptor, pa.schema([("b", pa.binary())]), options)

    # The call ends though no row was sent and the stream goes on: the server waits for none.
    assert answers.read() is None
    with pytest.raises(pa.ArrowException, match=rf"bucket '{name}'; there are: archive, primary, testing"):
        writer.close()


def test_an_exchange_in_an_unknown_bucket_is_refused_before_rows_are_sent(flight_client: fl.FlightClient) -> None:
    options = fl.FlightCallOptions(headers=[(b"x-lakehouse-bucket", b"nowhere")])
    text = fl.FlightDescriptor.for_command("INSERT INTO t SELECT * FROM input")
    writer, reader = flight_client.do_exchange(text, options)

    def ask() -> None:
        writer.begin(ROWS.schema)  # the call may have ended by then
        reader.read_chunk()

    with pytest.raises(pa.ArrowException, match=REFUSED):
        ask()
    with pytest.raises(pa.ArrowException, match="nowhere"):
        writer.close()


@pytest.mark.parametrize("name", ["nowhere", "data", "local"])
@pytest.mark.parametrize("mode", ["create", "append", "replace", "create_append", "upsert"])
def test_a_stream_for_an_unknown_bucket_is_not_read(name: str, mode: str, server: RunningServer) -> None:
    read: list[int] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in ROWS.to_batches():
            read.append(batch.num_rows)
            yield batch

    reader = pa.RecordBatchReader.from_batches(ROWS.schema, batches())
    operation = Operation(new_ulid(), "test")
    request = StreamRequest(dataset="t", bucket=name, mode=mode, operation=operation, primary_key=("id",))

    with pytest.raises(errors.NotFound, match=f"no bucket '{name}'; there are: archive, primary, testing"):
        server.lakehouse.ingest.stream(request, reader)

    assert read == []


def test_a_file_for_an_unknown_bucket_is_not_looked_for(server: RunningServer) -> None:
    with connect(server.uri, bucket="nowhere") as client, pytest.raises(NotFound, match=REFUSED):
        client.call("ingest.file", {"source": "no-such-file.csv", "dataset": "t"})


def test_without_a_header_rows_go_to_primary(server: RunningServer, roots: dict[str, Path]) -> None:
    with connect(server.uri) as client:
        client.ingest(ROWS, "t")

    assert len(parquet_files(roots["primary"], "t")) == 1
    assert homes(server.lakehouse, ["t"]) == {"t": {"primary"}}


def count(client: Client, table: str) -> int:
    return int(client.query(f"SELECT count(*) AS n FROM {table}")["n"][0].as_py())


@pytest.fixture
def named(server: RunningServer) -> RunningServer:
    """`both` in primary (3 rows) and testing (1), `there` in testing, `twice` in testing and archive."""
    for bucket, datasets in {
        "primary": {"both": ROWS},
        "testing": {"both": OTHERS, "there": OTHERS, "twice": OTHERS},
        "archive": {"twice": ROWS},
    }.items():
        with connect(server.uri, bucket=bucket) as client:
            for name, rows in datasets.items():
                client.ingest(rows, name)
    return server


def test_what_names_mean_in_sql(named: RunningServer) -> None:
    with connect(named.uri) as client, connect(named.uri, bucket="testing") as inside:
        assert [count(client, name) for name in ("both", "public.both", "primary.both", '"testing".both')] == [
            3,
            3,
            3,
            1,
        ]
        assert [count(inside, name) for name in ("both", "public.both", "primary.both")] == [1, 1, 3]
        assert count(client, "there") == 1
        assert count(inside, "twice") == 1
        with pytest.raises(InvalidRequest, match=r'in several buckets: say which of "archive".twice, "testing".twice'):
            client.query("SELECT * FROM twice")
        with pytest.raises(NotFound, match="schema 'nowhere' doesn't exist: the schemas are archive"):
            client.query("SELECT * FROM nowhere.both")


@pytest.mark.parametrize(
    ("path", "bucket", "rows"),
    [
        (["both"], None, 3),
        (["both"], "testing", 1),
        (["testing", "both"], None, 1),
        (["primary", "both"], "testing", 3),
        (["public", "both"], "testing", 1),
        (["there"], None, 1),
        (["twice"], "archive", 3),
    ],
)
def test_what_paths_mean(path: list[str], bucket: str | None, rows: int, named: RunningServer) -> None:
    headers = [] if bucket is None else [(b"x-lakehouse-bucket", bucket.encode())]
    options = fl.FlightCallOptions(headers=headers)
    descriptor = fl.FlightDescriptor.for_path(*path)

    with fl.connect(named.uri) as client:
        info = client.get_flight_info(descriptor, options)
        assert info.total_records == rows
        assert client.do_get(info.endpoints[0].ticket, options).read_all().num_rows == rows
        assert client.get_schema(descriptor, options).schema == ROWS.schema


def test_the_candidates_of_an_ambiguous_name_can_be_typed(named: RunningServer) -> None:
    with connect(named.uri) as client:
        for bucket in ("testing", "archive"):
            client.query(f'CREATE TABLE {bucket}."Big Cats" AS SELECT 1 AS id')
        with pytest.raises(InvalidRequest, match=r"in several buckets: say which of ") as caught:
            client.query('SELECT * FROM "Big Cats"')

        candidates = caught.value.message.partition("say which of ")[2].split(", ")
        assert [count(client, one) for one in candidates] == [1, 1]


def test_a_name_that_is_in_another_bucket_is_told_with_its_bucket(named: RunningServer) -> None:
    with connect(named.uri) as client:
        for statement in ("SELECT * FROM archive.both", "INSERT INTO archive.both VALUES (1, 'a')"):
            with pytest.raises(NotFound, match=r'(similar: |did you mean )"primary".both, "testing".both'):
                client.query(statement)


def test_an_ambiguous_path_names_the_candidates(named: RunningServer) -> None:
    with fl.connect(named.uri) as client, pytest.raises(pa.ArrowInvalid, match=r'say which of "archive".twice'):
        client.get_flight_info(fl.FlightDescriptor.for_path("twice"))


def test_what_names_mean_to_actions(named: RunningServer) -> None:
    with connect(named.uri) as client, connect(named.uri, bucket="testing") as inside:

        def home(of: Client, dataset: str, **more: str) -> str:
            return str(of.call("dataset.describe", {"dataset": dataset, **more})["bucket"])

        assert [home(client, "both"), home(client, "there"), home(client, "both", bucket="testing")] == [
            "primary", "testing", "testing",
        ]  # fmt: skip
        assert [home(inside, "both"), home(inside, "twice"), home(inside, "twice", bucket="archive")] == [
            "testing", "testing", "archive",
        ]  # fmt: skip
        with pytest.raises(InvalidRequest, match=r'"archive".twice, "testing".twice'):
            home(client, "twice")
        with pytest.raises(NotFound, match="nowhere"):
            home(client, "both", bucket="nowhere")


def test_a_name_is_public_in_metadata_where_it_means_one_table(named: RunningServer) -> None:
    listing = "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema <> 'system'"
    listing += " AND table_schema <> 'information_schema' ORDER BY 1, 2"

    def listed(client: Client) -> list[tuple[str, str]]:
        found = client.query(listing)
        return list(zip(found["table_schema"].to_pylist(), found["table_name"].to_pylist(), strict=True))

    by_bucket = [("archive", "twice"), ("primary", "both")]
    rest = [("testing", "both"), ("testing", "there"), ("testing", "twice")]
    with connect(named.uri) as client, connect(named.uri, bucket="testing") as inside:
        assert listed(client) == [*by_bucket, ("public", "both"), ("public", "there"), *rest]
        assert listed(inside) == [*by_bucket, ("public", "both"), ("public", "there"), ("public", "twice"), *rest]
        assert sorted((one.bucket, one.name) for one in client.tables()) == [*by_bucket, *rest]


def test_metadata_rpcs_list_the_same(named: RunningServer) -> None:
    def listed(**options: str) -> set[tuple[str, str]]:
        with flightsql.connect(named.uri, autocommit=True, db_kwargs=options) as connection:
            (found,) = connection.adbc_get_objects(depth="tables").read_all().to_pylist()
        return {
            (schema["db_schema_name"], table["table_name"])
            for schema in found["catalog_db_schemas"]
            for table in schema["db_schema_tables"]
            if schema["db_schema_name"] not in {"system", "information_schema"}
        }

    own = {("archive", "twice"), ("primary", "both"), ("testing", "both"), ("testing", "there"), ("testing", "twice")}
    assert listed() == own | {("public", "both"), ("public", "there")}
    assert listed(**{HEADER: "archive"}) == own | {("public", "both"), ("public", "there"), ("public", "twice")}


def test_the_schema_of_a_session_comes_before_its_bucket_and_primary(named: RunningServer) -> None:
    options = {f"{OPTION}schema": "testing", f"{OPTION}bucket": "archive"}
    with (
        flightsql.connect(named.uri, autocommit=True, db_kwargs=COOKIES) as connection,
        connection.cursor() as cursor,
    ):
        connection.adbc_connection.set_options(**options)

        counts = [
            cursor.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0]
            for name in ("both", "twice", "public.twice", "primary.both")
        ]

    assert counts == [1, 1, 3, 3]


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("bucket.collect", {"bucket": ""}),
        ("bucket.set_lifecycle", {"name": "", "rules": []}),
        ("bucket.usage", {"name": ""}),
        ("bucket.mirror", {"bucket": "", "dataset": "t"}),
        ("dataset.describe", {"bucket": "", "dataset": "t"}),
    ],
)
def test_an_empty_name_means_no_bucket_rather_than_primary(
    server: RunningServer, action: str, body: dict[str, Any]
) -> None:
    with connect(server.uri) as client, pytest.raises(InvalidRequest, match="Expected `str` of length >= 1"):
        client.call(action, body)
