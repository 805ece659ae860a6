"""Where endpoints say that they can be read.

Without a location, clients read from the server that gave them the endpoint: all do, and it holds behind any proxy. An
administrator whose clients reach the server by another name than they were given, such as workers that were handed the
partitions of a result, names that by the setting `server.advertise`.

`arrow-flight-reuse-connection://?` says the same as no location does, but older clients take it for an address.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.flight as fl

from flightserver.errors import InvalidRequest


class Advertising:
    """Puts the advertised location into endpoints.

    Args:
        uri: Such as `grpc+tls://host:port`; empty for none.

    Raises:
        InvalidRequest: It is no URI that clients could use.
    """

    def __init__(self, uri: str) -> None:
        self._locations: list[fl.Location] = []
        if uri:
            if not uri.startswith(("grpc://", "grpc+tcp://", "grpc+tls://")):
                raise InvalidRequest(
                    f"server.advertise is {uri!r}; expected grpc://host:port or grpc+tls://host:port, or nothing"
                )
            try:
                self._locations = [fl.Location(uri)]
            except (pa.ArrowException, OSError) as error:
                raise InvalidRequest(f"server.advertise is {uri!r}, which is no URI: {error}") from None

    def located(self, info: fl.FlightInfo) -> fl.FlightInfo:
        """The same info, whose endpoints say where to read them if a location is advertised."""
        if not self._locations:
            return info
        endpoints = [
            fl.FlightEndpoint(one.ticket, self._locations, one.expiration_time, one.app_metadata)
            for one in info.endpoints
        ]
        return fl.FlightInfo(
            info.schema,
            info.descriptor,
            endpoints,
            info.total_records,
            info.total_bytes,
            ordered=info.ordered,
            app_metadata=info.app_metadata,
        )
