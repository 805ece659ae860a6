"""Z-order: numbers that keep rows near each other which are near in every column."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from tables.compacting import append, remove

from flightserver.errors import InvalidRequest, NotFound
from flightserver.tables.zorder import ZOrder

if TYPE_CHECKING:
    from tables.lake import Lake

DAY = dt.date(2026, 1, 1)


def _numbers(lake: Lake, table: Any, columns: list[str]) -> np.ndarray[Any, Any]:
    append(lake, table)
    order = ZOrder.of(lake.dataset("t"), columns, lake.buckets)
    numbers: np.ndarray[Any, Any] = order.numbers(*(table[name].combine_chunks() for name in columns)).to_numpy()
    return numbers


@pytest.mark.parametrize(
    "values",
    [
        pa.array(np.arange(5000) - 2500),
        pa.array(np.linspace(-1, 1, 5000)),
        pa.array([f"name {number:05d}" for number in range(5000)]),
        pa.array([DAY + dt.timedelta(days=number) for number in range(5000)]),
        pa.array([dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=number) for number in range(5000)]),
        pa.array([Decimal(number) / 8 for number in range(5000)], pa.decimal128(20, 10)),
        pa.array([number.to_bytes(3, "big") for number in range(5000)]),
    ],
    ids=lambda values: str(values.type),
)
def test_the_order_of_one_column_is_its_own(lake: Lake, values: pa.Array) -> None:
    numbers = _numbers(lake, pa.table({"c": values}), ["c"])

    assert (np.diff(numbers) >= 0).all()
    assert len(np.unique(numbers)) == 1024


def test_nulls_and_what_is_no_number_come_first(lake: Lake) -> None:
    table = pa.table({"c": [1.0, None, 2.0, float("nan")], "nothing": pa.nulls(4, pa.string())})

    numbers = _numbers(lake, table, ["c", "nothing"])

    assert numbers[1] == numbers[3] == 0
    assert 0 < numbers[0] < numbers[2]


def test_bits_of_the_columns_are_interleaved(lake: Lake) -> None:
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(1024), np.arange(64)))

    numbers = _numbers(lake, pa.table({"x": x, "y": y}), ["x", "y"])

    rank_x, rank_y = x, y * 16 + 15  # of 1024 boundaries 16 are the same value of y, and none is below the first
    expected = [
        int("".join(pair for bits in zip(f"{one:010b}", f"{other:010b}", strict=True) for pair in bits), 2)
        for one, other in zip(rank_x.tolist(), rank_y.tolist(), strict=True)
    ]
    assert numbers.tolist() == expected


def test_files_in_this_order_have_narrow_ranges_in_every_column(lake: Lake) -> None:
    rng = np.random.default_rng(3)
    table = pa.table({"x": rng.integers(0, 10**9, 40_000), "y": rng.random(40_000)})

    numbers = _numbers(lake, table, ["x", "y"])

    groups = np.array_split(np.argsort(numbers), 16)
    for name, whole in (("x", 10**9), ("y", 1.0)):
        column = table[name].to_numpy()
        widths = [np.ptp(column[group]) / whole for group in groups]
        assert np.mean(widths) < 0.35


def test_boundaries_come_from_all_segments_and_under_names_that_changed_since(lake: Lake) -> None:
    append(lake, pa.table({"id": np.arange(1000), "x": np.arange(1000)}))
    append(lake, pa.table({"id": np.arange(1000, 2000), "x": np.arange(1000, 2000)}))
    remove(lake, 5)
    order = ZOrder.of(lake.dataset("t"), ["x"], lake.buckets)

    first, middle, last = order.numbers(pa.array([0, 1000, 1999])).to_pylist()

    assert first < 3
    assert middle == 512
    assert last == 1023


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ([], InvalidRequest, "rows are ordered by no column: name each column once"),
        (["id", "id"], InvalidRequest, "rows are ordered by id, id: name each column once"),
        (["nope"], NotFound, "dataset \"primary\".t has no column 'nope' to order its rows by: there are id, l, a, b"),
        (["l"], InvalidRequest, r"column 'l' has the type list<item: int64>, whose values have no order"),
        (list("idabcef"), NotFound, "'i'"),
        (["id", "a", "b", "c", "e", "f", "g"], InvalidRequest, "z_order has 7 columns: expected 6 or fewer"),
    ],
)
def test_an_order_that_cannot_be_is_refused(
    lake: Lake, columns: list[str], error: type[Exception], message: str
) -> None:
    append(lake, pa.table({"id": [1], "l": [[1]]} | {name: [1] for name in "abcefg"}))

    with pytest.raises(error, match=message):
        ZOrder.of(lake.dataset("t"), columns, lake.buckets)
