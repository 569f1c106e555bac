"""Readiness and health: told within a second or so, whatever the database does."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.proxies import proxied
from tests.server.conftest import Serve
from tests.server.served import Served, make_shop

# A second, as the docs say, and what a busy machine adds; without a bound it would be 30 or more.
SECONDS = 1 + 5


def test_a_database_that_answers_is_ready(shop: Served) -> None:
    """200 for GET and HEAD; other methods are not for it."""
    assert shop.client.get("/readyz").json() == {"status": "ready"}
    assert shop.client.head("/readyz").status_code == 200
    assert shop.client.post("/readyz").status_code == 405


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
@pytest.mark.parametrize("how", ["stop", "silence", "refuse"])
def test_a_database_that_does_not_answer_is_not_ready(
    request: pytest.FixtureRequest, serve: Serve, kind: str, how: str
) -> None:
    """503 in time, for many who ask at once too; /healthz stays 200; then it is ready again."""
    url = request.getfixturevalue(f"{kind}_url")
    make_shop(url)
    with proxied(url) as (proxy, through):
        served = serve(through)
        assert served.client.get("/readyz").status_code == 200
        getattr(proxy, how)()
        if how != "stop":
            proxy.drop()

        def ask(_: int) -> tuple[int, float]:
            began = time.monotonic()
            response = served.client.get("/readyz")
            return response.status_code, time.monotonic() - began

        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(ask, range(40)))
        assert {status for status, _ in answers} == {503}
        assert max(seconds for _, seconds in answers) < SECONDS
        response = served.client.get("/readyz")
        assert response.json()["type"] == "urn:atomicbatch:problem:database-busy"
        assert response.headers["retry-after"] == "1"
        assert served.client.get("/healthz").status_code == 200
        proxy.resume()
        deadline = time.monotonic() + 40
        while served.client.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline, "it is not ready again"
