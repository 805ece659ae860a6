"""The `AWS_...` variables of the process change nothing of how a bucket is reached, and are left as they were."""

from __future__ import annotations

import os
from datetime import timedelta
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from flightserver.federation.aws import client
from flightserver.storage import environment
from flightserver.storage.environment import environment_lock, only_variables
from flightserver.storage.s3 import S3Objects
from flightserver.storage.s3_access import S3Access, S3Credentials, S3Location, S3Timeouts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

HOSTILE = {
    "AWS_ALLOW_HTTP": "true",
    "AWS_BUCKET": "another-bucket",
    "AWS_CONDITIONAL_PUT": "disabled",
    "AWS_CONFIG_FILE": "/nowhere",
    "AWS_DEFAULT_REGION": "mars-north-1",
    "AWS_ENDPOINT": "https://one.example",
    "AWS_ENDPOINT_URL": "https://two.example",
    "AWS_ENDPOINT_URL_S3": "https://three.example",
    "AWS_PROFILE": "no-such-profile",
    "AWS_REGION": "mars-south-1",
    "AWS_REQUEST_PAYER": "true",
    "AWS_SESSION_TOKEN": "token-of-another-account",
    "AWS_SKIP_SIGNATURE": "true",
    "AWS_USE_DUALSTACK_ENDPOINT": "true",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
}
OWN = S3Credentials("AKIAEXAMPLE", "secret")
ELSEWHERE = S3Location("lake", endpoint="https://s3.example:9000", region="moon-1", prefix="team/a")


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of somebody who works with another account, another server and another library."""
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)


def of_aws() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}


def signed_by_objects(access: S3Access) -> str:
    return S3Objects(access).presign("GET", "k", timedelta(minutes=1))


def signed_by_boto(access: S3Access) -> str:
    key = access.location.full_key("k")
    return client(access).generate_presigned_url("get_object", Params={"Bucket": access.location.bucket, "Key": key})


SIGNERS = pytest.mark.parametrize("sign", [signed_by_objects, signed_by_boto])


@SIGNERS
@pytest.mark.parametrize(
    ("location", "url"),
    [
        (ELSEWHERE, "https://s3.example:9000/lake/team/a/k"),
        (S3Location("lake", endpoint="https://s3.example", path_style=False), "https://lake.s3.example/k"),
        (S3Location("lake", region="eu-central-1"), "https://s3.eu-central-1.amazonaws.com/lake/k"),
        (S3Location("lake", region="eu-central-1", path_style=False), "https://lake.s3.eu-central-1.amazonaws.com/k"),
    ],
)
@pytest.mark.usefixtures("hostile")
def test_a_bucket_is_where_it_says_and_without_an_endpoint_at_aws(
    sign: Callable[[S3Access], str], location: S3Location, url: str
) -> None:
    assert sign(S3Access(location, OWN, S3Timeouts())).partition("?")[0] == url


@SIGNERS
@pytest.mark.parametrize("token", ["", "token-of-this-bucket"])
@pytest.mark.usefixtures("hostile")
def test_requests_are_signed_by_the_credentials_of_the_bucket_alone(
    sign: Callable[[S3Access], str], token: str
) -> None:
    credentials = S3Credentials("AKIAEXAMPLE", "secret", token)

    signed = parse_qs(urlsplit(sign(S3Access(ELSEWHERE, credentials, S3Timeouts()))).query)

    key, _day, region, service, _ = signed["X-Amz-Credential"][0].split("/")
    assert (key, region, service) == ("AKIAEXAMPLE", "moon-1", "s3")
    assert signed.get("X-Amz-Security-Token", [""]) == [token]


def test_variables_are_hidden_for_a_block_and_put_back(hostile: None) -> None:  # noqa: ARG001  # sets the variables
    before = dict(os.environ)

    with only_variables({"AWS_REGION": "moon-1", "AWS_TIMEOUT": "1s"}, keep=["AWS_BUCKET"]):
        assert of_aws() == {"AWS_BUCKET": "another-bucket", "AWS_REGION": "moon-1", "AWS_TIMEOUT": "1s"}
        assert os.environ["PATH"] == before["PATH"]
    assert dict(os.environ) == before

    with pytest.raises(ZeroDivisionError), only_variables({"AWS_REGION": "moon-1"}):
        raise ZeroDivisionError
    assert dict(os.environ) == before


def test_one_block_at_a_time_changes_variables() -> None:
    seen: list[dict[str, str]] = []

    def look(number: int) -> None:
        with only_variables({f"AWS_{number}": "1"}):
            seen.append(of_aws())

    threads = [Thread(target=look, args=(number,)) for number in range(20)]
    with environment_lock:
        for thread in threads:
            thread.start()
        assert not seen
    for thread in threads:
        thread.join()

    assert sorted(map(sorted, seen)) == sorted([f"AWS_{number}"] for number in range(20))


def test_an_interruption_while_they_are_put_back_loses_none(hostile: None, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001  # sets variables
    """The watchdog interrupts threads at any moment, and a client may be made on one of them."""
    before, put_back = of_aws(), environment._put_back  # it is interrupted here
    interrupted: list[bool] = []

    def interrupt_once(said: Iterable[str], hidden: Mapping[str, str]) -> None:
        if not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        put_back(said, hidden)

    monkeypatch.setattr(environment, "_put_back", interrupt_once)
    with pytest.raises(KeyboardInterrupt), only_variables({"AWS_REGION": "moon-1"}):
        assert of_aws() == {"AWS_REGION": "moon-1"}

    assert of_aws() == before
    assert not environment_lock.locked()
