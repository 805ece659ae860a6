"""`flightserver doctor` where the catalog is on S3: what it finds, and what it says mends it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from faults.faulty_proxy import Proxy
from moto.server import ThreadedMotoServer
from s3server import CREDENTIALS, SECRET_KEY, free_port

from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.cli.main import main
from flightserver.federation.places import make_s3_bucket
from flightserver.lakehouse import Lakehouse
from flightserver.settings import load_settings
from flightserver.storage.s3_access import S3Access, S3Credentials, S3Location, S3Timeouts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from s3server import S3Server


class Doctor:
    """Runs the command over a file of settings."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.data = directory / "data"
        self._config = directory / "settings.toml"
        self._capsys = capsys

    def settings(self, **primary: str) -> list[str]:
        """Arguments by which the settings of `primary` are found."""
        section = "".join(f"{name} = {json.dumps(value)}\n" for name, value in primary.items())
        self._config.write_text(f"[primary]\n{section}", encoding="utf-8")
        return ["doctor", "--config", str(self._config), "--data", str(self.data)]

    def probes(self, **primary: str) -> tuple[int, list[dict[str, Any]]]:
        """Its exit status, and what it says of `primary`."""
        status = main([*self.settings(**primary), "--json"])
        written = self._capsys.readouterr()
        assert written.err == ""
        assert SECRET_KEY not in written.out
        report = json.loads(written.out)
        assert report["ok"] is (status == 0)
        return status, [probe for probe in report["probes"] if probe["name"].startswith("primary")]


@pytest.fixture
def doctor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Doctor:
    return Doctor(tmp_path, capsys)


