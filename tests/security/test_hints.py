"""What messages tell beside what was asked: similar names, what there is else, and where something is by now.

Much of it is found where nobody knows who asks, by what the catalog has. It is told to who may see what it names, and
to nobody else. `tess` may do everything in bucket `testing`, and nothing in `primary`.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from bucketing import add_bucket
from security.calls import answered, sql_action
from security.test_newer_rights import COMMIT, ERRORS, before, loaded, sent
from security.world import ANALYST, TESTER, by, command
from tables.moving import move

from flightserver.access.granting import Place
from flightserver.access.rights import UNRESTRICTED
from flightserver.catalog.bucket_updates import RenameBucket
from flightserver.catalog.catalog import Catalog
from flightserver.catalog.identities import Privilege
from flightserver.catalog.log import Operation
from flightserver.catalog.missing import no_bucket
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.ulid import new_ulid
from flightserver.catalog.updates import DropBucket
from flightserver.errors import NotFound, Unauthenticated, sees_nothing
from flightserver.federation.lifecycle import described
from flightserver.flight.status import to_flight_error
from flightserver.tables.compaction import Compactor
from flightserver.tables.moving import Mover
from flightserver.tables.versions import Versions
from flightserver.tables.writes import Tables
from flightserver.vectors.service import Indexes

if TYPE_CHECKING:
    from collections.abc import Callable

    from security.world import User, World

    from flightserver.errors import Sees
    from flightserver.flight.status import Sight
    from flightserver.lakehouse import Lakehouse

NEW_HOME = '"primary".notes'
AT_THE_COMMIT = (Catalog, "commit")
"""All that is confirmed right before a commit was confirmed."""


def refused(ask: Callable[[], object]) -> str:
    """The message that a call is refused with."""
    with pytest.raises(ERRORS) as found:
        ask()
    said = re.match(r".*?\[FS-\d{4}\]", str(found.value))
    assert said is not None
    return said[0]


def append(user: User, name: str) -> str:
    """What is said to who sends rows to a dataset that isn't there."""
    return refused(lambda: sent(user, ingest=name, mode="append"))


@pytest.fixture
def tess(world: World) -> User:
    return world["tess"]


def move_away(world: World) -> None:
    move(world.lakehouse, "notes", "primary", "testing")


def test_similar_names_are_those_that_the_caller_sees(world: World, root: User, tess: User) -> None:
    world.sql("CREATE TABLE primary.note AS SELECT 1 AS n")
    missing = "there is no dataset 'note' in bucket 'testing'"
    assert append(root, "note") == f'{missing}; similar: "primary".note, notes [FS-1004]'
    assert append(tess, "note") == f"{missing}; similar: notes [FS-1004]"

    administration = world.lakehouse.administration
    administration.revoke(by(), TESTER, None, Place("testing"))
    administration.grant(by(), TESTER, [Privilege.INSERT], Place("testing"))
    assert append(tess, "note") == f"{missing} [FS-1004]"


def test_files_of_rows_for_a_dataset_that_is_not_there_are_told_the_same(world: World, tess: User) -> None:
    with world.lakehouse.uploads.start("rows.csv", user="tess") as upload:
        upload.write(b"x\n1\n")
        source = upload.finish().id
    asked = {"dataset": "secret", "bucket": "testing", "source": source, "mode": "append"}
    missing = "there is no dataset 'secret' in bucket 'testing'"
    assert refused(lambda: tess.call("ingest.file", asked)) == f"{missing} [FS-1004]"


