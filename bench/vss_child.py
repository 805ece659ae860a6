"""The process of `bench.vector_peers` that is DuckDB of another version, with its extension vss: an HNSW index."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import duckdb
import duckdb_extension_vss


def main() -> None:
    """Answer rounds of questions, one a line; the first line says what there is to search."""
    given = json.loads(sys.stdin.readline())
    connection = duckdb.connect(config={"threads": given["threads"]})
    extension = next(Path(duckdb_extension_vss.__file__).parent.rglob("vss.duckdb_extension"))
    connection.load_extension(str(extension))
    vector = f"FLOAT[{given['dimension']}]"
    read = f"SELECT * REPLACE (embedding::{vector} AS embedding) FROM read_parquet('{given['rows']}')"
    connection.execute(f"CREATE TABLE docs AS {read}")
    queries = connection.execute(f"SELECT embedding::{vector} FROM read_parquet('{given['queries']}')").fetchall()
    how = f"metric = 'cosine', M = {given['links']}, ef_construction = {given['construction']}"
    begin = time.perf_counter()
    connection.execute(f"CREATE INDEX near ON docs USING HNSW (embedding) WITH ({how})")
    seconds = time.perf_counter() - begin
    connection.execute(f"SET hnsw_ef_search = {given['ef']}")
    [(size,)] = connection.execute("SELECT approx_memory_usage FROM pragma_hnsw_index_info()").fetchall()
    print(json.dumps({"seconds": seconds, "bytes": size}), flush=True)
    order = f"ORDER BY array_cosine_distance(embedding, ?::{vector}) LIMIT {given['k']}"
    for line in sys.stdin:
        sql = f"SELECT id FROM docs {json.loads(line)['where']} {order}"
        taken, found = [], []
        for (query,) in queries:
            begin = time.perf_counter()
            ids = connection.execute(sql, [str(list(query))]).fetchall()
            taken.append(time.perf_counter() - begin)
            found.append([number for (number,) in ids])
        print(json.dumps({"seconds": taken, "ids": found}), flush=True)


if __name__ == "__main__":
    main()
