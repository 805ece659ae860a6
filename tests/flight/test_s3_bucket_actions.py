"""The actions on buckets of S3, through a real server and client, and a real S3 server."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import flightclient
import pytest
from botocore.exceptions import ClientError
from faults.faulty_proxy import Fault, Proxy, never
from flightclient.errors import AlreadyExists, FlightclientError, InvalidRequest, NotFound
from moto.server import ThreadedMotoServer
from query.asking import rows, run
from s3server import ACCESS_KEY, CREDENTIALS, SECRET_KEY, S3Server, free_port

from flightserver.catalog.entities import S3Place
from flightserver.federation.claims import CLAIM
from flightserver.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import RunningServer
    from flightclient import Client


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server for the tests of this module, which use S3 buckets of different names."""
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def lake(request: pytest.FixtureRequest) -> str:
    """The name of an S3 bucket of this test."""
    return f"lake-{abs(hash(request.node.name)) % 10**12}"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A server that gives up on S3 within about a second."""
    hasty = {"connect_seconds": 1, "request_seconds": 2, "retry_seconds": 1, "retries": 0}
    return load_settings(None, {"server": {"data": tmp_path / "data"}, "buckets": hasty})


@pytest.fixture
def client(server: RunningServer) -> Iterator[Client]:
    with flightclient.connect(server.uri) as opened:
        yield opened


@pytest.fixture
def create(client: Client, s3: S3Server, lake: str) -> Callable[..., dict[str, Any]]:
    """Makes a bucket on S3."""

    def make(name: str, **place: Any) -> dict[str, Any]:
        place = {"bucket": lake, "endpoint": s3.endpoint, "credentials": CREDENTIALS} | place
        return client.call("bucket.create", {"name": name, "backend": "s3", "s3": place})

    return make


def keys(s3: S3Server, bucket: str) -> list[str]:
    return sorted(one["Key"] for one in s3.client().list_objects_v2(Bucket=bucket).get("Contents", []))


def test_an_s3_bucket_that_is_there_is_attached(
    create: Callable[..., Any], server: RunningServer, s3: S3Server, lake: str
) -> None:
    s3.make(lake)

    created = create("cloud", prefix="/team/lake/")

    assert created == {"name": "cloud", "backend": "s3", "url": "lakehouse-cloud://data/team/lake/"}
    run(server.lakehouse, "CREATE TABLE cloud.pets AS SELECT 1 AS id")
    assert rows(server.lakehouse, "SELECT id FROM cloud.pets") == [(1,)]
    assert {key.split("datasets/")[0] for key in keys(s3, lake)} == {"team/lake/", f"team/lake/{CLAIM}"}
    place = server.lakehouse.catalog.snapshot().buckets["cloud"].s3
    assert place == S3Place(lake, endpoint=s3.endpoint, prefix="team/lake", credentials=CREDENTIALS)


def test_an_s3_bucket_is_made_when_asked_for_and_only_then(create: Callable[..., Any], s3: S3Server, lake: str) -> None:
    with pytest.raises(
        NotFound, match=f"the S3 server has no bucket '{lake}': with `create` in `s3`, or the flag --make, it is made"
    ):
        create("cloud")
    with pytest.raises(ClientError, match="404"):
        s3.client().head_bucket(Bucket=lake)

    create("cloud", create=True)

    s3.client().head_bucket(Bucket=lake)
    assert keys(s3, lake) == [CLAIM]


def test_an_s3_bucket_that_an_interrupted_creation_has_made_is_taken(
    create: Callable[..., Any], s3: S3Server, lake: str
) -> None:
    s3.make(lake)

    assert create("cloud", create=True)["name"] == "cloud"


def test_buckets_share_an_s3_bucket_only_under_prefixes_apart(
    create: Callable[..., Any], server: RunningServer, s3: S3Server, lake: str
) -> None:
    s3.make(lake)
    create("one", prefix="team/a")

    for prefix in ("team/a", "team/a/b", "team", "", "team/a/"):
        with pytest.raises(AlreadyExists, match="the place on S3 of 'one' is the same, inside or above"):
            create("two", prefix=prefix)
    create("two", prefix="team/ab")

    run(server.lakehouse, "CREATE TABLE two.pets AS SELECT 2 AS id")
    run(server.lakehouse, "CREATE TABLE one.pets AS SELECT 1 AS id")
    assert rows(server.lakehouse, "SELECT one.pets.id, two.pets.id FROM one.pets, two.pets") == [(1, 2)]


def test_the_catalog_of_another_lakehouse_is_refused(create: Callable[..., Any], s3: S3Server, lake: str) -> None:
    s3.make(lake)
    s3.client().put_object(Bucket=lake, Key="_catalog/commits/00000000000000000001.json", Body=b"{}")

    with pytest.raises(AlreadyExists, match="another lakehouse has its catalog there"):
        create("cloud")
    create("cloud", prefix="apart")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (
            {"credentials": "AKIAIOSFODNN7EXAMPLE"},
            "`s3.credentials` says where credentials are found, not what they are",
        ),
        ({"endpoint": "http://user:hunter2@127.0.0.1"}, "must be a URL such as .*without credentials"),
        ({"endpoint": "127.0.0.1:9000"}, "must be a URL"),
        ({"endpoint": "http://127.0.0.1:99999999"}, "must be a URL"),
        ({"endpoint": "http://127.0.0.1:9000", "path_style": False}, "`s3.endpoint` has an IP address, in front of"),
        ({"endpoint": "http://[::1]:9000", "path_style": False}, "`s3.endpoint` has an IP address, in front of"),
        ({"bucket": "no/slash"}, "'no/slash' can't name an S3 bucket"),
        ({"bucket": "ab"}, "'ab' can't name an S3 bucket: 3 to 63"),
        ({"prefix": "a/../b"}, r"`s3.prefix` 'a/../b' can't be"),
        ({"prefix": "a//b"}, "`s3.prefix` 'a//b' can't be"),
        ({"region": "moon base"}, "'moon base' can't name a region"),
        ({"encryption": "rot13"}, "`s3.encryption` 'rot13' isn't known: expected one of AES256, aws:kms, aws:kms:dsse"),
        ({"kms_key": "k"}, "`s3.kms_key` goes with the encryption"),
        ({"secret_access_key": "hunter2"}, "unknown field `secret_access_key`"),
    ],
)
def test_a_place_that_cannot_be_is_refused_without_repeating_what_may_be_secret(
    create: Callable[..., Any], place: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        create("cloud", **place)

    assert "hunter2" not in str(caught.value)
    assert "AKIA" not in str(caught.value)


def test_a_server_that_does_not_answer_is_refused(create: Callable[..., Any], client: Client) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"

    with pytest.raises(FlightclientError, match="the S3 server doesn't answer") as caught:
        create("cloud", endpoint=nobody)

    assert nobody not in str(caught.value)
    assert [one["name"] for one in client.call("bucket.list")["buckets"]] == ["primary"]


def test_a_server_that_ignores_conditional_puts_is_refused(create: Callable[..., Any], client: Client) -> None:
    moto = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    moto.start()
    try:
        with (
            Proxy("http://{}:{}".format(*moto.get_host_and_port()), drop=frozenset([b"if-none-match"])) as proxy,
            pytest.raises(FlightclientError, match="bucket 'cloud' can't be used: its S3 server ignores If-None-Match"),
        ):
            create("cloud", endpoint=proxy.endpoint, create=True)
    finally:
        moto.stop()
    assert [one["name"] for one in client.call("bucket.list")["buckets"]] == ["primary"]


def test_a_bucket_from_which_nothing_can_be_deleted_keeps_rows_and_is_said_not_to_be_writable(
    create: Callable[..., Any], client: Client, server: RunningServer, s3: S3Server, lake: str
) -> None:
    s3.make(lake)
    with Proxy(s3.endpoint) as proxy:
        proxy.decide = lambda method, *_: Fault.BUSY if method in {"DELETE", "POST"} else Fault.NONE
        create("cloud", endpoint=proxy.endpoint)
        run(server.lakehouse, "CREATE TABLE cloud.pets AS SELECT 1 AS id")
        assert rows(server.lakehouse, "SELECT id FROM cloud.pets") == [(1,)]

        refused = client.buckets.check("cloud")
        with pytest.raises(FlightclientError, match=r"the objects of bucket 'cloud' can't be deleted: .*503"):
            client.buckets.drop("cloud", "delete")
        assert rows(server.lakehouse, "SELECT id FROM cloud.pets") == [(1,)]

        proxy.decide = never
        assert client.buckets.check("cloud").writable
        client.buckets.drop("cloud", "delete")

    assert (refused.reachable, refused.readable, refused.writable, refused.conditional_put) == (True, True, False, True)
    assert refused.error is not None
    assert "503" in refused.error


def test_credentials_that_the_server_refuses_or_lacks_are_refused(
    create: Callable[..., Any], s3: S3Server, lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.make(lake)
    monkeypatch.setenv("OTHER_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("OTHER_SECRET_ACCESS_KEY", "of-no-use")

    with pytest.raises(FlightclientError, match="the S3 server refuses the credentials"):
        create("cloud", credentials="environment:OTHER")
    with pytest.raises(FlightclientError, match="lacks NOBODY_ACCESS_KEY_ID and NOBODY_SECRET_ACCESS_KEY"):
        create("cloud", credentials="environment:NOBODY")


def test_secrets_are_neither_in_the_catalog_nor_in_answers(
    create: Callable[..., Any], client: Client, server: RunningServer, s3: S3Server, lake: str, tmp_path: Path
) -> None:
    s3.make(lake)
    create("cloud")

    shown = [client.call("bucket.list"), rows(server.lakehouse, "SELECT * FROM system.buckets")]
    written = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())

    assert os.environ["FLIGHTSERVER_TEST_S3_SECRET_ACCESS_KEY"] == SECRET_KEY
    assert SECRET_KEY not in str(shown)
    assert SECRET_KEY.encode() not in written
    assert CREDENTIALS.encode() in written


def test_the_table_of_buckets_has_the_endpoint_and_region(
    create: Callable[..., Any], server: RunningServer, s3: S3Server, lake: str
) -> None:
    s3.make(lake)
    create("cloud", region="us-east-1")

    found = rows(server.lakehouse, "SELECT endpoint, region, reachable FROM system.buckets WHERE name = 'cloud'")

    assert found == [(s3.endpoint, "us-east-1", True)]


def test_deleting_leaves_the_objects_of_others(
    create: Callable[..., Any], client: Client, server: RunningServer, s3: S3Server, lake: str
) -> None:
    s3.make(lake)
    create("cloud", prefix="a")
    create("other", prefix="b")
    for bucket in ("cloud", "other"):
        run(server.lakehouse, f"CREATE TABLE {bucket}.pets AS SELECT value AS id FROM generate_series(1, 9)")
        run(server.lakehouse, f"DELETE FROM {bucket}.pets WHERE id = 1")
    s3.client().put_object(Bucket=lake, Key="a/datasets/pets/notes.txt", Body=b"not ours")
    others = [key for key in keys(s3, lake) if key.startswith("b/")]

    dropped = client.call("bucket.drop", {"name": "cloud", "contents": "delete"})

    assert keys(s3, lake) == ["a/datasets/pets/notes.txt", *others]
    assert dropped["datasets"] == 1
    assert rows(server.lakehouse, "SELECT count(*) FROM other.pets") == [(8,)]


def test_a_renamed_bucket_stays_where_it_is(
    create: Callable[..., Any], client: Client, server: RunningServer, s3: S3Server, lake: str
) -> None:
    s3.make(lake)
    create("cloud", prefix="a")
    run(server.lakehouse, "CREATE TABLE cloud.pets AS SELECT 1 AS id")
    version = server.lakehouse.catalog.snapshot().version
    before = keys(s3, lake)

    client.call("bucket.rename", {"name": "cloud", "to": "sky"})
    run(server.lakehouse, "UPDATE sky.pets SET id = 2")

    assert set(before) < set(keys(s3, lake))
    assert rows(server.lakehouse, "SELECT id FROM sky.pets") == [(2,)]
    assert rows(server.lakehouse, f"SELECT id FROM sky.pets FOR VERSION AS OF {version}") == [(1,)]


def test_a_check_of_an_s3_bucket_that_was_deleted_says_so(
    create: Callable[..., Any], client: Client, s3: S3Server, lake: str
) -> None:
    s3.make(lake)
    create("cloud")
    s3.client().delete_object(Bucket=lake, Key=CLAIM)
    s3.client().delete_bucket(Bucket=lake)

    found = client.call("bucket.check", {"name": "cloud"})

    assert (found["writable"], found["conditional_put"]) == (False, False)
    assert "the S3 bucket isn't there" in found["error"]
