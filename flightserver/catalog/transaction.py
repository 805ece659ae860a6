"""What a caller asks the catalog to do: updates that happen together or not at all, if what they require holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flightserver.catalog.log import Operation
    from flightserver.catalog.updates import Requirement, Update


@dataclass(frozen=True, slots=True)
class Transaction:
    """Updates and requirements of one operation.

    Attributes:
        operation: Who does what; its id makes a repeated commit harmless.
        updates: Applied in order.
        requirements: Must hold in the newest state when the updates are committed, whatever was read before.
    """

    operation: Operation
    updates: tuple[Update, ...]
    requirements: tuple[Requirement, ...] = ()
