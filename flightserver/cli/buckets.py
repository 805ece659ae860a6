"""`flightserver buckets`: list, create, check, change, rename, drop and migrate the buckets of a server."""

from __future__ import annotations

import argparse
import json
import re
import sys
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flightserver.cli.connecting import add_address, open_client
from flightserver.cli.rendering import output_console, rich_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from flightclient import Client

_COLUMNS = ("name", "backend", "url", "datasets", "reachable", "error", "checked")
_VERBS = {
    "list": "one row a bucket",
    "create": "make a local bucket, or attach or make one on S3",
    "check": "find out what a bucket can do; status 1 if it can't be used",
    "limits": "change how large puts may be",
    "rename": "call a bucket by another name",
    "drop": "drop a bucket",
    "usage": "objects and bytes in a bucket, by kind and by dataset",
    "collect": "delete files that no version within retention names",
    "mirror": "copy the files of a bucket or a dataset to the bucket rescue, once or continuously",
    "move": "give a dataset another bucket as its home",
    "presign": "a URL that reads or writes one object of an S3 bucket for a while",
    "lifecycle": "show or set the rules by which objects expire",
    "migrate": "make references of old catalogs say primary",
}
_UNITS = {"": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_NOT_GIVEN = object()
"""The JSON of a flag that isn't there; `null` is one that the server refuses."""
_SIZE = re.compile(r"(\d+)\s*([A-Za-z]*)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verbs and their flags."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    made = {verb: verbs.add_parser(verb, help=text, description=text) for verb, text in _VERBS.items()}
    for verb in _VERBS.keys() - {"list", "move", "migrate"}:
        made[verb].add_argument("name", metavar="NAME", help="of the bucket")
    _add_create(made["create"])
    made["limits"].add_argument("--put", type=_bytes, metavar="SIZE", help="largest put, such as 512MiB")
    made["limits"].add_argument("--vector-put", type=_bytes, metavar="SIZE", help="largest put below _vectors/")
    made["rename"].add_argument("to", metavar="TO", help="the new name")
    made["drop"].add_argument(
        "--contents", choices=["keep", "delete"], help="what becomes of the files of datasets in it"
    )
    for verb in ("collect", "migrate"):
        made[verb].add_argument("--dry-run", action="store_true", help="change nothing, say what would be")
    made["collect"].add_argument(
        "--older-than-hours",
        type=float,
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
    made["move"].add_argument("to", metavar="TO", help="the bucket that becomes its home")
    made["move"].add_argument("--bucket", metavar="B", help="its home now, where the name alone isn't enough")
    made["presign"].add_argument("key", metavar="KEY", help="of the object")
    made["presign"].add_argument("--put", action="store_true", help="a URL that writes the object")
    made["presign"].add_argument("--expires", type=int, metavar="SECONDS", help="default: an hour")
    made["lifecycle"].add_argument(
        "--set",
        type=_rules,
        default=_NOT_GIVEN,
        metavar="JSON",
        help='rules, as \'[{"prefix": "_staging/", "expire_days": 7}]\'',
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
    place.add_argument("--kms-key", metavar="ID", help="for aws:kms")
    place.add_argument("--make", action="store_true", help="make the S3 bucket")


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked, and print what came of it."""
    with open_client(arguments) as client:
        if arguments.verb == "list":
            buckets = client.call("bucket.list")["buckets"]
            output_console().print(
                rich_table(pa.table({name: [bucket[name] for bucket in buckets] for name in _COLUMNS}))
            )
            return 0
        answer = _call(client, arguments)
    print(json.dumps(answer, ensure_ascii=False))  # noqa: T201  # what the command prints
    if arguments.verb == "check" and not (answer["readable"] and answer["conditional_put"]):
        error = answer["error"] or "the store ignores conditional puts"
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  # as other commands that fail
        return 1
    return 0


def _call(client: Client, arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.verb == "lifecycle" and arguments.set is not _NOT_GIVEN:
        return client.call("bucket.set_lifecycle", {"name": arguments.name, "rules": arguments.set})
    action, body = _ACTIONS[arguments.verb]
    return client.call(action, _given(body(arguments)))


def _named(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"name": arguments.name}


def _mirror(arguments: argparse.Namespace) -> dict[str, Any]:
    continuous = None if arguments.continuous is None else arguments.continuous == "on"
    return {"bucket": arguments.name, "dataset": arguments.dataset, "continuous": continuous}


def _presign(arguments: argparse.Namespace) -> dict[str, Any]:
    method = "PUT" if arguments.put else "GET"
    return {"name": arguments.name, "method": method, "key": arguments.key, "expires_seconds": arguments.expires}


def _new_bucket(arguments: argparse.Namespace) -> dict[str, Any]:
    names = ("endpoint", "region", "prefix", "credentials", "encryption", "kms_key")
    place = _given({name: getattr(arguments, name) for name in names})
    place |= {"path_style": False} if arguments.virtual_hosted else {}
    place |= {"create": True} if arguments.make else {}
    root = _given({"root": arguments.root})
    if arguments.s3_bucket is None and not place:
        return {"name": arguments.name, "backend": "local", **root}
    # Flags for S3 without a bucket of S3 are a mistake that the server explains.
    place |= _given({"bucket": arguments.s3_bucket})
    return {"name": arguments.name, "backend": "s3", "s3": place, **root}


_ACTIONS: dict[str, tuple[str, Callable[[argparse.Namespace], dict[str, Any]]]] = {
    "create": ("bucket.create", _new_bucket),
    "check": ("bucket.check", _named),
    "limits": (
        "bucket.set_limits",
        lambda given: {**_named(given), "put_bytes": given.put, "vector_put_bytes": given.vector_put},
    ),
    "rename": ("bucket.rename", lambda given: {**_named(given), "to": given.to}),
    "drop": ("bucket.drop", lambda given: {**_named(given), "contents": given.contents}),
    "usage": ("bucket.usage", _named),
    "collect": (
        "bucket.collect",
        lambda given: {"bucket": given.name, "dry_run": given.dry_run, "older_than_hours": given.older_than_hours},
    ),
    "mirror": ("bucket.mirror", _mirror),
    "move": ("dataset.move", lambda given: {"dataset": given.dataset, "to": given.to, "bucket": given.bucket}),
    "presign": ("bucket.presign", _presign),
    "lifecycle": ("bucket.get_lifecycle", _named),
    "migrate": ("catalog.migrate_buckets", lambda given: {"dry_run": given.dry_run}),
}
"""What each verb asks for, with which fields; those that are None aren't sent."""


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _bytes(text: str) -> int:
    found = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(found[2].upper()) if found else None
    if found is None or unit is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: expected bytes, or a number and KiB, MiB or GiB")
    return int(found[1]) * unit


def _rules(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON: {error}") from None
