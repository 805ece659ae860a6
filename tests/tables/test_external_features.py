"""Features of Delta Lake and Iceberg that we lack: such a table is refused, rather than read wrongly."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from pyiceberg.manifest import DataFileContent
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField
from tables.attaching import Attaching
from tables.foreign import DirectoryCatalog, Foreign, add_iceberg_deletes, delta_column, handwritten_delta, iceberg_rows

from flightserver.errors import InvalidRequest

if TYPE_CHECKING:
    from tables.lake import Lake


@pytest.fixture
def attaching(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> Attaching:
    """A lake, and an empty directory from which tables may be attached."""
    return Attaching(lake, tmp_path_factory.mktemp("inbox"))


def _mapped(number: int) -> dict[str, Any]:
    return {"delta.columnMapping.id": number, "delta.columnMapping.physicalName": f"col-{number}"}


ID = delta_column("id")
READER_3 = {"minReaderVersion": 3, "minWriterVersion": 7}
INLINE = {"storageType": "i", "pathOrInlineDv": "^Bg9^0rr910000000000iXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L"}
NESTED = {"type": "struct", "fields": [delta_column("x", **_mapped(2))]}


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (
            {
                "protocol": READER_3 | {"readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]},
                "columns": [ID],
                "adds": [{"path": "x", "deletionVector": INLINE | {"sizeInBytes": 40, "cardinality": 6}}],
            },
            "has deletion vectors, which can't be read here: let its owner rewrite the files",
        ),
        (
            {
                "protocol": READER_3 | {"readerFeatures": ["variantType"], "writerFeatures": ["variantType"]},
                "columns": [ID],
            },
            "uses variantType, which can't be read here",
        ),
        (
            {
                "protocol": READER_3 | {"readerFeatures": ["unheardOf"], "writerFeatures": ["unheardOf"]},
                "columns": [ID],
            },
            "can't be read: .*unheardOf",
        ),
        (
            {
                "protocol": {"minReaderVersion": 2, "minWriterVersion": 5},
                "columns": [delta_column("id", **_mapped(1))],
                "configuration": {"delta.columnMapping.mode": "id"},
            },
            "maps columns by id, which can't be read here",
        ),
        (
            {
                "protocol": {"minReaderVersion": 2, "minWriterVersion": 5},
                "columns": [{"name": "s", "type": NESTED, "nullable": True, "metadata": _mapped(1)}],
                "configuration": {"delta.columnMapping.mode": "name"},
            },
            "maps names inside of column 's', which can't be read here",
        ),
    ],
    ids=["deletion vectors", "variants", "unknown feature", "mapping by id", "nested mapping"],
)
def test_a_delta_table_with_features_that_we_lack_is_refused(
    attaching: Attaching, log: dict[str, Any], message: str
) -> None:
    handwritten_delta(attaching.root / "table", **log)

    with pytest.raises(InvalidRequest, match=message):
        attaching.attach()


def test_a_delta_log_that_is_damaged_is_refused_without_a_path(attaching: Attaching) -> None:
    foreign = Foreign("delta", attaching.root / "table")
    (foreign.directory / "_delta_log" / f"{0:020}.json").write_text('{"no')

    with pytest.raises(InvalidRequest, match="Delta table 'table' can't be read") as caught:
        attaching.attach()

    assert str(attaching.root) not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [DataFileContent.POSITION_DELETES, DataFileContent.EQUALITY_DELETES])
def test_an_iceberg_table_with_delete_files_is_refused(attaching: Attaching, content: DataFileContent) -> None:
    schema = Schema(NestedField(1, "id", LongType()))
    table = DirectoryCatalog("tests").create(attaching.root / "table", schema)
    table.append(iceberg_rows(table, [{"id": 1}]))
    add_iceberg_deletes(table, content)

    with pytest.raises(InvalidRequest, match="has delete files, which can't be read here: let its owner rewrite"):
        attaching.attach()


def test_two_newest_metadata_files_of_an_iceberg_table_are_refused(attaching: Attaching) -> None:
    metadata = Foreign("iceberg", attaching.root / "table").directory / "metadata"
    shutil.copy(metadata / "00001-test.metadata.json", metadata / "00001-lost-a-race.metadata.json")

    with pytest.raises(InvalidRequest, match="has 2 metadata files with the number 1, and only its catalog knows"):
        attaching.attach()

    assert attaching.attach(metadata="metadata/00001-test.metadata.json").rows == 3


@pytest.mark.parametrize("hint", ["0", "00000-test", "00000-test.metadata.json"])
def test_a_version_hint_says_which_metadata_file_counts(attaching: Attaching, hint: str) -> None:
    metadata = Foreign("iceberg", attaching.root / "table").directory / "metadata"
    (metadata / "version-hint.text").write_text(f"{hint}\n")

    assert attaching.attach().rows == 0