ON_NOTES: dict[str, tuple[tuple[type, str], Callable[[World, User], object]]] = {
    "truncate": ((Tables, "clear"), lambda _, user: user.ask("TRUNCATE TABLE testing.notes")),
    "drop": ((Tables, "drop"), lambda _, user: user.ask("DROP TABLE testing.notes")),
    "dataset.truncate": (
        (Tables, "clear"),
        lambda _, user: user.call("dataset.truncate", {"dataset": "notes", "bucket": "testing"}),
    ),
    "dataset.drop": (
        (Tables, "drop"),
        lambda _, user: user.call("dataset.drop", {"dataset": "notes", "bucket": "testing"}),
    ),
    "dataset.delete": (COMMIT, lambda world, user: loaded(world, user, "dataset.delete")),
    "dataset.tag": (
        (Versions, "tag"),
        lambda _, user: user.call("dataset.tag", {"dataset": "notes", "bucket": "testing", "tag": "t"}),
    ),
    "dataset.restore": (
        (Versions, "restore"),
        lambda _, user: user.call("dataset.restore", {"dataset": "notes", "bucket": "testing", "version": 1}),
    ),
    "dataset.compact": (
        (Compactor, "compact"),
        lambda _, user: user.call("dataset.compact", {"dataset": "notes", "bucket": "testing"}),
    ),
    "dataset.move": (
        (Mover, "move"),
        lambda _, user: user.call("dataset.move", {"dataset": "notes", "bucket": "testing", "to": "lab"}),
    ),
    "append": ((Tables, "write"), lambda _, user: sent(user, ingest="notes", mode="append")),
}
"""Ways to do something with the notes, each with a step of it for which nobody asks any more what may be seen."""


@pytest.mark.parametrize("way", ON_NOTES)
def test_what_is_dropped_meanwhile_is_not_compared_with_what_is_hidden(world: World, tess: User, way: str) -> None:
    step, ask = ON_NOTES[way]
    add_bucket(world.lakehouse, "lab")
    world.lakehouse.administration.grant(by(), TESTER, [Privilege.CREATE], Place("lab"))
    world.sql("CREATE TABLE primary.notes AS SELECT 1 AS n")

    with before(step, lambda: world.sql("DROP TABLE testing.notes")):
        said = refused(lambda: ask(world, tess))

    assert "notes" in said
    assert "primary" not in said


def test_who_sees_them_is_told_of_similar_names_of_what_is_dropped_meanwhile(world: World, root: User) -> None:
    step, ask = ON_NOTES["truncate"]
    world.sql("CREATE TABLE primary.notes AS SELECT 1 AS n")
    with before(step, lambda: world.sql("DROP TABLE testing.notes")):
        said = refused(lambda: ask(world, root))
    assert said == f"there is no dataset 'notes' in bucket 'testing'; similar: {NEW_HOME} [FS-1004]"


STATEMENTS = [
    "INSERT INTO testing.notes VALUES (3, 'three')",
    "UPDATE testing.notes SET text = 'more' WHERE id = 1",
    "DELETE FROM testing.notes WHERE id = 1",
    "ALTER TABLE testing.notes ADD COLUMN more BIGINT",
    "COMMENT ON TABLE testing.notes IS 'all'",
    "TRUNCATE TABLE testing.notes",
    "DROP TABLE testing.notes",
]


@pytest.mark.parametrize("step", [COMMIT, AT_THE_COMMIT])
@pytest.mark.parametrize("sql", STATEMENTS)
def test_a_statement_does_not_tell_where_to_a_dataset_was_moved_out_of_sight(
    world: World, tess: User, sql: str, step: tuple[type, str]
) -> None:
    with before(step, lambda: move_away(world)):
        said = refused(lambda: tess.ask(sql))
    assert '"testing".notes' in said or "'notes' in bucket 'testing'" in said
    assert "primary" not in said


@pytest.mark.parametrize("mode", ["append", "upsert"])
@pytest.mark.parametrize("step", [COMMIT, AT_THE_COMMIT])
def test_who_sends_rows_is_not_told_of_a_home_that_is_out_of_sight(
    world: World, tess: User, step: tuple[type, str], mode: str
) -> None:
    with before(step, lambda: move_away(world)):
        said = refused(lambda: sent(tess, ingest="notes", mode=mode))
    assert "notes" in said
    assert "primary" not in said


def test_who_sends_rows_and_sees_the_new_home_is_told_of_it_at_the_commit(world: World) -> None:
    with before(AT_THE_COMMIT, lambda: move_away(world)):
        said = refused(lambda: sent(world["ada"], ingest="notes", mode="append"))
    assert said == (f'dataset "testing".notes is {NEW_HOME} by now: nothing was written; send the rows there [FS-1004]')


