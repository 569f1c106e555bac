"""Each kind of handler gets its verdict, and nothing of what it did is stored."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from http import HTTPStatus
from pathlib import Path

import pytest

from atomicbatch.doctor import Verdict
from tests.doctor.conftest import Clinic, make_clinic

pytestmark = pytest.mark.slow
SAFE, WARNING, UNSAFE = Verdict.SAFE, Verdict.WARNING, Verdict.UNSAFE
NOT_JUDGED = Verdict.NOT_JUDGED
Found = dict[str, tuple[Verdict, list[str]]]


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    """A service on loopback that handlers might talk to."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        server.settimeout(0)
        yield server


@pytest.fixture(scope="module")
def port(listener: socket.socket) -> str:
    return str(listener.getsockname()[1])


@pytest.fixture(scope="module")
def examined(tmp_path_factory: pytest.TempPathFactory, port: str) -> tuple[Clinic, Found]:
    """The clinic, and what there is to say about it; both databases are as before."""
    with pytest.MonkeyPatch.context() as patch:
        clinic = make_clinic(tmp_path_factory.mktemp("clinic"), patch)
        found = clinic.examine(headers={"Port": port})
    assert clinic.stored() == ["before", "before"]
    return clinic, found


@pytest.fixture
def found(examined: tuple[Clinic, Found]) -> Found:
    """What there is to say about the clinic."""
    return examined[1]


def test_every_handler_has_its_verdict(examined: tuple[Clinic, Found]) -> None:
    """All of it at a glance; the app was started up and shut down."""
    clinic, found = examined
    assert {operation: verdict.value for operation, (verdict, _) in found.items()} == {
        "GET /items": "safe",
        "POST /items": "safe",
        "PUT /items/{name}": "safe",
        "POST /raw": "safe",
        "POST /direct": "unsafe",
        "POST /factory": "unsafe",
        "GET /both": "safe",
        "POST /both": "unsafe",
        "GET /outward": "not judged",
        "POST /outward": "unsafe",
        "POST /program": "unsafe",
        "POST /blocking": "safe",
        "POST /strict": "not judged",
        "POST /protected": "not judged",
        "POST /later": "safe",
        "POST /raises": "not judged",
        "POST /nothing": "warning",
        "POST /file": "unsafe",
        "POST /driver": "safe",
        "POST /ends": "safe",
        "POST /restarts": "unsafe",
        "GET /opened": "safe",
        "POST /opened": "safe",
        "POST /leaves": "warning",
        "POST /unfinished": "warning",
        "POST /thread": "warning",
    }
    assert clinic.module.started == ["up", "down"]


def test_what_is_safe_needs_no_reason(found: Found) -> None:
    """Sync and async handlers that commit, and one that reads."""
    for operation in ("POST /items", "GET /items", "PUT /items/{name}", "POST /later"):
        assert found[operation] == (SAFE, [])


def test_sqlite_without_an_engine(found: Found) -> None:
    """It takes part, opened by the handler or before; but not past sqlite3.connect()."""
    for operation in ("POST /raw", "POST /opened", "GET /opened"):
        assert found[operation] == (SAFE, [])
    for operation in ("POST /direct", "POST /factory"):
        verdict, (reason,) = found[operation]
        assert verdict is UNSAFE
        assert reason.startswith("uses SQLite's one.sqlite by a connection that takes no part in ")


def test_two_engines(found: Found) -> None:
    """Both are named; to change both is unsafe, to read both is not."""
    both = "sqlite:///one.sqlite, sqlite:///two.sqlite"
    note = f"note: uses 2 databases: {both}"
    assert found["GET /both"] == (SAFE, [note])
    reasons = [f"it changes 2 databases, which cannot be committed as one: {both}", note]
    assert found["POST /both"] == (UNSAFE, reasons)


