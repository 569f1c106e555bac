"""Suites of others, as they are run with the plugin: apps, clients, and what looks at the rows."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from importlib import import_module
from pathlib import Path

import anyio.pytest_plugin
import pytest
import pytest_asyncio.plugin
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from atomicbatch.testing import plugin
from tests.testing.shops import DRIVERS, Case

# What suites import is kept between runs: pytester forgets what was first imported in one.
for _name in (
    "aiomysql",
    "aiosqlite",
    "anyio._backends._asyncio",
    "asyncmy",
    "asyncpg",  # which does not survive being imported twice
    "atomicbatch.asgi",
    "atomicbatch.django",
    "atomicbatch.testing.scopes",
    "atomicbatch.transactions.sqlalchemy",
    "atomicbatch.wsgi",
    "django.core.management",
    "fastapi.testclient",
    "flask_sqlalchemy",
    "httpx",
    "litestar.testing",
    "peewee",
    "psycopg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlmodel",
):
    import_module(_name)

# Whoever looks at rows uses another driver than apps do, where there is one.
PLAIN = {"postgresql": "postgresql+psycopg2", "mysql": "mysql+pymysql"}
PLUGINS = (plugin, pytest_asyncio.plugin, anyio.pytest_plugin)

# What keeps an eye on the rows while no test is rolled back.
_CONTROL = """
import json
import pytest
from stored import forget, stored

@pytest.fixture(scope="module", autouse=True)
def _seen(request):
    yield
    with open("seen", "a") as seen:
        print(json.dumps([request.module.__name__, stored()]), file=seen)
    forget()
"""


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

                def forget():
                    with closing(sqlite3.Connection({str(self.path)!r})) as connection:
                        connection.execute("DELETE FROM orders")
                        connection.commit()

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
        self,
        rolled_back: bool | None = True,
        outside: Sequence[str] = (),
        scopes: str = "",
        before: str = "",
        mode: str = "auto",
    ) -> pytest.RunResult:
        """Run its tests in this process, with the settings that :meth:`configure` takes."""
        self.configure(rolled_back, outside, scopes, before, mode)
        return self.pytester.runpytest_inprocess("-p", "no:cacheprovider", plugins=PLUGINS)

    def configure(
        self,
        rolled_back: bool | None = True,
        outside: Sequence[str] = (),
        scopes: str = "",
        before: str = "",
        mode: str = "auto",
    ) -> None:
        """
        Write its settings.

        Args:
            rolled_back: The setting of that name; None: it is not there.
            outside: The setting of that name.
            scopes: The setting ``atomicbatch_rollback_scopes``; empty: it is not there.
            before: Likewise ``atomicbatch_before``.
            mode: pytest-asyncio's setting.
        """
        settings = [
            "[pytest]",
            f"asyncio_mode = {mode}",
            "asyncio_default_fixture_loop_scope = function",
            # Suites leave their pools of connections open when they end.
            "filterwarnings =\n    error\n    ignore::pytest.PytestUnraisableExceptionWarning",
        ]
        if rolled_back is not None:
            settings.append(f"atomicbatch_rollback = {str(rolled_back).lower()}")
        if scopes:
            settings.append(f"atomicbatch_rollback_scopes = {scopes}")
        if before:
            settings.append(f"atomicbatch_before = {before}")
        if outside:
            settings.append("atomicbatch_outside =")
            settings += [f"    {name}" for name in outside]
        (self.pytester.path / "pytest.ini").write_text("\n".join(settings) + "\n", "utf-8")

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

    def check(
        self, cases: Iterable[Case], mode: str = "auto", *, with_control: bool = True
    ) -> None:
        """
        Run suites of two tests each, all in one run; each test expects to find no rows.

        Without the plugin all of them fail, and leave two rows; with it none are left.

        Args:
            cases: The suites.
            mode: Of pytest-asyncio.
            with_control: Run them without the plugin as well.
        """
        names = []
        for number, case in enumerate(cases):
            names.append(
                f"test_{number}_{re.sub(r'[^a-z0-9]+', '_', f'{case.of} {case.by}'.lower())}"
            )
            self.write(**{names[-1]: case.text.replace("URL", self.url_of(case.driver))})
        count = 2 * len(names)
        if with_control:
            self._check_that_they_fail(names)
        self.run(mode=mode).assert_outcomes(passed=count)
        assert self.stored() == []

    def _check_that_they_fail(self, names: Sequence[str]) -> None:
        self.write(conftest=_CONTROL)
        self.run(rolled_back=False).assert_outcomes(failed=2 * len(names))
        seen = map(json.loads, (self.pytester.path / "seen").read_text().splitlines())
        assert dict(seen) == {name: ["one", "two"] for name in names}
        self.write(conftest="")

    def url_of(self, driver: str) -> str:
        """Its database, as SQLAlchemy is told of it."""
        return f"{DRIVERS[driver]}:///shop.sqlite"


class ServerProject(Project):
    """
    A project whose database is a server's.

    Args:
        pytester: pytest's own tool.
        url: Of the database, as SQLAlchemy writes it.
    """

    def __init__(self, pytester: pytest.Pytester, url: str) -> None:
        super().__init__(pytester)
        self.url = url
        family = url.partition(":")[0].partition("+")[0]
        self._engine = sa.create_engine(
            sa.make_url(url).set(drivername=PLAIN[family]), poolclass=NullPool
        )
        with self._engine.begin() as connection:
            connection.execute(sa.text("DROP TABLE IF EXISTS orders"))
            connection.execute(sa.text("CREATE TABLE orders (product VARCHAR(20) PRIMARY KEY)"))
        plain = self._engine.url.render_as_string(hide_password=False)
        pytester.makepyfile(
            stored=f"""
                import sqlalchemy as sa
                from sqlalchemy.pool import NullPool
                from atomicbatch.guard import aside

                engine = sa.create_engine({plain!r}, poolclass=NullPool)

                def forget():
                    with engine.begin() as connection:
                        connection.execute(sa.text("DELETE FROM orders"))

                def stored():
                    '''What anybody else sees.'''
                    with aside(), engine.connect() as connection:
                        return list(connection.scalars(sa.text("SELECT product FROM orders")))
            """
        )

    def url_of(self, driver: str) -> str:
        url = sa.make_url(self.url).set(drivername=DRIVERS[driver])
        return url.render_as_string(hide_password=False)

    def stored(self) -> list[str]:
        with self._engine.connect() as connection:
            rows = connection.scalars(sa.text("SELECT product FROM orders ORDER BY product"))
            return list(rows)

    def forget(self) -> None:
        with self._engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM orders"))
