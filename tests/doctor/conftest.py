"""Fixtures: the clinic in a folder of its own, as an app in the current folder."""

from __future__ import annotations

import itertools
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from atomicbatch.doctor import Examination, Verdict, examine

_numbers = itertools.count(1)


class Clinic:
    """The folder with the app and its databases."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name

    def examine(self, app: str = "app", **options: Any) -> dict[str, tuple[Verdict, list[str]]]:
        """Verdict and reasons by ``METHOD path``."""
        return by_operation(examine(f"{self.name}:{app}", **options))

    def http(self, *requests: str) -> Path:
        path = self.folder / "calls.http"
        path.write_text("\n###\n".join(requests))
        return path

    @property
    def module(self) -> Any:
        return sys.modules[self.name]

    def stored(self) -> list[str]:
        """What connections of our own find in both databases."""
        found = []
        for name in ("one", "two"):
            with closing(sqlite3.connect(self.folder / f"{name}.sqlite")) as connection:
                found += [row[0] for row in connection.execute("SELECT name FROM item")]
        return found


def by_operation(examination: Examination) -> dict[str, tuple[Verdict, list[str]]]:
    return {
        f"{finding.operation.call.method} {finding.operation.path}": (
            finding.verdict,
            list(finding.reasons),
        )
        for finding in examination.findings
    }


def writer(folder: Path, patch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Make what writes a module into a folder, which becomes the current one."""
    patch.chdir(folder)
    patch.setattr(sys, "path", [entry for entry in sys.path if entry])

    def write(source: str) -> str:
        name = f"clinic_{next(_numbers)}"
        (folder / f"{name}.py").write_text(source)
        return name

    return write


@pytest.fixture
def write_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write a module into the current folder; gives its name, which no other test uses."""
    return writer(tmp_path, monkeypatch)


@pytest.fixture
def clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clinic:
    return make_clinic(tmp_path, monkeypatch)


def make_clinic(folder: Path, patch: pytest.MonkeyPatch) -> Clinic:
    """Make the clinic in a folder, which becomes the current one."""
    for name in ("one", "two"):
        with closing(sqlite3.connect(folder / f"{name}.sqlite")) as connection:
            connection.executescript(
                "PRAGMA journal_mode=WAL; CREATE TABLE item (name TEXT);"
                "INSERT INTO item VALUES ('before')"
            )
    source = Path(__file__).with_name("clinic.py").read_text()
    return Clinic(folder, writer(folder, patch)(source))
