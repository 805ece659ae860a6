"""Who else searches vectors: each in the process that measures, but for DuckDB's index, over what it holds in memory.

Lance reads files, as flightserver does. hnswlib is there where its sources could be compiled. DuckDB's extension vss is
on PyPI for DuckDB 1.5.5 only, so `uv` runs that version beside the other one (`vss_child.py`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from uv import find_uv_bin

from bench.inprocess import THREADS, duck
from bench.searches import Contestant, Run, one_by_one
from bench.vector_sets import ALL, K, predicate, scaled

try:
    import hnswlib
except ImportError:
    hnswlib = None

if TYPE_CHECKING:
    from contextlib import ExitStack

    from numpy.typing import NDArray

    from bench.vector_sets import VectorSet

NUMPY, DUCK, VSS = "numpy, exact", "DuckDB, exact", "DuckDB, vss, ef 80"
HNSW_40, HNSW_80 = "hnswlib, ef 40", "hnswlib, ef 80"
LANCE_PQ, LANCE_RQ = "Lance, IVF_PQ", "Lance, IVF_RQ"
HNSWLIB = "hnswlib is left out: it wasn't there (`pip install hnswlib`, which needs a C++ compiler)."
VSS_VERSION = "1.5.5"

LINKS, CONSTRUCTION = 16, 200
_LANCE = {
    LANCE_PQ: ("IVF_PQ", {"nprobes": 20, "refine_factor": 5}),
    LANCE_RQ: ("IVF_RQ", {"nprobes": 40, "refine_factor": 5}),
}
_NUMBERS_OF_A_CODE = 8
_TRAINING_VECTORS = 256
"""That Lance wants for each partition."""


_VSS_NUMBERS = 10_000_000
"""In all vectors: an index of 100,000 x 768 was not built within a quarter of an hour on two cores."""


def peers(stack: ExitStack, work: Path, given: VectorSet) -> list[Contestant]:
    """All that can be had, with their indexes built."""
    found = [_numpy(given), _duckdb(given)]
    if given.vectors.size <= _VSS_NUMBERS:
        found.append(_vss(stack, work, given))
    found += [_lance(work, given, name) for name in _LANCE]
    if hnswlib is not None:
        found += _hnsw(work, given)
    return found


def _numpy(given: VectorSet) -> Contestant:
    directions = scaled(given.vectors)

    def ask(query: NDArray[np.float32], percent: int) -> NDArray[np.int64]:
        if percent == ALL:
            scores = directions @ query
            return np.argpartition(-scores, K)[:K]
        ids = given.among(percent)
        scores = directions[ids] @ query
        return ids[np.argpartition(-scores, K)[:K]]

    return Contestant(NUMPY, one_by_one(ask))


def _duckdb(given: VectorSet) -> Contestant:
    connection = duck({"docs": given.rows()})
    sql = f"ORDER BY array_cosine_distance(embedding, ?::FLOAT[{given.dimension}]) LIMIT {K}"

    def ask(query: NDArray[np.float32], percent: int) -> list[int]:
        where = "" if percent == ALL else f"WHERE {predicate(percent)}"
        # As text: DuckDB takes 10 ms to take over a list of Python's.
        found = connection.execute(f"SELECT id FROM docs {where} {sql}", [str(query.tolist())]).fetchall()
        return [number for (number,) in found]

    return Contestant(DUCK, one_by_one(ask))


def _lance(work: Path, given: VectorSet, name: str) -> Contestant:
    kind, options = _LANCE[name]
    path = work / f"{kind}.lance"
    dataset = lance.write_dataset(given.rows(), str(path))
    count = len(given.vectors)
    codes = {"num_bits": 1} if kind == "IVF_RQ" else {"num_sub_vectors": given.dimension // _NUMBERS_OF_A_CODE}
    partitions = min(int(count**0.5), count // _TRAINING_VECTORS)
    begin = time.perf_counter()
    dataset.create_index("embedding", kind, metric="cosine", num_partitions=partitions, **codes)
    seconds = time.perf_counter() - begin

    def ask(query: NDArray[np.float32], percent: int) -> NDArray[np.int64]:
        nearest = {"column": "embedding", "q": query, "k": K, **options}
        where = None if percent == ALL else predicate(percent)
        found = dataset.to_table(columns=["id", "_distance"], nearest=nearest, filter=where, prefilter=True)
        ids: NDArray[np.int64] = found["id"].to_numpy()
        return ids

    return Contestant(name, one_by_one(ask), build_seconds=seconds, bytes=_size(path / "_indices"))


def _hnsw(work: Path, given: VectorSet) -> list[Contestant]:
    built = hnswlib.Index("cosine", given.dimension)
    built.init_index(len(given.vectors), M=LINKS, ef_construction=CONSTRUCTION)
    begin = time.perf_counter()
    built.add_items(given.vectors, num_threads=THREADS)
    seconds = time.perf_counter() - begin
    path = work / "hnsw"
    built.save_index(str(path))

    def ask(ef: int, query: NDArray[np.float32], _: int) -> NDArray[np.int64]:
        built.set_ef(ef)
        ids: NDArray[np.uint64] = built.knn_query(query, K, num_threads=1)[0][0]
        return ids.astype(np.int64)

    return [
        Contestant(name, one_by_one(partial(ask, ef)), filters=False, build_seconds=seconds, bytes=_size(path))
        for name, ef in ((HNSW_40, 40), (HNSW_80, 80))
    ]


def _vss(stack: ExitStack, work: Path, given: VectorSet) -> Contestant:
    """DuckDB's index in a process of its own, which takes the time itself."""
    rows, queries = work / "vss.parquet", work / "vss-queries.parquet"
    pq.write_table(given.rows(), rows)
    embeddings = pa.FixedSizeListArray.from_arrays(pa.array(given.queries.ravel()), given.dimension)
    pq.write_table(pa.table({"embedding": embeddings}), queries)
    packages = (f"duckdb=={VSS_VERSION}", f"duckdb-extension-vss=={VSS_VERSION}", f"numpy=={np.__version__}")
    wanted = [word for package in packages for word in ("--with", package)]
    child = [sys.executable, "python", str(Path(__file__).with_name("vss_child.py"))]
    process = stack.enter_context(
        subprocess.Popen(
            [find_uv_bin(), "run", "--quiet", "--isolated", "--no-project", *wanted, "--python", *child],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    )
    built = _told(
        process,
        rows=str(rows),
        queries=str(queries),
        dimension=given.dimension,
        threads=THREADS,
        links=LINKS,
        construction=CONSTRUCTION,
        ef=80,
        k=K,
    )

    def run(_: NDArray[np.float32], percent: int) -> Run:
        where = "" if percent == ALL else f"WHERE {predicate(percent)}"
        return Run(**_told(process, where=where))

    return Contestant(VSS, run, build_seconds=built["seconds"], bytes=built["bytes"])


def _told(process: subprocess.Popen[str], **question: Any) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(question) + "\n")
    process.stdin.flush()
    answer: dict[str, Any] = json.loads(process.stdout.readline())
    return answer


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(each.stat().st_size for each in files)
