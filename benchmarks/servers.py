"""
Servers to be measured, each a process of its own on loopback, and what such a process has used.

Without a checkout it is the code that this program runs with.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from tests.databases import free_port

HERE = Path(__file__).parent
ROOT = HERE.parent


class Server(NamedTuple):
    """Where it is."""

    port: int
    pid: int


@contextmanager
def atomicbatch_server(
    database: str, *options: str, checkout: Path | None = None
) -> Iterator[Server]:
    """
    ``atomicbatch serve``.

    Args:
        database: A file or a URL.
        options: More of its command line.
        checkout: A source tree whose code is to be run.
    """
    command = [sys.executable, "-m", "atomicbatch", "serve", database, "--port", "0"]
    command += ["--limit", "max_calls=10000", "--limit", "max_body_bytes=64000000"]
    command += ["--limit", "timeout_seconds=300", *options]
    quiet = subprocess.DEVNULL  # the access log is written, as it is by default, and not shown
    environment = dict(os.environ)
    if checkout is not None:
        environment["PYTHONPATH"] = str(checkout / "src")
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=quiet, text=True, env=environment, cwd="/"
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            yield Server(int(line.rsplit(":", 1)[1]), process.pid)
        finally:
            _stop(process)


@contextmanager
def uvicorn_app(url: str, app: str = "benchmarks.fastapi_app:app") -> Iterator[Server]:
    """An app under uvicorn, one process; ``url`` is its ``BENCHMARK_DATABASE``."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", app, "--port", str(port), "--app-dir", str(ROOT)]
    command += ["--log-level", "warning", "--no-access-log", "--timeout-keep-alive", "600"]
    with subprocess.Popen(command, env={**os.environ, "BENCHMARK_DATABASE": url}) as process:
        try:
            _wait(f"http://127.0.0.1:{port}/openapi.json", process)
            yield Server(port, process.pid)
        finally:
            _stop(process)


@contextmanager
def gunicorn_app(app: str, **environment: str) -> Iterator[Server]:
    """A WSGI app under gunicorn: one worker of four threads."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", app, "--bind", f"127.0.0.1:{port}"]
    command += ["--threads", "4", "--keep-alive", "600", "--log-level", "error"]
    paths = {"PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))}
    with subprocess.Popen(command, env=os.environ | environment | paths, cwd=ROOT) as process:
        try:
            _wait(f"http://127.0.0.1:{port}/items", process)
            yield Server(port, process.pid)
        finally:
            _stop(process)


def pocketbase_program() -> str | None:
    """PocketBase's program, if it is installed."""
    beside = Path(sys.executable).with_name("pocketbase")
    return str(beside) if beside.exists() else shutil.which("pocketbase")


@contextmanager
def pocketbase(program: str, folder: Path) -> Iterator[Server]:
    """PocketBase with a public collection ``items``, whose batch API is on and not limited."""
    who, password, port = "admin@example.com", "0123456789", free_port()
    place = ["--dir", str(folder), "--migrationsDir", str(folder / "migrations")]
    quiet = subprocess.DEVNULL
    subprocess.run(
        [program, "superuser", "upsert", who, password, *place], check=True, stdout=quiet
    )
    command = [program, "serve", "--http", f"127.0.0.1:{port}", *place]
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
        try:
            base = f"http://127.0.0.1:{port}"
            _wait(f"{base}/api/health", process)
            _set_up_pocketbase(base, who, password)
            yield Server(port, process.pid)
        finally:
            _stop(process)


def _set_up_pocketbase(base: str, who: str, password: str) -> None:
    with httpx.Client(base_url=base, timeout=30) as client:
        credentials = {"identity": who, "password": password}
        signed_in = client.post(
            "/api/collections/_superusers/auth-with-password", json=credentials
        ).raise_for_status()
        client.headers["Authorization"] = signed_in.json()["token"]
        batch = {"enabled": True, "maxRequests": 20_000, "timeout": 300, "maxBodySize": 64_000_000}
        client.patch("/api/settings", json={"batch": batch}).raise_for_status()
        rules = dict.fromkeys(
            ("listRule", "viewRule", "createRule", "updateRule", "deleteRule"), ""
        )
        fields = [
            {"name": "name", "type": "text"},
            {"name": "quantity", "type": "number", "onlyInt": True},
            {"name": "price", "type": "number"},
        ]
        client.post(
            "/api/collections", json={"name": "items", "type": "base", "fields": fields, **rules}
        ).raise_for_status()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            httpx.get(url).raise_for_status()
        except httpx.TransportError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _stop(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=40)
    except subprocess.TimeoutExpired:
        process.kill()


def peak_mib(pid: int) -> float:
    """The most memory that a process has had (``VmHWM``)."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) / 1024


def cpu_seconds(pid: int) -> float:
    """What all threads of a process have computed; what ended threads have is lost."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e9
