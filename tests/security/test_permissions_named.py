"""Every call names its permission: whoever adds one and names none is told here."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import pyarrow.flight as fl
import pytest

from flightserver.flight import permissions
from flightserver.flight.permissions import COMMANDS, PROTOCOL_ACTIONS, RPCS, Admin, Caller
from flightserver.flight.server import FlightServer
from flightserver.flight.service import Service
from flightserver.flight.sql import messages as m

if TYPE_CHECKING:
    from flightserver.lakehouse import Lakehouse

PERMISSIONS = tuple(kind for kind in vars(permissions).values() if isinstance(kind, type) and hasattr(kind, "check"))
OPEN_ACTIONS = {
    "bucket.list": "shows the buckets that the caller sees",
    "result.close": "forgets results of the caller",
    "result.create": "runs a query as the caller",
    "user.create_token": "makes tokens of the caller",
    "user.drop_token": "forgets tokens of the caller",
    "user.list_tokens": "shows tokens of the caller",
    "user.set_password": "asks for the caller's own password",
    "user.whoami": "shows the caller",
}
"""Actions that anybody may call who is known, and why."""


def test_every_rpc_names_a_permission() -> None:
    overridden = {
        name for name, one in vars(FlightServer).items() if callable(one) and hasattr(fl.FlightServerBase, name)
    }

    assert overridden - {"__init__"} == set(RPCS)
    assert {type(one) for one in RPCS.values()} <= set(PERMISSIONS)


def test_every_command_names_a_permission() -> None:
    assert set(COMMANDS) == set(get_args(m.Command))
    assert {type(one) for one in COMMANDS.values()} <= set(PERMISSIONS)


def test_every_action_of_the_protocol_names_a_permission() -> None:
    assert set(PROTOCOL_ACTIONS) == set(get_args(m.ActionRequest))
    assert {type(one) for one in PROTOCOL_ACTIONS.values()} <= set(PERMISSIONS)


def test_every_action_names_a_permission(lakehouse: Lakehouse) -> None:
    needs = {action.name: action.needs for action in Service(lakehouse).registry}

    assert {type(one) for one in needs.values()} <= set(PERMISSIONS)
    assert {name for name, one in needs.items() if isinstance(one, Caller)} == set(OPEN_ACTIONS)


@pytest.mark.parametrize("family", ["role", "policy", "cache", "catalog"])
def test_families_that_administer_are_for_administrators(lakehouse: Lakehouse, family: str) -> None:
    found = [action.needs for action in Service(lakehouse).registry if action.name.startswith(f"{family}.")]

    assert found
    assert {type(one) for one in found} == {Admin}
