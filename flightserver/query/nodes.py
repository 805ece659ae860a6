"""Nodes of the engine's plans and expressions, as its binding shows them."""

from __future__ import annotations

from typing import Any


def variant(node: Any) -> Any:
    """What a node of a plan, or an expression, is: an object of `datafusion.expr`.

    Returns:
        None for what the binding has no class for.
    """
    try:
        return node.to_variant()
    except Exception:  # noqa: BLE001  # how the binding says that it has none
        return None
