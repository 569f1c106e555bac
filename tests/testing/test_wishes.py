"""What people ask for who want tests that never clean up, one by one, as they write it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.testing.suites import Project, ServerProject

MODELS = """
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

engine = sa.create_engine("URL")
new_session = sessionmaker(engine)

class Base(DeclarativeBase):
    pass

class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(40), unique=True)
"""
APP = """
from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy.exc import IntegrityError
from models import Customer, Session, new_session, sa

app = FastAPI()

def session():
    with new_session() as session:
        yield session

@app.post("/customers/{name}")
def create(name: str, session: Session = Depends(session)) -> int:
    customer = Customer(name=name)
    session.add(customer)
    try:
        session.commit()
    except IntegrityError:
        session.rollback()
        # It goes on with the same session.
        known = session.scalars(sa.select(Customer).where(Customer.name == name)).one()
        known.name = f"{name} again"
        session.commit()
        raise HTTPException(409, known.name)
    return customer.id

@app.get("/customers")
def every(session: Session = Depends(session)) -> list[str]:
    return list(session.scalars(sa.select(Customer.name).order_by(Customer.name)))
"""
ENV = """
from alembic import context
from models import Base, engine

with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        context.run_migrations()
"""
MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "1", None

def upgrade():
    op.create_table(
        "customers",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(40), unique=True),
    )

def downgrade():
    op.drop_table("customers")
"""
CONFTEST = """
import factory
import pytest
from alembic import command
from alembic.config import Config
from fastapi.testclient import TestClient
from polyfactory.factories.sqlalchemy_factory import SQLAlchemyFactory
from app import app
from models import Customer, engine, new_session
from sqlalchemy.orm import scoped_session

config = Config()
config.set_main_option("script_location", "migrations")

@pytest.fixture(scope="session")
def migrated():
    command.upgrade(config, "head")
    yield
    command.downgrade(config, "base")
    engine.dispose()

@pytest.fixture(scope="session", autouse=True)
def seeds(migrated):
    with new_session.begin() as session:
        session.add_all([Customer(name="Ada"), Customer(name="Grace")])

# Of the module, as is the client that has it open: for the length of all tests.
@pytest.fixture(scope="module")
def client(seeds):
    with TestClient(app) as client:
        yield client

kept = scoped_session(new_session)

class ByFactory(factory.alchemy.SQLAlchemyModelFactory):
    class Meta:
        model = Customer
        sqlalchemy_session = kept
        sqlalchemy_session_persistence = "commit"

    name = factory.Sequence(lambda number: f"F{number}")

class ByPolyfactory(SQLAlchemyFactory[Customer]):
    __session__ = new_session
    id = None

@pytest.fixture
def by_factory():
    yield ByFactory
    kept.remove()

@pytest.fixture
def by_polyfactory():
    return ByPolyfactory
"""
TESTS = """
import pytest
from models import Customer, engine, new_session, sa

SEEDS = ["Ada", "Grace"]
seen = []

@pytest.mark.parametrize("n", range(2))
def test_seeds_of_the_session_are_there_for_each_test(client, n):
    assert client.get("/customers").json() == SEEDS
    with new_session.begin() as session:
        session.execute(sa.delete(Customer))
    assert client.get("/customers").json() == []

@pytest.mark.parametrize("n", range(2))
def test_a_handler_rolls_back_and_goes_on(client, n):
    assert client.post("/customers/Ada").status_code == 409
    assert client.get("/customers").json() == ["Ada again", "Grace"]
    assert client.post("/customers/Ada").status_code == 200

@pytest.mark.parametrize("n", range(2))
def test_factories(client, by_factory, by_polyfactory, n):
    by_factory.create_batch(3)
    by_polyfactory.create_sync(name="P")
    assert len(client.get("/customers").json()) == 6

@pytest.mark.parametrize("n", range(2))
def test_a_connection_of_its_own_sees_what_the_app_has_committed(client, n):
    client.post("/customers/Alan")
    with engine.connect() as connection:
        names = sa.text("SELECT name FROM customers ORDER BY name")
        assert list(connection.scalars(names)) == ["Ada", "Alan", "Grace"]

@pytest.mark.parametrize("n", range(2))
def test_ids_go_on(client, n):
    seen.append(client.post("/customers/Alan").json())
    assert seen[0] > 2
    assert n == 0 or IDS

@pytest.fixture
def one_more(client):
    return client.post("/customers/Barbara").json()

@pytest.fixture(scope="class")
def of_the_class(client):
    client.post("/customers/Edsger")

@pytest.mark.usefixtures("of_the_class")
class TestOfAClass:
    def test_one(self, client, one_more):
        assert client.get("/customers").json() == ["Ada", "Barbara", "Edsger", "Grace"]

    def test_two(self, client):
        assert client.get("/customers").json() == ["Ada", "Edsger", "Grace"]
"""
# Sequences are not rolled back. SQLite has none: it takes the highest id that is there, plus one.
IDS = {
    "sqlite3": "seen[1] == seen[0]",
    "psycopg": "seen[1] > seen[0]",
    "pymysql": "seen[1] > seen[0]",
}
FIXTURES = {"psycopg": "postgresql_url", "pymysql": "mysql_url"}


@pytest.mark.parametrize(
    "driver", [pytest.param("sqlite3", marks=pytest.mark.prove), "psycopg", "pymysql"]
)
def test_wishes(driver: str, pytester: pytest.Pytester, request: Any) -> None:
    """
    Data of the session with a rollback for each test; migrations by Alembic; factories.

    Handlers that roll back and go on; ids; a look by a connection of one's own.
    """
    if driver == "sqlite3":
        project = Project(pytester)
    else:
        project = ServerProject(pytester, request.getfixturevalue(FIXTURES[driver]))
    pytester.mkdir("migrations")
    pytester.mkdir("migrations/versions")
    (pytester.path / "migrations/env.py").write_text(ENV)
    (pytester.path / "migrations/script.py.mako").write_text("")
    (pytester.path / "migrations/versions/first.py").write_text(MIGRATION)
    project.write(
        models=MODELS.replace("URL", project.url_of(driver)),
        app=APP,
        conftest=CONFTEST,
        test_wishes=TESTS.replace("IDS", IDS[driver]),
    )
    project.run(before="migrated").assert_outcomes(passed=12)
