"""`flightserver buckets`: list, create, check, change, rename, drop and migrate the buckets of a server.

What buckets hold is counted, moved, mirrored and collected here too. A flag that isn't given isn't sent: what holds
then is said by the server alone.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from flightclient.actions import given

from flightserver.cli import indexes
from flightserver.cli.connecting import add_address, open_client
from flightserver.cli.rendering import output_console, print_json, rich_table
from flightserver.cli.values import bucket_name, byte_size, hours, json_value
from flightserver.errors import InvalidRequest

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

_COLUMNS = ("name", "backend", "url", "datasets", "reachable", "error", "checked")
_VERBS = {
    "list": "one row a bucket",
    "create": "make a local bucket, or attach or make one on S3",
    "check": "find out what a bucket can do; status 1 if it can't be used",
    "limits": "change how large puts may be",
    "rename": "call a bucket by another name",
    "drop": "drop a bucket",
    "usage": "objects and bytes in a bucket, by kind, by dataset and by vector index",
    "collect": "delete files that no version within retention names",
    "mirror": "copy the files of a bucket or a dataset to the bucket rescue, once or continuously",
    "move": "give a dataset another bucket as its home",
    "move-index": "give a vector index another bucket as its home",
    "presign": "a URL that reads or writes one object of an S3 bucket for a while",
    "lifecycle": "show or set the rules by which objects expire",
    "migrate": "make references of old catalogs say primary",
}
_PLACE = ("endpoint", "region", "prefix", "credentials", "encryption", "kms_key")
"""Flags of `create` that are fields of `s3` by the same name."""
_NOT_GIVEN = object()
"""The JSON of a flag that isn't there; `null` is one that the server refuses."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verbs and their flags."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    made = {verb: verbs.add_parser(verb, help=text, description=text) for verb, text in _VERBS.items()}
    for verb in _VERBS.keys() - {"list", "move", "move-index", "migrate"}:
        made[verb].add_argument("name", metavar="NAME", type=bucket_name, help="of the bucket")
    made["list"].add_argument("--json", action="store_true", help="as one line of JSON instead of a table")
    _add_create(made["create"])
    made["limits"].add_argument("--put", type=byte_size, metavar="SIZE", help="largest put, such as 512MiB")
    made["limits"].add_argument("--vector-put", type=byte_size, metavar="SIZE", help="largest put below _vectors/")
    made["rename"].add_argument("to", metavar="TO", help="the new name")
    made["drop"].add_argument(
        "--contents", choices=["keep", "delete"], help="what becomes of the files of datasets in it"
    )
    for verb in ("collect", "migrate"):
        made[verb].add_argument("--dry-run", action="store_true", help="change nothing, say what would be")
    made["collect"].add_argument(
        "--older-than-hours",
        type=hours,
        metavar="H",
        help="how long versions can be read, other than the configured retention",
    )
    _add_contents(made)
    for each in made.values():
        add_address(each)


def _add_contents(made: dict[str, argparse.ArgumentParser]) -> None:
    made["mirror"].add_argument("--dataset", metavar="D", help="only this one, and its vector indexes")
    made["mirror"].add_argument("--continuous", choices=["on", "off"], help="whether the copy is kept current")
    made["move"].add_argument("dataset", metavar="DATASET", help="the dataset")
    made["move"].add_argument("to", metavar="TO", type=bucket_name, help="the bucket that becomes its home")
    made["move"].add_argument(
        "--bucket", metavar="B", type=bucket_name, help="its home now, where the name alone isn't enough"
    )
    indexes.add_move(made["move-index"])
    made["presign"].add_argument("key", metavar="KEY", help="of the object")
    made["presign"].add_argument("--put", action="store_true", help="a URL that writes the object")
    made["presign"].add_argument("--expires", type=int, metavar="SECONDS", help="default: an hour")
    made["lifecycle"].add_argument(
        "--set",
        type=json_value,
        default=_NOT_GIVEN,
        metavar="JSON",
        help='rules, as \'[{"prefix": "_staging/", "expire_days": 7}]\'; [] takes them away',
    )


