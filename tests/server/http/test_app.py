"""Who asks is known for each call, before anything runs; today nobody signs in."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from atomicbatch.errors import AtomicBatchError
from atomicbatch.limits import Limits, ServerLimits
from atomicbatch.model import Call, Headers, Reply
from atomicbatch.server.database.opening import open_database
from atomicbatch.server.http.access_log import ENTRY, Entry
from atomicbatch.server.http.app import Application
from atomicbatch.server.http.serve import database_url as server_url
from atomicbatch.server.principal import Principal
from atomicbatch.server.rows.api import Api
from atomicbatch.wire.batch import write_batch
from tests.server.served import make_shop, seen

KEY = b"authorization"


class NotSignedInError(AtomicBatchError):
    status = 401
    slug = "malformed"


def fake_sign_in(headers: Headers) -> Principal | None:
    """Believe everybody but Mallory."""
    names = [value.decode() for name, value in headers if name == KEY]
    if "mallory" in names:
        raise NotSignedInError("this is not who it says")
    return Principal(names[0]) if names else None


class Asked:
    """
    The server's application, asked without a socket.

    Attributes:
        performed: The principal's name and the path of each call that was performed.
        entry: What the access log was told of the last request.
    """

    def __init__(self, application: Application) -> None:
        self._application = application
        self.performed: list[tuple[str | None, bytes]] = []
        self.entry = Entry()

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            scope[ENTRY] = self.entry = Entry()
            await self._application(scope, receive, send)

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as own:
                return await own.request(method, path, **options)

        return anyio.run(ask)

    def batch(self, *calls: Call, headers: dict[str, str]) -> httpx.Response:
        content_type, body = write_batch(calls)
        own = {"content-type": content_type.decode(), **headers}
        return self.send("POST", "/v1/api/batch", headers=own, content=body)


@pytest.fixture
def url(sqlite_path: Path) -> str:
    made = f"sqlite:///{sqlite_path}"
    make_shop(made)
    return made


@pytest.fixture
def asked(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    with closing(open_database(server_url(url), read_only=False)) as database:
        asked = Asked(Application(database, identify=fake_sign_in))
        perform = Api.perform

        def seen_performing(self: Api, call: Call, session: Any) -> Reply:
            who = session.principal
            asked.performed.append((who and who.name, call.path))
            return perform(self, call, session)

        monkeypatch.setattr(Api, "perform", seen_performing)
        yield asked


def test_options_lists_every_limit(url: str) -> None:
    """Those of one batch, and those of the whole server, as they are set (SPEC 2.8)."""
    limits, server_limits = Limits(max_calls=7), ServerLimits(max_connections=9)
    with closing(open_database(server_url(url), read_only=False)) as database:
        asked = Asked(Application(database, limits=limits, server_limits=server_limits))
        response = asked.send("OPTIONS", "/v1/api/batch")
    listed = response.json()["limits"]
    assert listed == dataclasses.asdict(limits) | dataclasses.asdict(server_limits)


def get(path: bytes, *headers: tuple[bytes, bytes]) -> Call:
    return Call("GET", path, b"", headers, b"")


def test_a_plain_request_is_asked_by_who_sent_it(asked: Asked) -> None:
    """What performs it and the access log know; without a name, nobody has signed in."""
    assert asked.send("GET", "/v1/api/items/1", headers={"authorization": "ann"}).status_code == 200
    assert asked.entry.principal == "ann"
    assert asked.send("GET", "/v1/api/items/2").status_code == 200
    assert asked.entry.principal is None
    assert asked.performed == [("ann", b"/v1/api/items/1"), (None, b"/v1/api/items/2")]


def test_each_call_of_a_batch_is_asked_by_its_own_principal(asked: Asked) -> None:
    """The batch's own, unless a call has an Authorization itself; equal calls count one by one."""
    one, two = b"/v1/api/items/1", b"/v1/api/items/2"
    calls = get(one), get(one, (KEY, b"bob")), get(one), get(two, (KEY, b"bob"))
    response = asked.batch(*calls, headers={"authorization": "ann"})
    assert response.headers["batch-outcome"] == "committed"
    assert asked.performed == [("ann", one), ("bob", one), ("ann", one), ("bob", two)]
    assert asked.entry.principal == "ann"


@pytest.mark.parametrize("outer", [True, False])
def test_who_is_not_who_it_says_stops_the_batch_before_it_begins(
    asked: Asked, url: str, outer: bool
) -> None:
    """401, not started: neither the calls before it nor those after it are performed."""
    body = b'{"sku": "milk", "quantity": 1}'
    create = Call("POST", b"/v1/api/items", b"", ((b"content-type", b"application/json"),), body)
    calls = (create,) if outer else (create, get(b"/v1/api/items/1", (KEY, b"mallory")))
    before = seen(url, "SELECT count(*) FROM items")
    response = asked.batch(*calls, headers={"authorization": "mallory" if outer else "ann"})
    assert (response.status_code, response.headers["batch-outcome"]) == (401, "not-started")
    assert asked.performed == []
    assert seen(url, "SELECT count(*) FROM items") == before
    refused = asked.send("GET", "/v1/api/items/1", headers={"authorization": "mallory"})
    assert refused.status_code == 401
