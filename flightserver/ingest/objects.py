"""Blocks of whole JSON objects out of a stream of text.

Theory of operation: pyarrow parses blocks of objects that follow one another. Newline-delimited JSON is cut at a
line end. Everything else (an array of objects, one object, objects one after another) is cut where
`json.JSONDecoder.raw_decode` says that an object ends: it is C, it sits in the standard library, and it needs no
more than the object in memory. An incomplete object at the end of the buffer is told from a wrong one by where the
decoder stopped.
"""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flightserver.errors import InvalidRequest, LimitExceeded
from flightserver.ingest.text import Utf8Stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flightserver.ingest.source import File

_DECODER = json.JSONDecoder()
_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)
"""Strings, so that brackets in them don't count, and brackets."""
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}\n"))
_NEXT_OBJECT = re.compile(r"[ \t\r\n]*,[ \t\r\n]*(?=\{)")
_BLANK = " \t\r\n"
_TAIL = 16
"""Characters at the end of the buffer that may be half a literal (`-Infinity`) or half an escape (`\\ud83d\\ude00`)."""
_SHOWN_CHARACTERS = 60
MAX_DEPTH = 100
"""pyarrow's JSON reader builds nested types by recursion and overflows its stack (SIGSEGV, seen at 20,000 levels)."""


@dataclass(frozen=True, slots=True)
class Block:
    """Whole objects.

    Args:
        text: Their UTF-8 text, objects divided by line ends.
        first: Place of the first one: its line in newline-delimited JSON, otherwise which object it is; from 1.
        lines: Whether places are lines.
    """

    text: bytes
    first: int
    lines: bool

    def place(self, row: int) -> str:
        """Where the user finds the block's object number `row`, from 0."""
        if not self.lines:
            return f"object {self.first + row}"
        seen = -1
        for number, line in enumerate(self.text.split(b"\n")):
            seen += bool(line.strip())
            if seen == row:
                return f"line {self.first + number}"
        return f"line {self.first + row}"


def line_blocks(file: File, encoding: str, stage: str) -> Iterator[Block]:
    """Cut newline-delimited JSON into blocks.

    Raises:
        LimitExceeded: A line is longer than `Limits.record_bytes`.
    """
    size = min(file.limits.block_bytes, file.limits.record_bytes)
    line = 1
    with Utf8Stream(file, encoding, stage, verify=True) as stream:
        text, final = b"", False
        while not final:
            text += stream.read(size - len(text)) or b""
            final = len(text) < size
            end = len(text) if final else text.rfind(b"\n") + 1
            if not end and not final:
                size = _larger(file, size, f"line {line}")
                continue
            if text[:end].strip():
                _check_lines(file, text[:end], line)
                yield Block(text[:end], line, lines=True)
            line += text.count(b"\n", 0, end)
            text = text[end:]


def object_blocks(file: File, encoding: str, stage: str) -> Iterator[Block]:
    """Cut an array of objects, or objects that follow one another, into blocks.

    Raises:
        InvalidRequest: The text isn't JSON, or holds something else than objects.
        LimitExceeded: An object is longer than `Limits.record_bytes`.
    """
    with Utf8Stream(file, encoding, stage, verify=True) as stream:
        first, parts, size = 1, list[bytes](), 0
        for part in _Objects(file, stream):
            parts.append(part)
            size += len(part)
            if size >= file.limits.block_bytes:
                yield Block(b"\n".join(parts), first, lines=False)
                first, parts, size = first + len(parts), [], 0
        if parts:
            yield Block(b"\n".join(parts), first, lines=False)


def decode_objects(text: bytes) -> Iterator[Any]:
    """Decode the objects of a block."""
    rest = text.decode()
    place = _skip_blank(rest, 0)
    while place < len(rest):
        value, place = _DECODER.raw_decode(rest, place)
        yield value
        place = _skip_blank(rest, place)


def _check_lines(file: File, text: bytes, first: int) -> None:
    """Refuse lines that are nested too deeply; only one with many brackets can be, and needs a closer look."""
    brackets = text.translate(None, delete=_NO_BRACKETS).split(b"\n")
    if max(map(len, brackets)) <= MAX_DEPTH:
        return
    for number, (few, line) in enumerate(zip(brackets, text.split(b"\n"), strict=True), first):
        if len(few) > MAX_DEPTH and _is_deep(line.decode()):
            raise _too_deep(file, f"line {number}")


def _is_deep(text: str) -> bool:
    depth = deepest = 0
    for match in _STRUCTURE.finditer(text):
        character = match[0]
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest > MAX_DEPTH


