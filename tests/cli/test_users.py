"""`flightserver users`, `roles` and `policies`, as scripts call them: on a lakehouse alone, and on a server."""

from __future__ import annotations

import getpass
import io
import json
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest
from s3server import S3Server

from flightserver.access.passwords import verify
from flightserver.catalog.entities import PRIMARY, DatasetKey
from flightserver.catalog.identities import ADMIN, Grant, Policy, Privilege
from flightserver.cli.main import main
from flightserver.lakehouse import Lakehouse
from flightserver.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cli.conftest import Finished
    from conftest import RunningServer

    from flightserver.catalog.identities import AccessState


@pytest.fixture
def type_lines(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts lines on standard input."""

    def put(*lines: str) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))

    return put


@pytest.fixture
def at_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Somebody at a terminal who answers questions for passwords."""

    def answer(*passwords: str) -> None:
        left = iter(passwords)
        terminal = io.StringIO()
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        monkeypatch.setattr(sys, "stdin", terminal)
        monkeypatch.setattr(getpass, "getpass", lambda _prompt: next(left))

    return answer


def access(data: Path) -> AccessState:
    with Lakehouse.open(load_settings(None, {"server": {"data": data}})) as lakehouse:
        return lakehouse.catalog.snapshot().access


def test_the_first_user_is_made_without_a_server(
    tmp_path: Path, type_lines: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "new"
    type_lines("correct horse")

    status = main(["users", "add", "ann", "--role", "admin", "--password-stdin", "--data", str(data)])

    written = capsys.readouterr()
    made = json.loads(written.out)
    assert (status, made["name"], made["roles"], made["has_password"]) == (0, "ann", ["admin"], True)
    assert "This is the first user" in written.err
    assert f"Next: flightserver serve --data {data}" in written.err
    ann = access(data).users["ann"]
    assert ann.roles == (ADMIN,)
    assert verify(ann.password, "correct horse")


def test_the_lakehouse_that_a_settings_file_names_is_meant(
    tmp_path: Path, type_lines: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "flightserver.toml"
    config.write_text(f'[server]\ndata = "{tmp_path / "named"}"\n')
    type_lines("correct horse")

    assert main(["users", "add", "ann", "--role", "admin", "--password-stdin", "--config", str(config)]) == 0

    capsys.readouterr()
    assert set(access(tmp_path / "named").users) == {"ann"}


def test_a_catalog_on_s3_has_users_too(
    tmp_path: Path, type_lines: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    with S3Server(tmp_path / "s3") as s3:
        s3.make("lake")
        settings = s3.settings(tmp_path / "data", "lake")
        config = tmp_path / "flightserver.toml"
        primary = msgspec.structs.asdict(settings.primary)
        lines = [f"{name} = {json.dumps(value)}" for name, value in primary.items()]
        config.write_text("\n".join([f'[server]\ndata = "{tmp_path / "data"}"', "[primary]", *lines]))
        type_lines("correct horse")

        status = main(["users", "add", "ann", "--role", "admin", "--password-stdin", "--config", str(config)])

        assert (status, json.loads(capsys.readouterr().out)["name"]) == (0, "ann")
        assert not (tmp_path / "data" / PRIMARY).exists()
        with Lakehouse.open(settings) as lakehouse:
            assert set(lakehouse.catalog.snapshot().access.users) == {"ann"}


def test_who_cannot_administer_cannot_be_the_first_user(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["users", "add", "bob", "--role", "reader", "--no-password", "--data", str(tmp_path / "new")])

    assert status == 1
    assert "the first user must have the role 'admin'" in capsys.readouterr().err


def test_a_password_at_a_terminal_is_asked_for_twice(
    command: Callable[..., Finished], server: RunningServer, at_terminal: Callable[..., None]
) -> None:
    at_terminal("correct horse", "correct hose")
    assert "the two passwords differ" in command("users", "add", "ann", "--role", "admin").err
    assert not server.lakehouse.catalog.snapshot().access.users

    at_terminal("correct horse", "correct horse")
    assert command("users", "add", "ann", "--role", "admin").status == 0
    assert verify(server.lakehouse.catalog.snapshot().access.users["ann"].password, "correct horse")


def test_without_a_terminal_nothing_is_asked(command: Callable[..., Finished], type_lines: Callable[..., None]) -> None:
    type_lines("correct horse")

    finished = command("users", "add", "ann", "--role", "admin")

    assert finished.status == 1
    assert "there is no terminal to ask for a password: give --password-stdin" in finished.err


@pytest.fixture
def here(tmp_path: Path, type_lines: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command on a lakehouse of its own, which has the administrator `ann`; what it prints."""
    data = str(tmp_path / "data")

    def run(*arguments: str) -> str:
        status = main([*arguments, "--data", data])
        written = capsys.readouterr()
        assert (status, written.err.startswith("error")) == (0, False), written.err
        return written.out

    type_lines("correct horse")
    run("users", "add", "ann", "--role", "admin", "--password-stdin")
    return run


def test_a_user_from_its_creation_to_its_end(
    here: Callable[..., str], type_lines: Callable[..., None], tmp_path: Path
) -> None:
    here("users", "add", "bob", "--no-password", "--certificate", "CN=bob", "--role", "reader")
    here("users", "roles", "bob", "writer", "reader")
    here("users", "certificates", "bob")
    here("users", "disable", "bob")
    type_lines("battery staple")
    here("users", "password", "bob", "--password-stdin")
    here("users", "logout", "bob")

    bob = access(tmp_path / "data").users["bob"]
    assert (bob.roles, bob.certificates, bob.disabled, bob.epoch) == (("writer", "reader"), (), True, 3)
    assert verify(bob.password, "battery staple")
    here("users", "enable", "bob")
    out = here("users", "list")
    assert [name for name in ("ann", "bob", "admin", "writer, reader") if name not in out] == []
    here("users", "remove", "bob")
    assert set(access(tmp_path / "data").users) == {"ann"}


def test_a_token_is_printed_once_and_dropped_by_its_id(here: Callable[..., str], tmp_path: Path) -> None:
    secret = here("users", "token", "ann", "--days", "30", "--comment", "nightly").strip()

    [token] = access(tmp_path / "data").users["ann"].tokens
    assert secret.startswith(f"fsk_{token.id}_")
    assert token.expires is not None
    assert (token.comment, round((token.expires - token.created) / timedelta(days=1))) == ("nightly", 30)
    listed = here("users", "tokens", "ann")
    assert token.id in listed
    assert "nightly" in listed
    assert secret not in listed
    here("users", "drop-token", "ann", token.id)
    assert access(tmp_path / "data").users["ann"].tokens == ()


def test_roles_and_policies_are_administered_on_a_server(
    command: Callable[..., Finished], server: RunningServer
) -> None:
    command("query", "CREATE TABLE pets AS SELECT 1 AS id, 'a@b.c' AS email")
    steps = [
        ("roles", "add", "analysts", "--comment", "of sales"),
        ("roles", "grant", "analysts", "select", "insert", "--dataset", "pets"),
        ("roles", "grant", "analysts", "all", "--bucket", "primary"),
        ("roles", "revoke", "analysts", "all", "--bucket", "primary"),
        ("roles", "revoke", "analysts", "insert", "--dataset", "pets"),
        ("policies", "tag", "pets", "email", "pii"),
        (
            "policies",
            "add",
            "own",
            "--dataset",
            "pets",
            "--filter",
            "id = 1",
            "--mask",
            "id=id * 0",
            "--role",
            "reader",
        ),
        ("policies", "add", "hide", "--tag", "pii='***'", "--exempt", "analysts"),
    ]

    assert [(step, done.err) for step in steps if (done := command(*step)).status] == []

    snapshot = server.lakehouse.catalog.snapshot()
    assert snapshot.access.roles["analysts"].grants == (Grant((Privilege.SELECT,), PRIMARY, "pets"),)
    assert snapshot.datasets[DatasetKey(PRIMARY, "pets")].column_tags == {"email": ("pii",)}
    found = snapshot.access.policies
    assert {name: (one.bucket, one.dataset, one.filter, one.masks, one.tags) for name, one in found.items()} == {
        "own": (PRIMARY, "pets", "id = 1", {"id": "id * 0"}, {}),
        "hide": ("", "", "", {}, {"pii": "'***'"}),
    }
    assert (found["own"].roles, found["hide"].exempt) == (("reader",), ("analysts",))
    assert isinstance(found["own"], Policy)
    assert "select on primary.pets" in command("roles", "list").out
    assert "pii = '***'" in command("policies", "list").out
    assert command("policies", "remove", "own").status == 0
    assert command("roles", "remove", "analysts").status == 0
    assert not server.lakehouse.catalog.snapshot().access.roles


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("users", "add", "ann", "--no-password", "--password-stdin"), 1, "contradict each other"),
        (("users", "remove", "ann"), 1, "there is no user 'ann'; there are: none"),
        (("users", "token", "ann", "--days", "0"), 1, "Expected `float` > 0"),
        (("roles", "grant", "analysts", "paint"), 2, "invalid choice: 'paint'"),
        (("roles", "grant", "reader", "select"), 1, "role 'reader' is built in"),
        (("policies", "add", "p", "--mask", "email"), 2, "'email' is not NAME=SQL"),
        (("policies", "add", "p", "--filter", "a) OR (b"), 1, "must be one SQL expression"),
        (("policies", "add", "p"), 1, "policy 'p' hides nothing"),
    ],
)
def test_what_is_wrong_is_said(
    command: Callable[..., Finished], arguments: tuple[str, ...], status: int, message: str
) -> None:
    finished = command(*arguments)

    assert (finished.status, message in finished.err) == (status, True), finished.err
