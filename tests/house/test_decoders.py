"""Types are prepared for decoding while modules are imported.

msgspec finds out what a type looks like when it is first needed, and two threads that need it first at once crash the
process (msgspec 0.22). So decoders are made where only one thread is: in modules, and when the server is composed.
"""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "flightserver"
PREPARED = {"ingest/options.py": "prepares its types itself", "settings.py": "read once, before there are threads"}


def unprepared(path: Path) -> list[int]:
    """Lines that decode to a type which may not have been prepared."""
    lines = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            typed = any(keyword.arg == "type" for keyword in node.keywords)
            called = ast.unparse(node.func)
            if called == "msgspec.convert" or (called in {"msgspec.json.decode", "msgspec.msgpack.decode"} and typed):
                lines.append(node.lineno)
    return lines


def test_nothing_is_decoded_to_a_type_that_was_not_prepared() -> None:
    found = {str(path.relative_to(PACKAGE)): lines for path in PACKAGE.rglob("*.py") if (lines := unprepared(path))}

    assert set(found) == set(PREPARED)
