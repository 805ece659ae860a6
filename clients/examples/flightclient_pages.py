"""flightclient: ingest rows, then read a large result page by page, in any order.

pip install flightserver
python flightclient_pages.py grpc://127.0.0.1:31337
"""

from __future__ import annotations

import sys

import flightclient
import pyarrow as pa
from flightclient.errors import NotFound


def main(uri: str) -> None:
    """Pages of a result, and what happens when it is gone."""
    with flightclient.connect(uri) as client:
        written = client.ingest(pa.table({"n": range(10_000)}), "example_numbers", mode="replace")
        print("ingested", written.rows, "rows into", written.dataset)

        with client.pages("SELECT n, n * n AS square FROM example_numbers ORDER BY n", page_rows=300) as result:
            print("result", result.rows, "rows in", len(result), "pages")
            print("page 17 begins with", result[17]["n"][0].as_py())
            print("the last page has", result[-1].num_rows, "rows")
            before = result.expires_at
            print("kept for longer:", result.renew() > before)
            total = sum(page.num_rows for page in result)
            print("all pages together", total, "rows")

        try:
            result.page(0)
        except NotFound as error:
            print("after close:", error.code)

        client.call("dataset.drop", {"dataset": "example_numbers"})


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "grpc://127.0.0.1:31337")
