"""The contexts that statements are tried in, see `flightserver.query.engine`, and what they have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datafusion import RuntimeEnvBuilder, SessionConfig, SessionContext

from flightserver.query.namespace import BARE, CATALOG

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flightserver.settings import QuerySettings

_SMALL_ROWS = 8192
_LITTLE_MEMORY = 512 * 2**20
"""Below it batches have so many rows: what was spilled is merged by a batch of each piece."""
FEW_ROWS = 1024
"""In a careful plan. A join of three tables, each of 2.3 times the memory, finishes; by 2,048 rows it doesn't."""

OPTIONS = {
    "datafusion.catalog.create_default_catalog_and_schema": "false",
    "datafusion.catalog.information_schema": "false",
    # View types inflate the wire, and JDBC can't read them.
    "datafusion.execution.parquet.schema_force_view_types": "false",
    "datafusion.sql_parser.map_string_types_to_utf8view": "false",
    # A build side of this size is hashed once for all partitions of the probe side, which then isn't shuffled: a third
    # faster on two cores.
    "datafusion.optimizer.hash_join_single_partition_threshold": str(16 * 2**20),
    "datafusion.optimizer.hash_join_single_partition_threshold_rows": "1000000",
    # Read with the end of a file to find its footer, which rarely has more; by default 512 KiB, of each file on S3.
    "datafusion.execution.parquet.metadata_size_hint": str(128 * 1024),
    # TIMESTAMP WITH TIME ZONE is UTC rather than naive.
    "datafusion.execution.time_zone": "+00:00",
}


USUAL: dict[str, str] = {}
_NO_SHUFFLE = {
    "datafusion.optimizer.enable_round_robin_repartition": "false",
    "datafusion.optimizer.repartition_aggregations": "false",
    "datafusion.optimizer.repartition_windows": "false",
    # Else a partition that is idle takes files of others, and rows come in another order.
    "datafusion.execution.enable_file_stream_work_stealing": "false",
}
SPILLING = {**_NO_SHUFFLE, "datafusion.optimizer.repartition_joins": "false"}
FIRST = {**SPILLING, "datafusion.optimizer.repartition_file_scans": "false"}
"""For a few rows: small batches."""
FETCHING = {**FIRST, "datafusion.execution.parquet.pushdown_filters": "true"}
"""For a few rows by their ids: of other columns only their pages are decoded, 6 times as fast for vectors."""
CAREFUL = {
    **_NO_SHUFFLE,
    # One task shuffles the rows of one table, then: it takes two to wait for each other.
    "datafusion.optimizer.repartition_file_scans": "false",
    "datafusion.optimizer.prefer_hash_join": "false",
    "datafusion.execution.collect_statistics": "false",
    "datafusion.execution.sort_spill_reservation_bytes": str(2 * 2**20),
}


def make_context(settings: QuerySettings, runtime: RuntimeEnvBuilder, options: Mapping[str, str]) -> SessionContext:
    """A context of the engine with some of the options above.

    Args:
        settings: Partitions, batch size, memory.
        runtime: Memory pool and disk.
        options: `USUAL`, `SPILLING`, `CAREFUL`, `FIRST` or `FETCHING`.
    """
    rows = settings.batch_rows
    if options in (CAREFUL, FIRST, FETCHING):
        rows = min(rows, FEW_ROWS)
    elif settings.memory_bytes < _LITTLE_MEMORY:
        rows = min(rows, _SMALL_ROWS)
    partitions = str(settings.partitions)
    if options is CAREFUL and settings.partitions == 1:
        partitions = "2"  # with one the engine hashes joins whatever it is told
    config = SessionConfig(
        {
            "datafusion.execution.batch_size": str(rows),
            "datafusion.execution.target_partitions": partitions,
            **OPTIONS,
            **options,
        }
    ).with_default_catalog_and_schema(CATALOG, BARE)
    return SessionContext(config, runtime)
