"""``atomicbatch check``: its output and exit status."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.running import run

pytestmark = pytest.mark.slow


def test_check(tmp_path: Path) -> None:
    """0 and the calls for a batch, 1 and the place for anything else; - is standard input."""
    good = b"--b\r\n\r\nGET /a HTTP/1.1\r\n\r\n--b--\r\n"
    assert run("check", "-", stdin=good) == (0, "ok: 1 call\n1. GET /a\n", "")
    path = tmp_path / "bad.batch"
    path.write_bytes(good.replace(b"/a", b"http://x/a"))
    status, printed, _ = run("check", str(path))
    assert (status, printed.splitlines()[-1].strip()) == (1, "^")
    status, printed, _ = run("check", "-", "--content-type", "text/plain", stdin=good)
    assert status == 1
