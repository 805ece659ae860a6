"""A dataset at a version, at a time, under a tag; and back to it."""

from __future__ import annotations

from datetime import timedelta, timezone
from typing import TYPE_CHECKING
from unittest.mock import patch

import pyarrow as pa
import pytest
from tables.archive import NOON, Archive, before_commit, operation

from flightserver.catalog.entities import PRIMARY, DatasetKey, External
from flightserver.catalog.identity_updates import TagColumns
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.updates import CreateDataset, DropDataset, RenameDataset
from flightserver.errors import AlreadyExists, BackendUnavailable, CommitConflict, InvalidRequest, NotFound
from flightserver.tables.definitions import Definition
from flightserver.tables.versions import check_tag, dataset_at, moment
from flightserver.tables.writes import Mode

if TYPE_CHECKING:
    from typing import Any


@pytest.fixture
def archive() -> Archive:
    """Hour by hour: version 2 of `t` has 1 and 2, version 3 is about another, version 4 of `t` lacks 1."""
    archive = Archive.open()
    archive.clock.wait(1)
    archive.write(1, 2)
    archive.clock.wait(1)
    archive.write(9, name="other")
    archive.clock.wait(1)
    archive.remove(1)
    return archive


def define(archive: Archive, definition: Definition) -> None:
    update = definition.update()
    assert update is not None
    archive.catalog.commit(Transaction(operation(), (update,)))


def tag(archive: Archive, columns: dict[str, tuple[str, ...]]) -> None:
    archive.catalog.commit(Transaction(operation(), (TagColumns(PRIMARY, "people", columns=columns),)))


# Finding


def test_a_version_is_what_the_commit_left(archive: Archive) -> None:
    assert archive.rows_at(2) == [1, 2]
    assert archive.rows_at(3) == [1, 2]
    assert archive.rows_at(4) == [2]


def test_the_dataset_at_a_version_has_the_number_of_its_own_last_change(archive: Archive) -> None:
    snapshot, found = dataset_at(archive.catalog, archive.dataset(), 3)

    assert (snapshot.version, found.version) == (3, 2)


def test_a_time_is_the_version_that_was_the_newest(archive: Archive) -> None:
    assert archive.rows_at(NOON + timedelta(hours=1)) == [1, 2]
    assert archive.rows_at(NOON + timedelta(hours=2.9)) == [1, 2]
    assert archive.rows_at(NOON + timedelta(hours=3)) == [2]
    assert archive.rows_at(NOON + timedelta(days=99)) == [2]


def test_a_time_may_have_a_zone_or_none(archive: Archive) -> None:
    hour = NOON + timedelta(hours=1)

    assert archive.rows_at(hour.replace(tzinfo=None)) == [1, 2]
    assert archive.rows_at(hour.astimezone(timezone(timedelta(hours=-7)))) == [1, 2]


def test_a_dataset_is_found_under_the_name_that_it_had(archive: Archive) -> None:
    archive.catalog.commit(Transaction(operation(), (RenameDataset(PRIMARY, "t", "renamed"),)))
    archive.write(5, name="t")

    assert archive.rows_at(2, "renamed") == [1, 2]
    assert archive.rows_at(NOON + timedelta(hours=1), "renamed") == [1, 2]
    with pytest.raises(
        NotFound, match=r"dataset \"primary\"\.t didn't exist at version 2: it was created by version 6"
    ):
        archive.rows_at(2, "t")


def test_a_version_before_the_creation_is_not_found(archive: Archive) -> None:
    with pytest.raises(
        NotFound, match=r"t didn't exist at version 1: it was created by version 2, at 2026-01-01T13:00:00\+00:00$"
    ):
        archive.rows_at(1)


def test_a_time_before_the_creation_is_not_found(archive: Archive) -> None:
    for hours in (0.5, -10):
        with pytest.raises(NotFound, match=r"t didn't exist at 2.*: it was created by version 2"):
            archive.rows_at(NOON + timedelta(hours=hours))


