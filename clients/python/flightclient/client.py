"""The client: queries, pages, uploads, ingestion and actions of a flightserver."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from flightclient import actions
from flightclient.buckets import Buckets
from flightclient.commands import Parameters, Version, encode_object, query_command, search_statement
from flightclient.connection import Connection, Credential, Tls
from flightclient.indexes import Indexes
from flightclient.pages import PagedResult
from flightclient.results import IngestResult, Progress, TableInfo, decode_object, decode_result
from flightclient.translation import translated
from flightclient.uploads import send_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from os import PathLike
    from types import TracebackType
    from typing import SupportsFloat

    from flightclient.streams import Stream

DEFAULT_MODE = "create_append"
"""Adds to a dataset, and creates one that isn't there."""


def connect(  # noqa: PLR0913  # what a connection needs; all but the address have defaults
    uri: str,
    token: str | None = None,
    bucket: str | None = None,
    *,
    user: str | None = None,
    password: str | None = None,
    tls_roots: str | PathLike[str] | None = None,
    tls_certificate: str | PathLike[str] | None = None,
    tls_key: str | PathLike[str] | None = None,
) -> Client:
    """Connect to a server.

    Args:
        uri: Its address, such as `grpc://127.0.0.1:31337`, or `grpc+tls://host:31337`.
        token: An API token or another bearer token, where the server has users.
        user: Name of a user, instead of a token.
        password: Its password.
        bucket: The bucket for writes, in which unqualified names are looked up first; None for `primary`.
        tls_roots: File of authorities in PEM that the server's certificate is checked by; None for those of gRPC.
        tls_certificate: File of the client's own certificate, for a server that asks for one.
        tls_key: File of its private key.

    Raises:
        InvalidRequest: The address or a file can't be read, or token, user and password don't go together. Whether a
            server answers there shows in the first call.
    """
    return Client(Connection(uri, Credential(token, user, password), bucket, Tls(tls_roots, tls_certificate, tls_key)))


