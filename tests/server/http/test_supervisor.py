"""Several processes: none outlives its parent, and mistakes are told once."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.server.http.test_running import asking, is_free, until
from tests.server.processes import is_alive, serving, start
from tests.server.served import make_shop, on_its_own

pytestmark = pytest.mark.slow


@pytest.fixture
def url(sqlite_path: Path) -> str:
    made = f"sqlite:///{sqlite_path}"
    make_shop(made)
    return made


@pytest.mark.parametrize("working", [False, True])
def test_workers_do_not_outlive_their_parent(
    postgresql_url: str, tmp_path: Path, working: bool
) -> None:
    """After kill -9 of the parent they end by themselves, also in the middle of a statement."""
    on_its_own(postgresql_url, "CREATE VIEW slow AS SELECT pg_sleep(300)::text AS s")
    with serving(postgresql_url, "--workers", "3", folder=tmp_path) as process:
        workers = process.workers()
        assert len(workers) == 3
        slow = b"GET /v1/api/slow HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with asking(process, slow) if working else contextlib.nullcontext():
            assert httpx.get(f"{process.address}/readyz", timeout=20).status_code == 200
            process.popen.kill()
            process.popen.wait()
            began = time.monotonic()
            until(lambda: not any(is_alive(worker) for worker in workers), 20)
            # A second, as the docs say, and what a busy machine adds.
            assert time.monotonic() - began < 1 + 5
        until(lambda: is_free(process.port), 5)
    # PostgreSQL does not look whether anybody waits for the sleeper.
    on_its_own(
        postgresql_url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


@pytest.mark.parametrize("count", ["1", "2"])
@pytest.mark.parametrize("delay", [0.0, 0.2, 0.4, 0.6, 0.8])
def test_ctrl_c_during_start(url: str, tmp_path: Path, count: str, delay: float) -> None:
    """At whatever moment: no traceback, nothing left running, and status 130 before it served."""
    log = tmp_path / "stderr.log"
    # A terminal sends the signal to all processes of the group.
    with start(url, "--port", "0", "--workers", count, log=log, start_new_session=True) as popen:
        try:
            # Our code has begun to run; before that, Python itself answers.
            until(lambda: "sqlalchemy" in Path(f"/proc/{popen.pid}/maps").read_text())
            time.sleep(delay)  # the moment that is tried
            os.killpg(popen.pid, signal.SIGINT)
            status = popen.wait(20)
        except BaseException:
            os.killpg(popen.pid, signal.SIGKILL)
            raise
        assert popen.stdout is not None
        printed = popen.stdout.read()
    told = log.read_text()
    assert "Traceback" not in told, told
    if "is serving" in printed:
        assert status == 0, told
    else:
        assert (status, told) == (130, "Stopped before it served.\n")
    until(lambda: not group_exists(popen.pid), 5)


def group_exists(pid: int) -> bool:
    """Whether a process of the group is left."""
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_ctrl_c_stops_all_processes(url: str, tmp_path: Path) -> None:
    """The whole group gets the signal; the workers leave it to their parent."""
    with start(
        url, "--port", "0", "--workers", "2", log=tmp_path / "log", start_new_session=True
    ) as popen:
        assert popen.stdout is not None
        address = popen.stdout.readline().split()[-1]
        with httpx.Client(base_url=address) as client:
            assert client.get("/v1/api/items/1").status_code == 200
        os.killpg(popen.pid, signal.SIGINT)
        assert popen.wait(20) == 0, (tmp_path / "log").read_text()
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_worker_that_cannot_start_is_told_in_one_line(
    postgresql_url: str, tmp_path: Path
) -> None:
    """The parent could open the database, a moment later the workers cannot."""
    on_its_own(postgresql_url, "CREATE ROLE shy LOGIN CONNECTION LIMIT 1")
    shy = postgresql_url.replace("postgres@", "shy@")
    log = tmp_path / "log"
    import psycopg

    with psycopg.connect(shy), start(shy, "--port", "0", "--workers", "2", log=log) as popen:
        assert popen.wait(30) == 2
    lines = log.read_text().splitlines()
    assert len(lines) == 1, lines
    assert "too many connections" in lines[0]


# A process that dies closes its files a moment before its parent can ask for its status.
SLOW_DEATH = """
import os, sys, time
from atomicbatch.server.http.supervisor import Supervisor

def work(line):
    line.report_serving()
    time.sleep(0.2)
    os.closerange(3, 256)
    time.sleep(0.3)
    os._exit(3)

if __name__ == "__main__":
    sys.exit(Supervisor(1, work, (), ready=lambda: None, stop_seconds=5).run())
"""


def test_the_status_of_a_worker_that_died_is_told(tmp_path: Path) -> None:
    """Also if the process is not quite gone when its parent hears of it."""
    script, log = tmp_path / "slow_death.py", tmp_path / "log"
    script.write_text(SLOW_DEATH)
    with (
        log.open("wb") as told,
        subprocess.Popen([sys.executable, script], stderr=told) as popen,
    ):
        try:
            until(lambda: "died" in log.read_text(), 30)
        finally:
            popen.terminate()
    assert "died with status 3: replaced" in log.read_text()


def test_a_worker_that_dies_is_replaced_when_the_database_is_back(url: str, tmp_path: Path) -> None:
    """Where its replacement cannot start either, it is tried again, and the others go on."""
    with serving(url, "--workers", "2", folder=tmp_path) as process:
        until(lambda: len(process.workers()) == 2)
        path = Path(url[10:])
        away = path.with_suffix(".away")
        first, second = process.workers()
        clients = contextlib.ExitStack()
        with clients:
            for _ in range(20):  # both serve
                client = clients.enter_context(httpx.Client(base_url=process.address))
                assert client.get("/healthz").status_code == 200
        path.rename(away)
        os.kill(first, signal.SIGKILL)
        until(lambda: "cannot start: there is no file" in process.log(), 30)
        known = set(process.workers())
        away.rename(path)
        until(lambda: any(is_alive(pid) for pid in set(process.workers()) - known), 30)
        until(lambda: len([pid for pid in process.workers() if is_alive(pid)]) == 2, 30)
        assert is_alive(second)
        assert process.stop(within=30)[0] == 0