@pytest.fixture
def moto() -> Iterator[str]:
    """URL of a simulated S3 server, which doesn't look at signatures."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def good(s3_server: S3Server, s3_bucket: str) -> dict[str, str]:
    """Settings of a catalog that can be."""
    return {
        "backend": "s3",
        "bucket": s3_bucket,
        "endpoint": s3_server.endpoint,
        "prefix": "lakehouse",
        "credentials": CREDENTIALS,
    }


def failed(name: str, detail: str, mend: str) -> dict[str, str]:
    return {"name": name, "state": "failed", "detail": detail, "mend": mend}


FOUND = {"name": "primary credentials", "state": "ok", "detail": f"found by {CREDENTIALS!r}", "mend": ""}


def test_a_place_that_will_do_is_said_to_and_left_as_it_was(
    doctor: Doctor, good: dict[str, str], s3_server: S3Server, s3_bucket: str
) -> None:
    status, [credentials, bucket, conditional] = doctor.probes(**good)

    assert (status, credentials) == (0, FOUND)
    assert (bucket["name"], bucket["state"], bucket["mend"]) == ("primary bucket", "ok", "")
    assert bucket["detail"].startswith(
        f"{s3_bucket!r} at {s3_server.endpoint} can be read and written, and answers in "
    )
    assert conditional == {
        "name": "primary conditional put",
        "state": "ok",
        "detail": "a second put of a key is refused",
        "mend": "",
    }
    assert "Contents" not in s3_server.client().list_objects_v2(Bucket=s3_bucket)
    assert not doctor.data.exists()


def test_nothing_is_said_of_a_local_primary(doctor: Doctor) -> None:
    assert doctor.probes(backend="local") == (0, [])


def test_settings_that_cannot_be_are_named(doctor: Doctor, good: dict[str, str]) -> None:
    mend = "mend the section [primary] of flightserver.toml"

    status, [probe] = doctor.probes(**good | {"endpoint": "127.0.0.1:9000"})

    detail = "primary.endpoint must be a URL such as 'https://s3.example.com:9000', without credentials"
    assert (status, probe) == (1, failed("primary settings", detail, mend))


@pytest.mark.parametrize(
    ("reference", "detail", "mend"),
    [
        (
            "environment:NOBODY",
            "the environment of the server lacks NOBODY_ACCESS_KEY_ID and NOBODY_SECRET_ACCESS_KEY",
            "export NOBODY_ACCESS_KEY_ID=... NOBODY_SECRET_ACCESS_KEY=..., where the server is started",
        ),
        (
            "environment",
            "credentials 'environment' aren't there: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile",
            "export AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=..., where the server is started, or: aws configure",
        ),
        (
            "profile:nobody",
            "credentials 'profile:nobody' aren't there: the AWS configuration of the server has no such profile",
            "aws configure --profile nobody, as the user that runs the server",
        ),
        (
            "file:nobody",
            (
                "credentials 'file:nobody' can't be read from the server's directory of credentials "
                "(No such file or directory)"
            ),
            'write {"access_key_id": ..., "secret_access_key": ...} into FILE, and: chmod 600 FILE',
        ),
    ],
)
def test_credentials_that_are_not_there_are_told_with_where_they_belong(  # a parameter for each part of the answer
    doctor: Doctor,
    good: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    reference: str,
    detail: str,
    mend: str,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")

    status, [probe] = doctor.probes(**good | {"credentials": reference})

    file = str(doctor.data / "credentials" / "nobody.json")
    assert (status, probe) == (1, failed("primary credentials", detail, mend.replace("FILE", file)))


def test_an_s3_bucket_that_is_not_there_is_told_with_the_command_that_makes_it(
    doctor: Doctor, good: dict[str, str], s3_server: S3Server
) -> None:
    status, probes = doctor.probes(**good | {"bucket": "no-such-bucket"})

    mend = f"aws s3 mb s3://no-such-bucket --region us-east-1 --endpoint-url {s3_server.endpoint}"
    detail = "the S3 server has no bucket 'no-such-bucket'"
    assert (status, probes) == (1, [FOUND, failed("primary bucket", detail, mend)])


def test_credentials_that_are_refused_are_told(
    doctor: Doctor, good: dict[str, str], s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLIGHTSERVER_TEST_S3_SECRET_ACCESS_KEY", "wrong")

    status, [_, probe] = doctor.probes(**good)

    assert (status, probe["name"], probe["state"]) == (1, "primary bucket", "failed")
    start = f"can't look for the S3 bucket {s3_bucket!r}: the S3 server refuses the credentials (An error occurred "
    assert probe["detail"].startswith(start + "(SignatureDoesNotMatch)")
    name = CREDENTIALS.partition(":")[2]
    assert probe["mend"] == f"export {name}_ACCESS_KEY_ID=... {name}_SECRET_ACCESS_KEY=..., where the server is started"


def test_a_server_that_does_not_answer_is_told(doctor: Doctor, good: dict[str, str], s3_bucket: str) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"

    status, [_, probe] = doctor.probes(**good | {"endpoint": nowhere})

    assert (status, probe["name"], probe["state"]) == (1, "primary bucket", "failed")
    start = f"can't look for the S3 bucket {s3_bucket!r}: the S3 server doesn't answer: it refuses connections "
    assert probe["detail"].startswith(start + "(Could not connect to ")
    assert probe["mend"] == f"curl -sS {nowhere}, or set primary.endpoint to where the S3 server listens"


def test_a_server_that_ignores_conditions_is_told(
    doctor: Doctor, good: dict[str, str], moto: str, s3_bucket: str
) -> None:
    make_s3_bucket(S3Access(S3Location(s3_bucket, endpoint=moto), S3Credentials("any", "any"), S3Timeouts()))

    with Proxy(moto, drop=frozenset([b"if-none-match"])) as proxy:
        status, [_, bucket, probe] = doctor.probes(**good | {"endpoint": proxy.endpoint})

    assert (status, bucket["state"]) == (1, "ok")
    detail = "the S3 server ignores If-None-Match: two servers could overwrite each other's commits"
    mend = "use an S3 server that honours conditional writes, or set primary.backend to 'local'"
    assert probe == failed("primary conditional put", detail, mend)


def test_a_place_where_another_lakehouse_has_a_bucket_is_told(
    doctor: Doctor, good: dict[str, str], s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    with Lakehouse.open(load_settings(None, {"server": {"data": tmp_path / "other"}})) as other:
        bucket = s3_server.bucket("trips", s3_bucket, prefix="lakehouse")
        other.bucket_service.create(bucket, Operation(new_ulid(), "create bucket"))

    status, [*_, last] = doctor.probes(**good)

    assert status == 1
    assert (last["name"], last["state"]) == ("primary place", "failed")
    assert "another lakehouse has its bucket 'trips' in the place of bucket 'primary'" in last["detail"]
    assert last["mend"] == "set primary.prefix to one of its own"


def test_people_read_the_same(doctor: Doctor, good: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(doctor.settings(**good)) == 0

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["ok", "primary", "conditional", "put", "a", "second", "put", "of", "a", "key", "is", "refused"] in lines


def test_it_runs_where_what_speaks_s3_is_not_installed(doctor: Doctor, good: dict[str, str]) -> None:
    code = "import sys; sys.modules['obstore'] = None; from flightserver.cli.main import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, *doctor.settings(**good), "--json"]

    finished = subprocess.run(command, capture_output=True, text=True, check=False)

    names = [probe["name"] for probe in json.loads(finished.stdout)["probes"]]
    assert finished.stderr == ""
    assert "memory" in names
    assert not [name for name in names if name.startswith("primary")]
