"""The action `dataset.compact` over the wire."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow.flight as fl
import pytest
from query.asking import rows, run

if TYPE_CHECKING:
    from conftest import RunningServer

    from flightserver.lakehouse import Lakehouse


def _compact(client: fl.FlightClient, **body: Any) -> list[dict[str, Any]]:
    return [
        json.loads(result.body.to_pybytes())
        for result in client.do_action(fl.Action("dataset.compact", json.dumps(body).encode()))
    ]


def _trips(lakehouse: Lakehouse) -> None:
    run(lakehouse, "CREATE TABLE trips AS SELECT value AS id, value % 7 AS zone FROM generate_series(1, 5000)")
    run(lakehouse, "INSERT INTO trips VALUES (0, 0)")
    run(lakehouse, "UPDATE trips SET zone = 9 WHERE id = 3")


def test_a_compaction_tells_its_progress_and_what_it_did(server: RunningServer, flight_client: fl.FlightClient) -> None:
    _trips(server.lakehouse)

    *progress, last = _compact(flight_client, dataset="trips")

    version = server.lakehouse.catalog.snapshot().dataset("trips", "primary").version
    assert last == {
        "result": {
            "dataset": "trips",
            "bucket": "primary",
            "version": version,
            "files_before": 3,
            "files_after": 1,
            "deltas_folded": 1,
            "rows": 5001,
            "unchanged": False,
        }
    }
    assert progress[-1] == {"progress": {"stage": "rows", "done": 5001, "total": 5001}}
    assert _compact(flight_client, dataset="trips")[-1]["result"]["unchanged"]
    kinds = rows(server.lakehouse, f"SELECT kind, detail, rows FROM system.commits WHERE version = {version}")
    assert kinds == [("compact", '"primary".trips', 5001)]


def test_rows_are_sorted_when_asked_to(server: RunningServer, flight_client: fl.FlightClient) -> None:
    _trips(server.lakehouse)
    expected = rows(server.lakehouse, "SELECT * FROM trips ORDER BY zone, id")

    _compact(flight_client, dataset="trips", sort_by=["zone", "id"], bucket="primary")

    assert rows(server.lakehouse, "SELECT * FROM trips") == expected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"dataset": "nope"}, "nope.*FS-1004"),
        ({"dataset": "trips", "target_bytes": 1}, "target_bytes is 1: expected 65,536 or more"),
        ({"dataset": "trips", "z_order": ["id", "x"]}, "has no column 'x' to order its rows by: there are id, zone"),
        ({"dataset": "trips", "sort_by": "id"}, "the body of action dataset.compact is not valid: .*sort_by"),
    ],
)
def test_a_request_that_cannot_be_is_refused(
    server: RunningServer, flight_client: fl.FlightClient, body: dict[str, Any], message: str
) -> None:
    _trips(server.lakehouse)

    with pytest.raises(Exception, match=message):
        _compact(flight_client, **body)

    assert rows(server.lakehouse, "SELECT count(*) FROM trips") == [(5001,)]
