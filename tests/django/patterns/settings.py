"""A Django project in each configuration: driver, gateway, connections."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

import django

LABEL = "patterns"
DRIVERS = ("sqlite3", "psycopg", "psycopg2", "pymysql", "mysqlclient")
WITH_POOL = django.VERSION >= (5, 1)
GATEWAYS = ("wsgi", "asgi", "asgi, sync middleware")


@dataclass(frozen=True)
class Variant:
    """
    One configuration of a project.

    Attributes:
        driver: One of DRIVERS.
        gateway: One of GATEWAYS; the last has a middleware that is sync only.
        atomic: ``ATOMIC_REQUESTS``.
        age: ``CONN_MAX_AGE``, in seconds.
        pool: Connections come from psycopg's pool.
        debug: ``DEBUG``: Django keeps all queries.
        options: ``OPTIONS`` says how sessions are set up: see ``_options_of``.
    """

    driver: str
    gateway: str
    atomic: bool = False
    age: int = 0
    pool: bool = False
    debug: bool = False
    options: bool = False

    def __str__(self) -> str:
        said = [self.driver, self.gateway]
        said += ["ATOMIC_REQUESTS"] if self.atomic else []
        said += ["pool"] if self.pool else [f"CONN_MAX_AGE={self.age}"]
        said += ["DEBUG"] if self.debug else []
        said += ["OPTIONS"] if self.options else []
        return ", ".join(said)


def variants_of(driver: str) -> Iterator[Variant]:
    """
    All configurations of one driver; a pool does without CONN_MAX_AGE.

    DEBUG is on in every second one, so that it meets each value of each other option.
    """
    pools = [(0, False), (60, False)] + [(0, True)] * (driver == "psycopg" and WITH_POOL)
    for indices in itertools.product(range(len(GATEWAYS)), range(2), range(len(pools))):
        gateway, atomic, connections = indices
        age, pool = pools[connections]
        yield Variant(driver, GATEWAYS[gateway], atomic == 1, age, pool, sum(indices) % 2 == 1)
    yield Variant(driver, GATEWAYS[0], options=True)


@dataclass(frozen=True)
class Order:
    """
    What a child process is to do.

    Attributes:
        variants: All of one driver.
        databases: For ``default`` and ``other``, the path of a file or an URL.
        only: The patterns to run; none: all.
        crowd: After them, let a crowd ask.
    """

    variants: tuple[Variant, ...]
    databases: dict[str, str]
    only: tuple[str, ...] = ()
    crowd: bool = False

    def text(self) -> str:
        """As a child takes it."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Order:
        """Read :meth:`text`."""
        found = json.loads(text)
        variants = tuple(Variant(**one) for one in found["variants"])
        return cls(variants, found["databases"], tuple(found["only"]), found["crowd"])


class NoReport:
    """What DEBUG shows of an exception."""

    def __init__(self, *_: Any) -> None:
        pass

    def get_traceback_html(self) -> str:
        """Nothing."""
        return "failed"

    get_traceback_text = get_traceback_html


def choose_driver(driver: str) -> None:
    """Let Django find this driver, before it looks for one."""
    if driver == "psycopg2":
        sys.modules["psycopg"] = None  # type: ignore[assignment]  # as if it were not installed
    elif driver == "pymysql":
        import pymysql

        pymysql.version_info = (2, 2, 1, "final", 0)  # as Django asks
        pymysql.install_as_MySQLdb()


