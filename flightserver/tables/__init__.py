"""Datasets as Arrow tables: schemas, segments and the write path."""
