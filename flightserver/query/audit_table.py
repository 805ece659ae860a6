"""The table `system.audit`: the newest entries of this server's audit trail, oldest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from flightserver.query.rowtable import table_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from flightserver.access.audit import Audit
    from flightserver.query.namespace import Scope

AUDIT = pa.schema(
    [
        ("time", pa.timestamp("us", tz="UTC")),
        ("user", pa.string()),
        ("method", pa.string()),
        ("peer", pa.string()),
        ("rpc", pa.string()),
        ("what", pa.string()),
        ("about", pa.string()),
        ("outcome", pa.string()),
        ("milliseconds", pa.float64()),
    ]
)


def audit_table(audit: Audit) -> Callable[[Scope], pa.Table]:
    """A function that computes the table."""

    def rows(_: Scope) -> pa.Table:
        return table_of(
            AUDIT,
            (
                (
                    one.time,
                    one.user,
                    one.method,
                    one.peer,
                    one.rpc,
                    one.what,
                    one.about,
                    one.outcome,
                    one.milliseconds,
                )
                for one in audit.entries()
            ),
        )

    return rows