def test_talking_to_others(found: Found, port: str, listener: socket.socket) -> None:
    """It is refused; from a GET it is no more than a warning."""
    talks = f"talks to 127.0.0.1:{port} (refused here, see --allow); a rollback does not undo that"
    assert found["POST /outward"] == (UNSAFE, [talks])
    verdict, reasons = found["GET /outward"]
    assert (verdict, reasons[0]) == (NOT_JUDGED, talks)
    assert "ConnectionRefusedError" in reasons[1]
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_talking_to_those_that_are_allowed(
    clinic: Clinic, port: str, listener: socket.socket
) -> None:
    """--allow lets the connection through, and a note remains."""
    address = f"127.0.0.1:{port}"
    calls = clinic.http(f"POST /outward\nport: {port}")
    found = clinic.examine(http_file=calls, allowed=[address])
    note = f"note: talks to {address}, which is allowed; a rollback does not undo that"
    assert found == {"POST /outward": (SAFE, [note])}
    listener.accept()[0].close()


def test_a_program_is_not_started(examined: tuple[Clinic, Found]) -> None:
    """A program could do anything."""
    clinic, found = examined
    assert found["POST /program"][1][0].startswith("starts the program ")
    assert not (clinic.folder / "program").exists()


def test_a_sync_engine_in_an_async_handler(found: Found) -> None:
    """A sync engine on the event loop is no reason to refuse a handler."""
    assert found["POST /blocking"] == (SAFE, [])


def test_a_refusal_is_no_verdict(found: Found) -> None:
    """The status is told, and what to do."""
    answered = f"answered 422 {HTTPStatus(422).phrase}"
    assert found["POST /strict"][1] == [
        f"{answered}: put a call that it accepts into an .http file (--http)"
    ]
    assert found["POST /protected"][1] == [
        "answered 401 Unauthorized: sign in with --header 'Authorization: ...'"
    ]
    assert found["POST /raises"][1] == ["raised RuntimeError: boom"]


def test_signing_in_by_a_header(clinic: Clinic) -> None:
    """--header is in every call that is made up, in place of what was made up."""
    found = clinic.examine(headers={"X-Key": "secret"})
    assert found["POST /protected"] == (SAFE, [])
    assert clinic.stored() == ["before", "before"]


def test_background_tasks_do_not_run(examined: tuple[Clinic, Found]) -> None:
    """They are for after COMMIT, which never comes."""
    clinic, found = examined
    assert found["POST /later"] == (SAFE, [])
    assert not (clinic.folder / "later").exists()


def test_a_change_that_nobody_sees(found: Found) -> None:
    """2xx for a POST that used no database."""
    assert found["POST /nothing"] == (
        WARNING,
        ["used no database that batches can see; does it use another driver?"],
    )


def test_a_file_is_not_written(examined: tuple[Clinic, Found]) -> None:
    """It would stay; tests/doctor/test_files.py has the other changes of files."""
    clinic, found = examined
    (file,) = found["POST /file"][1]
    assert file == "writes written (refused here, see --allow); a rollback does not undo that"
    assert not (clinic.folder / "written").exists()


def test_ending_the_transaction_by_the_driver(examined: tuple[Clinic, Found]) -> None:
    """A driver's own COMMIT is as virtual as the session's; what cannot be is refused."""
    clinic, found = examined
    assert found["POST /ends"] == (SAFE, [])
    verdict, (reason,) = found["POST /restarts"]
    assert verdict is UNSAFE
    assert reason.startswith("a handler uses backup() over a database of the batch")
    assert clinic.stored() == ["before", "before"]


def test_what_a_call_leaves_running(examined: tuple[Clinic, Found]) -> None:
    """A task is cancelled; a thread can store nothing any more."""
    clinic, found = examined
    (reason,) = found["POST /leaves"][1]
    assert reason.startswith("leaves a task running (leaves.<locals>.late)")
    (reason,) = found["POST /unfinished"][1]
    assert reason.startswith("leaves a task running (unfinished.<locals>.late)")
    (reason,) = found["POST /thread"][1]
    assert reason.startswith("leaves a thread running (thread.<locals>.late)")
    assert clinic.module.cancelled == [True, True]
    (refusal,) = clinic.module.refusals
    assert refusal.startswith("the batch of this call was rolled back, and what it has left runn")


