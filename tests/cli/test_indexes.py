"""`flightserver indexes`, as scripts call it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from cli.conftest import Finished

ROWS = "(1, [1.0, 0.0]), (2, [0.0, 1.0])"
NEAREST = "SELECT id FROM vector_search('pets_face', [0.0, 1.0], 1)"


@pytest.fixture(autouse=True)
def pets(command: Callable[..., Finished]) -> None:
    """A table with a column of vectors."""
    command("query", "CREATE TABLE pets (id BIGINT PRIMARY KEY, face FLOAT[])")
    command("query", f"INSERT INTO pets VALUES {ROWS}")


def test_an_index_from_its_creation_to_its_end(command: Callable[..., Finished]) -> None:
    command("buckets", "create", "testing")

    created = command("indexes", "create", "pets_face", "--dataset", "pets", "--column", "face")
    assert (created.status, created.err) == (0, "")
    made = json.loads(created.out)
    assert (made["index"], made["bucket"], made["metric"], made["vectors"]) == ("pets_face", "primary", "cosine", 2)
    assert json.loads(command("query", NEAREST, "--format", "json").out) == [{"id": 2}]

    command("query", "INSERT INTO pets VALUES (3, [1.0, 1.0])")
    refreshed = json.loads(command("indexes", "refresh", "pets_face").out)
    assert (refreshed["vectors"], refreshed["rebuilt"]) == (3, True)
    moved = json.loads(command("indexes", "move", "pets_face", "testing").out)
    assert (moved["bucket"], moved["moved_from"], moved["objects"]) == ("testing", "primary", 1)
    assert json.loads(command("indexes", "drop", "pets_face", "--bucket", "testing").out) == {
        "index": "pets_face",
        "bucket": "testing",
    }


def test_every_flag_says_what_its_field_does(command: Callable[..., Finished]) -> None:
    command("buckets", "create", "testing")
    command("query", "CREATE TABLE testing.pets (id BIGINT, face FLOAT[])")
    flags = ["--metric", "l2", "--dimension", "3", "--precision", "float16", "--to", "primary", "--bucket", "testing"]

    finished = command("indexes", "create", "x", "--dataset", "pets", "--column", "face", *flags)

    assert finished.err == ""
    made = json.loads(finished.out)
    version, size = made.pop("version"), made.pop("bytes")
    assert min(version, size) > 0
    assert made == {
        "index": "x",
        "bucket": "primary",
        "dataset": "pets",
        "dataset_bucket": "testing",
        "column": "face",
        "metric": "l2",
        "dimension": 3,
        "precision": "float16",
        "vectors": 0,
        "skipped": 0,
    }


def test_the_list_has_what_each_index_holds_and_lacks(
    command: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    command("indexes", "create", "pets_face", "--dataset", "pets", "--column", "face")
    command("query", "INSERT INTO pets VALUES (3, [1.0, 1.0])")

    finished = command("indexes", "list")

    assert finished.status == 0
    heading, _, row = finished.out.strip().splitlines()
    assert heading.split() == [
        "bucket",
        "name",
        "dataset_bucket",
        "dataset",
        "column",
        "metric",
        "dimension",
        "precision",
        "vectors",
        "unindexed_rows",
        "bytes",
    ]
    told = ["primary", "pets_face", "primary", "pets", "face", "cosine", "2", "float32", "2", "1"]
    assert row.split()[:-1] == told
    assert int(row.split()[-1]) > 0


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("create", "x", "--dataset", "pets", "--column", "id"), 1, "a vector index needs lists of numbers"),
        (("create", "x", "--dataset", "nothing", "--column", "face"), 1, "there is no dataset 'nothing'"),
        (("create", "x", "--dataset", "pets", "--column", "face", "--dimension", "many"), 2, "invalid int value"),
        (("refresh", "nothing"), 1, "there is no vector index 'nothing'; there are: none"),
        (("move", "nothing"), 2, "arguments are required: TO"),
        ((), 2, "VERB"),
    ],
)
def test_what_cannot_be_fails_and_says_why(
    command: Callable[..., Finished], arguments: tuple[str, ...], status: int, message: str
) -> None:
    finished = command("indexes", *arguments)

    assert finished.status == status
    assert message in finished.err
