"""Vectors as values of SQL: lists of numbers, and texts such as '[0.1, 0.2]', which pgvector's clients write."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from flightserver.errors import InvalidRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

# There is one way to read each text: where there are two, a list of n numbers that isn't one is tried in 2**n ways.
_NUMBER = r"\s*[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?\s*"
_LITERAL = re.compile(rf"(?:ARRAY\s*)?\[({_NUMBER}(?:,{_NUMBER})*)\]", re.IGNORECASE | re.ASCII)
_QUOTED = re.compile(r"'([^']*)'")
_WHAT = "the argument query of vector_search"
_EXPECTED = "a list of numbers, or a text such as '[0.1, 0.2]'"


def written_vector(text: str) -> NDArray[np.float32] | None:
    """The vector that SQL text is a literal of; None where it is something that must be computed."""
    literal = _LITERAL.fullmatch(text)
    if literal is not None:
        return _numbers([float(one) for one in literal[1].split(",")])
    quoted = _QUOTED.fullmatch(text)
    return None if quoted is None else _of_text(quoted[1])


def vector_of(value: pa.Scalar) -> NDArray[np.float32]:
    """The vector that a value is.

    Raises:
        InvalidRequest: It is null, has a null, or is something else than numbers.
    """
    kind = value.type
    if not value.is_valid:
        raise InvalidRequest(f"{_WHAT} is null: there is no vector to search for")
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return _of_text(value.as_py())
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not is_list or not _is_number(kind.value_type):
        raise InvalidRequest(f"{_WHAT} must be {_EXPECTED}; found {kind}")
    if value.values.null_count:
        raise InvalidRequest(f"{_WHAT} has a null among its numbers")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which the search refuses
        return np.asarray(value.values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)).astype(np.float32)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _of_text(text: str) -> NDArray[np.float32]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or any(type(one) not in {int, float} for one in found):
        raise InvalidRequest(f"{_WHAT} must be {_EXPECTED}; found the text {text[:40]!r}")
    return _numbers(found)


def _numbers(found: list[float]) -> NDArray[np.float32]:
    try:
        with np.errstate(over="ignore"):  # as above
            return np.array(found, dtype=np.float64).astype(np.float32)
    except OverflowError:
        raise InvalidRequest(f"{_WHAT} has a number that is too large") from None
