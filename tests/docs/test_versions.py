"""The page on versions says what CI runs."""

from __future__ import annotations

import re

from tests.docs.blocks import ROOT

# Its rows for what CI installs under another name.
_NAMES = {
    "psycopg[binary]": "psycopg",
    "psycopg2-binary": "psycopg2",
    "sqlalchemy[asyncio]": "sqlalchemy",
    "tortoise-orm": "tortoise",
}
_NO_ROW = {"click", "psycopg-pool", "werkzeug"}  # they are there for the libraries' sake
_ELSEWHERE = {"django"}  # another part of CI


def _oldest_installed() -> dict[str, str]:
    """What ``.ci/old-versions.sh`` installs: name -> oldest version."""
    script = (ROOT / ".ci" / "old-versions.sh").read_text("utf-8")
    found: dict[str, str] = {}
    for name, version in re.findall(r"'([\w\[\]-]+)==([\d.]+)'", script):
        found.setdefault(_NAMES.get(name, name), version)  # the oldest part comes first
    return found


def _oldest_told() -> dict[str, str]:
    """What ``docs/reference/versions.md`` says."""
    page = (ROOT / "docs" / "reference" / "versions.md").read_text("utf-8")
    rows = re.findall(r"^\| ([\w-]+)[^|]* \| ([\d.]+) \| [\d.]+ \|$", page, re.MULTILINE)
    return {name.lower(): version for name, version in rows}


def test_the_oldest_versions_are_those_of_ci() -> None:
    """Each row of the page is a version that CI installs, and the other way round."""
    installed, told = _oldest_installed(), _oldest_told()
    assert len(told) > 20
    assert {name: version for name, version in told.items() if name not in _ELSEWHERE} == {
        name: version for name, version in installed.items() if name not in _NO_ROW
    }
