"""Loading: ``module:attribute`` -> the app and the transaction that it has; an app's lifespan."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from atomicbatch import asgi, wsgi
from atomicbatch.asgi.types import App, Message, Scope
from atomicbatch.doctor.interfaces import Interface, interface_of, is_django, layers

# For an app that has said that its lifespan is over. Most end at once.
_MOST_SECONDS_TO_END = 1


class DoctorError(Exception):
    """The app cannot be examined; the message says why."""


class Loaded(NamedTuple):
    """An app, and what is known of it before it starts."""

    outermost: Any
    """What a server would run."""
    inner: Any
    """What the calls of a batch go to."""
    transaction: Any | None
    """The transaction of the app's own AtomicBatch; None if it has none."""
    interface: Interface = Interface.ASGI
    is_project: bool = False
    """It is a Django project, whose calls start in the middle of its middleware."""


def load_app(name: str) -> Loaded:
    """
    Import an app.

    Args:
        name: ``module:attribute``, as servers take it; the current folder comes first.

    Raises:
        DoctorError: There is no such app.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise DoctorError(f"{name!r} is not of the form MODULE:APP, like shop.main:app")
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
    found = _found(found, module_name, attribute)
    if not callable(found):
        raise DoctorError(
            f"{name} is not an ASGI app or a WSGI app, but of type {type(found).__name__!r}"
        )
    return _look_inside(found)


def _found(module: Any, module_name: str, attribute: str) -> Any:
    """Find an attribute of a module; ``create_app()`` is called, as gunicorn does it."""
    found = module
    path = attribute.removesuffix("()")
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise DoctorError(f"the module {module_name!r} has no {path!r}") from None
    if path == attribute:
        return found
    try:
        return found()
    except (Exception, SystemExit) as error:
        raise DoctorError(
            f"{module_name}:{attribute} has failed: {type(error).__name__}: {error}"
        ) from error


def _not_imported(module_name: str, error: BaseException) -> DoctorError:
    return DoctorError(
        f"the module {module_name!r} cannot be imported: {type(error).__name__}: {error}"
    )


def _look_inside(app: Any) -> Loaded:
    """Look for an AtomicBatch in the app and in what it wraps."""
    interface = interface_of(app)
    for one in layers(app):
        if isinstance(one, asgi.AtomicBatch | wsgi.AtomicBatch):
            return Loaded(app, one.app, one.transaction, interface)
        # Starlette and FastAPI construct their middleware at the first request.
        for middleware in getattr(one, "user_middleware", ()):
            if getattr(middleware, "cls", None) is asgi.AtomicBatch:
                return Loaded(app, one, middleware.kwargs["transaction"], interface)
    return Loaded(app, app, None, interface, any(is_django(one) for one in layers(app)))


@asynccontextmanager
async def running(app: App) -> AsyncIterator[dict[str, Any]]:
    """
    Start an app, and shut it down at the end of the block. The block gets its lifespan's state.

    An app without a lifespan is used as it is, as servers do.

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
        """End the task. What the app raises now, it has already told us: nobody is to log it."""
        # It may end by itself: an app that has failed raises next.
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
            # It has raised or returned: it has no lifespan, or is done with it.
            answer.cancel()
            return
        message = answer.result()
        if message["type"] == f"lifespan.{what}.failed":
            lines = str(message.get("message", "")).strip().splitlines()
            raise DoctorError(f"the app's {what} failed: {lines[-1] if lines else 'no reason'}")
