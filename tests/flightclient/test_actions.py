"""Actions: JSON objects in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from flightclient import Progress
from flightclient.errors import InvalidRequest, NotFound, ProtocolError
from flightclient.results import decode_object, decode_result

if TYPE_CHECKING:
    from flightclient import Client


def test_call_returns_the_result(client: Client) -> None:
    client.ingest(pa.table({"n": [1, 2]}), "t")

    described = client.call("dataset.describe", {"dataset": "t"})

    assert (described["dataset"], described["rows"]) == ("t", 2)


def test_action_yields_the_answers_as_they_are(client: Client) -> None:
    (answer,) = client.action("bucket.list")

    assert [bucket["name"] for bucket in answer["result"]["buckets"]] == ["primary"]


def test_a_missing_field_is_named(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="dataset"):
        client.call("dataset.describe")


def test_a_body_that_is_nested_too_deeply_for_json_is_refused(client: Client) -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]

    with pytest.raises(InvalidRequest, match="this can't be sent as JSON: maximum recursion depth exceeded"):
        client.call("bucket.list", {"x": nested})


def test_an_action_that_does_not_exist_lists_those_that_do(client: Client) -> None:
    with pytest.raises(NotFound, match=r"bucket\.list"):
        client.call("nothing.at_all")


@pytest.mark.parametrize("answer", [b"", b"not JSON", b"[1]", b"\xff"])
def test_an_answer_that_is_no_json_object_is_another_product_speaking(answer: bytes) -> None:
    with pytest.raises(ProtocolError, match="expected a JSON object"):
        decode_object(answer)


def test_an_answer_without_a_field_says_which() -> None:
    with pytest.raises(ProtocolError, match="left out total"):
        decode_result(Progress, {"stage": "read", "done": 1})


def test_a_newer_server_may_say_more() -> None:
    assert decode_result(Progress, {"stage": "read", "done": 1, "total": 2, "eta": 3}) == Progress("read", 1, 2)
