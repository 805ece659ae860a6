"""Formats, compression and damage: what is recognised, what is refused and in which words."""

from __future__ import annotations

import bz2
import gzip
import io
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingest.reading import read

from flightserver.errors import FlightserverError, InvalidRequest, LimitExceeded, NotFound
from flightserver.ingest.formats import open_source
from flightserver.ingest.source import Limits, Progress

if TYPE_CHECKING:
    from pathlib import Path

TABLE = pa.table({"a": list(range(1000)), "s": ["x", None] * 500})
CSV = b"a,s\n" + b"".join(f"{n},{'x' if n % 2 == 0 else ''}\n".encode() for n in range(1000))


def parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(TABLE, out, row_group_size=100)
    return out.getvalue()


def arrow(kind: str) -> bytes:
    out = io.BytesIO()
    with (pa.ipc.new_file if kind == "file" else pa.ipc.new_stream)(out, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=100)
    return out.getvalue()


def squeezed(data: bytes, codec: str) -> bytes:
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, codec) as stream:
        stream.write(data)
    return bytes(out.getvalue())


def zipped(*members: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


GOOD = {
    "f.csv.gz": gzip.compress(CSV),
    "two.csv.gz": gzip.compress(CSV[:500]) + gzip.compress(CSV[500:]),
    "f.csv.bz2": bz2.compress(CSV),
    "f.csv.zip": zipped(("f.csv", CSV)),
    "mac.zip": zipped(("f.tsv", CSV.replace(b",", b"\t")), ("__MACOSX/f.tsv", b"junk")),
    "no-extension": CSV,
    "f.parquet": parquet(),
    "parquet.csv": parquet(),
    "f.arrow": arrow("file"),
    "f.arrows": arrow("stream"),
    "file.arrow.gz": gzip.compress(arrow("file")),
    "stream.arrow.gz": gzip.compress(arrow("stream")),
}


@pytest.mark.parametrize("name", GOOD)
def test_content_decides_the_format(name: str, tmp_path: Path) -> None:
    assert read(tmp_path, name, GOOD[name]).equals(TABLE)


@pytest.mark.parametrize("codec", ["zstd", "lz4", "gzip", "bz2"])
def test_every_compression_is_read_as_a_stream(codec: str, tmp_path: Path) -> None:
    assert read(tmp_path, "f.csv", squeezed(CSV, codec)).equals(TABLE)


def damaged_arrow() -> bytes:
    """A batch with an index beyond its dictionary."""
    array = pa.DictionaryArray.from_arrays(pa.array([5]), pa.array(["x"]), safe=False)
    out = io.BytesIO()
    batch = pa.RecordBatch.from_arrays([array], ["s"])
    with pa.ipc.new_stream(out, batch.schema) as writer:
        writer.write_batch(batch)
    return out.getvalue()


BAD: dict[str, tuple[str, bytes, dict[str, Any], str]] = {
    "empty": ("f.csv", b"", {}, "f.csv is empty"),
    "only blanks": ("f.csv", b"\n \n", {}, "f.csv is empty"),
    "ragged": ("f.csv", b'a,b\n"x\ny",2\n3\n', {}, "f.csv: line 4 has 1 values, but the first line has 2: '3'"),
    "quote": ("f.csv", b'a,b\n1,"x\n2,3\n', {}, "f.csv ends within quotes: one is never closed"),
    "mixed encodings": ("f.csv", "a\nüü\n".encode() + b"\xfc\n", {}, "f.csv isn't utf-8 text: "),
    "fixed type": (
        "f.csv", b"a,b\n1,x\ny,2\n", {"column_types": {"a": "int64"}},
        "f.csv: column 'a', row 2: 'y' is no int64, which column_types asks for",
    ),
    "absent column": ("f.csv", CSV, {"column_types": {"z": "int64"}}, "f.csv has no column 'z' that"),
    "unknown type": ("f.csv", CSV, {"column_types": {"a": "foo"}}, "'foo' names no type; use one such as int64"),
    "too few names": ("f.csv", CSV, {"column_names": ["a"]}, "f.csv: the option column_names has 1 names, but"),
    "unknown option": ("f.csv", CSV, {"foo": 1}, "the options aren't valid: Object contains unknown field `foo`; "),
    "long delimiter": ("f.csv", CSV, {"delimiter": "ab"}, "the options aren't valid: Expected `str` of length <= 1"),
    "unknown encoding": ("f.csv", CSV, {"encoding": "zlib"}, "encoding 'zlib' isn't known"),
    "options of parquet": ("f.parquet", parquet(), {"delimiter": ","}, "the options aren't valid: Object contains"),
    "unknown format": ("f.csv", CSV, {"file_format": "xlsx"}, "format 'xlsx' isn't known; there are csv, tsv,"),
    "wrong format": ("f.x", parquet(), {"file_format": "csv"}, "f.x should be csv, but it is parquet"),
    "not parquet": ("f.parquet", CSV, {"file_format": "parquet"}, "f.parquet should be parquet, but it doesn't begin"),
    "cut gzip": ("f.csv.gz", gzip.compress(CSV)[:-9], {}, "f.csv.gz can't be read, it is damaged"),
    "cut parquet": ("f.parquet", parquet()[:-5], {}, "f.parquet can't be read, it is damaged"),
    "packed parquet": ("f.parquet.gz", gzip.compress(parquet()), {}, "f.parquet.gz is a Parquet file inside of gzip"),
    "cut file": ("f.arrow", arrow("file")[:-20], {}, "f.arrow can't be read, it is damaged"),
    "cut stream": ("f.arrow", arrow("stream")[:-1000], {}, "f.arrow can't be read, it is damaged"),
    "false indices": ("f.arrow", damaged_arrow(), {}, "f.arrow: rows 1 to 1 aren't valid Arrow data: "),
    "two members": ("f.zip", zipped(("a.csv", CSV), ("b.csv", CSV)), {}, "f.zip is a zip archive with 2 files"),
    "no member": ("f.zip", zipped(), {}, "f.zip is a zip archive with 0 files"),
    "cut zip": ("f.zip", zipped(("a.csv", CSV))[:60], {}, "f.zip can't be read, it is damaged"),
    "old feather": ("f.feather", b"FEA1" + b"\0" * 100, {}, "f.feather is a Feather file of version 1"),
    "database": ("f.db", b"SQLite format 3\0", {}, "f.db is an SQLite database; export its tables"),
    "binary": ("f.bin", bytes(range(256)) * 20, {}, "f.bin is neither text nor Parquet nor Arrow"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_in_words_that_help(case: str, tmp_path: Path) -> None:
    name, content, options, text = BAD[case]

    with pytest.raises(InvalidRequest) as caught:
        read(tmp_path, name, content, **options)

    assert str(caught.value).startswith(text)
    assert str(tmp_path) not in str(caught.value)


def test_any_single_damaged_stretch_of_a_binary_file_is_an_error_or_the_same_rows(tmp_path: Path) -> None:
    for whole in (parquet(), arrow("file"), arrow("stream"), gzip.compress(CSV)):
        for start in range(8, len(whole), max(1, len(whole) // 40)):
            broken = whole[:start] + b"\xff" * 16 + whole[start + 16 :]
            try:
                assert read(tmp_path, "f", broken).num_columns >= 1
            except FlightserverError as error:
                assert str(tmp_path) not in str(error)  # noqa: PT017  # damage that changes values only is no error


def test_a_file_that_unpacks_to_more_than_the_limit_is_refused(tmp_path: Path) -> None:
    bomb = gzip.compress(b"a,b\n" + b"1,2\n" * 1_000_000)

    with pytest.raises(LimitExceeded, match=r"bomb.csv.gz unpacks to more than 100,000 bytes"):
        read(tmp_path, "bomb.csv.gz", bomb, limits=Limits(decompressed_bytes=100_000))


def test_a_record_over_the_limit_is_refused(tmp_path: Path) -> None:
    text = "a,b\n" + '1,"' + "x" * 10_000 + '"\n'

    with pytest.raises(LimitExceeded, match="has a record of more than 5,000 bytes"):
        read(tmp_path, "f.csv", text, limits=Limits(block_bytes=100, record_bytes=5000))


def test_what_isn_t_there_or_isn_t_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"absent.csv: there is no such file"):
        open_source(tmp_path / "absent.csv")
    with pytest.raises(InvalidRequest, match="isn't a regular file"):
        open_source(tmp_path, name="directory")


def test_progress_counts_the_bytes_of_the_file_as_it_lies_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "f.csv.gz"
    path.write_bytes(gzip.compress(CSV))
    seen: list[Progress] = []

    for _ in open_source(path, progress=seen.append).batches():
        pass

    assert seen[-1] == Progress("read", path.stat().st_size, path.stat().st_size)
    assert {each.stage for each in seen} == {"inspect", "read"}


MEMORY = """
import sys, pathlib, psutil
from flightserver.ingest.formats import open_source
path, me = pathlib.Path(sys.argv[1]), psutil.Process()
before = me.memory_info().rss
peak, rows = before, 0
for batch in open_source(path, progress=lambda _: None).batches():
    rows += batch.num_rows
    peak = max(peak, me.memory_info().rss)
print(rows, peak - before)
"""


def test_memory_is_bounded_whatever_the_size_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    rows = 3_300_000
    with path.open("w") as out:
        out.write("id,price,name,day\n")
        lines = [
            f'{n},{n / 7:.3f},"name, number {n} of a long list of names and more names",2020-01-{n % 28 + 1:02}\n'
            for n in range(3300)
        ]
        for _ in range(1000):
            out.writelines(lines)

    done = subprocess.run([sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, check=True)

    read_rows, growth = map(int, done.stdout.split())
    assert path.stat().st_size > 250_000_000
    assert read_rows == rows
    assert growth < 250_000_000
