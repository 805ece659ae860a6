"""Committing, repeating, racing, and a log that is damaged."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from catalog.making import NOON, append, create, dataset, lineage, transaction

from flightserver.catalog.catalog import Catalog
from flightserver.catalog.entities import PRIMARY, Bucket, Segment
from flightserver.catalog.log import Operation, commit_key
from flightserver.catalog.requirements import ContentAbsent, DatasetAbsent, DatasetAt
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.updates import AppendSegments, CreateDataset
from flightserver.errors import CommitConflict, InternalError, InvalidRequest
from flightserver.storage.memory import MemoryObjects

if TYPE_CHECKING:
    from collections.abc import Callable

    from flightserver.storage.objects import Objects


@pytest.fixture
def objects() -> Objects:
    return MemoryObjects()


@pytest.fixture
def catalog(objects: Objects) -> Catalog:
    return Catalog.open(objects, server="here")


def rewrite(objects: Objects, version: int, data: bytes) -> None:
    """Damage the log as no server does: put other bytes under a commit's key."""
    objects.delete(commit_key(version))
    objects.put(commit_key(version), data)


def edit(objects: Objects, version: int, change: Callable[[dict[str, Any]], None]) -> None:
    commit = json.loads(objects.get(commit_key(version)))
    change(commit)
    rewrite(objects, version, json.dumps(commit).encode())


def test_a_new_catalog_has_the_primary_bucket_and_is_at_version_1(objects: Objects) -> None:
    snapshot = Catalog.open(objects, clock=lambda: NOON).snapshot()

    assert snapshot.version == 1
    assert snapshot.time == NOON
    assert dict(snapshot.buckets) == {PRIMARY: Bucket(PRIMARY, "local", created=NOON)}
    assert not snapshot.datasets


def test_opening_a_catalog_again_creates_nothing(objects: Objects) -> None:
    first = Catalog.open(objects)

    second = Catalog.open(objects)

    assert second.snapshot() == first.snapshot()
    assert [meta.key for meta in objects.list("")] == [commit_key(1)]


def test_a_commit_is_one_json_object_that_tells_who_did_what(objects: Objects, catalog: Catalog) -> None:
    catalog.commit(transaction(create("people", 3), operation="op-a", rows=3))

    commit = json.loads(objects.get("_catalog/commits/00000000000000000002.json"))
    assert (commit["version"], commit["server"]) == (2, "here")
    [recorded] = commit["transactions"]
    assert recorded["operation"] == {"id": "op-a", "kind": "test", "rows": 3}
    assert [update["type"] for update in recorded["updates"]] == ["create_dataset"]


def test_a_commit_says_which_version_it_became(catalog: Catalog) -> None:
    outcome = catalog.commit(transaction(create("people", 3), rows=3))

    assert (outcome.version, outcome.rows) == (2, 3)
    assert outcome.time == catalog.snapshot().time


def test_another_instance_sees_a_commit_at_once(objects: Objects, catalog: Catalog) -> None:
    other = Catalog.open(objects)

    catalog.commit(transaction(create("people", 3)))

    assert other.snapshot() == catalog.snapshot()
    assert other.snapshot().dataset("people").rows == 3


def test_a_snapshot_that_is_held_does_not_see_later_commits(catalog: Catalog) -> None:
    held = catalog.snapshot()

    catalog.commit(transaction(create("people", 3)))

    assert held.version == 1
    assert not held.datasets


def test_a_repeated_operation_returns_the_first_outcome_and_changes_nothing(objects: Objects, catalog: Catalog) -> None:
    first = catalog.commit(transaction(create("people", 3), operation="once", rows=3))

    again = catalog.commit(transaction(append("people", 5), operation="once", rows=5))
    elsewhere = Catalog.open(objects).commit(transaction(append("people", 5), operation="once", rows=5))

    assert first == again == elsewhere
    assert catalog.snapshot().version == 2
    assert catalog.snapshot().dataset("people").rows == 3


def test_an_operation_without_an_id_is_refused(catalog: Catalog) -> None:
    nameless = Transaction(Operation(id="", kind="test"), (create("people"),))

    with pytest.raises(InvalidRequest, match="operation has no id"):
        catalog.commit(nameless)