@pytest.mark.parametrize("sql", STATEMENTS[:5])
def test_a_transaction_tells_where_a_dataset_is_to_who_sees_it_there(
    world: World, tess: User, root: User, sql: str
) -> None:
    said = {}
    begun = {}
    for user in (tess, root):
        begun[user.name] = answered(user.act("BeginTransaction", sql_action("BeginTransaction"))[0]).transaction_id
        update = command("StatementUpdate", query=sql, transaction_id=begun[user.name])
        user.put(fl.FlightDescriptor.for_command(update), pa.table({}))
    move_away(world)
    for user in (tess, root):
        end = sql_action("EndTransaction", transaction_id=begun[user.name], action=1)
        said[user.name] = refused(partial(user.act, "EndTransaction", end))
    assert f"it was moved and is {NEW_HOME} now" in said["root"]
    assert "it was dropped, renamed or moved" in said["tess"]
    assert "primary" not in said["tess"]


@pytest.mark.parametrize("again", [(), ("CREATE TABLE testing.notes AS SELECT 1 AS id",)])
def test_a_transaction_does_not_tell_what_was_moved_out_of_sight_from_what_was_dropped(
    world: World, tess: User, root: User, again: tuple[str, ...]
) -> None:
    said: dict[str, list[str]] = {}
    for away in (partial(move_away, world), partial(world.sql, "DROP TABLE testing.notes")):
        begun = {}
        for user in (tess, root):
            begun[user.name] = answered(user.act("BeginTransaction", sql_action("BeginTransaction"))[0]).transaction_id
            update = command("StatementUpdate", query=STATEMENTS[0], transaction_id=begun[user.name])
            user.put(fl.FlightDescriptor.for_command(update), pa.table({}))
        away()
        world.sql(*again)
        for user in (tess, root):
            end = sql_action("EndTransaction", transaction_id=begun[user.name], action=1)
            message = refused(partial(user.act, "EndTransaction", end))
            said.setdefault(user.name, []).append(re.sub(r".* but |;.*", "", message))
        world.sql("DROP TABLE IF EXISTS testing.notes", "CREATE TABLE testing.notes (id BIGINT, text VARCHAR)")

    assert said["tess"] == ["it was dropped, renamed or moved"] * 2
    dropped = "it was dropped and created again" if again else "it was dropped"
    assert said["root"] == [f"it was moved and is {NEW_HOME} now", dropped]


def test_an_index_in_several_buckets_is_told_to_who_sees_what_it_is_about(world: World, root: User) -> None:
    add_bucket(world.lakehouse, "lab")
    for bucket in ("testing", "lab"):
        world.sql(f"CREATE TABLE {bucket}.faces AS SELECT 1 AS id, [1.0, 0.0] AS at")
        root.call("index.create", {"dataset": "faces", "bucket": bucket, "column": "at", "index": "by_face"})
        world.lakehouse.administration.grant(by(), ANALYST, [Privilege.SELECT], Place(bucket, "faces"))
    several = "vector index 'by_face' is in several buckets: say which of"
    for user in (root, world["eve"]):
        said = refused(partial(user.rows, "SELECT * FROM vector_search('by_face', [1.0, 0.0], 1)"))
        assert said == f'{several} "lab".by_face, "testing".by_face [FS-1001]'


def test_a_view_that_is_overtaken_in_a_transaction_tells_no_new_home(world: World, tess: User) -> None:
    begun = answered(tess.act("BeginTransaction", sql_action("BeginTransaction"))[0]).transaction_id
    update = command(
        "StatementUpdate", query="CREATE VIEW testing.texts AS SELECT text FROM testing.notes", transaction_id=begun
    )
    tess.put(fl.FlightDescriptor.for_command(update), pa.table({}))
    move_away(world)
    said = refused(lambda: tess.act("EndTransaction", sql_action("EndTransaction", transaction_id=begun, action=1)))
    assert '"testing".notes' in said
    assert "primary" not in said


def add_index(world: World) -> None:
    """An index that tess may drop, beside that of `points`, which tess doesn't see."""
    world.sql("CREATE TABLE testing.faces AS SELECT 1 AS id, [1.0, 0.0] AS at")


