"""Where the contents of vector indexes lie: one object per generation, `_vectors/<index name>/<generation>.idx`.

The name is encoded as that of a dataset in the keys of its files, and is there for people as it is there: the ULID of
the generation tells objects apart, so that those of an index that was moved or dropped and made anew never meet.
`flightserver.tables.collecting` recognizes such keys; nothing else below `_vectors/` is taken for ours.
"""

from __future__ import annotations

from flightserver.storage.limits import VECTORS
from flightserver.tables.segments import dataset_directory


def generation_key(name: str, generation: str) -> str:
    """The key of a generation, which is given by its id, of the index of a name."""
    _, _, encoded = dataset_directory(name).partition("/")
    return f"{VECTORS}{encoded}/{generation}.idx"
