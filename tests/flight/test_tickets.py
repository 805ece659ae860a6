"""Tickets: self-contained, signed, expiring; and the one that is written by hand."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightserver.errors import (
    BackendUnavailable,
    FlightserverError,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    Unauthenticated,
)
from flightserver.flight.sql.results import statement_ticket
from flightserver.flight.tickets import (
    MAX_TICKET_BYTES,
    MetadataTicket,
    PageTicket,
    Signer,
    StatementTicket,
    TableTicket,
    Ticket,
    load_or_create_key,
)

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_790_000_000
KEY = bytes(range(32))
SIGNER = Signer(KEY, clock=lambda: NOW)

expiries = st.integers(NOW + 1, 2**40)
texts = st.text(max_size=20)
times = st.datetimes(timezones=st.just(UTC))
tickets: st.SearchStrategy[Ticket] = st.one_of(
    st.builds(
        StatementTicket,
        execution=texts,
        sql=texts,
        expires_at=expiries,
        parameters=st.none() | st.binary(),
        as_of=st.none() | st.integers(0, 2**63 - 1) | times,
        bucket=st.none() | texts,
        schema=st.none() | texts,
        query_timeout=st.none() | st.floats(0, 1e9),
        user=texts,
    ),
    st.builds(
        TableTicket, bucket=texts, dataset=texts, version=st.integers(0, 2**63 - 1), expires_at=expiries, user=texts
    ),
    st.builds(
        MetadataTicket,
        command=st.binary(),
        expires_at=expiries,
        user=texts,
    ),
    st.builds(
        PageTicket,
        query_id=texts,
        page=st.integers(0, 2**40),
        page_rows=st.none() | st.integers(1, 2**40),
        server=texts,
        expires_at=st.none() | expiries,
    ),
)


@given(tickets)
def test_a_signed_ticket_is_read_back(ticket: Ticket) -> None:
    assert SIGNER.verify(SIGNER.sign(ticket)) == ticket
    assert SIGNER.decode_ticket(SIGNER.sign(ticket)) == ticket
    assert SIGNER.decode_ticket(statement_ticket(SIGNER.sign(ticket))) == ticket


@given(tickets, st.integers(0))
def test_a_ticket_with_any_bit_flipped_is_refused(ticket: Ticket, bit: int) -> None:
    data = bytearray(SIGNER.sign(ticket))
    bit %= len(data) * 8
    data[bit // 8] ^= 1 << bit % 8

    with pytest.raises((InvalidRequest, Unauthenticated)):
        SIGNER.decode_ticket(bytes(data))


def test_each_bit_of_a_ticket_is_protected() -> None:
    good = SIGNER.sign(PageTicket("q", 1, 10, "s", NOW + 1))

    for bit in range(len(good) * 8):
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises((InvalidRequest, Unauthenticated)):
            SIGNER.decode_ticket(bytes(data))


def test_a_truncated_ticket_is_refused() -> None:
    good = SIGNER.sign(PageTicket("q", 1, 10, "s", NOW + 1))

    for length in range(len(good)):
        with pytest.raises((InvalidRequest, Unauthenticated)):
            SIGNER.decode_ticket(good[:length])


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_our_errors(data: bytes) -> None:
    for candidate in (data, b"FST1" + data, b"{" + data):
        with suppress(FlightserverError):
            SIGNER.decode_ticket(candidate)


def test_a_ticket_of_another_key_is_unauthenticated() -> None:
    data = Signer(bytes(32), clock=lambda: NOW).sign(PageTicket("q", 0, expires_at=NOW + 1))

    with pytest.raises(Unauthenticated, match="not signed by this server"):
        SIGNER.verify(data)


def test_a_ticket_is_good_until_it_expires_and_then_says_so() -> None:
    data = SIGNER.sign(StatementTicket("e", "SELECT 1", NOW + 60))

    assert isinstance(Signer(KEY, clock=lambda: NOW + 59.9).verify(data), StatementTicket)
    with pytest.raises(NotFound, match="This ticket expired 5 seconds ago"):
        Signer(KEY, clock=lambda: NOW + 65).verify(data)


def test_a_well_signed_ticket_of_an_unknown_kind_is_refused() -> None:
    payload = msgspec.msgpack.encode({"type": "teapot"})

    with pytest.raises(InvalidRequest, match="another version of the server"):
        SIGNER.verify(b"FST1" + SIGNER._signature(payload) + payload)


def test_a_ticket_that_clients_could_not_receive_is_not_made() -> None:
    with pytest.raises(LimitExceeded, match=f"at most {MAX_TICKET_BYTES - 36} are allowed"):
        SIGNER.sign(StatementTicket("e", "SELECT 1", NOW + 1, parameters=bytes(MAX_TICKET_BYTES)))


def test_a_ticket_that_is_too_long_is_refused_before_it_is_hashed() -> None:
    with pytest.raises(InvalidRequest, match="Expected a ticket of this server"):
        SIGNER.verify(b"FST1" + bytes(MAX_TICKET_BYTES))


def test_what_is_no_ticket_at_all_is_told_where_tickets_come_from() -> None:
    with pytest.raises(InvalidRequest, match="Tickets come from GetFlightInfo"):
        SIGNER.decode_ticket(b"SELECT 1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"query_id": "q", "page": 3, "page_rows": 100}', PageTicket("q", 3, 100)),
        (' \n{"page": 0, "query_id": "q"}', PageTicket("q", 0)),
    ],
)
def test_the_ticket_of_a_page_may_be_written_by_hand(text: str, expected: PageTicket) -> None:
    assert SIGNER.decode_ticket(text.encode()) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "this one is not"),
        ('{"query_id": "q"}', "missing required field `page`"),
        ('{"query_id": "q", "page": "1"}', r"Expected `int`, got `str` - at `\$\.page`"),
        ('{"query_id": "q", "page": 1, "server": "x"}', "unknown field `server`"),
        ('{"query_id": "q", "page": -1}', "page -1; pages are numbered from 0"),
        ('{"query_id": "q", "page": 1, "page_rows": 0}', "pages of 0 rows"),
        ('{"query_id": "\udcff", "page": 1}', "this one is not"),
    ],
)
def test_a_handwritten_ticket_that_is_wrong_says_why(text: str, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        SIGNER.decode_ticket(text.encode(errors="surrogateescape"))


def test_times_with_a_zone_survive_the_ticket() -> None:
    ticket = StatementTicket("e", "SELECT 1", NOW + 1, as_of=datetime(2026, 11, 21, 9, 30, tzinfo=UTC))

    assert SIGNER.verify(SIGNER.sign(ticket)) == ticket


def test_a_key_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="32 bytes, this one has 5"):
        Signer(b"short")


def test_the_key_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "ticket.key"

    key = load_or_create_key(path)

    assert len(key) == 32
    assert load_or_create_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_servers_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        keys = list(pool.map(load_or_create_key, [tmp_path / "ticket.key"] * 64))

    assert len(set(keys)) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "ticket.key"
    load_or_create_key(path)
    path.chmod(mode)

    with pytest.raises(InvalidRequest, match=f"'ticket.key' has mode {mode:04o}") as caught:
        load_or_create_key(path)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_damaged_key_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "ticket.key"
    path.write_bytes(bytes(length))
    path.chmod(0o600)

    with pytest.raises(InvalidRequest, match=f"expected 32 bytes, found {length}"):
        load_or_create_key(path)


def test_a_key_whose_directory_is_missing_is_reported_without_its_path(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match=r"'ticket\.key' cannot be read or made: No such file") as caught:
        load_or_create_key(tmp_path / "missing" / "ticket.key")
    assert str(tmp_path) not in str(caught.value)
