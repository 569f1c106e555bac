"""Flask-SQLAlchemy on SQLite, PostgreSQL and MariaDB: ``db.session`` and all else of an app's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask, request, stream_with_context
from flask.typing import ResponseReturnValue
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from atomicbatch import Limits, on_commit
from atomicbatch.engine import Replay
from atomicbatch.transactions.sqlalchemy import SQLAlchemyTransaction
from atomicbatch.wsgi import AtomicBatch
from tests.databases import DIALECT
from tests.wsgi.asking import Answer, ask, call, environ_of, serve


class Base(DeclarativeBase): ...


class Item(Base):
    __tablename__ = "item"
    name: Mapped[str] = mapped_column(sa.String(60), primary_key=True)
    n: Mapped[int] = mapped_column(default=0)


DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": f"{DIALECT}+pymysql"}


class Shop:
    """A Flask app, its database, and a connection of the tests' own to that."""

    def __init__(self, url: str, **options: Any) -> None:
        scheme, _, rest = url.partition(":")
        self.url = f"{DRIVERS.get(scheme, scheme)}:{rest}"
        self.db = db = SQLAlchemy(model_class=Base)
        app: Any = Flask("shop")
        engine_options: dict[str, Any] = {"isolation_level": "SERIALIZABLE"}
        if scheme == "mysql":
            engine_options["connect_args"] = {"ssl_disabled": True}
        app.config["SQLALCHEMY_DATABASE_URI"] = self.url
        app.config["SQLALCHEMY_ENGINE_OPTIONS"] = engine_options
        db.init_app(app)
        with app.app_context():
            self.engine = db.engine
            Base.metadata.create_all(self.engine)
        self._outside = sa.create_engine(self.url, **engine_options)
        self.done: list[str] = []
        self.meeting: threading.Barrier | None = None
        self._met = 0
        self._add_routes(app)
        self.plain = app.wsgi_app
        self.app = app.wsgi_app = AtomicBatch(
            app.wsgi_app,
            transaction=SQLAlchemyTransaction(),
            limits=Limits(timeout_seconds=20),
            **options,
        )
        self.flask: Flask = app

    def _add_routes(self, app: Flask) -> None:
        acts: list[Callable[[], ResponseReturnValue]] = [
            self.session_commit,
            self.never_committed,
            self.core,
            self.handled,
            self.stream,
            self.read,
            self.raised,
            self.count_up,
        ]
        for act in acts:
            app.add_url_rule(f"/{act.__name__}", view_func=act, methods=["GET", "POST"])

    # Handlers ------------------------------------------------------------------------------------

    def session_commit(self) -> ResponseReturnValue:
        name = request.args["name"]
        self.db.session.add(Item(name=name))
        self.db.session.commit()
        on_commit(self.done.append, name)
        return {"name": name}, 201

    def never_committed(self) -> ResponseReturnValue:
        self.db.session.add(Item(name="flushed"))
        self.db.session.flush()
        return {"count": self._count()}

    def core(self) -> ResponseReturnValue:
        with self.db.engine.begin() as connection:
            connection.execute(sa.insert(Item).values(name="core", n=1))
        return {"count": self._count()}

    def handled(self) -> ResponseReturnValue:
        self.db.session.add(Item(name="once", n=1))
        self.db.session.commit()
        try:
            self.db.session.execute(sa.insert(Item).values(name="once", n=2))
            self.db.session.commit()
        except IntegrityError:
            self.db.session.rollback()
        self.db.session.add(Item(name="twice", n=2))
        self.db.session.commit()
        return {"count": self._count()}

    def stream(self) -> ResponseReturnValue:
        def pieces() -> Iterator[str]:
            for number in range(3):
                self.db.session.add(Item(name=f"streamed {number}"))
                self.db.session.commit()
                yield f"{self._count()};"

        return self.flask.response_class(stream_with_context(pieces()))

    def read(self) -> ResponseReturnValue:
        return {"names": list(self.db.session.scalars(sa.select(Item.name).order_by(Item.name)))}

    def raised(self) -> ResponseReturnValue:
        self.db.session.add(Item(name="raised"))
        self.db.session.flush()
        raise RuntimeError("secret")

    def count_up(self) -> ResponseReturnValue:
        item = self.db.session.get_one(Item, request.args["name"])
        n = item.n
        # The first two have both read what both are about to write.
        self._met += 1
        if self.meeting is not None and self._met <= 2:
            self.meeting.wait(20)
        item.n = n + 1
        self.db.session.commit()
        return {"n": n + 1}

    def _count(self) -> int:
        return self.db.session.scalar(sa.select(sa.func.count()).select_from(Item)) or 0

    # What tests want -----------------------------------------------------------------------------

    def ask(self, *targets: str) -> Answer:
        return ask(self.app, *(call("POST", target) for target in targets))

    def alone(self, target: str) -> Answer:
        path, _, query = target.partition("?")
        return serve(self.plain, environ_of(path, query=query.encode())).answer

    def rows(self) -> list[tuple[str, int]]:
        with self._outside.connect() as connection:
            found = connection.execute(sa.select(Item.name, Item.n).order_by(Item.name))
            return [(name, n) for name, n in found]

    def empty(self) -> None:
        with self._outside.begin() as connection:
            connection.execute(sa.delete(Item))

    def dispose(self) -> None:
        self._outside.dispose()
        self.engine.dispose()


