"""The command: its report, its exit status, and what cannot be tried."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from atomicbatch.cli.commands import cli
from tests.doctor.conftest import Clinic

pytestmark = pytest.mark.slow


NOT_SEEN = (
    "safe: as far as can be seen from outside. Not seen: work that a handler puts into a queue "
    "for a thread or task that was running before its call."
)


TRIED = (
    "Tried with transaction=[SQLAlchemyTransaction(), DriverTransaction()]: the app has no batches "
    "of its own."
)


def doctor(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["doctor", *arguments])
    return done.exit_code, done.output


def test_the_report(clinic: Clinic) -> None:
    """One line each, several reasons below it, a summary; as a process of its own."""
    calls = clinic.http(
        "### Take one\nPOST /items\nContent-Type: application/json\n\n"
        '{"name": "{{name}}", "price": 6}',
        "POST /both",
        "POST /nothing",
        "POST /protected",
        "POST /raises",
    )
    options = ("--http", str(calls), "--var", "name=x")
    done = subprocess.run(
        [sys.executable, "-m", "atomicbatch", "doctor", f"{clinic.name}:app", *options],
        capture_output=True,
        timeout=60,
        check=False,
        text=True,
    )
    both = "sqlite:///one.sqlite, sqlite:///two.sqlite"
    nothing = "used no database that batches can see; does it use another driver?"
    protected = "answered 401 Unauthorized: sign in with --header 'Authorization: ...'"
    assert done.stdout.splitlines() == [
        "safe        POST /items  (Take one)",
        "unsafe      POST /both",
        f"            it changes 2 databases, which cannot be committed as one: {both}",
        f"            note: uses 2 databases: {both}",
        f"warning     POST /nothing: {nothing}",
        f"not judged  POST /protected: {protected}",
        "not judged  POST /raises: raised RuntimeError: boom",
        TRIED,
        "5 calls: 1 safe, 1 warning, 1 unsafe, 2 not judged",
        NOT_SEEN,
    ]
    assert (done.returncode, done.stderr) == (1, "")
    assert clinic.stored() == ["before", "before"]


def test_nothing_unsafe_is_status_0(clinic: Clinic) -> None:
    """Also with warnings, and with what is not judged."""
    calls = clinic.http("POST /nothing", "POST /strict", "POST /protected")
    status, printed = doctor(
        f"{clinic.name}:app", "--http", str(calls), "--header", "x-key: secret"
    )
    assert status == 0
    assert printed.splitlines()[-2] == "3 calls: 1 safe, 1 warning, 0 unsafe, 1 not judged"


def test_nothing_judged_is_status_2(clinic: Clinic) -> None:
    """It must not look like a pass; the report says what may be wrong."""
    calls = clinic.http("POST /protected", "GET /not-there")
    status, printed = doctor(f"{clinic.name}:app", "--http", str(calls))
    assert status == 2
    summary, hint = printed.splitlines()[-2:]
    assert summary == "2 calls: 0 safe, 0 warning, 0 unsafe, 2 not judged"
    assert hint.startswith("No call was judged. If all of them answered 404")
    assert "--prefix" in hint


MOUNTED = """
from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware

inner = FastAPI({options})

@inner.get("/items")
def items():
    return []

@inner.get("/items/{{number}}")
def item(number: int):
    return number

app = FastAPI()
{mount}
"""
OUTER = {
    "the outer app gives the document of the inner one": ("", "app.openapi = inner.openapi"),
    "both have one": ("", ""),
    "the inner app names its server": ("servers=[{'url': 'http://a.example/api'}]", ""),
}


@pytest.mark.parametrize("case", OUTER)
@pytest.mark.parametrize("wrapped", ["inner", "GZipMiddleware(inner)"])
def test_an_app_below_a_prefix(case: str, wrapped: str, write_app: Callable[[str], str]) -> None:
    """The prefix is found in the routes of the outer app."""
    options, more = OUTER[case]
    mount = f"app.mount('/api', {wrapped})\n{more}"
    name = write_app(MOUNTED.format(options=options, mount=mount))
    status, printed = doctor(f"{name}:app")
    assert printed.splitlines()[:2] == [
        "safe        GET /api/items",
        "safe        GET /api/items/{number}",
    ]
    assert status == 0


def test_a_prefix_that_is_given(write_app: Callable[[str], str]) -> None:
    """Where nobody can know it: an app that looks like no other."""
    name = write_app(MOUNTED.format(options="", mount="app.mount('/api', inner)") + _CLOSED)
    status, printed = doctor(f"{name}:closed")
    assert (status, "--prefix" in printed) == (2, True)
    status, printed = doctor(f"{name}:closed", "--prefix", "/api")
    assert printed.splitlines()[0] == "safe        GET /api/items"
    assert status == 0


_CLOSED = """
import json

