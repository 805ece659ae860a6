"""Views of datasets that are moved or renamed: they go on reading the same rows, however their text names them."""

from __future__ import annotations

import contextlib
import itertools
import random
import re
from typing import TYPE_CHECKING

import pytest
from bucketing import add_bucket, commit
from catalog.making import NOON, create, transaction
from msgspec.structs import replace
from query.asking import rows, run
from tables.moving import before_each_commit, move, operation

from flightserver.access.committing import Author
from flightserver.access.granting import Place
from flightserver.access.principal import Principal
from flightserver.catalog.catalog import Catalog
from flightserver.catalog.entities import LOCAL, PRIMARY, Bucket, Dataset, DatasetKey, Meaning, View
from flightserver.catalog.identities import Privilege
from flightserver.catalog.migration import plan_migration
from flightserver.catalog.requirements import BucketFits
from flightserver.catalog.ulid import new_ulid
from flightserver.catalog.updates import DropDataset, MoveDataset, PutBucket, PutView, RenameBucket, RenameDataset
from flightserver.errors import CommitConflict, InvalidRequest, NotFound, RequestError
from flightserver.lakehouse import Lakehouse
from flightserver.query.namespace import Scope
from flightserver.storage.memory import MemoryObjects

if TYPE_CHECKING:
    from flightserver.catalog.requirements import Requirement
    from flightserver.catalog.snapshot import Snapshot
    from flightserver.catalog.updates import Update
    from flightserver.settings import Settings


@pytest.fixture
def people(lakehouse: Lakehouse) -> Lakehouse:
    """`people` of Ada and Bob is in bucket `x`; there is a bucket `y`."""
    add_bucket(lakehouse, "x")
    add_bucket(lakehouse, "y")
    run(lakehouse, """CREATE TABLE "x".people AS SELECT * FROM (VALUES (1, 'Ada'), (2, 'Bob')) AS t(id, name)""")
    return lakehouse


def meanings(lakehouse: Lakehouse, view: str) -> tuple[Meaning, ...]:
    """Of the names in a view of `primary`."""
    return lakehouse.catalog.snapshot().views[DatasetKey(PRIMARY, view)].meanings


WRITTEN = [
    'SELECT name FROM "x".people',
    "SELECT name FROM X.People",
    "SELECT x.people.name FROM x.people",
    'SELECT lakehouse.x.people.name FROM "lakehouse"."x"."people"',
    "SELECT people.name FROM x.people JOIN people AS p USING (id)",
    "SELECT name FROM people",
    "SELECT name FROM public.people",
    "SELECT name FROM lakehouse.public.people",
    "WITH people AS (SELECT name FROM x.people) SELECT 'x.people' AS said, name FROM people",
    "SELECT name FROM (SELECT 1), x.people /* x.people */ WHERE EXISTS (SELECT 1 FROM x.people AS people)",
    "SELECT name FROM x.people FOR VERSION AS OF 4",
    'SELECT name FROM "other view"',
]
"""Ways to name `people` in bucket `x`."""


@pytest.mark.parametrize("text", WRITTEN)
def test_a_view_reads_the_dataset_where_it_is_now(people: Lakehouse, text: str) -> None:
    run(people, 'CREATE VIEW "other view" AS SELECT name FROM "x".people')
    run(people, f"CREATE VIEW names AS {text} ORDER BY name")
    ask = "SELECT name FROM names ORDER BY name"
    assert rows(people, ask) == [("Ada",), ("Bob",)]

    move(people, "people", "y", source="x")
    assert rows(people, ask) == [("Ada",), ("Bob",)]
    run(people, 'ALTER TABLE "y".people RENAME TO staff')
    assert rows(people, ask) == [("Ada",), ("Bob",)]
    move(people, "staff", PRIMARY, source="y")
    assert rows(people, ask) == [("Ada",), ("Bob",)]
    assert rows(people, "SELECT sql FROM system.views WHERE name = 'names'") == [(f"{text} ORDER BY name",)]


