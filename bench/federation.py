"""Datasets on S3: scans, a filter and an aggregate from a local bucket and from an S3 server, beside other engines.

The S3 server is the one of the tests, versitygw on this machine: so times tell what engines ask of a server and how
they wait for it, not what a network costs. Bytes are counted in a run of their own, by a proxy before the server.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from datafusion import SessionConfig, SessionContext
from datafusion.object_store import AmazonS3
from pyarrow.fs import S3FileSystem

from bench import plots, shop
from bench.comparing import assert_same
from bench.httpfs import VERSION, HttpfsDuck
from bench.inprocess import THREADS, duck_rows, opened, rows
from bench.measure import MB, Page, Taken, in_turn, table
from flightserver.catalog.entities import PRIMARY, S3, Bucket
from flightserver.catalog.log import Operation
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.ulid import new_ulid
from flightserver.catalog.updates import PutBucket
from flightserver.tables.writes import Mode, WriteRequest
from tests.counting_proxy import CountingProxy
from tests.s3server import ACCESS_KEY, SECRET_KEY, S3Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pyarrow as pa

    from bench.context import Context
    from flightserver.catalog.entities import Segment
    from flightserver.lakehouse import Lakehouse

FAR, COUNTED = "far", "counted"
"""The bucket on the S3 server, and the one behind the proxy."""
LAKE = "lake"
LOCAL, OURS = "flightserver, local", "flightserver"
DATAFUSION, DUCK, HTTPFS = "DataFusion", "DuckDB, pyarrow", "DuckDB, httpfs"
FROM_S3 = (OURS, DATAFUSION, HTTPFS, DUCK)

INTRODUCTION = """{rows:,} orders of eight columns in one Parquet file of {megabytes:,.1f} MB, in a local bucket and \
in one on versitygw, an S3 server on this machine: times tell what engines ask of a server, not what a network costs. \
Every contestant is asked in this process, with {threads} threads, without any cache of rows, and answers as Arrow; \
all but the first read the same object from S3. Whole results were compared before. Medians of {repeats} rounds, \
contestants in turn. DataFusion is the plain engine, which flightserver is built on. DuckDB's own S3 reader is its \
extension httpfs, of which PyPI has {httpfs}: DuckDB of that version is a process of its own, which keeps its answers. \
DuckDB of this environment reads by pyarrow's data sets, which it gives its columns and filters to."""

BYTES = """What the bodies of the S3 server's answers have, in MB, by a proxy that counts them. Each contestant is \
new, so that it reads the footer too. "Needed" is what the file's footer says that the columns take in the row groups \
that may have rows of the answer. To find the footer DataFusion fetches the last 512 KiB of a file, and flightserver \
the last 128 KiB. Both read over gaps of less than 1 MiB rather than ask twice, by default of the crate object_store."""

_SMALL_SHARE = 100


@dataclass(frozen=True, slots=True)
class Question:
    """A query.

    Attributes:
        title: What it is.
        sql: With `{orders}` for the table.
        columns: That it reads.
        first: The smallest `order_id` that it looks for.
        last: The largest.
    """

    title: str
    sql: str
    columns: frozenset[str]
    first: int
    last: int


def questions(orders: int) -> list[Question]:
    """What is asked of so many orders."""
    low, high = orders // 2, orders // 2 + orders // _SMALL_SHARE
    every = ", ".join(shop.orders(10).column_names)
    return [
        Question("scan, 8 columns", f"SELECT {every} FROM {{orders}}", frozenset(every.split(", ")), 0, orders),
        Question("scan, 2 columns", "SELECT order_id, note FROM {orders}", frozenset(["order_id", "note"]), 0, orders),
        Question(
            f"filter, {high - low + 1:,} rows",
            f"SELECT order_id, amount FROM {{orders}} WHERE order_id BETWEEN {low} AND {high}",
            frozenset(["order_id", "amount"]),
            low,
            high,
        ),
        Question(
            "aggregate",
            "SELECT status, count(*) AS n, sum(amount) AS amount FROM {orders} GROUP BY status",
            frozenset(["status", "amount"]),
            0,
            orders,
        ),
    ]


def measure(context: Context) -> Page:
    """Ask all contestants in turn, then count bytes."""
    effort = context.effort
    asked = questions(effort.rows)
    data = context.work / "federation"
    with S3Server(data / "s3") as server, CountingProxy(server.endpoint) as proxy, opened(data / "data") as lakehouse:
        server.make(LAKE)
        _fill(lakehouse, server, proxy, shop.orders(effort.rows))
        segment = _segment(lakehouse, FAR)
        with _httpfs(lakehouse, context, FAR, server.endpoint) as duck:
            names = [name for name in (LOCAL, *FROM_S3) if name != HTTPFS]
            contestants = {name: _contestant(name, lakehouse, FAR, server.endpoint) for name in names}
            taken = _asked(contestants, duck, asked, effort.repeats)
        fetched = {one.title: _fetched(lakehouse, context, proxy, one) for one in asked}
        needed = {one.title: _needed(lakehouse, one) for one in asked}
    page = Page("federation", "Datasets on S3")
    page.add(
        INTRODUCTION.format(
            rows=effort.rows, megabytes=segment.bytes / MB, threads=THREADS, repeats=effort.repeats, httpfs=VERSION
        ),
        table(_HEADERS, _cells(taken)),
        plots.bars(context.results / "federation.png", "Time over that of plain DataFusion", "times", _ratios(taken)),
        "## Bytes",
        BYTES,
        table(("", "needed", *FROM_S3), _bytes_cells(needed, fetched)),
    )
    return page


def _fill(lakehouse: Lakehouse, server: S3Server, proxy: CountingProxy, orders: pa.Table) -> None:
    behind = Bucket(COUNTED, S3, s3=server.place(LAKE, COUNTED, proxy.endpoint))
    buckets = (server.bucket(FAR, LAKE, FAR), behind)
    updates = tuple(PutBucket(bucket) for bucket in buckets)
    lakehouse.catalog.commit(Transaction(Operation(new_ulid(), "bench"), updates))
    for bucket in (PRIMARY, FAR, COUNTED):
        request = WriteRequest(
            name="orders",
            bucket=bucket,
            mode=Mode.CREATE,
            schema=orders.schema,
            operation=Operation(new_ulid(), "bench"),
            lineage_system="arrow",
            lineage_source="bench",
        )
        lakehouse.tables.write(request, orders.to_batches())


def _segment(lakehouse: Lakehouse, bucket: str) -> Segment:
    return lakehouse.catalog.snapshot().dataset("orders", bucket).segments[0]


def _contestant(name: str, lakehouse: Lakehouse, bucket: str, endpoint: str) -> Callable[[str], pa.Table]:
    """How one answers a question; all but ours are new, and ours has read nothing of S3 when the lakehouse is."""
    path = f"{LAKE}/{bucket}/{_segment(lakehouse, bucket).object_keys()[0]}"
    if name == DATAFUSION:
        return partial(_datafusion_rows, _datafusion(endpoint, path))
    if name == DUCK:
        return partial(_duck_rows, _duck(endpoint, path))
    home = PRIMARY if name == LOCAL else bucket
    return lambda sql: rows(lakehouse, sql.format(orders=f'"{home}".orders'))


def _datafusion(endpoint: str, path: str) -> SessionContext:
    context = SessionContext(SessionConfig({"datafusion.execution.target_partitions": str(THREADS)}))
    store = AmazonS3(
        bucket_name=LAKE,
        region="us-east-1",
        access_key_id=ACCESS_KEY,
        secret_access_key=SECRET_KEY,
        endpoint=endpoint,
        allow_http=True,
    )
    context.register_object_store("s3://", store, LAKE)
    context.register_parquet("orders", f"s3://{path}")
    return context


def _datafusion_rows(context: SessionContext, sql: str) -> pa.Table:
    return context.sql(sql.format(orders="orders")).to_arrow_table()


def _duck(endpoint: str, path: str) -> Any:
    files = S3FileSystem(access_key=ACCESS_KEY, secret_key=SECRET_KEY, endpoint_override=endpoint, region="us-east-1")
    connection = duckdb.connect(config={"threads": THREADS})
    connection.register("orders", ds.dataset(path, filesystem=files, format="parquet"))
    return connection


def _duck_rows(connection: Any, sql: str) -> pa.Table:
    return duck_rows(connection, sql.format(orders="orders"))


def _httpfs(lakehouse: Lakehouse, context: Context, bucket: str, endpoint: str) -> HttpfsDuck:
    key = _segment(lakehouse, bucket).object_keys()[0]
    host = endpoint.removeprefix("http://")
    return HttpfsDuck(context.work, THREADS, host, (ACCESS_KEY, SECRET_KEY), f"s3://{LAKE}/{bucket}/{key}")


def _asked(
    contestants: dict[str, Callable[[str], pa.Table]], duck: HttpfsDuck, asked: Iterable[Question], repeats: int
) -> dict[str, dict[str, Taken]]:
    """What every contestant took, by question."""
    found = {}
    for one in asked:
        expected = contestants[LOCAL](one.sql)
        for name, answer in contestants.items():
            assert_same(f"{one.title}, {name}", answer(one.sql), expected)
        sql = one.sql.format(orders="orders")
        assert_same(f"{one.title}, {HTTPFS}", duck.rows(sql).cast(expected.schema), expected)
        ways: dict[str, Callable[[], object]] = {name: partial(answer, one.sql) for name, answer in contestants.items()}
        found[one.title] = in_turn({**ways, HTTPFS: partial(duck.run, sql)}, repeats)
    return found


def _fetched(lakehouse: Lakehouse, context: Context, proxy: CountingProxy, one: Question) -> dict[str, int]:
    """Bytes that each took from the S3 server for a question, footer included."""
    found = {}
    for name in FROM_S3:
        if name == HTTPFS:
            proxy.taken()
            with _httpfs(lakehouse, context, COUNTED, proxy.endpoint) as duck:
                duck.run(one.sql.format(orders="orders"))
                found[name] = proxy.taken()
            continue
        with opened(lakehouse.settings.server.data) as fresh:
            proxy.taken()
            _contestant(name, fresh, COUNTED, proxy.endpoint)(one.sql)
            found[name] = proxy.taken()
    return found


def _needed(lakehouse: Lakehouse, one: Question) -> int:
    """Bytes of the columns in the row groups whose `order_id` may be asked for."""
    key = _segment(lakehouse, FAR).object_keys()[0]
    with lakehouse.buckets.get(FAR).objects.open(key) as stream:
        footer = pq.read_metadata(stream)
    total = 0
    for group in (footer.row_group(number) for number in range(footer.num_row_groups)):
        chunks = {chunk.path_in_schema: chunk for chunk in (group.column(at) for at in range(group.num_columns))}
        ids = chunks["order_id"].statistics
        if ids.min <= one.last and ids.max >= one.first:
            total += sum(chunks[name].total_compressed_size for name in one.columns)
    return total


_HEADERS = ("", *(f"{name} ms" for name in (LOCAL, *FROM_S3)), "S3 over local", "over DataFusion")


def _cells(taken: dict[str, dict[str, Taken]]) -> list[tuple[object, ...]]:
    return [
        (
            title,
            *(f"{each[name].seconds * 1000:.1f}" for name in (LOCAL, *FROM_S3)),
            f"{each[OURS].seconds / each[LOCAL].seconds:.2f}",
            f"{each[OURS].seconds / each[DATAFUSION].seconds:.2f}",
        )
        for title, each in taken.items()
    ]


def _ratios(taken: dict[str, dict[str, Taken]]) -> dict[str, float]:
    return {
        f"{title}, {name}": each[name].seconds / each[DATAFUSION].seconds
        for title, each in taken.items()
        for name in (OURS, HTTPFS, DUCK)
    }


def _bytes_cells(needed: dict[str, int], fetched: dict[str, dict[str, int]]) -> list[tuple[object, ...]]:
    return [
        (title, f"{needed[title] / MB:.2f}", *(f"{each[name] / MB:.2f}" for name in FROM_S3))
        for title, each in fetched.items()
    ]
