"""The code in the how-to pages runs, and does what the pages say."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from atomicbatch.exchange import OptionNames
from tests.asgi.asking import ask, call
from tests.docs.blocks import Reader, lay_out

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"


def blocks_of(page: str) -> list[str]:
    return re.findall(
        r"^```python\n(.*?)^```", (HOW_TO / page).read_text("utf-8"), re.MULTILINE | re.DOTALL
    )


@pytest.fixture
def written() -> dict[str, Any]:
    """What the page on transactions defines."""
    names: dict[str, Any] = {}
    for block in blocks_of("write-a-transaction.md"):
        exec(block, names)
    return names


def test_the_page_s_adapter_passes_its_own_check(written: dict[str, Any], tmp_path: Path) -> None:
    """The adapter on the page keeps the contract, by the test on the page."""
    asyncio.run(written["test_transaction"](tmp_path))


def test_the_page_s_adapter_serves_an_app(
    written: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both pages together make an app whose batches are atomic, in both forms shown."""
    path = tmp_path / "shop.sqlite"
    other = sqlite3.connect(path, isolation_level=None)
    other.executescript("PRAGMA journal_mode=WAL; CREATE TABLE item (name TEXT PRIMARY KEY)")

    async def add(request: Request) -> Response:
        name = (await request.body()).decode()
        try:
            written["connection"].get().execute("INSERT INTO item VALUES (?)", (name,))
        except sqlite3.IntegrityError:
            return JSONResponse({"taken": name}, 409)
        return JSONResponse({"name": name}, 201)

    routes = [Route("/items", add, methods=["POST"])]
    shop = ModuleType("shop")
    shop.app, shop.transaction = Starlette(routes=routes), written["SQLiteTransaction"](path)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "shop", shop)
    names: dict[str, Any] = {"routes": routes}
    paths = ["/v1/api/batch", "/batch"] + ["/v1/api/batch"] * 3
    # One is about handlers that use SQLAlchemy, which these do not.
    blocks = [block for block in blocks_of("mount-in-an-asgi-app.md") if "SQLAlchemy" not in block]
    assert len(blocks) == len(paths)
    for number, (block, batch_path) in enumerate(zip(blocks, paths, strict=True)):
        exec(block, names)
        pen, ink = (call("POST", "/items", b"%s-%d" % (w, number)) for w in (b"pen", b"ink"))
        answer = asyncio.run(ask(names["app"], pen, pen, path=batch_path))
        assert answer.outcome == "rolled-back; failed=2; status=409"
        assert json.loads(answer.replies[1].body) == {"taken": f"pen-{number}"}
        answer = asyncio.run(ask(names["app"], pen, ink, path=batch_path))
        assert answer.outcome == "committed"
        assert other.execute("SELECT count(*) FROM item").fetchone()[0] == 2 * (number + 1)
    other.close()


def test_every_option_is_documented() -> None:
    """The page lists each option of AtomicBatch."""
    page = (HOW_TO / "mount-in-an-asgi-app.md").read_text("utf-8")
    section = page.partition("\n## Options\n")[2].partition("\n## ")[0]
    listed = re.findall(r"^- \*\*`(\w+)`\*\*", section, re.MULTILINE)
    assert set(listed) == set(OptionNames.__annotations__)


@pytest.mark.slow
def test_checking_an_app(tmp_path: Path) -> None:
    """What the doctor says of the examples, ASGI, WSGI and Django, stands on its page."""
    lay_out(tmp_path, 8000)
    with closing(Reader(tmp_path, 8000)) as reader:
        assert reader.read((HOW_TO / "check-your-app.md").read_text("utf-8")) == 3
