"""What the client sends with each call, seen by a server that writes it down."""

from __future__ import annotations

from typing import Any

import flightclient
import pyarrow.flight as fl
import pytest


class Recording(fl.ServerMiddlewareFactory):
    """Keeps the headers of every call."""

    def __init__(self) -> None:
        self.seen: list[dict[str, list[str]]] = []

    def start_call(self, _info: Any, headers: dict[str, list[str]]) -> None:
        """Note the headers; no middleware is needed."""
        self.seen.append(headers)


class Silent(fl.FlightServerBase):
    """Has no tables and runs no actions."""

    def list_flights(self, _context: Any, _criteria: bytes) -> list[Any]:
        """Nothing."""
        return []

    def do_action(self, _context: Any, _action: Any) -> list[Any]:
        """No answer."""
        return []


@pytest.mark.parametrize(
    ("token", "bucket", "expected"),
    [
        (None, None, {}),
        ("secret", None, {"authorization": ["Bearer secret"]}),
        (None, "testing", {"x-lakehouse-bucket": ["testing"]}),
        ("secret", "testing", {"authorization": ["Bearer secret"], "x-lakehouse-bucket": ["testing"]}),
    ],
)
def test_the_token_and_the_bucket_go_with_every_call(
    token: str | None, bucket: str | None, expected: dict[str, list[str]]
) -> None:
    recording = Recording()
    with (
        Silent("grpc://127.0.0.1:0", middleware={"recording": recording}) as server,
        flightclient.connect(f"grpc://127.0.0.1:{server.port}", token=token, bucket=bucket) as client,
    ):
        client.tables()
        list(client.action("bucket.list"))

    ours = ("authorization", "x-lakehouse-bucket")
    assert [{name: seen[name] for name in ours if name in seen} for seen in recording.seen] == [expected, expected]
