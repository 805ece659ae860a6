"""Actions: a JSON object in, JSON objects out, the last of them the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flightclient.commands import encode_object
from flightclient.errors import ProtocolError
from flightclient.results import Progress, decode_object, decode_result

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from flightclient.connection import Connection

Tell = Callable[[Progress], None] | None
"""Is told how far a long call is."""


def answers(connection: Connection, kind: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Each JSON object that an action answers, progress included, as it comes."""
    for answer in connection.action(kind, encode_object(body)):
        yield decode_object(answer)


def result(connection: Connection, kind: str, body: Mapping[str, Any], progress: Tell = None) -> dict[str, Any]:
    """The result of an action.

    Args:
        connection: Of the server.
        kind: `family.verb`.
        body: Its request.
        progress: Is told how far a long action is.

    Raises:
        ProtocolError: It answered none.
    """
    found: dict[str, Any] | None = None
    for answer in answers(connection, kind, body):
        if progress is not None and "progress" in answer:
            progress(decode_result(Progress, answer["progress"]))
        found = answer.get("result", found)
    if found is None:
        raise ProtocolError(f"action {kind!r} ended without a result")
    return found


def given(**values: Any) -> dict[str, Any]:
    """A request of those values that are not None; what isn't sent is as the server has it by default."""
    return {name: value for name, value in values.items() if value is not None}
