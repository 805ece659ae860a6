"""What mutations have found: each was a defect once, and is a refusal now."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fuzz.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

FOUND: list[dict[str, Any]] = json.loads(Path(__file__).with_name("found.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """One server for all of them."""
    with Target(tmp_path_factory.mktemp("found")) as started:
        yield started
        assert started.log_complaints() == []


@pytest.mark.parametrize("found", FOUND, ids=[found["what"].partition(":")[0] for found in FOUND])
def test_what_was_found_is_refused_cleanly(target: Target, found: dict[str, Any]) -> None:
    sent = [base64.b64decode(message) for message in found["sent"]]

    answer, wrong = target.checked(found["rpc"], iter(sent) if found["rpc"] in {"DoPut", "DoExchange"} else sent[0])

    assert wrong == []
    assert f"[{found['code']}]" in answer.text
