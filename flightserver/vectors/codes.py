"""One bit for each number of a vector: enough to choose candidates, which are then compared exactly.

A bit says whether a coordinate of the vector, scaled to length 1, is above the mean of that coordinate over the index.
The Hamming distance of two codes goes by the angle between the vectors, seen from that mean (M. Charikar, "Similarity
Estimation Techniques from Rounding Algorithms", STOC 2002, has random hyperplanes; here they are those of the axes). It
says nothing about lengths, so metrics other than the cosine can use codes only where all lengths are about the same.

Codes are stored by words of 64 bits: the first word of all vectors, then the second of all, and so on, because a search
reads them so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WORD = 64
_BLOCK = 65_536
"""Vectors at a time, whose counts stay in the cache of a core."""


def words_of(dimension: int) -> int:
    """Words of the code of a vector."""
    return -(-dimension // _WORD)


def encoded(
    matrix: NDArray[np.floating], lengths: NDArray[np.float32], mean: NDArray[np.float32]
) -> NDArray[np.uint64]:
    """The codes of the rows of a matrix: an array of words by vectors.

    Args:
        matrix: A vector in each row.
        lengths: Their Euclidean lengths.
        mean: Of the coordinates of all vectors scaled to length 1.
    """
    # Compared without dividing, which would need another matrix.
    bits = np.packbits(matrix > lengths[:, None] * mean, axis=1, bitorder="little")
    padded = np.zeros((len(matrix), words_of(len(mean)) * 8), np.uint8)
    padded[:, : bits.shape[1]] = bits
    return np.ascontiguousarray(padded.view(np.uint64).T)


def hamming(codes: NDArray[np.uint64], code: NDArray[np.uint64]) -> NDArray[np.unsignedinteger]:
    """How many bits of each vector's code differ from those of another code.

    Args:
        codes: Words by vectors.
        code: A word of each row of `codes`.
    """
    count = codes.shape[1]
    found = np.zeros(count, np.min_scalar_type(_WORD * len(codes)))
    for start in range(0, count, _BLOCK):
        block = slice(start, start + _BLOCK)
        for word, other in zip(codes, code, strict=True):
            np.add(found[block], np.bitwise_count(word[block] ^ other), out=found[block])
    return found
