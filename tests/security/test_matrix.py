"""The authorization matrix: every call by every kind of caller."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from security.calls import ADMINS, Call, own, samples_of
from security.world import PASSWORD, USERS, by

from flightserver.access.bearer import BearerTokens

if TYPE_CHECKING:
    from security.world import User, World

UNAUTHENTICATED = {"FlightUnauthenticatedError FS-2001", "FS-2001"}
DENIED = {"FlightUnauthorizedError FS-2002", "ArrowKeyError FS-1004", "FS-2002", "FS-1004"}
_CODE = re.compile(r"\[(FS-\d{4})\]")


def outcome(call: Call, user: User, handles: object) -> str:
    """`OK`, or the class and code of the error; pyarrow's client tells no classes of GetSchema."""
    try:
        call.send(user, handles)  # type: ignore[arg-type]  # of Handles
    except (pa.ArrowException, OSError, ValueError) as error:
        found = _CODE.search(str(error))
        if found is None:
            return f"an error without a code: {error}"
        return found[1] if call.name.startswith("GetSchema") else f"{type(error).__name__} {found[1]}"
    return "OK"


def basic(name: str, password: str) -> bytes:
    return b"Basic " + base64.b64encode(f"{name}:{password}".encode())


def logged_in(world: World, name: str) -> bytes:
    """The bearer token of a login by password."""
    with fl.connect(world.uri) as client:
        header: bytes = client.authenticate_basic_token(name, PASSWORD)[1]
        return header.removeprefix(b"Bearer ")


def wrong_credentials(world: World) -> dict[str, bytes]:
    """Headers that are nobody's, by what is wrong with them."""
    administration = world.lakehouse.administration
    key = (world.lakehouse.settings.server.data / "server" / "ticket.key").read_bytes()
    usual, past = BearerTokens(key, 3600), BearerTokens(key, 3600, lambda: 1_000_000.0)
    root = world.lakehouse.catalog.snapshot().access.users["root"]
    assert root.created is not None
    created = round(root.created.timestamp() * 1_000_000)
    bearer = usual.issue("root", root.epoch, created)
    assert world.connect("root", b"Bearer " + bearer.encode()).call("user.whoami")["method"] == "bearer"
    for name in ("disabled", "renewed"):
        administration.create_user(by(), name, password=PASSWORD, roles=["admin"])
    before = {name: logged_in(world, name) for name in ("disabled", "renewed")}
    token, made = administration.create_token(by(), "ada")
    administration.drop_token(by(), "ada", made.id)
    kept, _ = administration.create_token(by(), "disabled")
    administration.disable(by(), "disabled")
    administration.end_sessions(by(), "renewed")
    found = {
        "wrong password": basic("root", PASSWORD + "x"),
        "empty password": basic("root", ""),
        "user without a password": basic("ada", ""),
        "unknown user": basic("mallory", PASSWORD),
        "malformed basic": b"Basic !!!",
        "basic without a colon": b"Basic " + base64.b64encode(b"root"),
        "unknown scheme": b"Digest cm9vdDpyb290",
        "scheme alone": b"Bearer",
        "no scheme": bearer.encode(),
        "expired bearer": past.issue("root", 0, created).encode(),
        "bearer of another key": BearerTokens(bytes(32), 3600).issue("root", 0, created).encode(),
        "truncated bearer": bearer[:-4].encode(),
        "bearer of an unknown user": usual.issue("mallory", 0).encode(),
        "bearer of another epoch": usual.issue("root", 7, created).encode(),
        "bearer of a user of before under the name": usual.issue("root", 0, created - 1).encode(),
        "bearer of before the sessions were ended": before["renewed"],
        "disabled user": basic("disabled", PASSWORD),
        "bearer of a disabled user": before["disabled"],
        "token of a disabled user": kept.encode(),
        "dropped token": token.encode(),
        "truncated token": world["root"].token[:-1],
        "json web token": b"eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0.",
        "the answer of an open server": b"anonymous",
    }
    for place in (4, 20, len(bearer) // 2, len(bearer) - 1):
        other = "A" if bearer[place] != "A" else "B"
        found[f"bearer with another character {place}"] = (bearer[:place] + other + bearer[place + 1 :]).encode()
    whole = {"Basic", "Digest", "Bearer", "fsb_"}
    return {
        what: header if header.split(b" ")[0].decode() in whole or what == "no scheme" else b"Bearer " + header
        for what, header in found.items()
    }


def test_nobody_does_anything_by_a_wrong_credential(world: World) -> None:
    handles = own(world["root"])
    calls = samples_of(world)
    headers = wrong_credentials(world)
    version = world.version
    failures, cells = [], 0
    for what, header in headers.items():
        # A hash of a password costs what it must: those are tried with a few calls, which all ask the same middleware.
        tried = calls[::9] if header.startswith(b"Basic") else calls
        user = world.connect("mallory", header)
        for call in tried:
            cells += 1
            found = outcome(call, user, handles)
            if found not in UNAUTHENTICATED:
                failures.append((what, call.name, found))
    for call in calls:
        cells += 1
        found = outcome(call, replace(world["root"], header=b""), handles)
        if found not in UNAUTHENTICATED:
            failures.append(("empty header", call.name, found))

    assert failures == []
    assert world.version == version
    assert cells > 2_000


def test_no_credential_at_all_is_not_enough(world: World) -> None:
    handles = own(world["root"])
    version = world.version
    unknown = replace(world["root"], header=None)

    found = {call.name: outcome(call, unknown, handles) for call in samples_of(world)}

    assert set(found.values()) == UNAUTHENTICATED
    assert world.version == version


def test_who_may_not_is_told_so_and_nothing_changes(world: World) -> None:
    handles = own(world["root"])
    version = world.version
    failures, cells = [], 0
    for call in samples_of(world):
        for name in set(USERS) - call.allowed:
            cells += 1
            found = outcome(call, world[name], handles)
            if found not in DENIED or world.version != version:
                failures.append((name, call.name, found))

    assert failures == []
    assert cells > 300
    assert world["root"].rows("SELECT count(*) FROM people") == [(4,)]


@pytest.mark.parametrize("name", sorted(set(USERS) - ADMINS))
def test_who_may_does(world: World, name: str) -> None:
    """All but calls that would take away what the others are about."""
    user = world[name]
    handles = own(world["root"])
    failures = []
    for call in samples_of(world):
        if name not in call.allowed or call.name.split()[-1] in CHANGING:
            continue
        found = outcome(call, user, handles)
        if found != "OK":
            failures.append((call.name, found))

    assert failures == []


CHANGING = (
    "bucket.drop",
    "bucket.rename",
    "dataset.alter",
    "dataset.attach",
    "dataset.compact",
    "dataset.delete",
    "dataset.drop",
    "dataset.export",
    "dataset.move",
    "dataset.restore",
    "dataset.truncate",
    "dataset.upsert",
    "index.drop",
    "index.move",
    "ingest.file",
)
"""Actions that change what others need, or need what only some have."""
