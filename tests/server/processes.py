"""``atomicbatch serve`` as a process: started, looked at, stopped."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class ServeProcess:
    """
    A server process.

    Attributes:
        popen: The process.
        address: What it has printed.
        port: The same, as a number.
    """

    def __init__(self, popen: subprocess.Popen[str], log: Path) -> None:
        self.popen = popen
        self._log = log
        assert popen.stdout is not None
        line = popen.stdout.readline()
        found = re.search(r"http://\S+:(\d+)", line)
        assert found, (line, self.log())
        self.address, self.port = found[0], int(found[1])

    def log(self) -> str:
        """What it has written to standard error so far."""
        return self._log.read_text()

    def tell(self, number: int = signal.SIGTERM) -> None:
        self.popen.send_signal(number)

    def stop(self, *, within: float, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal; the exit status, and the seconds it has taken."""
        began = time.monotonic()
        self.tell(number)
        status = self.popen.wait(within)
        return status, time.monotonic() - began

    def peak_mib(self) -> float:
        """The most memory it has taken so far (VmHWM)."""
        text = Path(f"/proc/{self.popen.pid}/status").read_text()
        return int(text.partition("VmHWM:")[2].split()[0]) / 1024

    def workers(self) -> list[int]:
        """The server processes below it; Python's resource tracker is none."""
        return children(self.popen.pid)


def children(pid: int) -> list[int]:
    """The server processes below ``pid``."""
    found = []
    with contextlib.suppress(OSError):
        for number in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(OSError):
                if b"spawn_main" in Path(f"/proc/{number}/cmdline").read_bytes():
                    found.append(int(number))
    return found


def is_alive(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _heed_interrupts() -> None:
    """Undo what shells do to processes in the background, whose children inherit it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(*arguments: str, log: Path, **options: Any) -> subprocess.Popen[str]:
    """Start ``atomicbatch serve`` with these arguments, its standard error in a file."""
    command = [sys.executable, "-m", "atomicbatch", "serve", *arguments]
    with log.open("wb") as errors:
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            **{"preexec_fn": _heed_interrupts, **options},
        )


@contextlib.contextmanager
def serving(url: str, *arguments: str, folder: Path, **options: Any) -> Iterator[ServeProcess]:
    """A server on a free port; it is killed at the end if it still runs."""
    popen = start(url, "--port", "0", *arguments, log=folder / "stderr.log", **options)
    below: list[int] = []
    try:
        process = ServeProcess(popen, folder / "stderr.log")
        yield process
        below = process.workers()
    finally:
        popen.kill()
        popen.wait()
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if popen.stdout is not None:
            popen.stdout.close()
