"""Runs an example program as a newcomer would: a server, ``atomicbatch send``, plain requests."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.databases import free_port

EXAMPLES = Path(__file__).parents[2] / "examples"


class Program:
    """
    A running example program.

    Attributes:
        folder: The folder of the example.
        port: Where it listens, on loopback.
        url: The same as a URL.
    """

    def __init__(self, folder: Path, port: int, process: subprocess.Popen[str], log: Path) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self._process = process
        self._log = log

    def ask(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        """Make a plain request; gives the JSON of its response."""
        # gunicorn listens before its worker has imported the app.
        response = httpx.request(method, self.url + path, json=body, timeout=60)
        assert response.status_code == status, response.text
        return response.json()

    def sending(self, name: str) -> subprocess.Popen[str]:
        """Begin to send an ``.http`` file of the example as one batch."""
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "atomicbatch", "send"),
                *(str(self.folder / name), "--url", self.url),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def send(self, name: str) -> tuple[int, list[str]]:
        """Send an ``.http`` file of the example; gives the exit status, and what is printed."""
        with self.sending(name) as sent:
            output, _ = sent.communicate(timeout=60)
        return sent.returncode, output.splitlines()

    def stop(self) -> list[str]:
        """Stop it; gives the lines that it has printed. It ends what it has begun."""
        self._process.terminate()
        self._process.wait(30)
        return self._log.read_text().splitlines()

    def wait(self) -> None:
        """Wait until it accepts connections."""
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 5).close()
            except OSError:
                ended = self._process.poll() is not None
                assert not ended, f"it has ended: {self._log.read_text()}"
                assert time.monotonic() < deadline, f"it does not start: {self._log.read_text()}"
                time.sleep(0.02)
            else:
                return


def _server(folder: Path, port: int) -> list[str]:
    """The command that serves an example, as its page has it."""
    wsgi = {"flask": "app:app", "django": "shop.wsgi"}.get(folder.name.partition("-")[0])
    if wsgi is not None:
        bind = f"127.0.0.1:{port}"
        return ["gunicorn", wsgi, "--pythonpath", str(folder), "--bind", bind]
    return ["uvicorn", "app:app", "--app-dir", str(folder), "--port", str(port)]


@contextlib.contextmanager
def running(name: str, scratch: Path, **environment: str) -> Iterator[Program]:
    """Run ``examples/<name>/app.py`` in an empty folder; for Django, the project there."""
    folder, port, log = EXAMPLES / name, free_port(), scratch / "log"
    others = ("DATABASE_URL", "DJANGO_SETTINGS_MODULE", "SHOP_DATABASE")
    kept = {key: value for key, value in os.environ.items() if key not in others}
    kept = {**kept, **environment, "PYTHONDONTWRITEBYTECODE": "1"}
    if (folder / "manage.py").exists():
        migrate = [sys.executable, str(folder / "manage.py"), "migrate", "-v0"]
        subprocess.run(migrate, cwd=scratch, env=kept, check=True)
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", *_server(folder, port)],
            cwd=scratch,
            env=kept,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
    program = Program(folder, port, process, log)
    try:
        program.wait()
        yield program
    finally:
        program.stop()