def test_two_instances_that_commit_by_turns_make_one_history(objects: Objects, catalog: Catalog) -> None:
    other = Catalog.open(objects)
    catalog.commit(transaction(create("people")))

    for rows in range(1, 11):
        (catalog, other)[rows % 2].commit(transaction(append("people", rows)))

    assert catalog.snapshot() == other.snapshot()
    assert catalog.snapshot().version == 12
    assert catalog.snapshot().dataset("people").rows == 55


def test_a_requirement_is_checked_against_what_other_instances_have_committed(
    objects: Objects, catalog: Catalog
) -> None:
    other = Catalog.open(objects)
    catalog.commit(transaction(create("people", 1)))

    with pytest.raises(CommitConflict, match="there is one, at version 2") as caught:
        other.commit(transaction(create("people", 9), requires=(DatasetAbsent(PRIMARY, "people"),)))

    assert DatasetAbsent.refused(caught.value)
    assert not ContentAbsent.refused(caught.value)


def test_identical_content_is_told_from_other_conflicts(catalog: Catalog) -> None:
    once = ContentAbsent(PRIMARY, "people", "sha")
    catalog.commit(transaction(create("people")))
    catalog.commit(transaction(append("people", 1, content="sha"), requires=(once,)))

    with pytest.raises(CommitConflict, match="doesn't have the same bytes already") as caught:
        catalog.commit(transaction(append("people", 1, content="sha"), requires=(once, DatasetAt(PRIMARY, "x", 1))))

    assert ContentAbsent.refused(caught.value)


def test_a_value_that_could_not_be_read_back_is_never_written(objects: Objects, catalog: Catalog) -> None:
    wrong: Any = Segment("s", PRIMARY, "d", 1, "many", 0, "f")  # type: ignore[arg-type]  # rows must be a number
    broken = msgspec.structs.replace(dataset("people"), segments=(wrong,))

    with pytest.raises(InvalidRequest, match=r"can't be written to the catalog's log: Expected `int`, got `str`"):
        catalog.commit(transaction(CreateDataset(broken)))
    with pytest.raises(InvalidRequest, match="can't be written to the catalog's log"):
        catalog.commit(transaction(create("people\ud800")))

    assert Catalog.open(objects).snapshot().version == 1


def test_commit_times_do_not_go_back_when_the_clock_does(objects: Objects) -> None:
    times = iter([NOON, NOON - timedelta(hours=1), NOON + timedelta(seconds=1), NOON])
    catalog = Catalog.open(objects, clock=lambda: next(times))

    for name in "abc":
        catalog.commit(transaction(create(name)))

    later = NOON + timedelta(seconds=1)
    assert [commit.time for commit in catalog.commits()] == [NOON, NOON, later, later]


def test_commits_are_read_in_either_order_and_only_when_asked_for(objects: Objects, catalog: Catalog) -> None:
    for name in "abcd":
        catalog.commit(transaction(create(name)))

    assert [commit.version for commit in catalog.commits()] == [1, 2, 3, 4, 5]
    assert [commit.version for commit in catalog.commits(after=3)] == [4, 5]
    newest_first = catalog.commits(newest_first=True)
    rewrite(objects, 2, b"")
    assert [next(newest_first).version for _ in range(3)] == [5, 4, 3]
    with pytest.raises(InternalError, match="commit 2"):
        next(newest_first)


@pytest.mark.parametrize("data", [b"", b"{", b"null", b"\xff\x00", b'{"version": 3}', b"[]", b'{"version": "x"}'])
def test_a_commit_that_cannot_be_read_is_an_error_that_names_it(
    objects: Objects, catalog: Catalog, data: bytes
) -> None:
    for name in "abc":
        catalog.commit(transaction(create(name)))
    rewrite(objects, 3, data)

    with pytest.raises(InternalError, match="commit 3 of the catalog can't be read and must be restored"):
        Catalog.open(objects)


def test_a_running_server_reports_an_unreadable_commit_and_goes_on_when_it_is_restored(
    objects: Objects, catalog: Catalog
) -> None:
    other = Catalog.open(objects)
    other.commit(transaction(create("people", 3)))
    good = objects.get(commit_key(2))
    rewrite(objects, 2, b"garbage")

    with pytest.raises(InternalError, match="commit 2"):
        catalog.snapshot()
    with pytest.raises(InternalError, match="commit 2"):
        catalog.commit(transaction(create("other")))

    rewrite(objects, 2, good)
    assert catalog.commit(transaction(append("people", 1))).version == 3