@pytest.mark.parametrize("version", [5, 0, -1, 10**20])
def test_a_version_that_was_never_committed_is_not_found(archive: Archive, version: int) -> None:
    with pytest.raises(NotFound, match=rf"t has no version {version}: the newest commit is 4"):
        archive.rows_at(version)


def test_a_version_after_the_end_of_a_dataset_is_not_found(archive: Archive) -> None:
    ended = archive.dataset()
    archive.catalog.commit(Transaction(operation(), (DropDataset(PRIMARY, "t"),)))

    assert archive.rows(dataset_at(archive.catalog, ended, 2)[1]) == [1, 2]
    with pytest.raises(NotFound, match=r"didn't exist at version 5: it was dropped after version 4"):
        dataset_at(archive.catalog, ended, 5)
    with pytest.raises(NotFound, match=r"didn't exist at version 1: it was created by version 2"):
        dataset_at(archive.catalog, ended, 1)


def test_a_dataset_that_only_its_transaction_knows_has_no_versions(archive: Archive) -> None:
    created = archive.dataset()
    unknown = type(created)(
        id="new", bucket=PRIMARY, name="new", schema=b"", schema_fingerprint="", created=NOON, version=5
    )

    with pytest.raises(NotFound, match="didn't exist at version 2: it was created in this transaction"):
        dataset_at(archive.catalog, unknown, 2)


def test_versions_of_an_attached_dataset_are_its_owners(archive: Archive) -> None:
    external = External("delta", "inbox/table")
    attached = type(archive.dataset())(
        id="a", bucket=PRIMARY, name="a", schema=b"", schema_fingerprint="", created=NOON, external=external
    )
    archive.catalog.commit(Transaction(operation(), (CreateDataset(attached),)))

    for step in (lambda: archive.rows_at(5, "a"), lambda: archive.restore(5, "a")):
        with pytest.raises(InvalidRequest, match=r"a is attached \(delta\), so that its versions are its owner's"):
            step()
    with pytest.raises(InvalidRequest, match="attached"):
        archive.tag("x", name="a")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (3, 3),
        ("3", 3),
        ("nightly", "nightly"),
        ("2026-01-31", "2026-01-31"),
        ("2026-02-01", NOON.replace(month=2, day=1, hour=0, tzinfo=None)),
        ("2026-01-01T13:00:00+00:00", NOON + timedelta(hours=1)),
    ],
)
def test_a_version_a_tag_and_a_time_are_told_apart_and_tags_come_first(
    archive: Archive, given: int | str, meant: object
) -> None:
    archive.tag("2026-01-31")

    assert moment(archive.dataset(), given) == meant


# Tags


def test_a_tag_names_the_version_that_a_dataset_has_now(archive: Archive) -> None:
    assert archive.tag("before the flood") == 4
    archive.write(7)

    assert archive.rows_at("before the flood") == [2]
    assert archive.dataset().tags == {"before the flood": 4}


def test_a_tag_names_the_datasets_own_version(archive: Archive) -> None:
    assert archive.tag("a", 3) == 2
    assert archive.tag("b", NOON + timedelta(hours=2)) == 2
    assert archive.tag("c", "a") == 2
    assert archive.dataset().tags == {"a": 2, "b": 2, "c": 2}


def test_the_same_tag_again_changes_nothing(archive: Archive) -> None:
    archive.tag("a")
    version = archive.catalog.snapshot().version

    assert (archive.tag("a"), archive.tag("a", 4)) == (4, 4)
    assert archive.catalog.snapshot().version == version


def test_a_tag_of_another_version_is_taken(archive: Archive) -> None:
    archive.tag("a", 2)

    with pytest.raises(
        AlreadyExists, match=r"tag 'a' of dataset \"primary\"\.t names version 2, not 5: delete it first"
    ):
        archive.tag("a")


def test_a_tag_that_was_deleted_is_free_again(archive: Archive) -> None:
    archive.tag("a", 2)

    assert archive.untag("a") == 2
    assert archive.dataset().tags == {}
    assert archive.tag("a", 4) == 4


