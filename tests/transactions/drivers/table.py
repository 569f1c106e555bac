"""
Writes ``docs/reference/libraries.md``: which libraries take part, and what of them is refused.

Everything in it is what the oracles run, so that the page is true as long as they pass::

    python -m tests.transactions.drivers.table
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tests.docs.blocks import ROOT
from tests.transactions.drivers import test_oracle
from tests.transactions.drivers.libraries import DATABASES, LIBRARIES
from tests.transactions.drivers.test_through_sqlalchemy import SEEN
from tests.transactions.sqlalchemy.test_oracle import cases
from tests.transactions.sqlalchemy.worlds import DRIVERS as OF_SQLALCHEMY

PAGE = ROOT / "docs" / "reference" / "libraries.md"
_HEAD = """\
# Which libraries take part

With [`DriverTransaction`](../how-to/use-other-libraries.md), whatever is written through one of
these drivers is part of the batch, by whichever library. Each cell that says *joins* was tried:
some dozen ways of using that library, each alone, in a batch that commits, between other calls, and
in a batch that fails. Replies and stored rows were the same, and nothing was left of the batch that
failed. This page is written from what those tests run (`tests/transactions/drivers/`), and a test
fails when it is out of date.

Each cell is tried with every change to AtomicBatch, and each refusal below. Where a library can be
opened in several ways, such as with and without a pool, one of them runs all handlers each time and
the others a third of them; `make prove` runs all by each.

"""
_COLUMNS = {
    "": "itself",
    "sqlalchemy": "SQLAlchemy",
    "sqlmodel": "SQLModel",
    "peewee": "peewee",
    "pony": "Pony",
    "tortoise": "Tortoise",
    "piccolo": "Piccolo",
    "databases": "`databases`",
}
_ON = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mariadb": "MariaDB"}
_MISSING = """
An empty cell: the library cannot use that driver. Pony takes mysqlclient where it is installed,
else PyMySQL; Tortoise takes asyncmy, else aiomysql. Both were tried with either.

- **Two libraries on one database share the transaction if they use the same driver.** `sqlite3` and
  `aiosqlite` are one driver. With two, the second would wait for the first one's locks for ever, so
  it is refused at its first statement.
- **On MariaDB**, Pony, SQLAlchemy and SQLModel ask for `FOUND_ROWS`. Beside another library, give
  that one `client_flag=CLIENT.FOUND_ROWS` as well.
- **On SQLite**, Pony and Tortoise switch `PRAGMA foreign_keys` on. Beside another library, switch
  it on there too.
"""
_REFUSED = """
## What is refused

A batch in which a handler does one of these fails with 501. The message says what was done, where,
and what to do instead. The last column is a part of it; the middle one is the name of the test that
shows it.

| by | what, in a word or two | the message |
| --- | --- | --- |
"""
_EARLY = """
## Connections from before the import

Import `DriverTransaction` before connections are opened. Some drivers are written in C, and what is
opened before cannot take part. While one of `psycopg2`'s is open, all batches are refused. One that
uses one of mysqlclient's is refused. A write on one of `sqlite3`'s is stopped, and fails the
batch; while there is one of another thread's, all batches are refused.

| driver | a connection that was opened before |
| --- | --- |
"""
_LEFT_OUT = {"sqlite3": "is refused"}
# SQLAlchemy's names for drivers.
_NAMES = {"pysqlite": "sqlite3", "psycopg_async": "psycopg-async"}


def page() -> str:
    """The whole page."""
    return (
        _HEAD + "".join(f"{line}\n" for line in matrix("joins")) + _MISSING + _refusals() + _early()
    )


def matrix(word: str) -> Iterator[str]:
    """The lines of a table of libraries by drivers, in which a word says that one was tried."""
    yield f"| driver | {' | '.join(_COLUMNS.values())} |"
    yield f"| --- |{' --- |' * len(_COLUMNS)}"
    joined = {(one.package, one.driver) for one in LIBRARIES} | set(_by_sqlalchemy())
    for driver, on in DATABASES.items():
        cells = [f"{word} |" if (one or driver, driver) in joined else "|" for one in _COLUMNS]
        yield f"| `{driver}` ({_ON[on]}) | {' '.join(cells)}"


def _by_sqlalchemy() -> Iterator[tuple[str, str]]:
    """Its own oracle runs all drivers but mysqlclient, where it is SQLModel's that does."""
    for name in OF_SQLALCHEMY:
        yield "sqlalchemy", _NAMES.get(name, name)
    for one in LIBRARIES:
        if one.package == "sqlmodel":
            yield "sqlalchemy", one.driver


def _refusals() -> str:
    found: dict[tuple[str, str], dict[str, None]] = {}
    for by, handler, because in sorted({*_of_drivers(), *_of_sqlalchemy()}):
        found.setdefault((handler, because), {})[by] = None
    rows = sorted((", ".join(by), *what) for what, by in found.items())
    return _REFUSED + "".join(f"| {' | '.join(_cells(row))} |\n" for row in rows)


def _cells(row: Iterable[str]) -> Iterator[str]:
    by, handler, because = row
    yield by
    yield handler.replace("_", " ")
    yield f'"{because}"'


def _of_drivers() -> Iterator[tuple[str, str, str]]:
    for one in LIBRARIES:
        for handler in one.handlers:
            if handler.because:
                yield one.driver, handler.name, handler.because


def _of_sqlalchemy() -> Iterator[tuple[str, str, str]]:
    for case in cases():
        driver, pattern = case.values
        on = OF_SQLALCHEMY[str(driver)]
        if on != "sqlite" and on in pattern.refused and pattern.name not in SEEN:
            name = {"mysql": "MariaDB"}.get(on, _ON.get(on, on))
            yield f"SQLAlchemy on {name}", pattern.name, pattern.because


def _early() -> str:
    early: dict[str, list[str]] = {driver: [] for driver in DATABASES}
    for one in LIBRARIES:
        if one.early:
            early[one.driver].append(one.name)
    lines = [
        f"| `{driver}` | {_LEFT_OUT.get(driver, 'is refused') if names else 'takes part'} |"
        for driver, names in early.items()
    ]
    return _EARLY + "".join(f"{line}\n" for line in lines)


assert test_oracle.CASES  # it is what registers the libraries
if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
