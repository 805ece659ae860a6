"""The actions on buckets, through a real server and client: local directories here, S3 in test_s3_bucket_actions.py."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import flightclient
import pytest
from flightclient.errors import AlreadyExists, InvalidRequest, NotFound
from query.asking import rows, run

from flightserver import errors
from flightserver.catalog.entities import LOCAL, RESCUE, Bucket, PutLimits
from flightserver.catalog.log import Operation
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.ulid import new_ulid
from flightserver.catalog.updates import PutBucket
from flightserver.federation.claims import CLAIM
from flightserver.lakehouse import Lakehouse
from flightserver.settings import Settings, load_settings
from flightserver.storage.limits import DEFAULT_PUT_BYTES, VECTOR_PUT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import RunningServer
    from flightclient import Client

MIB = 2**20


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    """A directory of `buckets.roots`."""
    path = tmp_path / "disks"
    path.mkdir()
    return path


@pytest.fixture
def settings(tmp_path: Path, roots: Path) -> Settings:
    return load_settings(None, {"server": {"data": tmp_path / "data"}, "buckets": {"roots": [roots]}})


@pytest.fixture
def client(server: RunningServer) -> Iterator[Client]:
    with flightclient.connect(server.uri) as opened:
        yield opened


@pytest.fixture
def create(client: Client) -> Callable[..., dict[str, Any]]:
    """Makes a local bucket."""

    def make(name: str, **more: Any) -> dict[str, Any]:
        return client.call("bucket.create", {"name": name, "backend": "local", **more})

    return make


def parquet(root: Path) -> list[Path]:
    return sorted(root.rglob("*.parquet"))


def listed(client: Client) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in client.call("bucket.list")["buckets"]}


def collect(client: Client, bucket: str) -> int:
    """Objects that a collection without any retention or grace would delete."""
    return int(client.call("bucket.collect", {"bucket": bucket, "older_than_hours": 0, "dry_run": True})["objects"])


def test_a_local_bucket_is_a_directory_and_a_schema(
    create: Callable[..., Any], server: RunningServer, tmp_path: Path
) -> None:
    created = create("profile:me_2")

    assert created == {"name": "profile:me_2", "backend": "local", "url": "lakehouse-profile-me-2://data/"}
    run(server.lakehouse, 'CREATE TABLE "profile:me_2".pets AS SELECT 1 AS id')
    assert len(parquet(tmp_path / "data" / "buckets" / "profile:me_2" / "datasets" / "pets")) == 1
    assert not parquet(tmp_path / "data" / "primary")
    assert rows(server.lakehouse, "SELECT kind, detail FROM system.commits WHERE version = 2") == [
        ("create bucket", "profile:me_2")
    ]


def test_buckets_are_listed_with_what_was_found_of_them(create: Callable[..., Any], client: Client) -> None:
    create("testing")

    found = listed(client)["testing"]

    assert found.pop("checked") is not None
    assert found == {
        "name": "testing",
        "backend": "local",
        "url": "lakehouse-testing://data/",
        "datasets": 0,
        "reachable": True,
        "error": None,
    }


def test_the_table_of_buckets_says_the_same(create: Callable[..., Any], server: RunningServer) -> None:
    create("testing")
    run(server.lakehouse, "CREATE TABLE testing.pets AS SELECT 1 AS id")

    found = rows(
        server.lakehouse,
        "SELECT name, backend, url, datasets, rows, reachable, error, put_bytes, vector_put_bytes, endpoint, region "
        "FROM system.buckets WHERE name = 'testing' AND checked IS NOT NULL AND bytes > 0",
    )

    limits = (DEFAULT_PUT_BYTES, VECTOR_PUT_BYTES)
    assert found == [("testing", "local", "lakehouse-testing://data/", 1, 1, True, None, *limits, None, None)]


def test_the_table_of_buckets_of_a_past_version_has_those_of_that_version(
    create: Callable[..., Any], server: RunningServer, client: Client
) -> None:
    create("testing")
    client.call("bucket.drop", {"name": "testing"})

    past = rows(server.lakehouse, "SELECT name, url FROM system.buckets", as_of=2)

    assert ("testing", "lakehouse-testing://data/") in past


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("Testing", InvalidRequest, "'Testing' can't name a bucket: a name starts with a lower-case letter or digit"),
        ("", InvalidRequest, "'' can't name a bucket"),
        ("a/b", InvalidRequest, "'a/b' can't name a bucket"),
        ("x" * 64, InvalidRequest, "at most 63 characters"),
        ("data", InvalidRequest, "'data' can't name a bucket: references of old catalogs mean 'primary' by it"),
        ("local", InvalidRequest, "references of old catalogs"),
        ("public", InvalidRequest, "'public' can't name a bucket: it is a schema of SQL"),
        ("system", InvalidRequest, "it is a schema of SQL"),
        ("information_schema", InvalidRequest, "it is a schema of SQL"),
        ("primary", AlreadyExists, "bucket 'primary' exists already"),
        ("my_lake", AlreadyExists, "bucket 'my_lake' exists already"),
        ("my:lake", AlreadyExists, "would have the URL scheme 'lakehouse-my-lake' of bucket 'my_lake'"),
        ("old", AlreadyExists, "'old' was the name of bucket 'new', and earlier versions know it by that"),
    ],
)
def test_a_name_that_means_something_else_is_refused(
    create: Callable[..., Any], client: Client, name: str, error: type[Exception], message: str
) -> None:
    create("my_lake")
    create("old")
    client.call("bucket.rename", {"name": "old", "to": "new"})

    with pytest.raises(error, match=message):
        create(name)

    assert set(listed(client)) == {"primary", "my_lake", "new"}


def test_a_bucket_may_be_below_an_allowed_root(create: Callable[..., Any], server: RunningServer, roots: Path) -> None:
    create("big", root=str(roots / "one"))
    create("near", root="deep/near")

    assert server.lakehouse.catalog.snapshot().buckets["big"].root == str(roots / "one")
    assert server.lakehouse.catalog.snapshot().buckets["near"].root == "buckets/deep/near"
    run(server.lakehouse, "CREATE TABLE big.pets AS SELECT 1 AS id")
    assert len(parquet(roots / "one")) == 1


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("{tmp}/elsewhere", "is outside of where local buckets may be made"),
        ("../../elsewhere", "is outside of where"),
        ("../primary/x", "is outside of where"),
        ("../server", "is outside of where"),
        ("..", "is outside of where"),
        (".", "is outside of where"),
        ("{tmp}", "is outside of where"),
        ("{tmp}/disks", "is outside of where"),
        ("{tmp}/disks/link/x", "is outside of where"),
        ("{tmp}/disks/loop/x", "can't be a directory"),
        ("{tmp}/disks/file", "is a file: expected a directory"),
        (" ", "`root` is empty: leave it out"),
        ("first", "the root of 'first' is the same, inside or above"),
        ("first/inside", "the root of 'first' is the same, inside or above"),
        ("{tmp}/disks/same", "the root of 'first' is the same, inside or above"),
        ("second", "the root of 'second' is the same, inside or above"),
    ],
)
def test_a_root_elsewhere_or_of_another_bucket_is_refused(
    create: Callable[..., Any], client: Client, tmp_path: Path, roots: Path, root: str, message: str
) -> None:
    create("first")
    create("nested", root="second/below")
    (tmp_path / "elsewhere").mkdir()
    (roots / "link").symlink_to(tmp_path / "elsewhere")
    (roots / "loop").symlink_to(roots / "loop")
    (roots / "same").symlink_to(tmp_path / "data" / "buckets" / "first")
    (roots / "file").write_text("")
    message = message.replace("'second'", "'nested'")

    with pytest.raises(Exception, match=message) as caught:
        create("x", root=root.format(tmp=tmp_path))

    assert isinstance(caught.value, InvalidRequest | AlreadyExists)
    assert str(tmp_path) not in str(caught.value).replace(root.format(tmp=tmp_path), "")
    assert set(listed(client)) == {"primary", "first", "nested"}
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize(("names", "roots_asked"), [("aaaaaa", "uvwxyz"), ("abcdef", "uuuuuu")], ids=["name", "root"])
def test_of_several_who_want_the_same_at_once_one_gets_it(
    server: RunningServer, client: Client, names: str, roots_asked: str
) -> None:
    barrier = threading.Barrier(len(names))

    def attempt(name: str, root: str) -> str:
        with flightclient.connect(server.uri) as mine:
            barrier.wait()
            try:
                return str(mine.call("bucket.create", {"name": name, "backend": "local", "root": root})["name"])
            except AlreadyExists:
                return "refused"

    with ThreadPoolExecutor(len(names)) as pool:
        answers = list(pool.map(attempt, names, roots_asked))

    assert answers.count("refused") == len(names) - 1
    assert set(listed(client)) == {"primary", *answers} - {"refused"}


def test_the_root_of_another_lakehouse_is_refused(create: Callable[..., Any], roots: Path) -> None:
    """Each of the two would take files of the other for garbage."""
    with Lakehouse.open(load_settings(None, {"server": {"data": roots / "other"}})):
        pass

    with pytest.raises(AlreadyExists, match="bucket 'mine' can't lie there: another lakehouse has its catalog there"):
        create("mine", root=str(roots / "other" / "primary"))


def test_what_goes_with_another_backend_is_refused(create: Callable[..., Any], client: Client) -> None:
    with pytest.raises(InvalidRequest, match="`s3` doesn't go with the backend 'local': leave it out"):
        create("x", s3={"bucket": "lake"})
    with pytest.raises(InvalidRequest, match="`root` doesn't go with the backend 's3': leave it out"):
        client.call("bucket.create", {"name": "x", "backend": "s3", "root": "x", "s3": {"bucket": "lake"}})
    with pytest.raises(InvalidRequest, match="bucket 'x' of backend 's3' needs `s3`: at least its `bucket`"):
        client.call("bucket.create", {"name": "x", "backend": "s3"})
    with pytest.raises(InvalidRequest, match=r"bucket.create is not valid: .*backend"):
        client.call("bucket.create", {"name": "x", "backend": "azure"})


def test_a_directory_that_was_left_by_an_interrupted_creation_is_taken(
    create: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "data" / "buckets" / "testing").mkdir(parents=True)

    assert create("testing")["name"] == "testing"


def test_a_check_tries_what_a_bucket_can_do(create: Callable[..., Any], client: Client, tmp_path: Path) -> None:
    create("testing")

    found = client.call("bucket.check", {"name": "testing"})

    assert found.pop("latency_ms") >= 0
    assert found == {
        "name": "testing",
        "reachable": True,
        "readable": True,
        "writable": True,
        "conditional_put": True,
        "error": None,
    }
    assert [path.name for path in (tmp_path / "data" / "buckets").rglob("*") if path.is_file()] == [CLAIM]


def test_a_check_of_a_bucket_whose_directory_has_gone_says_so(
    create: Callable[..., Any], client: Client, tmp_path: Path
) -> None:
    create("testing")
    (tmp_path / "data" / "buckets" / "testing").rename(tmp_path / "unplugged")

    found = client.call("bucket.check", {"name": "testing"})

    assert (found["reachable"], found["writable"]) == (False, False)
    assert found["error"] == "the directory of bucket 'testing' isn't there: is its disk mounted?"


@pytest.mark.parametrize("action", ["check", "drop", "rename", "set_limits"])
def test_a_bucket_that_does_not_exist_is_not_found_and_others_are_named(
    create: Callable[..., Any], client: Client, action: str
) -> None:
    create("testing")

    with pytest.raises(NotFound, match="there is no bucket 'nowhere'; there are: primary, testing"):
        client.call(f"bucket.{action}", {"name": "nowhere"} | ({"to": "x"} if action == "rename" else {}))


def test_limits_are_changed_one_by_one_and_take_effect(
    create: Callable[..., Any], client: Client, server: RunningServer
) -> None:
    create("testing")

    first = client.call("bucket.set_limits", {"name": "testing", "put_bytes": 8 * MIB})
    second = client.call("bucket.set_limits", {"name": "testing", "vector_put_bytes": 16 * MIB})

    assert first == {"name": "testing", "put_bytes": 8 * MIB, "vector_put_bytes": VECTOR_PUT_BYTES}
    assert second == {"name": "testing", "put_bytes": 8 * MIB, "vector_put_bytes": 16 * MIB}
    assert server.lakehouse.catalog.snapshot().buckets["testing"].limits == PutLimits(8 * MIB, 16 * MIB)
    objects = server.lakehouse.buckets.get("testing").objects
    objects.put("fits", bytes(8 * MIB))
    with pytest.raises(Exception, match="a put outside of '_vectors/' may have 8,388,608"):
        objects.put("does-not", bytes(8 * MIB + 1))


@pytest.mark.parametrize("limit", [0, -1, 8 * MIB - 1, 5 * 2**30 + 1])
def test_a_limit_that_breaks_the_bucket_is_refused(client: Client, limit: int) -> None:
    with pytest.raises(InvalidRequest, match=r"expected 8,388,608 to 5,368,709,120 bytes"):
        client.call("bucket.set_limits", {"name": "primary", "put_bytes": limit})


def test_an_empty_bucket_is_dropped(create: Callable[..., Any], client: Client, server: RunningServer) -> None:
    create("testing")

    assert client.call("bucket.drop", {"name": "testing"}) == {
        "name": "testing",
        "datasets": 0,
        "objects": 0,
        "indexes": 0,
    }

    assert set(listed(client)) == {"primary"}
    with pytest.raises(Exception, match="there is no bucket 'testing'"):
        server.lakehouse.buckets.get("testing")


def test_a_bucket_with_datasets_is_dropped_only_when_told_what_becomes_of_them(
    create: Callable[..., Any], client: Client, server: RunningServer
) -> None:
    create("testing")
    for name in "abcdef":
        run(server.lakehouse, f"CREATE TABLE testing.{name} AS SELECT 1 AS id")

    with pytest.raises(InvalidRequest, match=r"it has a, b, c, d, e and 1 more: say by `contents`.*'keep' or 'delete'"):
        client.call("bucket.drop", {"name": "testing"})
    with pytest.raises(InvalidRequest, match=r"bucket.drop is not valid: .*contents`; it must be one of keep, delete"):
        client.call("bucket.drop", {"name": "testing", "contents": "forget"})

    assert rows(server.lakehouse, "SELECT count(*) FROM testing.a") == [(1,)]


def test_a_bucket_with_nothing_but_a_view_is_not_empty(
    create: Callable[..., Any], client: Client, server: RunningServer
) -> None:
    create("testing")
    run(server.lakehouse, "CREATE VIEW testing.v AS SELECT 1 AS id")

    with pytest.raises(InvalidRequest, match="bucket 'testing' isn't empty, it has v"):
        client.call("bucket.drop", {"name": "testing"})

    assert client.call("bucket.drop", {"name": "testing", "contents": "keep"})["datasets"] == 0
    assert rows(server.lakehouse, "SELECT name FROM system.views") == []


def test_files_are_kept_when_that_was_asked_for(
    create: Callable[..., Any], client: Client, server: RunningServer, tmp_path: Path
) -> None:
    create("testing")
    run(server.lakehouse, "CREATE TABLE testing.pets AS SELECT 1 AS id")
    before = parquet(tmp_path / "data")

    dropped = client.call("bucket.drop", {"name": "testing", "contents": "keep"})

    assert dropped == {"name": "testing", "datasets": 1, "objects": 0, "indexes": 0}
    assert parquet(tmp_path / "data") == before != []
    assert rows(server.lakehouse, "SELECT name FROM system.datasets") == []


def test_deleting_leaves_nothing_of_ours_and_everything_of_others(
    create: Callable[..., Any], client: Client, server: RunningServer, tmp_path: Path
) -> None:
    create("testing")
    root = tmp_path / "data" / "buckets" / "testing"
    run(server.lakehouse, "CREATE TABLE kept AS SELECT 1 AS id")
    run(server.lakehouse, "CREATE TABLE testing.gone AS SELECT 1 AS id")
    run(server.lakehouse, "DROP TABLE testing.gone")
    run(server.lakehouse, "CREATE TABLE testing.pets AS SELECT value AS id FROM generate_series(1, 100)")
    run(server.lakehouse, "DELETE FROM testing.pets WHERE id < 5")
    run(server.lakehouse, "ALTER TABLE testing.pets RENAME TO animals")
    for other in ("notes.txt", "datasets/pets/readme.txt", "datasets/theirs/part-00000.parquet"):
        (root / other).parent.mkdir(parents=True, exist_ok=True)
        (root / other).write_text("not ours")
    server.lakehouse.buckets.get("testing").objects.put("_staging/uploads/1", b"ours")

    dropped = client.call("bucket.drop", {"name": "testing", "contents": "delete"})

    left = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    assert left == ["datasets/pets/readme.txt", "datasets/theirs/part-00000.parquet", "notes.txt"]
    assert dropped["datasets"] == 1
    assert dropped["objects"] > 4
    assert rows(server.lakehouse, "SELECT * FROM kept") == [(1,)]


def test_a_bucket_of_which_everything_was_deleted_leaves_no_directory(
    create: Callable[..., Any], client: Client, server: RunningServer, tmp_path: Path
) -> None:
    create("testing")
    run(server.lakehouse, "CREATE TABLE testing.pets AS SELECT 1 AS id")

    client.call("bucket.drop", {"name": "testing", "contents": "delete"})

    assert not (tmp_path / "data" / "buckets" / "testing").exists()
    create("testing")
    assert rows(server.lakehouse, "SELECT count(*) FROM system.datasets") == [(0,)]


def test_a_bucket_that_cannot_be_reached_is_dropped_only_if_its_files_may_stay(
    create: Callable[..., Any], client: Client, server: RunningServer, tmp_path: Path
) -> None:
    create("testing")
    run(server.lakehouse, "CREATE TABLE testing.pets AS SELECT 1 AS id")
    (tmp_path / "data" / "buckets" / "testing").rename(tmp_path / "unplugged")

    with pytest.raises(Exception, match="can't be deleted: the directory of bucket 'testing' isn't there"):
        client.call("bucket.drop", {"name": "testing", "contents": "delete"})
    assert "testing" in listed(client)

    assert client.call("bucket.drop", {"name": "testing", "contents": "keep"})["datasets"] == 1


@pytest.mark.parametrize("name", ["primary", RESCUE])
def test_primary_and_rescue_are_neither_dropped_nor_renamed(server: RunningServer, client: Client, name: str) -> None:
    operation = Operation(id=new_ulid(), kind="test")
    server.lakehouse.catalog.commit(Transaction(operation, (PutBucket(Bucket(RESCUE, LOCAL, "buckets/r")),)))

    with pytest.raises(InvalidRequest, match=f"bucket '{name}' can't be dropped"):
        client.call("bucket.drop", {"name": name, "contents": "keep"})
    with pytest.raises(InvalidRequest, match=f"'{name}' can't be renamed to 'other': '{name}' is a fixed name"):
        client.call("bucket.rename", {"name": name, "to": "other"})


def test_a_renamed_bucket_has_its_datasets_and_views_under_the_new_name(
    create: Callable[..., Any], client: Client, server: RunningServer, tmp_path: Path
) -> None:
    create("old")
    run(server.lakehouse, "CREATE TABLE old.pets AS SELECT value AS id FROM generate_series(1, 3)")
    run(server.lakehouse, "DELETE FROM old.pets WHERE id = 2")
    run(server.lakehouse, "CREATE VIEW old.few AS SELECT id FROM pets WHERE id < 3", bucket="old")
    before = parquet(tmp_path / "data")

    renamed = client.call("bucket.rename", {"name": "old", "to": "new"})

    assert renamed == {"name": "new", "backend": "local", "url": "lakehouse-new://data/"}
    assert parquet(tmp_path / "data") == before
    assert rows(server.lakehouse, "SELECT id FROM new.pets ORDER BY id") == [(1,), (3,)]
    assert rows(server.lakehouse, "SELECT id FROM new.few") == [(1,)]
    assert rows(server.lakehouse, "SELECT DISTINCT bucket FROM system.files") == [("new",)]
    with pytest.raises(Exception, match="'old'"):
        rows(server.lakehouse, "SELECT id FROM old.pets")
    run(server.lakehouse, "INSERT INTO new.pets VALUES (4)")
    run(server.lakehouse, "CREATE TABLE new.more AS SELECT 1 AS id")
    assert all("buckets/old/" in str(path) for path in parquet(tmp_path / "data"))


def test_the_text_of_views_may_go_on_saying_the_former_name(
    create: Callable[..., Any], client: Client, server: RunningServer
) -> None:
    create("old")
    run(server.lakehouse, "CREATE TABLE old.pets AS SELECT 1 AS id")
    run(server.lakehouse, 'CREATE VIEW ids AS SELECT id FROM "old".pets')
    run(server.lakehouse, "CREATE VIEW twice AS SELECT id * 2 AS id FROM ids")

    client.call("bucket.rename", {"name": "old", "to": "new"})

    assert rows(server.lakehouse, "SELECT id FROM ids") == [(1,)]
    assert rows(server.lakehouse, "SELECT id FROM twice") == [(2,)]
    with pytest.raises(errors.NotFound, match="the schemas are information_schema, new, primary, public, system"):
        rows(server.lakehouse, "SELECT id FROM old.pets")


def test_versions_before_a_renaming_stay_readable(
    create: Callable[..., Any], client: Client, server: RunningServer, settings: Settings
) -> None:
    create("one")
    run(server.lakehouse, "CREATE TABLE one.pets AS SELECT 1 AS id")
    run(server.lakehouse, "INSERT INTO one.pets VALUES (2)")
    client.call("bucket.rename", {"name": "one", "to": "two"})
    run(server.lakehouse, "INSERT INTO two.pets VALUES (3)")
    client.call("bucket.rename", {"name": "two", "to": "three"})
    run(server.lakehouse, "DELETE FROM three.pets")

    history = client.call("dataset.history", {"dataset": "pets", "bucket": "three"})["versions"]
    with Lakehouse.open(settings) as again:
        counts = {
            one["version"]: rows(again, f"SELECT count(*) FROM three.pets FOR VERSION AS OF {one['version']}")
            for one in history
        }

    assert [(one["kind"], one["rows"]) for one in reversed(history)] == [
        ("create table as", 1),
        ("insert", 2),
        ("rename bucket", 2),
        ("insert", 3),
        ("rename bucket", 3),
        ("truncate", 0),
    ]
    assert [count for _, count in sorted(counts.items())] == [[(1,)], [(2,)], [(2,)], [(3,)], [(3,)], [(0,)]]


def test_a_bucket_gets_its_former_name_back(create: Callable[..., Any], client: Client, server: RunningServer) -> None:
    create("one")
    run(server.lakehouse, "CREATE TABLE one.pets AS SELECT 1 AS id")
    client.call("bucket.rename", {"name": "one", "to": "two"})

    client.call("bucket.rename", {"name": "two", "to": "one"})

    assert rows(server.lakehouse, "SELECT id FROM one.pets") == [(1,)]
    assert server.lakehouse.catalog.snapshot().buckets["one"].former == ("two",)


def test_files_of_a_renamed_bucket_are_not_taken_for_garbage(
    create: Callable[..., Any], client: Client, server: RunningServer
) -> None:
    create("one")
    run(server.lakehouse, "CREATE TABLE one.pets AS SELECT 1 AS id")
    run(server.lakehouse, "DELETE FROM one.pets")

    client.call("bucket.rename", {"name": "one", "to": "two"})

    assert collect(client, "two") == 0


@pytest.mark.parametrize(
    ("to", "error", "message"),
    [
        ("Two", InvalidRequest, "'Two' can't name a bucket"),
        ("data", InvalidRequest, "references of old catalogs"),
        ("primary", InvalidRequest, "'primary' is a fixed name"),
        ("rescue", InvalidRequest, "'rescue' is a fixed name"),
        ("taken_name", AlreadyExists, "bucket 'taken_name' exists already"),
        ("taken:name", AlreadyExists, "the URL scheme 'lakehouse-taken-name' of bucket 'taken_name'"),
        ("one", AlreadyExists, "bucket 'one' exists already"),
    ],
)
def test_a_name_that_means_something_else_is_refused_as_a_new_one(
    create: Callable[..., Any], client: Client, to: str, error: type[Exception], message: str
) -> None:
    create("one")
    create("taken_name")

    with pytest.raises(error, match=message):
        client.call("bucket.rename", {"name": "one", "to": to})

    assert set(listed(client)) == {"primary", "one", "taken_name"}


def test_another_server_on_the_same_catalog_follows(
    create: Callable[..., Any], client: Client, server: RunningServer, settings: Settings
) -> None:
    with Lakehouse.open(settings) as other:
        create("one")
        run(server.lakehouse, "CREATE TABLE one.pets AS SELECT 1 AS id")
        assert rows(other, "SELECT id FROM one.pets") == [(1,)]

        client.call("bucket.rename", {"name": "one", "to": "two"})

        assert rows(other, "SELECT id FROM two.pets") == [(1,)]
        client.call("bucket.drop", {"name": "two", "contents": "delete"})
        with pytest.raises(Exception, match="'two'"):
            rows(other, "SELECT id FROM two.pets")
