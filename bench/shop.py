"""A shop's tables, drawn at random from a fixed seed: orders, customers and events.

Orders have eight columns; each customer has ten of them, scattered over the whole table, so that a condition on a
range of customers picks rows at random, and an exact number of them. 27 rows in 37 of the customers' and orders' number
are events.
"""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa

_SEED = 20_261_121
_ORDERS_EACH = 10
"""Orders of every customer."""
_EVENTS_EACH = 1.37
"""Events of every order, on average."""

REGIONS = ("north", "east", "south", "west", "centre", "coast", "islands", "abroad")
SEGMENTS = ("private", "trade", "public", "club", "staff")
STATES = ("open", "paid", "sent", "returned", "closed")
KINDS = ("view", "search", "add", "remove", "checkout", "pay", "return", "review")
PAGES = 200


def orders(rows: int) -> pa.Table:
    """Orders by ascending `order_id`, from 0."""
    random = np.random.default_rng(_SEED)
    customers = random.permutation(np.repeat(np.arange(rows // _ORDERS_EACH), _ORDERS_EACH))
    return pa.table(
        {
            "order_id": np.arange(rows),
            "customer_id": customers,
            "amount": np.round(random.gamma(2.0, 40.0, rows), 2),
            "quantity": random.integers(1, 20, rows).astype(np.int32),
            "ordered_at": _times(random, rows),
            "due": pa.array(random.integers(19_000, 20_000, rows).astype(np.int32), pa.date32()),
            "status": _texts(random, STATES, rows),
            "note": pa.array([f"order note {number:012x}" for number in random.integers(0, 2**48, rows)]),
        }
    )


def customers(rows: int) -> pa.Table:
    """The customers of so many orders, by ascending `customer_id`."""
    count = rows // _ORDERS_EACH
    random = np.random.default_rng(_SEED + 1)
    return pa.table(
        {
            "customer_id": np.arange(count),
            "name": [f"customer {number:08x}" for number in random.integers(0, 2**32, count)],
            "region": _texts(random, REGIONS, count),
            "segment": _texts(random, SEGMENTS, count),
            "since": pa.array([date(2020, 1, 1).toordinal() - 719_163] * count, pa.int32()).cast(pa.date32()),
            "credit": np.round(random.random(count) * 1000, 2),
        }
    )


def events(rows: int) -> pa.Table:
    """Events of so many orders."""
    count = int(rows * _EVENTS_EACH)
    random = np.random.default_rng(_SEED + 2)
    return pa.table(
        {
            "event_id": np.arange(count),
            "order_id": random.integers(0, rows, count),
            "kind": _texts(random, KINDS, count),
            "page": _texts(random, tuple(f"/page/{number}" for number in range(PAGES)), count),
            "at": _times(random, count),
            "milliseconds": random.integers(1, 5000, count).astype(np.int32),
        }
    )


def picked(rows: int, share: float) -> pa.Table:
    """Ids of a random share of the orders."""
    chosen = np.random.default_rng(_SEED + 3).choice(rows, int(rows * share), replace=False)
    return pa.table({"order_id": np.sort(chosen)})


def _times(random: np.random.Generator, rows: int) -> pa.Array:
    return pa.array(random.integers(1_600_000_000_000_000, 1_700_000_000_000_000, rows), pa.timestamp("us"))


def _texts(random: np.random.Generator, values: tuple[str, ...], rows: int) -> pa.Array:
    return pa.array(values).take(pa.array(random.integers(0, len(values), rows)))
