"""The pages on frameworks say what the example programs do."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from flask import Flask
from litestar import Litestar
from quart import Quart

from atomicbatch import wsgi
from atomicbatch.asgi import AtomicBatch
from tests.docs.blocks import ROOT, Reader, blocks_of
from tests.examples.running import running

PAGES = {
    "fastapi.md": "fastapi-shop",
    "fastapi-async-postgresql.md": "fastapi-ledger",
    "litestar.md": "litestar-notes",
    "quart.md": "quart-todo",
    "flask.md": "flask-shop",
    "use-sqlite-libraries.md": "sqlite-notes",
    "django.md": "django-shop",
}
APPS: dict[str, Any] = {
    "fastapi": FastAPI,
    "litestar": Litestar,
    "quart": lambda: Quart("x"),
    "flask": lambda: Flask("x"),
    "use": FastAPI,
}


def text_of(page: str) -> str:
    return (ROOT / "docs" / "how-to" / page).read_text("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_do_what_it_says(
    page: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Every command prints what stands below it."""
    environment = {}
    if "postgresql" in page:
        url = request.getfixturevalue("postgresql_url")
        environment["DATABASE_URL"] = url.replace("postgresql:", "postgresql+asyncpg:")
    if page == "flask.md":
        # Flask-SQLAlchemy would put it beside the app.
        environment["DATABASE_URL"] = f"sqlite:///{tmp_path / 'shop.sqlite'}"
    with running(PAGES[page], tmp_path, **environment) as program:
        files = tmp_path / "files"
        shutil.copytree(program.folder, files, ignore=shutil.ignore_patterns("__pycache__"))
        for file in files.glob("*.http"):
            file.write_text(file.read_text().replace(":8000", f":{program.port}"))
        with contextlib.closing(Reader(files, program.port)) as reader:
            assert reader.read(text_of(page)) >= 2


@pytest.mark.parametrize("page", [page for page in PAGES if page != "django.md"])
def test_the_line_of_a_page_adds_batches(page: str) -> None:
    """The Python of a page works as it stands, on an app of the framework that it is about."""
    blocks = [block.text for block in blocks_of(text_of(page)) if block.kind == "python"]
    adding = [block for block in blocks if "Transaction(" in block and "AtomicBatch" in block]
    assert adding
    imports, _, _ = adding[0].rpartition("\n\n")
    for block in adding:
        app = APPS[page.removesuffix(".md").partition("-")[0]]()
        names = {"app": app}
        exec(imports + "\n" + block, names)
        if isinstance(app, Flask):
            assert isinstance(app.wsgi_app, wsgi.AtomicBatch)
            continue
        wrapped = isinstance(names["app"], AtomicBatch)
        assert wrapped or app.user_middleware[0].cls is AtomicBatch


@pytest.mark.parametrize("page", PAGES)
def test_a_page_leads_to_all_that_is_different(page: str) -> None:
    """Each page links the list of what handlers may notice, and a program that is there."""
    text = text_of(page)
    assert "(../explanation/handlers-in-a-batch.md)" in text
    assert f"(../../examples/{PAGES[page]})" in text
    program = "manage.py" if page == "django.md" else "app.py"
    assert (ROOT / "examples" / PAGES[page] / program).exists()