def database(driver: str, target: str) -> dict[str, Any]:
    """What ``DATABASES`` says of a database."""
    options: dict[str, Any] = {}
    if driver == "sqlite3":
        # A thread of its own waits for the transaction of its request, which waits for it.
        options = {"timeout": 0.1}
    elif driver in ("pymysql", "mysqlclient"):
        # Likewise.
        options = {"init_command": "SET SESSION innodb_lock_wait_timeout = 1"}
    if driver == "pymysql":
        # Else it reads all certificates of the machine for each connection.
        options["ssl_disabled"] = True
    found = {"ATOMIC_REQUESTS": False, "CONN_MAX_AGE": 0, "OPTIONS": options}
    if driver == "sqlite3":
        return found | {"ENGINE": "django.db.backends.sqlite3", "NAME": target}
    url = urlsplit(target)
    kind = "postgresql" if url.scheme == "postgresql" else "mysql"
    return found | {
        "ENGINE": f"django.db.backends.{kind}",
        "NAME": url.path.removeprefix("/"),
        "USER": url.username,
        "PASSWORD": url.password or "",
        "HOST": url.hostname,
        "PORT": str(url.port),
    }


def configure(order: Order) -> None:
    """Set a project up."""
    from django.conf import settings

    driver = order.variants[0].driver
    choose_driver(driver)
    quiet = {"handlers": ["none"], "propagate": False}
    settings.configure(
        SECRET_KEY="not a secret" * 5,
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="tests.django.patterns.views",
        USE_TZ=True,
        TIME_ZONE="Asia/Tokyo",
        INSTALLED_APPS=[
            "atomicbatch.django",
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "django.contrib.sessions",
            "tests.django.patterns",
        ],
        SESSION_ENGINE="django.contrib.sessions.backends.db",
        CACHES={
            "default": {
                "BACKEND": "django.core.cache.backends.db.DatabaseCache",
                "LOCATION": "patterns_cache",
            }
        },
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        DATABASES={
            **{alias: database(driver, to) for alias, to in order.databases.items()},
            "replica": database(driver, order.databases["default"]),
        },
        DATABASE_ROUTERS=["tests.django.patterns.views.Router"],
        # DEBUG's pages take a tenth of a second each.
        DEFAULT_EXCEPTION_REPORTER="tests.django.patterns.settings.NoReport",
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        MIDDLEWARE=[],
        LOGGING={
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"none": {"class": "logging.NullHandler"}},
            "loggers": {"django": quiet, "atomicbatch": quiet},
        },
    )
    django.setup()


def middleware_of(variant: Variant) -> list[str]:
    """What ``MIDDLEWARE`` says."""
    sync_only = ["tests.django.patterns.views.sync_only"]
    return [
        "atomicbatch.django.BatchMiddleware",
        *(sync_only if variant.gateway == GATEWAYS[2] else []),
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ]


def _options_of(driver: str) -> dict[str, Any]:
    """What else can be said of sessions: level, role, binding, commands."""
    if driver == "sqlite3":
        return {"init_command": "PRAGMA recursive_triggers=ON", "transaction_mode": "IMMEDIATE"}
    if driver in ("pymysql", "mysqlclient"):
        command = (
            "SET SESSION innodb_lock_wait_timeout = 1, time_zone = '+02:00', sql_mode = 'ANSI'"
        )
        return {"isolation_level": "repeatable read", "init_command": command}
    if driver == "psycopg2":
        return {"isolation_level": 2, "assume_role": "patterns"}  # REPEATABLE READ, by its numbers
    return {"isolation_level": 3, "assume_role": "patterns", "server_side_binding": True}


def apply(variant: Variant) -> None:
    """Change the project, which is set up already, to another configuration of the same driver."""
    from django.conf import settings
    from django.db import connections

    for connection in connections.all(initialized_only=True):
        connection.close()
        getattr(connection, "close_pool", lambda: None)()
    settings.MIDDLEWARE = middleware_of(variant)
    settings.DEBUG = variant.debug
    for said in connections.settings.values():
        said["ATOMIC_REQUESTS"] = variant.atomic
        said["CONN_MAX_AGE"] = variant.age
        said["OPTIONS"].pop("pool", None)
        if variant.pool:
            said["OPTIONS"]["pool"] = {"min_size": 1, "max_size": 3}
        if variant.options:
            said["OPTIONS"].update(_options_of(variant.driver))
