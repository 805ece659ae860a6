"""Bytes of a file, unpacked while they are read.

Theory of operation: a `SourceBytes` is a stack of two counters around a decompressor. The lower one counts bytes of
the file, so that progress is exact for compressed files too; the upper one counts what came out, and refuses to
deliver more than the limit. Compression is recognised by magic number, never by name.
"""

from __future__ import annotations

import io
import stat
import zipfile
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa

from flightserver.errors import InvalidRequest, LimitExceeded
from flightserver.ingest.source import Progress, reading

if TYPE_CHECKING:
    from flightserver.ingest.source import File

_MAGIC = {
    b"\x1f\x8b": "gzip",  # RFC 1952
    b"\x28\xb5\x2f\xfd": "zstd",  # RFC 8878
    b"BZh": "bz2",
    b"\x04\x22\x4d\x18": "lz4",  # LZ4 frame format
    b"PK\x03\x04": "zip",  # APPNOTE.TXT 4.3.7
    b"PK\x05\x06": "zip",  # an archive without members
}
SUFFIXES = (".gz", ".gzip", ".zst", ".zstd", ".bz2", ".lz4", ".zip")
_ENCRYPTED = 0x1
"""Bit 0 of a zip member's flags, APPNOTE.TXT 4.4.4."""
_SHOWN_MEMBERS = 3


def compression(head: bytes) -> str | None:
    """Name of the compression whose magic number `head` starts with."""
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


class _CountedFile(io.RawIOBase):
    """The file itself, as long as it was at first; counts what was read from it.

    A file that grows as fast as it is read would never end.
    """

    def __init__(self, raw: BinaryIO, size: int) -> None:
        super().__init__()
        self._raw = raw
        self._size = size
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = max(0, self._size - self._raw.tell())
        got: int = self._raw.readinto(memoryview(buffer)[:left])  # type: ignore[attr-defined]  # an unbuffered file has it
        self.count += got
        return got

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def close(self) -> None:
        self._raw.close()
        super().close()


class SourceBytes(io.RawIOBase):
    """Unpacked bytes of a file, as a forward-only binary stream.

    Args:
        file: What to read.
        stage: The stage that progress is reported for.

    Raises:
        InvalidRequest: A zip archive that doesn't hold exactly one readable member.
    """

    def __init__(self, file: File, stage: str) -> None:
        super().__init__()
        self._file = file
        self._stage = stage
        self._total = file.size()
        self._delivered = 0
        self.member_name = ""
        with reading(file), ExitStack() as opened:
            self._counted = opened.enter_context(_CountedFile(file.path.open("rb", buffering=0), self._total))
            head = self._counted.read(4) or b""
            self._counted.seek(0)
            self._counted.count = 0
            self.compression = compression(head)
            self._unpacked = self._unpack()
            opened.pop_all()

    def _unpack(self) -> Any:
        if self.compression is None:
            return self._counted
        if self.compression == "zip":
            return self._only_member()
        return pa.CompressedInputStream(pa.PythonFile(self._counted, mode="r"), self.compression)

    def _only_member(self) -> Any:
        archive = zipfile.ZipFile(self._counted)
        members = [
            info for info in archive.infolist() if not info.is_dir() and not info.filename.startswith("__MACOSX/")
        ]
        if len(members) != 1:
            shown = ", ".join(repr(info.filename) for info in members[:_SHOWN_MEMBERS]) or "none"
            more = ", ..." if len(members) > _SHOWN_MEMBERS else ""
            msg = (
                f"{self._file.name} is a zip archive with {len(members)} files ({shown}{more}); "
                "exactly one can be ingested. Unpack it (or save the workbook as CSV) and ingest its files one by one"
            )
            raise InvalidRequest(msg)
        if members[0].flag_bits & _ENCRYPTED:
            msg = f"{self._file.name} is an encrypted zip archive; only one without a password can be ingested"
            raise InvalidRequest(msg)
        self.member_name = members[0].filename
        try:
            return archive.open(members[0])
        except NotImplementedError as error:
            msg = f"{self._file.name} uses a zip method that can't be read ({error}); use deflate, bzip2 or none"
            raise InvalidRequest(msg) from error

    def readable(self) -> bool:
        """Tell that it can be read, as every stream of this kind."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` and return how many bytes it got; 0 is the end.

        Raises:
            LimitExceeded: More bytes came out than `Limits.decompressed_bytes`.
            InvalidRequest: The compressed data is damaged or cut off.
        """
        with reading(self._file):
            data = self._unpacked.read(len(buffer))
        buffer[: len(data)] = data
        self._delivered += len(data)
        limit = self._file.limits.decompressed_bytes
        if self.compression is not None and self._delivered > limit:
            msg = (
                f"{self._file.name} unpacks to more than {limit:,} bytes, the limit of this server; split the file "
                "or raise the limit"
            )
            raise LimitExceeded(msg)
        self._file.progress(Progress(self._stage, min(self._counted.count, self._total), self._total))
        return len(data)

    def close(self) -> None:
        """Close the file and its decompressor."""
        if not self.closed:
            self._unpacked.close()
            self._counted.close()
        super().close()


def read_fully(stream: io.RawIOBase, size: int) -> bytes:
    """Read `size` bytes, fewer only at the end of `stream`."""
    parts: list[bytes] = []
    missing = size
    while missing > 0:
        part = stream.read(missing)
        if not part:
            break
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def is_regular(file: File) -> bool:
    """Tell whether `file` is a regular file; a pipe or device would block or never end."""
    with reading(file):
        return stat.S_ISREG(file.path.stat().st_mode)