def _too_deep(file: File, place: str) -> InvalidRequest:
    return InvalidRequest(f"{file.name}: {place} is nested more than {MAX_DEPTH} levels deep")


def _larger(file: File, size: int, place: str) -> int:
    limit = file.limits.record_bytes
    if size >= limit:
        msg = f"{file.name}: {place} is longer than {limit:,} bytes, the limit of one object"
        raise LimitExceeded(msg)
    return min(size * 4, limit)


def _skip_blank(text: str, place: int) -> int:
    while place < len(text) and text[place] in _BLANK:
        place += 1
    return place


class _Objects:
    """Texts of the objects in a stream, in order."""

    def __init__(self, file: File, stream: Utf8Stream) -> None:
        self._file = file
        self._stream = stream
        self._buffer = ""
        self._place = 0
        # A block may end within a character.
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._final = False
        self._count = 0
        self._size = file.limits.block_bytes

    def __iter__(self) -> Iterator[bytes]:
        in_array = self._next() == "["
        if in_array:
            self._place += 1
        while (character := self._next()) and not (in_array and character == "]"):
            if in_array and self._count:
                self._expect_comma(character)
            yield self._object()
            self._count += 1
            # The usual case, in one step; everything else takes the long way round the loop.
            while in_array and (match := _NEXT_OBJECT.match(self._buffer, self._place)):
                self._place = match.end()
                yield self._object()
                self._count += 1
        if in_array:
            self._expect_end(character)

    def _next(self) -> str:
        """The next character that isn't blank, or "" at the end."""
        while True:
            self._place = _skip_blank(self._buffer, self._place)
            if self._place < len(self._buffer):
                return self._buffer[self._place]
            if not self._more():
                return ""

    def _more(self) -> bool:
        if self._final:
            return False
        data = self._stream.read(self._size) or b""
        self._final = len(data) < self._size
        text = self._decoder.decode(data, final=self._final)
        self._buffer = self._buffer[self._place :] + text
        self._place = 0
        return True

    def _object(self) -> bytes:
        if not self._buffer.startswith("{", self._place) and self._next() != "{":
            found = self._buffer[self._place : self._place + _SHOWN_CHARACTERS]
            msg = (
                f"{self._file.name}: object {self._count + 1} should begin with '{{', but found {found!r}; "
                "a JSON file holds an array of objects, one object, or objects one after another"
            )
            raise InvalidRequest(msg)
        while True:
            try:
                _, end = _DECODER.raw_decode(self._buffer, self._place)
            except json.JSONDecodeError as error:
                if not self._is_cut(error) or not self._more():
                    raise self._malformed(error) from error
                self._check_length()
            except RecursionError as error:
                raise _too_deep(self._file, f"object {self._count + 1}") from error
            else:
                text = self._buffer[self._place : end]
                self._place = end
                if text.count("{") + text.count("[") > MAX_DEPTH and _is_deep(text):
                    raise _too_deep(self._file, f"object {self._count + 1}")
                return text.encode()

    def _is_cut(self, error: json.JSONDecodeError) -> bool:
        return error.msg.startswith("Unterminated string") or error.pos >= len(self._buffer) - _TAIL

    def _malformed(self, error: json.JSONDecodeError) -> InvalidRequest:
        near = self._buffer[max(0, error.pos - _SHOWN_CHARACTERS // 2) : error.pos + _SHOWN_CHARACTERS // 2]
        return InvalidRequest(
            f"{self._file.name}: object {self._count + 1} isn't JSON: {error.msg} near {near!r}",
            details={"object": str(self._count + 1)},
        )

    def _check_length(self) -> None:
        limit = self._file.limits.record_bytes
        if len(self._buffer) > limit:
            place = f"object {self._count + 1}"
            msg = f"{self._file.name}: {place} is longer than {limit:,} characters, the limit of one object"
            raise LimitExceeded(msg)

    def _expect_comma(self, character: str) -> None:
        if character != ",":
            msg = f"{self._file.name}: after object {self._count} a ',' or the ']' of the array is missing"
            raise InvalidRequest(msg)
        self._place += 1

    def _expect_end(self, character: str) -> None:
        if character != "]":
            msg = f"{self._file.name} is cut off: the array isn't closed after object {self._count}"
            raise InvalidRequest(msg)
        self._place += 1
        if self._next():
            msg = f"{self._file.name}: something follows the array; a JSON file holds one array of objects"
            raise InvalidRequest(msg)
