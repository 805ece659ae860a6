"""The protobuf protocol: what is on the wire, and how packed messages are told from text."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from hypothesis import given
from hypothesis import strategies as st

from flightserver.errors import InvalidRequest
from flightserver.flight.sql.protocol import SQL_PACKAGE, Packed, enum_values, message_class, pack, parse, unpack

if TYPE_CHECKING:
    from pathlib import Path

SOURCES = ["Flight.proto", "FlightSql.proto", "Status.proto"]


@pytest.mark.skipif(find_spec("grpc_tools") is None, reason="grpcio-tools compiles .proto files")
def test_the_committed_descriptors_are_those_of_the_proto_files(tmp_path: Path) -> None:
    package = str(files("flightserver.flight.sql"))
    output = tmp_path / "protocol.binpb"

    compiler = [sys.executable, "-m", "grpc_tools.protoc", "-I", package, "--include_imports"]
    subprocess.run([*compiler, f"--descriptor_set_out={output}", *SOURCES], check=True)

    def ours(data: bytes) -> dict[str, descriptor_pb2.FileDescriptorProto]:
        descriptors = descriptor_pb2.FileDescriptorSet.FromString(data)
        return {file.name: file for file in descriptors.file if file.name in SOURCES}

    committed = files("flightserver.flight.sql").joinpath("protocol.binpb").read_bytes()
    assert ours(output.read_bytes()) == ours(committed)
    assert set(ours(committed)) == set(SOURCES)


def test_other_libraries_may_register_the_same_messages_in_the_default_pool() -> None:
    other = descriptor_pb2.FileDescriptorProto(name="other/FlightSql.proto", package=SQL_PACKAGE, syntax="proto3")
    other.message_type.add(name="CommandGetCatalogs")

    descriptor_pool.Default().AddSerializedFile(other.SerializeToString())

    assert message_class(f"{SQL_PACKAGE}.CommandGetCatalogs")() is not None


def test_the_ids_of_sql_info_are_those_of_the_specification() -> None:
    ids = enum_values("SqlInfo")

    assert sorted(ids.values()) == [*range(12), 100, 101, *range(500, 577)]
    # one from each end of each run, as ADBC's and JDBC's sources have them
    assert ids["FLIGHT_SQL_SERVER_TRANSACTION"] == 8
    assert ids["FLIGHT_SQL_SERVER_INGEST_TRANSACTIONS_SUPPORTED"] == 11
    assert ids["SQL_IDENTIFIER_QUOTE_CHAR"] == 504
    assert ids["SQL_CATALOG_TERM"] == 531
    assert ids["SQL_MAX_BINARY_LITERAL_LENGTH"] == 541
    assert ids["SQL_DEFAULT_TRANSACTION_ISOLATION"] == 562
    assert ids["SQL_STORED_FUNCTIONS_USING_CALL_SYNTAX_SUPPORTED"] == 576


def test_a_packed_message_has_the_bytes_that_other_implementations_send() -> None:
    message = message_class(f"{SQL_PACKAGE}.CommandStatementQuery")(query="select 1")

    assert pack(message) == (
        b"\x0a\x43type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery\x12\x0a\x0a\x08select 1"
    )


def test_a_session_option_int64_has_fixed_width() -> None:
    value = message_class("arrow.flight.protocol.SessionOptionValue")(int64_value=-2)

    assert value.SerializeToString() == b"\x19\xfe" + b"\xff" * 7


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"SELECT 1",
        b"\nSELECT 1",
        b"\n\n\nSELECT 1",
        b"\r\nSELECT 1",
        b'{"sql": "SELECT 1"}',
        b'\n{"sql": "SELECT 1"}',
        b"\n" + b"S" * 83 + b"\x12\x00",
        b"\x12\x00",
        b"\x00",
        b"FST1",
    ],
)
def test_text_is_not_taken_for_a_packed_message(text: bytes) -> None:
    assert unpack(text) is None


@given(st.text())
def test_no_text_is_ever_taken_for_a_packed_message(text: str) -> None:
    assert unpack(text.encode()) is None


def test_the_fields_of_a_packed_message_may_come_in_any_order() -> None:
    url = b"type.googleapis.com/a.B"

    assert unpack(b"\x12\x01x\x0a" + bytes([len(url)]) + url) == Packed("a.B", b"x")


def test_a_truncated_packed_message_is_not_taken_for_text() -> None:
    data = pack(message_class(f"{SQL_PACKAGE}.CommandStatementQuery")(query="select 1"))

    with pytest.raises(InvalidRequest, match=r"Expected a google\.protobuf\.Any, found 70 bytes"):
        unpack(data[:70])


def test_a_message_that_does_not_decode_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"Expected a protobuf message .*CommandGetTables, found 1 bytes"):
        parse(f"{SQL_PACKAGE}.CommandGetTables", b"\xff")