@pytest.fixture
def make(database_url: str) -> Iterator[Callable[..., Shop]]:
    made: list[Shop] = []

    def make(**options: Any) -> Shop:
        made.append(Shop(database_url, **options))
        return made[-1]

    yield make
    for shop in made:
        shop.dispose()


Make = Callable[..., Shop]


def test_handlers_do_in_a_batch_what_they_do_alone(make: Make) -> None:
    """Replies and rows are the same; a batch that fails leaves none, and the pool is clean."""
    shop = make()
    for target in ("/session_commit?name=a", "/never_committed", "/core", "/handled", "/stream"):
        shop.empty()
        alone = shop.alone(target)
        assert alone.status < 300, alone.body
        expected = shop.rows()

        shop.empty()
        answer = shop.ask(target)
        assert answer.outcome == "committed", answer.body
        assert (answer.replies[0].status, answer.replies[0].body) == (alone.status, alone.body)
        assert shop.rows() == expected, target

        shop.empty()
        answer = shop.ask("/session_commit?name=before", target, "/raised")
        assert answer.outcome == "rolled-back; failed=3; status=500", target
        assert b"secret" not in answer.body
        assert shop.rows() == [], target
        assert shop.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


def test_calls_see_what_earlier_calls_have_done(make: Make) -> None:
    """Others do not, before COMMIT; on_commit waits for it."""
    shop = make()
    answer = shop.ask("/session_commit?name=a", "/session_commit?name=b", "/read")
    assert answer.replies[2].body.split() == b'{"names":["a","b"]}'.split()
    assert shop.done == ["a", "b"]
    assert shop.ask("/session_commit?name=c", "/session_commit?name=a").statuses == [424, 500]
    assert shop.done == ["a", "b"]
    assert shop.rows() == [("a", 0), ("b", 0)]


def test_batches_that_are_in_each_others_way(make: Make) -> None:
    """Two that read and then write one row both take effect, one of them after a conflict."""
    shop = make(replay=Replay(base_seconds=0))
    assert shop.ask("/session_commit?name=a").outcome == "committed"
    if not shop.url.startswith("sqlite"):
        # There only one batch runs at a time.
        shop.meeting = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: shop.ask("/count_up?name=a"), range(2)))
    assert [answer.outcome for answer in answers] == ["committed"] * 2
    assert shop.rows() == [("a", 2)]
    if shop.meeting is not None:
        assert [answer.headers.get("batch-attempts", "1") for answer in answers].count("1") == 1


def test_a_crowd(make: Make) -> None:
    """In as many threads as a server has: what is answered committed is stored, nothing else is."""
    shop = make()

    def send(number: int) -> Answer:
        failing = ["/raised"] if number % 3 == 0 else []
        names = [f"/session_commit?name={number}-{part}" for part in "ab"]
        return shop.ask(*names, *failing)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(30)))
    committed = [n for n, answer in enumerate(answers) if answer.outcome == "committed"]
    assert committed == [n for n in range(30) if n % 3]
    expected = sorted(f"{n}-{part}" for n in committed for part in "ab")
    assert [name for name, _ in shop.rows()] == expected
    assert sorted(shop.done) == expected
    assert shop.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


def test_a_handler_that_sleeps_holds_no_locks(make: Make) -> None:
    """At the time limit the batch is undone beside it: others go on, and it is told 504 at last."""
    shop = make()
    app = AtomicBatch(
        shop.plain,
        transaction=SQLAlchemyTransaction(),
        limits=Limits(timeout_seconds=0.3),
        path="/limited",
    )
    sleeping, go_on = threading.Event(), threading.Event()

    def sleep() -> ResponseReturnValue:
        sleeping.set()
        assert go_on.wait(30)
        return "slept"

    shop.flask.add_url_rule("/sleep", view_func=sleep, methods=["POST"])
    assert shop.ask("/session_commit?name=a").outcome == "committed"
    calls = [call("POST", "/count_up?name=a"), call("POST", "/sleep")]
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, app, *calls, path="/limited")
        assert sleeping.wait(20)
        try:
            # Waits for the row, or for SQLite's one lock, as long as the batch has it.
            assert shop.alone("/count_up?name=a").status == 200
        finally:
            go_on.set()
        assert answer.result(20).outcome == "rolled-back; failed=2; status=504"
    assert shop.rows() == [("a", 1)]
