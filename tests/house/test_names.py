"""A name says the thing in the field's own word."""

from __future__ import annotations

import ast
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from house.conftest import SourceFile

_EMPTY_WORDS = {"util", "utils", "helper", "helpers", "common", "misc", "manager", "managers", "stuff"}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def _words(name: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(name)}


def test_no_module_or_directory_has_a_name_that_says_nothing(everything: list[SourceFile]) -> None:
    empty = [
        file.path
        for file in everything
        if any(_words(part) & _EMPTY_WORDS for part in PurePosixPath(file.path).with_suffix("").parts)
    ]

    assert not empty, "name these after what is in them"


def test_no_class_has_a_name_that_says_nothing(everything: list[SourceFile]) -> None:
    empty = [
        f"{file.path}:{node.lineno} {node.name}"
        for file in everything
        for node in ast.walk(file.tree)
        if isinstance(node, ast.ClassDef) and _words(node.name) & _EMPTY_WORDS
    ]

    assert not empty, "name these after what they are"


def test_no_module_is_a_numbered_copy_of_another(everything: list[SourceFile]) -> None:
    paths = {file.path for file in everything}

    copies = [path for path in paths if re.sub(r"_?\d+\.py$", ".py", path) in paths - {path}]

    assert not copies, "two modules differ in what they do: name that"
