"""`flightserver doctor` over a lakehouse of several buckets: it tries each that the catalog names, and changes none."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from bucketing import add_bucket
from msgspec.structs import replace
from query.asking import rows, run
from s3server import CREDENTIALS, S3Server, free_port
from storage.answering import answering, error

from flightserver.catalog.log import COMMITS, Operation, commit_key
from flightserver.catalog.ulid import new_ulid
from flightserver.cli import bucket_probes
from flightserver.cli.main import main
from flightserver.federation.claims import CLAIM
from flightserver.lakehouse import Lakehouse
from flightserver.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from flightserver.catalog.entities import Bucket

Report = dict[str, dict[str, Any]]


@pytest.fixture
def doctor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Report]]:
    """Runs the command over the data directory; its exit status, and what it says of the catalog and each bucket."""

    def run_it(**primary: str) -> tuple[int, Report]:
        config = tmp_path / "settings.toml"
        section = "".join(f"{name} = {json.dumps(value)}\n" for name, value in primary.items())
        config.write_text(f"[primary]\n{section}[buckets]\nretry_seconds = 1\n", encoding="utf-8")
        status = main(["doctor", "--config", str(config), "--data", str(tmp_path / "data"), "--json"])
        written = capsys.readouterr()
        assert written.err == ""
        report = json.loads(written.out)
        assert report["ok"] is (status == 0)
        names = ("primary", "catalog", "bucket ")
        return status, {probe.pop("name"): probe for probe in report["probes"] if probe["name"].startswith(names)}

    return run_it


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Those of a lakehouse that doesn't look at its buckets by itself."""
    return load_settings(None, {"server": {"data": tmp_path / "data"}, "buckets": {"check_seconds": 600}})


@pytest.fixture
def lakehouse(settings: Settings) -> Iterator[Lakehouse]:
    with Lakehouse.open(settings) as opened:
        yield opened


def create(lakehouse: Lakehouse, bucket: Bucket) -> None:
    lakehouse.bucket_service.create(bucket, Operation(new_ulid(), "create bucket"))


