"""
Writes ``docs/reference/tests.md``: what the pytest plugin was tried with.

Everything in it is what the tests of this folder run, so that the page is true as long as they
pass::

    python -m tests.testing.table
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.docs.blocks import ROOT
from tests.testing import test_django
from tests.testing.shops import ASYNC, DRIVERS, cases
from tests.transactions.drivers.table import matrix

PAGE = ROOT / "docs" / "reference" / "tests.md"
_HEAD = """\
# What the pytest plugin was tried with

[Tests that never clean up](../how-to/tests-that-never-clean-up.md) shows its use. This page is
written from what our own tests run on real databases (`tests/testing/`), and a test fails when it
is out of date.

## Libraries

Each library is used in some dozen ways: transactions, savepoints, errors that are caught, bulk
operations, pools. In a test the replies and the rows are the same as without the plugin, nobody
else sees the rows, and at the end they are gone. What is refused is what
[batches refuse](libraries.md#what-is-refused), with the same messages.

"""
_FRAMEWORKS = """
An empty cell: the library cannot use that driver.

## Frameworks, clients, and who runs the tests

An app that commits, with two tests. Each finds what it has stored itself, and nothing of the other;
nobody else sees anything. The same tests fail without the plugin. By SQLAlchemy on each driver,
sync and async; on SQLite by `sqlite3` itself and by peewee as well.

"""
_DJANGO = """
An empty cell: others say the same.

## Django, with pytest-django

A project whose view catches an IntegrityError and has `on_commit` functions, and batches by
`BatchMiddleware`. A fixture of the module has stored a row: it is there for each test, also after
one that has flushed the database.

"""
_OTHERS = """
Also tried: pytest-xdist, each of whose workers rolls back its own tests; Alembic, whose migrations
come first (`atomicbatch_before`) on SQLite, PostgreSQL and MariaDB; factory_boy and polyfactory.
"""
_TRIED = "yes"
_ON = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mysql": "MariaDB"}


def page() -> str:
    """The whole page."""
    parts = (_HEAD, matrix(_TRIED), _FRAMEWORKS, _frameworks(), _DJANGO, _django(), _OTHERS)
    return "".join(
        part if isinstance(part, str) else "".join(f"{line}\n" for line in part) for part in parts
    )


def _frameworks() -> Iterator[str]:
    tried: dict[tuple[str, str], set[str]] = {}
    for case in cases():
        tried.setdefault((case.of, case.by), set()).add(case.driver)
    yield f"| app | tests by | {' | '.join(_ON.values())} |"
    yield f"| --- | --- |{' --- |' * len(_ON)}"
    for (of, by), drivers in sorted(tried.items()):
        cells = " ".join(f"{cell} |" if (cell := _kinds(on, drivers)) else "|" for on in _ON)
        yield f"| {of} | {by} | {cells}"


def _kinds(on: str, tried: set[str]) -> str:
    """Which kinds of drivers of a database were tried: all of each kind."""
    kinds: dict[str, set[str]] = {}
    for driver, name in DRIVERS.items():
        if name.partition("+")[0] == on:
            kinds.setdefault("async" if driver in ASYNC else "sync", set()).add(driver)
    return ", ".join(kind for kind, drivers in kinds.items() if drivers <= tried)


def _django() -> Iterator[str]:
    drivers = [str(one.id) for one in test_django.DRIVERS]
    yield f"| tests by | {' | '.join(f'`{driver}`' for driver in drivers)} |"
    yield f"| --- |{' --- |' * len(drivers)}"
    for by, name in test_django.TRIED.items():
        assert name in test_django.TESTS + test_django.CLASSES
        yield f"| {by} | {_cells(True for _ in drivers)}"


def _cells(tried: Iterator[bool]) -> str:
    return " ".join(f"{_TRIED} |" if one else "|" for one in tried)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
