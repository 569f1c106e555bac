"""Run ``atomicbatch`` as users do: as a process."""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path


@cache
def _warm() -> subprocess.Popen[str]:
    """
    The process that forks for each command; see ``warm.py``.

    To start Python and import all takes 0.4 s of processor time, and tests run the command often.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.cli.warm"],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(process.kill)
    return process


def run(*arguments: str, stdin: bytes = b"", folder: Path | None = None) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of ``atomicbatch ...``."""
    with tempfile.TemporaryDirectory() as own:
        files = [Path(own) / name for name in ("stdin", "stdout", "stderr")]
        for file in files:
            file.write_bytes(stdin if file.name == "stdin" else b"")
        asked = {
            "arguments": arguments,
            "folder": str(folder or Path.cwd()),
            "files": [str(file) for file in files],
        }
        warm = _warm()
        assert warm.stdin is not None
        assert warm.stdout is not None
        warm.stdin.write(f"{json.dumps(asked)}\n")
        warm.stdin.flush()
        status = int(warm.stdout.readline())
        return status, files[1].read_text("utf-8"), files[2].read_text("utf-8")
