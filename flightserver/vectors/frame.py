"""The object that holds a generation of an index: its format, and how it is written and read.

Layout, all numbers little-endian::

    "FSVINDEX"                       8 bytes
    vectors                          float32 or float16, a row for each vector
    lengths                          float32, Euclidean, one for each vector
    codes                            uint64, words by vectors (`codes.py`)
    places                           uint32, the vector's row in its segment
    mean                             float32, of the coordinates of vectors scaled to length 1
    footer                           JSON: `Footer`
    length of the footer, its CRC-32 two uint32
    "FSVINDEX"                       8 bytes

Each section starts at a multiple of 64 bytes and has its CRC-32 in the footer. Vectors stand in the order of the
segments in the footer, and in each by place. Only whole segments are in a generation, rows that deltas have removed
too: which of them are alive is said by the version of the dataset that is searched, so that a generation serves any.

Invariant: a frame that `Frame.read` has returned is whole: all of its checksums were compared.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

import msgspec
import numpy as np

from flightserver.catalog.indexes import PRECISIONS
from flightserver.errors import BackendUnavailable
from flightserver.vectors.codes import words_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from flightserver.storage.objects import ObjectWriter

MAGIC = b"FSVINDEX"
FORMAT = 1
_ALIGNMENT = 64
_TAIL = 8 + len(MAGIC)
_MOST_FOOTER = 1024
"""About what the footer takes beside its segments."""
_SEGMENT_BYTES = 64
"""A segment in the footer: an id of 26 characters and a number."""


class Section(msgspec.Struct, frozen=True):
    """Where an array lies in the object, and the CRC-32 of its bytes."""

    offset: int
    bytes: int
    crc32: int


class Footer(msgspec.Struct, frozen=True):
    """What an object says of itself.

    Attributes:
        format: `FORMAT`.
        index: Id of the index.
        generation: Id of the generation.
        metric: Of the index.
        precision: float32 or float16.
        dimension: Numbers of a vector.
        segments: Id of each segment, and how many vectors of it there are.
        shortest: The least length of a vector.
        longest: The greatest.
        sections: By name.
    """

    format: int
    index: str
    generation: str
    metric: str
    precision: str
    dimension: int
    segments: list[tuple[str, Annotated[int, msgspec.Meta(ge=0)]]]
    shortest: float
    longest: float
    sections: dict[str, Section]

    @property
    def vectors(self) -> int:
        """How many vectors there are."""
        return sum(count for _, count in self.segments)


_footer_decoder = msgspec.json.Decoder(Footer)


def size_of(vectors: int, dimension: int, precision: str, segments: int) -> int:
    """About how many bytes an object takes, never less than it does."""
    each = dimension * np.dtype(precision).itemsize + 4 + 8 * words_of(dimension) + 4
    fixed = 4 * dimension + 6 * _ALIGNMENT + _MOST_FOOTER + _SEGMENT_BYTES * segments + _TAIL
    return vectors * each + fixed


class FrameWriter:
    """Writes an object section by section, in order; nothing is held.

    Args:
        writer: Where it goes; the caller commits it.
    """

    def __init__(self, writer: ObjectWriter) -> None:
        self._writer = writer
        self._sections: dict[str, Section] = {}
        writer.write(MAGIC)

    def section(self, name: str, parts: Iterable[NDArray[Any]]) -> None:
        """Write an array that comes in parts."""
        for _ in self.section_in_steps(name, parts):
            pass

    def section_in_steps(self, name: str, parts: Iterable[NDArray[Any]]) -> Iterator[int]:
        """Write an array that comes in parts; yields how many elements of its first axis each part had."""
        self._pad()
        start, crc = self._writer.tell(), 0
        for part in parts:
            data = np.ascontiguousarray(part).reshape(-1).view(np.uint8).data
            crc = zlib.crc32(data, crc)
            self._writer.write(data)
            yield len(part)
        self._sections[name] = Section(start, self._writer.tell() - start, crc)

    def finish(self, footer: Footer) -> None:
        """Write what ends the object; the footer's sections are those that were written."""
        self._pad()
        data = msgspec.json.encode(msgspec.structs.replace(footer, sections=self._sections))
        self._writer.write(data)
        self._writer.write(np.array([len(data), zlib.crc32(data)], "<u4").tobytes() + MAGIC)

    def _pad(self) -> None:
        self._writer.write(b"\0" * (-self._writer.tell() % _ALIGNMENT))


@dataclass(frozen=True, slots=True)
class Frame:
    """An object that is open; arrays are views of it.

    Attributes:
        footer: What it says of itself.
        vectors: A vector in each row.
        lengths: Of the vectors.
        codes: Words by vectors.
        places: Row of each vector in its segment.
        mean: See the module.
        starts: Segment id -> the first of its vectors; its last is before that of the next one.
        bytes: Size of the object.
    """

    footer: Footer
    vectors: NDArray[np.floating]
    lengths: NDArray[np.float32]
    codes: NDArray[np.uint64]
    places: NDArray[np.uint32]
    mean: NDArray[np.float32]
    starts: dict[str, slice]
    bytes: int

    @classmethod
    def read(cls, data: memoryview, what: str) -> Self:
        """Open an object.

        Args:
            data: All of its bytes, which stay as they are.
            what: What is read, for messages.

        Raises:
            BackendUnavailable: It is damaged, or of a format that a later release writes.
        """
        footer = _footer(data, what)
        count, dimension = footer.vectors, footer.dimension
        words = words_of(dimension)
        shapes: dict[str, tuple[str, tuple[int, ...]]] = {
            "vectors": (footer.precision, (count, dimension)),
            "lengths": ("float32", (count,)),
            "codes": ("uint64", (words, count)),
            "places": ("uint32", (count,)),
            "mean": ("float32", (dimension,)),
        }
        arrays = {name: _array(data, footer, name, *shape, what=what) for name, shape in shapes.items()}
        starts, first = {}, 0
        for segment, vectors in footer.segments:
            starts[segment] = slice(first, first + vectors)
            first += vectors
        return cls(footer, **arrays, starts=starts, bytes=len(data))


def _footer(data: memoryview, what: str) -> Footer:
    if len(data) < len(MAGIC) + _TAIL or data[: len(MAGIC)] != MAGIC or data[-len(MAGIC) :] != MAGIC:
        raise _damaged(what)
    size, crc = np.frombuffer(data[-_TAIL : -len(MAGIC)], "<u4").tolist()
    if size > len(data) - _TAIL - len(MAGIC):
        raise _damaged(what)
    written = data[-_TAIL - size : -_TAIL]
    if zlib.crc32(written) != crc:
        raise _damaged(what)
    try:
        footer = _footer_decoder.decode(written)
    except msgspec.DecodeError:
        raise _damaged(what) from None
    if footer.format != FORMAT:
        raise BackendUnavailable(
            f"{what} has format {footer.format}, and this release reads {FORMAT}: refresh the index"
        )
    if footer.precision not in PRECISIONS:
        raise _damaged(what)
    return footer


def _array(
    data: memoryview, footer: Footer, name: str, kind: str, shape: tuple[int, ...], *, what: str
) -> NDArray[Any]:
    section = footer.sections.get(name)
    if section is None:
        raise _damaged(what)
    part = data[section.offset : section.offset + section.bytes]
    wanted = int(np.prod(shape)) * np.dtype(kind).itemsize
    if len(part) != wanted or zlib.crc32(part) != section.crc32:
        raise _damaged(what)
    return np.frombuffer(part, kind).reshape(shape)


def _damaged(what: str) -> BackendUnavailable:
    return BackendUnavailable(f"{what} is damaged: index.refresh writes it anew")
