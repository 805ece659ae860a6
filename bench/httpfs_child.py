"""The process of `bench.httpfs`: DuckDB of another version than the bench has, with its extension httpfs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import duckdb
import duckdb_extension_httpfs
import pyarrow as pa


def main() -> None:
    """Answer questions, one a line; the first says where the file is."""
    place = json.loads(sys.stdin.readline())
    connection = duckdb.connect(config={"threads": place["threads"]})
    extension = next(Path(duckdb_extension_httpfs.__file__).parent.rglob("httpfs.duckdb_extension"))
    connection.load_extension(str(extension))
    connection.execute(
        f"CREATE SECRET (TYPE s3, KEY_ID '{place['key']}', SECRET '{place['secret']}', REGION 'us-east-1', "
        f"ENDPOINT '{place['endpoint']}', URL_STYLE 'path', USE_SSL false)"
    )
    connection.execute("SET enable_external_file_cache = false")  # nobody else keeps what was read
    connection.execute(f"CREATE VIEW orders AS SELECT * FROM read_parquet('{place['url']}')")
    print(json.dumps({}), flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        answer = connection.execute(question["sql"]).to_arrow_table()
        if "to" in question:
            with pa.OSFile(question["to"], "wb") as file, pa.ipc.new_file(file, answer.schema) as writer:
                writer.write_table(answer)
        print(json.dumps({"rows": answer.num_rows}), flush=True)


if __name__ == "__main__":
    main()
