"""What is sent to the server: JSON commands, tickets and bodies, and one protobuf message.

The commands are those of plain Flight as the server's documentation has them, so everything here can also be written by
hand in any language.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, SupportsFloat

from flightclient.errors import InvalidRequest

Parameter = str | int | float | bool | Sequence[float] | None
"""A bound value; what JSON has, and vectors. Others are sent as text and cast in SQL: `CAST(? AS DATE)`."""

Parameters = Sequence[Parameter] | Mapping[str, Parameter]
"""Values for `?` or `$1` by place, or for `$name` by name."""

Version = int | datetime
"""A version of the catalog, or a time."""

_FIELD_1_BYTES = b"\x0a"
"""The key of a length-delimited field 1: https://protobuf.dev/programming-guides/encoding/#structure."""


def encode_object(value: Mapping[str, Any]) -> bytes:
    """Writes a JSON object.

    Raises:
        InvalidRequest: It holds something that JSON has no form for.
    """
    try:
        return json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"this can't be sent as JSON: {error}; send it as text and cast it in SQL") from None


def query_command(
    sql: str, parameters: Parameters | None, as_of: Version | None, page_rows: int | None = None
) -> bytes:
    """The command that runs a statement.

    Raises:
        InvalidRequest: A parameter has a type that JSON doesn't have.
    """
    command: dict[str, Any] = {"sql": sql}
    if parameters is not None:
        command["parameters"] = dict(parameters) if isinstance(parameters, Mapping) else list(parameters)
    if as_of is not None:
        command["as_of"] = as_of.isoformat() if isinstance(as_of, datetime) else as_of
    if page_rows is not None:
        command["page_rows"] = page_rows
    return encode_object(command)


def search_statement(
    index: str, vector: Iterable[SupportsFloat], k: int, predicate: str | None
) -> tuple[str, list[Parameter]]:
    """The statement that searches a vector index, and the values that are bound to it.

    Raises:
        InvalidRequest: The vector is no sequence of finite numbers.
    """
    try:
        numbers = [] if isinstance(vector, str | bytes) else [float(number) for number in vector]
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"a vector is a sequence of numbers: {error}") from None
    if not numbers or not all(map(math.isfinite, numbers)):
        raise InvalidRequest(f"a vector is a sequence of finite numbers, one at least; given was {vector!r:.80}")
    values: list[Parameter] = [numbers, k, *([] if predicate is None else [predicate])]
    places = ", ".join(f"${place + 1}" for place in range(len(values)))
    name = index.replace("'", "''")
    return f"SELECT * FROM vector_search('{name}', {places})", values  # noqa: S608  # the name is quoted


def page_ticket(query_id: str, page: int, page_rows: int) -> bytes:
    """The ticket of a page, written by hand."""
    return encode_object({"query_id": query_id, "page": page, "page_rows": page_rows})


def renew_request(endpoint: bytes) -> bytes:
    """The body of the action `RenewFlightEndpoint`: a message whose field 1 is the serialized endpoint."""
    return _FIELD_1_BYTES + _varint(len(endpoint)) + endpoint


def _varint(number: int) -> bytes:
    """https://protobuf.dev/programming-guides/encoding/#varints: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while number > 0x7F:  # noqa: PLR2004  # the seven bits
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
