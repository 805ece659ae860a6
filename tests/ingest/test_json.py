"""What becomes of JSON: lines, arrays, fields that change."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ingest.reading import read

from flightserver.errors import InvalidRequest, LimitExceeded
from flightserver.ingest.source import Limits

if TYPE_CHECKING:
    from pathlib import Path

SMALL_BLOCKS = Limits(block_bytes=48)
ROWS = [{"a": 1, "t": "x"}, {"a": 2.5, "t": None}, {"a": None, "t": "ü😀", "late": {"x": [1, None]}}, {"t": 'q"}]'}]
EXPECTED = pa.table(
    {
        "a": pa.array([1.0, 2.5, None, None]),
        "t": pa.array(["x", None, "ü😀", 'q"}]']),
        "late": pa.array([None, None, {"x": [1, None]}, None], pa.struct([("x", pa.list_(pa.int64()))])),
    }
)
WRITINGS = {
    "lines": "\n".join(map(json.dumps, ROWS)),
    "lines with a blank one": "\n\n".join(map(json.dumps, ROWS)) + "\n",
    "an array": json.dumps(ROWS),
    "an array over many lines": json.dumps(ROWS, indent=4, ensure_ascii=False),
    "objects one after another": "".join(map(json.dumps, ROWS)),
    "objects over many lines": "\n".join(json.dumps(row, indent=1) for row in ROWS),
}


@pytest.mark.parametrize("limits", [Limits(), SMALL_BLOCKS, Limits(block_bytes=1)], ids=["one", "some", "many"])
@pytest.mark.parametrize("writing", WRITINGS)
def test_all_writings_of_the_same_rows_read_the_same(writing: str, limits: Limits, tmp_path: Path) -> None:
    assert read(tmp_path, "f.json", WRITINGS[writing], limits=limits).equals(EXPECTED)


def test_a_single_object_is_one_row(tmp_path: Path) -> None:
    assert read(tmp_path, "f.json", '{"a": {"b": 1}}').to_pylist() == [{"a": {"b": 1}}]


def test_a_field_that_widens_in_row_500_000_widens_in_all_rows(tmp_path: Path) -> None:
    table = read(tmp_path, "f.ndjson", '{"a":1}\n' * 499_999 + '{"a":0.5,"b":"new"}\n')

    assert table.schema == pa.schema([("a", pa.float64()), ("b", pa.string())])
    assert table.slice(499_998).to_pylist() == [{"a": 1.0, "b": None}, {"a": 0.5, "b": "new"}]


def test_dates_and_timestamps_are_recognised_at_the_top_level(tmp_path: Path) -> None:
    text = '{"d":"2020-01-01","z":"2020-01-01T00:00:00Z","m":"2020-01-01","l":["2020-01-01"]}\n{"m":"soon"}\n'

    table = read(tmp_path, "f.ndjson", text, limits=SMALL_BLOCKS)

    assert table.to_pylist()[0] == {
        "d": dt.date(2020, 1, 1),
        "z": dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
        "m": "2020-01-01",
        "l": ["2020-01-01"],
    }


def test_integers_over_64_bits_keep_all_their_digits(tmp_path: Path) -> None:
    table = read(tmp_path, "f.ndjson", '{"n":99999999999999999999}\n{"n":1}\n')

    assert table["n"].to_pylist() == [Decimal(99999999999999999999), Decimal(1)]


def test_objects_that_never_have_a_field_are_left_out(tmp_path: Path) -> None:
    assert read(tmp_path, "f.json", '{"empty":{},"list":[],"null":null}').to_pylist() == [{"list": [], "null": None}]


BAD = {
    '{"a":1}\n\n' * 30 + '{"a":"x"}': "f.ndjson: line 61: field 'a' is a string, but was a number before",
    '{"a":{"b":true}}\n{"a":{"b":1}}': "f.ndjson: line 2: field 'a.b' is a number, but was a boolean before",
    '{"a":1}\n{"a":}': "f.ndjson: line 2 isn't a JSON object: Invalid value",
    '{"a":1}\n[1]': "f.ndjson: line 2: the object itself is an array",
    '{"a":1,"a":2}': "f.ndjson: line 1 has field 'a' twice",
    '{"a":' + "[" * 20_000 + "]" * 20_000 + "}": "f.ndjson: line 1 is nested more than 100 levels deep",
    '[{"a":1},3]': "f.ndjson: object 2 should begin with '{', but found '3]'",
    '[{"a":1}': "f.ndjson is cut off: the array isn't closed after object 1",
    '[{"a":1},{"a":tru': "f.ndjson: object 2 isn't JSON: Expecting value near",
    '[{"a":1}]x': "f.ndjson: something follows the array",
    "[]": "f.ndjson has no objects with fields",
    '[{"a":' + "[" * 20_000 + "]" * 20_000 + "}]": "f.ndjson: object 1 is nested more than 100 levels deep",
}


@pytest.mark.parametrize("text", BAD, ids=BAD.values())
def test_what_is_wrong_is_said_with_its_place(text: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(tmp_path, "f.ndjson", text, limits=SMALL_BLOCKS)

    assert str(caught.value).startswith(BAD[text])


@pytest.mark.parametrize("text", ['{"a":"' + "x" * 5000 + '"}', '[{"a":"' + "x" * 5000 + '"}]'])
def test_an_object_over_the_limit_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(LimitExceeded, match="is longer than 1,000"):
        read(tmp_path, "f.json", text, limits=Limits(block_bytes=64, record_bytes=1000), file_format=None)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.fixed_dictionaries({"n": st.none() | st.integers(-(2**63), 2**63 - 1), "l": st.lists(st.text(max_size=5))}),
        min_size=1,
    ),
    block=st.integers(1, 300),
    indent=st.none() | st.integers(0, 3),
)
def test_an_array_reads_back_equal(
    rows: list[dict[str, object]], block: int, indent: int | None, tmp_path: Path
) -> None:
    kinds = pa.schema([("n", pa.int64()), ("l", pa.list_(pa.string()))])
    text = json.dumps([*rows, {"n": 0, "l": ["x"]}], indent=indent)

    table = read(tmp_path, "f.json", text, limits=Limits(block_bytes=block))

    assert table.select(["n", "l"]).equals(pa.Table.from_pylist([*rows, {"n": 0, "l": ["x"]}], kinds))
