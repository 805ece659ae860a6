"""Types of text columns, found from all of their values.

Theory of operation: every batch of a text column is classified by vectorised tests, each of which is the very
conversion that reading will do later, so a column that was classified always converts. `ColumnEvidence` joins the
classes of all batches in a small lattice::

    empty < bool                                         < text
    empty < integer < decimal (over 64 bits) < float     < text
    empty < date < timestamp                             < text
    empty < zoned timestamp                              < text
    empty < time                                         < text

A type must give back what was written: numbers with leading zeros (codes), with a plus sign and no point (telephone
numbers), in hexadecimal, with more than 38 digits or beyond the range of a double are text. An integer
among fractions is a measurement and becomes a double.

Null spellings: a spelling such as NA counts as null for the whole file when a column that is otherwise all numbers,
dates or booleans has it; one that occurs only among text is text (Namibia). NaN is a value in a column of fractions,
and a null spelling only where a column that can't hold a NaN has it.

Invariant: the outcome depends on the set of values alone, not on their order or on how they were cut into batches.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

NULL_SPELLINGS = (
    "NA", "N/A", "n/a", "na", "#N/A", "#NA", "NULL", "Null", "null", "None", "none", "NIL", "nil", "\\N", "-", "--",
    "?", ".", "(null)", "<NA>", "<null>", "missing", "NaT",
)  # fmt: skip
"""What R, pandas, SQL tools, MySQL and spreadsheets write for a missing value."""
NAN_SPELLINGS = ("NaN", "nan", "NAN")
_NANS = pa.array(NAN_SPELLINGS)
_NULLS = pa.array([*NULL_SPELLINGS, *NAN_SPELLINGS, ""])
_BOOLEANS = pa.array(["true", "True", "TRUE", "false", "False", "FALSE"])

_INTEGER = r"^-?(0|[1-9][0-9]*)$"
_DECIMAL = r"^-?(0|[1-9][0-9]{0,37})$"
_DECIMAL_DIGITS = 38
"""The most that decimal128 holds."""
_LONG_INTEGER = r"^-?[0-9]{39,}$"
_LEADING_ZERO = r"^[+-]?0[0-9]"
_PLUS_DIGITS = r"^\+[0-9]+$"
_INFINITY = r"(?i)^[+-]?inf(inity)?$"
_TIME = r"^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,9})?)?$"
_NANOSECONDS = r"\.[0-9]{7,9}([^0-9]|$)"
_NS_RANGE = (pa.scalar("1677-09-22", pa.string()), pa.scalar("2262-04-11", pa.string()))
"""The whole days that 64-bit nanoseconds since 1970 reach."""
_PROBE = 64
"""Values that are tried first, spread over the batch. A failing cast goes through the whole batch and makes an error
of each misfit, which takes seconds for a million."""


class Kind(enum.Enum):
    """What the values of a text column are."""

    EMPTY = "empty"
    BOOL = "bool"
    INTEGER = "integer"
    DECIMAL = "decimal"
    FLOAT = "float"
    DATE = "date"
    TIMESTAMP = "timestamp"
    ZONED = "zoned"
    TIME = "time"
    TEXT = "text"


_CHAINS = (
    (Kind.INTEGER, Kind.DECIMAL, Kind.FLOAT),
    (Kind.DATE, Kind.TIMESTAMP),
)
TEMPORAL = (Kind.DATE, Kind.TIMESTAMP, Kind.ZONED, Kind.TIME)


def join(first: Kind, second: Kind) -> Kind:
    """Return the narrowest kind that holds values of both."""
    if first is second or second is Kind.EMPTY:
        return first
    if first is Kind.EMPTY:
        return second
    for chain in _CHAINS:
        if first in chain and second in chain:
            return max(first, second, key=chain.index)
    return Kind.TEXT


@dataclass(slots=True)
class ColumnEvidence:
    """What is known of a column after some of its batches.

    Args:
        kinds: The kinds that are looked for.
        spellings_count: Look for null spellings; off when the user named them.
        decimal_point: What separates fractions.
    """

    kinds: tuple[Kind, ...] = tuple(kind for kind in Kind if kind not in {Kind.EMPTY, Kind.TEXT})
    spellings_count: bool = True
    decimal_point: str = "."
    kind: Kind = Kind.EMPTY
    nanoseconds: bool = False
    beyond_nanoseconds: bool = False
    _spellings: set[str] = field(default_factory=set)

    def add(self, values: pa.Array) -> None:
        """Take in a batch of the column's text; nulls say nothing."""
        if self.kind is Kind.TEXT:
            return
        values = values.drop_null()
        if self.spellings_count:
            values = self._without_spellings(values)
        if len(values) == 0:
            return
        kind = self._classify(values)
        self.kind = join(self.kind, kind)
        if kind in TEMPORAL:
            self._note_resolution(values)

    @property
    def null_spellings(self) -> set[str]:
        """The null spellings that this column proves for the whole file."""
        if self.kind is Kind.EMPTY or pa.types.is_string(self.type):
            return set()
        if self.kind is Kind.FLOAT:
            return self._spellings.difference(NAN_SPELLINGS)
        return self._spellings

    @property
    def type(self) -> pa.DataType:
        """The Arrow type that holds all values seen."""
        unit = "ns" if self.nanoseconds else "us"
        if self.nanoseconds and self.beyond_nanoseconds:
            return pa.string()
        if self.kind is Kind.EMPTY and self._spellings and self._spellings.issubset(NAN_SPELLINGS):
            return pa.float64()
        types = {
            Kind.BOOL: pa.bool_(),
            Kind.INTEGER: pa.int64(),
            Kind.DECIMAL: pa.decimal128(38, 0),
            Kind.FLOAT: pa.float64(),
            Kind.DATE: pa.date32(),
            Kind.TIMESTAMP: pa.timestamp(unit),
            Kind.ZONED: pa.timestamp(unit, tz="UTC"),
            Kind.TIME: pa.time64(unit),
        }
        return types.get(self.kind, pa.string())

    def _without_spellings(self, values: pa.Array) -> pa.Array:
        is_spelling = pc.is_in(values, value_set=_NULLS)
        if not is_spelling.true_count:
            return values
        self._spellings.update(pc.unique(values.filter(is_spelling)).to_pylist())
        return values.filter(pc.invert(is_spelling))

    def _classify(self, values: pa.Array) -> Kind:
        step = max(1, len(values) // _PROBE)
        probe = values.take(pa.array(range(0, len(values), step)))
        likely = [self.kind, *self.kinds] if self.kind in self.kinds else self.kinds
        return next((kind for kind in likely if self._fits(kind, probe) and self._fits(kind, values)), Kind.TEXT)

    def _fits(self, kind: Kind, values: pa.Array) -> bool:
        return _TESTS[kind](values, self.decimal_point)

    def _note_resolution(self, values: pa.Array) -> None:
        if not self.nanoseconds and self.kind is not Kind.DATE:
            self.nanoseconds = bool(pc.any(pc.match_substring_regex(values, _NANOSECONDS)).as_py())
        if not self.beyond_nanoseconds and self.kind is not Kind.TIME:
            bounds = pc.min_max(values)
            low, high = _NS_RANGE
            self.beyond_nanoseconds = bounds["min"].as_py() < low.as_py() or bounds["max"].as_py() >= high.as_py()


def convert(values: pa.Array, target: pa.DataType, point: str = ".") -> pa.Array:
    """Read texts as values of `target`.

    Numbers may have blanks around them. `point` is what separates their fractions.

    Raises:
        pa.ArrowInvalid: A text is no value of that type.
    """
    if target == values.type:
        return values
    if pa.types.is_time(target):
        # Arrow has no cast from text to time of day; a timestamp of the first day has the same digits.
        instants = pc.cast(pc.binary_join_element_wise("1970-01-01T", values, ""), pa.timestamp(_unit(target)))
        return pc.cast(instants, target)
    if pa.types.is_floating(target) or (pa.types.is_decimal(target) and point != "."):
        values = _with_point(values, point)
    try:
        return pc.cast(values, target)
    except pa.ArrowInvalid:
        return pc.cast(_trimmed(values), target)


def converts(values: pa.Array, target: pa.DataType, point: str = ".") -> bool:
    """Tell whether all `values` can be read as `target`."""
    try:
        convert(values, target, point)
    except pa.ArrowInvalid:
        return False
    return True


def first_misfit(values: pa.Array, target: pa.DataType, point: str = ".") -> int:
    """Return the place of the first value that can't be read as `target`, by halving."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        if converts(values.slice(low, middle - low), target, point):
            low = middle
        else:
            high = middle
    return low


def _unit(time: pa.DataType) -> str:
    return "ns" if time.unit == "ns" else "us"


def _with_point(values: pa.Array, point: str) -> pa.Array:
    if point == ".":
        return values
    if pc.any(pc.match_substring(values, ".")).as_py():
        msg = f"a point although {point!r} separates fractions"
        raise pa.ArrowInvalid(msg)
    return pc.replace_substring(values, point, ".")


def _trimmed(values: pa.Array) -> pa.Array:
    return pc.ascii_trim(values, characters=" \t")


def _all(values: pa.Array, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(values, pattern)).as_py())


def _is_bool(values: pa.Array, _point: str) -> bool:
    return bool(pc.all(pc.is_in(values, value_set=_BOOLEANS)).as_py())


def _is_integer(values: pa.Array, _point: str) -> bool:
    try:
        numbers = convert(values, pa.int64())
    except pa.ArrowInvalid:
        return False
    # Comparing with what the numbers print as is ten times faster than matching, and nearly always enough.
    same = pc.equal(pc.cast(numbers, pa.string()), values)
    return same.false_count == 0 or _all(_trimmed(values), _INTEGER)


def _is_decimal(values: pa.Array, _point: str) -> bool:
    return _all(_trimmed(values), _DECIMAL)


def _is_float(values: pa.Array, point: str) -> bool:
    try:
        numbers = convert(values, pa.float64(), point)
    except pa.ArrowInvalid:
        return False
    texts = _trimmed(values)
    infinite = pc.is_inf(numbers)
    if infinite.true_count and not _all(texts.filter(infinite), _INFINITY):
        return False
    if _any_prefixed(texts, ("0", "-0", "+0"), _LEADING_ZERO) or _any_prefixed(texts, ("+",), _PLUS_DIGITS):
        return False
    is_long = pc.greater(pc.binary_length(texts), _DECIMAL_DIGITS)
    return not is_long.true_count or not pc.any(pc.match_substring_regex(texts.filter(is_long), _LONG_INTEGER)).as_py()


def _any_prefixed(texts: pa.Array, prefixes: Iterable[str], pattern: str) -> bool:
    """Match `pattern` where a value has one of the prefixes: comparing bytes first spares most of the matching."""
    for prefix in prefixes:
        suspects = texts.filter(pc.starts_with(texts, prefix))
        if len(suspects) and pc.any(pc.match_substring_regex(suspects, pattern)).as_py():
            return True
    return False


def _is_date(values: pa.Array, _point: str) -> bool:
    return converts(values, pa.date32())


def _is_timestamp(values: pa.Array, _point: str) -> bool:
    return converts(values, pa.timestamp("us")) or converts(values, pa.timestamp("ns"))


def _is_zoned(values: pa.Array, _point: str) -> bool:
    return converts(values, pa.timestamp("us", tz="UTC")) or converts(values, pa.timestamp("ns", tz="UTC"))


def _is_time(values: pa.Array, _point: str) -> bool:
    return _all(values, _TIME)


_TESTS: dict[Kind, Callable[[Any, str], bool]] = {
    Kind.BOOL: _is_bool,
    Kind.INTEGER: _is_integer,
    Kind.DECIMAL: _is_decimal,
    Kind.FLOAT: _is_float,
    Kind.DATE: _is_date,
    Kind.TIMESTAMP: _is_timestamp,
    Kind.ZONED: _is_zoned,
    Kind.TIME: _is_time,
}
