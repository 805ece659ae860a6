"""The wire: bytes in, domain calls, bytes out. The only floor that knows pyarrow.flight and protobuf."""