def test_an_app_that_has_batches_already(clinic: Clinic) -> None:
    """Its transaction is used; what it leaves outside is rolled back here all the same."""
    found = clinic.examine("inside")
    (reason,) = found["POST /restarts"][1]
    assert reason.startswith("a handler uses backup of the driver's connection")
    assert clinic.module.refusals == ["what a call has left running still uses the database"]
    assert found["POST /both"] == (
        SAFE,
        [
            "note: uses 2 databases: sqlite:///one.sqlite, sqlite:///two.sqlite",
            (
                "note: sqlite:///two.sqlite is outside of batches; "
                "what is done there is not rolled back"
            ),
        ],
    )
    assert clinic.stored() == ["before", "before"]


def test_sqlite_beside_engines(clinic: Clinic) -> None:
    """Where the app's batches are for engines alone: a write is refused, and a read is told."""
    calls = clinic.http("POST /raw", "POST /opened", "GET /opened")
    found = clinic.examine("inside", http_file=calls)
    verdict, (reason,) = found.pop("GET /opened")
    assert verdict is WARNING
    assert reason.startswith("reads from one.sqlite by sqlite3 by a connection that takes no part")
    for verdict, (reason, *_) in found.values():
        assert verdict is UNSAFE
        assert reason.startswith("a handler writes (INSERT) to one.sqlite by sqlite3, at ")
    assert clinic.stored() == ["before", "before"]


def test_an_app_with_batches_as_a_middleware(clinic: Clinic) -> None:
    """Its transaction is used as well: this one was given other engines."""
    found = clinic.examine("behind")
    assert found["PUT /items/{name}"] == (SAFE, [])
    (reason,) = found["POST /items"][1]
    assert "SQLAlchemyTransaction was not given" in reason


def test_other_threads_do_not_count(clinic: Clinic) -> None:
    """What goes on beside a call is neither refused nor reported."""
    found = clinic.examine("busy", http_file=clinic.http("POST /nothing"))
    assert found["POST /nothing"][0] is WARNING
    assert clinic.module.counted == ["opened"]


NOTES = """
import sqlite3
from atomicbatch.asgi import AtomicBatch
from atomicbatch.transactions import DriverTransaction

async def notes(scope, receive, send):
    assert scope["type"] == "http"
    with sqlite3.connect("notes.sqlite") as connection:
        connection.execute("INSERT INTO note VALUES ('x')")
        print(connection.execute("SELECT count(*) FROM note").fetchone()[0], "seen")
    connection.close()
    await send({"type": "http.response.start", "status": 201})
    await send({"type": "http.response.body", "body": b""})

app = AtomicBatch(notes, transaction=DriverTransaction())
"""
# An environment without SQLAlchemy.
WITHOUT = """
import sys
sys.modules["sqlalchemy"] = None
from atomicbatch.cli.commands import cli
cli()
"""


def test_an_app_with_drivers_own_connections(tmp_path: Path) -> None:
    """Its handlers use sqlite3 directly, as they may; SQLAlchemy need not be installed."""
    (tmp_path / "notes.py").write_text(NOTES)
    (tmp_path / "calls.http").write_text("POST /notes\n")
    with closing(sqlite3.connect(tmp_path / "notes.sqlite")) as connection:
        connection.execute("CREATE TABLE note (text)")
        told = subprocess.run(
            [sys.executable, "-c", WITHOUT, "doctor", "notes:app", "--http", "calls.http"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (told.stderr, told.returncode) == ("", 0)
        assert told.stdout.splitlines()[:2] == ["1 seen", "safe        POST /notes"]
        assert connection.execute("SELECT * FROM note").fetchall() == []
