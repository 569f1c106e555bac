"""Runs functions as the calls of one batch that joins the drivers' connections."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from atomicbatch import Limits
from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions import DriverTransaction
from tests.asgi.asking import Answer, ask, call

Act = Callable[[], Any]


def app_of(*acts: Act) -> Starlette:
    """An app with a route for each; sync ones run in threads."""

    def endpoint(act: Act) -> Any:
        if inspect.iscoroutinefunction(act):

            async def answer(_: Request) -> Response:
                return JSONResponse(await act(), 201)

            return answer

        def answer_in_thread(_: Request) -> Response:
            return JSONResponse(act(), 201)

        return answer_in_thread

    return Starlette(
        routes=[
            Route(f"/{number}", endpoint(act), methods=["POST"]) for number, act in enumerate(acts)
        ]
    )


async def batch_of(*acts: Act, seconds: float = 30, outside: tuple[str, ...] = ()) -> Answer:
    """Each is one call."""
    limits = Limits(timeout_seconds=seconds)
    transaction = DriverTransaction(outside=outside)
    app = AtomicBatch(app_of(*acts), transaction=transaction, limits=limits)
    return await ask(app, *(call("POST", f"/{number}") for number in range(len(acts))))


def run_batch(*acts: Act, seconds: float = 30, outside: tuple[str, ...] = ()) -> Answer:
    """Likewise, on an event loop of its own."""
    return asyncio.run(batch_of(*acts, seconds=seconds, outside=outside))
