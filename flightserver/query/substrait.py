"""Substrait plans: pure queries that come as a plan instead of as text.

Theory of operation: a plan is decoded and looked at as a tree, before the engine's consumer sees it. What reads or
writes anything but tables of our catalog is refused there, in subqueries as well. The tree is then made to fit what
the names in it mean now: each read gets all columns of its table as they are, and a projection, a filter and another
projection on top of it do what the read said; each dynamic parameter becomes the literal that is bound to it. The
consumer resolves names by the engine's own catalog provider, so that a plan sees exactly what SQL would. The logical
plan that comes out is walked, and any node that is not part of a query is refused.

Why reads are rewritten: the consumer accepts a read of some of the columns, or of columns in another order, only of a
table that is one scan (datafusion 54, `apply_projection`); ours may be merges, views or filtered.

Specification: https://substrait.io.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
from datafusion import SessionContext, substrait

from flightserver.errors import InvalidRequest
from flightserver.query.failures import translate
from flightserver.query.language.statements import MAX_PLACEHOLDERS
from flightserver.query.language.tokens import MAX_RELATIONS
from flightserver.query.nodes import variant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from datafusion import LogicalPlan

MIN_VERSION = "0.20.0"
"""Of older releases the consumer no longer knows some forms."""
MAX_VERSION = "0.85.0"
"""The release that the consumer of datafusion 54 is built for: what newer plans say may be lost on it."""

_VERSION = re.compile(r"v?(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?(?:[-+].*)?")

_REFUSED = {
    "localFiles": "it reads files by path",
    "icebergTable": "it reads a table by the path of its metadata",
    "extensionTable": "it reads an extension table",
    "extensionLeaf": "it has an extension relation",
    "extensionSingle": "it has an extension relation",
    "extensionMulti": "it has an extension relation",
    "write": "it writes",
    "update": "it writes",
    "ddl": "it defines a table or view",
}
"""Relations and kinds of read, by their names in the plan, that no query of the catalog has; and what is wrong."""

_QUERY_NODES = frozenset(
    {
        "Aggregate",
        "Distinct",
        "EmptyRelation",
        "Filter",
        "Join",
        "Limit",
        "Projection",
        "Repartition",
        "Sort",
        "Subquery",
        "SubqueryAlias",
        "TableScan",
        "Union",
        "Unnest",
        "Values",
        "WindowExpr",
    }
)
"""What a logical plan may be made of."""

_SAME = {
    "varchar": "string",
    "fixedChar": "string",
    "fixedBinary": "binary",
    "timestamp": "precisionTimestamp",
    "timestampTz": "precisionTimestampTz",
    "time": "precisionTime",
}
"""Kinds of type that one Arrow type stands for."""

_MAX_PATH = 3
"""Catalog, schema, table."""

Tree = dict[str, Any]
"""A part of a plan in Substrait's JSON form, which only this module takes apart."""


class SubstraitQuery(NamedTuple):
    """A plan that was found to be a query of tables; `placeholders` are the names of its dynamic parameters."""

    tree: Tree
    placeholders: tuple[str, ...]


def shown(plan: bytes) -> str:
    """The text that stands for a plan where a statement is listed."""
    return f"substrait plan of {len(plan)} bytes"


def check_version(version: str) -> None:
    """Return when plans of a release of Substrait can be read; an empty text says nothing.

    Raises:
        InvalidRequest: It is no version, or one that is too old or too new.
    """
    if not version:
        return
    found = _VERSION.fullmatch(version)
    if found is None:
        raise InvalidRequest(f"expected a version of Substrait such as {MAX_VERSION}, found {version[:64]!r}")
    numbers = (int(found[1]), int(found[2]))
    if not _release(MIN_VERSION) <= numbers <= _release(MAX_VERSION):
        raise InvalidRequest(
            f"the plan is of Substrait {version[:64]}; plans of {MIN_VERSION} to {MAX_VERSION} can be read"
        )


def _release(version: str) -> tuple[int, int]:
    major, minor, _ = version.split(".")
    return int(major), int(minor)


