"""Odd views: responses of all kinds, what outlives a request, threads and tasks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async
from django.db import IntegrityError, connection, transaction
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    HttpResponseNotModified,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import get_script_prefix, get_urlconf, path, reverse, set_urlconf
from django.utils import timezone, translation
from django.views.decorators.csrf import csrf_exempt

from tests.django.shop.models import Item

LOG: list[Any] = []
"""What the views want to tell the tests."""


def empty(request: HttpRequest) -> HttpResponse:
    return HttpResponse(status=204)


def not_modified(request: HttpRequest) -> HttpResponse:
    return HttpResponseNotModified()


def stream(request: HttpRequest) -> StreamingHttpResponse:
    """Write while the response is read; ``?late`` raises in the middle of it."""

    def pieces() -> Iterator[bytes]:
        for name in ("a", "b"):
            Item.objects.create(name=f"stream {name}")
            yield name.encode()
            if "late" in request.GET:
                raise RuntimeError("late")

    return StreamingHttpResponse(pieces())


async def async_stream(request: HttpRequest) -> StreamingHttpResponse:
    """The same, async."""

    async def pieces() -> AsyncIterator[bytes]:
        for name in ("a", "b"):
            await Item.objects.acreate(name=f"stream {name}")
            yield name.encode()
            if "late" in request.GET:
                raise RuntimeError("late")

    return StreamingHttpResponse(pieces())


def file(request: HttpRequest) -> FileResponse:
    """Send a file of 200 kB, whose closing is noted."""
    opened = tempfile.TemporaryFile()  # noqa: SIM115  # the response closes it
    opened.write(bytes(range(256)) * 800)
    opened.seek(0)
    LOG.append(opened)
    return FileResponse(opened, filename="bytes.bin")


def leave_behind(request: HttpRequest) -> HttpResponse:
    """Change what belongs to the thread, or to the context, and leave it so."""
    translation.activate("de")
    timezone.activate("Asia/Tokyo")
    set_urlconf("tests.django.shop.odd")
    return HttpResponse("left")


def tell(request: HttpRequest) -> HttpResponse:
    """Tell what is in force."""
    told = {
        "language": translation.get_language(),
        "zone": timezone.get_current_timezone_name(),
        "urlconf": get_urlconf(),
        "prefix": get_script_prefix(),
        "reversed": reverse("tell"),
        "thread": threading.get_ident(),
        "queries": len(connection.queries),
    }
    return JsonResponse(told)


def closes_last(request: HttpRequest) -> HttpResponse:
    """Write, and close the connection."""
    Item.objects.create(name="closed")
    connection.close()
    return HttpResponse("closed")


def hooks(request: HttpRequest) -> HttpResponse:
    """Put something off until COMMIT, in and outside of a block."""
    name = request.GET["name"]
    with transaction.atomic():
        Item.objects.create(name=name)
        transaction.on_commit(lambda: LOG.append((f"{name} in", threading.get_ident())))
    transaction.on_commit(lambda: LOG.append((f"{name} out", threading.get_ident())))
    if "raise" in request.GET:
        transaction.on_commit(lambda: 1 / 0)
        transaction.on_commit(lambda: LOG.append((f"{name} after", threading.get_ident())))
    return HttpResponse("put off")


@transaction.atomic(durable=True)
def durable(request: HttpRequest) -> HttpResponse:
    Item.objects.create(name="durable")
    return HttpResponse("written")


def breaks(request: HttpRequest) -> HttpResponse:
    """Write twice what can be there once, outside of a block, and go on."""
    Item.objects.create(name="broken")
    with contextlib.suppress(IntegrityError):
        Item.objects.create(name="broken")
    return HttpResponse("went on")


async def insensitive(request: HttpRequest) -> HttpResponse:
    """Write in a thread of another kind."""
    await sync_to_async(Item.objects.create, thread_sensitive=False)(name="insensitive")
    return HttpResponse("written")


async def gather(request: HttpRequest) -> HttpResponse:
    """Write three rows at once."""
    await asyncio.gather(*(Item.objects.acreate(name=f"gathered {n}") for n in range(3)))
    return HttpResponse("written")


def own_thread(request: HttpRequest) -> HttpResponse:
    """Write in a thread of its own, and wait for it."""

    def work() -> None:
        Item.objects.create(name="threaded")
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return HttpResponse("written")


def exits(request: HttpRequest) -> HttpResponse:
    """Write, and end the process."""
    Item.objects.create(name="exited")
    raise SystemExit(3)


async def hangs(request: HttpRequest) -> HttpResponse:
    """Write, say so, and wait until somebody says to go on; say so too when it is cancelled."""
    await Item.objects.acreate(name="hung")
    _signal("hanging").touch()
    try:
        while not _signal("go on").exists():
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        _signal("cancelled").touch()
        raise
    return HttpResponse("went on")


def sync_hangs(request: HttpRequest) -> HttpResponse:
    """The same, in a thread, which nobody can cancel."""
    Item.objects.create(name="hung")
    _signal("hanging").touch()
    while not _signal("go on").exists():
        time.sleep(0.02)
    Item.objects.create(name="went on")
    return HttpResponse("went on")


def _signal(name: str) -> Path:
    """A file by which the views of a server and a test tell each other something."""
    return Path(os.environ["SHOP_SIGNALS"]) / name


def slow(request: HttpRequest) -> HttpResponse:
    """Take half a second."""
    time.sleep(0.5)
    return HttpResponse("at last")


def redirect(request: HttpRequest) -> HttpResponse:
    return HttpResponse(status=302, headers={"Location": "/items"})


_VIEWS = {
    "empty": empty,
    "not-modified": not_modified,
    "stream": stream,
    "async-stream": async_stream,
    "file": file,
    "leave-behind": leave_behind,
    "closes-last": closes_last,
    "hooks": hooks,
    "durable": durable,
    "breaks": breaks,
    "insensitive": insensitive,
    "gather": gather,
    "own-thread": own_thread,
    "exits": exits,
    "hangs": hangs,
    "sync-hangs": sync_hangs,
    "redirect": redirect,
    "slow": slow,
}
urlpatterns = [path(name, csrf_exempt(view)) for name, view in _VIEWS.items()]
urlpatterns.append(path("tell", tell, name="tell"))
