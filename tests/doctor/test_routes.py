"""A call for each route of a Flask app, and where its documents are."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Flask

from atomicbatch.doctor.routes import documents_in, operations_in


def nothing(**_: Any) -> str:
    return ""


def made() -> Flask:
    app = Flask(__name__)
    blueprint = Blueprint("shop", __name__, static_folder="static", url_prefix="/shop")
    at = "/<any(b, a):kind>/<int(min=7):n>/<float:f>/<uuid:u>/<path:p>/<name>"
    blueprint.add_url_rule(at, "every", nothing)
    blueprint.add_url_rule("/orders/<int:n>", "order", nothing, methods=["DELETE", "PATCH"])
    app.register_blueprint(blueprint)
    app.add_url_rule("/api/openapi.json", "docs", nothing)
    app.add_url_rule("/<name>/openapi.json", "others", nothing)
    return app


def test_each_route() -> None:
    """With the plainest values; where a body may be wanted, that is said."""
    calls = {
        f"{one.call.method} {one.path}": (one.call.path.decode(), one.obstacle)
        for one in operations_in(made())
    }
    unknown = "its route does not tell which body it takes"
    every = "/shop/<any(b, a):kind>/<int(min=7):n>/<float:f>/<uuid:u>/<path:p>/<name>"
    assert calls == {
        f"GET {every}": ("/shop/a/7/1.0/00000000-0000-4000-8000-000000000001/text/text", ""),
        "DELETE /shop/orders/<int:n>": ("/shop/orders/1", ""),
        "PATCH /shop/orders/<int:n>": ("/shop/orders/1", unknown),
        "GET /api/openapi.json": ("/api/openapi.json", ""),
        "GET /<name>/openapi.json": ("/text/openapi.json", ""),
    }


def test_what_wraps_it() -> None:
    """Its routes are found behind middleware, and from what a batch calls."""
    app = made()
    assert len(operations_in(app.wsgi_app)) == len(operations_in(app)) == 5
    assert operations_in(nothing) == []


def test_documents() -> None:
    """Where some of Flask's extensions have them; a path with parameters is none."""
    assert documents_in(made()) == ["/api/openapi.json"]
