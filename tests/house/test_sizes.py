"""Files and functions stay small enough to be read at one sitting.

An exception carries its reason: `# long: <why>` on the `def` line of a function, or on one of the lines
before the first statement after the docstring of a file.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from house.conftest import SourceFile

FILE_LINES = 400
FUNCTION_LINES = 60
_REASON = re.compile(r"# long: \S+ \S+")


def _functions(file: SourceFile) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(file.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _signature(file: SourceFile, function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return "\n".join(file.lines[function.lineno - 1 : function.body[0].lineno])


def _header(file: SourceFile) -> str:
    statements = file.tree.body[1:] if ast.get_docstring(file.tree) else file.tree.body
    end = statements[0].lineno - 1 if statements else len(file.lines)
    return "\n".join(file.lines[:end])


def test_no_file_is_longer_than_400_lines(product: list[SourceFile]) -> None:
    long = [
        f"{file.path}: {len(file.lines)} lines"
        for file in product
        if len(file.lines) > FILE_LINES and not _REASON.search(_header(file))
    ]

    assert not long, "split these at a noun, or say why not with '# long: <reason>' below the docstring"


def test_no_function_is_longer_than_60_lines(product: list[SourceFile]) -> None:
    long = []
    for file in product:
        for function in _functions(file):
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            if lines > FUNCTION_LINES and not _REASON.search(_signature(file, function)):
                long.append(f"{file.path}:{function.lineno} {function.name}: {lines} lines")

    assert not long, "split these, or say why not with '# long: <reason>' on the line of the def"