def test_a_tag_that_is_not_there_is_not_found_and_the_message_lists_those_that_are(archive: Archive) -> None:
    with pytest.raises(NotFound, match=r"t has no tag 'x': it has none"):
        archive.rows_at("x")
    for tag in ("b", "a"):
        archive.tag(tag)
    for step in (lambda: archive.rows_at("x"), lambda: archive.restore("x"), lambda: archive.untag("x")):
        with pytest.raises(NotFound, match=r"t has no tag 'x': it has 'a', 'b'$"):
            step()


@pytest.mark.parametrize("tag", ["a", "2026-01-31", "v1", "1.0.0", "Ünïcode und Leerzeichen", "e5", "x" * 100])
def test_any_short_text_is_a_tag(tag: str) -> None:
    assert check_tag(tag) == tag


@pytest.mark.parametrize(
    ("tag", "problem"),
    [
        ("", "it is empty"),
        ("  ", "it is empty"),
        ("x" * 101, "longer than 100 characters"),
        ("a\nb", "can't be printed"),
        (" a", "blanks around it"),
        ("17", "a number would be taken for a version"),
        ("-1", "a number"),
        ("1.5", "a number"),
        ("1e5", "a number"),
    ],
)
def test_what_would_not_be_found_again_is_no_tag(tag: str, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        check_tag(tag)


def test_a_tag_waits_for_writers_and_names_what_they_left(archive: Archive) -> None:
    with before_commit(archive, lambda: archive.write(8)):
        assert archive.tag("a") == 5

    assert archive.rows_at("a") == [2, 8]


# Restoring


def test_restoring_brings_back_rows_and_history_goes_on(archive: Archive) -> None:
    assert archive.restore(2) == 5
    assert archive.rows(archive.dataset()) == [1, 2]
    assert archive.rows_at(4) == [2]

    archive.write(3)
    assert archive.rows(archive.dataset()) == [1, 2, 3]
    assert [(one.kind, one.rows) for one in archive.catalog.history(archive.dataset())] == [
        ("create_append", 3),
        ("restore", 2),
        ("delete", 1),
        ("create_append", 2),
    ]


def test_restoring_brings_back_schema_key_and_names_of_columns(archive: Archive) -> None:
    table = pa.table({"k": [1, 2], "n": [10, 20]})
    first = archive.write_table(table, name="keyed", mode=Mode.CREATE, primary_key=("k",))
    then = archive.dataset("keyed")
    definition = Definition.of(then).rename_column("n", "m").set_primary_key(()).add_column(pa.field("x", pa.string()))
    define(archive, definition)
    archive.write_table(pa.table({"k": [3], "m": [30], "x": ["new"]}), name="keyed", mode=Mode.APPEND)

    archive.restore(first, "keyed")

    now = archive.dataset("keyed")
    assert (now.schema, now.primary_key, now.lineage) == (then.schema, then.primary_key, then.lineage)
    assert (now.segments, now.deltas, now.rows, now.bytes) == (then.segments, then.deltas, then.rows, then.bytes)
    assert archive.rows(now) == [(1, 10), (2, 20)]


def test_restoring_keeps_name_comment_tags_and_identity(archive: Archive) -> None:
    archive.tag("a", 2)
    archive.catalog.commit(Transaction(operation(), (RenameDataset(PRIMARY, "t", "renamed"),)))
    before = archive.dataset("renamed")

    archive.restore("a", "renamed")

    now = archive.dataset("renamed")
    assert (now.id, now.name, now.comment, now.tags) == (before.id, "renamed", before.comment, {"a": 2})
    assert archive.rows(now) == [1, 2]


def test_a_column_that_comes_back_under_its_former_name_keeps_what_has_been_said_of_it(archive: Archive) -> None:
    """Policies on tagged columns would show its values otherwise."""
    people = pa.table({"id": [1], "email": ["a@b.c"], "phone": ["1"]})
    first = archive.write_table(people, name="people", mode=Mode.CREATE)
    tag(archive, {"phone": ("pii",)})
    second = archive.catalog.snapshot().version
    define(archive, Definition.of(archive.dataset("people")).rename_column("email", "mail").drop_column("phone"))
    tag(archive, {"mail": ("pii", "contact")})

    archive.restore(second, "people")
    assert archive.dataset("people").column_tags == {
        "email": ("pii", "contact"),
        "phone": ("pii",),
        "mail": ("pii", "contact"),
    }
    tag(archive, {"email": ("pii",)})
    archive.restore(first, "people")
    assert archive.dataset("people").column_tags == {
        "email": ("pii",),
        "phone": ("pii",),
        "mail": ("pii", "contact"),
    }


def test_restoring_what_it_is_already_commits_nothing(archive: Archive) -> None:
    archive.tag("a")
    version = archive.catalog.snapshot().version

    for at in (4, version, "a", NOON + timedelta(days=1)):
        assert archive.restore(at) == version

    assert archive.catalog.snapshot().version == version


def test_a_version_can_be_restored_over_and_over(archive: Archive) -> None:
    for _ in range(3):
        archive.restore(2)
        assert archive.rows(archive.dataset()) == [1, 2]
        archive.restore(4)
        assert archive.rows(archive.dataset()) == [2]


def test_rows_that_are_back_can_be_removed_again(archive: Archive) -> None:
    archive.restore(2)
    archive.remove(2)

    assert archive.rows(archive.dataset()) == [1]


def test_a_restore_waits_for_writers_and_undoes_what_they_did(archive: Archive) -> None:
    with before_commit(archive, lambda: archive.write(8)):
        assert archive.restore(2) == 6

    assert archive.rows(archive.dataset()) == [1, 2]
    assert archive.rows_at(5) == [2, 8]


def test_a_restore_that_writers_overtake_again_and_again_conflicts(archive: Archive) -> None:
    commit = archive.catalog.commit

    def overtaken(transaction: Any) -> Any:
        with patch.object(archive.catalog, "commit", commit):
            archive.write(8)
        return commit(transaction)

    with (
        patch.object(archive.catalog, "commit", overtaken),
        pytest.raises(
            CommitConflict, match=r"requires that dataset \"primary\"\.t is at version 23, but it is at version 24"
        ),
    ):
        archive.restore(2)


def test_rows_that_are_back_are_new_to_who_needs_that_none_were_added(archive: Archive) -> None:
    with archive.tables.change(archive.dataset(), archive.catalog.snapshot()) as change:
        change.add(pa.record_batch([pa.array([1])], names=["n"]))
        archive.restore(2)
        with pytest.raises(CommitConflict, match="adds rows"):
            change.commit(operation(), appended_nothing=True)

    assert archive.rows(archive.dataset()) == [1, 2]


@pytest.mark.parametrize("part", ["part-00000.parquet", "deltas"])
def test_a_version_whose_file_is_gone_is_not_restored(archive: Archive, part: str) -> None:
    archive.restore(2)
    (key,) = (key for key in archive.files() if key.startswith("datasets/t/") and part in key)
    archive.bucket.objects.delete(key)

    with pytest.raises(
        BackendUnavailable, match=rf"version 4 of dataset \"primary\"\.t can't be restored: .* file '{key}' is missing"
    ):
        archive.restore(4)

    assert archive.dataset().version == 5


def test_a_version_whose_file_has_another_size_is_not_restored(archive: Archive) -> None:
    (key,) = (key for key in archive.files() if key.startswith("datasets/t/") and "part" in key)
    archive.bucket.objects.delete(key)
    archive.bucket.objects.put(key, b"PAR1")

    with pytest.raises(BackendUnavailable, match=r"have 4 bytes, of [\d,]+ in all: restore it from a backup"):
        archive.restore(2)


def test_a_dataset_that_does_not_exist_can_not_be_restored(archive: Archive) -> None:
    with pytest.raises(NotFound, match="there is no dataset 'nothing'"):
        archive.versions.restore(DatasetKey(PRIMARY, "nothing"), 2, operation())