def test_a_view_whose_names_mean_the_same_by_themselves_is_left_alone(people: Lakehouse) -> None:
    run(people, "CREATE VIEW names AS SELECT name FROM people")
    run(people, "CREATE VIEW others AS SELECT 'people_x' AS said")
    run(people, 'CREATE VIEW moved AS SELECT name FROM "x".people')
    made = people.catalog.snapshot()

    move(people, "people", "y", source="x")

    views = people.catalog.snapshot().views
    unchanged = [key.name for key in views if views[key] == made.views[key]]
    assert unchanged == ["names", "others"]
    asked = "SELECT name, sql, version, meanings FROM system.views WHERE version > $1"
    assert rows(people, asked.replace("$1", str(made.version))) == [
        ("moved", 'SELECT name FROM "x".people', made.version + 1, '"x".people is "y".people')
    ]


def test_a_dataset_that_comes_back_is_called_again_as_the_text_says(people: Lakehouse) -> None:
    run(people, 'CREATE VIEW names AS SELECT name FROM "x".people')
    move(people, "people", "y", source="x")
    move(people, "people", "x", source="y")
    assert meanings(people, "names") == ()
    assert rows(people, "SELECT count(*) FROM names") == [(2,)]


def test_another_dataset_of_the_former_name_is_not_read_by_the_view(people: Lakehouse) -> None:
    run(people, 'CREATE VIEW names AS SELECT name FROM "x".people ORDER BY id')
    move(people, "people", "y", source="x")
    run(people, """CREATE TABLE "x".people AS SELECT 3 AS id, 'Eve' AS name""")
    assert rows(people, "SELECT * FROM names") == [("Ada",), ("Bob",)]

    run(people, 'CREATE OR REPLACE VIEW names AS SELECT name FROM "x".people')
    assert rows(people, "SELECT * FROM names") == [("Eve",)]


def test_a_dataset_that_is_made_again_in_one_commit_is_still_followed(people: Lakehouse) -> None:
    run(people, 'CREATE VIEW names AS SELECT name FROM "x".people')
    move(people, "people", "y", source="x")
    run(people, """CREATE OR REPLACE TABLE "y".people AS SELECT 'Eve' AS name""")
    assert rows(people, "SELECT * FROM names") == [("Eve",)]
    assert meanings(people, "names") == (Meaning("x", "people", DatasetKey("y", "people")),)


def test_a_dataset_that_is_dropped_is_not_followed_any_more(people: Lakehouse) -> None:
    run(people, 'CREATE VIEW names AS SELECT name FROM "x".people')
    move(people, "people", "y", source="x")
    run(people, 'DROP TABLE "y".people')
    with pytest.raises(NotFound, match="there is no dataset 'people' in bucket 'x'"):
        run(people, "SELECT * FROM names")
    run(people, """CREATE TABLE "y".people AS SELECT 'of y' AS name""")
    run(people, """CREATE TABLE "x".people AS SELECT 'of x' AS name""")
    assert rows(people, "SELECT * FROM names") == [("of x",)]


def test_tables_that_take_the_place_of_each_other_are_read_when_the_former_is_dropped(people: Lakehouse) -> None:
    run(people, 'CREATE VIEW names AS SELECT name FROM "x".people ORDER BY id')
    before = [("Ada",), ("Bob",)]
    for name in ("Cid", "Dan", "Eve"):
        run(people, f"""CREATE TABLE "x".people_new AS SELECT 3 AS id, '{name}' AS name""")
        run(people, 'ALTER TABLE "x".people RENAME TO people_old')
        run(people, 'ALTER TABLE "x".people_new RENAME TO people')
        assert rows(people, "SELECT * FROM names") == before
        run(people, 'DROP TABLE "x".people_old')
        before = [(name,)]
        assert rows(people, "SELECT * FROM names") == before
        assert meanings(people, "names") == ()


def test_a_drop_of_before_it_let_names_go_leaves_views_as_they_were(people: Lakehouse) -> None:
    run(people, 'CREATE VIEW names AS SELECT name FROM "x".people')
    move(people, "people", "y", source="x")
    followed = people.catalog.snapshot().views
    commit(people, DropDataset("y", "people"))
    assert people.catalog.snapshot().views == followed
    with pytest.raises(NotFound, match=re.escape('what the view reads as "x".people')):
        run(people, "SELECT * FROM names")


