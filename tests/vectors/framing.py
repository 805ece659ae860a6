"""Generations in memory: what is written, and what is read back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flightserver.storage.memory import MemoryObjects
from flightserver.vectors.codes import encoded, words_of
from flightserver.vectors.frame import FORMAT, Footer, Frame, FrameWriter
from flightserver.vectors.metrics import lengths_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

SECTIONS = ("vectors", "lengths", "codes", "places", "mean")
WHAT = "object 'x.idx' of bucket 'primary'"


@dataclass(frozen=True)
class Contents:
    """What a generation is to hold.

    Attributes:
        vectors: Of each segment.
        dimension: Numbers of a vector.
        precision: As arrays have it already.
    """

    vectors: dict[str, NDArray[np.floating]]
    dimension: int
    precision: str

    @property
    def counts(self) -> list[tuple[str, int]]:
        return [(segment, len(matrix)) for segment, matrix in self.vectors.items()]

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Each section as one array; every other row of a segment has a vector."""
        matrix = np.concatenate([np.zeros((0, self.dimension), self.precision), *self.vectors.values()])
        lengths = lengths_of(matrix)
        mean = np.linspace(-1, 1, self.dimension, dtype=np.float32)
        places = [np.arange(0, 2 * len(part), 2, dtype=np.uint32) for part in self.vectors.values()]
        codes = encoded(matrix, lengths, mean) if len(matrix) else np.zeros((words_of(self.dimension), 0), np.uint64)
        return {
            "vectors": matrix,
            "lengths": lengths,
            "codes": codes,
            "places": np.concatenate([np.zeros(0, np.uint32), *places]),
            "mean": mean,
        }


def contents(dimension: int, precision: str, *counts: int) -> Contents:
    """Segments of so many vectors, none of them equal."""
    numbers = np.arange(sum(counts) * dimension, dtype=precision).reshape(-1, dimension) - 7
    parts = np.split(numbers, np.cumsum(counts)[:-1]) if counts else []
    return Contents({f"{number:026}": part for number, part in enumerate(parts)}, dimension, precision)


def written(what: Contents, *, format_: int = FORMAT) -> bytes:
    """The bytes of an object; vectors come in batches of two."""
    objects = MemoryObjects()
    with objects.writer("x.idx") as writer:
        frame = FrameWriter(writer)
        arrays = what.arrays()
        for name in SECTIONS:
            array = arrays[name]
            batches = [array[start : start + 2] for start in range(0, len(array), 2)]
            frame.section(name, batches if name == "vectors" else [array])
        lengths = arrays["lengths"].astype(np.float64)
        frame.finish(
            Footer(
                format=format_,
                index="index",
                generation="generation",
                metric="l2",
                precision=what.precision,
                dimension=what.dimension,
                segments=what.counts,
                shortest=float(lengths.min()) if len(lengths) else 0.0,
                longest=float(lengths.max()) if len(lengths) else 0.0,
                sections={},
            )
        )
        writer.commit()
    return objects.get("x.idx")


def read(data: bytes) -> Frame:
    """What a search gets of the bytes of an object."""
    return Frame.read(memoryview(data), WHAT)


def arrays_of(frame: Frame) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Type, shape and bytes of each section."""
    found = {name: getattr(frame, name) for name in SECTIONS}
    return {name: (array.dtype.name, array.shape, array.tobytes()) for name, array in found.items()}


def wanted_of(what: Contents) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """What `arrays_of` finds in a frame that holds this."""
    return {name: (array.dtype.name, array.shape, array.tobytes()) for name, array in what.arrays().items()}
