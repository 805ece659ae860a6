"""The object of a generation: what was written is read back, or nothing is."""

from __future__ import annotations

import json
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vectors.framing import SECTIONS, WHAT, arrays_of, contents, read, wanted_of, written

from flightserver.errors import BackendUnavailable
from flightserver.vectors.frame import FORMAT, size_of

if TYPE_CHECKING:
    from vectors.framing import Contents

precisions = st.sampled_from(["float32", "float16"])
several = st.lists(st.integers(0, 5), max_size=5).map(tuple)
SAMPLE = contents(5, "float32", 3, 0, 4)
"""Seven vectors of two segments; another one has none."""
DATA = written(SAMPLE)


def section_bytes(what: Contents) -> int:
    """Of all sections, each padded."""
    return sum(-(-array.nbytes // 64) * 64 for array in what.arrays().values())


@given(st.integers(1, 130), precisions, several)
def test_what_is_written_is_read(dimension: int, precision: str, counts: tuple[int, ...]) -> None:
    what = contents(dimension, precision, *counts)

    frame = read(written(what))

    assert arrays_of(frame) == wanted_of(what)
    assert frame.footer.segments == what.counts
    assert frame.footer.vectors == sum(counts)
    assert [frame.vectors[there].tolist() for there in frame.starts.values()] == [
        part.tolist() for part in what.vectors.values()
    ]


def test_segments_without_vectors_have_no_place_in_the_frame() -> None:
    frame = read(written(contents(3, "float16", 0, 2, 0, 0, 1, 0)))

    starts = [(there.start, there.stop) for there in frame.starts.values()]
    assert starts == [(0, 0), (0, 2), (2, 2), (2, 2), (2, 3), (3, 3)]


def test_a_frame_without_vectors_is_a_frame() -> None:
    frame = read(written(contents(70, "float32")))

    assert (frame.vectors.shape, frame.codes.shape, frame.mean.shape, frame.starts) == ((0, 70), (2, 0), (70,), {})


@given(st.integers(1, 2000), precisions, several)
def test_an_object_is_never_larger_than_it_was_said_to_be(
    dimension: int, precision: str, counts: tuple[int, ...]
) -> None:
    size = len(written(contents(dimension, precision, *counts)))

    assert size <= size_of(sum(counts), dimension, precision, len(counts)) <= size + 64 * (len(counts) + 6) + 1024


def test_the_size_holds_for_the_longest_numbers_that_a_footer_can_have() -> None:
    """Offsets and counts of an object of 4 GiB, and lengths with all of their digits."""
    what = contents(3, "float32", 1)
    small = read(written(what)).footer
    section = {"offset": 2**32, "bytes": 2**32, "crc32": 2**32 - 1}
    footer = {
        "format": FORMAT,
        "index": "0" * 26,
        "generation": "0" * 26,
        "metric": "cosine",
        "precision": "float32",
        "dimension": 65_536,
        "segments": [("0" * 26, 2**32)] * 100,
        "shortest": 1.1754943508222875e-38,
        "longest": 3.4028234663852886e38,
        "sections": dict.fromkeys(SECTIONS, section),
    }

    # `json` puts spaces where the writer doesn't.
    assert set(footer) == set(small.__struct_fields__)
    assert len(json.dumps(footer)) <= size_of(0, 0, "float32", 100) - 6 * 64


@given(st.integers(1, 70), precisions, several)
def test_each_section_and_the_footer_start_at_a_multiple_of_64_bytes(
    dimension: int, precision: str, counts: tuple[int, ...]
) -> None:
    what = contents(dimension, precision, *counts)
    data = written(what)

    sections = read(data).footer.sections

    assert list(sections) == list(SECTIONS)
    assert [section.offset % 64 for section in sections.values()] == [0] * len(SECTIONS)
    ends = [section.offset + section.bytes for section in sections.values()]
    assert [(-end % 64) + end for end in ends[:-1]] == [section.offset for section in list(sections.values())[1:]]
    (footer_bytes,) = struct.unpack("<I", data[-16:-12])
    assert len(data) - 16 - footer_bytes == -(-ends[-1] // 64) * 64 == 64 + section_bytes(what)


def test_the_layout_is_the_documented_one() -> None:
    what = contents(2, "float16", 1, 0)
    mean = struct.pack("<2f", -1.0, 1.0)
    vector = struct.pack("<2e", -7.0, -6.0)
    length = struct.pack("<f", np.sqrt(np.float64(85)))
    code = struct.pack("<Q", 0b01)  # -7 is above -1 of 9.2, and -6 isn't above 1 of it
    place = struct.pack("<I", 0)

    data = written(what)

    arrays = {"vectors": vector, "lengths": length, "codes": code, "places": place, "mean": mean}
    body = b"FSVINDEX".ljust(64, b"\0") + b"".join(array.ljust(64, b"\0") for array in arrays.values())
    assert data[: len(body)] == body
    size, crc = struct.unpack("<II", data[-16:-8])
    footer = data[len(body) : -16]
    assert (data[-8:], size, crc) == (b"FSVINDEX", len(footer), zlib.crc32(footer))
    assert json.loads(footer) == {
        "format": 1,
        "index": "index",
        "generation": "generation",
        "metric": "l2",
        "precision": "float16",
        "dimension": 2,
        "segments": [["0" * 26, 1], ["0" * 25 + "1", 0]],
        "shortest": float(np.float32(np.sqrt(85))),
        "longest": float(np.float32(np.sqrt(85))),
        "sections": {
            name: {"offset": 64 * (place + 1), "bytes": len(array), "crc32": zlib.crc32(array)}
            for place, (name, array) in enumerate(arrays.items())
        },
    }


def is_padding(position: int) -> bool:
    """Whether nothing is said by a byte of the sample: between sections, and before the footer."""
    sections = read(DATA).footer.sections.values()
    (footer_bytes,) = struct.unpack("<I", DATA[-16:-12])
    return 8 <= position < len(DATA) - 16 - footer_bytes and not any(
        section.offset <= position < section.offset + section.bytes for section in sections
    )


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_no_byte_can_be_another_unnoticed(position: int, flipped: int) -> None:
    damaged = bytearray(DATA)
    damaged[position] ^= flipped

    if is_padding(position):
        assert arrays_of(read(bytes(damaged))) == wanted_of(SAMPLE)
    else:
        with pytest.raises(BackendUnavailable, match=f"^{WHAT} (is damaged|has format)"):
            read(bytes(damaged))


@given(st.integers(0, len(DATA) - 1))
def test_an_object_that_ends_too_early_is_damaged(size: int) -> None:
    with pytest.raises(BackendUnavailable, match=f"^{WHAT} is damaged: index.refresh writes it anew$"):
        read(DATA[:size])


@given(st.binary(min_size=1, max_size=40))
def test_an_object_with_something_behind_it_is_damaged(more: bytes) -> None:
    with pytest.raises(BackendUnavailable, match=f"^{WHAT} is damaged: index.refresh writes it anew$"):
        read(DATA + more)


@given(st.integers(1, len(DATA) - 1))
def test_an_object_that_lacks_its_beginning_is_damaged(start: int) -> None:
    with pytest.raises(BackendUnavailable, match=f"^{WHAT} is damaged: index.refresh writes it anew$"):
        read(DATA[start:])


def test_a_format_of_a_later_release_is_said() -> None:
    with pytest.raises(
        BackendUnavailable,
        match=f"^{WHAT} has format {FORMAT + 1}, and this release reads {FORMAT}: refresh the index$",
    ):
        read(written(SAMPLE, format_=FORMAT + 1))


def with_footer(footer: bytes) -> bytes:
    """The sample with another footer, whose checksum fits."""
    (footer_bytes,) = struct.unpack("<I", DATA[-16:-12])
    tail = struct.pack("<II", len(footer), zlib.crc32(footer)) + b"FSVINDEX"
    return DATA[: -16 - footer_bytes] + footer + tail


def changed(**fields: object) -> bytes:
    """The footer of the sample with other fields."""
    (footer_bytes,) = struct.unpack("<I", DATA[-16:-12])
    return json.dumps({**json.loads(DATA[-16 - footer_bytes : -16]), **fields}).encode()


def sections_with(**fields: int) -> dict[str, dict[str, int]]:
    """The sections of the sample, the last one with other fields."""
    sections = read(DATA).footer.sections
    plain = {name: {"offset": one.offset, "bytes": one.bytes, "crc32": one.crc32} for name, one in sections.items()}
    plain["mean"] |= fields
    return plain


@pytest.mark.parametrize(
    "footer",
    [
        b"",
        b"{",
        b"\xff",
        b"{}",
        b"null",
        changed(format="later"),
        changed(precision="float99"),
        changed(precision="O"),
        changed(dimension=6),
        changed(dimension=-1),
        changed(segments=[["a", 8]]),
        changed(segments=[["a", -1], ["b", 8]]),
        changed(longest=None),
        changed(sections={}),
        changed(sections=sections_with(offset=2**40)),
        changed(sections=sections_with(offset=-64)),
        changed(sections=sections_with(bytes=24)),
        changed(sections=sections_with(crc32=-1)),
    ],
)
def test_a_footer_that_says_what_can_not_be_is_damage(footer: bytes) -> None:
    assert arrays_of(read(with_footer(changed()))) == wanted_of(SAMPLE)

    with pytest.raises(BackendUnavailable, match=f"^{WHAT} is damaged: index.refresh writes it anew$"):
        read(with_footer(footer))