def test_a_drop_changes_only_views_that_followed_what_is_dropped(people: Lakehouse) -> None:
    run(people, 'CREATE TABLE "x".others AS SELECT 1 AS n')
    run(people, 'CREATE VIEW both AS SELECT name FROM "x".people, "x".others')
    run(people, 'CREATE VIEW one AS SELECT n FROM "x".others')
    for name in ("people", "others"):
        move(people, name, "y", source="x")
    made = people.catalog.snapshot().views[DatasetKey(PRIMARY, "one")]

    run(people, 'DROP TABLE "y".people')

    now = people.catalog.snapshot()
    assert meanings(people, "both") == (Meaning("x", "others", DatasetKey("y", "others")),)
    assert [view.version for view in now.views.values()] == [now.version, made.version]


@pytest.mark.parametrize(
    ("written", "shown"),
    [("people", 'people is "x".staff'), ('"x".people', 'people is "x".staff, "x".people is "x".staff')],
)
def test_who_may_not_see_where_a_dataset_is_now_is_not_told_by_its_views(
    people: Lakehouse, written: str, shown: str
) -> None:
    run(people, f'CREATE VIEW "x".names AS SELECT name FROM {written} ORDER BY id')
    to = people.administration
    to.create_role(Author("ann", new_ulid()), "clerks")
    to.grant(Author("ann", new_ulid()), "clerks", [Privilege.SELECT], Place("x", ""))
    to.create_user(Author("ann", new_ulid()), "ann", roles=["admin"], certificates=["CN=ann"])
    to.create_user(Author("ann", new_ulid()), "bob", roles=["clerks"])
    principal = Principal("bob", frozenset({"clerks"}), "password", claimed=frozenset())
    ask, look = 'SELECT * FROM "x".names', "SELECT name, meanings FROM system.views"
    run(people, 'ALTER TABLE "x".people RENAME TO staff')
    assert rows(people, ask, rights=people.access.rights(principal)) == [("Ada",), ("Bob",)]
    assert rows(people, look, rights=people.access.rights(principal)) == [("names", shown)]

    move(people, "staff", "y", source="x")

    assert rows(people, look, rights=people.access.rights(principal)) == [("names", "")]
    with pytest.raises(NotFound) as refused:
        run(people, ask, rights=people.access.rights(principal))
    assert f"what the view reads as {written} doesn't exist, or you may not see it" in str(refused.value)
    assert '"y"' not in str(refused.value)
    assert "staff" not in str(refused.value)


def test_what_a_name_means_is_shown_as_sql_writes_it(people: Lakehouse) -> None:
    run(people, 'CREATE TABLE "x"."Only One" AS SELECT 1 AS n')
    run(people, 'CREATE VIEW v AS SELECT n FROM "Only One"')
    run(people, 'ALTER TABLE "x"."Only One" RENAME TO only')
    assert rows(people, "SELECT meanings FROM system.views") == [('"Only One" is "x"."only"',)]


def test_names_are_found_in_texts_as_words() -> None:
    texts = ["t", "x.t", "xx.t", "x.tt", "t_ t", "_t", "été", "x.t.n", '"x"."t"', "(t)", "t t_t"]
    views = [View(PRIMARY, f"v{number}", text, b"", NOON) for number, text in enumerate(texts)]
    catalog = Catalog.open(MemoryObjects())
    catalog.commit(transaction(PutBucket(Bucket("x", LOCAL)), *map(PutView, views)))
    catalog.commit(transaction(create("t", bucket="x")))
    catalog.commit(transaction(RenameDataset("x", "t", "u", views=True)))
    said = {view.sql: [each.schema for each in view.meanings] for view in catalog.snapshot().views.values()}
    bare, both = [None], [None, "x"]
    assert said == {
        "t": bare,
        "x.t": both,
        "xx.t": bare,
        "x.tt": [],
        "t_ t": bare,
        "_t": [],
        "été": [],
        "x.t.n": both,
        '"x"."t"': both,
        "(t)": bare,
        "t t_t": bare,
    }


def test_a_moved_dataset_does_not_hide_another_from_a_view(people: Lakehouse) -> None:
    run(people, "CREATE TABLE people AS SELECT 'of primary' AS name")
    run(people, "CREATE VIEW names AS SELECT name FROM people", bucket="y")

    move(people, "people", "y", source="x")

    assert rows(people, 'SELECT * FROM "y".names') == [("of primary",)]
    assert rows(people, "SELECT name FROM people ORDER BY id", bucket="y") == [("Ada",), ("Bob",)]


