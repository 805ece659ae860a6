"""A small typed client for what ADBC does not say: pages, uploads with progress, buckets, indexes, other actions.

    import flightclient

    with flightclient.connect("grpc://127.0.0.1:31337") as client:
        table = client.query("SELECT origin, count(*) AS flights FROM flights GROUP BY origin")
        with client.pages("SELECT * FROM flights", page_rows=1000) as result:
            print(len(result), result[17])

It needs pyarrow only. Errors are those of `flightclient.errors`.
"""

from flightclient.client import Client, connect
from flightclient.errors import FlightclientError
from flightclient.indexes import DescribedIndex, Index, IndexState, RefreshedIndex
from flightclient.pages import PagedResult
from flightclient.places import (
    Bucket,
    BucketCheck,
    BucketList,
    BucketState,
    BucketUsage,
    Collected,
    DatasetUsage,
    DroppedBucket,
    DuplicateName,
    Held,
    IndexUsage,
    KindUsage,
    Lifecycle,
    LifecycleRule,
    Migrated,
    Mirrored,
    Moved,
    MovedDataset,
    MovedIndex,
    PresignedUrl,
    PutLimits,
    S3Place,
)
from flightclient.results import IngestResult, Progress, TableInfo
from flightclient.streams import Stream

__all__ = [
    "Bucket",
    "BucketCheck",
    "BucketList",
    "BucketState",
    "BucketUsage",
    "Client",
    "Collected",
    "DatasetUsage",
    "DescribedIndex",
    "DroppedBucket",
    "DuplicateName",
    "FlightclientError",
    "Held",
    "Index",
    "IndexState",
    "IndexUsage",
    "IngestResult",
    "KindUsage",
    "Lifecycle",
    "LifecycleRule",
    "Migrated",
    "Mirrored",
    "Moved",
    "MovedDataset",
    "MovedIndex",
    "PagedResult",
    "PresignedUrl",
    "Progress",
    "PutLimits",
    "RefreshedIndex",
    "S3Place",
    "Stream",
    "TableInfo",
    "connect",
]
