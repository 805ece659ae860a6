"""Flags of the commands that talk to a server, and the client that they make."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import flightclient

from flightserver.errors import InvalidRequest
from flightserver.settings import client_environment, client_password, client_tls_roots

if TYPE_CHECKING:
    import argparse

    from flightclient import Client


def add_address(parser: argparse.ArgumentParser) -> None:
    """Add `--uri`, `--token`, `--user` and what TLS needs; defaults are in the environment."""
    uri, _ = client_environment()
    parser.add_argument("--uri", default=uri, help="address of the server, or FLIGHTSERVER_URI (now: %(default)s)")
    parser.add_argument("--token", help="API token, where the server has users; or FLIGHTSERVER_TOKEN")
    parser.add_argument(
        "--user", help="user instead of a token; the password is in FLIGHTSERVER_PASSWORD, or asked for"
    )
    parser.add_argument(
        "--tls-roots",
        type=Path,
        metavar="FILE",
        help="authorities in PEM that the server's certificate is checked by, or FLIGHTSERVER_TLS_ROOTS",
    )
    parser.add_argument(
        "--tls-certificate", type=Path, metavar="FILE", help="your own certificate, where one is asked for"
    )
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key")


def open_client(arguments: argparse.Namespace, bucket: str | None = None) -> Client:
    """A client of the server that the flags or the environment name.

    Raises:
        flightclient.errors.InvalidRequest: The address or a file can't be read.
        InvalidRequest: A user was given without a password, and nobody can be asked for it.
    """
    # gRPC would tell on standard error, beside our one line, why a certificate was not taken.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    user = arguments.user
    token = None if user and not arguments.token else arguments.token or client_environment()[1]
    environment = client_tls_roots()
    roots = arguments.tls_roots or (Path(environment) if environment else None)
    return flightclient.connect(
        arguments.uri,
        token or None,
        bucket,
        user=user,
        password=None if user is None else client_password() or _asked_password(user),
        tls_roots=roots,
        tls_certificate=arguments.tls_certificate,
        tls_key=arguments.tls_key,
    )


def _asked_password(user: str) -> str:
    if not sys.stdin.isatty():
        raise InvalidRequest(
            f"there is no terminal to ask for the password of {user!r}: put it in FLIGHTSERVER_PASSWORD"
        )
    return getpass.getpass(f"Password of {user}: ")