def read_plan(data: bytes) -> SubstraitQuery:
    """Decode a plan and check that it is a query of tables.

    Args:
        data: A serialized `substrait.Plan`.

    Raises:
        InvalidRequest: It doesn't decode, is of a version that can't be read, is no query, or has too many dynamic
            parameters.
    """
    text = _asked("the plan doesn't decode", lambda: substrait.Serde.deserialize_bytes(data).to_json())
    tree: Tree = json.loads(text)
    version = tree.get("version", {})
    if "majorNumber" in version or "minorNumber" in version:
        numbers = (version.get(part, 0) for part in ("majorNumber", "minorNumber", "patchNumber"))
        check_version(".".join(map(str, numbers)))
    roots = tree.get("relations", [])
    if len(roots) != 1:
        raise InvalidRequest(f"expected a Substrait plan of one relation tree, found {len(roots)}")
    parts = list(_parts(roots[0]))
    for part in parts:
        for name, problem in _REFUSED.items():
            if name in part:
                raise InvalidRequest(f"the Substrait plan is not a query of tables: {problem}")
    if sum("read" in part for part in parts) > MAX_RELATIONS:
        raise InvalidRequest(f"more than {MAX_RELATIONS} relations in one Substrait plan are too deep for the engine")
    if any("\0" in name for part in parts for name in part.get("names", ())):
        raise InvalidRequest("a name in the Substrait plan has the character NUL")
    references = [_reference(part) for part in parts if "dynamicParameter" in part]
    if len(references) > MAX_PLACEHOLDERS:
        raise InvalidRequest(
            f"the Substrait plan has {len(references):,} dynamic parameters; at most {MAX_PLACEHOLDERS:,} are read: "
            "bind rows to a smaller plan, or load them into a table"
        )
    return SubstraitQuery(tree, tuple(str(number + 1) for number in sorted(set(references))))


def _reference(part: Tree) -> int:
    return int(part["dynamicParameter"].get("parameterReference", 0))


def _parts(tree: Any) -> Iterator[Tree]:
    """Every message of a tree."""
    stack = [tree]
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            yield part
            stack.extend(part.values())
        elif isinstance(part, list):
            stack.extend(part)


def fitted(query: SubstraitQuery, columns: Callable[[list[str]], pa.Schema], bound: Mapping[str, pa.Scalar]) -> str:
    """The plan with the tables that it names as they are, and with the values that are bound, in JSON.

    Args:
        query: The plan.
        columns: Finds the columns of a table by the parts of its name.
        bound: Values by placeholder; those that are not there stay parameters.

    Raises:
        InvalidRequest: The plan expects other columns than a table has.
        NotFound: It names a table that doesn't exist.
    """
    tree = json.loads(json.dumps(query.tree))
    literals: dict[str, Tree] = {}
    for part in list(_parts(tree["relations"])):
        # A read is an alternative of its relation, a parameter of its expression: the message around them changes.
        if "read" in part and "namedTable" in part["read"]:
            part.update(_whole_read(part.pop("read"), columns))
        elif "dynamicParameter" in part and str(_reference(part) + 1) in bound:
            name = str(_reference(part) + 1)
            if name not in literals:
                literals[name] = _literal(bound[name])
            del part["dynamicParameter"]
            part["literal"] = literals[name]
    return json.dumps(tree)


def _whole_read(read: Tree, columns: Callable[[list[str]], pa.Schema]) -> Tree:
    """A relation that answers what a read does, and reads all columns of the table."""
    path = read["namedTable"].get("names", [])
    if not 1 <= len(path) <= _MAX_PATH:
        raise InvalidRequest(f"a table's name has 1 to {_MAX_PATH} parts, the Substrait plan names {'.'.join(path)!r}")
    has = _base_schema(columns(path))
    places = _places(".".join(path), read.get("baseSchema", {}), has)
    relation: Tree = {"read": {"baseSchema": has, "namedTable": {"names": path}}}
    relation = _emitted(relation, places)
    if "filter" in read:
        relation = {"filter": {"input": relation, "condition": read["filter"]}}
    kept = list(range(len(places)))
    if "projection" in read:
        kept = [_item(one) for one in read["projection"].get("select", {}).get("structItems", [])]
    if "emit" in read.get("common", {}):
        mapping = read["common"]["emit"].get("outputMapping", [])
        _check_places(mapping, len(kept))
        kept = [kept[place] for place in mapping]
    _check_places(kept, len(places))
    return _emitted(relation, kept)


def _item(item: Tree) -> int:
    if "child" in item:
        raise InvalidRequest(
            "the Substrait plan reads parts of a nested column: read the whole column, then take parts"
        )
    return int(item.get("field", 0))


def _check_places(places: list[int], count: int) -> None:
    for place in places:
        if not 0 <= place < count:
            raise InvalidRequest(f"the Substrait plan refers to column {place} of a relation that has {count} columns")


def _emitted(relation: Tree, places: list[int]) -> Tree:
    """The columns of a relation at `places`."""
    return {"project": {"common": {"emit": {"outputMapping": places}}, "input": relation, "expressions": []}}


