"""What an app commits in a test is undone at its end, in a server's database, by each driver."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from tests.testing.suites import ASYNC, SYNC, ServerProject
from tests.testing.test_plugin import FASTAPI, HTTPX, RUNNERS

SQLALCHEMY = {
    "imports": """
import sqlalchemy as sa
from sqlalchemy.orm import Session
engine = sa.create_engine("{url}")
""",
    "keyword": "def",
    "add": """
    with Session(engine) as session:
        session.execute(sa.text("INSERT INTO orders VALUES (:one)"), {"one": product})
        session.commit()
""",
    "every": """
    with Session(engine) as session:
        return list(session.scalars(sa.text("SELECT product FROM orders ORDER BY product")))
""",
}
ASYNC_SQLALCHEMY = {
    "imports": """
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool
engine = create_async_engine("{url}", poolclass=NullPool)
""",
    "keyword": "async def",
    "add": """
    async with AsyncSession(engine) as session:
        await session.execute(sa.text("INSERT INTO orders VALUES (:one)"), {"one": product})
        await session.commit()
""",
    "every": """
    async with AsyncSession(engine) as session:
        return list(await session.scalars(sa.text("SELECT product FROM orders ORDER BY product")))
""",
}
SYNC_DRIVERS = ["postgresql+psycopg"]
ASYNC_DRIVERS = ["postgresql+psycopg"]


@pytest.fixture
def servers(request: pytest.FixtureRequest) -> dict[str, str]:
    return {"postgresql": "postgresql_url", "mysql": "mysql_url"}


@pytest.fixture
def project(
    request: pytest.FixtureRequest, pytester: pytest.Pytester, driver: str
) -> ServerProject:
    fixture = "postgresql_url" if driver.startswith("postgresql") else "mysql_url"
    url = sa.make_url(request.getfixturevalue(fixture)).set(drivername=driver)
    return ServerProject(pytester, url.render_as_string(hide_password=False))


@pytest.mark.parametrize("driver", SYNC_DRIVERS)
@pytest.mark.parametrize("keyword", ["def", "async def"])
def test_sync_drivers(project: ServerProject, keyword: str) -> None:
    """In threads, and on the event loop."""
    library = {**SQLALCHEMY, "imports": SQLALCHEMY["imports"].format(url=project.url)}
    shop = FASTAPI.format(scope="", **{**library, "keyword": keyword})
    project.check(shop=shop, test_shop="from shop import shop\n" + SYNC)


@pytest.mark.parametrize("driver", ASYNC_DRIVERS)
@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_async_drivers(project: ServerProject, runner: dict[str, str]) -> None:
    """On the event loop of the tests, whichever plugin runs it."""
    library = {**ASYNC_SQLALCHEMY, "imports": ASYNC_SQLALCHEMY["imports"].format(url=project.url)}
    shop = FASTAPI.format(scope="", **library)
    project.check(shop=shop, test_shop=HTTPX.format(**runner) + ASYNC)


@pytest.mark.parametrize("driver", ASYNC_DRIVERS)
def test_an_async_driver_in_the_portal_of_a_client(project: ServerProject) -> None:
    """A test client runs an event loop in a thread of its own, for each test another one."""
    library = {**ASYNC_SQLALCHEMY, "imports": ASYNC_SQLALCHEMY["imports"].format(url=project.url)}
    shop = FASTAPI.format(scope="", **library)
    project.check(shop=shop, test_shop="from shop import shop\n" + SYNC)
