"""Tickets: signed, self-contained descriptions of what a DoGet shall return.

Theory of operation: a ticket is a frozen struct of the union `Ticket`. Its bytes are the magic `FST1`, an HMAC-SHA256
over the rest, and the struct in MessagePack, tagged with its kind. Nothing about a ticket is kept in the server, so
tickets survive a restart and work on every server that has the same key and catalog; pages alone live on one server,
whose name their ticket carries. The magic is the version of the format: another format gets another one.

A page may also be asked for by hand, as JSON `{"query_id": "...", "page": 0, "page_rows": 100}`. It needs no signature:
who may read a result is asked of the store that keeps it, whatever the ticket (`ResultStore.check_reader`).

Invariants:
    - Nothing of a signed ticket is read before its signature was found right, by a comparison in constant time.
    - The key is 32 bytes from the system's random source, in a file that only its owner can read.
    - Every signed ticket expires.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
import time
from datetime import datetime  # noqa: TC003  # msgspec resolves the annotations when it decodes
from typing import TYPE_CHECKING

import msgspec

from flightserver.catalog.entities import DatasetKey
from flightserver.errors import BackendUnavailable, Forbidden, InvalidRequest, LimitExceeded, NotFound, Unauthenticated
from flightserver.flight.sql.decoding import decode_command
from flightserver.flight.sql.messages import TicketStatementQuery

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flightserver.flight.callers import Note

_MAGIC = b"FST1"
_SIGNATURE_BYTES = 32
_HEAD_BYTES = len(_MAGIC) + _SIGNATURE_BYTES
_KEY_BYTES = 32
"""As long as the hash, as RFC 2104 section 3 advises."""

MAX_TICKET_BYTES = 8 * 1024 * 1024
"""Half of what the Go Flight client (ADBC) accepts as one message, because a FlightInfo holds the schema as well."""

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class StatementTicket(msgspec.Struct, frozen=True, tag="statement", omit_defaults=True):
    """A statement to run.

    Attributes:
        execution: The ULID of its one run: a statement that changes something runs once, however often it is fetched.
        sql: The statement as it was sent.
        expires_at: Seconds since 1970.
        parameters: Rows of bound values as an Arrow IPC stream, or None.
        as_of: Version or time of the snapshot to read; None reads the newest.
        bucket: Where bare names are looked up and written first.
        schema: The session's schema.
        query_timeout: Seconds it may run; None leaves it to the server.
        user: For whom.
        transaction: The one that it is part of, which lives on the server that wrote the ticket.
        described: Whether columns carry the metadata of Flight SQL.
        substrait: The statement as a Substrait plan, for which `sql` is a text to show.
        temporary: Whether it changes a temporary table, in whose place no dataset may be taken.
    """

    execution: str
    sql: str
    expires_at: int
    parameters: bytes | None = None
    as_of: int | datetime | None = None
    bucket: str | None = None
    schema: str | None = None
    query_timeout: float | None = None
    user: str = ""
    transaction: bytes | None = None
    described: bool = False
    substrait: bytes | None = None
    temporary: bool = False


class TableTicket(msgspec.Struct, frozen=True, tag="table", omit_defaults=True):
    """All rows of a dataset.

    Attributes:
        bucket: Where it is.
        dataset: Its name.
        version: The version of the catalog to read it at.
        expires_at: Seconds since 1970.
        user: For whom.
    """

    bucket: str
    dataset: str
    version: int
    expires_at: int
    user: str = ""


class DiffTicket(msgspec.Struct, frozen=True, tag="diff", omit_defaults=True):
    """Rows that differ between two versions of a dataset.

    Attributes:
        bucket: Where the dataset is.
        dataset: Its name now.
        start: The earlier version.
        end: The later one.
        expires_at: Seconds since 1970.
        user: For whom.
    """

    bucket: str
    dataset: str
    start: int
    end: int
    expires_at: int
    user: str = ""


class MetadataTicket(msgspec.Struct, frozen=True, tag="metadata", omit_defaults=True):
    """The answer to a metadata command of Flight SQL.

    Attributes:
        command: The command as it was sent, for `decoding.decode_command`.
        expires_at: Seconds since 1970.
        user: For whom.
    """

    command: bytes
    expires_at: int
    user: str = ""


class PageTicket(msgspec.Struct, frozen=True, tag="page", omit_defaults=True):
    """One page of a stored result.

    Attributes:
        query_id: Names the result.
        page: From 0.
        page_rows: Rows in a page; None is the size that the result was stored with.
        server: The name of the server that has it; empty if the ticket was written by hand.
        expires_at: Seconds since 1970; None if the ticket was written by hand.
    """

    query_id: str
    page: int
    page_rows: int | None = None
    server: str = ""
    expires_at: int | None = None


Ticket = StatementTicket | TableTicket | DiffTicket | MetadataTicket | PageTicket


class _HandwrittenPage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    query_id: str
    page: int
    page_rows: int | None = None


_decoder = msgspec.msgpack.Decoder(Ticket)
_encoder = msgspec.msgpack.Encoder()
_page_decoder = msgspec.json.Decoder(_HandwrittenPage)


class Signer:
    """Signs tickets, and reads those that were signed with the same key.

    Args:
        key: 32 secret bytes, see `load_or_create_key`.
        clock: Seconds since 1970.
    """

    def __init__(self, key: bytes, *, clock: Callable[[], float] = time.time) -> None:
        if len(key) != _KEY_BYTES:
            raise InvalidRequest(f"A ticket key has {_KEY_BYTES} bytes, this one has {len(key)}.")
        self._key = key
        self._clock = clock

    def sign(self, ticket: Ticket) -> bytes:
        """Returns the bytes of a ticket.

        Raises:
            LimitExceeded: They would be too many for clients; long statements and many bound values make them so.
        """
        payload = _encoder.encode(ticket)
        if len(payload) + _HEAD_BYTES > MAX_TICKET_BYTES:
            raise LimitExceeded(
                f"The statement and its bound values make a ticket of {len(payload)} bytes; at most "
                f"{MAX_TICKET_BYTES - _HEAD_BYTES} are allowed. Send the rows by DoExchange or load them into a table."
            )
        return _MAGIC + self._signature(payload) + payload

    def verify(self, data: bytes) -> Ticket:
        """Reads a signed ticket.

        Raises:
            InvalidRequest: It is not a ticket of this format.
            Unauthenticated: It was not signed with this key, or changed since.
            NotFound: It has expired.
        """
        if not data.startswith(_MAGIC) or not _HEAD_BYTES < len(data) <= MAX_TICKET_BYTES:
            raise InvalidRequest(
                f"Expected a ticket of this server, found {len(data)} other bytes. Tickets come from GetFlightInfo; "
                'the ticket of a page may be written by hand as {"query_id": "...", "page": 0, "page_rows": 100}.'
            )
        signature, payload = data[len(_MAGIC) : _HEAD_BYTES], data[_HEAD_BYTES:]
        if not hmac.compare_digest(signature, self._signature(payload)):
            raise Unauthenticated(
                "This ticket was not signed by this server, or was changed since. Ask for a new one by GetFlightInfo."
            )
        try:
            ticket: Ticket = _decoder.decode(payload)
        except msgspec.MsgspecError as error:
            raise InvalidRequest(f"This ticket is of another version of the server: {error}.") from None
        self._check_expiry(ticket)
        return ticket

    def decode_ticket(self, data: bytes) -> Ticket:
        """Reads any ticket that a client may send: signed, signed and wrapped for Flight SQL, or a page's by hand.

        Args:
            data: `Ticket.ticket` of a DoGet.

        Raises:
            InvalidRequest: It is none of these.
            Unauthenticated: It was not signed with this key, or changed since.
            NotFound: It has expired.
        """
        if data.startswith(_MAGIC):
            return self.verify(data)
        if data.lstrip().startswith(b"{"):
            return _handwritten_page(data)
        command = decode_command(data)
        return self.verify(command.statement_handle if isinstance(command, TicketStatementQuery) else data)

    def _signature(self, payload: bytes) -> bytes:
        return hmac.digest(self._key, _MAGIC + payload, hashlib.sha256)

    def _check_expiry(self, ticket: Ticket) -> None:
        if ticket.expires_at is not None and ticket.expires_at <= self._clock():
            ago = self._clock() - ticket.expires_at
            raise NotFound(f"This ticket expired {ago:.0f} seconds ago. Ask for a new one by GetFlightInfo.")


def note_ticket(note: Note, ticket: Ticket) -> None:
    """Note what a ticket asks for."""
    note.what = type(ticket).__name__
    match ticket:
        case StatementTicket(sql=sql, substrait=plan):
            note.about, note.is_sql = sql, plan is None
        case TableTicket(bucket=bucket, dataset=dataset) | DiffTicket(bucket=bucket, dataset=dataset):
            note.about = str(DatasetKey(bucket, dataset))
        case PageTicket(query_id=query_id, page=page):
            note.about = f"page {page} of {query_id[:8]}"


def check_owner(ticket: Ticket, user: str) -> None:
    """Return when a ticket was made for this user. The owner of a page is known where the page is.

    Raises:
        Forbidden: It was made for another.
    """
    if not isinstance(ticket, PageTicket) and ticket.user != user:
        raise Forbidden("this ticket was made for another user: ask for one of your own by GetFlightInfo")


def _handwritten_page(data: bytes) -> PageTicket:
    try:
        page = _page_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(
            f'A ticket in JSON is {{"query_id": "...", "page": 0, "page_rows": 100}}; this one is not: {error}.'
        ) from None
    if page.page < 0:
        raise InvalidRequest(f"The ticket asks for page {page.page}; pages are numbered from 0.")
    if page.page_rows is not None and page.page_rows < 1:
        raise InvalidRequest(f"The ticket asks for pages of {page.page_rows} rows; a page has at least 1.")
    return PageTicket(page.query_id, page.page, page.page_rows)


def load_or_create_key(path: Path) -> bytes:
    """Reads the ticket key of this data directory, or makes it.

    Servers that share a data directory and start at once agree on one key: it is written to a temporary file and linked
    to its name, which only one of them can do.

    Args:
        path: Its file; the directory exists.

    Raises:
        InvalidRequest: The file is no key, or others than its owner may read it.
        BackendUnavailable: It can be neither read nor written.
    """
    try:
        try:
            return _read_key(path)
        except FileNotFoundError:
            _create_key(path)
            return _read_key(path)
    except OSError as error:
        raise BackendUnavailable(f"The ticket key {path.name!r} cannot be read or made: {error.strerror}.") from None


def _read_key(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        if mode & _OTHERS:
            raise InvalidRequest(
                f"The ticket key {path.name!r} has mode {mode:04o}, so others may know it: delete it, and the next "
                "start makes a new one. Tickets that were given out become invalid."
            )
        key = file.read(_KEY_BYTES + 1)
    if len(key) != _KEY_BYTES:
        raise InvalidRequest(
            f"The ticket key {path.name!r} is damaged: expected {_KEY_BYTES} bytes, found {len(key)} or more. Delete "
            "it, and the next start makes a new one. Tickets that were given out become invalid."
        )
    return key


def _create_key(path: Path) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(descriptor)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
    finally:
        temporary.unlink()
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
