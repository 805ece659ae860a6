"""Lifecycle rules: which a bucket can have, and who applies them: the S3 server where that can, else this one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from bucketing import add_bucket
from flightclient import connect
from flightclient.errors import FlightclientError
from msgspec.structs import replace

from flightserver.catalog.entities import S3, Bucket, LifecycleRule, PutLimits, S3Place
from flightserver.catalog.log import Operation
from flightserver.catalog.transaction import Transaction
from flightserver.catalog.ulid import new_ulid
from flightserver.catalog.updates import PutBucket
from flightserver.errors import BackendUnavailable, InvalidRequest, NotFound
from flightserver.federation.lifecycle import applied_by, described, set_rules, withdraw
from flightserver.federation.rules import MOST_DAYS, MOST_RULES, check_rules
from flightserver.lakehouse import Lakehouse

if TYPE_CHECKING:
    from conftest import RunningServer
    from federation.conftest import Moto
    from s3server import S3Server

    from flightserver.federation.lifecycle import AppliedBy
    from flightserver.settings import Settings

STAGING = LifecycleRule("_staging/uploads/", expire_days=7, abort_upload_days=2)
COLD = LifecycleRule("datasets/", transition_days=30, storage_class="STANDARD_IA")


def put_rules(lakehouse: Lakehouse, name: str, *rules: LifecycleRule) -> AppliedBy:
    return set_rules(lakehouse.catalog, lakehouse.buckets.get(name), rules, Operation(id=new_ulid(), kind="test"))


def whose(lakehouse: Lakehouse, name: str) -> AppliedBy:
    return applied_by(lakehouse.buckets.get(name), described(lakehouse.catalog, name))


def on_s3(moto: Moto, s3_bucket: str) -> list[dict[str, Any]]:
    """The rules of an S3 bucket, as others see them."""
    answer: Any = moto.client().get_bucket_lifecycle_configuration(Bucket=s3_bucket)
    return list(answer["Rules"])


def effects(rule: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in rule.items() if name not in {"ID", "Status"}}


@pytest.mark.parametrize(
    "prefix",
    ["", "_", "d", "datasets", "datasets/", "datasets/people/", "_catalog/", "_catalog/commits/", "_vectors/x"],
)
def test_nothing_that_the_catalog_names_can_be_made_to_expire(prefix: str) -> None:
    with pytest.raises(InvalidRequest, match=r"it would delete by age what lies below '(datasets|_catalog|_vectors)/'"):
        check_rules([STAGING, LifecycleRule(prefix, expire_days=36_500)], local=False)


@pytest.mark.parametrize("prefix", ["_staging/", "_staging/uploads/", "exports/", "datasetsx/", "_vectors.old/", "x"])
def test_anything_else_can_be_made_to_expire(prefix: str) -> None:
    check_rules([LifecycleRule(prefix, expire_days=1)], local=True)


@pytest.mark.parametrize("prefix", ["", "datasets/", "_vectors/", "_catalog/commits/", "exports/"])
def test_anything_can_change_to_a_storage_class_that_is_read_at_once(prefix: str) -> None:
    check_rules([LifecycleRule(prefix, transition_days=30, storage_class="STANDARD_IA")], local=False)


@pytest.mark.parametrize("storage_class", ["GLACIER", "DEEP_ARCHIVE"])
def test_only_what_the_catalog_does_not_name_can_be_archived(storage_class: str) -> None:
    check_rules([LifecycleRule("exports/", transition_days=30, storage_class=storage_class)], local=False)

    with pytest.raises(InvalidRequest, match="can't be read until they are restored, and what lies below 'datasets/'"):
        check_rules([LifecycleRule("datasets/p", transition_days=30, storage_class=storage_class)], local=False)


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        (LifecycleRule("x/"), "it has none of expire_days, abort_upload_days and transition_days"),
        (LifecycleRule("/x", expire_days=1), "'/x_' can't be the key of an object"),
        (LifecycleRule("_staging/.tmp/", expire_days=1), "no object has such a key"),
        (LifecycleRule("x/", expire_days=0), f"days are 1 to {MOST_DAYS}"),
        (LifecycleRule("x/", abort_upload_days=MOST_DAYS + 1), f"days are 1 to {MOST_DAYS}"),
        (LifecycleRule("x/", transition_days=1), "transition_days and storage_class go together"),
        (LifecycleRule("x/", expire_days=1, storage_class="X"), "transition_days and storage_class go together"),
        (LifecycleRule("x/", transition_days=1, storage_class="cold"), "'cold' is no storage class"),
        (LifecycleRule("x/", 30, None, 30, "STANDARD_IA"), "objects would expire before they change"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_with_its_number(rule: LifecycleRule, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^lifecycle rule 2, of prefix {rule.prefix!r}: .*{problem}"):
        check_rules([STAGING, rule], local=False)


def test_rules_are_limited_in_number_and_have_prefixes_of_their_own() -> None:
    many = [LifecycleRule(f"x{number}/", expire_days=1) for number in range(MOST_RULES)]
    check_rules(many, local=True)

    with pytest.raises(InvalidRequest, match="101 lifecycle rules were given: a bucket has 100 at most"):
        check_rules([*many, STAGING], local=True)
    with pytest.raises(InvalidRequest, match="another rule has the same prefix"):
        check_rules([STAGING, LifecycleRule(STAGING.prefix, abort_upload_days=3)], local=True)


def test_rules_of_a_local_bucket_are_in_the_catalog_and_the_server_applies_them(settings: Settings) -> None:
    with Lakehouse.open(settings) as lakehouse:
        assert put_rules(lakehouse, "primary", STAGING) == "server"

    with Lakehouse.open(settings) as again:
        assert described(again.catalog, "primary").lifecycle == (STAGING,)
        assert whose(again, "primary") == "server"
        with pytest.raises(InvalidRequest, match="a local bucket has no storage classes"):
            put_rules(again, "primary", COLD)
        assert described(again.catalog, "primary").lifecycle == (STAGING,)


def test_an_s3_server_that_has_lifecycle_rules_gets_them_below_the_prefix_of_the_bucket(
    lakehouse: Lakehouse, moto: Moto
) -> None:
    s3_bucket = moto.make()
    add_bucket(lakehouse, moto.bucket("far", s3_bucket, "some/prefix"))

    assert put_rules(lakehouse, "far", STAGING, COLD) == "s3"

    assert whose(lakehouse, "far") == "s3"
    assert [effects(rule) for rule in on_s3(moto, s3_bucket)] == [
        {
            "Filter": {"Prefix": "some/prefix/_staging/uploads/"},
            "Expiration": {"Days": 7},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2},
        },
        {
            "Filter": {"Prefix": "some/prefix/datasets/"},
            "Transitions": [{"Days": 30, "StorageClass": "STANDARD_IA"}],
        },
    ]
    assert {rule["Status"] for rule in on_s3(moto, s3_bucket)} == {"Enabled"}
    assert all(rule["ID"].startswith("flightserver-far-") for rule in on_s3(moto, s3_bucket))


def test_new_rules_take_the_place_of_ours_and_leave_those_of_others(lakehouse: Lakehouse, moto: Moto) -> None:
    s3_bucket = moto.make()
    theirs: Any = [
        {"ID": "theirs", "Filter": {"Prefix": "logs/"}, "Status": "Enabled", "Expiration": {"Days": 90}},
        {"ID": "flightserver-far-notes", "Filter": {"Prefix": "n/"}, "Status": "Disabled", "Expiration": {"Days": 9}},
    ]
    moto.client().put_bucket_lifecycle_configuration(Bucket=s3_bucket, LifecycleConfiguration={"Rules": theirs})
    before = on_s3(moto, s3_bucket)
    add_bucket(lakehouse, moto.bucket("far", s3_bucket, "a"))
    add_bucket(lakehouse, moto.bucket("far-1", s3_bucket, "b"))
    put_rules(lakehouse, "far", STAGING, COLD)
    put_rules(lakehouse, "far-1", COLD)

    put_rules(lakehouse, "far", replace(STAGING, expire_days=1))

    found = on_s3(moto, s3_bucket)
    assert [rule for rule in found if rule["ID"] in {"theirs", "flightserver-far-notes"}] == before
    assert [rule["Filter"]["Prefix"] for rule in found] == ["logs/", "n/", "b/datasets/", "a/_staging/uploads/"]
    assert found[-1]["Expiration"] == {"Days": 1}

    put_rules(lakehouse, "far")
    put_rules(lakehouse, "far-1")
    assert on_s3(moto, s3_bucket) == before


def test_two_lakehouses_with_buckets_of_one_name_share_an_s3_bucket(
    lakehouse: Lakehouse, moto: Moto, tmp_path: Any
) -> None:
    s3_bucket = moto.make()
    add_bucket(lakehouse, moto.bucket("far", s3_bucket, "ours"))
    put_rules(lakehouse, "far", STAGING)
    other = replace(lakehouse.settings, server=replace(lakehouse.settings.server, data=tmp_path / "other"))

    with Lakehouse.open(other) as theirs:
        add_bucket(theirs, moto.bucket("far", s3_bucket, "theirs"))
        put_rules(theirs, "far", COLD)

        assert whose(theirs, "far") == "s3"
    assert whose(lakehouse, "far") == "s3"
    assert len(on_s3(moto, s3_bucket)) == 2


def test_no_configuration_is_left_when_the_last_rule_is_taken_away(lakehouse: Lakehouse, moto: Moto) -> None:
    s3_bucket = moto.make()
    bucket = add_bucket(lakehouse, moto.bucket("far", s3_bucket))
    put_rules(lakehouse, "far", STAGING)

    withdraw(bucket, described(lakehouse.catalog, "far"))

    with pytest.raises(moto.client().exceptions.ClientError, match="NoSuchLifecycleConfiguration"):
        on_s3(moto, s3_bucket)


def test_a_bucket_that_is_dropped_leaves_no_rules_behind(lakehouse: Lakehouse, moto: Moto) -> None:
    s3_bucket = moto.make()
    add_bucket(lakehouse, moto.bucket("far", s3_bucket))
    put_rules(lakehouse, "far", STAGING)

    list(lakehouse.bucket_service.drop("far", None, Operation(id=new_ulid(), kind="test")))

    with pytest.raises(moto.client().exceptions.ClientError, match="NoSuchLifecycleConfiguration"):
        on_s3(moto, s3_bucket)


def test_rules_of_a_bucket_that_was_renamed_are_still_known_as_ours(lakehouse: Lakehouse, moto: Moto) -> None:
    s3_bucket = moto.make()
    bucket = add_bucket(lakehouse, moto.bucket("far", s3_bucket))
    put_rules(lakehouse, "far", STAGING)
    renamed = replace(described(lakehouse.catalog, "far"), name="distant", former=("far",))

    assert applied_by(bucket, renamed) == "s3"


def test_the_server_applies_rules_that_somebody_took_out_of_the_configuration(lakehouse: Lakehouse, moto: Moto) -> None:
    s3_bucket = moto.make()
    add_bucket(lakehouse, moto.bucket("far", s3_bucket))
    put_rules(lakehouse, "far", STAGING)

    moto.client().delete_bucket_lifecycle(Bucket=s3_bucket)

    assert whose(lakehouse, "far") == "server"
    assert put_rules(lakehouse, "far", STAGING) == "s3"


def test_the_server_applies_the_rules_where_the_s3_server_can_not(
    lakehouse: Lakehouse, s3_server: S3Server, s3_bucket: str
) -> None:
    add_bucket(lakehouse, s3_server.bucket("far", s3_bucket))

    assert put_rules(lakehouse, "far", STAGING) == "server"

    assert whose(lakehouse, "far") == "server"
    assert described(lakehouse.catalog, "far").lifecycle == (STAGING,)
    with pytest.raises(InvalidRequest, match="has no lifecycle configuration, and nothing else can change the storage"):
        put_rules(lakehouse, "far", COLD)
    assert described(lakehouse.catalog, "far").lifecycle == (STAGING,)


def test_rules_that_the_s3_server_did_not_get_are_not_in_the_catalog(lakehouse: Lakehouse, s3_server: S3Server) -> None:
    place = replace(s3_server.place("no-such-bucket"))
    add_bucket(lakehouse, Bucket("lost", S3, s3=place))

    with pytest.raises(BackendUnavailable, match=r"can't set the lifecycle rules of bucket 'lost': .* NoSuchBucket"):
        put_rules(lakehouse, "lost", STAGING)

    assert described(lakehouse.catalog, "lost").lifecycle == ()


def test_a_bucket_that_can_not_be_opened_says_why(lakehouse: Lakehouse) -> None:
    place = S3Place("x", endpoint="http://127.0.0.1:1", credentials="environment:FLIGHTSERVER_TEST_ABSENT")
    add_bucket(lakehouse, Bucket("closed", S3, s3=place))

    with pytest.raises(BackendUnavailable, match="bucket 'closed' can't be reached: the environment"):
        put_rules(lakehouse, "closed", STAGING)


def test_a_change_of_the_bucket_at_the_same_moment_is_kept(
    lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_bucket(lakehouse, "near")
    limits = PutLimits(put_bytes=1)
    commit = lakehouse.catalog.commit

    def commit_second(transaction: Transaction) -> Any:
        monkeypatch.undo()
        limited = replace(described(lakehouse.catalog, "near"), limits=limits)
        commit(Transaction(Operation(id=new_ulid(), kind="others"), (PutBucket(limited),)))
        return commit(transaction)

    monkeypatch.setattr(lakehouse.catalog, "commit", commit_second)
    put_rules(lakehouse, "near", STAGING)

    found = described(lakehouse.catalog, "near")
    assert (found.limits, found.lifecycle) == (limits, (STAGING,))


def test_an_unknown_bucket_is_refused_with_those_that_there_are(lakehouse: Lakehouse) -> None:
    with pytest.raises(NotFound, match="there is no bucket 'x'; there are: primary"):
        described(lakehouse.catalog, "x")


def test_the_actions_set_and_get_rules(server: RunningServer, moto: Moto) -> None:
    s3_bucket = moto.make()
    add_bucket(server.lakehouse, moto.bucket("far", s3_bucket))
    rule = {"prefix": "_staging/", "expire_days": 3, "abort_upload_days": 1}
    full = {**rule, "transition_days": None, "storage_class": ""}
    with connect(server.uri) as client:
        assert client.call("bucket.get_lifecycle", {"name": "far"}) == {
            "name": "far",
            "rules": [],
            "applied_by": "server",
        }

        done = client.call("bucket.set_lifecycle", {"name": "far", "rules": [rule]})

        assert done == {"name": "far", "rules": [full], "applied_by": "s3"}
        assert client.call("bucket.get_lifecycle", {"name": "far"}) == done
        with pytest.raises(FlightclientError, match="lifecycle rule 1, of prefix 'datasets/': it would delete by age"):
            client.call("bucket.set_lifecycle", {"name": "far", "rules": [{"prefix": "datasets/", "expire_days": 1}]})
        with pytest.raises(FlightclientError, match="expire_day"):
            client.call("bucket.set_lifecycle", {"name": "far", "rules": [{"prefix": "x/", "expire_day": 1}]})
        assert client.call("bucket.get_lifecycle", {"name": "far"}) == done