class Client:
    """Made by `connect`; a context manager. Methods may be called from any thread.

    All methods raise the errors of `flightclient.errors`.

    Attributes:
        buckets: Makes, changes and looks at buckets, and moves datasets between them.
        indexes: Lists, makes, refreshes, moves and drops vector indexes.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.buckets = Buckets(connection)
        self.indexes = Indexes(connection)

    def close(self) -> None:
        """Close the connection; may be repeated."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def query(self, sql: str, parameters: Parameters | None = None, as_of: Version | None = None) -> pa.Table:
        """Run a statement and return all its rows; one that changes data answers a row with the count.

        Args:
            sql: One statement.
            parameters: Values for `?` or `$1` by place, or for `$name` by name.
            as_of: Read the tables as they were at that version or time.
        """
        with self.stream(sql, parameters, as_of) as stream:
            return stream.read_all()

    def stream(self, sql: str, parameters: Parameters | None = None, as_of: Version | None = None) -> Stream:
        """Run a statement and return its rows as they come; arguments as those of `query`."""
        return self._connection.rows(query_command(sql, parameters, as_of))

    def pages(
        self, sql: str, page_rows: int, parameters: Parameters | None = None, as_of: Version | None = None
    ) -> PagedResult:
        """Run a query once and keep its result on the server, to be read by pages.

        Args:
            sql: One query.
            page_rows: Rows of a page.
            parameters: As those of `query`.
            as_of: As that of `query`.
        """
        return PagedResult(self._connection, self._connection.info(query_command(sql, parameters, as_of, page_rows)))

    def search(
        self,
        index: str,
        vector: Iterable[SupportsFloat],
        k: int = 10,
        filter: str | None = None,  # noqa: A002  # what the SQL function calls it
        as_of: Version | None = None,
    ) -> pa.Table:
        """The rows that are nearest to a vector, the nearest first, with their distances in the column `_distance`.

        Args:
            index: Name of a vector index, or bucket and name as SQL writes them: `archive."My index"`.
            vector: As many numbers as those of the index have: a list, or an array of numpy.
            k: How many rows.
            filter: A predicate in SQL over the columns of the dataset; the rows are the nearest of those for which it
                is true.
            as_of: As that of `query`.
        """
        sql, values = search_statement(index, vector, k, filter)
        return self.query(sql, values, as_of)

    def tables(self) -> list[TableInfo]:
        """The tables of all buckets."""
        found = []
        for info in self._connection.flights():
            bucket, name = (part.decode() for part in info.descriptor.path)
            found.append(TableInfo(bucket, name, info.total_records, info.total_bytes, info.schema))
        return found

    def upload(self, path: str | PathLike[str], progress: Callable[[Progress], None] | None = None) -> str:
        """Send a file, to be ingested by the action `ingest.file`.

        Args:
            path: A file on this side.
            progress: Is told how many bytes the server has received.

        Returns:
            The upload's id. The server keeps it until it is ingested or too old.

        Raises:
            ProtocolError: The server received other bytes than were sent.
        """
        return send_file(self._connection, Path(path), progress).upload

    def ingest_file(  # noqa: PLR0913  # what the action takes, with names and types
        self,
        path: str | PathLike[str],
        dataset: str,
        mode: str = DEFAULT_MODE,
        options: Mapping[str, Any] | None = None,
        *,
        file_format: str | None = None,
        primary_key: Sequence[str] = (),
        evolve: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> IngestResult:
        """Send a file and load it into a dataset.

        Args:
            path: A file on this side: CSV, JSON, Parquet or Arrow, compressed or not.
            dataset: Where its rows go.
            mode: `create`, `append`, `replace`, `create_append` or `upsert`.
            options: What is known of the file, such as `{"null_values": ["NA"]}`.
            file_format: Of the file; found out if None.
            primary_key: Columns that identify a row of a new dataset.
            evolve: Whether an append may add columns and widen types.
            progress: Is told how far the upload and each stage after it have come.
        """
        request: dict[str, Any] = {"source": self.upload(path, progress), "dataset": dataset, "mode": mode}
        request |= {"options": dict(options or {}), "primary_key": list(primary_key), "evolve": evolve}
        if file_format is not None:
            request["format"] = file_format
        return decode_result(IngestResult, self.call("ingest.file", request, progress))

    def ingest(
        self,
        rows: pa.Table | pa.RecordBatch | pa.RecordBatchReader,
        dataset: str,
        mode: str = DEFAULT_MODE,
        *,
        evolve: bool = False,
        primary_key: Sequence[str] = (),
    ) -> IngestResult:
        """Send rows into a dataset.

        Args:
            rows: Anything that has an Arrow stream: of pyarrow, polars, DuckDB or pandas.
            dataset: Where they go.
            mode: `create`, `append`, `replace`, `create_append` or `upsert`.
            evolve: Whether an append may add columns and widen types.
            primary_key: Columns that identify a row of a new dataset.
        """
        command = {"ingest": dataset, "mode": mode, "evolve": evolve, "primary_key": list(primary_key)}
        return decode_result(IngestResult, self._send(command, rows))

    def delete(self, keys: pa.Table | pa.RecordBatch | pa.RecordBatchReader, dataset: str) -> int:
        """Delete the rows that have these keys; returns how many.

        Args:
            keys: As `rows` of `ingest`; its columns are those of the primary key, or any if the dataset has none.
            dataset: Where the rows are.
        """
        return int(self._send({"delete": dataset}, keys)["rows"])

    def _send(
        self, command: Mapping[str, Any], rows: pa.Table | pa.RecordBatch | pa.RecordBatchReader
    ) -> dict[str, Any]:
        with translated():
            reader = pa.RecordBatchReader.from_stream(rows)
            writer, answers = self._connection.put(encode_object(command), reader.schema)
            with writer:
                for batch in reader:
                    writer.write_batch(batch)
                writer.done_writing()
                answer = answers.read()
        return decode_object(b"" if answer is None else answer.to_pybytes())

    def action(self, kind: str, body: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """Run an action and yield each JSON object that it answers, progress included, as it comes.

        Args:
            kind: `family.verb`, such as `dataset.describe`.
            body: Its request.
        """
        return actions.answers(self._connection, kind, body or {})

    def call(
        self, kind: str, body: Mapping[str, Any] | None = None, progress: Callable[[Progress], None] | None = None
    ) -> dict[str, Any]:
        """Run an action and return its result.

        Args:
            kind: `family.verb`, such as `dataset.describe`.
            body: Its request.
            progress: Is told how far a long action is.

        Raises:
            ProtocolError: It answered no result.
        """
        return actions.result(self._connection, kind, body or {}, progress)