def test_a_commit_under_another_number_is_an_error(objects: Objects, catalog: Catalog) -> None:
    catalog.commit(transaction(create("people")))
    objects.put(commit_key(3), objects.get(commit_key(2)))

    with pytest.raises(InternalError, match="the object of commit 3 holds commit 2"):
        Catalog.open(objects)


def test_a_hole_in_the_log_is_an_error_that_names_it(objects: Objects, catalog: Catalog) -> None:
    for name in "abcd":
        catalog.commit(transaction(create(name)))
    objects.delete(commit_key(3))

    with pytest.raises(InternalError, match="commit 3 is missing from the catalog's log, but commit 4 exists"):
        Catalog.open(objects)


def test_a_server_does_not_go_on_when_its_log_has_vanished(objects: Objects, catalog: Catalog) -> None:
    """As when the disk of the bucket is unmounted under a running server."""
    catalog.commit(transaction(create("people")))
    for meta in list(objects.list("")):
        objects.delete(meta.key)

    with pytest.raises(InternalError, match="commit 2 has vanished from the catalog's log"):
        catalog.commit(transaction(append("people", 1)))

    assert list(objects.list("")) == []


def test_other_objects_beside_the_commits_are_ignored(objects: Objects, catalog: Catalog) -> None:
    objects.put("_catalog/commits/README", b"not a commit")
    objects.put("_catalog/commits/00000000000000000002.json.bak", b"not a commit")

    assert Catalog.open(objects).snapshot() == catalog.snapshot()


def test_fields_that_a_newer_release_added_are_ignored(objects: Objects, catalog: Catalog) -> None:
    catalog.commit(transaction(create("people", 3)))

    def add_fields(commit: dict[str, Any]) -> None:
        commit["weather"] = "fine"
        commit["transactions"][0]["reason"] = {"why": [1, 2]}
        commit["transactions"][0]["updates"][0]["dataset"]["colour"] = None

    edit(objects, 2, add_fields)

    assert Catalog.open(objects).snapshot() == catalog.snapshot()


def test_an_update_that_this_release_does_not_know_is_refused_as_newer(objects: Objects, catalog: Catalog) -> None:
    catalog.commit(transaction(create("people", 3)))

    def add_update(commit: dict[str, Any]) -> None:
        commit["transactions"][0]["updates"].append({"type": "put_wish", "name": "v"})

    edit(objects, 2, add_update)

    with pytest.raises(InternalError, match=r"a newer version of flightserver wrote commit 2 .*\(put_wish\): upgrade"):
        Catalog.open(objects)


def test_a_newer_format_is_refused_even_if_it_could_be_read(objects: Objects, catalog: Catalog) -> None:
    catalog.commit(transaction(create("people", 3)))
    edit(objects, 2, lambda commit: commit.update(format=2))

    with pytest.raises(InternalError, match=r"a newer version of flightserver wrote commit 2 .* format 2: upgrade"):
        Catalog.open(objects)


def test_an_append_that_evolves_is_read_back_as_it_was_written(objects: Objects, catalog: Catalog) -> None:
    catalog.commit(transaction(create("people", 3)))
    update = AppendSegments(PRIMARY, "people", (), lineage(0, "c"), b"\x00\xff", "f2")

    catalog.commit(transaction(update))

    assert next(catalog.commits(newest_first=True)).transactions[0].updates == (update,)
    assert Catalog.open(objects).snapshot() == catalog.snapshot()


def test_opening_is_logged_with_version_and_number_of_replayed_commits(
    objects: Objects, catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    catalog.commit(transaction(create("people", 3)))

    with caplog.at_level(logging.INFO, "flightserver.catalog"):
        Catalog.open(objects)

    [record] = [each for each in caplog.records if each.getMessage() == "catalog opened"]
    assert (vars(record)["version"], vars(record)["replayed"]) == (2, 2)


def test_a_closed_catalog_still_reads_and_commits(objects: Objects) -> None:
    catalog = Catalog.open(objects, checkpoint_every=1)
    catalog.close()
    catalog.close()

    assert catalog.commit(transaction(create("people", 3))).version == 2
    assert isinstance(catalog.snapshot().time, datetime)


def test_a_checkpoint_distance_below_one_is_refused(objects: Objects) -> None:
    with pytest.raises(InvalidRequest, match="checkpoint_every is 0, but must be at least 1"):
        Catalog.open(objects, checkpoint_every=0)
