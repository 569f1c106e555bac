"""Run ``atomicbatch`` as users do: as a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def run(*arguments: str, stdin: bytes = b"", folder: Path | None = None) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of ``atomicbatch ...``."""
    done = subprocess.run(
        [sys.executable, "-m", "atomicbatch", *arguments],
        input=stdin,
        capture_output=True,
        cwd=folder,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()
