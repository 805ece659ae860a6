"""Fixtures of the tests that need a real S3 server."""

from __future__ import annotations

from cephserver import ceph_server
from s3server import s3_bucket, s3_server

__all__ = ["ceph_server", "s3_bucket", "s3_server"]
