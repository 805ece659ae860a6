"""flightserver with a vector index: over the wire, and its search alone in this process."""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow as pa
import pyarrow.parquet as pq

from bench import servers
from bench.data import act
from bench.inprocess import opened
from bench.measure import Watched, median
from bench.searches import Contestant, answered, one_by_one
from bench.vector_sets import ALL, K, predicate
from flightserver.vectors.frames import Frames
from flightserver.vectors.searching import Searcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from bench.searches import Answered, Ask
    from bench.servers import Server
    from bench.vector_sets import VectorSet

ADBC, PINNED, ALONE = "flightserver", "flightserver, rows in memory", "flightserver, search alone"
WHOLE_ROWS = "flightserver, SELECT *"
DATASET, INDEX = "docs", "docs_embedding"
FEW, EVERYTHING = "id, _distance", "*"


@dataclass(frozen=True, slots=True)
class Built:
    """An index that a server has built: seconds by the client's clock, bytes, and resident memory of the server."""

    seconds: float
    bytes: int
    before: int
    peak: int


@dataclass(frozen=True, slots=True)
class Grown:
    """What rows cost that the index lacks, and the index with them.

    Attributes:
        first: Seconds of the first search when they had come, which reads them.
        lacking: Searches while the index lacked them.
        refresh: Seconds of `index.refresh`.
        refreshed: Searches afterwards.
    """

    first: float
    lacking: Answered
    refresh: float
    refreshed: Answered


def built(work: Path, given: VectorSet) -> tuple[Path, Built]:
    """The data directory of a lakehouse with the vectors and their index, and what the index took."""
    data, source = work / "lakehouse", work / "rows"
    source.mkdir()
    pq.write_table(given.rows(), source / f"{DATASET}.parquet")
    with servers.lakehouse(work, data, (source,)) as server:
        act(server, "ingest.file", source=str(source / f"{DATASET}.parquet"), dataset=DATASET)
    with servers.lakehouse(work, data) as server, Watched(server) as watched:
        begin = time.perf_counter()
        made: dict[str, Any] = act(server, "index.create", index=INDEX, dataset=DATASET, column="embedding")
        seconds = time.perf_counter() - begin
    assert made["vectors"] == len(given.vectors)
    return data, Built(seconds, made["bytes"], watched.before, watched.peak)


def cold(work: Path, data: Path, given: VectorSet, times: int) -> float:
    """Median seconds of the first search that a server is asked."""
    taken = []
    for query in given.queries[:times]:
        with servers.lakehouse(work, data) as server, _asking(server, FEW) as ask:
            taken.append(_seconds(partial(ask, query, ALL)))
    return median(taken)


def contestants(
    stack: ExitStack, work: Path, data: Path, index: Built, given: VectorSet
) -> tuple[list[Contestant], Watched]:
    """Ours: three ways to ask servers, and the search alone; and the memory of the first server from here on."""
    copies = [shutil.copytree(data, work / name) for name in ("pinned", "alone")]
    reading = stack.enter_context(servers.lakehouse(work, data))
    pinned = stack.enter_context(servers.lakehouse(work, copies[0], cached=True))
    act(pinned, "cache.pin", dataset=DATASET)
    asks = {
        ADBC: stack.enter_context(_asking(reading, FEW)),
        PINNED: stack.enter_context(_asking(pinned, FEW)),
        WHOLE_ROWS: stack.enter_context(_asking(reading, EVERYTHING)),
        ALONE: _alone(stack, work, copies[1], given),
    }
    watched = stack.enter_context(Watched(reading))
    ours = [
        Contestant(name, one_by_one(ask), build_seconds=index.seconds, bytes=index.bytes) for name, ask in asks.items()
    ]
    return ours, watched


def grown(work: Path, data: Path, given: VectorSet, repeats: int) -> Grown:
    """Append rows; search before the index has them, and afterwards."""
    source = work / "more"
    source.mkdir()
    pq.write_table(given.more_rows(), source / "more.parquet")
    with servers.lakehouse(work, data, (source,)) as server, _asking(server, FEW) as ask:
        ask(given.queries[0], ALL)
        act(server, "ingest.file", source=str(source / "more.parquet"), dataset=DATASET, mode="append")
        first = _seconds(partial(ask, given.queries[0], ALL))
        asker = [Contestant(ADBC, one_by_one(ask))]
        lacking = answered(asker, given.queries, given.truth_with_more, repeats)
        begin = time.perf_counter()
        made = act(server, "index.refresh", index=INDEX)
        refresh = time.perf_counter() - begin
        assert made["vectors"] == len(given.vectors) + len(given.more)
        refreshed = answered(asker, given.queries, given.truth_with_more, repeats)
    return Grown(first, lacking[ADBC], refresh, refreshed[ADBC])


@contextmanager
def _asking(server: Server, columns: str) -> Iterator[Ask]:
    """Asks a server by ADBC: each statement is prepared once, and the vector is bound to it."""
    sql = f"SELECT {columns} FROM vector_search('{INDEX}', ?, {K}{{more}})"
    with ExitStack() as stack:
        connection = stack.enter_context(flightsql.connect(server.uri, autocommit=True))
        cursors: dict[int, Any] = {}

        def ask(query: NDArray[np.float32], percent: int) -> NDArray[np.int64]:
            if percent not in cursors:
                cursors[percent] = stack.enter_context(connection.cursor())
            more = "" if percent == ALL else f", '{predicate(percent)}'"
            bound = pa.ListArray.from_arrays([0, len(query)], pa.array(query))
            cursors[percent].execute(sql.format(more=more), pa.record_batch([bound], ["query"]))
            ids: NDArray[np.int64] = cursors[percent].fetch_arrow_table()["id"].to_numpy()
            return ids

        yield ask


def _alone(stack: ExitStack, work: Path, data: Path, given: VectorSet) -> Ask:
    """The search that `vector_search` stands on, without SQL: rows are given and answered by their row ids."""
    lakehouse = stack.enter_context(opened(data))
    snapshot = lakehouse.catalog.snapshot()
    dataset, index = snapshot.dataset(DATASET), snapshot.index(INDEX)
    frames = Frames(lakehouse.buckets, work / "frames", index.generation.bytes)
    searcher = Searcher(frames, lakehouse.buckets, lakehouse.tables.dead, lakehouse.events)
    [segment] = dataset.segments  # rows are in the order in which they came, so that a place is an id

    def ask(query: NDArray[np.float32], percent: int) -> NDArray[np.int64]:
        allowed = None if percent == ALL else given.among(percent) + segment.row_id_base
        return searcher.nearest(index, dataset, query, K, allowed).row_ids - segment.row_id_base

    return ask


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
