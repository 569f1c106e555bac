"""Disks that fail on command: a child process whose fsync or write goes wrong for some files."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest


class FaultyDisk:
    """
    Makes the disk fail for child processes that run with ``environment``.

    Args:
        folder: An empty folder of its own.
        files: How the names of the files end for which it fails.
    """

    def __init__(self, folder: Path, files: str) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            # In CI what is not tested is a failure.
            (pytest.fail if os.environ.get("CI") else pytest.skip)("no C compiler: install gcc")
        self._folder = folder
        library, source = folder / "disks.so", Path(__file__).with_name("disks.c")
        command = [compiler, "-shared", "-fPIC", "-Wall", "-o", str(library), str(source), "-ldl"]
        subprocess.run(command, check=True)
        self.environment: Mapping[str, str] = {
            **os.environ,
            "LD_PRELOAD": str(library),
            "FAULTY_DISK": str(folder),
            "FAULTY_FILES": files,
        }

    def fail(self, how: str) -> None:
        """From now on ``sync`` fails (EIO), or the disk is ``full`` (ENOSPC)."""
        (self._folder / how).touch()

    def mend(self) -> None:
        """From now on all is well again."""
        for how in ("sync", "full"):
            (self._folder / how).unlink(missing_ok=True)
