"""Flags of the commands that talk to a server, and the client that they make."""

from __future__ import annotations

from typing import TYPE_CHECKING

import flightclient

from flightserver.settings import client_environment

if TYPE_CHECKING:
    import argparse

    from flightclient import Client


def add_address(parser: argparse.ArgumentParser) -> None:
    """Add `--uri` and `--token`, whose defaults are in the environment."""
    uri, _ = client_environment()
    parser.add_argument("--uri", default=uri, help="address of the server, or FLIGHTSERVER_URI (now: %(default)s)")
    parser.add_argument("--token", help="bearer token, where the server has users; or FLIGHTSERVER_TOKEN")


def open_client(arguments: argparse.Namespace, bucket: str | None = None) -> Client:
    """A client of the server that the flags or the environment name.

    Raises:
        flightclient.errors.InvalidRequest: The address can't be read.
    """
    token = arguments.token or client_environment()[1]
    return flightclient.connect(arguments.uri, token or None, bucket)
