"""The command: its report, its exit status, and what cannot be tried."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from atomicbatch.cli import cli
from tests.doctor.conftest import Clinic

pytestmark = pytest.mark.slow


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
    nothing = "changed nothing that batches can see; does it use another driver or engine?"
    protected = "answered 401 Unauthorized: sign in by --header 'Authorization: ...'"
    assert done.stdout.splitlines() == [
        "safe        POST /items  (Take one)",
        "unsafe      POST /both",
        f"            it changes 2 databases, which cannot be committed as one: {both}",
        f"            note: uses 2 engines: {both}",
        f"warning     POST /nothing: {nothing}",
        f"not judged  POST /protected: {protected}",
        "not judged  POST /raises: raised RuntimeError: boom",
        "5 calls: 1 safe, 1 warning, 1 unsafe, 2 not judged",
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
    assert printed.splitlines()[-1] == "3 calls: 1 safe, 1 warning, 0 unsafe, 1 not judged"


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
    first, second, _ = done.stdout.splitlines()
    assert first == "safe        GET /later"
    assert second.startswith("unsafe      GET /thread: uses SQLite's plain.sqlite itself")
    assert not (tmp_path / "later").exists()


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
