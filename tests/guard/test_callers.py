"""The app's innermost function on a stack, for messages."""

from __future__ import annotations

import sys
import threading
from functools import partial
from typing import Any
from unittest.mock import Mock

import pytest

from atomicbatch.guard.callers import function_of, is_installed


def test_the_apps_function_is_named() -> None:
    """Its name, file and line."""
    found = function_of(sys._getframe())
    assert found.startswith("test_the_apps_function_is_named (test_callers.py:")
    assert function_of(None) == ""


@pytest.mark.parametrize(
    ("module", "found"),
    [
        ("shop.views", "handle (views.py:3)"),
        # What an event loop or a driver does is nobody's function.
        ("uvicorn.server", ""),
        ("pymysql.connections", ""),
    ],
)
def test_an_app_may_be_installed_itself(module: str, found: str) -> None:
    """It is told from the libraries that are known; they alone are not named."""
    file = f"/opt/site-packages/{module.replace('.', '/')}.py"
    names: dict[str, Any] = {"__name__": module, "__file__": file}
    text = "def handle(wait, begun):\n    begun.set()\n    wait.wait(30)\n"
    exec(compile(text, file, "exec"), names)
    go_on, begun = threading.Event(), threading.Event()
    thread = threading.Thread(target=names["handle"], args=(go_on, begun))
    thread.start()
    try:
        assert begun.wait(30)
        assert thread.ident is not None
        assert function_of(sys._current_frames()[thread.ident]) == found
    finally:
        go_on.set()
        thread.join()


def test_whose_a_function_is() -> None:
    """What is written in an installed package is its, however wrapped; the rest is the app's."""
    names: dict[str, Any] = {}
    exec(compile("def theirs(): ...", "/opt/site-packages/shop/views.py", "exec"), names)
    theirs = names["theirs"]

    class Callable:
        def __call__(self) -> None: ...

        method = theirs

    assert is_installed(theirs)
    assert is_installed(partial(partial(theirs)))
    assert is_installed(Callable().method)
    assert is_installed(pytest.fixture)
    ours: list[Any] = [lambda: None, partial(Callable()), names.get, Mock()]
    assert not any(map(is_installed, ours))
