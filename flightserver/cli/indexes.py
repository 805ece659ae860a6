"""`flightserver indexes`: list, create, refresh, move and drop the vector indexes of a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flightclient.actions import given

from flightserver.cli.connecting import add_address, open_client
from flightserver.cli.rendering import output_console, print_json, rich_table
from flightserver.cli.values import bucket_name

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

_LIST = """
    SELECT bucket, name, dataset_bucket, dataset, "column", metric, dimension, precision, vectors, unindexed_rows, bytes
    FROM system.indexes
    ORDER BY bucket, name
"""
_VERBS = {
    "list": "one row an index",
    "create": "make an index over a column of vectors",
    "refresh": "take rows into an index that came since it was built",
    "move": "give an index another bucket as its home",
    "drop": "drop an index; its dataset stays as it is",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verbs and their flags."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    made = {verb: verbs.add_parser(verb, help=text, description=text) for verb, text in _VERBS.items()}
    for verb in ("create", "refresh", "drop"):
        made[verb].add_argument("name", metavar="NAME", help="of the index")
    add_move(made["move"])
    create = made["create"]
    create.add_argument("--dataset", required=True, metavar="D", help="the dataset")
    create.add_argument("--column", required=True, metavar="C", help="its column of vectors: lists of numbers")
    create.add_argument(
        "--metric",
        choices=["cosine", "l2", "dot"],
        help="what is near: 1 - cosine (the default), Euclidean distance, or negated inner product",
    )
    create.add_argument("--dimension", type=int, metavar="N", help="numbers of a vector; default: those of the first")
    create.add_argument(
        "--precision", choices=["float32", "float16"], help="of the numbers that are kept; default: float32"
    )
    create.add_argument(
        "--to", metavar="B", type=bucket_name, help="home of the index; default: the bucket of the dataset"
    )
    create.add_argument(
        "--bucket", metavar="B", type=bucket_name, help="bucket of the dataset, where the name alone isn't enough"
    )
    for verb in ("refresh", "drop"):
        _add_home(made[verb])
    for each in made.values():
        add_address(each)


def add_move(parser: argparse.ArgumentParser) -> None:
    """Describe what `moved` takes, for `flightserver buckets` too."""
    parser.add_argument("name", metavar="INDEX", help="the index")
    parser.add_argument("to", metavar="TO", type=bucket_name, help="the bucket that becomes its home")
    _add_home(parser)


def _add_home(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bucket", metavar="B", type=bucket_name, help="home of the index, where its name alone isn't enough"
    )


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked, and print what came of it."""
    with open_client(arguments) as client:
        if arguments.verb == "list":
            output_console().print(rich_table(client.query(_LIST)))
        else:
            body = _BODIES.get(arguments.verb, _named)(arguments)
            print_json(client.call(f"index.{arguments.verb}", body))
    return 0


def _named(arguments: argparse.Namespace) -> dict[str, Any]:
    return given(index=arguments.name, bucket=arguments.bucket)


def moved(arguments: argparse.Namespace) -> dict[str, Any]:
    """The body of `index.move`."""
    return {**_named(arguments), "to": arguments.to}


def _created(arguments: argparse.Namespace) -> dict[str, Any]:
    names = ("dataset", "column", "metric", "dimension", "precision", "to")
    return {**_named(arguments), **given(**{name: getattr(arguments, name) for name in names})}


_BODIES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {"create": _created, "move": moved}
"""What a verb sends, where it is more than a name."""
