"""`flightserver roles`: make, list and forget roles, and grant them privileges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flightclient.actions import given

from flightserver.catalog.identities import Privilege
from flightserver.cli.administering import add_place, opened, print_rows
from flightserver.cli.rendering import print_json

if TYPE_CHECKING:
    import argparse

_VERBS = {
    "list": "one row a role",
    "add": "make a role without grants",
    "remove": "forget a role, also of users who have it",
    "grant": "allow a role more: on a dataset, on all of a bucket, or on everything",
    "revoke": "take back what a role was granted",
}
_PRIVILEGES = (*(privilege.value for privilege in Privilege), "all")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verbs and their flags."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    made = {verb: verbs.add_parser(verb, help=text, description=text) for verb, text in _VERBS.items()}
    for verb in _VERBS.keys() - {"list"}:
        made[verb].add_argument("name", metavar="NAME", help="of the role")
    made["add"].add_argument("--comment", default="", help="what it is for")
    for verb in ("grant", "revoke"):
        made[verb].add_argument(
            "privileges", nargs="+", choices=_PRIVILEGES, metavar="PRIVILEGE", help=f"of {', '.join(_PRIVILEGES)}"
        )
        made[verb].add_argument("--bucket", metavar="B", help="of the dataset, or all that is in it")
        made[verb].add_argument("--dataset", metavar="D", help="a dataset or view")
    for each in made.values():
        add_place(each)


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked, and print what came of it."""
    with opened(arguments) as call:
        match arguments.verb:
            case "list":
                rows = [{**role, "grants": _grants(role)} for role in call("role.list", {})["roles"]]
                print_rows(rows, ("name", "built_in", "grants", "users", "comment"))
            case "add":
                print_json(call("role.create", {"name": arguments.name, "comment": arguments.comment}))
            case "remove":
                print_json(call("role.drop", {"name": arguments.name}))
            case verb:
                place = given(bucket=arguments.bucket, dataset=arguments.dataset)
                body = {"role": arguments.name, "privileges": arguments.privileges, **place}
                print_json(call(f"role.{verb}", body))
    return 0


def _grants(role: dict[str, Any]) -> str:
    return "; ".join(f"{', '.join(grant['privileges'])} on {_place(grant)}" for grant in role["grants"])


def _place(grant: dict[str, Any]) -> str:
    if grant["dataset"]:
        return f"{grant['bucket']}.{grant['dataset']}"
    return f"bucket {grant['bucket']}" if grant["bucket"] else "everything"
