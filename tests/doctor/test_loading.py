"""What cannot be loaded is named; the lifespan is run as servers do."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from atomicbatch.doctor import loading
from atomicbatch.doctor.loading import DoctorError, load_app, running


@pytest.mark.parametrize(
    ("source", "attribute", "told"),
    [
        ("app = 1", "app", "is not an ASGI app or a WSGI app, but of type 'int'"),
        ("def make(): raise KeyError('x')", "make()", "has failed: KeyError: 'x'"),
        ("", "make()", "has no 'make'"),
        ("", "app", "has no 'app'"),
        ("class made: pass", "made.app", "has no 'made.app'"),
        ("import nowhere_at_all", "app", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("1 / 0", "app", "cannot be imported: ZeroDivisionError: division by zero"),
        ("raise SystemExit('no')", "app", "cannot be imported: SystemExit: no"),
    ],
)
def test_what_cannot_be_loaded(
    source: str, attribute: str, told: str, write_app: Callable[[str], str]
) -> None:
    """The message names module, attribute and what is wrong."""
    name = write_app(source)
    with pytest.raises(DoctorError) as caught:
        load_app(f"{name}:{attribute}")
    assert told in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["app", "app:", ":app", ""])
def test_what_names_no_app(name: str) -> None:
    """Module and attribute must both be there."""
    with pytest.raises(DoctorError, match="is not of the form MODULE:APP"):
        load_app(name)


@pytest.mark.parametrize("name", ["nowhere_at_all", "nowhere_at_all.below", "atomicbatch.nowhere"])
def test_a_module_that_is_not_there(name: str) -> None:
    """It, or what it should be in, is named."""
    with pytest.raises(DoctorError, match=r"there is no module '(nowhere_at_all|atomicbatch\.no)"):
        load_app(f"{name}:app")


def test_a_function_that_makes_the_app(write_app: Callable[[str], str]) -> None:
    """As gunicorn takes it."""
    name = write_app("def made(scope, receive, send): pass\ndef make(): return made")
    assert load_app(f"{name}:make()").outermost.__name__ == "made"


def test_an_attribute_of_an_attribute(write_app: Callable[[str], str]) -> None:
    """As servers take it."""
    name = write_app("class made:\n    def app(): pass")
    assert load_app(f"{name}:made.app").transaction is None


def lives(*answers: dict[str, Any]) -> tuple[list[str], Any]:
    """An app that gives these answers to the messages of its lifespan."""
    heard: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["pool"] = "made"
        for answer in answers:
            heard.append((await receive())["type"])
            await send(answer)

    return heard, app


def run(app: Any) -> dict[str, Any]:
    async def body() -> dict[str, Any]:
        async with running(app) as state:
            return dict(state)

    return asyncio.run(asyncio.wait_for(body(), 10))


def test_a_lifespan_is_run() -> None:
    """Startup before, shutdown after; its state is given."""
    heard, app = lives(
        {"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}
    )
    assert run(app) == {"pool": "made"}
    assert heard == ["lifespan.startup", "lifespan.shutdown"]


def test_an_app_without_a_lifespan() -> None:
    """It raises, or returns at once, and is used all the same."""

    async def raises(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError(scope["type"])

    assert run(raises) == {}
    assert run(lives()[1]) == {"pool": "made"}


def test_an_app_that_does_not_start() -> None:
    """The last line of what it says is told, as the others are of a traceback."""
    _, app = lives({"type": "lifespan.startup.failed", "message": "Traceback\nno database\n"})
    with pytest.raises(DoctorError, match="the app's startup failed: no database"):
        run(app)


@pytest.mark.parametrize("what", ["startup", "shutdown"])
def test_what_has_failed_is_told_once(what: str) -> None:
    """The app raises after it has said so; the event loop has nothing to complain of."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if what == "shutdown":
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": f"lifespan.{what}.failed", "message": "KeyError"})
        raise KeyError(what)

    complaints: list[object] = []

    async def body() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
        async with running(app):
            pass

    with pytest.raises(DoctorError, match=f"the app's {what} failed: KeyError"):
        asyncio.run(body())
    gc.collect()
    assert complaints == []


def test_an_app_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has failed, yet goes on; it is cancelled."""
    monkeypatch.setattr(loading, "_MOST_SECONDS_TO_END", 0.01)
    ended: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.failed"})
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cancelled")

    with pytest.raises(DoctorError, match="the app's startup failed: no reason"):
        run(app)
    assert ended == ["cancelled"]
