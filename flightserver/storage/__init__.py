"""Buckets and objects: bytes and etags. Knows no tables."""
