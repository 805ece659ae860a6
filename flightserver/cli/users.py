"""`flightserver users`: make, list, change and forget users and their API tokens."""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING, Any

from flightclient.actions import given

from flightserver.cli.administering import add_place, is_local, opened, print_rows
from flightserver.cli.rendering import print_json
from flightserver.errors import InvalidRequest

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from flightserver.cli.administering import Call

_COLUMNS = ("name", "roles", "disabled", "has_password", "tokens", "certificates", "created")
_TOKEN_COLUMNS = ("id", "comment", "created", "expires")
_VERBS = {
    "list": "one row a user",
    "add": "make a user; its password is asked for",
    "remove": "forget a user, with its tokens",
    "password": "change a password; sessions of before end",
    "roles": "give a user exactly these roles",
    "certificates": "say which client certificates are a user",
    "disable": "let nobody be a user for now",
    "enable": "undo disable",
    "logout": "end the sessions of a user; API tokens stay",
    "token": "make an API token and print it, this once",
    "tokens": "one row an API token of a user",
    "drop-token": "forget an API token",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verbs and their flags."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    made = {verb: verbs.add_parser(verb, help=text, description=text) for verb, text in _VERBS.items()}
    for verb in _VERBS.keys() - {"list"}:
        made[verb].add_argument("name", metavar="NAME", help="of the user")
    made["add"].add_argument("--role", action="append", default=[], metavar="R", help="may be repeated")
    made["add"].add_argument(
        "--certificate", action="append", default=[], metavar="ID", help="a client certificate that is this user"
    )
    made["add"].add_argument("--no-password", action="store_true", help="for who logs in by token or certificate")
    for verb in ("add", "password"):
        made[verb].add_argument(
            "--password-stdin", action="store_true", help="read the password from a line of standard input"
        )
    made["password"].add_argument(
        "--own", action="store_true", help="the password of whoever asks: the current one is asked for first"
    )
    made["roles"].add_argument("roles", nargs="*", metavar="ROLE", help="all that it has from now on")
    made["certificates"].add_argument("certificates", nargs="*", metavar="ID", help="all that are it from now on")
    made["token"].add_argument("--days", type=float, metavar="N", help="after which it expires; without it never")
    made["token"].add_argument("--comment", default="", help="what it is for")
    made["drop-token"].add_argument("id", metavar="ID", help="the id of the token, its part behind fsk_")
    for each in made.values():
        add_place(each)


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked, and print what came of it.

    Raises:
        InvalidRequest: There is no password, or it was not written twice the same.
    """
    body = _BODIES.get(arguments.verb, _named)(arguments)
    with opened(arguments) as call:
        match arguments.verb:
            case "list":
                print_rows(call("user.list", {})["users"], _COLUMNS)
            case "tokens":
                print_rows(call("user.list_tokens", body)["tokens"], _TOKEN_COLUMNS)
            case "token":
                _print_token(call("user.create_token", body), arguments.name)
            case "add":
                _add(call, body, arguments)
            case verb:
                print_json(call(_ACTIONS[verb], body))
    return 0


def _add(call: Call, body: dict[str, Any], arguments: argparse.Namespace) -> None:
    first = not call("user.list", {})["users"]
    made = call("user.create", body)
    print_json(made)
    where = f" --data {arguments.data}" if arguments.data else ""
    if first:
        _tell("This is the first user: from now on every call needs a login.")
    if not made["has_password"] and not made["certificates"]:
        _tell(f"It can't log in yet. Next: flightserver users token {made['name']}{where}")
    elif is_local(arguments):
        _tell(f"Next: flightserver serve{where}")
    if not made["roles"]:
        _tell("It may do nothing yet. Next: flightserver users roles " + f"{made['name']} reader{where}")


def _print_token(made: dict[str, Any], name: str) -> None:
    print(made["token"])  # noqa: T201  # what the command prints
    until = f"until {made['expires']}" if made["expires"] else "until it is dropped"
    _tell(f"This is all that shows it. It is user {name} {until}; programs have it in FLIGHTSERVER_TOKEN.")


def _tell(text: str) -> None:
    """Say something beside what scripts read."""
    print(text, file=sys.stderr)  # noqa: T201  # as above


def _new_user(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.no_password and arguments.password_stdin:
        raise InvalidRequest("--no-password and --password-stdin contradict each other: give one of them")
    password = None if arguments.no_password else _new_password(from_stdin=arguments.password_stdin)
    body = {"name": arguments.name, "roles": arguments.role, "certificates": arguments.certificate}
    return given(**body, password=password)


def _changed_password(arguments: argparse.Namespace) -> dict[str, Any]:
    current = None
    if arguments.own:
        current = _line() if arguments.password_stdin else _asked("Current password: ")
    password = _new_password(from_stdin=arguments.password_stdin)
    return given(name=arguments.name, password=password, current_password=current)


def _new_password(*, from_stdin: bool) -> str:
    if from_stdin:
        return _line()
    password = _asked("Password: ")
    if _asked("Once more: ") != password:
        raise InvalidRequest("the two passwords differ: nothing was changed")
    return password


def _line() -> str:
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise InvalidRequest("standard input has no line with a password")
    return line


def _asked(prompt: str) -> str:
    if not sys.stdin.isatty():
        raise InvalidRequest("there is no terminal to ask for a password: give --password-stdin, and write it there")
    return getpass.getpass(prompt)


def _named(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"name": arguments.name} if arguments.verb != "list" else {}


_BODIES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "add": _new_user,
    "password": _changed_password,
    "roles": lambda asked: {"name": asked.name, "roles": asked.roles},
    "certificates": lambda asked: {"name": asked.name, "certificates": asked.certificates},
    "token": lambda asked: given(name=asked.name, days=asked.days, comment=asked.comment),
    "drop-token": lambda asked: {"name": asked.name, "id": asked.id},
}
"""What a verb sends, where it is more than a name."""

_ACTIONS = {
    "remove": "user.drop",
    "password": "user.set_password",
    "roles": "user.set_roles",
    "certificates": "user.set_certificates",
    "disable": "user.disable",
    "enable": "user.enable",
    "logout": "user.end_sessions",
    "drop-token": "user.drop_token",
}
