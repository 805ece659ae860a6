"""Fixtures of the tests that need a real S3 server."""

from __future__ import annotations

from s3server import s3_bucket, s3_server

__all__ = ["s3_bucket", "s3_server"]
