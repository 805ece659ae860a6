"""How users are recognised can be set like everything else, and shown without telling where files are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flightserver.errors import InvalidRequest
from flightserver.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("/etc/flightserver/keys.json", "keys.json"),
        ("https://issuer.example/keys", "https://issuer.example/keys"),
        ("", ""),
    ],
)
def test_of_a_file_of_keys_only_the_name_is_shown(location: str, shown: str) -> None:
    settings = load_settings(None, {"access": {"jwks": location}})

    assert dict(settings.rows())["access.jwks"] == shown


def test_algorithms_in_the_environment_are_a_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLIGHTSERVER_ACCESS_JWT_ALGORITHMS", "RS256:ES256")

    assert load_settings(None, {}).access.jwt_algorithms == ("RS256", "ES256")


@pytest.mark.parametrize("name", ["token_seconds", "password_cache_seconds", "jwt_leeway_seconds"])
def test_negative_times_are_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"access.{name}"):
        load_settings(None, {"access": {name: -1}})
