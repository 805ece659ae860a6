"""Where `users`, `roles` and `policies` act: on a server, or on a lakehouse's catalog without any.

Both ways run the same actions. Without a server, whoever can read the data directory is the administrator: this is how
the first user is made, and how one gets in again who has lost every password.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flightserver.access.administering import Administration
from flightserver.access.principal import LOCAL
from flightserver.access.rights import Rights
from flightserver.cli.connecting import add_address, open_client
from flightserver.cli.rendering import output_console, rich_table
from flightserver.flight.actions.access import AccessActions
from flightserver.flight.actions.registry import Registry
from flightserver.flight.actions.users import UserActions
from flightserver.flight.middleware import CallContext
from flightserver.lakehouse import catalog_alone
from flightserver.query.protection import check_policy
from flightserver.settings import load_settings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from flightserver.catalog.catalog import Catalog

Call = Callable[[str, dict[str, Any]], dict[str, Any]]
"""Runs an action: its name and body to its result."""


def add_place(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say where."""
    here = parser.add_argument_group("without a server")
    here.add_argument("--data", type=Path, metavar="DIR", help="act on the lakehouse in DIR itself; made if absent")
    here.add_argument("--config", type=Path, metavar="FILE", help="likewise, on the lakehouse that these settings name")
    add_address(parser)


def is_local(arguments: argparse.Namespace) -> bool:
    """Whether it was asked to act without a server."""
    return arguments.data is not None or arguments.config is not None


@contextmanager
def opened(arguments: argparse.Namespace) -> Iterator[Call]:
    """What runs actions where the flags say.

    Raises:
        InvalidRequest: The settings or the address are not valid.
        BackendUnavailable: The catalog can't be opened.
    """
    if not is_local(arguments):
        with open_client(arguments) as client:
            yield client.call
        return
    server = {} if arguments.data is None else {"data": arguments.data}
    with catalog_alone(load_settings(arguments.config, {"server": server})) as catalog:
        yield _local(catalog)


def _local(catalog: Catalog) -> Call:
    """Policies are looked at as text only: there is no engine that could plan them."""
    administration = Administration(catalog)
    families = (UserActions(administration, catalog), AccessActions(administration, catalog, check_policy))
    registry = Registry([action for family in families for action in family.actions()])
    call = CallContext("DO_ACTION", rights=Rights(LOCAL, catalog.snapshot().access))

    def run(action: str, body: dict[str, Any]) -> dict[str, Any]:
        [answer] = registry.get(action).run(call, json.dumps(body).encode())
        result: dict[str, Any] = json.loads(answer)["result"]
        return result

    return run


def print_rows(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    """Print some fields of each row as a table."""
    texts = {name: pa.array([_text(row[name]) for row in rows], pa.string()) for name in columns}
    output_console().print(rich_table(pa.table(texts)))


def _text(value: Any) -> str | None:
    if isinstance(value, list):
        return ", ".join(str(each) for each in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} = {each}" for name, each in value.items())
    return None if value is None else str(value)
