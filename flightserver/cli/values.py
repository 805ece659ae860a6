"""What the texts of flags mean. A text that means nothing is refused by argparse, with what was expected instead.

Texts may come from variables of a shell. One that isn't set must not choose anything: an empty name of a bucket would
be taken for `primary` by actions that default to it.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from typing import Any, Never

_UNITS = {"": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_SIZE = re.compile(r"([0-9]{1,18})\s*([A-Za-z]*)")
_SHOWN = 80
"""So many characters of a text are repeated in an error."""


def bucket_name(text: str) -> str:
    """The name of a bucket, which the server looks at further.

    Raises:
        argparse.ArgumentTypeError: It is empty.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("expected the name of a bucket, found an empty text")
    return text


def byte_size(text: str) -> int:
    """A number of bytes.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    found = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(found[2].upper()) if found else None
    if found is None or unit is None:
        raise argparse.ArgumentTypeError(f"{_shown(text)} is no size: expected bytes, or a number and KiB, MiB or GiB")
    return int(found[1]) * unit


def hours(text: str) -> float:
    """A number of hours.

    Raises:
        argparse.ArgumentTypeError: It is none, or not finite.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{_shown(text)} is no number of hours")
    return value


def json_value(text: str) -> Any:
    """A value of JSON.

    Raises:
        argparse.ArgumentTypeError: It is none, or nested too deeply to be read.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"{_shown(text)} is not valid JSON: {error}") from None


def json_object(text: str) -> dict[str, Any]:
    """An object of JSON.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    value = json_value(text)
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"expected a JSON object such as {{}}, found {_shown(text)}")
    return value


def _refuse_constant(name: str) -> Never:
    """Python reads these, and nobody else does."""
    raise ValueError(f"{name} is no number there")


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
