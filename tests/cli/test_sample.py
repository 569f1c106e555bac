"""``atomicbatch sample``: a new file, and never over one that exists."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.running import run

pytestmark = pytest.mark.slow


def test_the_sample_is_never_made_over_a_file(tmp_path: Path) -> None:
    """A file that exists keeps its content."""
    path = tmp_path / "mine.sqlite"
    path.write_text("mine")
    status, _, errors = run("sample", str(path))
    assert (status, "exists already" in errors) == (2, True)
    assert path.read_text() == "mine"
    assert run("sample", str(tmp_path / "no" / "folder.sqlite"))[0] == 2