def test_a_name_that_would_be_ambiguous_goes_on_meaning_what_it_did(people: Lakehouse) -> None:
    run(people, "CREATE TABLE people AS SELECT 'of primary' AS name")
    run(people, "CREATE VIEW names AS SELECT name FROM people")
    move(people, "people", "y")
    with pytest.raises(InvalidRequest, match="is in several buckets"):
        run(people, "SELECT * FROM people")
    assert rows(people, "SELECT * FROM names") == [("of primary",)]


def test_views_go_on_when_the_former_home_is_dropped_and_the_new_one_renamed(people: Lakehouse) -> None:
    run(people, 'CREATE VIEW names AS SELECT x.people.name FROM "x".people ORDER BY x.people.id')
    move(people, "people", "y", source="x")

    list(people.bucket_service.drop("x", None, operation("drop bucket")))
    people.bucket_service.rename("y", "z", operation("rename bucket"))

    assert rows(people, "SELECT * FROM names") == [("Ada",), ("Bob",)]
    assert meanings(people, "names") == (Meaning("x", "people", DatasetKey("z", "people")),)
    with pytest.raises(NotFound):
        run(people, "SELECT * FROM x.people")


def test_a_former_name_of_a_bucket_goes_on_meaning_the_dataset(people: Lakehouse) -> None:
    run(people, 'CREATE VIEW names AS SELECT name FROM "x".people ORDER BY id')
    people.bucket_service.rename("x", "renamed", operation("rename bucket"))
    move(people, "people", "y", source="renamed")
    assert rows(people, "SELECT * FROM names") == [("Ada",), ("Bob",)]


def test_swapping_names_keeps_each_view_with_its_dataset(people: Lakehouse) -> None:
    run(people, """CREATE TABLE "x".others AS SELECT 3 AS id, 'Eve' AS name""")
    run(people, 'CREATE VIEW v AS SELECT name FROM "x".people ORDER BY id')
    run(people, 'CREATE VIEW w AS SELECT name FROM "x".others')
    for old, new in (("people", "kept"), ("others", "people"), ("kept", "others")):
        run(people, f'ALTER TABLE "x".{old} RENAME TO {new}')

    assert rows(people, "SELECT * FROM v") == [("Ada",), ("Bob",)]
    assert rows(people, "SELECT * FROM w") == [("Eve",)]


def test_a_name_that_only_quotes_can_write_is_found_in_the_text(people: Lakehouse) -> None:
    run(people, """CREATE TABLE "x"."a ""b"".c" AS SELECT 1 AS n""")
    run(people, """CREATE VIEW v AS SELECT n FROM "x"."a ""b"".c" """)
    move(people, 'a "b".c', "y", source="x")
    assert rows(people, "SELECT * FROM v") == [(1,)]


def test_a_view_that_is_made_right_before_the_commit_of_a_move_follows_too(people: Lakehouse) -> None:
    def made() -> None:
        run(people, 'CREATE VIEW names AS SELECT name FROM "x".people ORDER BY id')

    with before_each_commit(people, "move", made):
        move(people, "people", "y", source="x")
    assert rows(people, "SELECT * FROM names") == [("Ada",), ("Bob",)]


def test_a_comment_on_a_view_keeps_what_its_names_mean(people: Lakehouse) -> None:
    run(people, 'CREATE VIEW names AS SELECT name FROM "x".people ORDER BY id')
    move(people, "people", "y", source="x")
    run(people, "COMMENT ON VIEW names IS 'all'")
    assert rows(people, "SELECT * FROM names") == [("Ada",), ("Bob",)]


def test_earlier_versions_of_a_view_read_the_dataset_where_it_was(people: Lakehouse) -> None:
    run(people, 'CREATE VIEW names AS SELECT name FROM "x".people ORDER BY id')
    then = people.catalog.snapshot().version
    move(people, "people", "y", source="x")
    run(people, """INSERT INTO people VALUES (3, 'Eve')""")
    assert rows(people, f"SELECT * FROM names FOR VERSION AS OF {then}") == [("Ada",), ("Bob",)]
    assert rows(people, "SELECT * FROM names") == [("Ada",), ("Bob",), ("Eve",)]


