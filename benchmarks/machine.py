"""What was measured, where, and how busy the machine was."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
from pathlib import Path

import atomicbatch


def described(checkout: Path | None = None) -> str:
    """The code and the machine, in one line."""
    tree = checkout or Path(str(atomicbatch.__file__)).parents[2]
    return (
        f"atomicbatch {commit_of(tree)}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores"
    )


def commit_of(tree: Path) -> str:
    """The commit of a source tree."""
    command = ["git", "-C", str(tree), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "from no repository"


def load() -> float:
    """How many processes wanted to run, over the last minute."""
    return os.getloadavg()[0]
