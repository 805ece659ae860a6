"""Actions `dataset.attach` and `dataset.export`: JSON in, JSON out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flightserver.access.principal import Principal
from flightserver.access.rights import Rights
from flightserver.catalog.identities import ADMIN, AccessState
from flightserver.catalog.log import Operation
from flightserver.catalog.ulid import new_ulid
from flightserver.errors import InvalidRequest
from flightserver.flight.actions.interop import InteropActions
from flightserver.flight.actions.registry import Registry
from flightserver.flight.middleware import CallContext
from flightserver.storage.local import LocalObjects
from flightserver.tables.exporting import ExportRoot, Exports
from flightserver.tables.external.attaching import ExternalTables
from flightserver.tables.external.locations import Locations
from flightserver.tables.requests import Mode, WriteRequest
from flightserver.tables.segments import Layout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flightserver.lakehouse import Lakehouse

    Run = Callable[[str, dict[str, Any]], list[Any]]
    """Name of an action and its body -> what it answers."""

ROWS = pa.table({"id": [1, 2, 3]})


@pytest.fixture
def run(lakehouse: Lakehouse, tmp_path: Path) -> Run:
    """Runs an action over an empty lakehouse, whose inbox and exports are `inbox` and `exports` in `tmp_path`."""
    external = ExternalTables(Locations([tmp_path / "inbox"]))
    root = ExportRoot(tmp_path / "exports", LocalObjects(tmp_path / "exports"))
    exports = Exports((root,), lakehouse.buckets, lakehouse.tables.dead, Layout(row_group_rows=2))
    registry = Registry(InteropActions(lakehouse, external, exports).actions())

    def run_action(name: str, body: dict[str, Any]) -> list[Any]:
        call = CallContext("DO_ACTION", rights=Rights(Principal("ada", frozenset({ADMIN}), "password"), AccessState()))
        return [json.loads(answer) for answer in registry.get(name).run(call, json.dumps(body).encode())]

    return run_action


def _write(lakehouse: Lakehouse, mode: Mode) -> None:
    request = WriteRequest(
        name="numbers",
        bucket="primary",
        mode=mode,
        schema=ROWS.schema,
        operation=Operation(new_ulid(), mode.value),
        lineage_system="arrow",
        lineage_source="test",
    )
    lakehouse.tables.write(request, ROWS.to_batches())


def test_attach_answers_what_the_dataset_is(run: Run, lakehouse: Lakehouse, tmp_path: Path) -> None:
    (tmp_path / "inbox" / "numbers").mkdir(parents=True)
    pq.write_table(ROWS, tmp_path / "inbox" / "numbers" / "part.parquet")

    (answer,) = run("dataset.attach", {"dataset": "seen", "location": "numbers"})

    assert answer == {
        "result": {
            "dataset": "seen",
            "bucket": "primary",
            "version": 2,
            "format": "parquet",
            "columns": [{"name": "id", "type": "int64", "nullable": True}],
            "rows": 3,
        }
    }
    (newest,) = lakehouse.catalog.history(lakehouse.catalog.snapshot().dataset("seen"))
    assert (newest.kind, newest.detail, newest.user) == ("attach", "seen", "ada")


def test_attach_refuses_a_format_that_it_does_not_know(run: Run) -> None:
    with pytest.raises(InvalidRequest, match=r"body of action dataset\.attach is not valid: .*format"):
        run("dataset.attach", {"dataset": "seen", "location": "numbers", "format": "orc"})


def test_export_reports_its_progress_and_what_it_wrote(run: Run, lakehouse: Lakehouse, tmp_path: Path) -> None:
    _write(lakehouse, Mode.CREATE)
    _write(lakehouse, Mode.APPEND)

    *progress, answer = run("dataset.export", {"dataset": "numbers", "destination": "copy"})

    size = (tmp_path / "exports" / "copy" / "data" / "part-00000.parquet").stat().st_size
    assert progress == [{"progress": {"stage": "rows", "done": done, "total": 6}} for done in (3, 6)]
    assert answer == {
        "result": {
            "dataset": "numbers",
            "bucket": "primary",
            "version": 3,
            "files": 1,
            "rows": 6,
            "bytes": size,
            "manifest": "copy/manifest.json",
        }
    }


def test_export_of_an_older_version(run: Run, lakehouse: Lakehouse, tmp_path: Path) -> None:
    _write(lakehouse, Mode.CREATE)
    _write(lakehouse, Mode.APPEND)

    run("dataset.export", {"dataset": "numbers", "destination": "copy", "version": 2})

    assert pq.read_table(tmp_path / "exports" / "copy" / "data").equals(ROWS)
