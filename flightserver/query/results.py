"""The store of paged results: computed once, read by page any number of times, in any order.

Theory of operation: `store` streams a result into one file (`result_file.py`) and hands out a query id of 128 random
bits; knowing the id is the right to read the result. A page is a pair of page number and page size, chosen anew at
each read; pages are numbered from 0, and a result without rows has one empty page, so that a reader always gets
a schema.

The store keeps the most recently used results, at most `max_results` of them and at most `max_bytes` together.
Whatever is beyond that, least recently used first, is forgotten, as is a result that has expired; expired results are
noticed at the next call of any kind. While results are being written their partial files count against a second
allowance of `max_bytes`, so that one result that turns out too large pushes out no other: the disk holds twice
`max_bytes` at most, and one batch per writer.

Results live where they were computed and end with the process: the directory is emptied at the start, and a lock
file keeps a second server out of it.

Locking: `_lock` guards `_results`, `_gone`, `_partial_bytes` and `_stopped`. It is never held during I/O: files
are written before they are listed and unlinked after they are unlisted. A reader that holds batches of a
forgotten result goes on reading its mapping.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from flightserver.access.rights import UNRESTRICTED
from flightserver.errors import BackendUnavailable, Forbidden, InvalidRequest, LimitExceeded, NotFound
from flightserver.query.result_file import ResultFile, map_result, write_result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    import pyarrow as pa

    from flightserver.access.rights import Rights

MAX_PAGE_ROWS = 1_000_000
"""A page is fetched whole by clients that hold it in memory; more rows than this are a stream, not a page."""

_SUFFIX = ".arrows"
_GONE_REMEMBERED = 10_000
"""About 1 MB of ids, so that a late reader is told why its result is gone."""


@dataclass(frozen=True, slots=True)
class StoredResult:
    """What a client needs to fetch pages.

    Attributes:
        query_id: Names the result and authorises reading it.
        schema: Columns of every page.
        rows: Rows of the whole result.
        page_rows: Rows per page, unless a reader asks for another size.
        bytes: Size on disk.
        expires_at: When the result is forgotten unless it is renewed; UTC.
    """

    query_id: str
    schema: pa.Schema
    rows: int
    page_rows: int
    bytes: int
    expires_at: datetime

    @property
    def pages(self) -> int:
        """How many pages of `page_rows` there are, at least one; numbered from 0."""
        return count_pages(self.rows, self.page_rows)


@dataclass(frozen=True, slots=True)
class ResultEntry:
    """One kept result, as a row for whoever looks at the store.

    Attributes:
        query_id: Authorises reading: show no more than its beginning to others.
        sql: The statement.
        user: Who ran it.
        rows: Rows of the whole result.
        bytes: Size on disk.
        page_rows: Rows per page.
        created: When it was stored; UTC.
        used: When it was last read or renewed; UTC.
        expires_at: When it is forgotten unless it is renewed; UTC.
    """

    query_id: str
    sql: str
    user: str
    rows: int
    bytes: int
    page_rows: int
    created: datetime
    used: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    file: ResultFile
    entry: ResultEntry
    rights: Rights


class _Gone(enum.Enum):
    FORGOTTEN = enum.auto()
    EXPIRED = enum.auto()
    CLOSED = enum.auto()


def count_pages(rows: int, page_rows: int) -> int:
    """Pages of a result: a result without rows has one, which is empty."""
    return max(1, -(-rows // page_rows))


class ResultStore:
    """Keeps the most recently used results on local disk.

    Args:
        directory: Private to this store; created if absent, and emptied of results that an earlier process left.
        max_results: How many results are kept.
        max_bytes: How many bytes they may take together.
        ttl: How long a result is kept after it was stored or renewed.
        clock: Tells the time, in UTC.

    Raises:
        InvalidRequest: Another store uses the directory.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_results: int,
        max_bytes: int,
        ttl: timedelta,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._directory = directory
        self._max_results = max_results
        self._max_bytes = max_bytes
        self._ttl = ttl
        self._clock = clock
        self._lock = threading.Lock()
        self._results: OrderedDict[str, _Kept] = OrderedDict()
        self._gone: OrderedDict[str, _Gone] = OrderedDict()
        self._partial_bytes = 0
        self._stopped = False
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._claim = (directory / ".lock").open("wb")
        try:
            fcntl.flock(self._claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._claim.close()
            msg = "the directory for results is used by another server; give each server a data directory of its own"
            raise InvalidRequest(msg) from None
        _unlink(directory.glob(f"*{_SUFFIX}"))

    @property
    def count(self) -> int:
        """How many results are kept."""
        return len(self.entries())

    @property
    def bytes(self) -> int:
        """How many bytes the kept results take on disk."""
        return sum(entry.bytes for entry in self.entries())

    def store(
        self,
        schema: pa.Schema,
        batches: Iterable[pa.RecordBatch],
        page_rows: int,
        *,
        sql: str = "",
        rights: Rights = UNRESTRICTED,
    ) -> StoredResult:
        """Write a result as it is computed, and keep it.

        Args:
            schema: Columns of every batch.
            batches: Consumed once, with bounded memory; what it raises passes through, and nothing is kept.
            page_rows: Rows per page, 1 to `MAX_PAGE_ROWS`.
            sql: The statement, for `entries`.
            rights: Of who runs it, who is the only one to read it, and only as long as these stay.

        Raises:
            InvalidRequest: `page_rows` is out of bounds.
            LimitExceeded: The result is larger than the store, alone or with others being written, or the disk is full.
            BackendUnavailable: The disk fails, or the store was stopped.
        """
        _check_page_rows(page_rows)
        query_id = secrets.token_hex(16)
        path = self._directory / f"{query_id}{_SUFFIX}"
        with contextlib.ExitStack() as undo:
            undo.callback(path.unlink, missing_ok=True)
            with self._allowance() as reserve:
                write_result(path, schema, batches, reserve)
            file = map_result(path)
            now = self._clock()
            entry = ResultEntry(
                query_id, sql, rights.user, file.rows, file.bytes, page_rows, now, used=now, expires_at=now + self._ttl
            )
            kept = _Kept(file, entry, rights)
            self._keep(kept)
            undo.pop_all()
        return _facts(kept)

    def get(self, query_id: str) -> StoredResult:
        """The facts of a kept result; counts as a use.

        Raises:
            NotFound: The result is not kept; the message says why.
        """
        return _facts(self._use(query_id))

    def page(self, query_id: str, page: int, page_rows: int | None = None) -> tuple[pa.Schema, list[pa.RecordBatch]]:
        """Rows `page * page_rows` and on, without copying.

        Args:
            query_id: From `store`.
            page: Number of the page, from 0.
            page_rows: Rows per page, 1 to `MAX_PAGE_ROWS`; None for those that the result was stored with.

        Raises:
            InvalidRequest: `page` or `page_rows` is out of bounds.
            NotFound: The result is not kept, or has fewer pages; the message says which.
        """
        if page < 0:
            raise InvalidRequest(f"page {page} was asked for; pages are numbered from 0")
        if page_rows is not None:
            _check_page_rows(page_rows)
        kept = self._use(query_id)
        rows = page_rows or kept.entry.page_rows
        pages = count_pages(kept.file.rows, rows)
        if page >= pages:
            raise NotFound(f"page {page} was asked for; the result has {pages} pages of {rows} rows, numbered from 0")
        return kept.file.schema, kept.file.slice(page * rows, rows)

    def renew(self, query_id: str) -> datetime:
        """Keep a result for another `ttl` from now; returns when it expires.

        Raises:
            NotFound: The result is not kept; the message says why.
        """
        return self._use(query_id, renew=True).entry.expires_at

    def close(self, query_id: str) -> None:
        """Forget a result now.

        Raises:
            NotFound: The result is not kept; the message says why.
        """
        self._use(query_id)
        with self._lock:
            dropped = self._drop([query_id], _Gone.CLOSED)
        _unlink(dropped)

    def check_reader(self, query_id: str, rights: Rights) -> None:
        """Return when a result is kept for this user, who may still see what it shows.

        Raises:
            NotFound: The result is not kept; the message says why.
            Forbidden: It is another user's, or its user had other rights when it was computed.
        """
        kept = self._use(query_id)
        if kept.entry.user != rights.user:
            raise Forbidden("this result was computed for another user: run the statement to get one of your own")
        if not kept.rights.shows_as(rights):
            raise Forbidden("your rights have changed since this result was computed: run the statement again")

    def entries(self) -> list[ResultEntry]:
        """Every kept result, the most recently used one first."""
        with self._lock:
            dropped = self._drop_expired()
            found = [kept.entry for kept in reversed(self._results.values())]
        _unlink(dropped)
        return found

    def stop(self) -> None:
        """Forget every result and let another process have the directory; later calls find nothing."""
        with self._lock:
            self._stopped = True
            dropped = self._drop(list(self._results), _Gone.CLOSED)
        _unlink(dropped)
        self._claim.close()

    def _use(self, query_id: str, *, renew: bool = False) -> _Kept:
        now = self._clock()
        with self._lock:
            dropped = self._drop_expired()
            kept = self._results.get(query_id)
            if kept is not None:
                expires_at = now + self._ttl if renew else kept.entry.expires_at
                kept = replace(kept, entry=replace(kept.entry, used=now, expires_at=expires_at))
                self._results[query_id] = kept
                self._results.move_to_end(query_id)
            gone = self._gone.get(query_id)
        _unlink(dropped)
        if kept is None:
            raise NotFound(self._why_gone(query_id, gone))
        return kept

    def _keep(self, kept: _Kept) -> None:
        with self._lock:
            if self._stopped:
                msg = "the server is stopping; run the statement again on another one"
                raise BackendUnavailable(msg)
            dropped = self._drop_expired()
            self._results[kept.entry.query_id] = kept
            used = 0
            beyond = []
            for place, (query_id, one) in enumerate(reversed(self._results.items())):
                used += one.file.bytes
                if place >= self._max_results or used > self._max_bytes:
                    beyond.append(query_id)
            dropped += self._drop(beyond, _Gone.FORGOTTEN)
        _unlink(dropped)

    def _drop_expired(self) -> list[Path]:
        now = self._clock()
        expired = [query_id for query_id, kept in self._results.items() if kept.entry.expires_at <= now]
        return self._drop(expired, _Gone.EXPIRED)

    def _drop(self, query_ids: list[str], why: _Gone) -> list[Path]:
        """Unlist results while the lock is held; returns the files that are to be unlinked after it."""
        paths = []
        for query_id in query_ids:
            kept = self._results.pop(query_id, None)
            if kept is not None:
                paths.append(kept.file.path)
                self._gone[query_id] = why
        while len(self._gone) > _GONE_REMEMBERED:
            self._gone.popitem(last=False)
        return paths

    def _why_gone(self, query_id: str, gone: _Gone | None) -> str:
        reason = {
            None: "is not known to this server: results live where they were computed and end with that process",
            _Gone.FORGOTTEN: f"was forgotten: the store keeps the {self._max_results} most recently used results, "
            f"of {self._max_bytes} bytes together",
            _Gone.EXPIRED: f"has expired: a result is kept for {self._ttl.total_seconds():g} seconds "
            "after it was computed or renewed",
            _Gone.CLOSED: "was closed",
        }[gone]
        return f"result {query_id[:64]!r} {reason}; run the statement again"

    @contextlib.contextmanager
    def _allowance(self) -> Iterator[Callable[[int], None]]:
        """Counts the bytes of one partial file for as long as it is one."""
        mine = 0

        def reserve(size: int) -> None:
            nonlocal mine
            mine += size
            with self._lock:
                self._partial_bytes += size
                everyone = self._partial_bytes
            if everyone > self._max_bytes:
                raise LimitExceeded(_too_large(mine, self._max_bytes))

        try:
            yield reserve
        finally:
            with self._lock:
                self._partial_bytes -= mine


def _too_large(mine: int, limit: int) -> str:
    if mine > limit:
        return (
            f"the result is larger than the {limit} bytes that the result store may hold; "
            "add a LIMIT, select fewer columns, or read it as one stream, without pages"
        )
    return f"results being computed now take more than the {limit} bytes that the result store may hold; try again"


def _facts(kept: _Kept) -> StoredResult:
    entry = kept.entry
    return StoredResult(entry.query_id, kept.file.schema, entry.rows, entry.page_rows, entry.bytes, entry.expires_at)


def _check_page_rows(page_rows: int) -> None:
    if not 1 <= page_rows <= MAX_PAGE_ROWS:
        msg = f"page_rows is {page_rows}; it must be 1 to {MAX_PAGE_ROWS}"
        raise InvalidRequest(msg)


def _unlink(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
