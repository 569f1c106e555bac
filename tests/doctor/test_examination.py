"""Each kind of handler gets its verdict, and nothing of what it did is stored."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from atomicbatch.doctor import Verdict
from tests.cli.running import run
from tests.doctor.conftest import Clinic

pytestmark = pytest.mark.slow
SAFE, WARNING, UNSAFE = Verdict.SAFE, Verdict.WARNING, Verdict.UNSAFE
NOT_JUDGED = Verdict.NOT_JUDGED
Found = dict[str, tuple[Verdict, list[str]]]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A service on loopback that handlers might talk to."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        server.settimeout(0)
        yield server


@pytest.fixture
def port(listener: socket.socket) -> str:
    return str(listener.getsockname()[1])


@pytest.fixture
def found(clinic: Clinic, port: str) -> Found:
    """What there is to say about the clinic; both databases are as before."""
    found = clinic.examine(headers={"Port": port})
    assert clinic.stored() == ["before", "before"]
    return found


def test_every_handler_has_its_verdict(found: Found, clinic: Clinic) -> None:
    """All of it at a glance; the app was started up and shut down."""
    assert {operation: verdict.value for operation, (verdict, _) in found.items()} == {
        "GET /items": "safe",
        "POST /items": "safe",
        "PUT /items/{name}": "safe",
        "POST /raw": "unsafe",
        "POST /direct": "unsafe",
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
        "GET /opened": "unsafe",
        "POST /opened": "unsafe",
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
    """Opened by the handler, or open before; to read is bad enough, as it sees no batch."""
    for operation in ("POST /raw", "POST /direct", "POST /opened", "GET /opened"):
        (reason,) = found[operation][1]
        assert reason.startswith("uses SQLite's one.sqlite directly (refused here)")


def test_two_engines(found: Found) -> None:
    """Both are named; to change both is unsafe, to read both is not."""
    both = "sqlite:///one.sqlite, sqlite:///two.sqlite"
    note = f"note: uses 2 engines: {both}"
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


def test_a_program_is_not_started(found: Found, clinic: Clinic) -> None:
    """A program could do anything."""
    assert found["POST /program"][1][0].startswith("starts the program ")
    assert not (clinic.folder / "program").exists()


def test_a_sync_engine_in_an_async_handler(found: Found) -> None:
    """A sync engine on the event loop is no reason to refuse a handler."""
    assert found["POST /blocking"] == (SAFE, [])


def test_a_refusal_is_no_verdict(found: Found) -> None:
    """The status is told, and what to do."""
    assert found["POST /strict"][1] == [
        "answered 422 Unprocessable Entity: put a call that it accepts into an .http file (--http)"
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


def test_background_tasks_do_not_run(found: Found, clinic: Clinic) -> None:
    """They are for after COMMIT, which never comes."""
    assert found["POST /later"] == (SAFE, [])
    assert not (clinic.folder / "later").exists()


def test_a_change_that_nobody_sees(found: Found) -> None:
    """2xx for a POST that used no database."""
    assert found["POST /nothing"] == (
        WARNING,
        ["used no database that batches can see; does it use another driver?"],
    )


def test_a_file_is_not_written(found: Found, clinic: Clinic) -> None:
    """It would stay; tests/doctor/test_files.py has the other changes of files."""
    (file,) = found["POST /file"][1]
    assert file == "writes written (refused here, see --allow); a rollback does not undo that"
    assert not (clinic.folder / "written").exists()


def test_ending_the_transaction_by_the_driver(found: Found, clinic: Clinic) -> None:
    """A driver's own COMMIT is as virtual as the session's; what cannot be is refused."""
    assert found["POST /ends"] == (SAFE, [])
    verdict, (reason,) = found["POST /restarts"]
    assert verdict is UNSAFE
    assert reason.startswith("a handler uses backup of the driver's connection")
    assert clinic.stored() == ["before", "before"]


def test_what_a_call_leaves_running(found: Found, clinic: Clinic) -> None:
    """A task is cancelled; a thread gets no connection any more."""
    (reason,) = found["POST /leaves"][1]
    assert reason.startswith("leaves a task running (leaves.<locals>.late)")
    (reason,) = found["POST /unfinished"][1]
    assert reason.startswith("leaves a task running (unfinished.<locals>.late)")
    (reason,) = found["POST /thread"][1]
    assert reason.startswith("leaves a thread running (thread.<locals>.late)")
    assert clinic.module.cancelled == [True, True]
    assert clinic.module.refusals == ["what a call has left running still uses the database"]


def test_an_app_that_has_batches_already(clinic: Clinic) -> None:
    """Its transaction is used; what it leaves outside is rolled back here all the same."""
    found = clinic.examine("inside")
    assert found["POST /both"] == (
        SAFE,
        [
            "note: uses 2 engines: sqlite:///one.sqlite, sqlite:///two.sqlite",
            (
                "note: sqlite:///two.sqlite is outside of batches; "
                "what is done there is not rolled back"
            ),
        ],
    )
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


def test_an_app_with_drivers_own_connections(tmp_path: Path) -> None:
    """Its handlers use sqlite3 directly, as they may: it is not examined, rather than unsafe."""
    (tmp_path / "notes.py").write_text(
        "from atomicbatch.asgi import AtomicBatch\n"
        "from atomicbatch.transactions import DriverTransaction\n"
        "async def notes(scope, receive, send): raise AssertionError('started')\n"
        "app = AtomicBatch(notes, transaction=DriverTransaction())\n"
    )
    (tmp_path / "calls.http").write_text("GET /notes\n")
    # As a process, since the import changes sqlite3.
    status, _, told = run("doctor", "notes:app", "--http", "calls.http", folder=tmp_path)
    assert (status, "the app's batches use DriverTransaction" in told) == (2, True)
