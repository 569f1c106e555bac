"""Where tests keep their files: in memory, where there is enough of it. No disk is waited for."""

from __future__ import annotations

import os
import tempfile

_MEMORY = "/dev/shm"
_ENOUGH = 4 << 30
"""Bytes. Servers' databases take most of it; containers often have 64 MB."""


def move_to_memory() -> None:
    """Make files in memory from now on, also in child processes; not where TMPDIR is set."""
    if "TMPDIR" not in os.environ and _is_fit(_MEMORY):
        os.environ["TMPDIR"] = _MEMORY
        tempfile.tempdir = None  # it is asked for anew


def _is_fit(folder: str) -> bool:
    try:
        found = os.statvfs(folder)
    except (AttributeError, FileNotFoundError):
        return False  # not on Linux
    # Tests also write programs, and run them.
    may_run = not found.f_flag & os.ST_NOEXEC
    return may_run and os.access(folder, os.W_OK) and found.f_bavail * found.f_frsize >= _ENOUGH
