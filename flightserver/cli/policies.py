"""`flightserver policies`: hide rows, and values of columns, from some roles."""

from __future__ import annotations

import argparse

from flightclient.actions import given

from flightserver.cli.administering import add_place, opened, print_rows
from flightserver.cli.rendering import print_json

_COLUMNS = ("name", "bucket", "dataset", "filter", "masks", "tags", "roles", "exempt")
_VERBS = {
    "list": "one row a policy",
    "add": "make a policy about a dataset, all of a bucket, or everything",
    "remove": "forget a policy",
    "tag": "say what a column is, such as pii, for policies with --tag",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verbs and their flags."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    made = {verb: verbs.add_parser(verb, help=text, description=text) for verb, text in _VERBS.items()}
    for verb in ("add", "remove"):
        made[verb].add_argument("name", metavar="NAME", help="of the policy")
    add = made["add"]
    add.add_argument("--bucket", metavar="B", help="of the dataset, or all that is in it")
    add.add_argument("--dataset", metavar="D", help="the dataset")
    add.add_argument("--filter", default="", metavar="SQL", help="a predicate; rows for which it isn't true are hidden")
    for flag, what in (("--mask", "COLUMN"), ("--tag", "TAG")):
        add.add_argument(
            flag, type=_pair, action="append", default=[], metavar=f"{what}=SQL", help="what is shown in its place"
        )
    add.add_argument("--role", action="append", default=[], metavar="R", help="it is for; without any for everybody")
    add.add_argument("--exempt", action="append", default=[], metavar="R", help="a role that it isn't for")
    add.add_argument("--replace", action="store_true", help="take the place of the policy of this name")
    made["tag"].add_argument("dataset", metavar="DATASET")
    made["tag"].add_argument("column", metavar="COLUMN")
    made["tag"].add_argument("tags", nargs="*", metavar="TAG", help="all that it has from now on")
    made["tag"].add_argument("--bucket", metavar="B", help="of the dataset")
    for each in made.values():
        add_place(each)


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked, and print what came of it."""
    with opened(arguments) as call:
        match arguments.verb:
            case "list":
                print_rows(call("policy.list", {})["policies"], _COLUMNS)
            case "remove":
                print_json(call("policy.drop", {"name": arguments.name}))
            case "tag":
                body = {"dataset": arguments.dataset, "columns": {arguments.column: arguments.tags}}
                print_json(call("dataset.tag_columns", {**body, **given(bucket=arguments.bucket)}))
            case _:
                place = given(bucket=arguments.bucket, dataset=arguments.dataset)
                body = {
                    "name": arguments.name,
                    **place,
                    "filter": arguments.filter,
                    "masks": dict(arguments.mask),
                    "tags": dict(arguments.tag),
                    "roles": arguments.role,
                    "exempt": arguments.exempt,
                    "replace": arguments.replace,
                }
                print_json(call("policy.create", body))
    return 0


def _pair(text: str) -> tuple[str, str]:
    name, equals, sql = text.partition("=")
    if not (name and equals and sql.strip()):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=SQL")
    return name, sql