def _add_create(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", metavar="DIR", help="directory of a local bucket, on the server")
    place = parser.add_argument_group("on S3")
    place.add_argument("--s3-bucket", metavar="NAME", help="the S3 bucket; without it the new bucket is local")
    place.add_argument("--endpoint", metavar="URL", help="of the S3 server; without it AWS")
    place.add_argument("--region", help="default: us-east-1")
    place.add_argument("--prefix", help="what all keys begin with")
    place.add_argument("--virtual-hosted", action="store_true", help="the S3 bucket's name is part of the host")
    place.add_argument("--credentials", metavar="REF", help="where the server finds them, such as profile:NAME")
    place.add_argument("--encryption", choices=["AES256", "aws:kms", "aws:kms:dsse"], help="of new objects")
    place.add_argument("--kms-key", metavar="ID", help="for aws:kms and aws:kms:dsse")
    place.add_argument("--make", action="store_true", help="make the S3 bucket")


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked, and print what came of it.

    Raises:
        InvalidRequest: Flags contradict each other.
    """
    action, body = _ACTIONS[arguments.verb](arguments)
    with open_client(arguments) as client:
        answer = client.call(action, body)
    if arguments.verb == "list" and not arguments.json:
        buckets = answer["buckets"]
        table = pa.table({name: [bucket[name] for bucket in buckets] for name in _COLUMNS})
        output_console().print(rich_table(table))
        return 0
    print_json(answer)
    if arguments.verb == "check" and not (answer["readable"] and answer["conditional_put"]):
        error = answer["error"] or "the store ignores conditional puts"
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  # as other commands that fail
        return 1
    return 0


_Request = tuple[str, dict[str, Any]]
"""An action and its body."""


def _create(arguments: argparse.Namespace) -> _Request:
    place = given(**{name: getattr(arguments, name) for name in _PLACE})
    place |= {"path_style": False} if arguments.virtual_hosted else {}
    place |= {"create": True} if arguments.make else {}
    body = given(name=arguments.name, root=arguments.root)
    if arguments.s3_bucket is not None:
        return "bucket.create", {**body, "backend": "s3", "s3": {"bucket": arguments.s3_bucket, **place}}
    if place:
        spelled = {"path_style": "--virtual-hosted", "create": "--make", "kms_key": "--kms-key"}
        flags = ", ".join(spelled.get(name, f"--{name}") for name in place)
        raise InvalidRequest(f"only a bucket on S3 has {flags}: say with --s3-bucket where it is, or leave that out")
    return "bucket.create", {**body, "backend": "local"}


def _limits(arguments: argparse.Namespace) -> _Request:
    body = given(name=arguments.name, put_bytes=arguments.put, vector_put_bytes=arguments.vector_put)
    return "bucket.set_limits", body


def _collect(arguments: argparse.Namespace) -> _Request:
    older = arguments.older_than_hours
    return "bucket.collect", given(bucket=arguments.name, dry_run=arguments.dry_run, older_than_hours=older)


def _mirror(arguments: argparse.Namespace) -> _Request:
    continuous = None if arguments.continuous is None else arguments.continuous == "on"
    return "bucket.mirror", given(bucket=arguments.name, dataset=arguments.dataset, continuous=continuous)


def _move(arguments: argparse.Namespace) -> _Request:
    return "dataset.move", given(dataset=arguments.dataset, to=arguments.to, bucket=arguments.bucket)


def _presign(arguments: argparse.Namespace) -> _Request:
    method = "PUT" if arguments.put else "GET"
    body = given(name=arguments.name, method=method, key=arguments.key, expires_seconds=arguments.expires)
    return "bucket.presign", body


def _lifecycle(arguments: argparse.Namespace) -> _Request:
    if arguments.set is _NOT_GIVEN:
        return "bucket.get_lifecycle", {"name": arguments.name}
    return "bucket.set_lifecycle", {"name": arguments.name, "rules": arguments.set}


def _named(action: str) -> Callable[[argparse.Namespace], _Request]:
    return lambda arguments: (action, {"name": arguments.name})


_ACTIONS: dict[str, Callable[[argparse.Namespace], _Request]] = {
    "list": lambda _: ("bucket.list", {}),
    "create": _create,
    "check": _named("bucket.check"),
    "limits": _limits,
    "rename": lambda arguments: ("bucket.rename", {"name": arguments.name, "to": arguments.to}),
    "drop": lambda arguments: ("bucket.drop", given(name=arguments.name, contents=arguments.contents)),
    "usage": _named("bucket.usage"),
    "collect": _collect,
    "mirror": _mirror,
    "move": _move,
    "move-index": lambda arguments: ("index.move", indexes.moved(arguments)),
    "presign": _presign,
    "lifecycle": _lifecycle,
    "migrate": lambda arguments: ("catalog.migrate_buckets", {"dry_run": arguments.dry_run}),
}
"""What each verb asks for."""
