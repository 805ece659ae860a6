"""What every kind of bucket promises, asked of each in the same words."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flightserver.errors import AlreadyExists, InvalidRequest, NotFound

if TYPE_CHECKING:
    from flightserver.storage.objects import ObjectMeta, Objects

CLOCKS_DIFFER = timedelta(seconds=10)
RACES = 40
BAD_KEYS = ["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a/.", "a\x00b", "a\nb", "\ud800", "_staging/.tmp/a"]


class ObjectsContract:
    """Each implementation subclasses this and gives `objects`."""

    def as_head(self, put: ObjectMeta, _head: ObjectMeta) -> ObjectMeta:
        """What the head of an object must be after a put that answered `put`."""
        return put

    def test_what_was_put_can_be_got(self, objects: Objects) -> None:
        objects.put("a/b/c.json", b"contents")

        assert objects.get("a/b/c.json") == b"contents"

    def test_an_empty_object_is_an_object(self, objects: Objects) -> None:
        objects.put("empty", b"")

        assert objects.get("empty") == b""
        head = objects.head("empty")
        assert head is not None
        assert head.size == 0

    def test_a_key_may_have_any_printable_character(self, objects: Objects) -> None:
        key = 'ä/空/"quoted"/100%/a b/..c/.d'

        objects.put(key, b"x")

        assert objects.get(key) == b"x"
        assert [meta.key for meta in objects.list("ä/")] == [key]

    def test_put_head_and_list_say_the_same_of_an_object(self, objects: Objects) -> None:
        before = datetime.now(UTC)

        meta = objects.put("a/b", b"12345")

        assert (meta.key, meta.size) == ("a/b", 5)
        assert abs(meta.modified - before) < CLOCKS_DIFFER
        found = objects.head("a/b")
        assert found is not None
        assert found == self.as_head(meta, found)
        assert [self.as_head(listed, found) for listed in objects.list("")] == [found]

    def test_an_object_that_takes_the_key_of_a_deleted_one_has_another_etag(self, objects: Objects) -> None:
        first = objects.put("a", b"1")
        objects.delete("a")

        second = objects.put("a", b"2")

        assert first.etag != second.etag

    def test_a_taken_key_is_refused_and_keeps_its_object(self, objects: Objects) -> None:
        objects.put("a", b"first")

        with pytest.raises(AlreadyExists, match="'a' exists, and objects are never overwritten"):
            objects.put("a", b"second")
        with objects.writer("a") as writer:
            writer.write(b"third")
            with pytest.raises(AlreadyExists):
                writer.commit()

        assert objects.get("a") == b"first"

    def test_a_key_that_no_object_has_is_not_found(self, objects: Objects) -> None:
        objects.put("a/b", b"x")

        for key in ("c", "a", "a/b/c", "a/c"):
            assert objects.head(key) is None
            with pytest.raises(NotFound, match=f"no object has the key '{key}'"):
                objects.get(key)
            with pytest.raises(NotFound):
                objects.open(key)
            objects.delete(key)

    @pytest.mark.parametrize("key", BAD_KEYS)
    def test_a_malformed_key_is_refused_by_every_method(self, objects: Objects, key: str) -> None:
        for call in (objects.get, objects.head, objects.open, objects.delete, objects.writer):
            with pytest.raises(InvalidRequest, match="can't be the key of an object"):
                call(key)
        with pytest.raises(InvalidRequest, match="can't be the key of an object"):
            objects.put(key, b"")

    def test_a_deleted_object_is_gone_and_its_key_free(self, objects: Objects) -> None:
        objects.put("a/b/c", b"1")
        objects.delete("a/b/c")

        assert objects.head("a/b/c") is None
        assert list(objects.list("")) == []
        objects.put("a/b", b"2")
        assert objects.get("a/b") == b"2"

    def test_an_opened_object_is_read_at_any_position(self, objects: Objects) -> None:
        objects.put("a", bytes(range(256)))

        with objects.open("a") as file:
            file.seek(100)
            assert file.read(3) == bytes([100, 101, 102])
            file.seek(-2, 2)
            assert file.read() == bytes([254, 255])

    def test_a_written_object_is_invisible_until_it_is_committed(self, objects: Objects) -> None:
        with objects.writer("a/b") as writer:
            assert writer.write(b"123") == 3
            assert writer.write(memoryview(b"45")) == 2
            assert writer.tell() == 5
            assert objects.head("a/b") is None
            assert list(objects.list("")) == []
            meta = writer.commit()

        found = objects.head("a/b")
        assert found is not None
        assert found == self.as_head(meta, found)
        assert objects.get("a/b") == b"12345"

    def test_a_writer_that_is_left_without_commit_leaves_nothing(self, objects: Objects) -> None:
        with objects.writer("a") as writer:
            writer.write(b"123")

        assert writer.closed
        assert list(objects.list("")) == []
        assert objects.put("a", b"").size == 0

    def test_abort_may_be_repeated_and_changes_nothing_after_a_commit(self, objects: Objects) -> None:
        writer = objects.writer("a")
        writer.write(b"1")
        writer.commit()
        writer.abort()
        other = objects.writer("b")
        other.abort()
        other.abort()

        assert [meta.key for meta in objects.list("")] == ["a"]

    def test_a_finished_writer_refuses_to_go_on(self, objects: Objects) -> None:
        writer = objects.writer("a")
        writer.abort()

        for call in (lambda: writer.write(b"1"), writer.tell, writer.commit):
            with pytest.raises(InvalidRequest, match="the write of 'a' is finished"):
                call()
        assert not writer.writable()

    def test_parquet_can_be_written_to_a_writer_and_read_back(self, objects: Objects) -> None:
        table = pa.table({"n": list(range(100_000)), "s": [str(n) for n in range(100_000)]})

        with objects.writer("t.parquet") as writer:
            with pq.ParquetWriter(writer, table.schema, compression="zstd") as parquet:
                for batch in table.to_batches(max_chunksize=10_000):
                    parquet.write_batch(batch)
            writer.commit()

        with objects.open("t.parquet") as file:
            assert pq.read_table(file) == table

    def test_a_pyarrow_file_can_wrap_a_writer_and_closing_it_commits_nothing(self, objects: Objects) -> None:
        with objects.writer("a") as writer:
            with pa.PythonFile(writer, "w") as file:
                file.write(b"12")
                file.write(pa.py_buffer(b"34"))
            assert objects.head("a") is None
            writer.commit()

        assert objects.get("a") == b"1234"

    def test_many_megabytes_pass_through_a_writer_unchanged(self, objects: Objects) -> None:
        pieces = [bytes([n % 251]) * size for n, size in enumerate([1, 10_000, 3_000_000, 7, 300_000, 1_000_000] * 3)]

        with objects.writer("a") as writer:
            for piece in pieces:
                writer.write(piece)
            meta = writer.commit()

        assert objects.get("a") == b"".join(pieces)
        assert meta.size == sum(map(len, pieces))

    def test_a_listing_is_in_key_order_where_directories_are_only_text(self, objects: Objects) -> None:
        keys = ["a-b/c", "a.b", "a/b.c", "a/b/c", "a/b-c", "a/b0", "a0", "b/c/d/e", "é"]
        for key in reversed(keys):
            objects.put(key, b"")

        assert [meta.key for meta in objects.list("")] == sorted(keys)

    def test_a_prefix_is_text_and_not_a_directory(self, objects: Objects) -> None:
        for key in ("a/bc", "a/b/c", "a/d", "ab"):
            objects.put(key, b"")

        assert [meta.key for meta in objects.list("a/b")] == ["a/b/c", "a/bc"]
        assert [meta.key for meta in objects.list("a/")] == ["a/b/c", "a/bc", "a/d"]
        assert [meta.key for meta in objects.list("a/b/")] == ["a/b/c"]
        assert [meta.key for meta in objects.list("nothing/here")] == []

    def test_a_prefix_that_leaves_the_bucket_is_refused(self, objects: Objects) -> None:
        for prefix in ("../", "/", "a/../../"):
            with pytest.raises(InvalidRequest):
                list(objects.list(prefix))

    def test_of_many_threads_that_put_one_key_exactly_one_succeeds(self, objects: Objects) -> None:
        threads = 8
        barrier = threading.Barrier(threads)

        def put(number: int) -> int:
            won = 0
            for turn in range(RACES):
                barrier.wait()
                try:
                    objects.put(f"race/{turn}/x", str(number).encode())
                except AlreadyExists:
                    continue
                won += 1
            return won

        with ThreadPoolExecutor(threads) as pool:
            wins = list(pool.map(put, range(threads)))

        assert sum(wins) == RACES
        for number, won in enumerate(wins):
            mine = [turn for turn in range(RACES) if objects.get(f"race/{turn}/x") == str(number).encode()]
            assert len(mine) == won

    def test_puts_and_deletes_in_the_same_directory_do_not_disturb_each_other(self, objects: Objects) -> None:
        def churn(number: int) -> None:
            for turn in range(100):
                key = f"d/e/{number}-{turn}"
                objects.put(key, b"x")
                assert objects.get(key) == b"x"
                objects.delete(key)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(churn, range(4)))

        assert list(objects.list("")) == []