@pytest.mark.parametrize("action", ["index.drop", "index.refresh"])
def test_an_index_that_is_dropped_meanwhile_is_not_compared_with_hidden_ones(
    world: World, tess: User, root: User, action: str
) -> None:
    add_index(world)
    said = {}
    for user in (tess, root):
        asked = {"dataset": "faces", "bucket": "testing", "column": "at", "index": "by_face"}
        root.call("index.create", asked)
        index = {"index": "by_face", "bucket": "testing"}
        with before((Indexes, action.partition(".")[2]), partial(root.call, "index.drop", index)):
            said[user.name] = refused(partial(user.call, action, index))
    missing = "there is no vector index 'by_face' in bucket 'testing'; there are:"
    assert said == {"tess": f"{missing} none [FS-1004]", "root": f'{missing} "primary".points_at [FS-1004]'}


@pytest.mark.parametrize(
    ("step", "sql"),
    [
        ((Tables, "write"), "CREATE TABLE lab.mine AS SELECT 1 AS n"),
        ((Tables, "create"), "CREATE TABLE lab.mine (n BIGINT)"),
        (COMMIT, "CREATE VIEW lab.mine AS SELECT 1 AS n"),
    ],
)
def test_a_bucket_that_is_dropped_meanwhile_is_not_compared_with_hidden_ones(
    world: World, root: User, step: tuple[type, str], sql: str
) -> None:
    add_bucket(world.lakehouse, "lab")
    add_bucket(world.lakehouse, "hidden")
    world.lakehouse.administration.grant(by(), TESTER, [Privilege.CREATE], Place("lab"))
    tess = world["tess"]
    with before(step, lambda: root.call("bucket.drop", {"name": "lab"})):
        said = refused(lambda: tess.ask(sql))
    assert said == "there is no bucket 'lab'; there are: primary, testing [FS-1004]"


@pytest.mark.parametrize(
    ("sight", "said"),
    [
        (lambda: UNRESTRICTED.sees, "there is no bucket 'lab'; there are: primary, testing [FS-1004]"),
        (lambda: sees_nothing, "there is no bucket 'lab' [FS-1004]"),
    ],
)
def test_a_message_is_made_for_its_reader(sight: Sight, said: str) -> None:
    error = no_bucket("lab", ["testing", "primary"])
    assert str(to_flight_error(error, "DoGet", sight)) == said
    assert str(to_flight_error(error.again(), "DoGet", sight)) == said


@pytest.mark.parametrize(
    "ask",
    [
        lambda lakehouse: described(lakehouse.catalog, "lab"),
        lambda lakehouse: lakehouse.bucket_service.set_limits("lab", None, None, Operation(new_ulid(), "test")),
        lambda lakehouse: lakehouse.catalog.commit(Transaction(Operation(new_ulid(), "test"), (DropBucket("lab"),))),
        lambda lakehouse: lakehouse.catalog.commit(
            Transaction(Operation(new_ulid(), "test"), (RenameBucket("lab", "new"),))
        ),
    ],
    ids=["lifecycle", "limits", "drop", "rename"],
)
def test_a_bucket_that_is_not_there_is_compared_with_those_that_the_reader_sees(
    world: World, ask: Callable[[Lakehouse], object]
) -> None:
    with pytest.raises(NotFound) as caught:
        ask(world.lakehouse)
    assert caught.value.message == "there is no bucket 'lab'; there are: primary, testing"
    assert caught.value.told_to(sees_nothing) == "there is no bucket 'lab'"
    assert caught.value.told_to(lambda bucket, _: bucket == "testing") == "there is no bucket 'lab'; there are: testing"


def test_who_is_not_known_is_told_of_nothing_else() -> None:
    def unknown() -> Sees:
        raise Unauthenticated("log in")

    error = no_bucket("lab", ["testing", "primary"])
    assert str(error) == "there is no bucket 'lab'; there are: primary, testing"
    for found in (to_flight_error(error, "DoGet"), to_flight_error(error, "DoGet", unknown)):
        assert str(found) == "there is no bucket 'lab' [FS-1004]"