async def closed(scope, receive, send):
    if scope.get("path") == "/openapi.json":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": json.dumps(inner.openapi()).encode()})
    else:
        await app(scope, receive, send)
"""


def test_a_broken_document(write_app: Callable[[str], str]) -> None:
    """What is broken is named, and the way to go on; a file of calls does without the document."""
    name = write_app(_BROKEN)
    status, printed = doctor(f"{name}:whole")
    assert (status, "KeyError: 'gone'" in printed, "--http" in printed) == (2, True, True)
    with open("calls.http", "w") as file:
        file.write("GET /good")
    status, printed = doctor(f"{name}:whole", "--http", "calls.http")
    assert (status, printed.splitlines()[0]) == (0, "safe        GET /good")
    status, printed = doctor(f"{name}:partly")
    good, bad, *_ = printed.splitlines()
    assert (status, good) == (0, "safe        GET /good")
    assert bad.startswith("not judged  GET /bad: its description in the OpenAPI document is broken")


_BROKEN = """
from fastapi import FastAPI

whole, partly = FastAPI(), FastAPI()

@whole.get("/good")
@partly.get("/good")
def good():
    return 1

@partly.get("/bad")
def bad():
    return 1

def broken():
    raise KeyError("gone")

whole.openapi = broken
made = FastAPI.openapi(partly)
made["paths"]["/bad"]["get"]["parameters"] = [3, {"in": "query", "required": True, "content": 7}]
partly.openapi = lambda: made
"""


def test_a_post_that_only_reads(write_app: Callable[[str], str]) -> None:
    """It has used an engine and changed nothing: there is nothing to warn of."""
    name = write_app(_READS)
    assert doctor(f"{name}:app")[1].splitlines()[0] == "safe        POST /search"


_READS = """
import sqlalchemy as sa
from fastapi import FastAPI

engine = sa.create_engine("sqlite:///reads.sqlite")
app = FastAPI()

@app.post("/search")
def search():
    with engine.connect() as connection:
        return connection.execute(sa.text("SELECT 1")).scalar()
"""


def test_an_app_that_knows_nothing_of_batches(
    write_app: Callable[[str], str], tmp_path: Path
) -> None:
    """Its background tasks do not run, and its threads are part of its calls all the same."""
    name = write_app(_PLAIN)
    done = subprocess.run(
        [sys.executable, "-m", "atomicbatch", "doctor", f"{name}:app"],
        capture_output=True,
        timeout=60,
        check=False,
        text=True,
    )
    first, second, third, *rest = done.stdout.splitlines()
    assert third == "safe        POST /kept"
    assert rest[0] == (
        "Tried with transaction=DriverTransaction(): the app has no batches of its own."
    )
    assert first == "safe        GET /later"
    assert second.startswith("warning     GET /thread: makes the database plain.sqlite (refused")
    assert not (tmp_path / "plain.sqlite").exists()
    assert not (tmp_path / "later").exists()
    with closing(sqlite3.connect(tmp_path / "kept.sqlite")) as connection:
        assert connection.execute("SELECT * FROM item").fetchall() == []


_PLAIN = """
import sqlite3, threading
from pathlib import Path
from fastapi import BackgroundTasks, FastAPI

app = FastAPI()

@app.get("/later")
def later(tasks: BackgroundTasks):
    tasks.add_task(Path("later").touch)

@app.get("/thread")
def thread():
    def use():
        try:
            sqlite3.connect("plain.sqlite")
        except sqlite3.OperationalError:
            pass
    one = threading.Thread(target=use)
    one.start()
    one.join()

# Before anybody has imported an adapter.
kept = sqlite3.connect("kept.sqlite", check_same_thread=False)
kept.execute("CREATE TABLE item (name)")

@app.post("/kept")
def use_kept():
    kept.execute("INSERT INTO item VALUES ('kept')")
    kept.commit()
"""


def test_what_cannot_be_tried_is_status_2(write_app: Callable[[str], str]) -> None:
    """No module, no attribute, no document, no operations."""
    assert doctor("nowhere_at_all:app") == (
        2,
        "Error: there is no module 'nowhere_at_all' (in 'nowhere_at_all:app')\n",
    )
    name = write_app("from fastapi import FastAPI\napp = FastAPI()")
    status, printed = doctor(f"{name}:other")
    assert (status, f"the module '{name}' has no 'other'" in printed) == (2, True)
    status, printed = doctor(f"{name}:app")
    assert (status, "nothing to try" in printed) == (2, True)
    assert doctor(f"{name}:app", "--http", "missing.http")[0] == 2