def test_views_follow_after_a_restart(people: Lakehouse, settings: Settings) -> None:
    run(people, 'CREATE VIEW names AS SELECT name FROM "x".people ORDER BY id')
    move(people, "people", "y", source="x")
    people.close()
    with Lakehouse.open(settings) as again:
        assert rows(again, "SELECT * FROM names") == [("Ada",), ("Bob",)]


@pytest.mark.parametrize(
    "update", [MoveDataset("x", "people", "y"), RenameDataset("x", "people", "staff")], ids=["move", "rename"]
)
def test_commits_of_before_views_followed_leave_them_as_they_were(
    people: Lakehouse, update: MoveDataset | RenameDataset
) -> None:
    run(people, 'CREATE VIEW names AS SELECT name FROM "x".people')
    commit(people, update)
    assert meanings(people, "names") == ()
    with pytest.raises(NotFound, match="there is no dataset 'people' in bucket 'x'"):
        run(people, "SELECT * FROM names")


def test_what_a_name_means_is_mended_when_it_says_primary_in_an_old_way(people: Lakehouse) -> None:
    run(people, 'CREATE VIEW names AS SELECT name FROM "x".people')
    old = people.catalog.snapshot().views[DatasetKey(PRIMARY, "names")]
    meant = Meaning("x", "people", DatasetKey("data", "people"))
    commit(
        people, PutView(View(old.bucket, old.name, old.sql, old.schema, old.created, meanings=(meant,)), replace=True)
    )
    commit(people, plan_migration(people.catalog.snapshot()).update)
    assert meanings(people, "names") == (Meaning("x", "people", DatasetKey(PRIMARY, "people")),)


SCHEMAS = [None, "public", "x", "y", "z", "w", PRIMARY]
NAMES = ["a", "b", "c"]


def found(snapshot: Snapshot) -> dict[tuple[str, str | None, str], str]:
    """The ids of the datasets that names mean in each view, by view, schema and name; without those that mean none."""
    answer = {}
    for view in snapshot.views.values():
        inside = Scope(snapshot).inside(view)
        for schema, name in itertools.product(SCHEMAS, NAMES):
            with contextlib.suppress(NotFound, InvalidRequest):
                relation = inside.relation(name, schema)
                answer[view.name, schema, name] = relation.id if isinstance(relation, Dataset) else str(relation.key)
    return answer


@pytest.mark.parametrize("seed", range(20))
def test_no_name_in_any_view_means_something_else_after_moves_and_renames(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  # not for secrets
    catalog = Catalog.open(MemoryObjects())
    text = "SELECT * FROM " + ", ".join(f"{schema or 'no'}.{name}" for schema in SCHEMAS for name in NAMES)
    views = [
        View(PRIMARY, f"v{number}", text, b"", NOON, default_bucket=bucket, default_schema=schema)
        for number, (bucket, schema) in enumerate(itertools.product([None, "x", "y"], ["public", "x", PRIMARY]))
    ]
    homes = chance.sample(list(itertools.product([PRIMARY, "x", "y"], NAMES)), k=5)
    catalog.commit(transaction(*(PutBucket(Bucket(name, LOCAL)) for name in "xy"), *map(PutView, views)))
    catalog.commit(transaction(*(create(name, bucket=bucket) for bucket, name in homes)))
    done = 0
    while done < 12:  # some datasets come back to where they were
        before = catalog.snapshot()
        bucket, name = chance.choice(sorted(before.datasets))
        renamed = chance.choice(sorted(before.buckets.values(), key=lambda one: one.name))
        called = replace(renamed, name=chance.choice("xyzw"))
        changes: list[tuple[Update, tuple[Requirement, ...]]] = [
            (MoveDataset(bucket, name, chance.choice(sorted(before.buckets)), views=True), ()),
            (RenameDataset(bucket, name, chance.choice(NAMES), views=True), ()),
            (RenameBucket(renamed.name, called.name), (BucketFits(called, instead_of=renamed.name),)),
        ]
        update, requires = chance.choice(changes)
        with contextlib.suppress(RequestError, CommitConflict):
            catalog.commit(transaction(update, requires=requires))
            done += 1
            meant, now = found(before), found(catalog.snapshot())
            assert {each: now.get(each) for each in meant} == meant