def _places(table: str, expected: Tree, has: Tree) -> list[int]:
    """Where the columns that a plan expects are in the table."""
    columns = _columns(has)
    by_name = {name: place for place, (name, _) in enumerate(columns)}
    places = []
    for name, kind in _columns(expected):
        place = by_name.get(name)
        if place is None:
            there = ", ".join(by_name)
            raise InvalidRequest(f"the Substrait plan reads column {name!r} of table {table!r}, which has {there}")
        if columns[place][1] != kind:
            raise InvalidRequest(
                f"the Substrait plan takes column {name!r} of table {table!r} for {kind}; it is {columns[place][1]}"
            )
        places.append(place)
    return places


def _columns(schema: Tree) -> list[tuple[str, str]]:
    """Names and kinds of the columns of a NamedStruct, whose names go through nested structs depth first."""
    names = iter(schema.get("names", []))
    columns = []
    for kind in schema.get("struct", {}).get("types", []):
        name = next(names, None)
        if name is None or any(next(names, None) is None for _ in range(_nested_names(kind))):
            raise InvalidRequest("the Substrait plan has a table with more types than names of columns")
        columns.append((name, _kind(kind)))
    return columns


def _nested_names(kind: Tree) -> int:
    """How many names the fields of a type have."""
    body = kind.get("struct")
    if body is not None:
        return sum(1 + _nested_names(one) for one in body.get("types", []))
    if "list" in kind:
        return _nested_names(kind["list"].get("type", {}))
    if "map" in kind:
        return _nested_names(kind["map"].get("key", {})) + _nested_names(kind["map"].get("value", {}))
    return 0


def _kind(kind: Tree) -> str:
    name = next(iter(kind), "nothing")
    return _SAME.get(name, name)


def _base_schema(schema: pa.Schema) -> Tree:
    """A table's columns as a plan has them."""
    scratch = SessionContext()
    scratch.from_arrow(pa.table(schema.empty_table().columns, schema=schema.remove_metadata()), name="columns")
    text = _asked(
        "the table has a column that no Substrait plan can read",
        lambda: substrait.Serde.serialize_to_plan("SELECT * FROM columns", scratch).to_json(),
    )
    base: Tree = json.loads(text)["relations"][0]["root"]["input"]["read"]["baseSchema"]
    return base


def _literal(value: pa.Scalar) -> Tree:
    """A bound value as a plan has it."""
    scratch = SessionContext()

    def produced() -> str:
        plan = scratch.sql("SELECT $1", param_values={"1": value}).logical_plan()
        text: str = substrait.Producer.to_substrait_plan(plan, scratch).to_json()
        return text

    refused = f"a value of type {value.type} can't be bound to a Substrait plan"
    tree = json.loads(_asked(refused, produced))
    expression = tree["relations"][0]["root"]["input"]["project"]["expressions"][0]
    if "literal" not in expression or tree.get("extensions"):
        raise InvalidRequest(refused)
    literal: Tree = expression["literal"]
    return literal


def consumed(context: SessionContext, plan: str) -> LogicalPlan:
    """The engine's plan of a fitted plan; names are resolved by the scope that is in use.

    Raises:
        InvalidRequest: The engine can't read it, or it is not a pure query.
    """
    logical = substrait.Consumer.from_substrait_plan(context, substrait.Plan.from_json(plan))
    nodes = [logical]
    while nodes:
        node = nodes.pop()
        kind = _node(node)
        if kind not in _QUERY_NODES:
            raise InvalidRequest(f"the Substrait plan is not a query: it has the step {kind}")
        nodes.extend(node.inputs())
    return logical


def _node(node: LogicalPlan) -> str:
    found = variant(node)
    return node.display().partition(":")[0] if found is None else type(found).__name__


def _asked(refused: str, ask: Callable[[], str]) -> str:
    """What the engine's library answers; all that fails is the plan's fault.

    Raises:
        InvalidRequest: It fails; `refused` says what that means.
    """
    try:
        return ask()
    except BaseException as error:  # noqa: BLE001  # a panic is one; `refusal` sorts
        raise refusal(error, refused) from None


def refusal(error: BaseException, refused: str = "the Substrait plan can't be read") -> BaseException:
    """The domain error for what the engine raised while it read a plan.

    A panic of the engine is no Exception in its binding, and unwinds without harm: it is a defect that the plan met.
    """
    if type(error).__name__ == "PanicException":
        return InvalidRequest(f"{refused}: the engine fails on it")
    if not isinstance(error, Exception):
        return error
    known = translate(error)
    if known is error:
        text = str(error).removeprefix("DataFusion error: ").removeprefix("Substrait error: ")
        return InvalidRequest(f"{refused}: {text[:500]}")
    return InvalidRequest(f"{refused}: {known.message}") if isinstance(known, InvalidRequest) else known
