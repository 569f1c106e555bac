"""Suites of others, as they are run with the plugin: apps, clients, and what looks at the rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import anyio.pytest_plugin
import pytest
import pytest_asyncio.plugin

from atomicbatch.testing import plugin

# What suites import is kept between runs: pytester forgets what was first imported in one.
import aiosqlite  # noqa: F401  # isort: skip
import anyio._backends._asyncio  # isort: skip
import django.core.management  # noqa: F401  # isort: skip
import fastapi.testclient  # noqa: F401  # isort: skip
import flask  # noqa: F401  # isort: skip
import flask_sqlalchemy  # noqa: F401  # isort: skip
import httpx  # noqa: F401  # isort: skip
import litestar.testing  # noqa: F401  # isort: skip
import peewee  # noqa: F401  # isort: skip
import sqlalchemy.dialects.sqlite.aiosqlite  # isort: skip
import sqlalchemy.ext.asyncio  # noqa: F401  # isort: skip
import sqlmodel  # noqa: F401  # isort: skip

PLUGINS = (plugin, pytest_asyncio.plugin, anyio.pytest_plugin)

SYNC = """
def test_one(shop):
    shop.add("one")
    assert shop.every() == ["one"]
    assert stored() == []

def test_two(shop):
    shop.add("two")
    assert shop.every() == ["two"]
    assert stored() == []
"""
ASYNC = (
    SYNC.replace("def test", "async def test")
    .replace("shop.", "await shop.")
    .replace("assert await shop.every()", "assert (await shop.every())")
)


class Project:
    """
    A project with an app, tests of its own, and a database that is a file.

    Args:
        pytester: pytest's own tool, in whose folder everything is.
    """

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        # Others, of those who test us, take their time.
        pytester._monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        self.path: Path = pytester.path / "shop.sqlite"
        with closing(sqlite3.Connection(str(self.path))) as connection:
            connection.execute("CREATE TABLE orders (product TEXT UNIQUE)")
        pytester.makepyfile(
            stored=f"""
                import sqlite3
                from contextlib import closing

                def stored():
                    '''What anybody else sees: by a connection without a door.'''
                    with closing(sqlite3.Connection({str(self.path)!r})) as connection:
                        rows = connection.execute("SELECT product FROM orders ORDER BY rowid")
                        return [product for product, in rows.fetchall()]
            """
        )
        pytester.syspathinsert()

    def write(self, **files: str) -> None:
        """Write modules: tests can use ``stored()``."""
        for name, text in files.items():
            head = "from stored import stored\n" if name.startswith("test") else ""
            (self.pytester.path / f"{name}.py").write_text(head + text, "utf-8")

    def run(
        self, *options: str, rolled_back: bool | None = True, outside: Sequence[str] = ()
    ) -> pytest.RunResult:
        """
        Run its tests.

        Args:
            options: More for pytest.
            rolled_back: The setting; None: it is not there.
            outside: The setting of that name.
        """
        settings = [
            "[pytest]",
            "asyncio_mode = auto",
            "asyncio_default_fixture_loop_scope = function",
            "filterwarnings = error",
        ]
        if rolled_back is not None:
            settings.append(f"atomicbatch_rollback = {str(rolled_back).lower()}")
        if outside:
            settings.append("atomicbatch_outside =")
            settings += [f"    {name}" for name in outside]
        (self.pytester.path / "pytest.ini").write_text("\n".join(settings) + "\n", "utf-8")
        options = ("-p", "no:cacheprovider", *options)
        return self.pytester.runpytest_inprocess(*options, plugins=PLUGINS)

    def stored(self) -> list[str]:
        """The rows that are there when it has ended."""
        with closing(sqlite3.Connection(str(self.path))) as connection:
            rows = connection.execute("SELECT product FROM orders ORDER BY rowid")
            return [str(product) for (product,) in rows.fetchall()]

    def forget(self) -> None:
        """Empty the table."""
        with closing(sqlite3.Connection(str(self.path))) as connection:
            connection.execute("DELETE FROM orders")
            connection.commit()

    def check(self, **files: str) -> None:
        """
        Run a suite of two tests, each of which expects to find no rows.

        Without the plugin the second finds the row of the first; with it none are left.
        """
        self.write(**files)
        self.run(rolled_back=False).assert_outcomes(failed=2)
        assert self.stored() == ["one", "two"]
        self.forget()
        self.run().assert_outcomes(passed=2)
        assert self.stored() == []
