"""Plain Arrow Flight: everything with pyarrow alone, as it can be done from any language that has Flight.

pip install pyarrow
python pyarrow_flight.py grpc://127.0.0.1:31337
"""

from __future__ import annotations

import json
import sys

import pyarrow as pa
from pyarrow import flight


def main(uri: str) -> None:
    """DoPut, a table by path, SQL, pages by JSON, DoExchange and an action."""
    people = pa.table({"name": ["Ada", "Grace", "Radia", "Barbara"], "born": [1815, 1906, 1951, 1939]})
    with flight.connect(uri) as client:
        # DoPut with a path: the table is created, or appended to. The answer tells what was written.
        writer, answers = client.do_put(flight.FlightDescriptor.for_path("example_people"), people.schema)
        with writer:
            writer.write_table(people)
            writer.done_writing()
            print("put", json.loads(answers.read().to_pybytes())["rows"], "rows")

        # A table by its path.
        info = client.get_flight_info(flight.FlightDescriptor.for_path("example_people"))
        print("path", info.total_records, "rows,", info.schema.names)

        # SQL as the command.
        info = client.get_flight_info(
            flight.FlightDescriptor.for_command("SELECT name FROM example_people WHERE born > 1900 ORDER BY born")
        )
        print("sql", client.do_get(info.endpoints[0].ticket).read_all()["name"].to_pylist())

        # A JSON object as the command, here with pages: one endpoint a page.
        command = {"sql": "SELECT name FROM example_people ORDER BY born", "page_rows": 3}
        info = client.get_flight_info(flight.FlightDescriptor.for_command(json.dumps(command)))
        about = json.loads(info.app_metadata)
        last = client.do_get(info.endpoints[-1].ticket).read_all()
        print("pages", about["pages"], "of which the last has", last["name"].to_pylist())

        # The ticket of a page may be written by hand, with a page size of one's own.
        ticket = flight.Ticket(json.dumps({"query_id": about["query_id"], "page": 1, "page_rows": 2}))
        print("page 1 of 2 rows", client.do_get(ticket).read_all()["name"].to_pylist())

        # DoExchange: SQL over rows that are sent along, as the table `input`.
        sql = "SELECT count(*) AS known FROM input JOIN example_people USING (name)"
        writer, reader = client.do_exchange(flight.FlightDescriptor.for_command(sql))
        with writer:
            guests = pa.table({"name": ["Grace", "Nobody", "Ada"]})
            writer.begin(guests.schema)
            writer.write_table(guests)
            writer.done_writing()
            print("exchange", reader.read_all()["known"][0].as_py(), "known")

        # An action: a JSON object in, JSON objects out.
        for result in client.do_action(
            flight.Action("dataset.drop", json.dumps({"dataset": "example_people"}).encode())
        ):
            print("drop", json.loads(result.body.to_pybytes()))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "grpc://127.0.0.1:31337")
