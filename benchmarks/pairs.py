"""The code of today and, if its source tree is given, older code; each has its own database."""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg

from benchmarks import calls
from benchmarks.machine import commit_of, described
from benchmarks.raw_drivers import make_table
from benchmarks.report import add_option
from tests import databases

KINDS = ("SQLite", "PostgreSQL")


class Side(NamedTuple):
    """One of the two."""

    name: str
    tree: Path | None
    """Where its code is; None: where this program's is."""
    address: str
    """Its database, for ``atomicbatch serve``."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """``--baseline``, ``--checkout`` and ``--json``."""
    add_option(parser)
    parser.add_argument("--baseline", type=Path, metavar="TREE", help="older code to compare with")
    parser.add_argument("--checkout", type=Path, metavar="TREE", help="measure that code")


def title(arguments: argparse.Namespace) -> str:
    """What is compared, where."""
    text = described(arguments.checkout)
    return f"{text}, before: {commit_of(arguments.baseline)}" if arguments.baseline else text


@contextmanager
def sides(database: str, arguments: argparse.Namespace) -> Iterator[list[Side]]:
    """The code that is measured, and the older code after it."""
    trees = {"after": arguments.checkout}
    if arguments.baseline is not None:
        trees["before"] = arguments.baseline
    with ExitStack() as stack:
        if database == "SQLite":
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            addresses = {name: f"{folder}/{name}.sqlite" for name in trees}
            urls = {name: f"sqlite:///{path}" for name, path in addresses.items()}
        else:
            server = stack.enter_context(databases.postgresql(durable=True))
            with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
                for name in trees:
                    connection.execute(f"CREATE DATABASE {name}".encode())
            urls = addresses = {name: f"{server}/{name}" for name in trees}
        rows = calls.some_rows(random.Random(1))
        for url in urls.values():
            make_table(url, "items", rows)
        yield [Side(name, tree, addresses[name]) for name, tree in trees.items()]
