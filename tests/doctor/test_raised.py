"""What a handler raises is told, although the framework has answered it."""

from __future__ import annotations

import flask

from atomicbatch.doctor.raised import answered_errors


def test_flask() -> None:
    """Inside the block, and only there."""
    app = flask.Flask(__name__)
    app.add_url_rule("/", view_func=lambda: str(1 // 0))
    told: list[BaseException] = []
    with answered_errors(told.append):
        assert app.test_client().get("/").status_code == 500
    app.test_client().get("/")
    assert [type(error) for error in told] == [ZeroDivisionError]
