"""What an object is, is told by what it takes, or by what is inside."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar

import pytest
from fastapi import FastAPI
from flask import Flask
from quart import Quart
from werkzeug.middleware.proxy_fix import ProxyFix

from atomicbatch import asgi, wsgi
from atomicbatch.doctor.interfaces import Interface, interface_of, is_django, layers
from atomicbatch.transactions import DriverTransaction

FLASK: Any = Flask(__name__)
QUART: Any = Quart(__name__)


def decorated(app: Any) -> Any:
    """A decorator that takes anything, and tells what it wraps."""

    @wraps(app)
    def call(*arguments: Any, **options: Any) -> Any:
        return app(*arguments, **options)

    return call


def plain(environ: Any, start_response: Any) -> Any:
    """A WSGI app."""


async def anything(*arguments: Any) -> None:
    """An ASGI app, since it is async."""


class Holding:
    """It takes anything, and keeps what it wraps as most middleware does."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, *arguments: Any) -> Any:
        return self.app(*arguments)


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        (FLASK, Interface.WSGI),
        (FLASK.wsgi_app, Interface.WSGI),
        (ProxyFix(FLASK.wsgi_app), Interface.WSGI),
        (plain, Interface.WSGI),
        (decorated(plain), Interface.WSGI),
        (Holding(Holding(plain)), Interface.WSGI),
        (wsgi.AtomicBatch(plain, transaction=DriverTransaction()), Interface.WSGI),
        (FastAPI(), Interface.ASGI),
        (QUART, Interface.ASGI),
        (anything, Interface.ASGI),
        (Holding(FastAPI()), Interface.ASGI),
        (asgi.AtomicBatch(FastAPI(), transaction=DriverTransaction()), Interface.ASGI),
    ],
    ids=lambda one: getattr(one, "__name__", type(one).__name__),
)
def test_interface(app: Callable[..., Any], expected: Interface) -> None:
    """Servers call it so."""
    assert interface_of(app) is expected


def test_django() -> None:
    """Its handlers are known, whoever makes a class of them; Channels has them by protocol."""
    from django.core.handlers.asgi import ASGIHandler

    class Static(ASGIHandler):  # type: ignore[misc]  # Django has no types
        def __init__(self) -> None:
            """Load no middleware."""

    class ByProtocol:
        application_mapping: ClassVar[dict[str, Any]] = {"websocket": plain, "http": Static()}

    assert [is_django(one) for one in layers(ByProtocol())] == [False, True]
    assert not is_django(FLASK)


def test_layers_end() -> None:
    """Also where an app wraps itself, and where an attribute cannot be had."""

    class Round:
        @property
        def app(self) -> Any:
            return self

        @property
        def wsgi_app(self) -> Any:
            raise RuntimeError("working outside of request context")

    one = Round()
    assert [*layers(one)] == [one]