def tree(directory: Path) -> dict[str, bytes]:
    """Every file below a directory, but for what every server has for itself."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and "server" not in path.relative_to(directory).parts
    }


def failed(detail: str, mend: str) -> dict[str, str]:
    return {"state": "failed", "detail": detail, "mend": mend}


def test_each_bucket_that_is_well_is_said_to_be_and_left_as_it_was(
    doctor: Callable[..., tuple[int, Report]], lakehouse: Lakehouse, s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    add_bucket(lakehouse, "near")
    create(lakehouse, s3_server.bucket("cloud", s3_bucket, prefix="lake"))
    for name in ("near", "cloud"):
        run(lakehouse, f"CREATE TABLE {name}.pets AS SELECT 1 AS id")
    before = tree(tmp_path)

    status, found = doctor()

    assert status == 0
    version = lakehouse.catalog.known.version
    assert found.pop("catalog")["detail"] == f"version {version}, datasets: 2, buckets: 3"
    assert {name: (probe["state"], probe["mend"]) for name, probe in found.items()} == {
        "bucket cloud": ("ok", ""),
        "bucket near": ("ok", ""),
    }
    at = f"{s3_bucket!r} at {s3_server.endpoint} can be read and written, and answers in "
    assert found["bucket cloud"]["detail"].startswith(at)
    after = tree(tmp_path)
    del after["settings.toml"]
    assert after == before
    run(lakehouse, "INSERT INTO cloud.pets VALUES (2)")
    assert rows(lakehouse, "SELECT count(*) FROM cloud.pets") == [(2,)]


@pytest.mark.parametrize("there", [(), ("data",), ("data", "primary")])
def test_where_there_is_no_catalog_that_is_said_and_none_is_made(
    doctor: Callable[..., tuple[int, Report]], tmp_path: Path, there: tuple[str, ...]
) -> None:
    tmp_path.joinpath(*there).mkdir(exist_ok=True, parents=True)
    before = sorted(tmp_path.rglob("*"))

    status, found = doctor()

    detail = f"there is none in {tmp_path / 'data' / 'primary'}; serve makes it"
    mend = "flightserver doctor --data DIR or --config FILE of the lakehouse, unless it is to be a new one"
    assert (status, found) == (0, {"catalog": {"state": "warning", "detail": detail, "mend": mend}})
    assert [path for path in sorted(tmp_path.rglob("*")) if path.name != "settings.toml"] == before


def test_an_empty_s3_bucket_gets_no_catalog_by_being_looked_at(
    doctor: Callable[..., tuple[int, Report]], s3_server: S3Server, s3_bucket: str
) -> None:
    place = {"backend": "s3", "bucket": s3_bucket, "endpoint": s3_server.endpoint, "credentials": CREDENTIALS}

    status, found = doctor(**place)

    assert (status, found["catalog"]["state"]) == (0, "warning")
    assert found["catalog"]["detail"] == f"there is none in {s3_bucket!r} at {s3_server.endpoint}; serve makes it"
    assert "Contents" not in s3_server.client().list_objects_v2(Bucket=s3_bucket)


def test_every_bucket_that_does_not_answer_is_named_whatever_the_others_do(
    doctor: Callable[..., tuple[int, Report]], lakehouse: Lakehouse, tmp_path: Path
) -> None:
    add_bucket(lakehouse, "near")
    with S3Server(tmp_path / "s3") as down, S3Server(tmp_path / "hung") as hung:
        for name, server in (("down", down), ("hung", hung), ("hung2", hung)):
            server.make(name)
            create(lakehouse, server.bucket(name, name))
        down.stop()
        hung.hang()

        status, found = doctor()

    assert status == 1
    assert {name: probe["state"] for name, probe in found.items()} == {
        "catalog": "ok",
        "bucket down": "failed",
        "bucket hung": "failed",
        "bucket hung2": "failed",
        "bucket near": "ok",
    }
    for name, server in (("down", down), ("hung", hung), ("hung2", hung)):
        probe = found[f"bucket {name}"]
        assert probe["detail"].startswith(f"can't look for the S3 bucket {name!r}: the S3 server doesn't answer")
        assert probe["mend"] == f"start the S3 server, or mend the way to it: curl -sS {server.endpoint}"


def test_buckets_are_not_waited_for_beyond_a_time_that_all_of_them_share(
    lakehouse: Lakehouse,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(bucket_probes, "_RETRY_SECONDS", 60)
    monkeypatch.setattr(bucket_probes, "_SECONDS", 3)
    with S3Server(tmp_path / "s3") as hung:
        hung.make("lake")
        for name in ("one", "two"):
            create(lakehouse, hung.bucket(name, "lake", prefix=name))
        hung.hang()

        status = main(["doctor", "--data", str(tmp_path / "data")])

    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert status == 1
    for name in ("one", "two"):
        assert ["failed", "bucket", name, "no", "answer", "within", "3", "s"] in [line.split() for line in lines]
    mend = lines[lines.index("bucket one, bucket two:") + 1]
    assert mend == f"start the S3 server, or mend the way to it: curl -sS {hung.endpoint}"


def test_an_s3_bucket_that_has_gone_is_told_with_what_brings_it_back(
    doctor: Callable[..., tuple[int, Report]], lakehouse: Lakehouse, s3_server: S3Server, s3_bucket: str
) -> None:
    create(lakehouse, s3_server.bucket("cloud", s3_bucket))
    shutil.rmtree(s3_server.directory / s3_bucket)

    status, found = doctor()

    made = f"aws s3 mb s3://{s3_bucket} --region us-east-1 --endpoint-url {s3_server.endpoint}"
    mend = f"bring the S3 bucket back with what it held; an empty one: {made}"
    assert (status, found["bucket cloud"]) == (1, failed(f"the S3 server has no bucket {s3_bucket!r}", mend))


def test_a_bucket_of_another_region_is_told_with_the_region_that_the_catalog_has(
    doctor: Callable[..., tuple[int, Report]], lakehouse: Lakehouse, s3_server: S3Server, s3_bucket: str
) -> None:
    place = replace(s3_server.place(s3_bucket), region="eu-central-1")
    add_bucket(lakehouse, replace(s3_server.bucket("cloud", s3_bucket), s3=place))

    status, found = doctor()

    assert status == 1
    assert "is the region 'eu-central-1' right?" in found["bucket cloud"]["detail"]
    assert found["bucket cloud"]["mend"].startswith("the catalog has this bucket in region 'eu-central-1'")


def test_a_primary_of_another_region_is_told_to_get_the_right_one(
    doctor: Callable[..., tuple[int, Report]],
    s3_server: S3Server,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLIGHTSERVER_PRIMARY_REGION", "eu-central-1")
    place = {"backend": "s3", "bucket": s3_bucket, "endpoint": s3_server.endpoint, "credentials": CREDENTIALS}

    status, found = doctor(**place)

    assert status == 1
    assert "is the region 'eu-central-1' right?" in found["primary bucket"]["detail"]
    assert found["primary bucket"]["mend"] == "set primary.region to 'us-east-1'"
    detail = "it can't be read in 'primary', and says which other buckets there are: they weren't looked at"
    assert found["catalog"] == failed(detail, "mend 'primary' first")


RIGHTS = (
    "let these credentials list, read, write and delete objects of the S3 bucket 'lake': "
    "s3:ListBucket, s3:GetObject, s3:PutObject, s3:DeleteObject"
)
NAME = CREDENTIALS.partition(":")[2]
EXPORT = f"export {NAME}_ACCESS_KEY_ID=... {NAME}_SECRET_ACCESS_KEY=..., where the server is started"


@pytest.mark.parametrize(
    ("status", "body", "mend"),
    [
        (400, error("AuthorizationHeaderMalformed"), "set primary.region to the region of the S3 bucket"),
        (301, error("PermanentRedirect"), "set primary.region to the region of the S3 bucket"),
        (403, error("InvalidAccessKeyId"), EXPORT),
        (400, error("ExpiredToken"), EXPORT),
        (403, error("AccessDenied"), RIGHTS),
        (403, error("RequestTimeTooSkewed"), "set the clock of this machine, as: timedatectl set-ntp true"),
        (
            507,
            error("InsufficientStorage"),
            "free some space on the S3 server, or raise the quota of these credentials or of the S3 bucket",
        ),
        (404, "<html>", "set primary.region, primary.path_style and primary.endpoint to what the S3 server has"),
    ],
)
def test_what_mends_a_refusal_goes_by_its_cause(  # a parameter for each part of the question and answer
    doctor: Callable[..., tuple[int, Report]],
    s3_server: S3Server,  # noqa: ARG001  # sets the credentials
    status: int,
    body: str,
    mend: str,
) -> None:
    with answering(status, body) as server:
        place = {"backend": "s3", "bucket": "lake", "endpoint": server.endpoint, "credentials": CREDENTIALS}

        _, found = doctor(**place)

    assert (found["primary bucket"]["state"], found["primary bucket"]["mend"]) == ("failed", mend)


def test_credentials_that_the_shell_lacks_are_told_by_the_line_that_sets_them(
    doctor: Callable[..., tuple[int, Report]], lakehouse: Lakehouse, s3_server: S3Server, s3_bucket: str
) -> None:
    place = replace(s3_server.place(s3_bucket), credentials="environment:NOBODY")
    add_bucket(lakehouse, replace(s3_server.bucket("cloud", s3_bucket), s3=place))

    status, found = doctor()

    detail = "the environment of the server lacks NOBODY_ACCESS_KEY_ID and NOBODY_SECRET_ACCESS_KEY"
    mend = "export NOBODY_ACCESS_KEY_ID=... NOBODY_SECRET_ACCESS_KEY=..., where the server is started"
    assert (status, found["bucket cloud"]) == (1, failed(detail, mend))


def test_a_directory_that_has_gone_is_told_to_be_mounted(
    doctor: Callable[..., tuple[int, Report]], lakehouse: Lakehouse, tmp_path: Path
) -> None:
    add_bucket(lakehouse, "near")
    root = tmp_path / "data" / "buckets" / "near"
    shutil.rmtree(root)

    status, found = doctor()

    detail = "the directory of bucket 'near' isn't there: is its disk mounted?"
    mend = f"mount the disk of {root}, or put that directory back"
    assert (status, found["bucket near"]) == (1, failed(detail, mend))
    assert not root.exists()


def test_a_directory_that_is_empty_and_should_not_be_is_told_to_be_mounted(
    doctor: Callable[..., tuple[int, Report]], lakehouse: Lakehouse, tmp_path: Path
) -> None:
    add_bucket(lakehouse, "near")
    run(lakehouse, "CREATE TABLE near.pets AS SELECT 1 AS id")
    root = tmp_path / "data" / "buckets" / "near"
    shutil.rmtree(root)
    root.mkdir()

    status, found = doctor()

    assert (status, found["bucket near"]["state"]) == (1, "failed")
    assert found["bucket near"]["detail"].startswith(f"{root}: ")
    assert found["bucket near"]["mend"] == f"mount the disk of {root}, or bring back what was there"
    assert list(root.iterdir()) == []  # what was left here would be taken for the bucket by a server


def test_the_place_of_another_lakehouse_is_told(
    doctor: Callable[..., tuple[int, Report]],
    lakehouse: Lakehouse,
    s3_server: S3Server,
    s3_bucket: str,
    tmp_path: Path,
) -> None:
    with Lakehouse.open(load_settings(None, {"server": {"data": tmp_path / "other"}})) as other:
        create(other, s3_server.bucket("trips", s3_bucket))
    add_bucket(lakehouse, s3_server.bucket("cloud", s3_bucket))

    status, found = doctor()

    assert (status, found["bucket cloud"]["state"]) == (1, "failed")
    assert "another lakehouse has its bucket 'trips' in the place of bucket 'cloud'" in found["bucket cloud"]["detail"]
    mend = f"drop the bucket from one of the two and keep its contents; or, if the other is gone, delete {CLAIM!r}"
    assert found["bucket cloud"]["mend"] == mend


def test_a_catalog_that_cannot_be_read_is_told(doctor: Callable[..., tuple[int, Report]], settings: Settings) -> None:
    with Lakehouse.open(settings) as lakehouse:
        for number in range(3):
            run(lakehouse, f"CREATE TABLE t{number} AS SELECT 1 AS id")
    commits = settings.server.data / "primary" / COMMITS
    newest = max(commits.iterdir())
    newest.write_bytes(b"{}")

    status, found = doctor()

    assert (status, list(found)) == (1, ["catalog"])
    number = int(newest.stem)
    assert newest.name == commit_key(number).rpartition("/")[2]
    assert found["catalog"]["detail"].startswith(f"commit {number} of the catalog can't be read and must be restored")
    mend = "restore that object from a backup of `_catalog`, or upgrade flightserver if a newer one wrote it"
    assert found["catalog"]["mend"] == mend


def test_a_primary_that_nobody_serves_is_told_once(
    doctor: Callable[..., tuple[int, Report]],
    s3_server: S3Server,  # noqa: ARG001  # sets the credentials
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    place = {"backend": "s3", "bucket": "lake", "endpoint": nowhere, "credentials": CREDENTIALS}

    status, found = doctor(**place)

    assert status == 1
    assert list(found) == ["primary credentials", "primary bucket", "catalog"]
    assert (
        found["primary bucket"]["mend"] == f"curl -sS {nowhere}, or set primary.endpoint to where the S3 server listens"
    )
