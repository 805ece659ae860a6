"""Settings: what an administrator may choose, each with the default that a newcomer meets.

Precedence, highest first: command line flags, environment, `flightserver.toml`, the defaults here. A TOML
table is a section; an environment variable is `FLIGHTSERVER_<SECTION>_<NAME>`, such as
`FLIGHTSERVER_QUERY_TIMEOUT_SECONDS`; lists are separated by the platform's path separator. This is the only module
that reads the environment. Each component receives its own section and never sees the others.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import psutil

from flightserver.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

MIB = 1024 * 1024
GIB = 1024 * MIB
ENVIRONMENT_PREFIX = "FLIGHTSERVER_"
_LISTS = {"roots", "jwt_algorithms"}

_CLIENT_TLS_ROOTS = "FLIGHTSERVER_TLS_ROOTS"
"""Of commands that talk to a server; no setting, though it looks like one of the section `tls`."""


def _half_of_memory() -> int:
    return int(psutil.virtual_memory().total) // 2


class ServerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the server listens and how it stops."""

    data: Path = Path("lakehouse")
    host: str = "127.0.0.1"
    port: int = 31337
    http_port: int = 31338
    http_host: str = ""
    """Address that HTTP listens on; empty is `host`."""
    insecure: bool = False
    grace_seconds: float = 10.0
    """How long running streams may go on after SIGINT or SIGTERM."""
    request_bytes: int = 16 * MIB
    """Largest command, descriptor or action body."""
    session_idle_seconds: float = 3600.0
    advertise: str = ""
    """Where clients find this server, such as `grpc+tls://host:port`; empty lets them use the connection they have."""
    prepared_bytes: Annotated[int, msgspec.Meta(ge=1)] = GIB
    """Of all prepared statements with their bound rows; of more, those used longest ago are forgotten."""
    max_calls: Annotated[int, msgspec.Meta(ge=1)] = 512
    """Calls in flight, each of which has a thread; more are refused."""
    stalled_seconds: Annotated[float, msgspec.Meta(gt=0)] = 600.0
    """After which a client that neither reads nor sends, in any of its calls, is disconnected."""


class TlsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Certificates, in PEM. Files that change are read again while the server runs."""

    certificate: Path | None = None
    """The server's, followed by those between it and its authority."""
    key: Path | None = None
    """Its private key; others may not read the file."""
    client_ca: Path | None = None
    """Authorities of clients; with them, every client must have a certificate."""


class CatalogSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the commit log is kept."""

    checkpoint_every: int = 64
    retention_hours: float = 168.0
    """How long a version can be read after another has taken its place; `bucket.collect` deletes what is older."""
    collect_grace_hours: float = 24.0
    """Files younger than this are never collected: a write or a transaction may be about to commit them."""


class PrimarySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the bucket `primary` is, which holds the catalog: a directory, or an S3 bucket."""

    backend: Literal["local", "s3"] = "local"
    bucket: str = ""
    """The S3 bucket."""
    endpoint: str = ""
    region: str = "us-east-1"
    prefix: str = ""
    path_style: bool = True
    credentials: str = "environment"
    """Where credentials are found: `environment`, `environment:NAME`, `profile:NAME`, `file:NAME`, `anonymous`."""
    encryption: str = ""
    kms_key: str = ""


class BucketSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How buckets are reached."""

    roots: tuple[Path, ...] = ()
    """Directories in which local buckets may be made; `<data>/buckets` is always one."""
    credentials: Path = Path("credentials")
    """Directory of files of credentials, relative to the data directory."""
    check_seconds: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    """Between two looks at each bucket."""
    expire_seconds: Annotated[float, msgspec.Meta(gt=0)] = 3600.0
    """Between two looks at what lifecycle rules say has expired."""
    mirror_seconds: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    """Between two looks at the buckets and datasets of which `rescue` is kept a mirror."""
    connect_seconds: Annotated[float, msgspec.Meta(gt=0)] = 5.0
    request_seconds: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    """For one request, its body included; cut to `retry_seconds`, unless that is 0."""
    retry_seconds: Annotated[float, msgspec.Meta(ge=0)] = 60.0
    """After which a request that failed isn't tried again; all tries share it."""
    retries: Annotated[int, msgspec.Meta(ge=0)] = 10


class LayoutSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How Parquet files are cut."""

    row_group_rows: int = 131_072
    row_group_bytes: int = 64 * MIB
    file_bytes: int = 256 * MIB


class IngestSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may be read and how much of it."""

    roots: tuple[Path, ...] = ()
    """Directories from which `ingest.file` may read; `<data>/inbox` is always one."""
    upload_bytes: int = 16 * GIB
    decompressed_bytes: int = 256 * GIB


class ExportSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where `dataset.export` may write."""

    roots: tuple[Path, ...] = ()
    """Directories beside `<data>/exports`, which is always one."""


class QuerySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of statements."""

    max_running: int = 16
    max_waiting: int = 128
    max_running_per_user: Annotated[int, msgspec.Meta(ge=0)] = 0
    """0 is half of `max_running`, rounded up. Who isn't logged in is no user."""
    wait_seconds: float = 30.0
    timeout_seconds: float = 600.0
    memory_bytes: int = msgspec.field(default_factory=_half_of_memory)
    partitions: int = msgspec.field(default_factory=lambda: os.cpu_count() or 1)
    batch_rows: int = 32_768
    """Measured: batches of 32 Ki rows stream faster than the default of 8 Ki of the engine."""
    statement_bytes: int = 4 * MIB
    temporary_bytes: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Of all temporary tables together; None allows a quarter of `memory_bytes`."""


class CompactionSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How `dataset.compact` cuts files, and when the server compacts by itself."""

    target_bytes: int = 256 * MIB
    """Size at which a new file is begun."""
    auto: bool = False
    interval_seconds: float = 60.0
    """Between two looks at all datasets."""
    delta_ratio: Annotated[float, msgspec.Meta(gt=0)] = 0.1
    """Share of dead rows from which on a dataset is compacted, and of its segments those that have as many."""
    max_deltas: Annotated[int, msgspec.Meta(ge=1)] = 256
    """A start reads each of them once before the first query of the dataset."""
    max_segments: Annotated[int, msgspec.Meta(ge=1)] = 64
    """Each is at least a file that every query of the dataset looks at."""
    small_files: Annotated[int, msgspec.Meta(ge=1)] = 16
    """Segments smaller than `small_bytes` that are merged."""
    small_bytes: int = 32 * MIB
    """Merging small writes costs as many bytes again for each `small_files` of them, up to this size."""
    bytes_per_hour: Annotated[int, msgspec.Meta(ge=1)] = 32 * GIB
    """About what compactions may write: 9 MiB a second."""


class ResultSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The store of paged results."""

    max_results: int = 50
    max_bytes: int = 16 * GIB
    page_rows: int = 1000
    ttl_seconds: float = 3600.0


class CacheSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Datasets in memory."""

    max_bytes: Annotated[int, msgspec.Meta(ge=0)] = msgspec.field(
        default_factory=lambda: min(16 * GIB, _half_of_memory())
    )
    """Never more than three quarters of the memory; 0 holds none."""
    admit_uses: Annotated[int, msgspec.Meta(ge=0)] = 3
    """Uses within `admit_seconds` after which a dataset is loaded; 0 leaves it to `cache.pin`."""
    admit_seconds: Annotated[float, msgspec.Meta(gt=0)] = 300.0


class AccessSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How users are recognised. The users themselves are in the catalog."""

    key: Path = Path("server/ticket.key")
    """Signs tickets and bearer tokens; relative to the data directory. It is made if there is none."""
    token_seconds: Annotated[float, msgspec.Meta(ge=1)] = 28_800.0
    """A working day. Disabling a user and changing a password end tokens at once, whatever this is."""
    password_cache_seconds: Annotated[float, msgspec.Meta(ge=0)] = 300.0
    """How long a right password is remembered, as a keyed hash in memory; 0 checks each anew."""
    jwks: str = ""
    """File or URL of the public keys that sign JSON web tokens; empty accepts none."""
    jwt_issuer: str = ""
    jwt_audience: str = ""
    jwt_user_claim: str = "sub"
    jwt_roles_claim: str = "roles"
    jwt_leeway_seconds: Annotated[float, msgspec.Meta(ge=0, le=300)] = 30.0
    """By which the clock of the issuer may differ."""
    jwt_algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA", "PS256")


class VectorSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Vector indexes."""

    refresh_seconds: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    """Between two looks at all indexes."""
    refresh_ratio: Annotated[float, msgspec.Meta(ge=0)] = 0.2
    """Share of a dataset's rows that its index lacks, from which on it is refreshed; 0 leaves it to `index.refresh`."""
    open_bytes: Annotated[int, msgspec.Meta(ge=1)] = 16 * GIB
    """Of indexes that are mapped into memory; those of S3 buckets are copied to the data directory for that."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All sections."""

    server: ServerSettings = msgspec.field(default_factory=ServerSettings)
    tls: TlsSettings = msgspec.field(default_factory=TlsSettings)
    catalog: CatalogSettings = msgspec.field(default_factory=CatalogSettings)
    primary: PrimarySettings = msgspec.field(default_factory=PrimarySettings)
    buckets: BucketSettings = msgspec.field(default_factory=BucketSettings)
    layout: LayoutSettings = msgspec.field(default_factory=LayoutSettings)
    ingest: IngestSettings = msgspec.field(default_factory=IngestSettings)
    export: ExportSettings = msgspec.field(default_factory=ExportSettings)
    query: QuerySettings = msgspec.field(default_factory=QuerySettings)
    compaction: CompactionSettings = msgspec.field(default_factory=CompactionSettings)
    results: ResultSettings = msgspec.field(default_factory=ResultSettings)
    cache: CacheSettings = msgspec.field(default_factory=CacheSettings)
    access: AccessSettings = msgspec.field(default_factory=AccessSettings)
    vectors: VectorSettings = msgspec.field(default_factory=VectorSettings)

    def rows(self) -> list[tuple[str, str]]:
        """Each setting as (`section.name`, value), for `system.settings`.

        No setting holds a secret. Of paths only the last part is shown: the rest is the host's business.
        """
        tree: dict[str, dict[str, Any]] = msgspec.to_builtins(self, enc_hook=lambda path: path.name)
        if "://" not in self.access.jwks:
            tree["access"]["jwks"] = Path(self.access.jwks).name
        return [(f"{section}.{name}", str(value)) for section, fields in tree.items() for name, value in fields.items()]


def client_environment() -> tuple[str, str]:
    """Address and token for commands that talk to a server: FLIGHTSERVER_URI and FLIGHTSERVER_TOKEN."""
    default = f"grpc://{ServerSettings().host}:{ServerSettings().port}"
    return os.environ.get("FLIGHTSERVER_URI", default), os.environ.get("FLIGHTSERVER_TOKEN", "")


def client_password() -> str:
    """The password for commands that talk to a server: FLIGHTSERVER_PASSWORD; empty if not set."""
    return os.environ.get("FLIGHTSERVER_PASSWORD", "")


def client_tls_roots() -> str:
    """The file of authorities that commands which talk to a server trust: FLIGHTSERVER_TLS_ROOTS; empty if not set."""
    return os.environ.get(_CLIENT_TLS_ROOTS, "")


def load_settings(config: Path | None, flags: Mapping[str, Mapping[str, object]]) -> Settings:
    """Read the configuration file and the environment, and put the given flags over both.

    Args:
        config: A TOML file, or None for `flightserver.toml` in the working directory if there is one.
        flags: section -> name -> value, of the flags that were given.

    Raises:
        InvalidRequest: The file can't be read, or a section, name or value is not known.
    """
    tree: dict[str, dict[str, object]] = {}
    for layer in (_read_file(config), _read_environment(), flags):
        for section, fields in layer.items():
            tree.setdefault(section, {}).update(fields)
    try:
        settings = msgspec.convert(tree, Settings, strict=False, dec_hook=_decode_path)
    except msgspec.ValidationError as error:
        msg = f"the settings are not valid: {error}; docs/configuration.md lists sections and names"
        raise InvalidRequest(msg) from None
    return settings


def _decode_path(kind: type, value: Any) -> Any:
    return Path(value) if issubclass(kind, Path) else value


def _read_file(config: Path | None) -> dict[str, dict[str, object]]:
    path = config if config is not None else Path("flightserver.toml")
    if config is None and not path.exists():
        return {}
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        msg = f"the configuration file {path.name!r} can't be read: {error}"
        raise InvalidRequest(msg) from None
    return {section: dict(fields) if isinstance(fields, dict) else {"": fields} for section, fields in tree.items()}


def _read_environment() -> dict[str, dict[str, object]]:
    tree: dict[str, dict[str, object]] = {}
    for section in Settings.__struct_fields__:
        prefix = f"{ENVIRONMENT_PREFIX}{section.upper()}_"
        for name, value in os.environ.items():
            if name.startswith(prefix) and name != _CLIENT_TLS_ROOTS:
                field = name.removeprefix(prefix).lower()
                tree.setdefault(section, {})[field] = value.split(os.pathsep) if field in _LISTS else value
    return tree
