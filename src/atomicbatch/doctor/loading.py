"""Loading: ``module:attribute`` -> the app; its lifespan; the transaction that it has already."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from atomicbatch.asgi import AtomicBatch
from atomicbatch.asgi.types import App, Message, Scope
from atomicbatch.engine import AsyncTransaction

# Of an app that has said that its lifespan is over; most end at once.
_MOST_SECONDS_TO_END = 1


class DoctorError(Exception):
    """There is nothing to examine; the message names what is missing."""


class Loaded(NamedTuple):
    """An app, as it was found."""

    outermost: App
    """What a server would be given."""
    inner: App
    """Where calls of a batch start."""
    transaction: AsyncTransaction[Any] | None
    """What the app's own AtomicBatch begins, or None where it has none."""


def load_app(name: str) -> Loaded:
    """
    Import an app.

    Args:
        name: ``module:attribute``, as servers take it; the current folder is looked in first.

    Raises:
        DoctorError: There is no such app.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise DoctorError(f"{name!r} is no MODULE:APP, like shop.main:app")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise DoctorError(f"there is no module {error.name!r} (in {name!r})") from error
        raise _not_imported(module_name, error) from error
    except (Exception, SystemExit) as error:
        raise _not_imported(module_name, error) from error
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise DoctorError(f"the module {module_name!r} has no {attribute!r}") from None
    if not callable(found):
        raise DoctorError(f"{name} is no ASGI app but {type(found).__name__!r}")
    return _look_inside(found)


def _not_imported(module_name: str, error: BaseException) -> DoctorError:
    return DoctorError(
        f"the module {module_name!r} cannot be imported: {type(error).__name__}: {error}"
    )


def _look_inside(app: App) -> Loaded:
    """Find an AtomicBatch among the app and what it wraps."""
    one: Any = app
    while one is not None:
        if isinstance(one, AtomicBatch):
            return Loaded(app, one.app, one.transaction)
        # Starlette and FastAPI make their middleware when the first request comes.
        for middleware in getattr(one, "user_middleware", ()):
            if getattr(middleware, "cls", None) is AtomicBatch:
                return Loaded(app, one, middleware.kwargs["transaction"])
        one = getattr(one, "app", None)
    return Loaded(app, app, None)


@asynccontextmanager
async def running(app: App) -> AsyncIterator[dict[str, Any]]:
    """
    Start an app up, and shut it down at the end of the block; gives the state of its lifespan.

    An app that knows no lifespan is used as it is, as servers do.

    Raises:
        DoctorError: It failed to start, or raised while it shut down.
    """
    lifespan = _Lifespan(app)
    await lifespan.start()
    try:
        yield lifespan.state
    finally:
        await lifespan.stop()


class _Lifespan:
    """The server's side of ASGI's lifespan protocol."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.state: dict[str, Any] = {}
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None]

    async def start(self) -> None:
        scope: Scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        self._task = asyncio.create_task(self._run(scope))
        try:
            await self._say("startup")
        except BaseException:
            await self._end()
            raise

    async def stop(self) -> None:
        try:
            await self._say("shutdown")
        finally:
            await self._end()

    async def _end(self) -> None:
        """Whatever the app raises now, it has told us already: nobody is to log it."""
        # It has the chance to end by itself, as what failed raises next.
        await asyncio.wait((self._task,), timeout=_MOST_SECONDS_TO_END)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, scope: Scope) -> None:
        await self._app(scope, self._to_app.get, self._from_app.put)

    async def _say(self, what: str) -> None:
        self._to_app.put_nowait({"type": f"lifespan.{what}"})
        answer = asyncio.create_task(self._from_app.get())
        await asyncio.wait((answer, self._task), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            # It has raised or returned: it takes no lifespan, or has no more to say.
            answer.cancel()
            return
        message = answer.result()
        if message["type"] == f"lifespan.{what}.failed":
            lines = str(message.get("message", "")).strip().splitlines()
            raise DoctorError(f"the app's {what} failed: {lines[-1] if lines else 'no reason'}")
