"""The world of `world.py`, one per test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from security.world import open_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from security.world import User, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A server with users."""
    with open_world(tmp_path) as opened:
        yield opened


@pytest.fixture
def root(world: World) -> User:
    """An administrator."""
    return world["root"]


@pytest.fixture
def eve(world: World) -> User:
    """Somebody who sees a part of `people`, and nothing else."""
    return world["eve"]
