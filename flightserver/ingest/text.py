"""Text of a file as UTF-8, whatever its encoding is.

Theory of operation: pyarrow's parsers read UTF-8. A `Utf8Stream` hands UTF-8 on as it is (without its byte order
mark) and transcodes everything else by an incremental decoder, block by block. The encoding is found from the byte
order mark, else from the zero bytes of UTF-16, else by trying UTF-8, else by charset-normalizer.
"""

from __future__ import annotations

import codecs
import io
from typing import TYPE_CHECKING, Any

from charset_normalizer import from_bytes

from flightserver.errors import InvalidRequest
from flightserver.ingest.compression import SourceBytes, read_fully

if TYPE_CHECKING:
    from flightserver.ingest.source import File

UTF8 = "utf-8"
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark is the beginning of this one
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: UTF8,
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
SAMPLE_BYTES = 1 << 20
_DETECT_BYTES = 64 << 10
"""charset-normalizer's time grows with its input; its verdict doesn't change beyond some ten thousand bytes."""
_ZERO_SHARE = 0.7
"""Latin text in UTF-16 has a zero in every second byte; other text has none."""


def detect_encoding(sample: bytes) -> str:
    """Find the encoding that `sample`, the beginning of a file, is written in."""
    for mark, encoding in _MARKS.items():
        if sample.startswith(mark):
            return encoding
    half = max(len(sample) // 2, 1)
    if sample[1::2].count(0) / half >= _ZERO_SHARE:
        return "utf-16-le"
    if sample[0::2].count(0) / half >= _ZERO_SHARE:
        return "utf-16-be"
    try:
        # Not final: the sample may end within a character.
        codecs.getincrementaldecoder(UTF8)().decode(sample)
    except UnicodeDecodeError as error:
        if not sample[: error.start].isascii():
            # It was UTF-8 up to here. Taking it for anything else would garble what was right; reading reports it.
            return UTF8
        start = max(0, error.start - _DETECT_BYTES // 2)
        return _guess(sample[start : start + _DETECT_BYTES])
    return UTF8


def _guess(sample: bytes) -> str:
    matches = from_bytes(sample)
    best = matches.best()
    if best is None:
        return "cp1252"
    # Western European text looks as good in several code pages; cp1252 is the one that programs really write.
    if any(match.encoding in {"cp1252", "latin_1"} and match.chaos <= best.chaos for match in matches):
        return "cp1252"
    return best.encoding


def known_encoding(name: str) -> str:
    """Return `name` when it is a text encoding that Python knows.

    Raises:
        InvalidRequest: It isn't.
    """
    try:
        "".encode(name)
    except (LookupError, ValueError) as error:
        msg = f"encoding {name!r} isn't known; use a name such as 'utf-8', 'utf-16', 'cp1252' or 'latin-1'"
        raise InvalidRequest(msg) from error
    return name


class Utf8Stream(io.RawIOBase):
    """A file's text as UTF-8 bytes, without a byte order mark.

    Args:
        file: What to read.
        encoding: How it is encoded.
        stage: The stage that progress is reported for.
        verify: Check UTF-8 here, for parsers that don't.
    """

    def __init__(self, file: File, encoding: str, stage: str, *, verify: bool = False) -> None:
        super().__init__()
        self._file = file
        self._encoding = encoding
        self._bytes = SourceBytes(file, stage)
        self._transcodes = codecs.lookup(encoding).name != UTF8
        self._checks = verify or self._transcodes
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._ready = memoryview(b"")
        self._exhausted = False
        self._started = False

    def readable(self) -> bool:
        """Tell that it can be read, as every stream of this kind."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` and return how many bytes it got; 0 is the end.

        Raises:
            InvalidRequest: The file isn't text in its encoding.
        """
        filled = 0
        # A short read says that this is the end, so that a caller needn't read twice.
        while filled < len(buffer) and self._refill(len(buffer)):
            taken = self._ready[: len(buffer) - filled]
            buffer[filled : filled + len(taken)] = taken
            self._ready = self._ready[len(taken) :]
            filled += len(taken)
        return filled

    def _refill(self, size: int) -> bool:
        """Have something ready to deliver, or tell that there is nothing more."""
        while not self._ready and not self._exhausted:
            data = self._bytes.read(size) or b""
            self._exhausted = not data
            text = self._as_utf8(data)
            if not self._started and text:
                self._started = True
                text = text.removeprefix(codecs.BOM_UTF8)
            self._ready = memoryview(text)
        return bool(self._ready)

    def _as_utf8(self, data: bytes) -> bytes:
        if not self._checks:
            return data
        try:
            text = self._decoder.decode(data, final=not data)
        except UnicodeError as error:
            msg = (
                f"{self._file.name} isn't {self._encoding} text all through: {error.args[-1]}; "
                "set the option encoding to what it is"
            )
            raise InvalidRequest(msg, details={"problem": "encoding"}) from error
        return text.encode() if self._transcodes else data

    def close(self) -> None:
        """Close the file."""
        self._bytes.close()
        super().close()


def sample(file: File) -> bytes:
    """Return the first bytes of the unpacked file."""
    with SourceBytes(file, "inspect") as stream:
        return read_fully(stream, SAMPLE_BYTES)


def redetect(file: File) -> str:
    """Find the encoding of a file whose first non-UTF-8 byte lies beyond the sample.

    All that came before that byte must be ASCII, which is the same in every encoding that is left; otherwise the answer
    is UTF-8 still, and reading reports the damage.
    """
    with SourceBytes(file, "inspect") as stream:
        while data := stream.read(SAMPLE_BYTES):
            if not data.isascii():
                return detect_encoding(data + read_fully(stream, 4))
    return UTF8
